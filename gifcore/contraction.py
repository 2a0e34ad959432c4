"""Products of per-sample gradients with many vectors at once, layer by layer.

A layer that is linear in its own parameters, y = layer(a; W), takes part in the gradient of sample
i as <grad_y l_i, d layer>. So for a direction S of the parameters

    S . grad l_i = sum over calls of such layers of <grad_y l_i, layer(a_i; S)>

One forward and one backward pass to the activations serve every direction. What is left is taken
call by call in the cheapest of three ways (`ways.KERNELS`): the layer is called with S; or, with
s_it = grad_y l_i and a_it the input at position t, the rows of G_i = sum_t s_it a_it^T are formed,
as many as a cache holds, and meet all S in one matrix product; or S meets one factor alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import unfold

from gifcore.convolution import ChannelsLast
from gifcore.problem import Problem, engine_mode, fetch
from gifcore.ways import Shape, kernel_of

# layers whose output is linear in their parameters (batch norm: in eval mode)
LINEAR_IN_PARAMETERS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.Embedding,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.LayerNorm,
    nn.GroupNorm,
)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm)
CACHE = 2**21  # bytes of G_i that stay near the CPU until all directions have met them
SAMPLES = 64  # of which rows of G_i are formed at a time
ROWS = 8  # formed at a time at least: fewer make slow products


def contractible(model: nn.Module) -> bool:
    """Does every parameter belong to a layer that is linear in it?"""
    return all(type(module) in LINEAR_IN_PARAMETERS for module in _owners(model))


def batch_products(
    problem: Problem, directions: Mapping[str, Tensor], part: Tensor, *, count: int | None = None
) -> tuple[Tensor, list[Shape]]:
    """Return S . grad l_i for these training samples and each direction S, (m, b).

    Beside them the shapes of the calls, from which the cost is counted.

    Args:
        directions: by parameter name, (m, *shape) each.
        part: (b,) positions in the training set.
        count: take the kernels that are cheapest for so many directions; None: for those given.

    Memory: the activations of one batch, and a few MB.
    """
    batch = fetch(problem.train, part, problem.device)
    names = {id(tensor): name for name, tensor in problem.model.named_parameters()}
    given, size = len(next(iter(directions.values()))), len(part)
    products = problem.theta.new_zeros(size, given)
    shapes = []
    with engine_mode(problem.model), ChannelsLast():
        with _recorded(problem.model) as calls:
            losses = problem.losses(problem.leaves(), batch)
        gradients = torch.autograd.grad(
            losses.sum(), [call.output for call in calls], materialize_grads=True
        )
        with torch.no_grad():
            for call, gradient in zip(calls, gradients, strict=True):
                own = call.module.named_parameters(recurse=False)
                along = {short: directions[names[id(tensor)]] for short, tensor in own}
                shapes.append(shape := _shape(call, size))
                kernel = kernel_of(shape, count or given)
                if type(call.module) in NORMS:
                    _normed(call, gradient, along, products)
                elif kernel == "called":
                    _called(call, gradient, along, products)
                else:
                    _with_factors(call, gradient, along, products, kernel)
    return products.T, shapes


@dataclass(frozen=True, eq=False)
class _Call:
    module: nn.Module
    inputs: tuple[Any, ...]
    output: Tensor


def _shape(call: _Call, samples: int) -> Shape:
    """Return the shape of a call; one that has no factors is called, whatever its size."""
    module, output = call.module, call.output
    if type(module) is nn.Linear:
        positions = output.numel() // (samples * module.out_features)
        return Shape(positions, module.out_features, module.in_features)
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        plain = type(module) is nn.Conv2d and module.padding_mode == "zeros"
        factors = plain and output.dim() == 4 and not isinstance(module.padding, str)
        positions = output.numel() // (samples * module.out_channels)
        columns = module.weight[0].numel()
        return Shape(positions, module.out_channels, columns, factors, gathered=True)
    if type(module) in NORMS:
        rows = next(module.parameters(recurse=False)).numel()
        return Shape(output.numel() // (samples * rows), rows, 1)
    rows = output.shape[-1]
    return Shape(output.numel() // (samples * rows), rows, 1, factors=False)


# --- the kernels: each adds to products (b, m) ----------------------------------------------------


def _called(call: _Call, gradient: Tensor, along: Mapping[str, Tensor], products: Tensor) -> None:
    """<grad_y l_i, layer(a_i; S)>, direction by direction."""
    for number in range(products.shape[1]):
        one = {short: stack[number] for short, stack in along.items()}
        moved = functional_call(call.module, one, call.inputs)
        products[:, number] += _dot(moved, gradient, len(products))


def _dot(one: Tensor, other: Tensor, samples: int) -> Tensor:
    """Return <one_i, other_i> of every sample i, (b,); a layer may see several rows a sample."""
    product = one * other
    if product.dim() == 4 and len(product) == samples:
        return product.sum(dim=(1, 2, 3))  # in any layout, without a copy
    return product.reshape(samples, -1).sum(dim=1)


def _normed(call: _Call, gradient: Tensor, along: Mapping[str, Tensor], products: Tensor) -> None:
    """The gradients by a norm's scale and shift are sums over positions of one number each."""
    plain = {"weight": torch.ones_like(along["weight"][0])}
    if "bias" in along:
        plain["bias"] = torch.zeros_like(along["bias"][0])
    normed = functional_call(call.module, plain, call.inputs)
    for short, values in (("weight", gradient * normed), ("bias", gradient)):
        if short not in along:
            continue
        by_channel = type(call.module) is not nn.LayerNorm and values.dim() > 2
        summed = values.flatten(2).sum(dim=2) if by_channel else values
        stack = along[short].flatten(1)
        products += summed.reshape(len(products), -1, stack.shape[1]).sum(dim=1) @ stack.T


