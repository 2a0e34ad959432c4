"""The model's opinion of every training sample, against direct passes of the edited networks."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from gifcore import data, opinions, runner
from gifcore.errors import Cancelled
from gifcore.estimate import estimate
from gifcore.models import build
from gifcore.problem import Problem
from gifcore.record import RECORD, TRAIN, Record, write_json
from gifcore.record.reading import read_info
from gifcore.run_state import RunState
from gifcore.stages import load_problem, tensors
from gifcore.study import Study, parse, read
from tests.test_runner import TINY

COLUMNS = ["train_index", "predicted", "p_label", "loss"]


def run(workspace: Path, name: str, **changes: Any) -> Record:
    options = {k: changes.pop(k) for k in ("reuse", "link") if k in changes}
    prepared = runner.prepare(parse(TINY | changes))
    return runner.run(prepared, workspace / name, workspace=workspace, **options)


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    return run(tmp_path_factory.mktemp("opinions"), "first")


def by_hand(record: Record, method: str) -> dict[str, np.ndarray]:
    """A pass of the network with the method's move added to the weights of the checkpoint."""
    digits = data.load("digits")
    weights = runner.prepare(parse(TINY)).weights
    model = build("logistic", digits.shape, digits.n_classes)
    model.load_state_dict(load_file(weights))
    if method:
        indices, delta = record.update(method)
        scale = record.info["methods"][method]["steps"]["searched"]["scale"]
        flat = torch.cat([p.detach().ravel() for p in model.parameters()])
        move = torch.from_numpy(scale * delta)
        flat[slice(None) if indices is None else torch.from_numpy(indices).long()] += move
        torch.nn.utils.vector_to_parameters(flat, model.parameters())
    x, y = tensors(digits, "train").tensors
    with torch.no_grad():
        log_p = model.eval()(x).double().log_softmax(1)
    own = log_p[torch.arange(len(y)), y]
    return {"predicted": log_p.argmax(1), "p_label": own.exp(), "loss": -own}


@pytest.mark.parametrize(("method", "step"), [("", ""), ("if", "searched"), ("gif", "searched")])
def test_it_is_that_of_the_network_with_the_searched_move(
    record: Record, method: str, step: str
) -> None:
    found = record.train(method, step)
    assert found is not None
    assert list(found) == COLUMNS
    assert [str(t) for t in found.dtypes] == ["int32", "int16", "float32", "float32"]
    assert found["train_index"].tolist() == list(range(1000))
    expected = by_hand(record, method)
    assert found["predicted"].tolist() == expected["predicted"].tolist()
    for name in ("p_label", "loss"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-6)


def test_what_is_not_there_is_none(record: Record) -> None:
    assert record.train("gif") is None
    assert record.train("gif", "natural") is None
    assert record.train("freeze", "searched") is None


def test_the_file_has_a_row_group_for_each_in_order(record: Record) -> None:
    file = pq.ParquetFile(record.path / TRAIN)
    assert file.schema_arrow.names == ["train_index", "method", "step", *COLUMNS[1:]]
    groups = [file.read_row_group(g).to_pandas() for g in range(file.num_row_groups)]
    named = [(g["method"].unique().tolist(), g["step"].unique().tolist()) for g in groups]
    assert named == [([""], [""]), (["gif"], ["searched"]), (["if"], ["searched"])]
    assert record.info["timings"]["opinions"] >= 0


def test_a_record_from_before_this_was_kept_has_none(record: Record, tmp_path: Path) -> None:
    older = Path(shutil.copytree(record.path, tmp_path / "older"))
    (older / TRAIN).unlink()
    info = read_info(older)
    files = {name: entry for name, entry in info["files"].items() if name != TRAIN}
    write_json(older / RECORD, info | {"files": files})
    assert Record.open(older).train() is None


def test_labels_are_those_that_were_trained_on(tmp_path: Path) -> None:
    """The poisoned images of a backdoor are judged by their false label."""
    study = Path("assets/studies/backdoor.toml").resolve()
    asked = read(study).model_dump() | {"edit": {"enabled": False}, "methods": ["if"]}
    wanted = parse(asked | {"ranking": {"count": 0}})
    made = runner.run(runner.prepare(wanted), tmp_path / "b", workspace=tmp_path)
    found = made.train()
    assert found is not None
    backdoor = wanted.change.backdoor  # type: ignore[union-attr]
    planted, relabel = backdoor.plant(data.load(wanted.data.source))
    poisoned = np.flatnonzero(planted.train.y != data.load(wanted.data.source).train.y)
    assert len(poisoned) > 10
    assert (found["predicted"].to_numpy()[poisoned] == planted.train.y[poisoned]).mean() > 0.9
    assert found["p_label"].to_numpy()[poisoned].mean() > 0.8


