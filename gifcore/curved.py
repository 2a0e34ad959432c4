"""The curvature of a solve: which matrix, on which samples, and what solves of a study share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from gifcore.checks import check_problem
from gifcore.curvature import (
    EKFAC,
    BlockDiagonal,
    DataInf,
    EmpiricalFisher,
    GaussNewton,
    Hessian,
    draw_samples,
    layer_blocks,
)
from gifcore.errors import GifError
from gifcore.operators import Identity, LinearOperator
from gifcore.problem import Problem
from gifcore.second_derivatives import check_second_derivatives
from gifcore.selection import Selection
from gifcore.solvers import (
    LSMR,
    Auto,
    Preconditioner,
    auto_damping,
    jacobi,
    kronecker,
)
from gifcore.solvers.preconditioners import default_probes

SHARE_OF_MEAN = 0.1  # of the mean eigenvalue: damping of an approximation if none is given


class Approximation(Protocol):
    """A curvature whose inverse is known in closed form."""

    def inverse(self, vector: Tensor, damping: float) -> Tensor: ...

    def restricted_inverse(
        self, vector: Tensor, indices: Tensor, damping: float
    ) -> tuple[Tensor, bool]: ...


@dataclass(frozen=True, eq=False)
class OnSamples:
    """samples (m,) -> their curvature + damping I. Another process gets it without `stop`."""

    problem: Problem
    kind: str
    damping: float
    seed: int
    stop: Callable[[], None] | None = None

    def __call__(self, samples: Tensor) -> LinearOperator:
        # used for a product or two: what is kept for later ones would be made in vain
        H = build(self.kind, self.problem, samples, memory_mb=0, seed=self.seed, stop=self.stop)
        return H + self.damping * Identity(H.shape[0]) if self.damping > 0 else H

    def __reduce__(self) -> tuple[type[OnSamples], tuple[Problem, str, float, int]]:
        return OnSamples, (self.problem, self.kind, self.damping, self.seed)


@dataclass(frozen=True, eq=False)
class Curved:
    """A curvature with damping in it, what it was measured on, and R for a selection."""

    H: LinearOperator  # curvature + damping I
    samples: Tensor  # (m,) positions in the training set
    damping: float
    of: str  # "full" or "retained"
    problem: Problem | None = None  # whose objective it is of
    kind: str = "hessian"
    seed: int = 0
    preconditioner: Preconditioner | None = None
    automatic: bool = False  # damping, and the ridge of gif, from the spectrum as a method needs it
    notes: tuple[str, ...] = ()  # on the problem, for every certificate
    stop: Callable[[], None] | None = None
    _fitted: dict[str, Approximation] = field(default_factory=dict)
    _auto: list[Auto] = field(default_factory=list)

    def auto_damping(self) -> Auto:
        """Return the damping that the spectrum calls for, estimated once."""
        if not self._auto:
            semidefinite, problem = CURVATURES[self.kind][1], self._known()
            found = auto_damping(
                self.H,
                problem.theta,
                semidefinite=semidefinite,
                decay=problem.weight_decay,
                seed=self.seed,
            )
            self._auto.append(found)
        return self._auto[0]

    def approximation(self, kind: str) -> Approximation:
        """Return "ekfac" or "datainf" of the same samples, fitted once.

        Raises:
            GifError: a curvature made by hand, which knows no problem.
        """
        if kind not in self._fitted:
            problem = self._known()
            self._fitted[kind] = (
                EKFAC.fit(problem, self.samples, seed=self.seed, stop=self.stop)
                if kind == "ekfac"
                else DataInf(problem, self.samples, stop=self.stop)
            )
        return self._fitted[kind]

    def damping_of(self, kind: str) -> tuple[float, tuple[str, ...]]:
        """Return the damping for an approximation's inverse, and why, if none was given."""
        if self.damping > 0:
            return self.damping, ()
        fitted = self.approximation("ekfac")
        assert isinstance(fitted, EKFAC)
        mean = float(sum(block.eigenvalues.sum() for block in fitted.blocks)) / fitted.shape[0]
        damping = SHARE_OF_MEAN * mean
        if not damping > 0:
            raise GifError(f"The {kind} curvature is zero here; set a positive `damping`.")
        return damping, (f"damping = {SHARE_OF_MEAN:g} mean eigenvalue of EK-FAC = {damping:.4g}",)

    @property
    def batch(self) -> OnSamples:
        """The same kind of curvature on any samples, damping included."""
        return OnSamples(self._known(), self.kind, self.damping, self.seed, self.stop)

    def _known(self) -> Problem:
        if self.problem is None:
            raise GifError("This curvature was made by hand; make it with `curvature` instead.")
        return self.problem


# --- the kinds -----------------------------------------------------------------------------------

Build = Callable[[Problem, Tensor, int, float, int, Callable[[], None] | None], LinearOperator]


def _ekfac(
    problem: Problem,
    samples: Tensor,
    batch_size: int,
    memory_mb: float,  # noqa: ARG001
    seed: int,
    stop: Callable[[], None] | None,
) -> LinearOperator:
    return EKFAC.fit(problem, samples, seed=seed, batch_size=batch_size, stop=stop)


