"""The form and the config are one: every field is in the form once, and comes out as it went in."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.components import study_fill
from dashboard.study_options import BY_HAND, LEFT_OUT, everything, paths
from dashboard.views import new_study
from gifcore.study import Study, dumps, parse
from tests.conftest import KINDS
from tests.dashboard.opened import go, open_page, said

# Studies whose fields all differ from their defaults somewhere, one kind of solver or change each.
PLAIN: dict[str, Any] = {
    "seed": 7,
    "methods": ["if", "gif", "ekfac"],
    "data": {"source": "digits"},
    "model": {"name": "fcn", "weight_decay": 0.25},
    "change": {"label": 3, "change_samples": 11},
    "selection": {
        "selector": "lowest-k-outputs",
        "ratio": 0.03,
        "kinds": ["linear"],
        "norms": True,
        "budget": "global",
    },
    "curvature": {
        "kind": "ggn",
        "samples": "all",
        "sampler": "entropy",
        "draws": 3,
        "damping": "auto",
        "batch_size": 32,
        "memory_mb": 64,
    },
    "solver": {"iterations": 9, "tolerance": 1e-4, "ridge": 0.5, "probes": 6},
    "ranking": {
        "queries": [3, 17],
        "batch_size": 99,
        "groups": [
            {"name": "Eights: all", "class": 8},
            {"name": "8 as 6", "cell": [8, 6]},
            {"name": "some", "samples": [3, 5]},
        ],
        "self_influence": True,
    },
    "mislabel": {"rate": 0.2, "seed": 4, "folds": 3},
    "fastif": {
        "k": [10, 40],
        "depths": [5],
        "layer": "2",
        "index": "IVF",
        "iterations": 33,
        "solves": [
            {"iterations": 50, "batch_size": 8, "chains": 2, "damp": 0.02, "scale": 70.0},
            {"iterations": 60, "processes": 2},
        ],
        "previews": [64],
        "loop": 4,
    },
    "preview": {"rank": 32, "held_out": 5},
    "edit": {"min_scale": 0.25, "max_scale": 40.0, "evaluations": 9},
    "retrain": {"seeds": 2, "start": "warm", "processes": 2, "epochs": 5},
}
STUDIES: dict[str, dict[str, Any]] = {
    "nothing but defaults": {},
    "everything": PLAIN,
    "counts and a target": {
        "curvature": {"samples": 77, "damping": 0.125},
        "ranking": {"count": 5, "target": "margin"},
        "selection": {"layers": ["conv1", "fc"]},
        "solver": {"preconditioner": "kronecker"},
        "mislabel": {"rate": 0.0, "folds": 2},
        "edit": {"enabled": False},
        "retrain": {"seeds": 1, "recipe": "minimise"},
    },
    "lissa": {
        "solver": {
            "kind": "lissa",
            "iterations": 700,
            "batch_size": 4,
            "chains": 3,
            "damp": 0.01,
            "scale": 55.0,
        },
        "retrain": {"seeds": 1, "recipe": "proximal"},
    },
    "own files": {
        "data": {"source": "/data/mine.npz"},
        "model": {"name": "lenet", "weights": "/data/lenet.pt", "weight_decay": 0.1},
        "mislabel": {"rate": 0.1, "measured": False},
    },
} | {
    f"change {kind}": {"change": change, "data": {"source": "digits"}, "model": {"name": "fcn"}}
    for kind, change in KINDS.items()
}


def filled(study: Study) -> AppTest:
    """The form in a new session that was filled with a study."""
    app = AppTest.from_file(str(Path(__file__).parents[2] / "dashboard" / "app.py"))
    app.default_timeout = 60
    for key, value in study_fill.widgets(study).items():
        app.session_state[key] = value
    go(app, "new-study", refused=True)
    assert not app.exception
    return app


def drawn(app: AppTest) -> Study:
    study: Study = app.session_state["new_drawn"]
    return study


def keys(app: AppTest) -> list[str]:
    """The keys of all widgets that are drawn."""
    kinds = (app.number_input, app.text_input, app.text_area, app.selectbox, app.multiselect)
    kinds += (app.toggle, app.select_slider, app.segmented_control, app.get("button_group"))
    found = {id(w): w.key for kind in kinds for w in kind}
    return list(dict.fromkeys(key for key in found.values() if key))


def leaves(value: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    """Every value of nested mappings by its path."""
    found = {}
    for name, one in value.items():
        path = f"{at}.{name}" if at else name
        found |= leaves(one, path) if isinstance(one, dict) else {path: one}
    return found


@pytest.fixture(scope="module")
def seen() -> set[str]:
    """The keys of all widgets that were drawn for any of the studies."""
    return set()


@pytest.mark.usefixtures("empty_workspace")
@pytest.mark.parametrize("name", STUDIES)
def test_a_study_comes_out_of_the_form_as_it_went_in(name: str, seen: set[str]) -> None:
    study = parse({"title": "T"} | STUDIES[name])
    app = filled(study)
    found = drawn(app)
    assert found == study
    assert parse(tomllib.loads(dumps(found))) == found  # the file that the command line reads
    assert "Not as in" not in said(app)
    seen |= set(keys(app))


def test_every_field_of_the_config_is_in_the_form_once_or_left_out_with_a_reason(
    seen: set[str],
) -> None:
    generated = everything()
    inside = {
        f"{one.path}.{name}"
        for one in generated.values()
        if one.inner and one.path != "ranking.groups"
        for name in one.inner.model_fields
    }
    parts = [set(generated), set(BY_HAND), set(LEFT_OUT), inside]
    assert sum(map(len, parts)) == len(set.union(*parts))  # none in two places
    assert set.union(*parts) == set(paths())
    assert all(len(reason) > 30 for reason in LEFT_OUT.values())
    if len(seen) < 40:
        pytest.skip("needs the widgets that the tests above drew")
    wanted = {one.key for one in generated.values()} | set(BY_HAND.values())
    wanted |= {f"new_0_{path.replace('.', '_')}" for path in inside}
    assert wanted <= seen


def test_every_field_differs_from_its_default_in_some_study_above() -> None:
    """Else a widget that leads nowhere would go unseen."""
    plain = leaves(parse({}).model_dump(mode="json"))
    changed = set()
    for values in STUDIES.values():
        found = leaves(parse(values).model_dump(mode="json"))
        changed |= {path for path, value in found.items() if plain.get(path) != value}
    generated = {path for path, one in everything().items()} - {"ranking.groups"}
    assert generated <= changed


def test_every_field_has_a_title_and_a_help() -> None:
    for option in everything().values():
        assert option.title != option.path, option.path
        assert option.help.endswith("."), option.path


@pytest.mark.usefixtures("empty_workspace")
def test_the_file_that_is_offered_is_the_study_of_the_form(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offered: list[str] = []

    def written(study: Study) -> str:
        offered.append(dumps(study))
        return offered[-1]

    monkeypatch.setattr(new_study, "dumps", written)
    app = open_page("new-study")
    app.number_input(key="new_solver_iterations").set_value(7).run()
    assert "study_file" in [button.key for button in app.get("download_button")]
    assert parse(tomllib.loads(offered[-1])) == drawn(app)
    assert drawn(app).solver.iterations == 7


# --- what the chosen solver or change does not have ----------------------------------------------


@pytest.mark.usefixtures("empty_workspace")
def test_what_does_not_count_is_not_asked_and_named_with_the_reason() -> None:
    app = open_page("new-study")
    assert "Chains (T), Damp, Scale – only where Solver is LiSSA" in said(app)
    assert "new_solver_chains" not in keys(app)
    app.selectbox(key="new_solver_kind").set_value("cg").run()
    assert "new_solver_ridge" not in keys(app)
    assert "Ridge (GIF) – only where Solver is LSMR or Dense (exact)" in said(app)
    app.selectbox(key="new_solver_kind").set_value("lissa").run()
    assert app.number_input(key="new_solver_iterations").value == 1000
    app.number_input(key="new_solver_chains").set_value(5).run()
    assert drawn(app).solver.chains == 5
    app.selectbox(key="new_solver_kind").set_value("lsmr").run()
    assert drawn(app) == parse({"title": drawn(app).title})  # nothing of LiSSA is left


@pytest.mark.usefixtures("empty_workspace")
def test_lissa_beside_fastif_is_for_if_and_projected_alone() -> None:
    app = open_page("new-study")
    app.text_input(key="new_fastif_k").set_value("10").run()
    assert "new_fastif_solves" in keys(app)
    app.get("button_group")[0].set_value(["gif"]).run()
    assert "new_fastif_solves" not in keys(app)
    assert "only with the method IF or Projected" in said(app)


# --- the achieved ratio --------------------------------------------------------------------------


@pytest.mark.usefixtures("empty_workspace")
def test_the_ratio_says_what_it_comes_to_before_anything_runs() -> None:
    app = open_page("new-study")
    assert "**19,902 of 398,090** parameters (5 %)" in said(app)
    app.selectbox(key="new_model").set_value("fcn")
    app.selectbox(key="new_data").set_value("digits")
    app.select_slider(key="new_ratio").set_value(0.1).run()
    assert "**1,722 of 17,226** parameters" in said(app)
    app.selectbox(key="new_selector").set_value("caps").run()
    assert "At most **1,722 of 17,226**" in said(app)
    app.selectbox(key="new_selector").set_value("all").run()
    assert "**17,226 of 17,226** parameters (100 %)" in said(app)
