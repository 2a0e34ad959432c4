"""Products s . grad l_i of every training sample with one or many vectors, in a stream.

No gradient of any sample is kept; memory is that of one batch, whatever n is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils.flop_counter import FlopCounterMode

from gifcore.contraction import batch_products, contractible
from gifcore.curvature.batches import load_forward_mode
from gifcore.curvature.layers import CHUNK_MB, Layer, layers_of, sample_gradients
from gifcore.dual import DualNumbers
from gifcore.errors import GifError
from gifcore.parameters import tangents
from gifcore.problem import Problem, Progress, engine_mode, fetch, silent
from gifcore.ways import Choice, Shape, Sizes, cheapest, in_chunks, operations

SIZES = (64, 128, 256)  # of batches, tried in turn
LARGEST = 512  # tried too where no activations are kept
CHUNKED = 64  # samples whose gradients are formed at a time, at most


@dataclass(frozen=True, eq=False)
class Directions:
    """Vectors s, (m, p), and what the ways of taking products read of them, made once."""

    problem: Problem
    stack: Tensor

    def __len__(self) -> int:
        return len(self.stack)

    @property
    def first(self) -> Directions:
        """The first of them alone."""
        return Directions(self.problem, self.stack[:1])

    @cached_property
    def tangents(self) -> list[dict[str, Tensor]]:
        """By parameter name, without what reverse mode leaves out."""
        model, space = self.problem.model, self.problem.space
        return [tangents(model, space, vector) for vector in self.stack]

    @cached_property
    def stacks(self) -> dict[str, Tensor]:
        """The tangents of all of them by parameter name, (m, *shape): views, where they can be."""
        model, space = self.problem.model, self.problem.space
        reached = tangents(model, space, torch.ones_like(self.stack[0]))
        return {
            block.name: part if bool(reached[block.name].all()) else part * reached[block.name]
            for block in space.blocks
            for part in (self.stack[:, block.slice].view(-1, *block.shape),)
        }

    @cached_property
    def layers(self) -> tuple[list[Layer], list[Tensor]]:
        """The model's layers, and all of them on each, (size, m)."""
        layers = layers_of(self.problem, self.problem.positions)
        return layers, [self.stack[:, layer.indices].T for layer in layers]


def gradient_products(
    problem: Problem,
    s: Tensor,
    *,
    batch_size: int | None = None,
    progress: Progress = silent,
    way: str | None = None,
) -> Tensor:
    """Return s . grad l_i for all n training samples: no per-sample gradient is formed.

    Args:
        s: one vector (p,) or a stack of them (m, p).
        batch_size: None: the fastest of some sizes, measured on the first batches; where equal runs
            must give equal bits, name one.
        way: a name of WAYS; None: what suits.

    Returns:
        (n,) or (m, n).

    One vector goes by forward mode, about three forward passes. A stack goes layer by layer
    (`contraction`) if every layer allows it and both ways agree on the first batch: two passes and,
    in a layer that sees many positions, much less than one more for each vector; else by gradients
    formed for a few samples at a time, or by forward mode, 3 m passes (`choose`). Where all of that
    fails, by single gradients, as slow as they are. Memory: one batch.
    """
    parts = product_batches(problem, s, batch_size=batch_size, progress=progress, way=way)
    found = torch.cat(list(parts), dim=1)
    return found if s.dim() == 2 else found[0]


def product_batches(
    problem: Problem,
    s: Tensor,
    *,
    batch_size: int | None = None,
    progress: Progress = silent,
    way: str | None = None,
) -> Iterator[Tensor]:
    """Yield `gradient_products` batch by batch in the order of the positions, (m, b) each."""
    stack = s if s.dim() == 2 else s[None]
    if stack.shape[1] != problem.space.size:
        raise GifError(f"s has shape {tuple(s.shape)}; give ({problem.space.size},) or a stack.")
    directions = Directions(problem, stack)
    first = problem.positions[: batch_size or SIZES[0]]
    way = way or way_of(problem, directions, first)
    batch_of = WAYS[way]
    tried = (*SIZES, LARGEST) if way == "forward mode" else SIZES
    sizes = Sizes(tried if batch_size is None else (batch_size,))
    done = 0
    while done < problem.n:
        part = problem.positions[done : done + sizes.next]
        started = time.perf_counter()
        products = batch_of(problem, directions, part)
        sizes.took(len(part), time.perf_counter() - started)
        yield products
        done += len(part)
        progress(done, problem.n, "scores")


def way_of(problem: Problem, directions: Directions, part: Tensor) -> str:
    """Return how the products are best taken, a name of WAYS; see `choose`."""
    return choose(problem, directions, part).way


