"""The search for wrong labels: the card it needs, its scores and measures, what it leaves."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from gifcore import data as datasets
from gifcore import mislabel, mislabel_words, runner
from gifcore.assets_path import asset
from gifcore.checkpoints import read_checkpoints
from gifcore.cli import app
from gifcore.data.noise import Noise
from gifcore.errors import GifError
from gifcore.evaluate import agreement
from gifcore.record import MISLABEL, Record
from gifcore.self_influence import self_influence
from gifcore.stages import load_problem
from gifcore.study import Study, dumps, for_query, parse, study_hash
from tests.conftest import mislabel_study


def refused(study: Study) -> str:
    with pytest.raises(GifError) as raised:
        runner.prepare(study)
    return str(raised.value)


# --- the card -----------------------------------------------------------------------------------


def test_the_very_wrong_labels_must_be_on_the_card(tmp_path: Path) -> None:
    assert runner.prepare(mislabel_study()).weights.name == "fcn-digits-noise.safetensors"
    assert "the wrong labels rate=0.2,seed=0; train it so" in refused(mislabel_study(rate=0.2))
    assert "--noise rate=0.1,seed=1" in refused(mislabel_study(seed=1))
    other = mislabel_study().model_dump() | {"model": {"name": "logistic"}}
    assert "No logistic trained on digits with wrong labels" in refused(parse(other))
    plain = mislabel_study().model_dump()
    plain["model"] = {"name": "fcn", "weights": str(asset("models", "fcn-digits.safetensors"))}
    assert "does not say that it was trained on digits with the wrong" in refused(parse(plain))
    copied = shutil.copy(asset("models", "fcn-digits-noise.safetensors"), tmp_path)
    card = json.loads(asset("models", "fcn-digits-noise.json").read_text())
    card["data"]["hash"] = "0" * 64  # other images
    Path(copied).with_suffix(".json").write_text(json.dumps(card))
    plain["model"]["weights"] = copied
    assert "does not say" in refused(parse(plain))


def test_labels_as_they_are_need_no_card() -> None:
    prepared = runner.prepare(mislabel_study(rate=0.0))
    assert prepared.weights.name == "fcn-digits.safetensors"


def test_a_section_that_is_off_is_not_in_the_hash_and_planted_labels_are() -> None:
    values = mislabel_study().model_dump()
    hashes = [
        study_hash(parse(values | {"mislabel": section}), "d", "w")
        for section in ({}, {"seed": 4}, {"rate": 0.0}, {"rate": 0.1},
                        {"rate": 0.1, "measured": False}, {"rate": 0.1, "folds": 2})
    ]  # fmt: skip
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 5


def test_what_a_section_refuses() -> None:
    for section, sentence in (
        ({"rate": 1.0}, "less than 1"),
        ({"rate": 0.0, "folds": 1}, "folds is 0, or 2"),
        ({"rate": 0.1, "kind": 3}, "kind"),
    ):
        with pytest.raises(GifError, match=sentence):
            parse({"mislabel": section})
    with pytest.raises(GifError, match="not for one study"):
        parse({"mislabel": {"rate": 0.1}, "change": {"kind": "backdoor"}})


def test_a_later_query_keeps_the_planted_labels_and_looks_no_more() -> None:
    later = for_query(mislabel_study(), 5)
    assert later.mislabel.noise == Noise(0.1, 0)
    assert not later.mislabel.enabled
    assert not later.on_themselves
    assert for_query(mislabel_study(rate=0.0), 5).mislabel.rate is None
    assert parse(tomllib.loads(dumps(later))) == later


# --- what it finds ------------------------------------------------------------------------------


def test_auc_and_curve_by_hand() -> None:
    scores = np.array([5.0, 4.0, 3.0, 2.0, 1.0, 0.0, -1.0, -2.0, -3.0, -4.0])
    wrong = np.zeros(10, bool)
    wrong[[0, 2]] = True
    found = mislabel.measured(scores, wrong)
    assert found["auc"]["value"] == 1 - 1 / 16  # one of the 2 x 8 pairs is the wrong way round
    assert found["auc"]["low"] <= found["auc"]["value"] <= found["auc"]["high"]
    assert found["found_20"] == 0.5  # the first two hold one of two
    assert len(found["curve"]) == 101
    assert [found["curve"][at] for at in (0, 10, 20, 25, 30, 100)] == [0, 0.5, 0.5, 0.75, 1, 1]


def test_baselines_by_hand() -> None:
    p, given = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]]), np.array([0, 1, 0])
    found = mislabel.baselines(p, given)
    np.testing.assert_allclose(found["loss"], -np.log([0.9, 0.8, 0.3]))
    np.testing.assert_allclose(found["confidence"], [0.1, 0.2, 0.7])
    assert found["confident"].argmax() == 2


def test_the_record_holds_scores_labels_and_measures(mislabel_record: Record) -> None:
    info, table = mislabel_record.mislabel, mislabel_record.suspects()
    clean = datasets.load("digits")
    noisy, planted = Noise(0.1, 0).plant(clean)
    assert table["given"].tolist() == noisy.train.y.tolist()
    assert table["true"].tolist() == clean.train.y.tolist()
    assert info["wrong"] == 100 == len(planted.indices)
    assert set(info["methods"]) == {"gradient", "tracin", "loss", "confidence", "confident"}
    wrong = (table["given"] != table["true"]).to_numpy(bool)
    for name, entry in info["methods"].items():
        assert entry["auc"]["value"] == agreement.auc(table[name].to_numpy(), wrong)
        assert entry["auc"]["value"] > 0.95, name  # the aim of the issue
        assert entry["found_20"] >= 0.8, name
    assert (table["suggested"] != table["given"]).all()
    differs = table["predicted"] != table["given"]
    assert (table["suggested"] == table["predicted"])[differs].all()
    own = mislabel_record.self_influence("gradient")
    np.testing.assert_array_equal(own["value"], table["gradient"])


def test_tracin_comes_from_the_checkpoints(mislabel_record: Record) -> None:
    study = mislabel_study()
    prepared = runner.prepare(study)
    data = Noise(0.1, 0).plant(datasets.load("digits"))[0]
    problem = load_problem(study, data, prepared.weights, prepared.weight_decay)
    points = read_checkpoints(prepared.weights, problem.space)
    assert len(points) == 3
    few = torch.tensor([0, 17, 400])
    everything = self_influence(problem, method="tracin", checkpoints=points, positions=few)
    table = mislabel_record.suspects()
    # all parameters are selected here
    np.testing.assert_allclose(table["tracin"].to_numpy()[few], everything.values, rtol=1e-4)
    p = mislabel.probabilities(problem)
    np.testing.assert_allclose(table["p_given"], p[np.arange(1000), data.train.y], rtol=1e-6)


def test_show_prints_the_table(mislabel_record: Record) -> None:
    answer = CliRunner().invoke(app, ["show", str(mislabel_record.path)])
    assert answer.exit_code == 0
    said = " ".join(answer.output.split())
    first = mislabel_words.rows(mislabel_record.mislabel)[0]
    assert all(word in said for word in first[1:])
    assert "100 of 1,000 training labels were made wrong before the training (seed 0)." in said
    assert "Confident learning contradicts" in said


def test_labels_as_they_are_are_listed_and_nothing_is_measured(tmp_path: Path) -> None:
    study = mislabel_study(rate=0.0)
    record = runner.run(runner.prepare(study), tmp_path / "r", workspace=tmp_path)
    info, table = record.mislabel, record.suspects()
    assert info["wrong"] is None
    assert table["true"].isna().all()
    assert all("auc" not in entry for entry in info["methods"].values())
    assert "tracin" not in info["methods"]  # no checkpoints beside those weights
    assert mislabel_words.rows(info) == []
    assert "as they are" in mislabel_words.labels_of(info)


def test_held_out_probabilities_are_of_models_that_never_saw_the_sample(
    numbers_record: Record,
) -> None:
    info, table = numbers_record.mislabel, numbers_record.suspects()
    assert (info["folds"], info["wrong"], info["n"]) == (3, 18, 90)
    assert {"held_loss", "held_confident"} <= set(info["methods"])
    kept = numbers_record.path.parent / ".retrained"
    assert len(list(kept.glob("*.safetensors"))) == 3
    # without its own label to learn from, a model contradicts a wrong label more
    wrong = (table["given"] != table["true"]).to_numpy(bool)
    assert table["held_loss"][wrong].mean() > table["loss"][wrong].mean()
    shown = numbers_record.thumbnails()["train.index"]
    assert set(np.argsort(-table["gradient"].to_numpy())[:5]) <= set(shown)


def test_a_record_without_a_search_has_an_empty_table() -> None:
    record = Record.open(asset("demo", "random-01"))
    assert record.mislabel == {}
    assert isinstance(record.suspects(), pd.DataFrame)
    assert record.suspects().empty
    assert MISLABEL not in record.info["files"]
