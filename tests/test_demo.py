"""The bundled demo: 5 selectors x 4 ratios, one family, of this very engine, model and data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import TensorDataset

from gifcore import data, opinions, runner, study
from gifcore.assets_path import asset
from gifcore.changing import asked
from gifcore.evaluate import predict
from gifcore.preview import recall
from gifcore.record import Record
from gifcore.stages import load_problem
from gifcore.tables import MethodResult
from gifcore.version import ENGINE_VERSION

RATIOS = (0.01, 0.05, 0.1, 0.25)
SELECTORS = (
    "highest-k-gradients",
    "highest-k-outputs",
    "lowest-k-gradients",
    "lowest-k-outputs",
    "random",
)
QUERIES = 16
MEGABYTES = 40
FASTIF = asset("demo") / "fastif-recall"
OTHERS = (
    "fastif-recall",
    "backdoor",
    "wrong-labels",
    "forget-class-retrained",
)  # records of their own
FOLDERS = sorted(
    path for path in asset("demo").iterdir() if path.is_dir() and path.name not in OTHERS
)


def test_every_combination_is_there_once() -> None:
    chosen = [Record.open(folder).info["selection"] for folder in FOLDERS]
    assert sorted((c["selector"], c["ratio"]) for c in chosen) == sorted(
        (selector, ratio) for selector in SELECTORS for ratio in RATIOS
    )
    assert len({Record.open(folder).info["family"] for folder in FOLDERS}) == 1


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_a_record_is_what_this_engine_would_compute(folder: Path) -> None:
    """Another hash would put what visitors compute into a family of its own, out of the pickers."""
    record = Record.open(folder)
    assert runner.prepare(study.read(folder / "study.toml")).hash == record.hash
    assert record.methods == ["if", "gif"]
    assert len(record.queries) == QUERIES
    for method in record.methods:
        for query in record.queries:
            assert (
                len(record.scores(method, query["index"])) == record.info["data"]["sizes"]["train"]
            )


def test_the_record_shown_first_has_a_sketch_of_this_engine_with_the_recall_it_says() -> None:
    record = Record.open(asset("demo") / "highest-k-gradients-05")
    sketch = record.sketch()  # refuses one of another model or other data
    assert sketch is not None
    said = record.info["preview"]
    assert sketch.info["engine"] == ENGINE_VERSION
    assert sketch.info["rank"] == said["rank"] == sketch.train.shape[1]
    assert sketch.methods == record.methods
    assert sketch.info["held_out"] == [query["index"] for query in record.queries]
    for method in record.methods:
        found = []
        for query in sketch.info["held_out"]:
            exact = record.scores(method, query).sort_values("train_index")["influence"]
            found.append(recall(exact.to_numpy(), sketch.scores(query, method))["largest"])
        largest = said["recall"][method]["largest"]
        assert largest["mean"] == pytest.approx(np.mean(found), abs=2e-3)
        assert largest["min"] == pytest.approx(min(found), abs=1e-2)
        assert largest["mean"] > largest["control"] + 0.1


def test_the_record_of_fastif_is_what_its_study_would_measure() -> None:
    record = Record.open(FASTIF)
    asked = study.read(FASTIF / "study.toml")
    assert runner.prepare(asked).hash == record.hash
    assert asked == study.read(asset("studies") / "fastif-recall.toml")
    assert (record.methods, len(record.queries)) == (["if"], QUERIES)
    assert record.fastif["methods"]["if"]["ways"]["exact"]["statuses"] == {"converged": QUERIES}
    table, speed = record.recall("if"), record.speed("if")
    assert set(table["k"]) == {*asked.fastif.k, 8000}
    assert table[table["k"] == 8000]["kept"].eq(1).all()
    assert set(table["queries"]) == {QUERIES, QUERIES // 2}  # half of them wrong
    assert len(speed) == QUERIES * ((2 + len(asked.fastif.solves)) * 7 + 2)
    assert sum(path.stat().st_size for path in FASTIF.iterdir()) < 1.5e6


@pytest.mark.parametrize("name", OTHERS)
def test_a_record_of_its_own_is_that_of_its_study(name: str) -> None:
    record = Record.open(asset("demo") / name)
    asked = study.read(asset("studies") / f"{name}.toml")
    assert runner.prepare(asked).hash == record.hash
    assert study.read(record.path / "study.toml") == asked


@pytest.mark.parametrize("folder", [*FOLDERS, *(asset("demo") / name for name in OTHERS)],
                         ids=lambda path: path.name)  # fmt: skip
def test_it_says_what_the_model_thinks_of_every_training_sample(folder: Path) -> None:
    record = Record.open(folder)
    before, n = record.train(), record.info["data"]["sizes"]["train"]
    assert before is not None
    assert before["train_index"].tolist() == list(range(n))
    np.testing.assert_allclose(np.exp(-before["loss"]), before["p_label"], atol=1e-6)
    assert before["p_label"].mean() > 0.5
    for method, entry in record.info["methods"].items():
        after = record.train(method, "searched")
        assert (after is not None) == ("steps" in entry)
        if after is not None:
            assert after["train_index"].tolist() == list(range(n))
            assert (after["loss"] != before["loss"]).mean() > 0.5


@pytest.mark.parametrize("name", ["random-10", "backdoor"])
def test_what_it_thinks_is_what_the_bundled_model_says_now(name: str) -> None:
    record = Record.open(asset("demo") / name)
    prepared = runner.prepare(study.read(record.path / "study.toml"))
    source = asked(prepared.study, data.load(prepared.study.data.source)).data
    problem = load_problem(prepared.study, source, prepared.weights, prepared.weight_decay)
    few = TensorDataset(*(tensor[:300] for tensor in problem.train.tensors))  # type: ignore[attr-defined]
    for method in ["", *record.methods]:
        found = record.train(method, "searched" if method else "")
        assert found is not None
        moved = (
            opinions.edited(problem, MethodResult.taken_from(record, method)) if method else None
        )
        now = predict(problem, few, theta=moved)
        np.testing.assert_allclose(found["loss"][:300], now.loss, rtol=1e-3, atol=1e-5)
        assert found["predicted"][:300].tolist() == now.predicted.tolist()


def test_it_is_small_and_names_no_folder_of_the_machine_that_made_it() -> None:
    files = [path for path in asset("demo").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MEGABYTES * 10**6
    for path in files:
        if path.suffix in (".json", ".toml"):
            assert '"/' not in path.read_text(encoding="utf-8"), path
