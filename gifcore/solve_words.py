"""How far one method's numbers can be trusted, in a few words from its certificates; no torch."""

from __future__ import annotations

from typing import Any

STABLE = 0.8  # share of the top of a ranking; below it the ranking still moves
ALIKE = 0.9  # mean cosine of updates on several draws; below it their direction hangs on the draw
SOLVED = ("converged", "exact termination", "zero right-hand side")


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
    words = "solve converged" if status in SOLVED else f"solve not converged ({status})"
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
    """Return how stable the least stable ranking is, and how many solves did not converge."""
    certificates, known = list(entry.get("query_certificates", {}).values()), stabilities(entry)
    found = []
    if known:
        word = "stable" if min(known) >= STABLE else "unstable"
        found.append(f"ranking {word} ({min(known):.2f})")
    elif any(c["status"] != "no system" for c in certificates):
        found.append("stability of the ranking not measured")
    open_ = [c for c in certificates if c["status"] not in (*SOLVED, "no system")]
    if open_:
        found.append(f"{len(open_)} of {len(certificates)} ranking solves not converged")
    return found
