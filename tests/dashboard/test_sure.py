"""The panel "How sure is this?": under every figure, closed, and true to the record when opened."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import doubts
from dashboard.components import certificate, sure
from dashboard.doubt_rules import RULES, Facts
from dashboard.doubts import FIGURES, MOST
from dashboard.texts import sections
from gifcore.assets_path import asset
from gifcore.record import RECORD
from gifcore.solve_words import trust
from tests.dashboard.make_record import make_record, make_workspace
from tests.dashboard.opened import charts, open_page, said

DEMOS = ("highest-k-gradients-05", "forget-class-retrained", "wrong-labels", "backdoor")
WRONG = "What would make this wrong"


def info_of(name: str) -> dict[str, Any]:
    return json.loads((asset("demo") / name / RECORD).read_text(encoding="utf-8"))


def facts(info: dict[str, Any], *, ranking: bool = False, **more: Any) -> Facts:
    """Of the first two methods: their updates, or their rankings of the first test image."""
    methods = [m for m in info["methods"] if m in ("if", "gif")]
    query = info["queries"][0]
    entries = {m: info["methods"][m] for m in methods}
    if ranking:
        found = {m: e["query_certificates"][str(query["index"])] for m, e in entries.items()}
    else:
        found = {m: e["certificate"] for m, e in entries.items() if "certificate" in e}
    return Facts(info, methods, found, query if ranking else None, **more)


def names(found: Facts) -> set[str]:
    """Which sentences are true of a record."""
    return {name for name, rule in RULES.items() if rule(found) is not None}


# --- the sentences --------------------------------------------------------------------------------


def test_every_sentence_has_a_rule_a_place_and_all_its_gaps_filled() -> None:
    texts = sections("doubts")
    assert set(texts) == set(RULES) == {name for figure in FIGURES.values() for name in figure}
    full = facts(info_of(DEMOS[0]), others=4, smallest=("Bag", 20), right=0.9, ends={"gif": "last"})
    assert {"selector", "row", "memorised", "edge"} <= names(full)


@pytest.mark.parametrize("demo", DEMOS)
def test_every_figure_gets_two_to_four_sentences(demo: str) -> None:
    info = info_of(demo)
    for figure in FIGURES:
        ranking = figure in (*sure.RANKINGS, "labels", "speed")
        if not ranking and "certificate" not in info["methods"]["gif"]:
            continue
        lines = doubts.of(facts(info, ranking=ranking), figure)
        assert 2 <= len(lines) <= MOST, figure
        assert all(line.startswith("**") and "{" not in line for line in lines)


def test_a_solve_that_converged_is_no_doubt_and_one_that_did_not_says_how_much_is_left() -> None:
    info = info_of(DEMOS[0])
    (line,) = [x for x in doubts.of(facts(info), "unit") if "stopped early" in x]
    assert "(IF and GIF)" in line
    left = max(info["methods"]["if"]["certificate"]["residual"],
               info["methods"]["gif"]["certificate"]["normal_residual"])  # fmt: skip
    assert f"{100 * left:.1f} %" in line
    done = copy.deepcopy(info)
    for method in ("if", "gif"):
        done["methods"][method]["certificate"]["status"] = "converged"
    assert "open-update" not in names(facts(done))
    assert "open-update" in names(facts(info))


def test_a_small_test_class_is_named_with_its_wilson_interval() -> None:
    info = info_of(DEMOS[0])
    steps = info["methods"]["gif"]["steps"]["searched"]["test"]
    assert (steps["self_n"], steps["self"]) == (200, 0.01)
    (line,) = [x for x in doubts.of(facts(info), "before-after") if "95 % interval" in x]
    assert line.startswith("**200 test images stand behind 1.0 % (GIF)**")
    assert "0.3 % to 3.6 %" in line
    many = copy.deepcopy(info)
    many["before"]["test"]["self_n"] = 200_000
    assert "small" not in names(facts(many))
    none = copy.deepcopy(info)
    none["before"]["test"]["self_n"] = 0
    assert "no-images" in names(facts(none))
    assert "small" not in names(facts(none))


def changed(certificates: dict[str, Any]) -> Facts:
    info = copy.deepcopy(info_of("forget-class-retrained"))
    for method in ("if", "gif"):
        entry = info["methods"][method]["query_certificates"]
        entry |= {query: found | certificates for query, found in entry.items()}
    return facts(info, ranking=True)


@pytest.mark.parametrize(
    ("certificates", "name", "words"),
    [
        ({"rank_stability": 0.5}, "unstable", "25 and 25 of the first 50"),
        ({"rank_stability": 0.9}, "", ""),
        ({"rank_stability": None}, "unknown-stability", "IF and GIF"),
        ({"negative_curvature": True}, "negative", "not at a minimum"),
        ({"negative_curvature": False}, "", ""),
        ({"samples": 100}, "few-samples", "100 of 8,000 training images"),
        ({"samples": 8000}, "", ""),
        ({"damping": 0.5, "lambda_max": 12.0}, "damping", "0.500 is added"),
        ({"damping": 0.0}, "", ""),
    ],
)
def test_what_a_certificate_says_decides(
    certificates: dict[str, Any], name: str, words: str
) -> None:
    found = changed(certificates)
    key = next(iter(certificates))
    about = {
        "rank_stability": {"unstable", "unknown-stability"},
        "negative_curvature": {"negative"},
        "samples": {"few-samples"},
        "damping": {"damping"},
    }[key]
    assert names(found) & about == ({name} if name else set())
    if name:
        values = RULES[name](found)
        assert values is not None
        assert words in sections("doubts")[name].format(**values)


DIRECT = {"solver": "dense", "rank_stability": None}


@pytest.mark.parametrize(
    ("certificates", "expected"),
    [
        ({"status": "no solution found"}, {"unsolved"}),
        ({"status": "singular"}, set()),  # of all solutions that of least norm
        ({"status": "exact termination"}, set()),
        ({"status": "not finite", "residual": math.inf, "normal_residual": math.inf}, {"unsolved"}),
        ({"status": "diverged", "solver": "p-lissa", "rank_stability": 0.9}, {"unsolved"}),
        ({"status": "iteration limit", "solver": "lsmr"}, {"open-ranking", "unknown-stability"}),
    ],
)
def test_a_direct_solve_is_never_told_to_iterate_longer(
    certificates: dict[str, Any], expected: set[str]
) -> None:
    found = changed(DIRECT | certificates)
    about = {"open-ranking", "unsolved", "unknown-stability"}
    assert names(found) & about == expected
    lines = " ".join(doubts.of(found, "samples"))
    assert ("`iterations`" in lines) == ("open-ranking" in expected)
    assert ("no longer solve would change" in lines) == ("unsolved" in expected)
    assert "inf" not in lines.split()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("no_solution_found", "solved directly, but no solution found, "
         "1 of 1 ranking solves without a solution"),
        ("singular", "solved directly"),
        ("exact termination", "solved directly"),
    ],
)  # fmt: skip
def test_the_verdict_of_a_direct_solve_speaks_of_no_iterations(status: str, words: str) -> None:
    certificate = {"status": status, "solver": "dense", "rank_stability": None}
    entry = {"certificate": certificate, "query_certificates": {"3": certificate}}
    assert trust(entry) == words
    iterated = certificate | {"solver": "lsmr"}
    known = trust({"certificate": iterated, "query_certificates": {"3": iterated}})
    assert "stability of the ranking not measured" in known


def test_several_draws_take_the_place_of_the_doubt_about_one() -> None:
    info = info_of(DEMOS[0])
    assert "few-samples" in names(facts(info))
    info["methods"]["gif"]["spread"] = {"draws": 3, "mean_cosine": 0.5, "norm_deviation": 0.1}
    assert {"draws"} == names(facts(info)) & {"draws", "few-samples"}
    info["methods"]["gif"]["spread"]["mean_cosine"] = 0.99
    assert not names(facts(info)) & {"draws", "few-samples"}


def test_retrained_models_decide_what_is_said_of_the_edit() -> None:
    about = {"unchecked", "one-retrained", "retrained-apart", "flips-retrained", "seeds"}
    assert names(facts(info_of(DEMOS[0]))) & about == {"unchecked"}
    info = info_of("forget-class-retrained")
    assert names(facts(info)) & about == {"retrained-apart", "flips-retrained", "seeds"}
    info["retrained"]["models"] = info["retrained"]["models"][:1]
    assert "one-retrained" in names(facts(info))


def test_a_certain_image_a_group_and_a_preview_are_told() -> None:
    info = info_of(DEMOS[0])
    base = facts(info, ranking=True)
    sure_of_it = Facts(info, base.methods, base.certificates, {"p_label": 0.999})
    assert "certain" in names(sure_of_it)
    assert "certain" not in names(Facts(info, base.methods, {}, {"p_label": 0.5}))
    grouped = {"p_label": 0.999, "group": {"name": "all", "size": 20}}
    assert {"group"} == names(Facts(info, base.methods, {}, grouped)) & {"group", "certain"}
    (line,) = [x for x in doubts.of(base, "preview") if "misses some" in x]
    worst = info["preview"]["recall"]["gif"]["largest"]
    assert f"{100 * worst['mean']:.0f} % on average and {100 * worst['min']:.0f} % at worst" in line


# --- the panels -----------------------------------------------------------------------------------

PLACES = [  # page, tab and the panel there
    ("samples", "few", "samples"),
    ("parameters", "network", "parameters"),
    ("parameters", "layer", "layer"),
    ("parameters", "unit", "unit"),
    ("before-after", "accuracies", "before-after"),
    ("before-after", "retrained", "agreement"),
    ("before-after", "edit", "step-search"),
    ("before-after", "confusions", "confusion"),
    ("before-after", "histogram", "histogram"),
    ("before-after", "flips", "flips"),
    ("compare", "rankings", "compare"),
    ("compare", "overlap", "compare"),
    ("compare", "flow", "compare"),
    ("compare", "every", "compare"),
    ("compare", "moves", "compare-layer"),
    ("compare", "edits", "compare-edits"),
]
SECOND = {"layer", "unit", "step-search", "confusion", "histogram", "flips", "compare-layer"}
OF_RANKING = ("samples", "compare")


def panels(app: AppTest) -> int:
    return sum(box.label == sure.NAME for box in app.expander)


@pytest.mark.parametrize(("page", "tab", "key"), PLACES)
def test_every_figure_has_one_closed_panel_that_opens(
    empty_workspace: Path, page: str, tab: str, key: str
) -> None:
    make_record(empty_workspace / "one", seeds=(1, 2, 3))
    app = open_page(page, tab=tab)
    drawn = charts(app)
    assert panels(app) == 1
    assert WRONG not in said(app)
    app.session_state[f"sure-{key}"] = True
    app.run()
    assert not app.exception
    text = said(app)
    assert text.count(WRONG) == 1
    assert text.count("**The solves**") == (key not in SECOND)
    assert charts(app) == drawn + 1  # the residuals
    assert certificate.sentence("gif", _certificate(app, key)).strip() in text
    checked = "**The ranking was not checked by retraining.** The 3 retrained models" in text
    assert checked == (key in OF_RANKING)
    alone = key not in SECOND and key not in OF_RANKING
    assert text.count("Held against 3 retrained models** (") == alone
    assert text.count("Held against 3 retrained models.** Same") == (key in SECOND)
    assert "`" not in "".join(c.value for c in app.caption if "\\`" in c.value)


def _certificate(app: AppTest, key: str) -> dict[str, Any]:
    context = app.session_state["context"]
    entry = context.info["methods"]["gif"]
    if key in OF_RANKING:
        return entry["query_certificates"][str(context.query)]
    return entry["certificate"]


def test_without_retrained_models_the_panel_says_so_and_how_to_get_them(
    empty_workspace: Path,
) -> None:
    make_workspace(empty_workspace)
    app = open_page("parameters")
    app.session_state["sure-parameters"] = True
    app.run()
    assert "Not checked by retraining" in said(app)
    assert "set `seeds` to 3" in said(app)
    assert "1 other can be picked in the sidebar" in said(app)


@pytest.mark.usefixtures("empty_workspace")
def test_names_of_options_are_code_and_not_backticks(empty_workspace: Path) -> None:
    make_record(empty_workspace / "one")
    text = said(open_page("before-after", tab="retrained"))
    assert "set `seeds` to 3 in the section [retrain]" in text
    assert "set seeds in the section \\[retrain\\]" in text  # so small and pale it is no code
    assert "\\`" not in text
