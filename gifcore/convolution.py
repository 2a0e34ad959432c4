"""Convolutions that are differentiated twice on a CPU, without what a selection leaves out.

A convolution is one trilinear form T(x, w, g) = <g, w * x>. Its output, its input gradient and its
weight gradient are the derivatives of T by g, x and w, and the derivative of each of the three is
again two of the three. Written so, a Hessian product H v consists of the kernels of the forward
and backward pass alone, and it skips channels that do not count: those along which a factor is
zero, and those at which nobody asks for H v. Memory is laid out channels last, where these kernels
are faster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from gifcore import positions

Channels = Tensor | None  # sorted positions; None: all

# channel c of the result depends on channel c of the first argument, and on no parameter
CHANNELWISE = frozenset(
    {
        torch.relu,
        torch.tanh,
        torch.sigmoid,
        Tensor.relu,
        Tensor.tanh,
        Tensor.sigmoid,
        F.relu,
        F.leaky_relu,
        F.elu,
        F.gelu,
        F.silu,
        F.max_pool2d,
        F.avg_pool2d,
    }
)


class ChannelsLast(TorchFunctionMode):
    """While it is on, `conv2d` on a CPU works with channels last in memory, where it is faster."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],  # noqa: ARG002
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.view:
            return viewed(*args, **kwargs)
        if func is torch.conv2d and args[0].dim() == 4 and args[0].device.type == "cpu":
            x, weight, *others = args
            args = (channels_last(x), channels_last(weight), *others)
        return func(*args, **kwargs)