def _with_factors(
    call: _Call, gradient: Tensor, along: Mapping[str, Tensor], products: Tensor, kernel: str
) -> None:
    """<G_i, S> and the bias's part, from the factors s (b g, rows, T) and a (b g, T, columns)."""
    s, a, groups = _factors(call, gradient, len(products))
    if "bias" in along:
        of_bias = s.sum(dim=2).view(len(products), -1, along["bias"].shape[1])
        products += of_bias.sum(dim=1) @ along["bias"].T
    stack = along["weight"].flatten(2)  # (m, rows, columns)
    if groups > 1:
        G = (s @ a).view(len(products), -1, stack[0].numel()).sum(dim=1)
        products += G @ stack.flatten(1).T
    elif kernel == "formed":
        _formed(s, a, stack, products)
    else:
        _factored(s, a, stack, products)


def _factors(call: _Call, gradient: Tensor, samples: int) -> tuple[Tensor, Tensor, int]:
    """Return s (b g, rows / g, T), a (b g, T, columns) and the number of groups g."""
    module, inputs = call.module, call.inputs[0]
    if isinstance(module, nn.Linear):
        a = inputs.reshape(samples, -1, module.in_features)
        return gradient.reshape(samples, -1, module.out_features).transpose(1, 2), a, 1
    assert isinstance(module, nn.Conv2d)
    seen = unfold(
        inputs,
        module.kernel_size,
        dilation=module.dilation,
        padding=module.padding,  # type: ignore[arg-type]  # a name has no factors
        stride=module.stride,
    )  # (b, i kh kw, T)
    g, positions = module.groups, seen.shape[2]
    s = gradient.reshape(len(seen) * g, -1, positions)
    a = seen.view(len(seen) * g, -1, positions).transpose(1, 2).contiguous()
    if g == 1 and len(seen) != samples:  # several images a sample
        s = s.view(samples, -1, *s.shape[1:]).transpose(1, 2).flatten(2)
        a = a.view(samples, -1, a.shape[2])
    return s, a, g


def _formed(s: Tensor, a: Tensor, stack: Tensor, products: Tensor) -> None:
    """Form some rows of G_i of some samples, which all directions meet while a cache has them."""
    _, rows, columns = stack.shape
    flat = stack.flatten(1)
    for start in range(0, len(s), SAMPLES):
        here = slice(start, start + SAMPLES)
        some = max(ROWS, CACHE // (len(s[here]) * columns * s.element_size()))
        for first in range(0, rows, some):
            G = (s[here, first : first + some] @ a[here]).flatten(1)
            of_rows = flat[:, first * columns : (first + some) * columns]
            products[here].addmm_(G, of_rows.T)


def _factored(s: Tensor, a: Tensor, stack: Tensor, products: Tensor) -> None:
    """Multiply the longer factor with some directions, and the result with the shorter one."""
    samples, rows, positions = s.shape
    s = s.transpose(1, 2)
    longer, shorter, by = (a, s, stack.transpose(1, 2)) if rows <= a.shape[2] else (s, a, stack)
    longer, shorter = longer.flatten(0, 1), shorter.flatten(0, 1)
    some = max(1, 4 * CACHE // (shorter.numel() * s.element_size()))
    for first in range(0, len(stack), some):
        moved = longer @ by[first : first + some]  # (some, b T, shorter)
        dots = torch.einsum("mrc,rc->rm", moved, shorter)
        products[:, first : first + some] += dots.view(samples, positions, -1).sum(dim=1)


# --- recording ------------------------------------------------------------------------------------


def _owners(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if next(m.parameters(recurse=False), None) is not None]


@contextmanager
def _recorded(model: nn.Module) -> Iterator[list[_Call]]:
    """Record every call of a layer with parameters while the block runs the model once.

    Where an activation overwrites its input, the model goes on with a copy of what is recorded.
    """
    calls: list[_Call] = []
    overwrites = any(getattr(module, "inplace", False) for module in model.modules())

    def record(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        kept = tuple(x.detach() if isinstance(x, Tensor) else x for x in inputs)
        calls.append(_Call(module, kept, output))
        return output.clone() if overwrites else output

    handles = [module.register_forward_hook(record) for module in _owners(model)]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
