"""FastIF in a study: its numbers by hand from the record, bad input, lost chains."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from typer.testing import CliRunner

import gifcore as gif
from gifcore import data, fastif, run_state, runner, stages
from gifcore.cli import app
from gifcore.errors import Cancelled, GifError
from gifcore.fastif_ways import Asked, Ways
from gifcore.problem import Problem
from gifcore.record import INDEX, RECALL, SPEED, Record
from gifcore.run_state import RunState
from gifcore.solvers.chains import Draws
from gifcore.study import Study, dumps, for_query, method_hash, parse, study_hash
from tests.conftest import FASTIF, SOLVE, fastif_study
from tests.deadly import Deadly

SPLITS = ("train", "test")


def run(study: Study, folder: Path, **options: Any) -> Record:
    return runner.run(runner.prepare(study), folder, workspace=folder.parent, **options)


@pytest.fixture
def record(fastif_record: Path) -> Record:
    return Record.open(fastif_record)


@pytest.fixture(scope="module")
def problem() -> Problem:
    prepared = runner.prepare(fastif_study())
    return stages.load_problem(
        fastif_study(), data.load("digits"), prepared.weights, prepared.weight_decay
    )


def exact(record: Record) -> dict[int, np.ndarray]:
    """The study's own rankings: its solves converge, so that they are the exact ones."""
    frames = {q["index"]: record.scores("if", q["index"]) for q in record.queries}
    return {q: f.sort_values("train_index")["influence"].to_numpy() for q, f in frames.items()}


def nearest(query: int, k: int) -> np.ndarray:
    return by_distance(query)[:k]


@cache
def by_distance(query: int) -> np.ndarray:
    """The features of a logistic model are its pixels."""
    x, asked = (stages.tensors(data.load("digits"), split).tensors[0] for split in SPLITS)
    distances = (x - asked[query]).flatten(1).double().square().sum(dim=1).numpy()
    return np.argsort(distances, kind="stable")


def best(scores: np.ndarray, criterion: str, m: int, among: np.ndarray | None = None) -> set[int]:
    key = {"helpful": -scores, "harmful": scores, "largest": -abs(scores), "smallest": abs(scores)}
    order = np.argsort(key[criterion], kind="stable")
    return set((order if among is None else order[np.isin(order, among)])[:m].tolist())


# --- the numbers ---------------------------------------------------------------------------------


def test_recall_is_that_of_the_records_own_rankings(record: Record, problem: Problem) -> None:
    scores = exact(record)
    right = {q["index"]: q["label"] == q["predicted"] for q in record.queries}
    groups = {"all": list(right), "correct": [q for q in right if right[q]]}
    groups["wrong"] = [q for q in right if not right[q]]
    assert len(groups["correct"]) == len(groups["wrong"]) == 2
    control = dict(zip(right, gradient_scores(problem, list(right)), strict=True))
    table = record.recall("if").query("way == 'exact'")
    assert len(table) == 3 * 4 * 3  # predictions, criteria, k
    for row in table.itertuples():
        kept, plain = [], []
        for query in groups[row.predictions]:
            top, near = best(scores[query], row.criterion, 10), nearest(query, row.k)
            kept.append(len(top & set(near.tolist())) / 10)
            plain.append(len(top & best(control[query], row.criterion, 10, near)) / 10)
        assert (row.m, row.queries) == (10, len(kept))
        assert row.kept == row.found == pytest.approx(np.mean(kept), abs=0.026)  # a tie at most
        assert row.control == pytest.approx(np.mean(plain), abs=0.026)


def gradient_scores(problem: Problem, queries: list[int]) -> np.ndarray:
    test = stages.tensors(data.load("digits"), "test")
    asked = gif.Queries(test, [[q] for q in queries])
    return gif.rank(problem, asked, method="gradient").values.numpy()