class FastConvolutions(TorchFunctionMode):
    """While it is on, `conv2d` on a CPU is recorded as above; anything else passes through.

    Values and derivatives are those of torch up to rounding. Forward mode is not defined.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[_Call] = []
        # of each channel-wise function of a convolution, by its id: itself, its version, the call
        self._made: dict[int, tuple[Tensor, int, _Call]] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],  # noqa: ARG002
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.conv2d:
            return self._conv2d(*args, **kwargs)
        if func is Tensor.view:
            return viewed(*args, **kwargs)
        if func in CHANNELWISE:
            call = self._source(args[0]) if args else None
            result = func(*args, **kwargs)
            self._follow(result, call)
            return result
        return func(*args, **kwargs)

    def __exit__(self, *error: Any) -> None:
        self._made.clear()
        super().__exit__(*error)

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
        geometry = (_pair(stride), _pair(padding), _pair(dilation), groups)
        call = _Call(*geometry, weight, bias, not input.requires_grad, self._source(input))
        call.few = positions.suits(call.sizes(input), call.dilation, groups)
        self.calls.append(call)
        y: Tensor = _Output.apply(channels_last(input), channels_last(weight), call)
        y = y if bias is None else y + bias.view(1, -1, 1, 1)
        self._follow(y, call)
        return y

    def _follow(self, made: Any, call: _Call | None) -> None:
        if call is not None and isinstance(made, Tensor):
            self._made[id(made)] = (made, made._version, call)

    def _source(self, tensor: Any) -> _Call | None:
        """Return the convolution that this is a channel-wise function of, if it is known to be.

        What was written into since then may hold anything.
        """
        kept, version, call = self._made.get(id(tensor), (None, 0, None))
        return call if kept is tensor and kept._version == version else None

    def want(self, channels: Mapping[int, Tensor]) -> None:
        """Leave out all but these output channels of second derivatives, by weight and bias id.

        The others come out as 0. Weights that are not named are taken whole.
        """
        for call in self.calls:
            call.wanted = call.named(channels)


def _pair(value: int | Sequence[int]) -> list[int]:
    pair = [value] if isinstance(value, int) else list(value)
    return pair * 2 if len(pair) == 1 else pair


def channels_last(tensor: Tensor) -> Tensor:
    """Return the tensor with its channels last in memory; strides say so even for one channel."""
    tensor = tensor.contiguous(memory_format=torch.channels_last)
    _, channels, height, width = tensor.shape
    if channels > 1:
        return tensor
    return tensor.as_strided(tensor.shape, (height * width, 1, width, 1), tensor.storage_offset())


def viewed(tensor: Tensor, *shape: Any, **named: Any) -> Tensor:
    """Return the view that a model asks for; where channels come last it can be a copy."""
    try:
        return tensor.view(*shape, **named)
    except RuntimeError:
        return tensor.contiguous().view(*shape, **named)


@dataclass(eq=False)
class _Call:
    """The three derivatives of T for one call of `conv2d`."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: int
    weight: Tensor
    bias: Tensor | None
    first: bool  # its input depends on no parameter
    source: _Call | None  # the convolution whose channels are its input channels
    few: bool = field(default=False, init=False)  # output positions: see `positions`
    wanted: Channels = field(default=None, init=False)  # output channels

    def sizes(self, x: Tensor) -> list[int]:
        """Return the height and width of the output."""
        return [
            (size + 2 * pad - step * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, pad, step in zip(
                x.shape[2:],
                self.weight.shape[2:],
                self.stride,
                self.padding,
                self.dilation,
                strict=True,
            )
        ]

    def named(self, channels: Mapping[int, Tensor]) -> Channels:
        """Return the output channels at which weight or bias are asked for."""
        if self.groups > 1 or id(self.weight) not in channels:
            return None
        if self.bias is None:
            return channels[id(self.weight)]
        if id(self.bias) not in channels:
            return None
        return torch.cat([channels[id(self.weight)], channels[id(self.bias)]]).unique()

    @property
    def wanted_inputs(self) -> Channels:
        """The input channels whose derivative anybody reads, when only leaves are asked for."""
        source = self.source
        return source.wanted if self.groups == 1 and source is not None and source.first else None

    def output(self, x: Tensor, w: Tensor) -> Tensor:
        """dT/dg: the convolution itself, (b, o, h', w')."""
        if self.few:
            return positions.output(channels_last(x), channels_last(w), self.stride, self.padding)
        return torch.convolution(
            x, w, None, self.stride, self.padding, self.dilation, False, [0, 0], self.groups
        )

    def input_gradient(self, g: Tensor, w: Tensor, x: Tensor) -> Tensor:
        """dT/dx, (b, i, h, w), in the shape of x."""
        if self.few:
            return positions.input_gradient(
                channels_last(g), channels_last(w), x, self.stride, self.padding
            )
        return self._backward(g, x, w, [True, False, False])[0]

    def weight_gradient(self, g: Tensor, x: Tensor, w: Tensor) -> Tensor:
        """dT/dw, (o, i / groups, kh, kw), in the shape of w."""
        if self.few:
            return positions.weight_gradient(
                channels_last(g), channels_last(x), w, self.stride, self.padding
            )
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
            _input_gradient(g, w, x, ctx.call) if for_x else None,
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
        few = None if torch.is_grad_enabled() or ctx.call.groups > 1 else _few(x)
        if few is not None:
            return (
                _output_of(x, w, few, g, ctx.call) if for_g else None,
                _weight_gradient_of(g, x, w, few, ctx.call) if for_w else None,
                None,
                None,
            )
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
        w = channels_last(w)
        if not torch.is_grad_enabled() and ctx.call.groups == 1:
            channels = w.flatten(1).any(dim=1).nonzero().squeeze(1)
            if 2 * len(channels) < len(w):
                return *_along_few(g, x, w, channels, ctx), None, None
        return (
            _Output.apply(x, w, ctx.call) if for_g else None,
            _input_gradient(g, w, x, ctx.call) if for_x else None,
            None,
            None,
        )


# --- with channels left out: only where the result is not differentiated again --------------------


def _input_gradient(g: Tensor, w: Tensor, x: Tensor, call: _Call) -> Tensor:
    """Return dT/dx, at the wanted input channels."""
    wanted = call.wanted_inputs
    if wanted is None or torch.is_grad_enabled():
        found: Tensor = _InputGradient.apply(g, w, x, call)
        return found
    found = torch.zeros_like(x)
    if len(wanted):
        found[:, wanted] = call.input_gradient(g, _part(w, wanted), _part(x, wanted))
    return found


def _weight_gradient(g: Tensor, x: Tensor, w: Tensor, call: _Call) -> Tensor:
    """Return dT/dw, at the wanted output channels."""
    if call.wanted is None or torch.is_grad_enabled():
        found: Tensor = _WeightGradient.apply(g, x, w, call)
        return found
    found = torch.zeros_like(w)
    if len(call.wanted):
        found[call.wanted] = call.weight_gradient(_part(g, call.wanted), x, w[call.wanted])
    return found


def _output_of(x: Tensor, w: Tensor, inputs: Tensor, g: Tensor, call: _Call) -> Tensor:
    """Return dT/dg, in the shape of g, where x is zero outside these input channels."""
    return call.output(_part(x, inputs), _part(w, inputs)) if len(inputs) else torch.zeros_like(g)


def _weight_gradient_of(g: Tensor, x: Tensor, w: Tensor, inputs: Tensor, call: _Call) -> Tensor:
    """Return dT/dw where x is zero outside these input channels."""
    found = torch.zeros_like(w)
    if len(inputs):
        found[:, inputs] = _weight_gradient(g, _part(x, inputs), _part(w, inputs), call)
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
        along_x = _input_gradient(_part(g, channels), w[channels], x, ctx.call)
    return along_g, along_x


def _few(x: Tensor) -> Channels:
    """Return the channels in which x is not zero everywhere, if they are less than half."""
    first = x[0].flatten(1).any(dim=1)
    if 2 * int(first.sum()) >= len(first):
        return None
    channels = x.any(dim=3).any(dim=2).any(dim=0).nonzero().squeeze(1)
    return channels if 2 * len(channels) < len(first) else None


def _part(x: Tensor, channels: Tensor) -> Tensor:
    return channels_last(x[:, channels])
