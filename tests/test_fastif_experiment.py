"""FastIF's recall over seeds: numbers are the record's, and records are made once."""

from pathlib import Path

import pytest

from gifcore import runner
from gifcore.experiments import candidates, command, registry
from gifcore.experiments.kind import Place
from gifcore.neighbors import CRITERIA
from gifcore.record import Record

TINY = """
experiment = "candidates"
data = "digits"
model = "logistic"
seeds = 1
queries = 4
k = [10, 200]
train.epochs = 2
train.lr = 0.5
ours.samples = 100
ours.iterations = 400
ours.lissa_iterations = 8
paper.iterations = 6
paper.truth_batch_size = 16
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("recall")
    (folder / "fastif.toml").write_text(TINY)
    return folder, _reproduce(folder, "out")


def _reproduce(folder: Path, out: str) -> str:
    return command.reproduce(
        folder / "fastif.toml", command.Asked(), folder / out, folder,
        listen=lambda *_: None, say=lambda _: None,
    )  # fmt: skip


def test_tables_have_every_criterion_for_right_and_wrong_predictions(
    made: tuple[Path, str],
) -> None:
    text = made[1]
    assert "Failed" not in text
    for criterion in CRITERIA:
        for predictions in ("correct", "wrong"):
            assert text.count(f"| {criterion} | {predictions} | 200 |") == 2
    ours, paper = text.split("## By the published protocol")
    assert "| 100% | 1 |" in ours  # a truth with a certificate
    assert "| 0% | 1 |" in paper  # and one without


def test_numbers_are_those_of_the_record(made: tuple[Path, str]) -> None:
    folder, _ = made
    spec, _ = registry.read(folder / "fastif.toml", "quick")
    assert isinstance(spec, candidates.Candidates)
    bench = candidates.Bench(spec, Place(folder / ".retrained", lambda _: None))
    study = bench.study("ours", 0, bench.weights(0))
    prepared = runner.prepare(study)
    recall = Record.open(folder / candidates.FOLDER / prepared.hash[:16]).recall("if")
    mine = recall[(recall.way == "exact") & (recall.predictions == "wrong") & (recall.k == 200)]
    kept = mine[(mine.criterion == "harmful") & (mine.m == 100)].kept.item()
    found = candidates._measured(bench, "ours", 0, "harmful", "wrong", 200)
    assert found["kept_100"] == kept
    assert found["kept_1000"] is None  # 1,000 training images in all
    few = candidates._measured(bench, "ours", 0, "harmful", "wrong", 10)
    assert few["kept_10"] <= found["kept_10"]


def test_records_are_made_once(made: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, text = made
    monkeypatch.setattr(runner, "run", _never)
    assert _reproduce(folder, "again") == text


def _never(*_args: object, **_kwargs: object) -> None:
    raise AssertionError("the record was there")


def test_protocols_ask_for_what_they_say(tmp_path: Path) -> None:
    (tmp_path / "fastif.toml").write_text(TINY)
    spec, _ = registry.read(tmp_path / "fastif.toml", "quick")
    assert isinstance(spec, candidates.Candidates)
    bench = candidates.Bench(spec, Place(tmp_path, lambda _: None))
    ours, paper = (bench.study(name, 3, tmp_path / "w") for name in ("ours", "paper"))
    assert (ours.curvature.kind, ours.curvature.damping) == ("ggn", 0.5)
    solve = ours.fastif.solves[0]
    assert solve.damp * solve.scale == pytest.approx(ours.curvature.damping)
    assert (paper.curvature.kind, paper.solver.kind) == ("hessian", "lissa")
    assert paper.solver.damp * paper.solver.scale == 50
    assert (paper.solver.batch_size, paper.fastif.solves[0].batch_size) == (16, 1)
    assert paper.seed == ours.seed == 3