def _block(
    problem: Problem,
    samples: Tensor,
    batch_size: int,
    memory_mb: float,
    seed: int,  # noqa: ARG001
    stop: Callable[[], None] | None,
) -> LinearOperator:
    H = Hessian(problem, samples, batch_size, memory_mb, stop)
    return BlockDiagonal(H, layer_blocks(problem.space))


# name -> (how it is made, is it positive semi-definite by construction)
CURVATURES: dict[str, tuple[Build, bool]] = {
    "hessian": (lambda p, s, b, m, _, stop: Hessian(p, s, b, m, stop), False),
    "ggn": (lambda p, s, b, m, _, stop: GaussNewton(p, s, b, m, stop), True),
    "fisher": (lambda p, s, b, m, _, stop: EmpiricalFisher(p, s, b, m, stop), True),
    "block": (_block, False),
    "ekfac": (_ekfac, True),
    "datainf": (lambda p, s, b, _m, _, stop: DataInf(p, s, min(b, 64), stop), True),
}


def build(
    kind: str,
    problem: Problem,
    samples: Tensor,
    *,
    batch_size: int = 128,
    memory_mb: float = 512,
    seed: int = 0,
    stop: Callable[[], None] | None = None,
) -> LinearOperator:
    """Return the curvature of this kind on these samples, weight decay in it.

    Raises:
        GifError: an unknown kind.
    """
    if kind not in CURVATURES:
        raise GifError(f"Unknown curvature '{kind}'; choose one of: {', '.join(CURVATURES)}.")
    return CURVATURES[kind][0](problem, samples, batch_size, memory_mb, seed, stop)


def curvature(
    problem: Problem,
    *,
    kind: str = "hessian",
    samples: int | None = None,
    damping: float | str = 0.0,
    of: str = "full",
    seed: int = 0,
    sampler: str = "uniform",
    batch_size: int = 128,
    memory_mb: float = 512,
    stop: Callable[[], None] | None = None,
    solves: bool = True,
) -> Curved:
    """Return the curvature of a problem's objective on one seeded draw of its samples.

    Args:
        kind: a name of CURVATURES.
        samples: how many curvature samples; None: all of the problem's.
        damping: H + damping I; moves every eigenvalue, which on an indefinite H can bring one
            onto zero. "auto": from a Lanczos estimate of the ends of the spectrum, for each
            method what it needs (a ridge for gif), and the certificate says why.
        sampler: how the samples are drawn, a name of SAMPLERS.
        memory_mb: budget for gradient graphs kept between products.
        stop: called once a batch, perhaps from another thread; raises Cancelled.
        solves: will anything be solved with it? If not, second derivatives need not exist.

    Raises:
        GifError: an unknown name, an impossible number, or a problem that cannot be explained.
    """
    if damping != "auto" and not (
        isinstance(damping, int | float | np.floating) and 0 <= damping < float("inf")
    ):
        raise GifError(f"damping is {damping}; it must be a number of 0 or more, or 'auto'.")
    notes = check_problem(problem)
    if solves and kind in ("hessian", "block"):
        check_second_derivatives(problem)
    drawn = draw_samples(problem, samples, seed, sampler, stop)
    H = build(
        kind, problem, drawn, batch_size=batch_size, memory_mb=memory_mb, seed=seed, stop=stop
    )
    by_hand = 0.0 if isinstance(damping, str) else float(damping)
    if by_hand > 0:
        H = H + by_hand * Identity(problem.space.size)
    automatic = damping == "auto"
    return Curved(
        H, drawn, by_hand, of, problem, kind, seed, automatic=automatic, notes=notes, stop=stop
    )


# --- R, measured once for a selection ------------------------------------------------------------


def preconditioned(
    curved: Curved,
    selected: Selection | None,
    solver: object,
    *,
    seed: int = 0,
    like: Tensor | None = None,
) -> Curved:
    """Return the curvature with R measured on the selection, if the solver asks for one.

    Args:
        like: any tensor of the problem's type and device; None: from the curvature's problem.

    Raises:
        GifError: an unknown preconditioner.
    """
    if not isinstance(solver, LSMR) or solver.preconditioner == "none":
        return curved
    p = curved.H.shape[0]
    if like is None:
        like = curved._known().theta
    indices = torch.arange(p) if selected is None else selected.indices
    if solver.preconditioner == "jacobi":
        probes = default_probes(2 * solver.iterations) if solver.probes is None else solver.probes
        R = jacobi(curved.H, indices, probes, seed, like)
    elif solver.preconditioner == "kronecker":
        damping = curved.damping_of("ekfac")[0]
        R = kronecker(curved.approximation("ekfac"), indices, damping, seed, like)
    else:
        raise GifError(
            f"Unknown preconditioner '{solver.preconditioner}'; choose jacobi, kronecker or none."
        )
    return replace(curved, preconditioner=R)
