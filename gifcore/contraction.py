"""Products of per-sample gradients with many vectors at once, layer by layer.

A layer that is linear in its own parameters, y = layer(a; W), takes part in the gradient of sample
i as <grad_y l_i, d layer>. So for a direction S of the parameters

    S . grad l_i = sum over calls of such layers of <grad_y l_i, layer(a_i; S)>

One forward and one backward pass to the activations serve every direction; each direction then
costs one more call of every layer. No gradient of any sample is formed, but of convolutions whose
weights are fewer than their outputs: those of one batch take less room than the outputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import unfold

from gifcore.convolution import ChannelsLast
from gifcore.problem import Problem, engine_mode, fetch

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


def contractible(model: nn.Module) -> bool:
    """Does every parameter belong to a layer that is linear in it?"""
    return all(type(module) in LINEAR_IN_PARAMETERS for module in _owners(model))


def batch_products(problem: Problem, directions: list[dict[str, Tensor]], part: Tensor) -> Tensor:
    """Return S . grad l_i for these training samples and each direction S: (m, b).

    Args:
        directions: m maps from parameter name to tensor.
        part: (b,) positions in the training set.

    Cost: about 2 + m forward passes. Memory: the activations of one batch.
    """
    batch = fetch(problem.train, part, problem.device)
    names = {id(tensor): name for name, tensor in problem.model.named_parameters()}
    products = torch.zeros(len(directions), len(part), dtype=problem.theta.dtype).to(problem.device)
    with engine_mode(problem.model), ChannelsLast():
        with _recorded(problem.model) as calls:
            losses = problem.losses(problem.leaves(), batch)
        outputs = [call.output for call in calls]
        gradients = torch.autograd.grad(losses.sum(), outputs, materialize_grads=True)
        with torch.no_grad():
            for call, gradient in zip(calls, gradients, strict=True):
                own = call.module.named_parameters(recurse=False)
                own_names = {short: names[id(tensor)] for short, tensor in own}
                if _small(call):
                    gradients_of = _sample_gradients(call, gradient)
                    for short, of_samples in gradients_of.items():
                        stack = torch.stack([d[own_names[short]].flatten() for d in directions])
                        products += stack @ of_samples.T
                    continue
                for number, direction in enumerate(directions):
                    along = {short: direction[name] for short, name in own_names.items()}
                    moved = functional_call(call.module, along, call.inputs)
                    products[number] += _dot(moved, gradient, len(part))
    return products


def _dot(one: Tensor, other: Tensor, samples: int) -> Tensor:
    """Return <one_i, other_i> of every sample i, (b,); a layer may see several rows a sample."""
    product = one * other
    if product.dim() == 4 and len(product) == samples:
        return product.sum(dim=(1, 2, 3))  # in any layout, without a copy
    return product.reshape(samples, -1).sum(dim=1)


@dataclass(frozen=True, eq=False)
class _Call:
    module: nn.Module
    inputs: tuple[Any, ...]
    output: Tensor


def _small(call: _Call) -> bool:
    """Has a convolution so few weights that its gradients by sample are smaller than its output?"""
    conv = call.module
    if type(conv) is not nn.Conv2d or conv.groups > 1 or isinstance(conv.padding, str):
        return False
    plain = conv.padding_mode == "zeros" and call.output.dim() == 4
    return plain and 4 * conv.weight.numel() <= call.output[0].numel()


def _sample_gradients(call: _Call, gradient: Tensor) -> dict[str, Tensor]:
    """Return the gradients of a convolution's parameters by sample, (b, size) each."""
    conv = call.module
    assert isinstance(conv, nn.Conv2d)
    seen = unfold(
        call.inputs[0],
        conv.kernel_size,
        dilation=conv.dilation,
        padding=conv.padding,  # type: ignore[arg-type]  # a name is refused above
        stride=conv.stride,
    )  # (b, i kh kw, positions)
    of_output = gradient.flatten(2)
    found = {"weight": (of_output @ seen.transpose(1, 2)).flatten(1)}
    return found if conv.bias is None else found | {"bias": of_output.sum(dim=2)}


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
