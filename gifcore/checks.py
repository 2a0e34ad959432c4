"""Checks of a problem on a few of its samples: what cannot be explained is refused by name.

Data, layers, labels, loss, determinism, before anything is computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from gifcore.errors import GifError
from gifcore.problem import Problem, cross_entropy, engine_mode, fetch, inputs_of

PROBE = 4  # samples that are read
PASS_SIZE = 256  # samples a forward pass in search of what is not finite
IGNORED = -100  # the label that torch's cross-entropy passes over

ANYTHING = (RuntimeError, TypeError, ValueError, LookupError, AttributeError)  # of users' code


def check_problem(problem: Problem) -> tuple[str, ...]:
    """Refuse what cannot be explained; return notes, one sentence each, for the record.

    Raises:
        GifError: layers without a proper gradient, samples that differ from one read to the
            next, a model or loss that fails, labels that do not fit, losses that are not one
            finite number per sample, are random or depend on the rest of their batch.

    Cost: a few forward passes over 4 samples, which are read twice.
    """
    _check_layers(problem.model)
    part = problem.positions[:PROBE]
    batch = _read(problem, part)
    if not _same(batch, _read(problem, part)):
        raise GifError(
            "Two reads of the same training samples differ; give the data set without random "
            "augmentation: an influence belongs to fixed samples."
        )
    with engine_mode(problem.model):
        losses = _losses(problem, batch)
        _check_losses(losses, problem, part)
        _check_repeatable(losses.detach(), problem, batch)
        _check_alone(losses.detach(), problem, part)
    return _notes(problem.model)


# --- layers --------------------------------------------------------------------------------------


def _check_layers(model: nn.Module) -> None:
    for name, module in model.named_modules():
        advice = _obstacle(module)
        if advice:
            raise GifError(f"{named(name, module)} cannot be explained: {advice}.")


def _obstacle(module: nn.Module) -> str | None:
    """Return why a layer has no proper gradient and what helps, None if it has."""
    if isinstance(getattr(module, "_orig_mod", None), nn.Module):
        return "torch.compile hides its derivatives; give the model as it was before (._orig_mod)"
    if isinstance(module, torch.jit.ScriptModule):
        return "TorchScript keeps its parameters to itself; give the Python model"
    if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
        return (
            "without running statistics one sample's loss depends on its batch; train it with "
            "track_running_stats=True"
        )
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        for option in ("sparse", "max_norm", "scale_grad_by_freq"):
            if getattr(module, option):
                return f"{option}={getattr(module, option)} changes its gradient; switch it off"
    return _computed_weight(module)


def _computed_weight(module: nn.Module) -> str | None:
    """Return why a weight that is computed from others stands in the way, if it does."""
    hooks = {type(hook).__name__ for hook in module._forward_pre_hooks.values()}
    if hooks & {"WeightNorm", "SpectralNorm"}:
        return (
            "its hook overwrites the weight in every call; take it off with "
            "torch.nn.utils.remove_weight_norm or remove_spectral_norm"
        )
    for weight, chain in (getattr(module, "parametrizations", None) or {}).items():
        if any(type(step).__name__ == "_WeightNorm" for step in chain):
            return (
                "torch's second derivative of weight_norm is wrong; take it off with "
                f"torch.nn.utils.parametrize.remove_parametrizations(layer, '{weight}')"
            )
    return None


def _notes(model: nn.Module) -> tuple[str, ...]:
    for name, module in model.named_modules():
        if module.training and isinstance(
            module, nn.modules.dropout._DropoutNd | nn.modules.batchnorm._BatchNorm
        ):
            return (
                f"{named(name, module)} was given in training mode; everything here is computed "
                "in eval mode, as at prediction time, and the mode is restored.",
            )
    return ()


def named(name: str, module: nn.Module) -> str:
    """Return how a sentence names a layer."""
    kind = type(module).__name__
    return f"Layer '{name}' ({kind})" if name else f"The model itself ({kind})"


# --- data ----------------------------------------------------------------------------------------


def _read(problem: Problem, part: Tensor) -> Any:
    """Return one batch of these samples, with a sentence for whatever does not make one."""
    if type(problem.train) is not TensorDataset:
        sample = problem.train[int(part[0])]
        pair = isinstance(sample, list | tuple) and len(sample) > 1
        if not pair and not isinstance(sample, dict):
            raise GifError(
                f"Training sample {int(part[0])} is a {type(sample).__name__}; a data set must "
                "return pairs (input, target) or dicts."
            )
    try:
        return fetch(problem.train, part, problem.device)
    except ANYTHING as error:
        raise GifError(
            f"The first training samples do not make a batch ({first_line(error)}); return "
            "tensors or numbers of the same shape for every sample."
        ) from error


def tensors_of(value: Any) -> Iterator[Tensor]:
    """Yield all tensors in dicts, lists and tuples."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_of(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_of(item)


