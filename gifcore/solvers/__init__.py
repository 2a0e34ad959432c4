"""Solvers: each takes an operator and a right-hand side and returns a `Solution`."""

from gifcore.solvers.lsmr import LSMR
from gifcore.solvers.minres import MINRES
from gifcore.solvers.preconditioners import Preconditioner, jacobi
from gifcore.solvers.solution import Solution, Status

__all__ = ["LSMR", "MINRES", "Preconditioner", "Solution", "Status", "jacobi"]
