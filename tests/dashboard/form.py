"""The form New study: opening it, filling it in, having it checked, headlessly."""

from __future__ import annotations

from typing import Any

from streamlit.testing.v1 import AppTest

from gifcore.study import Study, parse
from tests.dashboard.opened import open_page

DIGITS = {"new_model": "fcn", "new_data": "digits"}
QUICK = {"new_curvature_samples": 64, "new_solver_iterations": 3, "new_ranking_count": 1}
LONG = {
    "new_curvature_samples": 1000,
    "new_solver_iterations": 10_000,
    "new_solver_tolerance": 0.0,
    "new_ranking_count": 60,
}


def filled(numbers: dict[str, float]) -> AppTest:
    """The form, about the bundled digits and fcn, with some numbers of the group Advanced."""
    app = open_page("new-study")
    for key, value in DIGITS.items():
        app.selectbox(key=key).set_value(value)
    for key, number in numbers.items():
        app.number_input(key=key).set_value(number)
    return app.run()


def checked(numbers: dict[str, float]) -> AppTest:
    app = filled(numbers)
    app.button(key="check").click().run()
    assert not app.exception
    return app


def asked(app: AppTest) -> Study:
    """The study that the form describes, as the check takes it."""
    app.button(key="check").click().run()
    assert not app.exception
    study: Study = app.session_state["new_checked"]
    return study


def methods(app: AppTest, *names: str) -> AppTest:
    app.get("button_group")[0].set_value(list(names)).run()
    assert not app.exception
    return app


def of_kind(kind: str, **fields: Any) -> AppTest:
    """The form about the bundled digits and fcn, with a kind of change and its fields."""
    app = filled({})
    app.selectbox(key="new_change").set_value(kind).run()
    for key, value in fields.items():
        widgets: list[Any] = [*app.text_input, *app.number_input, *app.selectbox]
        next(w for w in widgets if w.key == f"new_{key}").set_value(value).run()
    assert not app.exception
    return app


def study(**values: Any) -> Study:
    return parse({"data": {"source": "digits"}, "model": {"name": "fcn"}} | values)
