"""New study: the fields of [retrain], and the time that retraining adds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import jobs
from dashboard.components import study_form
from dashboard.texts.options import RECIPES
from dashboard.views import new_study
from gifcore.estimate import estimate
from gifcore.retrain_section import RetrainSection
from gifcore.study import Study, parse
from tests.dashboard.opened import open_page, said


@pytest.fixture
def form(empty_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """The form in a new session; a check only takes the study down."""
    assert empty_workspace.is_dir()
    monkeypatch.setattr(jobs, "doctor", lambda *_, **__: {"ok": False, "error": "not asked"})
    return open_page("new-study")


def asked(app: AppTest) -> RetrainSection:
    app.button(key="check").click().run()
    assert not app.exception
    study: Study = app.session_state["new_checked"]
    return study.retrain


def test_nothing_is_retrained_unless_it_is_asked_for(form: AppTest) -> None:
    assert asked(form) == RetrainSection()
    assert "not held against retrained models" in said(form)
    assert "new_retrain_recipe" not in {box.key for box in form.selectbox}


def test_every_field_reaches_the_study(form: AppTest) -> None:
    form.number_input(key="new_retrain_seeds").set_value(3).run()
    assert asked(form) == RetrainSection(seeds=3)
    form.number_input(key="new_retrain_epochs").set_value(12)
    form.selectbox(key="new_retrain_start").set_value("warm").run()
    assert asked(form) == RetrainSection(seeds=3, start="warm", epochs=12)
    assert set(RECIPES) == set(get_args(RetrainSection.model_fields["recipe"].annotation))
    for recipe, (_, words) in RECIPES.items():
        form.selectbox(key="new_retrain_recipe").set_value(recipe).run()
        assert words in said(form)
        found = asked(form)
        assert found.recipe == recipe
        drawn = "every seed gives the same model" not in said(form)
        assert (found.seeds, drawn) == ((3, True) if found.draws else (1, False))


def study(**retrain: Any) -> Study:
    values = {"data": {"source": "digits"}, "model": {"name": "fcn"}, "retrain": retrain}
    return parse(values)


def test_the_line_before_run_says_what_is_retrained() -> None:
    said_ = [study_form.said(study(seeds=n) if n else study()) for n in (0, 1, 2)]
    assert [line.rpartition("held against ")[2] for line in said_][1:] == [
        "1 retrained model", "2 retrained models",
    ]  # fmt: skip
    assert "retrained" not in said_[0]


def test_the_time_of_more_models_needs_no_other_check() -> None:
    assert new_study._facts_of(study(seeds=1)) == new_study._facts_of(study(seeds=5))
    assert new_study._facts_of(study(seeds=1)) != new_study._facts_of(study())
    assert new_study._facts_of(study(seeds=1)) != new_study._facts_of(study(seeds=1, epochs=3))
    sizes = {"train": 1000, "validation": 400, "test": 400}
    costs = {"hvp_per_sample": 1e-4, "jvp_per_sample": 1e-4, "forward_per_sample": 1e-4}
    costs |= {"training_per_sample": 1e-3, "training_passes": 20.0}
    one, five = (estimate(study(seeds=n), sizes, costs)["stages"]["retrain"] for n in (1, 5))
    assert five == pytest.approx(5 * one, rel=0.1)
    assert new_study.retraining(5, 100) == (
        "Of this time about 1 min 40 s are for 5 retrained models; those that another study of "
        "this workspace left are not trained again."
    )
