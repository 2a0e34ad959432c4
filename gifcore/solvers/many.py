"""Products with many vectors at once, and solves that share them.

An operator that can take many vectors together has, beside `apply`, the methods `apply_many` and
`apply_transposed_many`, (n, m) -> (rows, m); the others are applied column by column.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from gifcore.errors import GifError
from gifcore.operators import Embedding, LinearOperator, Product, Scaled, Sum, Transposed
from gifcore.problem import Progress

T = TypeVar("T")
Request = tuple[LinearOperator, Tensor]  # a product that a run waits for
Run = Generator[Request, Tensor, T]  # a solve that asks for its products


@runtime_checkable
class Many(Protocol):
    """An operator that takes many vectors at once."""

    def apply_many(self, vectors: Tensor) -> Tensor: ...  # (n, m) -> (rows, m)

    def apply_transposed_many(self, vectors: Tensor) -> Tensor: ...  # (rows, m) -> (n, m)


@runtime_checkable
class ManyAt(Protocol):
    """An operator that takes many vectors at once and can leave the rest of A^T V out."""

    def transposed_at_many(self, vectors: Tensor, indices: Tensor) -> Tensor: ...  # (k, m)


def products_of(A: LinearOperator, vectors: Tensor, *, transposed: bool = False) -> Tensor:
    """Return A V, or A^T V: through sums and products down to operators that take many vectors."""
    if isinstance(A, Many):
        return A.apply_transposed_many(vectors) if transposed else A.apply_many(vectors)
    if isinstance(A, Transposed):
        return products_of(A.operator, vectors, transposed=not transposed)
    if isinstance(A, Scaled):
        return A.factor * products_of(A.operator, vectors, transposed=transposed)
    if isinstance(A, Sum):
        left = products_of(A.left, vectors, transposed=transposed)
        return left + products_of(A.right, vectors, transposed=transposed)
    if isinstance(A, Product) and transposed and isinstance(A.right, Embedding):
        return parts_of(A.left, vectors, A.right.indices)
    if isinstance(A, Product):
        first, then = (A.left, A.right) if transposed else (A.right, A.left)
        return products_of(
            then, products_of(first, vectors, transposed=transposed), transposed=transposed
        )
    apply = A.apply_transposed if transposed else A.apply
    return torch.stack([apply(vector) for vector in vectors.T]).T


def parts_of(A: LinearOperator, vectors: Tensor, indices: Tensor) -> Tensor:
    """Return (A^T V)[J], (k, m), with as little of the rest as A allows."""
    if isinstance(A, ManyAt):
        return A.transposed_at_many(vectors, indices)
    if isinstance(A, Scaled):
        return A.factor * parts_of(A.operator, vectors, indices)
    if isinstance(A, Sum):
        return parts_of(A.left, vectors, indices) + parts_of(A.right, vectors, indices)
    if isinstance(A, Many | Product | Transposed):
        return products_of(A, vectors, transposed=True)[indices]
    return torch.stack([A.transposed_at(vector, indices) for vector in vectors.T]).T


def shares(A: LinearOperator) -> bool:
    """Does A make something for a product, such as a graph, that many vectors at once share?

    Then its attribute `shares` says so: now, since what is kept may change with every product.
    """
    if isinstance(A, Sum):
        return shares(A.left) or shares(A.right)
    if isinstance(A, Scaled):
        return shares(A.operator)
    return bool(getattr(A, "shares", False))


def alone(run: Run[T]) -> T:
    """Drive one run."""
    return together([run])[0]


def columns_of(b: Tensor) -> list[Tensor]:
    """Return the right-hand sides, one a column.

    Raises:
        GifError: not a matrix, or one without columns.
    """
    if b.dim() != 2 or b.shape[1] == 0:
        raise GifError(
            f"Many right-hand sides are the columns of a matrix, not of shape {tuple(b.shape)}."
        )
    return [column.clone() for column in b.T]


def furthest(progress: Progress) -> Progress:
    """Return a callback that reports an iteration once, though many columns go through it."""
    reached = -1

    def report(done: int, total: int, note: str) -> None:
        nonlocal reached
        if done > reached:
            reached = done
            progress(done, total, note)

    return report


def together(runs: Sequence[Run[T]]) -> list[T]:
    """Drive runs side by side; products they ask of the same operator are made at once.

    A run that has ended asks for nothing more; the others go on without it.
    """
    ended: dict[int, T] = {}
    wanted: dict[int, Request] = {}

    def advance(number: int, answer: Tensor | None) -> None:
        try:
            wanted[number] = runs[number].send(answer)  # type: ignore[arg-type]
        except StopIteration as end:
            ended[number] = end.value
            wanted.pop(number, None)

    for number in range(len(runs)):
        advance(number, None)
    while wanted:
        operator = next(iter(wanted.values()))[0]
        group = [number for number, (other, _) in wanted.items() if other is operator]
        vectors = [wanted[number][1] for number in group]
        if len(group) == 1:
            answers = [operator @ vectors[0]]
        else:
            answers = list(products_of(operator, torch.stack(vectors).T).T)  # columns contiguous
        for number, answer in zip(group, answers, strict=True):
            advance(number, answer)
    return [ended[number] for number in range(len(runs))]
