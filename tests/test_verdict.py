"""The verdict: what may be said of which numbers, by cases of dicts as record.json holds them."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from gifcore import held_against
from gifcore.held_against import Spread, truth
from gifcore.verdict import rules, verdicts

IMAGES = {"class": ("self_n", "retain_n"), "samples": ("touched_n", "n")}
IMAGES |= {"backdoor": ("triggered_n", "clean_n")}
CHANGES: dict[str, dict[str, Any]] = {
    "remove-class": {"judged_by": "class", "label": 8, "class_name": "8", "removed": 170},
    "remove-samples": {"judged_by": "samples", "touched": 3},
    "relabel": {"judged_by": "samples", "touched": 2},
    "reweight": {"judged_by": "samples", "touched": 2},
    "add-samples": {"judged_by": "samples", "touched": 4},
    "union": {"judged_by": "samples", "touched": 5, "kinds": ["remove-samples", "relabel"]},
    "backdoor": {"judged_by": "backdoor", "label": 4, "class_name": "4", "touched": 100},
}
KEYS = {"class": ("self", "retain"), "samples": ("reached", "accuracy")}
KEYS |= {"backdoor": ("corrupt", "clean")}


def metrics(kind: str, own: float | None, rest: float, score: float = 0.5) -> dict[str, Any]:
    """Metrics of one split; 250 images the change is about, 1,000 others."""
    task = CHANGES[kind]["judged_by"]
    counts = dict(zip(IMAGES[task], (250, 1000), strict=True))
    more = {"touched_accuracy": 0.75, "corrupt_expected": 0.1, "relabel": 0.9}
    return more | dict(zip(KEYS[task], (own, rest), strict=True)) | counts | {"score": score}


def certificate(status: str = "converged", stability: float | None = None) -> dict[str, Any]:
    return {"solver": "lsmr", "status": status, "rank_stability": stability}


def method(kind: str, own: float | None, rest: float, score: float = 0.5) -> dict[str, Any]:
    near = {"scale": 1.0, "test": metrics(kind, 0.9, 0.95)}
    far = {"scale": 12.6, "test": metrics(kind, own, rest, score)}
    return {
        "steps": {"natural": near, "searched": far},
        "certificate": certificate(),
        "query_certificates": {"3": certificate(stability=0.94)},
    }


def record(
    kind: str = "remove-class",
    before: tuple[float, float] = (0.96, 0.91),
    **methods: dict[str, Any],
) -> dict[str, Any]:
    return {
        "change": CHANGES[kind] | {"kind": kind},
        "selection": {"ratio": 0.05},
        "data": {"sizes": {"train": 900, "validation": 100, "test": 1250}},
        "before": {"test": metrics(kind, *before)},
        "methods": methods,
    }


def figure(*values: float) -> dict[str, Any]:
    spread = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "std": spread, "values": list(values)}


def retrained(
    info: dict[str, Any],
    models: list[tuple[float, float]],
    same: dict[str, tuple[float, ...]],
    before: tuple[float, ...] | None = None,
    between: tuple[float, ...] | None = None,
) -> dict[str, Any]:
    """The record with these retrained models (own, rest) and agreements of searched steps."""
    kind = info["change"]["kind"]
    entries = [
        {"seed": seed, "converged": None, "test": metrics(kind, own, rest)}
        for seed, (own, rest) in enumerate(models, start=1)
    ]
    agreement = {
        name: {"searched": {"same_predictions": figure(*values)}} for name, values in same.items()
    }
    found = {"models": entries, "agreement": agreement, "between": None, "before": {}}
    if between is not None:
        found["between"] = {"same_predictions": figure(*between)}
    if before is not None:
        found["before"] = {"same_predictions": figure(*before)}
    return info | {"retrained": found}


def line(info: dict[str, Any], name: str = "gif") -> str:
    return verdicts(info, [name])[0].text


THREE = [(0.0, 0.901), (0.0, 0.903), (0.0, 0.905)]


def test_the_line_of_the_issue() -> None:
    info = record(gif=method("remove-class", 0.004, 0.891))
    info["methods"]["gif"]["certificate"] = certificate("iteration limit")
    info = retrained(
        info, THREE, {"gif": (0.970, 0.972, 0.974)}, (0.88, 0.881, 0.882), (0.978, 0.979, 0.980)
    )
    assert line(info) == (
        "GIF at 5 %, searched step (× 12.6): forgets class 8 (0.4 % left, 96.0 % before, "
        "retrained models 0.0 ± 0.0 %: within their spread), keeps the rest (89.1 %, retrained "
        "models 90.3 ± 0.2 %, 1.2 points below them); its predictions agree with retrained models "
        "on 97.2 % of test images (retrained models with each other 97.9 %, the unedited model "
        "88.1 %); its natural step (× 1): 90.0 % left, the rest 95.0 %; solve not converged "
        "(iteration limit), ranking stable (0.94)."
    )


# --- what the edit does ---------------------------------------------------------------------------

OWN: list[tuple[str, float, float, str]] = [  # kind, before, after: the verb without retraining
    ("remove-class", 0.96, 0.00, "forgets class 8 ("),
    ("remove-class", 0.96, 0.048, "forgets class 8 ("),
    ("remove-class", 0.96, 0.05, "forgets class 8 in part ("),
    ("remove-class", 0.96, 0.93, "does not forget class 8 ("),
    ("remove-class", 0.96, 0.99, "does not forget class 8 ("),
    ("remove-class", 0.0, 0.0, "has nothing to do to forget class 8"),
    ("remove-class", 0.0, 0.2, "moves away from the aim"),
    ("remove-samples", 0.2, 1.0, "forgets 3 training samples (change reached 100.0 %"),
    ("remove-samples", 0.2, 0.6, "forgets 3 training samples in part"),
    ("remove-samples", 0.2, 0.2, "does not forget 3 training samples"),
    ("relabel", 0.0, 1.0, "learns the new labels of 2 training samples ("),
    ("relabel", 0.0, 0.5, "learns the new labels of 2 training samples in part"),
    ("reweight", 0.1, 1.0, "weighs anew 2 training samples ("),
    ("add-samples", 0.0, 0.0, "does not learn 4 training samples"),
    ("union", 0.3, 0.99, "takes up the change of 5 training samples ("),
    ("backdoor", 0.95, 0.12, "takes back the backdoor for “4” ("),
    ("backdoor", 0.95, 0.5, "takes back the backdoor for “4” in part"),
    ("backdoor", 0.95, 0.94, "does not take back the backdoor for “4”"),
]


@pytest.mark.parametrize(("kind", "before", "after", "verb"), OWN)
def test_how_far_the_aim_is_reached(kind: str, before: float, after: float, verb: str) -> None:
    info = record(kind, (before, 0.91), gif=method(kind, after, 0.90))
    assert f"(× 12.6): {verb}" in line(info)


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        ("remove-class", "(10.0 % left, 50.0 % before)"),
        (
            "relabel",
            "(change reached 10.0 %, 50.0 % before, accuracy on the relabelled training samples "
            "75.0 %)",
        ),
        ("backdoor", "(10.0 % of images with the trigger taken for 4, 50.0 % before)"),
    ],
)
def test_every_number_says_what_it_is_of(kind: str, numbers: str) -> None:
    assert numbers in line(record(kind, (0.5, 0.91), gif=method(kind, 0.1, 0.9)))


@pytest.mark.parametrize(
    ("rest", "verb"),
    [
        (0.93, "keeps the rest (93.0 %, 91.0 % before)"),
        (0.89, "keeps the rest (89.0 %, 91.0 % before)"),
        (0.88, "loses 3.0 points on the rest (88.0 %, 91.0 % before)"),
    ],
)
def test_whether_the_rest_is_kept(rest: float, verb: str) -> None:
    assert verb in line(record(gif=method("remove-class", 0.0, rest)))


def test_where_nothing_was_counted_nothing_is_said_to_be_reached() -> None:
    info = record(gif=method("remove-class", 0.0, 0.0))
    for of in (info["before"]["test"], info["methods"]["gif"]["steps"]["searched"]["test"]):
        of["retain_n"] = 0
    assert "the rest: not measured, there are no others" in line(info)
    assert "keeps" not in line(info)
    info = record(gif=method("remove-class", 0.0, 0.9))
    info["methods"]["gif"]["steps"]["searched"]["test"]["self_n"] = 0
    assert "to forget class 8: not measured, there are no images of the removed class" in line(info)


# --- held against retrained models ----------------------------------------------------------------


def test_without_retrained_models_nothing_is_called_as_good_and_how_to_is_said() -> None:
    info = record(gif=method("remove-class", 0.0, 0.9))
    assert "; not held against retrained models; " in line(info)
    assert "agree" not in line(info)
    assert any("[retrain]" in rule and "`seeds`" in rule for rule in rules(info))
    assert not any("their spread" in rule for rule in rules(info))
    held = retrained(info, THREE, {"gif": (0.9, 0.9, 0.9)})
    assert not any("[retrain]" in rule for rule in rules(held))
    assert any("their spread" in rule for rule in rules(held))


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        (0.9064, "keeps the rest (90.6 %, retrained models 90.3 ± 0.2 %: within their spread)"),
        (0.8996, "keeps the rest (90.0 %, retrained models 90.3 ± 0.2 %: within their spread)"),
        (0.898, "retrained models 90.3 ± 0.2 %, 0.5 points below them)"),
        (0.920, "retrained models 90.3 ± 0.2 %, 1.7 points above them)"),
        (0.860, "loses 4.3 points on the rest (86.0 %, retrained models 90.3 ± 0.2 %);"),
    ],
)
def test_differences_within_the_spread_are_called_so(rest: float, words: str) -> None:
    info = record(gif=method("remove-class", 0.0, rest))
    assert words in line(retrained(info, THREE, {"gif": (0.9, 0.9, 0.9)}))


def test_a_loss_as_wide_as_the_spread_is_none() -> None:
    info = record(gif=method("remove-class", 0.0, 0.85))
    wide = retrained(info, [(0.0, 0.86), (0.0, 0.90), (0.0, 0.94)], {})
    assert "keeps the rest (85.0 %, retrained models 90.0 ± 4.0 %: within their spread)" in line(
        wide
    )


def test_one_retrained_model_has_no_spread() -> None:
    info = retrained(
        record(gif=method("remove-class", 0.0, 0.9)), [(0.0, 0.9)], {"gif": (0.97,)}, (0.9,)
    )
    assert "one retrained model 90.0 %)" in line(info)
    assert "spread" not in line(info)
    assert "agree with the one retrained model on 97.0 % of test images (the unedited" in line(info)
    assert any("has no spread: what another seed would do" in rule for rule in rules(info))
    assert not any("their spread" in rule for rule in rules(info))
    info["retrained"]["recipe"] = {"kind": "minimise", "start": "warm"}
    assert any("has no spread: its recipe draws nothing" in rule for rule in rules(info))


def test_retrained_models_set_the_aim() -> None:
    """Removed samples that retrained models still know are not to be forgotten further."""
    info = record("remove-samples", (0.2, 0.9), gif=method("remove-samples", 0.5, 0.9))
    models = [(0.5, 0.9), (0.51, 0.9), (0.49, 0.9)]
    same = {"gif": (0.9, 0.9, 0.9)}
    assert "): forgets 3 training samples (change reached 50.0 %" in line(
        retrained(info, models, same)
    )
    info = record("remove-samples", (0.2, 0.9), gif=method("remove-samples", 0.9, 0.9))
    assert "forgets 3 training samples, more than retrained models do (" in line(
        retrained(info, models, same)
    )
    info = record("remove-samples", (0.5, 0.9), gif=method("remove-samples", 0.5, 0.9))
    assert "the unedited model is at what retrained models do already" in line(
        retrained(info, models, same)
    )


@pytest.mark.parametrize(
    ("gif", "words"),
    [
        ((0.90, 0.91, 0.92), "the unedited model 89.0 %);"),
        ((0.88, 0.89, 0.90), "so no nearer to them than the unedited model);"),
        ((0.8, 1.0, 1.0), "so no nearer to them than the unedited model);"),
        ((0.87, 0.88, 0.89), "so farther from them than the unedited model);"),
    ],
)
def test_no_nearer_than_the_unedited_model_is_said(gif: tuple[float, ...], words: str) -> None:
    info = retrained(
        record(gif=method("remove-class", 0.0, 0.9)), THREE, {"gif": gif}, (0.88, 0.89, 0.90)
    )
    assert words in line(info)


@pytest.mark.parametrize(
    ("kind", "images"),
    [
        ("remove-class", "images of the removed class"),
        ("backdoor", "images with the trigger"),
        ("relabel", "relabelled training samples"),
    ],
)
def test_agreement_on_what_the_change_is_about_is_said_apart(kind: str, images: str) -> None:
    info = retrained(
        record(kind, (0.5, 0.9), gif=method(kind, 0.2, 0.9)), [(0.1, 0.9), (0.1, 0.9)], {}
    )
    found = info["retrained"]
    found["agreement"]["gif"] = {
        "searched": {
            "same_predictions": figure(0.9, 0.9),
            "same_predictions_own": figure(0.6, 0.8),
        }
    }
    found["between"] = {"same_predictions_own": figure(0.85)}
    found["before"] = {"same_predictions_own": figure(0.1, 0.1)}
    assert (
        f"on 90.0 % of test images and on 70.0 % of {images} (with each other 85.0 %, unedited "
        "10.0 %);"
    ) in line(info)


def test_a_model_whose_training_went_astray_is_named_and_left_out() -> None:
    models = [THREE[0], (0.0, 0.1), THREE[2]]
    info = retrained(
        record(gif=method("remove-class", 0.0, 0.9)),
        models,
        {"gif": (0.97, 0.1, 0.98)},
        (0.88, 0.1, 0.88),
        (0.1, 0.979, 0.1),  # pairs 1-2, 1-3, 2-3
    )
    said = line(info)
    assert "retrained models 90.3 ± 0.3 %" in said
    assert "on 97.5 % of test images (retrained models with each other 97.9 %" in said
    assert any("seed 2 ended at 10.0 %" in rule for rule in rules(info))
    odd = retrained(info, models, {"gif": (0.97, 0.1, 0.98)}, None, (0.5, 0.6))
    found = truth(odd)
    assert found is not None
    assert found.between("same_predictions") is None  # whose values they are is not known


@pytest.mark.parametrize("test", [None, {}, {"retain": None}])
def test_models_without_accuracy_are_none(test: Any) -> None:
    info = retrained(record(gif=method("remove-class", 0.0, 0.9)), [(0.0, 0.9)], {"gif": (0.9,)})
    model = info["retrained"]["models"][0] | {"test": test}
    info["retrained"]["models"] = [model]
    assert truth(info) is None
    assert "not held against retrained models" in line(info)
    assert any("seed 1 has no accuracy" in rule for rule in rules(info))
    info["retrained"]["models"] = [model | {"failed": "The loss is not finite."}]
    assert any("seed 1 failed and is left out: The loss" in rule for rule in rules(info))


def test_retraining_that_fell_short_is_said() -> None:
    info = retrained(record(gif=method("remove-class", 0.0, 0.9)), [(0, 0.8), (0, 0.8)], {})
    info["retrained"]["models"][1]["converged"] = False
    said = " ".join(held_against.remarks(info))
    assert "did not reach its tolerance for seed 2:" in said
    info["retrained"]["models"][0]["note"] = "a process was lost"
    assert "Seed 1: a process was lost" in held_against.remarks(info)
    assert "reach 80.0 % on others, the unedited model 91.0 %" in said
    assert "not held against retrained models" in line(info)  # this edit was not


# --- the control ----------------------------------------------------------------------------------

CONTROL: list[tuple[float, tuple[float, float] | None, str]] = [
    (0.93, None, "worse than gradient ascent by F1 (0.930 against 0.960);"),
    (0.99, None, "better than gradient ascent by F1 (0.990 against 0.960);"),
    (0.951, None, "no different from gradient ascent by F1 (0.951 against 0.960);"),
    (
        0.93,
        (0.95, 0.97),
        "worse than gradient ascent by F1 (0.930 against 0.960) and agreement with retrained "
        "models (95.0 % against 97.0 %);",
    ),
    (
        0.99,
        (0.95, 0.97),
        "worse than gradient ascent by agreement with retrained models (95.0 % against 97.0 %), "
        "better than gradient ascent by F1 (0.990 against 0.960);",
    ),
    (
        0.93,
        (0.965, 0.97),
        "worse than gradient ascent by F1 (0.930 against 0.960), no different from gradient "
        "ascent by agreement with retrained models (96.5 % against 97.0 %);",
    ),
]


@pytest.mark.parametrize(("score", "same", "words"), CONTROL)
def test_worse_than_gradient_ascent_is_said(
    score: float, same: tuple[float, float] | None, words: str
) -> None:
    info = record(
        gif=method("remove-class", 0.0, 0.9, score),
        gradient=method("remove-class", 0.0, 0.9, 0.96),
    )
    if same is not None:
        info = retrained(info, THREE, {"gif": 3 * (same[0],), "gradient": 3 * (same[1],)})
    assert f"; {words}" in line(info)
    assert "gradient ascent" not in line(info, "gradient")
    assert any("0.01 of F1" in rule for rule in rules(info))


def test_for_other_changes_the_control_is_a_step() -> None:
    info = record(
        "relabel",
        gif=method("relabel", 1.0, 0.9, 0.9),
        gradient=method("relabel", 1.0, 0.9, 0.96),
    )
    assert "worse than the gradient step by F1" in line(info)


# --- steps, solves, rankings ----------------------------------------------------------------------


def test_natural_and_searched_steps_are_told_apart() -> None:
    info = record(gif=method("remove-class", 0.0, 0.9))
    steps = info["methods"]["gif"]["steps"]
    assert "its natural step (× 1): 90.0 % left, the rest 95.0 %" in line(info)
    steps["searched"]["test"] = dict(steps["natural"]["test"])
    assert "the natural step (× 1) does the same" in line(info)
    del steps["searched"]
    assert line(info).startswith("GIF at 5 %, natural step (× 1): forgets class 8 in part")
    assert line(info).count("natural") == 1
    held = retrained(record(gif=method("remove-class", 0.0, 0.9)), THREE, {"gif": 3 * (0.9,)})
    held["retrained"]["agreement"]["gif"]["natural"] = {"same_predictions": figure(0.8, 0.8, 0.8)}
    assert "the rest 95.0 %, agrees on 80.0 %;" in line(held)


@pytest.mark.parametrize(
    ("update", "rankings", "words"),
    [
        (certificate(), [0.94, 0.8], "solve converged, ranking stable (0.80)."),
        (certificate(), [0.94, 0.62], "solve converged, ranking unstable (0.62)."),
        (certificate("exact termination"), [], "solve converged."),
        (certificate("stagnated"), [], "solve not converged (stagnated)."),
        (
            certificate("diverged"),
            [None],
            "solve not converged (diverged), stability of the ranking not measured.",
        ),
        (
            certificate() | {"negative_curvature": True},
            [1.0],
            "solve converged, negative curvature met, ranking stable (1.00).",
        ),
        (certificate("no system") | {"solver": "none"}, [], "no system to solve."),
        (
            certificate("no system") | {"solver": "ekfac closed form"},
            [],
            "closed form, nothing to converge.",
        ),
    ],
)
def test_solves_and_rankings(update: dict[str, Any], rankings: list[Any], words: str) -> None:
    info = record(gif=method("remove-class", 0.0, 0.9))
    entry = info["methods"]["gif"]
    entry["certificate"] = update
    entry["query_certificates"] = {
        str(q): certificate(stability=share) for q, share in enumerate(rankings)
    }
    assert line(info).endswith(f"; {words}")


def test_what_stable_means_is_said_where_it_was_measured() -> None:
    info = record(gif=method("remove-class", 0.0, 0.9))
    assert any("0.8 of its top is there at half the solver" in rule for rule in rules(info))
    info["methods"]["gif"]["query_certificates"] = {"3": certificate()}
    assert not any("of its top" in rule for rule in rules(info))


def test_unfinished_ranking_solves_and_scattered_draws_are_said() -> None:
    info = record(gif=method("remove-class", 0.0, 0.9))
    entry = info["methods"]["gif"]
    entry["spread"] = {"mean_cosine": 0.62, "draws": 3}
    entry["query_certificates"] = {
        "1": certificate("iteration limit", 0.9),
        "2": certificate("converged", 0.9),
        "3": certificate("no system"),
    }
    assert line(info).endswith(
        "solve converged, its direction hangs on the curvature samples (mean cosine 0.62), "
        "ranking stable (0.90), 1 of 3 ranking solves not converged."
    )


def test_if_moves_all_parameters_and_a_ranking_is_no_edit() -> None:
    info = record(**{"if": method("remove-class", 0.0, 0.9)})
    assert line(info, "if").startswith("IF (all parameters), searched step")
    ranked = {"query_certificates": {"3": certificate(stability=0.94)}}
    info = record(gif=ranked)
    assert line(info) == "GIF at 5 %, no edit: only ranked; ranking stable (0.94)."
    assert rules(info) == []


def test_a_spread_is_two_standard_deviations_and_at_least_one_image() -> None:
    spread = Spread((0.8, 0.9))
    assert spread.std == pytest.approx(statistics.stdev((0.8, 0.9)))
    assert [spread.holds(v, 10_000) for v in (0.70, 0.72, 0.85, 0.99, 1.0)] == [
        False, True, True, True, False,
    ]  # fmt: skip
    assert Spread((0.5, 0.5)).holds(0.504, 250) is True
    assert Spread((0.5, 0.5)).holds(0.509, 250) is False
    assert Spread((0.5,)).holds(0.5, 250) is None
