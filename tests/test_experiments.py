"""The frame of the experiments: files, kept runs, tables by hand, where protocols disagree."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from gifcore.assets_path import asset
from gifcore.errors import Cancelled, GifError
from gifcore.experiments import registry, runner
from gifcore.experiments.command import Asked, reproduce
from gifcore.experiments.kind import Column, Kind, Numbers, Place, Run
from gifcore.experiments.runner import Done
from gifcore.experiments.spec import Experiment, checked, dumps, identity
from gifcore.experiments.tables import disagreement, markdown, raw_csv, report, rows_of, table_csv

COLUMNS = (Column("f1", "F1", ".4f"), Column("self", "self", ".1%"))


def quiet(_done: float, _total: float, _note: str) -> None:
    """Nobody listens."""


def made(protocol: str, row: str, seed: int, f1: float | None, failed: str | None = None) -> Done:
    numbers = {} if failed else {"f1": f1, "self": 0.25}
    return Done(protocol, seed, {"method": row, "ratio": "5 %"}, numbers, failed, 1.5)


def asked_for(done: list[Done], seeds: int) -> list[Run]:
    """Runs that such results are of: every row of them at every seed."""
    rows = dict.fromkeys((d.protocol, *d.row.values()) for d in done)
    return [
        Run(protocol, seed, {"method": row, "ratio": ratio}, 1.0, dict)
        for seed in range(seeds)
        for protocol, row, ratio in rows
    ]


DONE = [
    made("ours", "retrained", 0, 0.99),
    made("paper", "retrained", 0, 0.99),
    made("ours", "A", 0, 0.5),
    made("ours", "A", 1, 0.7),
    made("ours", "B", 0, 0.8),
    made("ours", "B", 1, None, "no step | was good."),
    made("ours", "C", 0, None),
    made("paper", "A", 0, 0.9),
    made("paper", "A", 1, 0.9),
    made("paper", "B", 0, 0.85),
]


def kind(judged: str = "f1", *, smaller: bool = False) -> Kind:
    def none(_spec: Experiment, _place: Place) -> Iterator[Run]:
        yield from ()

    names = frozenset({"retrained"})
    return Kind(Experiment, COLUMNS, judged, none, smaller=smaller, references=names)


# --- tables ---------------------------------------------------------------------------------------


def test_a_table_is_the_one_made_by_hand() -> None:
    rows = [r for r in rows_of(asked_for(DONE, 2), DONE) if r.protocol == "ours"]
    assert markdown(rows, COLUMNS).splitlines() == [
        "| method | ratio | F1 | self | runs |",
        "| --- | --- | ---: | ---: | ---: |",
        "| retrained | 5 % | 0.9900 | 25.0% | 1 of 2 |",
        "| A | 5 % | 0.6000 ± 0.1414 | 25.0% ± 0.0% | 2 |",  # sample deviation: 0.1 sqrt(2)
        "| B | 5 % | 0.8000 | 25.0% | 1 of 2 (1 failed) |",
        "| C | 5 % | – | 25.0% | 1 of 2 |",
        "",
        "Failed: B 5 %, seed 1: no step | was good.",
    ]


def test_a_column_that_no_row_has_is_left_out() -> None:
    done = [made("ours", "C", 0, None)]
    assert "F1" not in markdown(rows_of(asked_for(done, 1), done), COLUMNS)


def test_csv_has_a_line_a_cell_and_a_line_a_run() -> None:
    rows = rows_of(asked_for(DONE, 2), DONE)
    cells = list(csv.DictReader(io.StringIO(table_csv(rows, COLUMNS))))
    (one,) = [c for c in cells if (c["protocol"], c["method"], c["column"]) == ("ours", "A", "f1")]
    assert float(one["mean"]) == pytest.approx(0.6)
    assert float(one["sd"]) == pytest.approx(0.1 * 2**0.5)
    assert (one["runs"], one["failed"]) == ("2", "0")
    (other,) = [c for c in cells if c["method"] == "B" and c["protocol"] == "ours"][:1]
    assert (other["runs"], other["failed"], other["sd"]) == ("1", "1", "")
    assert len(cells) == len(rows) * len(COLUMNS)
    lines = list(csv.DictReader(io.StringIO(raw_csv(rows, COLUMNS))))
    assert len(lines) == len(DONE)
    assert [line["failed"] for line in lines if line["failed"]] == ["no step | was good."]
    assert {line["run_seconds"] for line in lines} == {"1.5"}


def test_where_the_protocols_disagree_by_hand() -> None:
    rows = rows_of(asked_for(DONE, 2), DONE)
    words = disagreement(rows, kind())
    # ours: B 0.8 above A 0.6; paper: A 0.9 above B 0.85; retrained is no result to compare
    assert "highest F1: B 5 % by ours (0.8000; published 0.8500), A 5 % by the published" in words
    assert "1 of 1 pairs of rows change places: by ours B 5 % above A 5 %" in words
    assert "largest difference is at A 5 %: 0.6000 ± 0.1414 by ours, 0.9000 ± 0.0000" in words
    assert "3.0 times the deviation" in words  # 0.3 / sqrt((0.1414^2 + 0) / 2)
    assert "higher F1 in 2 of 2 rows, by +0.1750 in the mean" in words
    assert "lowest F1: A 5 % by ours" in disagreement(rows, kind(smaller=True))


def test_the_paragraph_follows_the_numbers() -> None:
    agreeing = [
        made(p, row, 0, f1) for p in ("ours", "paper") for row, f1 in (("A", 0.5), ("B", 1))
    ]
    words = disagreement(rows_of(asked_for(agreeing, 1), agreeing), kind())
    assert "Both protocols give B 5 % the highest F1: 1.0000 and 1.0000." in words
    assert "all 1 pairs of rows in the same order" in words
    alone = [d for d in agreeing if d.protocol == "ours"]
    rows = rows_of(asked_for(alone, 1), alone)
    assert "Only one protocol was run" in report(rows, kind(), "T")


# --- runs -----------------------------------------------------------------------------------------


class Counted:
    """A kind whose runs count how often they were made."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.broken: dict[str, BaseException] = {}

    def kind(self) -> Kind:
        return Kind(Experiment, COLUMNS, "f1", self.runs)

    def runs(self, spec: Experiment, place: Place) -> Iterator[Run]:
        for seed in range(spec.seeds):
            for name in ("A", "B"):
                key = f"{name}{seed}"

                def compute(key: str = key, seed: int = seed) -> Numbers:
                    place.listen("working")
                    self.made.append(key)
                    if key in self.broken:
                        raise self.broken[key]
                    return {"f1": seed / 10, "self": float("nan")}

                yield Run("ours", seed, {"method": name}, 2.0, compute)