def test_rank_correlations_are_those_of_the_rankings(record: Record, problem: Problem) -> None:
    speed = record.speed("if").set_index(["way", "k", "query"])
    scores = exact(record)
    control = gradient_scores(problem, list(scores))
    for (query, row), plain in zip(scores.items(), control, strict=True):
        assert speed.loc[("exact", 1000, query), "spearman"] == pytest.approx(1)
        found = speed.loc[("gradient", 1000, query)]
        assert found["spearman"] == pytest.approx(spearmanr(plain, row).statistic, abs=1e-4)
        shared = len(best(plain, "largest", 100) & best(row, "largest", 100)) / 100
        assert found["largest"] == pytest.approx(shared, abs=0.02)
        near = nearest(query, 200)
        among = spearmanr(plain[near], row[near]).statistic
        assert speed.loc[("gradient", 200, query), "spearman"] == pytest.approx(among, abs=1e-3)
    lissa = speed.loc["lissa-1"]
    assert (lissa["cosine"] > speed.loc["gradient"]["cosine"]).all()
    assert lissa["error"].between(0, 1).all()


def test_seconds_are_solves_and_scores_of_every_way(record: Record) -> None:
    entry = record.fastif["methods"]["if"]
    points = pd.DataFrame(entry["points"])
    assert (points["seconds"] == points["solve_seconds"] + points["score_seconds"]).all()
    asked = {way: sorted(rows["k"]) for way, rows in points.groupby("way")}
    filtered = dict.fromkeys(("exact", "gradient", "lissa-1"), [20, 200, 1000])
    assert asked == filtered | {"preview-8": [1000], "loop": [1000]}
    assert points[points["extrapolated"]]["way"].tolist() == ["loop"]
    assert points["score_seconds"].gt(0).all()
    whole = points[points["k"] == 1000].set_index("way")["score_seconds"]
    assert whole["loop"] > 10 * whole["exact"]  # a gradient for each of the 1,000, not for one
    ways = entry["ways"]
    assert ways["lissa-1"]["effective_damping"] == pytest.approx(1)
    assert (ways["lissa-1"]["iterations"], ways["lissa-1"]["max_iterations"]) == (30, 30)
    assert ways["exact"]["statuses"] == {"converged": 4}
    assert ways["preview-8"]["build_seconds"] > 0
    index = record.fastif["index"]
    assert (index["kind"], index["n"], index["dim"], index["source"]) == ("Flat", 1000, 64, "built")


def test_show_says_it(record: Record) -> None:
    answer = CliRunner().invoke(app, ["show", str(record.path)])
    assert answer.exit_code == 0
    said = " ".join(answer.output.split())
    kept = record.recall("if").query("way == 'exact' and predictions == 'all'")
    kept = kept[kept["criterion"] == "largest"].set_index("k")["kept"]
    assert f"top 10 of 1,000 by |influence| are kept to {100 * kept[20]:.0f} % with k = 20" in said
    wrong = record.recall("if").query("way == 'exact' and predictions == 'wrong' and k == 20")
    wrong = float(wrong.query("criterion == 'largest' and m == 10")["kept"].iloc[0])
    assert f"predicted wrong: {100 * wrong:.0f} % with k = 20" in said
    assert "LiSSA: J 30, B 4, T 1, damping 1: rank correlation with the exact solve 0." in said


# --- on and off ----------------------------------------------------------------------------------


def test_off_is_the_study_it_was() -> None:
    on = fastif_study()
    plain = on.model_dump(exclude={"fastif"})
    off = parse(plain)
    assert study_hash(off, "d", "w") != study_hash(on, "d", "w")
    assert study_hash(off, "d", "w") == study_hash(parse(plain | {"fastif": {}}), "d", "w")
    assert method_hash(off, "if", "d", "w") == method_hash(on, "if", "d", "w")  # rankings are kept
    elsewhere = fastif_study(index_file="a.faiss")
    assert study_hash(elsewhere, "d", "w") == study_hash(on, "d", "w")
    assert not for_query(on, 3).fastif.enabled
    assert parse(plain | {"fastif": on.fastif.model_dump()}) == on


