"""Blocks with Kronecker eigenvectors, and what is left of them on some of their coordinates.

A block acts on a matrix V (rows x columns) as

    B V = Q_S (L o (Q_S^T V Q_A)) Q_A^T,        L o X the product entry by entry,

Q_S and Q_A orthogonal, L the eigenvalues. The eigenvalues need not be a product themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

CUT_NUMBERS = 2**25  # numbers of the small systems of one cut block
LEFTOVER = 5000  # selected coordinates outside whole rows that are coupled densely
ROOT_LEFTOVER = 1500  # the same where eigenvectors are needed

Function = Callable[[Tensor], Tensor]  # of the eigenvalues


class Cut(Protocol):
    """A map of the selected coordinates of one block, in the order they were named."""

    def apply(self, values: Tensor) -> Tensor:
        """Return the map of x, (k_l,)."""


class Block(Protocol):
    """The curvature of one layer's parameters, as (rows, columns)."""

    @property
    def eigenvalues(self) -> Tensor:
        """(rows, columns)."""

    def apply(self, matrix: Tensor, function: Function) -> Tensor:
        """Return f(B) V."""

    def inverse(self, slots: Tensor, function: Function) -> Cut | None:
        """Return (E^T f(B) E)^-1 on these places of the flattened matrix; None: too costly."""

    def root(self, slots: Tensor, function: Function) -> Cut:
        """Return about (E^T f(B) E)^(-1/2), positive definite."""


@dataclass(frozen=True, eq=False)
class DiagonalBlock:
    """diag(L): every cut is exact."""

    eigenvalues: Tensor  # (rows, columns)

    def apply(self, matrix: Tensor, function: Function) -> Tensor:
        return function(self.eigenvalues) * matrix

    def inverse(self, slots: Tensor, function: Function) -> Cut:
        return _Entrywise(1 / function(self.eigenvalues).flatten()[slots])

    def root(self, slots: Tensor, function: Function) -> Cut:
        return _Entrywise(function(self.eigenvalues).flatten()[slots].rsqrt())


@dataclass(frozen=True, eq=False)
class KroneckerBlock:
    """B = (Q_S x Q_A) diag(L) (Q_S x Q_A)^T."""

    Q_S: Tensor  # (rows, rows)
    Q_A: Tensor  # (columns, columns)
    eigenvalues: Tensor  # (rows, columns)

    def apply(self, matrix: Tensor, function: Function) -> Tensor:
        inner = function(self.eigenvalues) * (self.Q_S.T @ matrix @ self.Q_A)
        return self.Q_S @ inner @ self.Q_A.T

    def inverse(self, slots: Tensor, function: Function) -> Cut | None:
        """Return the inverse of the cut: whole rows (or columns) and at most `LEFTOVER` more.

        On whole rows R the cut stays block diagonal in the basis Q_A: for each of its vectors j
        an |R| x |R| system, whatever the eigenvalues are. What is left over is coupled to it by
        its Schur complement.
        """
        if len(slots) == self.eigenvalues.numel():
            return _All(self, slots, lambda values: 1 / function(values))
        best, _ = self._oriented(slots)
        return _RowsAndLeftover.of(best, function) if best.affordable else None

    def root(self, slots: Tensor, function: Function) -> Cut:
        """Return about (E^T f(B) E)^(-1/2): exact on whole rows, and on what is left over.

        The coupling between the two is left out; what is too much for a dense system is scaled by
        its diagonal.
        """
        if len(slots) == self.eigenvalues.numel():
            return _All(self, slots, lambda values: function(values).rsqrt())
        pattern, turned = self._oriented(slots)
        return _roots(pattern, turned, function)

    def diagonal(self, slots: Tensor, function: Function) -> Tensor:
        """Return the diagonal of f(B) at these places."""
        inner = self.Q_S.square() @ function(self.eigenvalues) @ self.Q_A.square().T
        return inner.flatten()[slots]

    def _oriented(self, slots: Tensor) -> tuple[_Pattern, Tensor]:
        """Return the places split into whole rows and the rest, or into whole columns.

        Beside it the places in the block so turned.
        """
        rows, columns = self.eigenvalues.shape
        flipped = slots % columns * rows + slots // columns
        turned = KroneckerBlock(self.Q_A, self.Q_S, self.eigenvalues.T)
        both = (_Pattern.of(self, slots), slots), (_Pattern.of(turned, flipped), flipped)
        return min(both, key=lambda split: len(split[0].left))