def _same(one: Any, other: Any) -> bool:
    pairs = list(zip(tensors_of(one), tensors_of(other), strict=True))
    return all(
        a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())  # noqa: PLR0124
        for a, b in pairs
    )


# --- outputs, labels, losses ---------------------------------------------------------------------


def _losses(problem: Problem, batch: Any) -> Tensor:
    """Return the losses of a batch, with a sentence for whatever goes wrong on the way."""
    try:
        outputs = problem.outputs(problem.leaves(), batch)
    except ANYTHING as error:
        raise _of_model(problem, batch, error) from error
    if problem.loss is cross_entropy:
        _check_labels(problem, outputs, batch)
    try:
        losses = problem.loss(outputs, batch)
    except ANYTHING as error:
        raise GifError(
            f"The loss failed on the first batch ({first_line(error)}); it is called as "
            "loss(outputs, batch) with the whole batch and returns one number per sample."
        ) from error
    return losses


def _of_model(problem: Problem, batch: Any, error: Exception) -> GifError:
    found = {x.dtype for x in tensors_of(inputs_of(batch))}
    expected = problem.theta.dtype
    if found and expected not in found and not found <= {torch.int32, torch.int64, torch.bool}:
        kinds = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in found))
        name = str(expected).removeprefix("torch.")
        return GifError(
            f"The inputs are {kinds} and the parameters {name}; convert the data with "
            f".to(torch.{name}) or the model."
        )
    if "on the same device" in str(error):
        return GifError(
            f"The model keeps a tensor that does not move to '{problem.device}'; register it with "
            "register_buffer."
        )
    shapes = ", ".join(str(tuple(x.shape)) for x in tensors_of(inputs_of(batch)))
    return GifError(
        f"The model failed on the first batch, inputs of shape {shapes} ({first_line(error)}); "
        "check that the data set returns what the model takes."
    )


def _check_labels(problem: Problem, outputs: Any, batch: Any) -> None:
    """Refuse what cross-entropy cannot take: whole-number labels from 0 to C - 1, shape (b,)."""
    if not isinstance(outputs, Tensor) or isinstance(batch, dict):
        raise GifError(
            "cross_entropy needs one tensor of outputs and batches (inputs, labels); give a loss "
            "of your own, loss(outputs, batch) -> one number per sample."
        )
    labels = batch[1]
    if outputs.dim() < 2 or labels.shape != outputs.shape[:1] + outputs.shape[2:]:
        if labels.is_floating_point() and labels.shape == outputs.shape:
            return  # a distribution over the classes for every sample
        raise GifError(
            f"cross_entropy found outputs of shape {tuple(outputs.shape)} and labels of shape "
            f"{tuple(labels.shape)}; it needs (batch, classes) and (batch,)."
        )
    if labels.dtype != torch.int64:
        kind = str(labels.dtype).removeprefix("torch.")
        raise GifError(f"The labels are {kind}; cross_entropy needs int64: use labels.long().")
    if type(problem.train) is TensorDataset:
        labels = problem.train.tensors[1][problem.positions]
    classes = outputs.shape[1]
    wrong = labels[((labels < 0) & (labels != IGNORED)) | (labels >= classes)]
    if len(wrong):
        raise GifError(
            f"There is a label {int(wrong[0])}, but the model has {classes} outputs; labels must "
            f"be 0 … {classes - 1}."
        )


