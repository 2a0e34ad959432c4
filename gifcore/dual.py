"""Forward mode through convolutions and batch norm with no more work than the formulas need.

For y = w * x + b and a direction that moves x, w and b,

    dy = w * dx + dw * x + db

torch takes both convolutions even where dx is 0, as in a first layer, and takes batch norm apart
into a dozen operations. Here the first is left out, sums are taken in place, and memory is laid
out channels last, where a CPU's kernels are faster. Values are those of torch up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from gifcore import positions
from gifcore.convolution import channels_last, viewed


class DualNumbers(TorchFunctionMode):
    """While it is on, at a dual level without gradients, these functions of dual tensors are ours.

    Anything else passes through.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],  # noqa: ARG002
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.conv2d:
            return _conv2d(*args, **kwargs)
        if func is F.batch_norm:
            return _batch_norm(*args, **kwargs)
        if func is Tensor.view:
            return viewed(*args, **kwargs)
        return func(*args, **kwargs)


def _conv2d(
    input: Tensor,  # noqa: A002  # torch's names: callers may use them
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    if input.dim() != 4 or input.device.type != "cpu":
        return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
    (x, dx), (w, dw), (b, db) = _parts(input), _parts(weight), _parts(bias)
    few = _few(x, w, stride, padding, dilation, groups)

    def convolved(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        x, w = channels_last(x), channels_last(w)
        if not few:
            return torch.conv2d(x, w, b, stride, padding, dilation, groups)
        y = positions.output(x, w, _pair(stride), _pair(padding))
        return y if b is None else y.add_(b.view(-1, 1, 1))

    y, dy = convolved(x, w, b), None
    if dw is not None:
        dy = convolved(x, dw, db)
    if dx is not None:
        along_x = convolved(dx, w, None if dw is not None else db)
        dy = along_x if dy is None else dy.add_(along_x)
    return y if dy is None else forward_ad.make_dual(y, dy)


def _few(
    x: Tensor,
    w: Tensor,
    stride: int | Sequence[int],
    padding: int | str | Sequence[int],
    dilation: int | Sequence[int],
    groups: int,
) -> bool:
    """Are the output positions so few that `positions` beats the usual kernels?"""
    if isinstance(padding, str):
        return False
    sizes = [
        (size + 2 * pad - kernel) // step + 1
        for size, pad, kernel, step in zip(
            x.shape[2:], _pair(padding), w.shape[2:], _pair(stride), strict=True
        )
    ]
    return positions.suits(sizes, _pair(dilation), groups)


def _pair(value: Any) -> list[int]:
    pair = [value] if isinstance(value, int) else list(value)
    return pair * 2 if len(pair) == 1 else pair


def _batch_norm(
    input: Tensor,  # noqa: A002
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    (x, dx), (w, dw), (b, db) = _parts(input), _parts(weight), _parts(bias)
    if training or running_mean is None or running_var is None or dw is None or db is None:
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    y = F.batch_norm(x, running_mean, running_var, w, b, False, momentum, eps)
    dy = F.batch_norm(x, running_mean, running_var, dw, db, False, momentum, eps)
    if dx is not None:
        scale = w * torch.rsqrt(running_var + eps)
        dy.addcmul_(dx, scale.view(-1, *[1] * (x.dim() - 2)))
    return forward_ad.make_dual(y, dy)


def _parts(dual: Tensor | None) -> tuple[Any, Tensor | None]:
    """Return the value and its derivative, None where it is 0 or there is no tensor."""
    if dual is None:
        return None, None
    found = forward_ad.unpack_dual(dual)
    return found.primal, found.tangent
