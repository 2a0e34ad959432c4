"""Convolutions with few output positions: one matrix product a position and kernel row.

Where a feature map is small, much of what a kernel covers is padding. Position by position, only
the inputs that are really seen take part, and with channels last each product reads and writes
its operands where they are. Plain convolutions alone: one group, no dilation.

    x (b, i, h, w)    w (o, i, kh, kw)    g (b, o, h', w')    all with channels last in memory
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

FEW = 4  # output positions up to which this beats the usual kernels on a CPU


def suits(sizes: Sequence[int], dilation: Sequence[int], groups: int) -> bool:
    """Is a convolution with an output of these sizes (h', w') one for this module?"""
    return sizes[0] * sizes[1] <= FEW and groups == 1 and max(dilation) == 1


def output(x: Tensor, w: Tensor, stride: Sequence[int], padding: Sequence[int]) -> Tensor:
    """Return w * x, (b, o, h', w')."""
    sizes = [
        (size + 2 * pad - kernel) // step + 1
        for size, pad, kernel, step in zip(x.shape[2:], padding, w.shape[2:], stride, strict=True)
    ]
    y = x.new_zeros(len(x), *sizes, len(w))
    for at, of_x, of_w in _seen(x.permute(0, 2, 3, 1), w, sizes, stride, padding):
        y[:, at[0], at[1]].addmm_(of_x, of_w.T)
    return y.permute(0, 3, 1, 2)


def input_gradient(
    g: Tensor, w: Tensor, x: Tensor, stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    """Return the derivative of <g, w * x> by x, in the shape of x."""
    found = x.new_zeros(len(x), *x.shape[2:], x.shape[1])
    for at, of_x, of_w in _seen(found, w, g.shape[2:], stride, padding):
        of_x.addmm_(g[:, :, at[0], at[1]], of_w)
    return found.permute(0, 3, 1, 2)


def weight_gradient(
    g: Tensor, x: Tensor, w: Tensor, stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    """Return the derivative of <g, w * x> by w, in the shape of w."""
    found = torch.zeros_like(w, memory_format=torch.channels_last)
    last = x.permute(0, 2, 3, 1)
    for at, of_x, of_w in _seen(last, found, g.shape[2:], stride, padding):
        of_w.addmm_(g[:, :, at[0], at[1]].T, of_x)
    return found


def _seen(
    x: Tensor, w: Tensor, sizes: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> Iterator[tuple[tuple[int, int], Tensor, Tensor]]:
    """Yield (position, what one kernel row sees there, that part of the row): views of x and w.

    Args:
        x: (b, h, w, i).

    Yields:
        (p, q), (b, columns i), (o, columns i).
    """
    w = w.permute(0, 2, 3, 1)
    down, across = (
        [_span(p * step - pad, kernel, size) for p in range(count)]
        for count, step, pad, kernel, size in zip(
            sizes, stride, padding, w.shape[1:3], x.shape[1:3], strict=True
        )
    )
    for p, (first_row, rows) in enumerate(down):
        for q, (first, columns) in enumerate(across):
            for row in rows:
                of_x = x[:, first_row + row, first + columns.start : first + columns.stop]
                of_w = w[:, row, columns.start : columns.stop]
                yield (p, q), _flat(of_x), _flat(of_w)


def _span(first: int, kernel: int, size: int) -> tuple[int, range]:
    """Return where a kernel starts, and which of its places lie inside the input."""
    return first, range(max(0, -first), max(0, min(kernel, size - first), -first))


def _flat(part: Tensor) -> Tensor:
    """Return (b, columns, i) as (b, columns i): a view, because the columns lie side by side."""
    return part.view(len(part), -1)
