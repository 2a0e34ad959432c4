"""Studies held against retrained models: every figure by hand, what fails, what is kept."""

from __future__ import annotations

import itertools
import json
import math
import shutil
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from gifcore import checkup, data, runner, stages, study, truth
from gifcore.errors import Cancelled, GifError
from gifcore.estimate import estimate
from gifcore.evaluate.against import FIGURES, Said, Seen, figures
from gifcore.models import bundled
from gifcore.record import RETRAINED, Record
from gifcore.retraining.cache import Cache
from gifcore.retraining.identity import Identity
from gifcore.run_state import RunState
from tests.conftest import KINDS, study_of_kind

RETRAIN = {"seeds": 3, "epochs": 2}


def forget(retrain: dict[str, Any], **sections: Any) -> study.Study:
    values: dict[str, Any] = {
        "title": "Forget 8, retrained",
        "methods": ["gif"],
        "data": {"source": "digits"},
        "model": {"name": "fcn"},
        "change": {"label": 8},
        "selection": {"ratio": 0.1},
        "curvature": {"samples": 64},
        "solver": {"iterations": 3},
        "ranking": {"count": 0},
        "retrain": retrain,
    }
    return study.parse(values | sections)


def run(asked: study.Study, workspace: Path, name: str = "a", **more: Any) -> Record:
    return runner.run(runner.prepare(asked), workspace / name, workspace=workspace, **more)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with one record of three retrained models; only to be read."""
    folder = tmp_path_factory.mktemp("retrained") / "runs"
    run(forget(RETRAIN), folder)
    return folder


@pytest.fixture
def record(workspace: Path) -> Record:
    return Record.open(workspace / "a")


def thetas(record: Record, workspace: Path) -> list[np.ndarray]:
    files = [workspace / ".retrained" / f"{m['key']}.safetensors" for m in models(record)]
    return [load_file(file)["theta"].double().numpy() for file in files]


def models(record: Record) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = record.info["retrained"]["models"]
    return found


def edited(record: Record, step: str) -> np.ndarray:
    weights = load_file(str(bundled("fcn", "digits")))
    names = [layer["name"] for layer in record.info["model"]["layers"]]
    theta = torch.cat([weights[name].reshape(-1) for name in names]).double().numpy()
    indices, delta = record.update("gif")
    assert indices is not None
    theta[indices] += record.info["methods"]["gif"]["steps"][step]["scale"] * delta
    return theta


def by_hand(one: Any, other: Any, own: np.ndarray) -> dict[str, float]:
    """Figures of two frames of samples.parquet."""
    same = (one["predicted"] == other["predicted"]).to_numpy()
    apart = (one["loss"] - other["loss"]).to_numpy()
    counts = [f["predicted"][own].value_counts(normalize=True) for f in (one, other)]
    classes = set(counts[0].index) | set(counts[1].index)
    return {
        "same_predictions": same.mean(),
        "same_predictions_own": same[own].mean(),
        "same_predictions_rest": same[~own].mean(),
        "total_variation_own": sum(abs(counts[0].get(c, 0) - counts[1].get(c, 0)) for c in classes)
        / 2,
        "loss_difference_own": apart[own].mean(),
        "loss_difference_rest": apart[~own].mean(),
    }


@pytest.mark.parametrize("step", ["natural", "searched"])
def test_agreement_is_what_the_rows_of_the_record_say(
    record: Record, workspace: Path, step: str
) -> None:
    found = record.info["retrained"]["agreement"]["gif"][step]
    assert set(found) == set(FIGURES)
    edit, theta = record.samples("gif", step), edited(record, step)
    own = (edit["label"] == 8).to_numpy()
    for place, (model, there) in enumerate(
        zip(models(record), thetas(record, workspace), strict=True)
    ):
        other = record.samples(RETRAINED, f"seed-{model['seed']}")
        for name, value in by_hand(edit, other, own).items():
            assert found[name]["values"][place] == pytest.approx(value, abs=1e-5), name
        far = np.linalg.norm(theta - there) / np.linalg.norm(there)
        assert found["distance"]["values"][place] == pytest.approx(far, rel=1e-4)
    for entry in found.values():
        assert entry["mean"] == pytest.approx(statistics.fmean(entry["values"]))
        assert entry["std"] == pytest.approx(statistics.stdev(entry["values"]))


def test_the_unedited_model_and_pairs_of_retrained_ones_are_compared_alike(record: Record) -> None:
    frames = [record.samples(RETRAINED, f"seed-{model['seed']}") for model in models(record)]
    before = record.samples("before")
    own = (before["label"] == 8).to_numpy()
    found = record.info["retrained"]
    for place, frame in enumerate(frames):
        for name, value in by_hand(before, frame, own).items():
            assert found["before"][name]["values"][place] == pytest.approx(value, abs=1e-5), name
    for place, (one, other) in enumerate(itertools.combinations(frames, 2)):
        for name, value in by_hand(one, other, own).items():
            assert found["between"][name]["values"][place] == pytest.approx(abs(value), abs=1e-5)
    assert all(len(entry["values"]) == 3 for entry in found["between"].values())


def test_a_retrained_model_has_the_metrics_of_its_rows(record: Record) -> None:
    for model in models(record):
        for split in ("validation", "test"):
            rows = record.samples(RETRAINED, f"seed-{model['seed']}", split)
            right = rows["label"] == rows["predicted"]
            own = rows["label"] == 8
            assert model[split]["self"] == pytest.approx(right[own].mean())
            assert model[split]["retain"] == pytest.approx(right[~own].mean())
        assert model["failed"] is None
        assert not model["cached"]
        left = record.info["data"]["sizes"]["train"] - record.info["change"]["removed"]
        assert model["steps"] == 2 * math.ceil(left / 128)  # two epochs in batches of the card
    assert [model["seed"] for model in models(record)] == [1, 2, 3]
    assert len({model["key"] for model in models(record)}) == 3
    assert record.info["retrained"]["recipe"]["epochs"] == 2


def test_total_variation_and_distance_of_two_models_by_hand() -> None:
    def seen(p: list[list[float]], theta: list[float]) -> Seen:
        probabilities = np.array(p)
        said = Said(probabilities.argmax(1), probabilities, -np.log(probabilities[:, 0]))
        nothing = Said(np.zeros(0, int), np.zeros((0, 0)), np.zeros(0))
        return Seen(said, said, nothing, np.array(theta))

    found = figures(
        seen([[0.5, 0.25, 0.25], [0.2, 0.6, 0.2]], [3.0, 0.0]),
        seen([[0.25, 0.25, 0.5], [0.1, 0.7, 0.2]], [0.0, 4.0]),
    )
    assert found["total_variation"] == pytest.approx((0.25 + 0.1) / 2)
    assert found["total_variation_own"] == pytest.approx(0.5)  # classes 0, 1 against 2, 1
    assert found["same_predictions"] == 0.5
    assert found["loss_difference_own"] == pytest.approx((np.log(0.5) + np.log(0.5)) / 2)
    assert found["distance"] == pytest.approx(5 / 4)
    assert found["loss_difference_rest"] is None
    assert found["same_predictions_rest"] is None


# --- every kind of change -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_change_is_held_against_retrained_models(kind: str, tmp_path: Path) -> None:
    asked = study_of_kind(
        kind, methods=["gif"], ranking={"count": 0}, retrain={"seeds": 2, "epochs": 1}
    )
    info = run(asked, tmp_path).info
    found = info["retrained"]["agreement"]["gif"]["natural"]
    for name in FIGURES:
        assert np.isfinite(found[name]["values"]).all(), name
    if kind == "backdoor":  # own: every test image with the trigger on it
        shares = np.array(found["same_predictions_own"]["values"]) * info["data"]["sizes"]["test"]
    else:  # own: the touched training samples
        shares = np.array(found["same_predictions_own"]["values"]) * info["change"]["touched"]
        assert found["same_predictions_rest"] == found["same_predictions"]
    np.testing.assert_allclose(shares, shares.round(), atol=1e-6)
    assert set(info["retrained"]["models"][0]["test"]) == set(info["before"]["test"])


# --- kept, failed, stopped ------------------------------------------------------------------------


def test_another_study_of_the_workspace_reads_the_models(workspace: Path, tmp_path: Path) -> None:
    mine = tmp_path / "runs"
    shutil.copytree(workspace, mine)
    other = run(forget(RETRAIN | {"seeds": 1}, selection={"ratio": 0.2}), mine, "b")
    assert [model["cached"] for model in models(other)] == [True]
    assert other.info["retrained"]["between"] is None
    entry = other.info["retrained"]["agreement"]["gif"]["natural"]["same_predictions"]
    assert entry["std"] is None
    assert entry["mean"] == entry["values"][0]


def test_methods_of_another_record_are_compared_too(workspace: Path, tmp_path: Path) -> None:
    mine = tmp_path / "runs"
    shutil.copytree(workspace, mine)
    both = forget(RETRAIN, methods=["gif", "gradient"])
    found = run(both, mine, "b", reuse=mine / "a", link=True)
    assert found.folder("gif") == (mine / "a").resolve()
    mine_says, theirs = (
        r.info["retrained"]["agreement"]["gif"] for r in (found, Record.open(mine / "a"))
    )
    for step, figure in itertools.product(mine_says, FIGURES):
        assert mine_says[step][figure]["values"] == pytest.approx(
            theirs[step][figure]["values"], abs=1e-5
        )
    assert set(found.info["retrained"]["agreement"]) == {"gif", "gradient"}


def test_without_an_edit_the_models_are_compared_with_the_unedited_one(
    workspace: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "runs"
    shutil.copytree(workspace, mine)
    found = run(forget(RETRAIN, edit={"enabled": False}), mine, "b").info["retrained"]
    assert found["agreement"] == {}
    assert found["before"] == Record.open(mine / "a").info["retrained"]["before"]


def with_card(folder: Path, **changes: Any) -> dict[str, str]:
    """Copy the bundled checkpoint; its card states other settings."""
    weights = bundled("fcn", "digits")
    assert weights is not None
    shutil.copy(weights, folder / "m.safetensors")
    card = json.loads(weights.with_suffix(".json").read_text())
    card["settings"] |= changes
    (folder / "m.json").write_text(json.dumps(card))
    return {"name": "fcn", "weights": str(folder / "m.safetensors")}


def test_a_training_that_diverges_is_a_line_of_the_record(tmp_path: Path) -> None:
    asked = forget(RETRAIN, model=with_card(tmp_path, lr=1e30))
    prepared = runner.prepare(asked)
    state = RunState(tmp_path, "", "", runner.STAGES, None)
    loaded = stages.load(asked, data.load("digits"), prepared.weights, 0.0, state)
    recipe = truth.recipe_of(asked, prepared.weights, loaded.problem)
    sound = truth.retrain_each(
        loaded.problem, [truth.Job(loaded.change, 1)], truth.Minimise("warm", 1.0, 3)
    )[0]
    assert isinstance(sound, truth.Retrained)
    # models of the seeds 1 and 3 as if they had not diverged
    prepared_decay = stages.load(
        asked, data.load("digits"), prepared.weights, prepared.weight_decay, state
    )
    recipe = truth.recipe_of(asked, prepared.weights, prepared_decay.problem)
    identity = Identity(prepared_decay.problem, recipe)
    for seed in (1, 3):
        key = identity.key(prepared_decay.change, seed)
        Cache(tmp_path / "runs" / ".retrained").write(key, sound)
    info = run(asked, tmp_path / "runs").info["retrained"]
    assert [model["cached"] for model in info["models"]] == [True, False, True]
    assert "Retraining diverged" in info["models"][1]["failed"]
    assert info["models"][1]["test"] is None
    values = info["agreement"]["gif"]["natural"]["same_predictions"]["values"]
    assert [value is None for value in values] == [False, True, False]
    pairs = info["between"]["same_predictions"]["values"]
    assert pairs == [None, 1.0, None]  # of 1 and 2, 1 and 3, 2 and 3


def test_a_cancelled_study_keeps_its_models(tmp_path: Path) -> None:
    asked = forget(RETRAIN)

    def listen(state: dict[str, Any]) -> None:
        retrain = state["stages"][-1]
        if retrain["note"].startswith("1 of 3"):
            raise Cancelled("enough")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gifcore.run_state.WRITE_EVERY", 0)
        with pytest.raises(Cancelled):
            run(asked, tmp_path, listen=listen)
    assert [model["cached"] for model in models(run(asked, tmp_path))] == [True, False, False]


# --- what is asked --------------------------------------------------------------------------------


def test_retraining_is_part_of_the_hash_only_where_it_is_asked(tmp_path: Path) -> None:
    def hash_of(**retrain: Any) -> str:
        return runner.prepare(forget(retrain)).hash

    assert hash_of() == hash_of(recipe="minimise", processes=4)
    assert len({hash_of(), hash_of(seeds=1), hash_of(seeds=2), hash_of(seeds=2, epochs=3)}) == 4
    assert hash_of(seeds=2) == hash_of(seeds=2, processes=2)
    cards = []
    for lr in (0.1, 0.2):
        (tmp_path / str(lr)).mkdir()
        model = with_card(tmp_path / str(lr), lr=lr)
        cards.append([runner.prepare(forget(r, model=model)).hash for r in ({}, {"seeds": 1})])
    assert cards[0][0] == cards[1][0]
    assert cards[0][1] != cards[1][1]  # the card decides how they are trained


def test_the_family_and_the_methods_do_not_know_of_retraining() -> None:
    one, other = (runner.prepare(forget(retrain)) for retrain in ({}, RETRAIN))
    assert one.family == other.family
    assert one.method_key("gif") == other.method_key("gif")
    assert not study.for_query(forget(RETRAIN), 3).retrain.enabled


def test_a_study_with_retraining_comes_back_from_its_text(tmp_path: Path) -> None:
    asked = forget({"seeds": 4, "start": "warm", "processes": 2, "epochs": 7})
    (tmp_path / "s.toml").write_text(study.dumps(asked))
    assert study.read(tmp_path / "s.toml") == asked


@pytest.mark.parametrize(
    ("retrain", "words"),
    [
        ({"seeds": 2, "recipe": "proximal"}, "set seeds = 1"),
        ({"seeds": 2, "recipe": "minimise", "start": "warm"}, "set seeds = 1"),
        ({"recipe": "minimise", "epochs": 3}, "epochs are those of recipe 'sgd'"),
        ({"recipe": "adam"}, "retrain.recipe"),
        ({"seeds": -1}, "retrain.seeds"),
    ],
)
def test_what_cannot_be_asked_is_said(retrain: dict[str, Any], words: str) -> None:
    with pytest.raises(GifError, match=words):
        forget(retrain)


def test_weights_without_a_card_say_what_to_do(tmp_path: Path) -> None:
    model = with_card(tmp_path)
    (tmp_path / "m.json").unlink()
    with pytest.raises(GifError, match="it states no settings: train with"):
        run(forget(RETRAIN, model=model), tmp_path / "runs")


@pytest.mark.parametrize("retrain", [{"recipe": "proximal"}, {"recipe": "minimise"}])
def test_other_recipes_go_to_the_minimum(retrain: dict[str, Any], tmp_path: Path) -> None:
    asked = forget({"seeds": 1} | retrain, model={"name": "logistic", "weight_decay": 0.1})
    info = run(asked, tmp_path).info["retrained"]
    assert info["recipe"]["kind"] == retrain["recipe"]
    assert info["models"][0]["converged"] is True
    assert info["models"][0]["gradient_norm"] <= info["recipe"]["tolerance"]


def test_the_time_is_said_before_it_starts() -> None:
    sizes = {"train": 1000, "validation": 100, "test": 100}
    costs = {"forward_per_sample": 1e-9, "jvp_per_sample": 1e-5, "hvp_per_sample": 1e-5}
    costs |= {"training_per_sample": 1e-3, "training_passes": 20.0}

    def seconds(**retrain: Any) -> float:
        return float(estimate(forget(retrain), sizes, costs)["stages"]["retrain"])

    assert seconds() == 0
    assert seconds(seeds=3) == pytest.approx(3 * 20 * 1000 * 1e-3, rel=1e-3)
    assert seconds(seeds=3, epochs=2) == pytest.approx(3 * 2 * 1000 * 1e-3, rel=1e-3)
    found = checkup.of(forget({"seeds": 2, "epochs": 5}))
    assert found["costs"]["training_passes"] == 5
    expected = 2 * 5 * found["data"]["sizes"]["train"] * found["costs"]["training_per_sample"]
    assert found["estimate"]["stages"]["retrain"] == pytest.approx(expected, rel=0.5)
