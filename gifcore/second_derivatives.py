"""Second derivatives, layer by layer: where one is missing or wrong, which layer and what helps.

check_second_derivatives   every layer's second derivative, on its own
explain_double_backward    which layer made a curvature product fail, and what helps
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gifcore.checks import check_problem, first_line, named, not_finite, tensors_of
from gifcore.errors import GifError
from gifcore.problem import Problem, engine_mode, fetch

# what the text of an error names -> what helps
ADVICE = (
    (
        ("scaled_dot_product", "flash", "efficient_attention"),
        "let the engine choose the attention kernel: take sdpa_kernel(...) out of the model or "
        "set it to SDPBackend.MATH",
    ),
    (
        ("once_differentiable",),
        "write the backward of its autograd function in differentiable operations, without "
        "once_differentiable",
    ),
    (("cudnn_rnn",), "compute it inside torch.backends.cudnn.flags(enabled=False)"),
    (("embedding_bag",), "use nn.Embedding and take the mean or sum over the words"),
)
OTHERWISE = (
    "build it from differentiable operations, or choose curvature 'fisher', which differentiates "
    "once"
)
CHECKED = 2  # samples that every layer is checked on
LARGE = 1e6  # outputs beyond it are scaled down, so that their squares stay finite
OVERFLOWS = "it overflows"
SILENT = "its gradient does not follow the rules of differentiation"


@contextmanager
def explained(problem: Problem) -> Iterator[None]:
    """Turn an error of torch inside a curvature product into `explain_double_backward`'s."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise explain_double_backward(problem, error) from error


def explain_double_backward(problem: Problem, error: Exception) -> GifError:
    """Return the sentence for a curvature product that failed: the layer and what helps.

    Args:
        error: what was caught; its text is the answer if no check finds the cause.

    Cost: those of `check_problem` and `check_second_derivatives`.
    """
    try:
        check_problem(problem)
        check_second_derivatives(problem)
    except GifError as reason:
        return reason
    return GifError(f"A curvature product failed ({first_line(error)}); try a smaller batch size.")


def refuse_cut_graph(gradients: Iterable[Tensor]) -> None:
    """Raise where a graph of gradients holds a backward that is marked as differentiable once.

    Torch itself raises only if a path to the parameters leads through the mark; otherwise the
    terms behind it are missing without a word.

    Raises:
        RuntimeError: the mark is there.
    """
    waiting = [g.grad_fn for g in gradients if g.grad_fn is not None]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        if type(node).__name__ == "Error":
            raise RuntimeError("a backward is marked with once_differentiable")
        fresh = {following for following, _ in node.next_functions if following} - seen
        seen |= fresh
        waiting += fresh


def check_second_derivatives(problem: Problem) -> None:
    """Refuse a layer whose second derivative is missing or wrong, be it silently so.

    For phi = sum c y^2 / 2 of a layer's outputs y, with u and v random directions of its inputs
    and parameters: u . (d2 phi) v = v . (d2 phi) u, and every gradient depends on c. A derivative
    that is wrong but symmetric, as in a function of single numbers, is not seen.

    Raises:
        GifError: names the layer and what helps.

    Cost: forward and twice backward on 2 samples for every layer and its parents that are more
    than a chain of layers.
    """
    found = _without_second_derivative(problem)
    if found is None:
        return
    where, reason = found
    if reason == OVERFLOWS:
        raise not_finite(problem, problem.positions[:CHECKED]) or GifError(
            f"{where} has outputs or weights so large that its second derivatives are not finite; "
            "scale the inputs, or train the model again with a smaller learning rate."
        )
    advice = next(
        (text for words, text in ADVICE if any(word in reason for word in words)), OTHERWISE
    )
    raise GifError(f"{where} has no second derivative ({reason}); {advice}.")


def _without_second_derivative(problem: Problem) -> tuple[str, str] | None:
    """Return the innermost layer without a second derivative and the reason, None if all have."""
    batch = fetch(problem.train, problem.positions[:CHECKED], problem.device)
    parameters = problem.leaves()
    state = {**parameters, **problem.buffers}
    with engine_mode(problem.model):
        calls, outputs = _calls(problem, parameters, batch)
        for call in reversed(calls):  # parents are called before their children
            if _chain(call.module):
                continue
            own = _own_state(state, call.name)
            reason = _second_derivative_fails(call, own)
            if reason:
                return named(call.name, call.module), reason
        loss = _Call("", _Loss(problem, batch), (outputs,), {})
        reason = _second_derivative_fails(loss, {}) if isinstance(outputs, Tensor) else None
    return ("The loss", reason) if reason else None