def spec(**values: object) -> Experiment:
    return checked({"experiment": "x", "data": "digits"} | values, Experiment, "test")


def test_finished_runs_are_kept_and_failed_ones_tried_again(tmp_path: Path) -> None:
    counted, heard = Counted(), list[tuple[float, float, str]]()
    counted.broken["B0"] = GifError("it cannot be.")
    planned = runner.plan(spec(seeds=2), counted.kind(), tmp_path, tmp_path / "c")
    assert planned.seconds == 8.0
    done = runner.carry_out(planned, lambda *report: heard.append(report))
    assert [d.failed for d in done] == [None, "it cannot be.", None, None]
    assert done[0].numbers == {"f1": 0.0, "self": None}  # what is not finite is no number
    assert (0.0, 8.0, "ours, A, seed 0: working") in heard
    assert heard[-1][:2] == (8.0, 8.0)
    (tmp_path / "runs" / "ours-a-seed-1.json").write_text("{", encoding="utf-8")
    counted.broken.clear()
    again = runner.plan(spec(seeds=3), counted.kind(), tmp_path, tmp_path / "c")
    assert again.seconds == 8.0  # the failed, the damaged and two new ones
    counted.made.clear()
    assert all(d.failed is None for d in runner.carry_out(again, quiet))
    assert counted.made == ["B0", "A1", "A2", "B2"]


def test_ctrl_c_keeps_what_is_done(tmp_path: Path) -> None:
    counted = Counted()
    counted.broken["B0"] = KeyboardInterrupt()
    planned = runner.plan(spec(seeds=2), counted.kind(), tmp_path, tmp_path / "c")
    with pytest.raises(Cancelled):
        runner.carry_out(planned, quiet)
    assert [d.row for d in runner.finished(planned)] == [{"method": "A"}]
    assert [run.key for run in planned.left] == ["ours-b-seed-0", "ours-a-seed-1", "ours-b-seed-1"]


