"""Solvers: each takes an operator and a right-hand side and returns a `Solution`."""

from gifcore.solvers.cg import CG
from gifcore.solvers.dense import Dense
from gifcore.solvers.lissa import Lissa
from gifcore.solvers.lsmr import LSMR
from gifcore.solvers.minres import MINRES
from gifcore.solvers.neumann import Neumann
from gifcore.solvers.p_lissa import PLissa
from gifcore.solvers.preconditioners import Preconditioner, jacobi, kronecker
from gifcore.solvers.schulz import Schulz
from gifcore.solvers.solution import Solution, Status
from gifcore.solvers.spectrum import Auto, Spectrum, auto_damping, auto_ridge, lanczos

__all__ = [
    "CG",
    "LSMR",
    "MINRES",
    "Auto",
    "Dense",
    "Lissa",
    "Neumann",
    "PLissa",
    "Preconditioner",
    "Schulz",
    "Solution",
    "Spectrum",
    "Status",
    "auto_damping",
    "auto_ridge",
    "jacobi",
    "kronecker",
    "lanczos",
]
