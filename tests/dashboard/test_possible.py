"""What cannot be computed is said in place of the button that would start it."""

from __future__ import annotations

import pytest

from dashboard.components import possible
from tests.dashboard.form import study
from tests.dashboard.opened import keys, open_page


@pytest.mark.usefixtures("workspace")
def test_a_missing_combination_that_cannot_be_says_so_in_place_of_the_button() -> None:
    app = open_page("samples", selector="exclusive-k-gradients", ratio="1")
    assert "up to a ratio of 50 %" in app.warning[0].value
    assert "compute" not in keys(app)
    assert "compute" in keys(open_page("samples", selector="exclusive-k-gradients", ratio="0.5"))


def test_the_limits_of_the_dense_solver_are_those_of_the_engine() -> None:
    from gifcore.solvers import Dense

    assert (Dense().limit, Dense().memory_mb) == (possible.DENSE_UNKNOWNS, possible.DENSE_MB)


@pytest.mark.parametrize(
    ("names", "ratio", "parameters", "refused"),
    [
        (["if", "gif"], 0.05, 1_898, ""),
        (["if", "gif"], 0.05, 17_226, "IF here is a system of 17,226 x 17,226"),
        (["gif", "tracin"], 0.1, 17_226, "checkpoints"),
        (["gif", "ekfac", "gradient"], 0.1, 17_226, ""),
        (["gif"], 0.25, 17_226, "GIF here is a system of 17,226 x 4,306"),
        (["gif"], 0.005, 398_090, "398,090 x 1,990"),  # 6 GB
        (["freeze"], 0.005, 398_090, ""),
        (["gif"], 0.005, None, ""),  # not known yet
    ],
)
def test_what_is_too_large_for_the_dense_solver(
    names: list[str], ratio: float, parameters: int | None, refused: str
) -> None:
    said = possible.refusal(
        study(methods=names, selection={"ratio": ratio}, solver={"kind": "dense"}), parameters
    )
    assert refused in said
    assert bool(said) == bool(refused)


def test_a_ridge_is_for_gif_alone_where_the_solver_is_dense() -> None:
    solver = {"kind": "dense", "ridge": 0.1}
    assert "leave IF and Freeze out" in possible.refusal(
        study(methods=["if", "gif", "freeze"], solver=solver)
    )
    assert possible.refusal(study(methods=["gif"], solver=solver)) == ""
    lsmr = study(methods=["if", "gif"], solver={"ridge": 0.1})
    assert possible.refusal(lsmr) == ""
