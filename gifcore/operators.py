"""Linear operators and their algebra: `H @ E`, `A.T`, `H + damping * I`.

Every operator maps vectors to vectors; `A @ v` applies it, `A @ B` composes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gifcore.errors import GifError


class LinearOperator(ABC):
    """A real linear map R^n -> R^m that is known by its products. Interface only."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """(m, n)."""

    @abstractmethod
    def apply(self, vector: Tensor) -> Tensor:  # (n,) -> (m,)
        """Return A v."""

    @abstractmethod
    def apply_transposed(self, vector: Tensor) -> Tensor:  # (m,) -> (n,)
        """Return A^T v."""

    def transposed_at(self, vector: Tensor, indices: Tensor) -> Tensor:  # (m,) -> (k,)
        """Return (A^T v)[J]; overridden where the rest of A^T v can be left out."""
        return self.apply_transposed(vector)[indices]

    @property
    def T(self) -> LinearOperator:  # noqa: N802
        return Transposed(self)

    def __matmul__(self, other: Any) -> Any:
        if isinstance(other, LinearOperator):
            return Product(self, other)
        if other.shape != (self.shape[1],):
            raise GifError(
                f"An operator of shape {self.shape} cannot take a vector of {tuple(other.shape)}."
            )
        return self.apply(other)

    def __add__(self, other: LinearOperator) -> LinearOperator:
        return Sum(self, other)

    def __rmul__(self, factor: float) -> LinearOperator:
        return Scaled(factor, self)

    def dense(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """Return the matrix (m, n) by n products; for tests and tiny problems."""
        identity = torch.eye(self.shape[1], dtype=dtype)
        return torch.stack([self.apply(column) for column in identity], dim=1)


@dataclass(frozen=True, eq=False)
class Matrix(LinearOperator):
    """A dense matrix (m, n) as an operator."""

    matrix: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        return self.matrix.shape[0], self.matrix.shape[1]

    def apply(self, vector: Tensor) -> Tensor:
        return self.matrix @ vector

    def apply_transposed(self, vector: Tensor) -> Tensor:
        return self.matrix.T @ vector


@dataclass(frozen=True, eq=False)
class Identity(LinearOperator):
    """I in R^n."""

    size: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.size, self.size

    def apply(self, vector: Tensor) -> Tensor:
        return vector

    apply_transposed = apply


@dataclass(frozen=True, eq=False)
class Diagonal(LinearOperator):
    """diag(d) in R^n."""

    diagonal: Tensor  # (n,)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.diagonal), len(self.diagonal)

    def apply(self, vector: Tensor) -> Tensor:
        return self.diagonal * vector

    apply_transposed = apply


@dataclass(frozen=True, eq=False)
class Embedding(LinearOperator):
    """E (p x k): puts k numbers on the selected coordinates; `E^T x = x[J]`."""

    indices: Tensor  # (k,) sorted, distinct
    size: int  # p

    @property
    def shape(self) -> tuple[int, int]:
        return self.size, len(self.indices)

    def apply(self, vector: Tensor) -> Tensor:
        full = vector.new_zeros(self.size)
        full[self.indices] = vector
        return full

    def apply_transposed(self, vector: Tensor) -> Tensor:
        return vector[self.indices]


@dataclass(frozen=True, eq=False)
class Transposed(LinearOperator):
    """A^T."""

    operator: LinearOperator

    @property
    def shape(self) -> tuple[int, int]:
        return self.operator.shape[1], self.operator.shape[0]

    def apply(self, vector: Tensor) -> Tensor:
        return self.operator.apply_transposed(vector)

    def apply_transposed(self, vector: Tensor) -> Tensor:
        return self.operator.apply(vector)

    @property
    def T(self) -> LinearOperator:  # noqa: N802
        return self.operator


@dataclass(frozen=True, eq=False)
class Product(LinearOperator):
    """A B: first B, then A."""

    left: LinearOperator
    right: LinearOperator

    def __post_init__(self) -> None:
        if self.left.shape[1] != self.right.shape[0]:
            raise GifError(f"Shapes {self.left.shape} and {self.right.shape} do not compose.")

    @property
    def shape(self) -> tuple[int, int]:
        return self.left.shape[0], self.right.shape[1]

    def apply(self, vector: Tensor) -> Tensor:
        return self.left.apply(self.right.apply(vector))

    def apply_transposed(self, vector: Tensor) -> Tensor:
        if isinstance(self.right, Embedding):
            return self.left.transposed_at(vector, self.right.indices)
        return self.right.apply_transposed(self.left.apply_transposed(vector))


@dataclass(frozen=True, eq=False)
class Sum(LinearOperator):
    """A + B."""

    left: LinearOperator
    right: LinearOperator

    def __post_init__(self) -> None:
        if self.left.shape != self.right.shape:
            raise GifError(f"Shapes {self.left.shape} and {self.right.shape} cannot be added.")

    @property
    def shape(self) -> tuple[int, int]:
        return self.left.shape

    def apply(self, vector: Tensor) -> Tensor:
        return self.left.apply(vector) + self.right.apply(vector)

    def apply_transposed(self, vector: Tensor) -> Tensor:
        return self.left.apply_transposed(vector) + self.right.apply_transposed(vector)

    def transposed_at(self, vector: Tensor, indices: Tensor) -> Tensor:
        return self.left.transposed_at(vector, indices) + self.right.transposed_at(vector, indices)


@dataclass(frozen=True, eq=False)
class Scaled(LinearOperator):
    """c A."""

    factor: float
    operator: LinearOperator

    @property
    def shape(self) -> tuple[int, int]:
        return self.operator.shape

    def apply(self, vector: Tensor) -> Tensor:
        return self.factor * self.operator.apply(vector)

    def apply_transposed(self, vector: Tensor) -> Tensor:
        return self.factor * self.operator.apply_transposed(vector)

    def transposed_at(self, vector: Tensor, indices: Tensor) -> Tensor:
        return self.factor * self.operator.transposed_at(vector, indices)
