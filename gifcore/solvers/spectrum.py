"""The ends of a spectrum, measured by products, and the ridge or damping they call for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gifcore.errors import GifError
from gifcore.operators import LinearOperator
from gifcore.solvers.solution import against


class Power(NamedTuple):
    """What power iterations found: a lower bound of the norm, and the least Rayleigh quotient."""

    norm: float
    lowest: float


def power_iteration(
    apply: Callable[[Tensor], Tensor], like: Tensor, iterations: int, seed: int
) -> Power:
    """Return ||N v|| of the last unit vector v of so many power iterations on a symmetric N.

    Args:
        like: gives length, type and device of the seeded start.

    Cost: one product an iteration.
    """
    v = _start(like, seed)
    norm, lowest = 0.0, math.inf
    for _ in range(iterations):
        product = apply(v)
        norm, lowest = float(product.norm()), min(lowest, float(v @ product))
        if norm == 0 or not math.isfinite(norm):
            break
        v = product / norm
    return Power(norm, lowest)


@dataclass(frozen=True)
class Spectrum:
    """The extreme Ritz values of a symmetric A after `products` Lanczos steps.

    lambda_min <= each Ritz value <= lambda_max holds for the true ends, so the estimates lie
    inside; within `error_min` of the lowest (`error_max` of the highest) Ritz value there is an
    eigenvalue, which need not be the end itself.
    """

    lambda_min: float
    lambda_max: float
    error_min: float
    error_max: float
    products: int
    exhausted: bool  # the Krylov space of the start ended: the estimates are eigenvalues


def lanczos(A: LinearOperator, like: Tensor, *, steps: int = 20, seed: int = 0) -> Spectrum:
    """Return the ends of the spectrum of a symmetric A (p, p) from a seeded start.

    A V = V T + beta_k v_{k+1} e_k^T with T tridiagonal; a Ritz pair (theta, V s), T s = theta s,
    has the residual norm beta_k |s_k|, its error bound. Every vector is orthogonalised twice
    against all earlier ones.

    Args:
        like: a vector (p,) that gives type and device.

    Raises:
        GifError: no step, or a product that is not finite.

    Reference: Lanczos 1950; Parlett 1998, "The symmetric eigenvalue problem", section 13.2.
    Cost: `steps` products and as many vectors of memory.
    """
    if steps < 1:
        raise GifError(f"A Lanczos estimate needs 1 step or more, not {steps}.")
    v = _start(like, seed)
    vectors: list[Tensor] = []
    alphas: list[float] = []
    betas: list[float] = []
    eps, exhausted = 10 * torch.finfo(like.dtype).eps, False
    for _ in range(min(steps, len(like))):
        vectors.append(v)
        product = A @ v
        alphas.append(float(v @ product))
        rest = against(against(product, vectors), vectors)
        betas.append(float(rest.norm()))
        if not math.isfinite(alphas[-1] + betas[-1]):
            raise GifError(
                "A product was NaN or infinite while the spectrum was estimated; check the model, "
                "or set `damping` and `ridge` by hand."
            )
        exhausted = betas[-1] <= eps * max(map(abs, [*alphas, *betas]))
        if exhausted:
            break
        v = rest / betas[-1]
    T = np.diag(alphas) + np.diag(betas[:-1], 1) + np.diag(betas[:-1], -1)
    ritz, s = np.linalg.eigh(T)
    errors = betas[-1] * np.abs(s[-1])
    return Spectrum(
        float(ritz[0]),
        float(ritz[-1]),
        float(errors[0]),
        float(errors[-1]),
        len(alphas),
        exhausted,
    )


class Auto(NamedTuple):
    """An automatic number, why it is what it is, and the products of A it took to find it."""

    value: float
    reason: str
    products: int


def auto_ridge(A: LinearOperator, like: Tensor, *, steps: int = 8, seed: int = 0) -> Auto:
    """Return the ridge eps sigma_max(A)^2 for ||A x - b||^2 + ridge ||x||^2.

    A product in a precision eps is known to eps sigma_max only, so a direction of singular value
    sigma carries an error eps sigma_max / sigma of x. The ridge damps sigma below
    sqrt(eps) sigma_max, where that error passes sqrt(eps), and changes a direction above it by
    the fraction ridge / sigma^2 < 1 alone: in float32 a condition of 3e3 is left, in float64 7e7.

    Args:
        A: H E (p, k) of an update, or its transpose.
        like: a vector (k,) of A's input, for type and device.

    Cost: two products with A a Lanczos step on A^T A.
    """
    found = lanczos(A.T @ A, like, steps=steps, seed=seed)
    sigma, eps = math.sqrt(max(found.lambda_max, 0.0)), torch.finfo(like.dtype).eps
    reason = (
        f"ridge = eps sigma_max^2, eps = {eps:.1e}, sigma_max = {sigma:.4g} from "
        f"{found.products} Lanczos steps, seed {seed}"
    )
    return Auto(eps * sigma**2, reason, 2 * found.products)


def auto_damping(
    H: LinearOperator,
    like: Tensor,
    *,
    semidefinite: bool = False,
    decay: float = 0.0,
    steps: int = 20,
    seed: int = 0,
) -> Auto:
    """Return the damping of H + damping I: small where H has no noise in sight, else beyond it.

    H = C + decay I, C the curvature of the data. Where C has a negative eigenvalue -nu, its terms
    of both signs have not cancelled: C is known to about nu only, and is as different on other
    samples. The damping lifts C above zero, so that no direction is flatter than weight decay
    makes it. With the level l = sqrt(eps) lambda_max, which bounds the condition by 1 / sqrt(eps):

        a Ritz value theta < decay - l:  damping = nu + max(error bound, 0.1 nu) + l,
                                         nu = decay - theta, which the true one is no less than
        else H >= 0 (known, or lambda_min - its error bound >= -l):  damping = l
        else:                            damping = max(-lambda_min, 0) + error bound + l

    A Ritz value lies above the true lambda_min, hence the margin of a tenth. A damping that may
    shift an eigenvalue onto zero is never returned.

    Args:
        semidefinite: H is said to have no eigenvalue below its decay (Fisher; Gauss-Newton if the
            loss is convex in the outputs): a Ritz value below decay - l proves otherwise.
        decay: what H has of I already: the weight decay of the objective.
        like: a vector (p,) for type and device.

    Cost: one product a Lanczos step.
    """
    found = lanczos(H, like, steps=steps, seed=seed)
    lambda_max = max(abs(found.lambda_max), abs(found.lambda_min))
    level = math.sqrt(torch.finfo(like.dtype).eps) * lambda_max
    steps_taken = f"from {found.products} Lanczos steps, seed {seed}"
    ends = f"lambda_min = {found.lambda_min:.4g} within {found.error_min:.2g} {steps_taken}"
    below = decay - found.lambda_min
    if below > level:
        margin = max(found.error_min, 0.1 * below) + level
        of = "weight decay - lambda_min" if decay else "-lambda_min"
        what = "H is indefinite" if found.lambda_min < 0 else "the data's curvature is indefinite"
        reason = f"damping = {of} + {margin:.4g}, {ends}: {what}"
        return Auto(below + margin, reason, found.products)
    if semidefinite or found.lambda_min - found.error_min >= -level:
        why = "is positive semi-definite" if semidefinite else "has no negative eigenvalue in sight"
        reason = (
            f"damping = sqrt(eps) lambda_max, lambda_max = {lambda_max:.4g} {steps_taken}: H {why}"
        )
        return Auto(level, reason, found.products)
    margin = max(found.error_min, 0.1 * abs(found.lambda_min)) + level
    reason = f"damping = -lambda_min + {margin:.4g}, {ends}: H may be indefinite"
    return Auto(max(-found.lambda_min, 0.0) + margin, reason, found.products)


def _start(like: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like)
    return v / v.norm()