@dataclass(frozen=True, eq=False)
class _Entrywise:
    factors: Tensor

    def apply(self, values: Tensor) -> Tensor:
        return self.factors * values


@dataclass(frozen=True, eq=False)
class _All:
    """f(B) on all coordinates of the block."""

    block: KroneckerBlock
    slots: Tensor
    function: Function

    def apply(self, values: Tensor) -> Tensor:
        matrix = torch.zeros_like(self.block.eigenvalues)
        matrix.view(-1)[self.slots] = values
        return self.block.apply(matrix, self.function).flatten()[self.slots]


@dataclass(frozen=True, eq=False)
class _Pattern:
    """Selected places of a block: whole rows R, and the rest D in the rows P."""

    block: KroneckerBlock
    whole: Tensor  # (R,) row numbers
    inside: Tensor  # positions among the selected of those in whole rows, row by row
    left: Tensor  # positions among the selected of the others
    partial: Tensor  # (P,) row numbers
    row: Tensor  # (D,) which of `partial`
    column: Tensor  # (D,)

    @classmethod
    def of(cls, block: KroneckerBlock, slots: Tensor) -> _Pattern:
        rows, columns = block.eigenvalues.shape
        row, column = slots // columns, slots % columns
        full = torch.bincount(row, minlength=rows) == columns
        inside = full[row].nonzero().squeeze(1)
        inside = inside[slots[inside].argsort()]
        left = (~full[row]).nonzero().squeeze(1)
        partial, where = torch.unique(row[left], return_inverse=True)
        return cls(block, full.nonzero().squeeze(1), inside, left, partial, where, column[left])

    @property
    def affordable(self) -> bool:
        columns = len(self.block.Q_A)
        systems = columns * (len(self.whole) + len(self.partial)) ** 2
        return len(self.left) <= LEFTOVER and systems <= CUT_NUMBERS

    def systems(self, rows: Tensor, others: Tensor, function: Function) -> Tensor:
        """Return the systems Q_S[rows] diag(f(L)[:, j]) Q_S[others]^T of every j, in float64."""
        Q = self.block.Q_S.double()
        weights = function(self.block.eigenvalues.double())
        scaled = Q[rows][None] * weights.T[:, None, :]  # (columns, rows, all rows)
        return scaled @ Q[others].T

    def coupled(self, systems: Tensor) -> Tensor:
        """Return sum_j Q_A[c, j] Q_A[c', j] K_j[r, r'] between all left over (r, c), (D, D)."""
        Q = self.block.Q_A.double()[self.column]
        found = Q.new_empty(len(Q), len(Q))
        members = [(self.row == r).nonzero().squeeze(1) for r in range(len(self.partial))]
        for r, mine in enumerate(members):
            for q in range(r + 1):
                theirs = members[q]
                block = (Q[mine] * systems[:, r, q]) @ Q[theirs].T
                found[mine[:, None], theirs] = block
                found[theirs[:, None], mine] = block.T
        return found

    def rotated(self, values: Tensor) -> Tensor:
        """Return values on whole rows in the basis Q_A: (columns, R, 1), in float64."""
        Q = self.block.Q_A.double()
        return (values.double().view(len(self.whole), len(Q)) @ Q).T[:, :, None]

    def back(self, rotated: Tensor) -> Tensor:
        """Return the inverse of `rotated`, flat."""
        return (rotated[:, :, 0].T @ self.block.Q_A.double().T).flatten()