def _chain(module: nn.Module) -> bool:
    """Does a module do nothing but call its children, which are checked by themselves?"""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
    return type(module) is nn.Sequential and not any(hooks)


@dataclass(frozen=True, eq=False)
class _Call:
    name: str
    module: nn.Module
    inputs: tuple[Any, ...]
    keywords: dict[str, Any]


class _Loss(nn.Module):
    def __init__(self, problem: Problem, batch: Any) -> None:
        super().__init__()
        self.problem, self.batch = problem, batch

    def forward(self, outputs: Tensor) -> Tensor:
        return self.problem.loss(outputs, self.batch)


def _calls(problem: Problem, parameters: dict[str, Tensor], batch: Any) -> tuple[list[_Call], Any]:
    """Return the first call of every module, in order, with copies of its inputs; the outputs."""
    calls: dict[str, _Call] = {}

    def recorder(name: str) -> Any:
        def record(module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            calls.setdefault(name, _Call(name, module, _leaves(inputs), _leaves(keywords)))

        return record

    handles = [
        module.register_forward_pre_hook(recorder(name), with_kwargs=True)
        for name, module in problem.model.named_modules()
    ]
    try:
        outputs = problem.outputs(parameters, batch)
    finally:
        for handle in handles:
            handle.remove()
    return list(calls.values()), _leaves(outputs)


def _leaves(value: Any) -> Any:
    """Return a copy in which every tensor of real numbers is a leaf."""
    if isinstance(value, Tensor):
        copied = value.detach().clone()
        return copied.requires_grad_() if copied.is_floating_point() else copied
    if isinstance(value, dict):
        return {key: _leaves(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_leaves(item) for item in value)
    return value


def _own_state(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = f"{name}." if name else ""
    return {key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)}


def _second_derivative_fails(call: _Call, state: dict[str, Tensor]) -> str | None:
    """Return the reason why a layer on its own has no second derivative, None if it has."""
    variables = [
        x for x in (*tensors_of([call.inputs, call.keywords]), *state.values()) if x.requires_grad
    ]
    generator = torch.Generator().manual_seed(0)

    def random(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)

    try:
        copies = [_writable(x) for x in (call.inputs, call.keywords)]
        outputs = functional_call(call.module, state, copies[0], copies[1])
        outputs = [y for y in tensors_of(outputs) if y.requires_grad]
        if not outputs or not variables:
            return None
        weights = [random(y).requires_grad_() for y in outputs]
        phi = torch.stack(
            [(c * _scaled(y).square()).sum() / 2 for c, y in zip(weights, outputs, strict=True)]
        ).sum()
        first = torch.autograd.grad(phi, variables, create_graph=True, materialize_grads=True)
        if any(bool(g.any()) and not g.requires_grad for g in first):
            return SILENT
        refuse_cut_graph(first)
        u, v = ([random(x) for x in variables] for _ in range(2))
        Hu, Hv = (_second(first, variables, direction) for direction in (u, v))
    except RuntimeError as error:
        return first_line(error)
    if not all(bool(torch.isfinite(x).all()) for x in (*Hu, *Hv)):
        return OVERFLOWS
    symmetric = _close_products(_dot(u, Hv), _dot(v, Hu), (_dot(Hu, Hu) * _dot(v, v)).sqrt())
    return None if symmetric else SILENT


def _scaled(y: Tensor) -> Tensor:
    """Return y, divided by its largest number where that is beyond LARGE."""
    largest = y.detach().abs().amax() if y.numel() else y.new_zeros(())
    return y / largest if largest > LARGE else y


def _writable(value: Any) -> Any:
    """Return clones of tensors, that a layer may overwrite, on the graph of the originals."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: _writable(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_writable(item) for item in value)
    return value


def _second(
    first: tuple[Tensor, ...], variables: list[Tensor], direction: list[Tensor]
) -> list[Tensor]:
    pairs = [(g, d) for g, d in zip(first, direction, strict=True) if g.requires_grad]
    if not pairs:
        return [torch.zeros_like(x) for x in variables]
    return list(
        torch.autograd.grad(
            [g for g, _ in pairs],
            variables,
            [d for _, d in pairs],
            retain_graph=True,
            materialize_grads=True,
        )
    )


def _dot(a: list[Tensor], b: list[Tensor]) -> Tensor:
    return torch.stack([(x * y).sum() for x, y in zip(a, b, strict=True)]).sum()


def _close_products(one: Tensor, other: Tensor, scale: Tensor) -> bool:
    limit = 1e-8 if one.dtype == torch.float64 else 1e-3
    return bool((one - other).abs() <= limit * scale)