def test_without_an_edit_only_the_model_as_it_is(tmp_path: Path) -> None:
    made = run(tmp_path, "ranked", edit={"enabled": False})
    assert made.train() is not None
    assert pq.ParquetFile(made.path / TRAIN).num_row_groups == 1


def test_one_image_ranked_alone_is_not_asked(tmp_path: Path) -> None:
    """It is added to a record that says it."""
    made = run(tmp_path, "one", edit={"enabled": False}, ranking={"queries": [5], "count": 0})
    assert made.train() is None
    assert TRAIN not in made.info["files"]


def test_a_siblings_rows_are_copied_or_left_where_they_are(record: Record, tmp_path: Path) -> None:
    shutil.copytree(record.path, tmp_path / "first")
    expected = record.train("if", "searched")
    more = {"reuse": tmp_path / "first", "selection": {"ratio": 0.3}}
    copied = run(tmp_path, "copied", **more)
    linked = run(tmp_path, "linked", link=True, **more)
    for made, groups in ((copied, 3), (linked, 2)):
        assert pq.ParquetFile(made.path / TRAIN).num_row_groups == groups
        found = made.train("if", "searched")
        assert found is not None
        assert found.equals(expected)
    assert not linked.train("gif", "searched").equals(record.train("gif", "searched"))


def test_a_sibling_without_them_does_not_take_them_away(record: Record, tmp_path: Path) -> None:
    older = Path(shutil.copytree(record.path, tmp_path / "first"))
    (older / TRAIN).unlink()
    info = read_info(older)
    info["files"].pop(TRAIN)
    write_json(older / RECORD, info)
    made = run(tmp_path, "linked", link=True, reuse=older, selection={"ratio": 0.3})
    found = made.train("if", "searched")
    assert found is not None
    np.testing.assert_allclose(found["loss"], record.train("if", "searched")["loss"], rtol=1e-4)


def small_problem(n: int) -> Problem:
    study: Study = parse(TINY)
    prepared = runner.prepare(study)
    digits = data.load("digits")
    return load_problem(study, digits, prepared.weights, 0.0).narrowed(torch.arange(n))


def test_it_is_cancelled_between_batches_and_never_asks_for_all_at_once() -> None:
    problem, seen = small_problem(1000), []

    def stop(done: int, total: int, _note: str) -> None:
        seen.append((done, total))
        if done >= 500:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        opinions.opinion(problem, progress=stop)
    assert seen == [(250, 1000), (500, 1000)]


def test_a_resumed_run_reads_what_was_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is stopped after the first pass makes the other two only."""
    made, first = [], opinions.opinion

    def counted(*args: Any) -> Any:
        if len(made) == 1:
            made.append("cancelled")
            raise Cancelled("stopped")
        made.append("pass")
        return first(*args)

    monkeypatch.setattr(opinions, "opinion", counted)
    with pytest.raises(Cancelled):
        run(tmp_path, "x")
    record = run(tmp_path, "x")
    assert made == ["pass", "cancelled", "pass", "pass"]
    assert record.train() is not None


def test_a_skipped_stage_says_so(tmp_path: Path) -> None:
    state = RunState(tmp_path, "t", "h", runner.STAGES, None)
    study = parse(TINY | {"edit": {"enabled": False}, "ranking": {"queries": [5], "count": 0}})
    assert opinions.look(study, None, {}, None, [], None, state) == {}  # type: ignore[arg-type]
    assert state.stage("opinions")["state"] == "skipped"


@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        ({}, 3),
        ({"edit": {"enabled": False}}, 1),
        ({"edit": {"enabled": False}, "ranking": {"queries": [5], "count": 0}}, 0),
    ],
)
def test_the_estimate_counts_its_passes(changes: dict[str, Any], passes: int) -> None:
    sizes = {"train": 1000, "validation": 100, "test": 200}
    costs = dict.fromkeys(("hvp_per_sample", "jvp_per_sample"), 1.0) | {"forward_per_sample": 0.5}
    found = estimate(parse(TINY | changes), sizes, costs)["stages"]["opinions"]
    assert found == passes * 1000 * 0.5


def test_all_rankings_in_one_pass_are_those_one_by_one(record: Record) -> None:
    for method in record.methods:
        found = record.influences(method)
        assert list(found) == [3, 7]
        for query, row in found.items():
            one = record.scores(method, query).sort_values("train_index")["influence"]
            assert row.tolist() == one.tolist()
    assert record.influences("if")[3].tolist() != record.influences("gif")[3].tolist()
