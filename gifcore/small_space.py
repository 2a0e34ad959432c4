"""A small space in which a problem keeps its form: V (p, r), V^T H V, and E as columns on J.

V has orthonormal columns, each on the selected coordinates J alone or on the others alone:
principal directions of training gradients, and of H times those, a block Krylov space.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gifcore.curvature.layers import CHUNK_MB, layers_of, sample_gradients
from gifcore.curved import Curved
from gifcore.errors import GifError
from gifcore.operators import LinearOperator
from gifcore.problem import Problem, Progress
from gifcore.solvers.many import products_of

SELECTED_SHARE = 0.4  # of the columns of V: those on J, where J is not everything
KRYLOV_SHARE = 0.5  # of the columns of V: those out of H times gradients
DRAWN = 2  # training gradients drawn for each principal direction
MOST = 128  # samples whose gradients are formed at a time
STACK = 32  # vectors multiplied at a time
VECTORS = 3.5  # of size p in memory for each column of V, at most


@dataclass(frozen=True, eq=False)
class Space:
    """V and the problem in it.

    Args:
        V: (r, p) the columns, as orthonormal rows.
        J: the selected coordinates, sorted.
        inside: numbers of the rows on J, sorted.
        H: (r, r) V^T H V, in float64.
        leak: (e, r) with leak^T leak = D^T (I - V V^T) D, D = H V on `inside`, else 0: so
            [H; leak] E has the lengths and angles of H E itself, not of its part in V.
    """

    V: Tensor
    J: Tensor
    inside: Tensor
    H: Tensor
    leak: Tensor

    @property
    def outside(self) -> Tensor:
        """Numbers of the rows off J, sorted."""
        off = torch.ones(len(self.V), dtype=torch.bool)
        off[self.inside] = False
        return off.nonzero().squeeze(1)


def small_space(
    problem: Problem,
    curved: Curved,
    J: Tensor,
    rank: int,
    *,
    solving: bool,
    seed: int,
    progress: Progress,
) -> Space:
    """Return principal directions of drawn gradients, then of H times those, and so on.

    Where nothing solves with H they are all of gradients, and H is left 0.
    """
    p = problem.space.size
    first = rank if not solving else max(1, rank - int(KRYLOV_SHARE * rank))
    generator = torch.Generator().manual_seed(seed)
    drawn = problem.positions[torch.randperm(problem.n, generator=generator)[: DRAWN * first]]
    gradients = problem.theta.new_empty(len(drawn), p)
    for number, i in enumerate(drawn):
        gradients[number] = problem.data_gradient(i[None])
        progress(number + 1, len(drawn), "gradients of the sketch")
    V, inside = problem.theta.new_zeros(rank, p), torch.zeros(rank, dtype=torch.bool)
    H = torch.zeros(rank, rank, dtype=torch.float64)
    moved = problem.theta.new_zeros(0, p)  # H times the columns on J
    block, lengths, on = _principal(gradients, V[:0], J, first, 0)
    del gradients
    done = 0
    while len(block):
        new = slice(done, done + len(block))
        V[new], inside[done : done + on] = block, True
        done += len(block)
        if not solving:
            break
        products = _products(curved.H, block, progress, rank)
        H[new, :done] = (products @ V[:done].T).double()
        moved = torch.cat([moved, products[:on]])
        products *= lengths[:, None]
        block, lengths, on = _principal(products, V[:done], J, rank - done, int(inside.sum()))
        del products
    lower = H[:done, :done].tril()
    numbers = inside[:done].nonzero().squeeze(1)
    return _closed(V[:done], J, numbers, lower + lower.tril(-1).T, moved)


def _closed(V: Tensor, J: Tensor, inside: Tensor, H: Tensor, moved: Tensor) -> Space:
    """Return the space with its leak, from the Gram matrix of what H moves out of V."""
    leak = H.new_zeros(len(moved), len(V))
    if len(moved):
        out = moved - (moved @ V.T) @ V
        values, vectors = torch.linalg.eigh((out @ out.T).double())
        leak[:, inside] = values.clamp(min=0).sqrt()[:, None] * vectors.T
    return Space(V, J, inside, H, leak)


def _principal(
    rows: Tensor, known: Tensor, J: Tensor, count: int, inside: int
) -> tuple[Tensor, Tensor, int]:
    """Return principal directions of rows (m, p) on J and then off J, without those in `known`.

    Beside them the root of the mean square of the rows along each, and how many are on J. The rows
    are overwritten.

    Args:
        known: (d, p) orthonormal, `inside` of them on J.
        count: how many are wanted; `SELECTED_SHARE` of them on J as far as there is room.
    """
    m, p = rows.shape
    for _ in range(2):  # twice, for what rounding leaves behind
        rows -= (rows @ known.T) @ known
    left_on, left_off = len(J) - inside, p - len(J) - (len(known) - inside)
    on = min(left_on, max(round(SELECTED_SHARE * count), count - left_off))
    own = rows[:, J]
    rows[:, J] = 0
    found, lengths = [], []
    for part, wanted in ((own, on), (rows, min(left_off, count - on))):
        values, vectors = torch.linalg.eigh((part @ part.T).double())
        values, vectors = values.flip(0)[:wanted], vectors.flip(1)[:, :wanted]
        rounding = m * torch.finfo(part.dtype).eps * float(values[:1].sum())
        keep = values > max(rounding, 0.0)
        directions = (vectors[:, keep] / values[keep].sqrt()).to(part).T @ part
        found.append(torch.linalg.qr(directions.T)[0].T)
        lengths.append((values[keep] / m).sqrt().to(part))
    first = len(found[0])
    block = rows.new_zeros(first + len(found[1]), p)
    block[first:] = found[1]
    block[first:, J] = 0  # exactly, without the rounding of the factorisation
    block[:first, J] = found[0]
    return block, torch.cat(lengths), first


def _products(H: LinearOperator, rows: Tensor, progress: Progress, total: int) -> Tensor:
    """Return H v for each row v, (m, p).

    Raises:
        GifError: a product is not finite.
    """
    found = torch.empty_like(rows)
    for start in range(0, len(rows), STACK):
        part = slice(start, start + STACK)
        found[part] = products_of(H, rows[part].T).T
        progress(min(start + STACK, len(rows)), total, "products of the sketch")
    if not bool(torch.isfinite(found).all()):
        raise GifError("A product with the curvature is NaN or infinite; raise `damping`.")
    return found


# --- gradients in it ------------------------------------------------------------------------------


def coordinates(problem: Problem, space: Space, progress: Progress, note: str) -> Tensor:
    """Return V^T grad l_i of every training sample, (n, r).

    Layer by layer the gradients of a few samples are formed, r p operations a sample, instead of
    one more call of every layer a column: of a convolution that is one call an output position.
    Columns on J are multiplied with the gradients on J alone.

    Cost: a forward and a backward pass, single gradients, and at most r p operations a sample.
    Memory: CHUNK_MB of gradients, and V once more.
    """
    layers = layers_of(problem, problem.positions)
    parts = [_parts(space, layer.indices) for layer in layers]
    largest = max(len(layer.indices) for layer in layers) * space.V.element_size()
    size = max(1, min(MOST, int(CHUNK_MB * 2**20) // largest))
    found = space.V.new_empty(problem.n, len(space.V))
    done = 0
    for batch in problem.batches(problem.positions, size):
        here = slice(done, min(done + size, problem.n))
        found[here] = 0
        for number, gradients in sample_gradients(problem, layers, batch):
            formed = gradients.formed()
            for rows, at, columns in parts[number]:
                found[here, rows] += (formed if at is None else formed[:, at]) @ columns
        done = here.stop
        progress(done, problem.n, note)
    return found


Part = tuple[Tensor, Tensor | None, Tensor]  # rows of V, where in the layer, V there


def _parts(space: Space, indices: Tensor) -> list[Part]:
    """Return V on a layer: the rows off J whole, those on J at the layer's coordinates in J."""
    on = torch.isin(indices, space.J)
    parts: list[Part] = []
    if bool(on.any()) and len(space.inside):
        at = None if bool(on.all()) else on.nonzero().squeeze(1)
        there = indices if at is None else indices[at]
        parts.append((space.inside, at, space.V[space.inside[:, None], there].T.contiguous()))
    outside = space.outside
    if not bool(on.all()) and len(outside):
        parts.append((outside, None, space.V[outside[:, None], indices].T.contiguous()))
    return parts
