"""What products of per-sample gradients cost, counted in operations from the shapes of layers.

The unit is one multiply-add of a large matrix product. The weights of slower work are those of one
CPU in float32; the choice by count is the same on every machine, so that equal runs give equal
numbers. A call of a layer sees T positions a sample, its weight is a matrix (rows, columns), and
its part of the gradient is G_i = sum_t s_it a_it^T.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ELEMENT = 8.0  # one number read or written by itself, not within a matrix product
FORMED = 16.0  # one number of G_i, formed from its outer products and read again
SINGLE = 8.0  # forward passes that gradients formed for single samples side by side cost
TRIALS = 2  # of each batch size; the first may have to warm up
NEAR = 1.1  # a way that keeps activations must save this much more than it costs


@dataclass(frozen=True)
class Shape:
    """One call of a layer, of one sample.

    Args:
        positions: T, output positions or tokens.
        columns: of one group, where the layer has groups.
        factors: are s and a at hand, as in linear layers and convolutions?
        gathered: must a be gathered first, as in convolutions?
    """

    positions: int
    rows: int
    columns: int
    factors: bool = True
    gathered: bool = False

    @property
    def products(self) -> float:
        """Multiply-adds of the call itself, T rows columns."""
        return float(self.positions * self.rows * self.columns)

    @property
    def forward(self) -> float:
        """Operations of the call, with its outputs written."""
        return self.products + ELEMENT * self.positions * self.rows


def _called(shape: Shape, m: int) -> float:
    return m * (shape.forward + ELEMENT * shape.positions * shape.rows)


def _formed(shape: Shape, m: int) -> float:
    entries = shape.rows * shape.columns
    return _gathered(shape) + shape.products + (FORMED + m) * entries


def _factored(shape: Shape, m: int) -> float:
    between = shape.positions * min(shape.rows, shape.columns)
    return _gathered(shape) + m * (shape.products + ELEMENT * between)


def _gathered(shape: Shape) -> float:
    return ELEMENT * shape.positions * shape.columns if shape.gathered else 0.0


# how m directions meet one call of a layer -> operations a sample
KERNELS: dict[str, Callable[[Shape, int], float]] = {
    "called": _called,  # the layer itself once for each direction, and its output against s
    "formed": _formed,  # G_i, some rows at a time, against all directions in one matrix product
    "factored": _factored,  # all directions against the one factor, the result against the other
}


def kernel_of(shape: Shape, m: int) -> str:
    """Return the cheapest kernel for m directions, a name of KERNELS."""
    names = KERNELS if shape.factors else ("called",)
    return min(names, key=lambda name: KERNELS[name](shape, m))


def operations(shapes: Sequence[Shape], m: int) -> dict[str, float]:
    """Return the operations a sample of each way for m directions.

    Forward mode takes the output, its derivative by the input and that by the weight, for every
    direction; layer by layer there is one forward and one backward pass for all of them.
    """
    forward = sum(shape.forward for shape in shapes)
    contracted = sum(KERNELS[kernel_of(shape, m)](shape, m) for shape in shapes)
    return {"forward mode": 3.0 * m * forward, "layer by layer": 2.0 * forward + contracted}


def in_chunks(forward: float, p: int, m: int) -> dict[str, float]:
    """Return the operations a sample where only the cost of a forward pass is known.

    Args:
        forward: of one sample.
        p: number of parameters.
    """
    formed = SINGLE * forward + (FORMED + m) * p
    return {"forward mode": 3.0 * m * forward, "gradients in chunks": formed}


@dataclass(frozen=True)
class Choice:
    """How products with m directions are taken, and why.

    Args:
        way: a name of `gradient_products.WAYS`.
        directions: m.
        operations: multiply-adds a sample of each way that agreed, as counted; empty where the
            layers' shapes are not known.
        seconds: of one direction on the batch it was tried on, by way; measured.
    """

    way: str
    directions: int
    operations: Mapping[str, float]
    seconds: Mapping[str, float]

    def card(self) -> dict[str, Any]:
        """Return what a record says of it."""
        return {
            "way": self.way,
            "directions": self.directions,
            "operations_per_sample": {way: round(cost) for way, cost in self.operations.items()},
            "seconds_of_one_direction": dict(self.seconds),
        }


def cheapest(counted: Mapping[str, float]) -> str:
    """Return the way of fewest operations; forward mode where it is near, since it keeps nothing.

    >>> cheapest({"forward mode": 3.0, "layer by layer": 2.9})
    'forward mode'
    """
    costs = {way: NEAR * cost for way, cost in counted.items()}
    if "forward mode" in costs:
        costs["forward mode"] /= NEAR
    return min(costs, key=lambda way: costs[way])


class Sizes:
    """The batch size that is fastest: each is tried on batches that count, then the best stays.

    >>> sizes = Sizes((64, 128))
    >>> for _ in range(4):
    ...     sizes.took(sizes.next, 1.0)
    >>> sizes.next
    128
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self._trials = list(sizes) * TRIALS if len(sizes) > 1 else []
        self._pace = dict.fromkeys(sizes, float("inf"))  # least seconds a sample

    @property
    def next(self) -> int:
        """Size of the batch that comes now."""
        return self._trials[0] if self._trials else min(self._pace, key=lambda n: self._pace[n])

    def took(self, samples: int, seconds: float) -> None:
        """Say how long that batch took; the last one of all may be smaller."""
        if self._trials:
            size = self._trials.pop(0)
            self._pace[size] = min(self._pace[size], seconds / samples)
