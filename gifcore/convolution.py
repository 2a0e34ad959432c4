"""Convolutions that are differentiated twice on a CPU, without what a selection leaves out.

A convolution is one trilinear form T(x, w, g) = <g, w * x>. Its output, its input gradient and its
weight gradient are the derivatives of T by g, x and w, and the derivative of each of the three is
again two of the three. Written so, a Hessian product H v consists of the kernels of the forward
and backward pass alone, and it skips output channels that do not count: those along which v is
zero, and those at which nobody asks for H v.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

Channels = Tensor | None  # sorted output channels; None: all


class FastConvolutions(TorchFunctionMode):
    """While it is on, `conv2d` on a CPU is recorded as above; anything else passes through.

    Values and derivatives are those of torch up to rounding. Forward mode is not defined.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Tensor, _Call]] = []  # weight, how it was used

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],  # noqa: ARG002
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        called = self._conv2d if func is torch.conv2d else func
        return called(*args, **(kwargs or {}))

    def _conv2d(
        self,
        input: Tensor,  # noqa: A002  # torch's names: callers may use them
        weight: Tensor,
        bias: Tensor | None = None,
        stride: int | Sequence[int] = 1,
        padding: int | str | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
    ) -> Tensor:
        if input.dim() != 4 or isinstance(padding, str) or input.device.type != "cpu":
            return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
        call = _Call(_pair(stride), _pair(padding), _pair(dilation), groups)
        self.calls.append((weight, call))
        y: Tensor = _Output.apply(input, weight, call)
        return y if bias is None else y + bias.view(1, -1, 1, 1)

    def want(self, channels: Mapping[int, Tensor]) -> None:
        """Leave out all but these output channels of a weight's second derivatives, by its id.

        The others come out as 0. Weights that are not named are taken whole.
        """
        for weight, call in self.calls:
            call.wanted = channels.get(id(weight)) if call.groups == 1 else None


def _pair(value: int | Sequence[int]) -> list[int]:
    pair = [value] if isinstance(value, int) else list(value)
    return pair * 2 if len(pair) == 1 else pair


@dataclass
class _Call:
    """The three derivatives of T for one call of `conv2d`."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: int
    wanted: Channels = field(default=None, init=False)

    def output(self, x: Tensor, w: Tensor) -> Tensor:
        """dT/dg: the convolution itself, (b, o, h', w')."""
        return torch.convolution(
            x, w, None, self.stride, self.padding, self.dilation, False, [0, 0], self.groups
        )

    def input_gradient(self, g: Tensor, w: Tensor, x: Tensor) -> Tensor:
        """dT/dx, (b, i, h, w), in the shape of x."""
        return self._backward(g, x, w, [True, False, False])[0]

    def weight_gradient(self, g: Tensor, x: Tensor, w: Tensor) -> Tensor:
        """dT/dw, (o, i / groups, kh, kw), in the shape of w."""
        return self._backward(g, x, w, [False, True, False])[1]

    def _backward(self, g: Tensor, x: Tensor, w: Tensor, wanted: list[bool]) -> list[Tensor]:
        found: list[Tensor] = torch.ops.aten.convolution_backward(
            g,
            x,
            w,
            None,
            self.stride,
            self.padding,
            self.dilation,
            False,
            [0, 0],
            self.groups,
            wanted,
        )
        return found


class _Output(torch.autograd.Function):
    """dT/dg (x, w)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, call: _Call) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.call = call
        return call.output(x, w)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, w = ctx.saved_tensors
        for_x, for_w, _ = ctx.needs_input_grad
        return (
            _InputGradient.apply(g, w, x, ctx.call) if for_x else None,
            _weight_gradient(g, x, w, ctx.call) if for_w else None,
            None,
        )


class _InputGradient(torch.autograd.Function):
    """dT/dx (g, w); x is read for its shape alone."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, w: Tensor, x: Tensor, call: _Call) -> Tensor:
        ctx.save_for_backward(g, w)
        ctx.call = call
        return call.input_gradient(g, w, x)

    @staticmethod
    def backward(ctx: Any, x: Tensor) -> Any:
        g, w = ctx.saved_tensors
        for_g, for_w, *_ = ctx.needs_input_grad
        return (
            _Output.apply(x, w, ctx.call) if for_g else None,
            _weight_gradient(g, x, w, ctx.call) if for_w else None,
            None,
            None,
        )


class _WeightGradient(torch.autograd.Function):
    """dT/dw (g, x); w is read for its shape alone."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, w: Tensor, call: _Call) -> Tensor:
        ctx.save_for_backward(g, x)
        ctx.call = call
        return call.weight_gradient(g, x, w)

    @staticmethod
    def backward(ctx: Any, w: Tensor) -> Any:
        g, x = ctx.saved_tensors
        for_g, for_x, *_ = ctx.needs_input_grad
        if not torch.is_grad_enabled() and ctx.call.groups == 1:
            channels = w.flatten(1).any(dim=1).nonzero().squeeze(1)
            if 2 * len(channels) < len(w):
                return *_along_few(g, x, w, channels, ctx), None, None
        return (
            _Output.apply(x, w, ctx.call) if for_g else None,
            _InputGradient.apply(g, w, x, ctx.call) if for_x else None,
            None,
            None,
        )


def _weight_gradient(g: Tensor, x: Tensor, w: Tensor, call: _Call) -> Tensor:
    """Return dT/dw, at the wanted output channels only where that is not differentiated again."""
    channels = call.wanted
    if channels is None or torch.is_grad_enabled():
        found: Tensor = _WeightGradient.apply(g, x, w, call)
        return found
    found = torch.zeros_like(w)
    if len(channels):
        found[channels] = call.weight_gradient(_part(g, channels), x, w[channels])
    return found


def _along_few(
    g: Tensor, x: Tensor, w: Tensor, channels: Tensor, ctx: Any
) -> tuple[Tensor | None, Tensor | None]:
    """Return the derivatives of dT/dw along w by g and x; w is zero outside these channels."""
    for_g, for_x, *_ = ctx.needs_input_grad
    along_g = torch.zeros_like(g) if for_g else None
    along_x = torch.zeros_like(x) if for_x else None
    if len(channels) and along_g is not None:
        along_g[:, channels] = ctx.call.output(x, w[channels])
    if len(channels) and along_x is not None:
        along_x = ctx.call.input_gradient(_part(g, channels), w[channels], x)
    return along_g, along_x


def _part(g: Tensor, channels: Tensor) -> Tensor:
    return g[:, channels].contiguous()