def _check_losses(losses: Any, problem: Problem, part: Tensor) -> None:
    count = len(part)
    if not isinstance(losses, Tensor) or losses.shape != (count,):
        tensor = isinstance(losses, Tensor)
        found = f"shape {tuple(losses.shape)}" if tensor else f"a {type(losses).__name__}"
        raise GifError(
            f"The loss returned {found} for a batch of {count}; return one number per sample, "
            f"shape ({count},), for example with reduction='none'."
        )
    if not losses.is_floating_point() or not bool(torch.isfinite(losses).all()):
        raise not_finite(problem, part) or GifError(
            "The losses of the first samples are not finite; check inputs and weights."
        )
    if not losses.requires_grad:
        raise GifError(
            "The losses do not depend on the parameters; take detach(), no_grad() or argmax out "
            "of the model and the loss."
        )


def not_finite(problem: Problem, positions: Tensor | None = None) -> GifError | None:
    """Return the error that names the first sample and layer whose numbers are not finite.

    None where inputs and the outputs of all layers are finite.

    Args:
        positions: of training samples; None: all that count.

    Cost: one forward pass, in batches; asked for once something has failed.
    """
    positions = problem.positions if positions is None else positions
    for part in positions.split(PASS_SIZE):
        batch = fetch(problem.train, part, problem.device)
        bad = [("inputs", x) for x in tensors_of(inputs_of(batch))]
        with engine_mode(problem.model), torch.no_grad(), _outputs(problem.model) as seen:
            problem.outputs(problem.space.unflatten(problem.theta), batch)
        bad += [(f"outputs of layer '{name}'", y) for name, y in seen]
        rows = [
            (int(row), order, what)
            for order, (what, values) in enumerate(bad)
            for row in _rows_not_finite(values, len(part))[:1]
        ]
        if rows:
            row, _, what = min(rows)
            return GifError(
                f"The {what} hold NaN or infinity at training sample {int(part[row])}; check its "
                "inputs and the weights of the model."
            )
    return None


def _rows_not_finite(values: Tensor, count: int) -> Tensor:
    """Return the samples, in order, whose numbers are not all finite; none without a row each."""
    if values.dim() == 0 or len(values) != count or not values.is_floating_point():
        return torch.zeros(0, dtype=torch.long)
    return (~torch.isfinite(values.reshape(count, -1)).all(dim=1)).nonzero().flatten()


@contextmanager
def _outputs(model: nn.Module) -> Iterator[list[tuple[str, Tensor]]]:
    """Give a list of what layers without layers in them return, in the order of their calls."""
    seen: list[tuple[str, Tensor]] = []

    def noted(name: str) -> Any:
        return lambda _module, _inputs, found: seen.extend(
            (name, y.detach().clone()) for y in tensors_of(found)
        )

    handles = [
        module.register_forward_hook(noted(name))
        for name, module in model.named_modules()
        if name and next(module.children(), None) is None
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _check_repeatable(losses: Tensor, problem: Problem, batch: Any) -> None:
    if not _close(_losses(problem, batch).detach(), losses):
        raise GifError(
            "Two evaluations of the same samples differ: the model is not deterministic; switch "
            "off random layers and dropout that acts in eval mode."
        )


def _check_alone(losses: Tensor, problem: Problem, part: Tensor) -> None:
    alone = [_losses(problem, fetch(problem.train, i, problem.device)) for i in part.split(1)]
    for i, losses_of_one in zip(part.split(1), alone, strict=True):
        _check_losses(losses_of_one, problem, i)
    if not _close(torch.cat(alone).detach(), losses):
        raise GifError(
            "A sample's loss depends on the other samples in its batch; every sample needs a loss "
            "of its own: no batch statistics, no averages over the batch."
        )


def _close(one: Tensor, other: Tensor) -> bool:
    limit = 1e-8 if one.dtype == torch.float64 else 1e-3
    return bool(torch.allclose(one, other, rtol=limit, atol=limit))


def first_line(error: Exception) -> str:
    """Return the first line of a foreign error, cut to a readable length."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:160].rstrip(".")