def test_a_group_asks_by_its_mean_feature(record: Record, tmp_path: Path) -> None:
    images = [q["index"] for q in record.queries][:2]
    values = fastif_study(previews=[8], solves=[], loop=0, k=[20]).model_dump(by_alias=True)
    values["ranking"] = {"queries": images[:1], "groups": [{"name": "two", "samples": images}]}
    found = run(parse(values), tmp_path / "group")
    scores = found.scores("if", -1).sort_values("train_index")["influence"].to_numpy()
    x, test = (stages.tensors(data.load("digits"), split).tensors[0] for split in SPLITS)
    mean = test[images].double().mean(dim=0)
    near = (x - mean).flatten(1).square().sum(dim=1).argsort(stable=True)[:20].numpy()
    row = found.speed("if").set_index(["way", "k", "query"]).loc[("exact", 20, -1)]
    kept = len(best(scores, "largest", 100) & set(near.tolist())) / 100
    assert row["largest"] == pytest.approx(kept, abs=0.011)
    table = found.recall("if").query("way == 'exact' and k == 20 and criterion == 'largest'")
    assert set(zip(table["predictions"], table["queries"], strict=True)) >= {("all", 2)}
    assert table["queries"].tolist() == [2, 1]  # a group is neither right nor wrong
    preview = found.speed("if").query("way == 'preview-8' and query == -1")
    assert preview["spearman"].isna().all()  # a sketch holds single images


def test_longer_exact_solves_judge_the_studys_own(record: Record, tmp_path: Path) -> None:
    study = fastif_study(
        iterations=40, previews=[], solves=[], loop=0, index_file=str(record.path / INDEX)
    )
    study = study.model_copy(update={"solver": study.solver.model_copy(update={"iterations": 3})})
    found = run(study, tmp_path / "longer", reuse=None)
    assert found.fastif["index"]["source"] == "given"
    assert not (tmp_path / "longer" / INDEX).exists()
    assert {RECALL, SPEED} <= set(found.info["files"])
    speed = found.speed("if").query("k == 1000").set_index(["way", "query"])
    truth = exact(record)
    for query, row in exact(found).items():
        rho = spearmanr(row, truth[query]).statistic
        assert rho < 0.999
        assert speed.loc[("study", query), "spearman"] == pytest.approx(rho, abs=1e-3)


def test_a_cancelled_measurement_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_state, "WRITE_EVERY", 0.0)  # every report is heard
    asked: list[str] = []

    def stop(state: dict[str, Any]) -> None:
        notes = [s["note"] for s in state["stages"] if s["name"] == "fastif"]
        if "lissa" in notes[0] and not asked:
            asked.append(notes[0])
            signal.raise_signal(signal.SIGINT)

    study, folder = (
        fastif_study(solves=[SOLVE | {"iterations": 60}], previews=[]),
        tmp_path / "again",
    )
    with pytest.raises(Cancelled):
        run(study, folder, listen=stop)
    assert "for test image" in asked[0]
    parts = folder / runner.STAGES_FOLDER
    kept = {path.stem: path.stat().st_mtime_ns for path in parts.rglob("fastif-*.npz")}
    assert set(kept) == {"fastif-if-exact-0", "fastif-if-candidates", "fastif-if-gradient-0"}
    for path in parts.rglob("fastif-if-exact-0.npz"):
        known = json.loads(str(np.load(path)["info"]))["solve"]
    found = run(study, folder)
    assert found.fastif["index"]["source"] == "kept"
    points = found.fastif["methods"]["if"]["points"]
    assert [p["solve_seconds"] for p in points if p["way"] == "exact"] == [known / 4] * 3


# --- bad input -----------------------------------------------------------------------------------