def test_a_folder_of_other_settings_is_refused(tmp_path: Path) -> None:
    runner.plan(spec(seeds=2), Counted().kind(), tmp_path, tmp_path / "c")
    runner.plan(spec(seeds=9, title="T"), Counted().kind(), tmp_path, tmp_path / "c")
    with pytest.raises(GifError, match="other settings"):
        runner.plan(spec(model="fcn"), Counted().kind(), tmp_path, tmp_path / "c")


# --- files ----------------------------------------------------------------------------------------

FILE = """
experiment = "selectors"
data = "digits"
model = "fcn"
seeds = 4
[train]
epochs = 9
lr = 0.1
[quick]
seeds = 2
[quick.train]
epochs = 3
[full]
data = "own.npz"
"""


def file(folder: Path, more: str = "", text: str = FILE) -> Path:
    path = folder / "experiment.toml"
    path.write_text(text + more, encoding="utf-8")
    return path


def test_a_preset_is_laid_over_key_by_key(tmp_path: Path) -> None:
    path = file(tmp_path)
    quick = registry.read(path, "quick")[0].model_dump()
    assert (quick["seeds"], quick["train"]["epochs"], quick["train"]["lr"]) == (2, 3, 0.1)
    full = registry.read(path, "full", {"seeds": 7})[0].model_dump()
    assert (full["seeds"], full["train"]["epochs"]) == (7, 9)
    assert full["data"] == str(tmp_path / "own.npz")


def test_an_experiment_as_toml_is_read_back(tmp_path: Path) -> None:
    first, of = registry.read(file(tmp_path), "quick")
    again = registry.read(file(tmp_path, text=dumps(first)), "quick")[0]
    assert again == first
    assert isinstance(again, of.spec)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("seed = 3", "unknown key 'seed'"),
        ("[ours]\nsample = 3", "unknown key 'ours.sample'; allowed here: samples"),
        ("[paper]\nnorm = -1.0", "paper.norm = -1.0 is not possible"),
        ("ratios = [0.0]", "ratios.0 = 0.0 is not possible"),
        ('protocols = ["mine"]', "protocols.0 = 'mine' is not possible"),
        ("protocols = []", "name one protocol or both"),
        ("seeds = 0", "seeds = 0 is not possible"),
    ],
)
def test_unknown_and_impossible_keys_are_refused(tmp_path: Path, more: str, words: str) -> None:
    with pytest.raises(GifError, match=words):
        registry.read(file(tmp_path, more), "full")  # the last table of the file, or one of its own


@pytest.mark.parametrize(
    ("asked", "text", "words"),
    [
        (Asked("slow"), FILE, "no preset 'slow'"),
        (Asked(protocol="mine"), FILE, "no protocol 'mine'"),
        (Asked(), FILE.replace("selectors", "selector"), "'selector' is not known; choose one of"),
        (Asked(), FILE.replace("experiment =", "model2 ="), "names no experiment"),
        (Asked(), "a = [", "is not a TOML file"),
        (Asked(), "quick = 3\n" + FILE.split("[quick]", maxsplit=1)[0], "a preset is a table"),
        (Asked(data="svhn-of-mine"), FILE, "no data set 'svhn-of-mine'"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(
    tmp_path: Path, asked: Asked, text: str, words: str
) -> None:
    with pytest.raises(GifError, match=words):
        reproduce(file(tmp_path, text=text), asked, None, tmp_path, listen=quiet, say=print)


@pytest.mark.parametrize("preset", ["quick", "full"])
def test_every_bundled_experiment_is_one(preset: str) -> None:
    found = 0
    for path in sorted(asset("studies").glob("*.toml")):
        if path.read_text(encoding="utf-8").count("\nexperiment = "):
            spec, of = registry.read(path, preset)
            assert isinstance(spec, of.spec), path.name
            found += 1
    assert found >= 3


def test_class_removal_shares_its_runs_with_figure_5() -> None:
    files = [asset("studies") / f"{name}.toml" for name in ("class-removal", "figure-5")]
    one, other = (identity(registry.read(path, "quick")[0]) for path in files)
    assert one == other
    assert one != identity(registry.read(files[0], "quick", {"label": 0})[0])


def test_every_kind_can_be_loaded() -> None:
    for name in registry.KINDS:
        found = registry.kind_of(name)
        assert issubclass(found.spec, Experiment)
        assert not found.judged or found.judged_by in {c.heading for c in found.columns}
