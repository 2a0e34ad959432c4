"""How far one method's numbers can be trusted, in a few words from its certificates; no torch."""

from __future__ import annotations

from typing import Any, Literal

STABLE = 0.8  # share of the top of a ranking; below it the ranking still moves
ALIKE = 0.9  # mean cosine of updates on several draws; below it their direction hangs on the draw
SOLVED = ("converged", "exact termination", "zero right-hand side")
NONE, DENSE = "no system", "dense"  # a status; the solver that does not iterate
LEAST = "singular"  # status of a dense solve that gave the solution of least norm
NO_LONGER = (  # ends that more iterations do not change
    "no solution found",
    "not finite",
    "indefinite",
    "diverged",
    "stagnated",
    "not symmetric",
)

End = Literal["none", "solved", "stopped", "unsolved"]


def ended(certificate: dict[str, Any]) -> End:
    """Return how a solve ended; "stopped" is what more iterations might still change.

    >>> ended({"status": "iteration limit"}), ended({"status": "no solution found"})
    ('stopped', 'unsolved')
    """
    status = str(certificate["status"]).replace("_", " ")
    if status == NONE:
        return "none"
    if status in SOLVED or status == LEAST:
        return "solved"
    return "unsolved" if status in NO_LONGER or iterates_not(certificate) else "stopped"


def iterates_not(certificate: dict[str, Any]) -> bool:
    """Was the system solved without iterations, so that there is no half of a budget?"""
    return certificate.get("solver") == DENSE


def trust(entry: dict[str, Any]) -> str:
    """Return how the solve of an update ended, and how stable the rankings are."""
    certificate = entry.get("certificate")
    parts = [] if certificate is None else [_solve(certificate), *_draws(entry.get("spread"))]
    return ", ".join(parts + _rankings(entry))


def _solve(certificate: dict[str, Any]) -> str:
    status = str(certificate["status"]).replace("_", " ")
    if certificate["solver"] == "none":
        return "no system to solve"
    if str(certificate["solver"]).endswith("closed form"):
        return "closed form, nothing to converge"
    solved = ended(certificate) == "solved"
    if iterates_not(certificate):
        words = "solved directly" if solved else f"solved directly, but {status}"
    else:
        words = "solve converged" if solved else f"solve not converged ({status})"
    return words + (", negative curvature met" if certificate.get("negative_curvature") else "")


def _draws(spread: dict[str, Any] | None) -> list[str]:
    if not spread or spread["mean_cosine"] is None or spread["mean_cosine"] >= ALIKE:
        return []
    return [
        f"its direction hangs on the curvature samples (mean cosine {spread['mean_cosine']:.2f})"
    ]


def stabilities(entry: dict[str, Any]) -> list[float]:
    """Return the rank stability of every query it is known of."""
    found = [c.get("rank_stability") for c in entry.get("query_certificates", {}).values()]
    return [share for share in found if share is not None]


def _rankings(entry: dict[str, Any]) -> list[str]:
    """Return how stable the least stable ranking is, and how many solves are open."""
    certificates, known = list(entry.get("query_certificates", {}).values()), stabilities(entry)
    found = []
    if known:
        word = "stable" if min(known) >= STABLE else "unstable"
        found.append(f"ranking {word} ({min(known):.2f})")
    elif any(ended(c) != "none" and not iterates_not(c) for c in certificates):
        found.append("stability of the ranking not measured")
    for end, words in (("stopped", "not converged"), ("unsolved", "without a solution")):
        if count := sum(ended(c) == end for c in certificates):
            found.append(f"{count} of {len(certificates)} ranking solves {words}")
    return found