REFUSED = [
    ({"k": [10, 1001]}, "fastif.k = 1001 is too many; choose 1 … 1000, the number of training"),
    ({"depths": [5000]}, "fastif.depths = 5000 is too many; choose 1 … 1000"),
    ({"previews": [651]}, "fastif.previews = 651 is too many; choose 1 … 650, the smaller of"),
    ({"layer": "head"}, "There is no layer 'head'; the model's layers are: "),
    ({"index_file": "other.faiss"}, "index was built with another model or parameters"),
    ({"index_file": "own.faiss", "index": "HNSW"}, "of the kind Flat instead of HNSW"),
    ({"index_file": "own.faiss", "layer": "linear"}, "layer penultimate instead of linear"),
    ({"index_file": "none.faiss"}, "none.faiss has no card none.json"),
    ({"k": [0]}, r"fastif.k.0 = 0 is not possible"),
    ({"k": []}, "needs k, one or more numbers of candidates"),
]


@pytest.mark.parametrize(("fast", "sentence"), REFUSED)
def test_what_cannot_be_measured_is_one_sentence(
    fast: dict[str, Any], sentence: str, record: Record, problem: Problem, tmp_path: Path
) -> None:
    (tmp_path / "own.faiss").write_bytes((record.path / INDEX).read_bytes())
    (tmp_path / "own.json").write_bytes((record.path / INDEX).with_suffix(".json").read_bytes())
    other = Problem(torch.nn.Sequential(problem.model), problem.train)
    gif.NeighborIndex.build(other).save(tmp_path / "other.faiss")
    text = dumps(fastif_study(k=[], previews=[], solves=[], depths=[], loop=32))
    text = text.split("[fastif]")[0] + _toml(FASTIF | fast)
    (tmp_path / "study.toml").write_text(text, encoding="utf-8")
    out = ["--out", str(tmp_path / "out"), "--workspace", str(tmp_path)]
    answer = CliRunner().invoke(app, ["run", str(tmp_path / "study.toml"), *out])
    assert answer.exit_code == 1
    said = " ".join(answer.output.split())
    assert said.count("Error:") == 1
    assert sentence in said


def _toml(section: dict[str, Any]) -> str:
    from gifcore.study import _lines

    plain = {key: value for key, value in section.items() if key != "solves"}
    return "\n".join(["[fastif]", *_lines(plain), "[[fastif.solves]]", *_lines(SOLVE)])


def test_without_queries_or_methods_there_is_nothing_to_measure() -> None:
    with pytest.raises(GifError, match="fastif.solves needs one of the methods if, projected"):
        fastif_study(("gif",))


# --- lost chains ---------------------------------------------------------------------------------


def test_a_killed_process_is_named_in_the_record(problem: Problem, tmp_path: Path) -> None:
    """Of three chains in two processes one dies; the run goes on and says what the mean is of."""
    solve = {"iterations": 12, "batch_size": 1, "chains": 3, "processes": 2, "scale": 100}
    study = fastif_study(solves=[solve], previews=[], loop=0, k=[20])
    prepared, folder = runner.prepare(study), tmp_path / "run"
    folder.mkdir()
    state = RunState(folder, "t", "h", runner.STAGES, None)
    digits = data.load("digits")
    loaded = stages.load(study, digits, prepared.weights, prepared.weight_decay, state)
    meter, kept = stages.Meter(state, "fastif", 1), stages.Kept(folder / ".stages")
    samples = Ways(study, loaded, None, kept, meter, [])._curvature("if").samples  # type: ignore[arg-type]
    draws = Draws(lambda part: part, samples, 1, study.seed)  # type: ignore[arg-type,return-value]
    met = [{int(draws(chain, step)) for step in range(12)} for chain in range(3)]
    deadly = Deadly(problem.train, min(met[1] - met[0] - met[2]))
    model = Problem(problem.model, deadly, weight_decay=problem.weight_decay)
    loaded = replace(loaded, problem=model)
    selected = gif.select(model, loaded.change, ratio=0.2)
    asked = [Asked(3, (3,), True)]
    found = fastif.measure(study, loaded, selected, kept, state, asked, {}, folder)
    notes = found.info["methods"]["if"]["ways"]["lissa-1"]["notes"]
    assert notes[-1] == (
        "chain 2 of 3 was lost (its process was killed by signal 9): the value is the mean of the "
        "2 others, as noisy as with T = 2"
    )