@dataclass(frozen=True, eq=False)
class _RowsAndLeftover:
    """(E^T f(B) E)^-1 by elimination of the whole rows."""

    pattern: _Pattern
    whole: Tensor  # Cholesky factors of M_j = W_j[R, R], (columns, R, R)
    between: Tensor  # C_j = W_j[R, P], (columns, R, P)
    schur: Tensor  # Cholesky factor of the Schur complement, (D, D)

    @classmethod
    def of(cls, pattern: _Pattern, function: Function) -> _RowsAndLeftover:
        R, P = pattern.whole, pattern.partial
        whole = torch.linalg.cholesky(pattern.systems(R, R, function))
        between = pattern.systems(R, P, function)
        eliminated = between.mT @ torch.cholesky_solve(between, whole)
        schur = pattern.coupled(pattern.systems(P, P, function) - eliminated)
        return cls(pattern, whole, between, torch.linalg.cholesky(schur))

    def apply(self, values: Tensor) -> Tensor:
        p = self.pattern
        given = values.double()
        first = torch.cholesky_solve(p.rotated(given[p.inside]), self.whole)  # (columns, R, 1)
        seen = (self.between.mT @ first)[:, :, 0].T @ p.block.Q_A.double().T  # (P, columns)
        right = given[p.left] - seen[p.row, p.column]
        left = torch.cholesky_solve(right[:, None], self.schur)[:, 0]
        spread = given.new_zeros(len(p.partial), len(p.block.Q_A))
        spread[p.row, p.column] = left
        through = self.between @ (spread @ p.block.Q_A.double()).T[:, :, None]
        found = torch.empty_like(given)
        found[p.left] = left
        found[p.inside] = p.back(first - torch.cholesky_solve(through, self.whole))
        return found.to(values)


@dataclass(frozen=True, eq=False)
class _Parts:
    """Maps of disjoint sets of the selected coordinates, side by side."""

    parts: tuple[tuple[Tensor, Cut], ...]  # (positions among the selected, map)

    def apply(self, values: Tensor) -> Tensor:
        found = torch.empty_like(values)
        for positions, cut in self.parts:
            found[positions] = cut.apply(values[positions])
        return found


@dataclass(frozen=True, eq=False)
class _Dense:
    matrix: Tensor

    def apply(self, values: Tensor) -> Tensor:
        return (self.matrix @ values.double()).to(values)


@dataclass(frozen=True, eq=False)
class _InRotatedRows:
    """One symmetric map of the whole rows for each vector of the basis Q_A."""

    pattern: _Pattern
    maps: Tensor  # (columns, R, R)

    def apply(self, values: Tensor) -> Tensor:
        return self.pattern.back(self.maps @ self.pattern.rotated(values)).to(values)


def _roots(pattern: _Pattern, slots: Tensor, function: Function) -> _Parts:
    """Return the inverse square roots of whole rows and of what is left over."""
    columns, R, P = len(pattern.block.Q_A), pattern.whole, pattern.partial
    diagonal = pattern.block.diagonal(slots, function).rsqrt()
    whole: Cut = _Entrywise(diagonal[pattern.inside])
    left: Cut = _Entrywise(diagonal[pattern.left])
    if columns * len(R) ** 2 <= CUT_NUMBERS:
        whole = _InRotatedRows(pattern, _inverse_root(pattern.systems(R, R, function)))
    if len(pattern.left) <= ROOT_LEFTOVER and columns * len(P) ** 2 <= CUT_NUMBERS:
        left = _Dense(_inverse_root(pattern.coupled(pattern.systems(P, P, function))))
    return _Parts(((pattern.inside, whole), (pattern.left, left)))


def _inverse_root(matrix: Tensor) -> Tensor:
    """Return M^(-1/2) of symmetric positive definite matrices, up to rounding."""
    values, vectors = torch.linalg.eigh(matrix)
    floor = torch.finfo(values.dtype).eps * values[..., -1:].clamp_min(0)
    scaled = vectors * values.maximum(floor)[..., None, :].rsqrt()
    return scaled @ vectors.mT