def choose(
    problem: Problem, directions: Directions, part: Tensor, count: int | None = None
) -> Choice:
    """Return how products with many directions are best taken; tried on one batch.

    A way is open if it agrees with forward mode on the first direction: what a model does to a
    layer's weight outside that layer shows as a difference. Of those that are open the one of
    fewest counted operations is taken (`ways`); one direction goes by forward mode. Where forward
    mode fails, the others are held against single gradients of a few samples.

    Args:
        directions: some of them are enough.
        count: how many there will be, m; None: those given.
    """
    m, first = count or len(directions), directions.first
    limit = 1e-3 if problem.theta.dtype == torch.float32 else 1e-8
    started = time.perf_counter()
    expected = _checked_forward_mode(problem, first, part, limit)
    seconds = {"forward mode": time.perf_counter() - started}
    if expected is None:
        part, seconds = part[:4], {}
        expected = _by_samples(problem, first, part)
    elif m == 1:
        return Choice("forward mode", m, {}, seconds)

    def agrees(way: str, found_of: Callable[[], Tensor]) -> bool:
        started = time.perf_counter()
        try:
            found = found_of()
        except RuntimeError:
            return False
        seconds[way] = time.perf_counter() - started
        return bool((found - expected).norm() <= limit * expected.norm())

    counted: dict[str, float] = {}
    if contractible(problem.model):
        shapes: list[Shape] = []

        def layers() -> Tensor:
            found, of_calls = batch_products(problem, first.stacks, part, count=m)
            shapes.extend(of_calls)
            return found

        if agrees("layer by layer", layers):
            counted = operations(shapes, m)
    if not counted:
        counted = in_chunks(_forward_operations(problem, part[:4]), problem.space.size, m)
        chunked = cheapest(counted) == "gradients in chunks" or "forward mode" not in seconds
        if not chunked or not agrees("gradients in chunks", lambda: _chunked(problem, first, part)):
            del counted["gradients in chunks"]
    if "forward mode" not in seconds:
        del counted["forward mode"]
    return Choice(cheapest(counted) if counted else "single gradients", m, counted, seconds)


def _forward_operations(problem: Problem, part: Tensor) -> float:
    """Return the multiply-adds of a forward pass, of one sample."""
    counter = FlopCounterMode(display=False)
    with engine_mode(problem.model), torch.no_grad(), counter:
        parameters = problem.space.unflatten(problem.theta)
        problem.outputs(parameters, fetch(problem.train, part, problem.device))
    return counter.get_total_flops() / (2 * len(part))


def _checked_forward_mode(
    problem: Problem, directions: Directions, part: Tensor, limit: float
) -> Tensor | None:
    """Return the products by forward mode; None where a layer has none, or one that is wrong.

    Their sum is held against the gradient of the batch.
    """
    try:
        found = _by_forward_mode(problem, directions, part)
    except RuntimeError:
        return None
    leaves = problem.leaves()
    with engine_mode(problem.model):
        losses = problem.losses(leaves, fetch(problem.train, part, problem.device))
        gradient = problem.flat_gradient(losses.sum(), leaves)
    true = gradient @ directions.stack[0]
    return found if bool((found.sum() - true).abs() <= limit * found.abs().sum()) else None


def _by_forward_mode(problem: Problem, directions: Directions, part: Tensor) -> Tensor:
    """Return the derivative of every loss of a batch along each direction, (m, b)."""
    return torch.stack(
        [_forward_mode(problem, direction, part) for direction in directions.tangents]
    )


def _by_layer(problem: Problem, directions: Directions, part: Tensor) -> Tensor:
    """Return the products taken layer by layer (`contraction`), (m, b)."""
    return batch_products(problem, directions.stacks, part)[0]


def _chunked(problem: Problem, directions: Directions, part: Tensor) -> Tensor:
    """Return the products of gradients formed for some samples at a time, (m, b)."""
    layers, columns = directions.layers
    largest = max(len(layer.indices) for layer in layers) * problem.theta.element_size()
    size = max(1, min(CHUNKED, int(CHUNK_MB * 2**20) // largest))
    rows: list[Tensor] = []
    for batch in problem.batches(part, size):
        of_layers = sample_gradients(problem, layers, batch)
        products = [gradients.formed() @ columns[number] for number, gradients in of_layers]
        rows.append(torch.stack(products).sum(dim=0))
    return torch.cat(rows).T


def _by_samples(problem: Problem, directions: Directions, part: Tensor) -> Tensor:
    """Return the products of every sample's own gradient, formed one at a time, (m, b)."""
    stack = directions.stack
    leaves, columns = problem.leaves(), []
    with engine_mode(problem.model):
        for one in part.split(1):
            losses = problem.losses(leaves, fetch(problem.train, one, problem.device))
            columns.append(stack @ problem.flat_gradient(losses.sum(), leaves))
    return torch.stack(columns, dim=1)


# name -> products of a batch with all directions
WAYS: dict[str, Callable[[Problem, Directions, Tensor], Tensor]] = {
    "forward mode": _by_forward_mode,
    "layer by layer": _by_layer,
    "gradients in chunks": _chunked,
    "single gradients": _by_samples,
}


def _forward_mode(problem: Problem, direction: dict[str, Tensor], part: Tensor) -> Tensor:
    """Return the derivative of every loss of a batch along one direction, (b,)."""
    # cloned: forward mode gives a tangent the room of its primal's storage, theta's if it is a view
    primals = {name: x.clone() for name, x in problem.space.unflatten(problem.theta).items()}
    load_forward_mode()
    with engine_mode(problem.model), torch.no_grad(), forward_ad.dual_level(), DualNumbers():
        duals = {
            name: forward_ad.make_dual(primal, direction[name]) for name, primal in primals.items()
        }
        batch = fetch(problem.train, part, problem.device)
        losses = forward_ad.unpack_dual(problem.losses(duals, batch))
    return torch.zeros_like(losses.primal) if losses.tangent is None else losses.tangent
