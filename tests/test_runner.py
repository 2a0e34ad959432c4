"""Real small studies through the command line: complete, repeated, cancelled, resumed, refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from gifcore import runner
from gifcore.cli import app
from gifcore.curved import curvature
from gifcore.errors import Cancelled, GifError
from gifcore.models import build
from gifcore.record import BEFORE, RECORD, STUDY, Record, RecordError, list_workspace
from gifcore.run_state import cancel, locked, process_started, read_state
from gifcore.study import Study, dumps, parse

TINY: dict[str, Any] = {
    "title": "Digits",
    "methods": ["if", "gif"],
    "data": {"source": "digits"},
    "model": {"name": "logistic"},
    "change": {"label": 8},
    "selection": {"ratio": 0.2},
    "curvature": {"samples": 100, "batch_size": 64},
    "solver": {"iterations": 6},
    "ranking": {"queries": [3, 7]},
}
LONG = TINY | {"model": {"name": "fcn"}, "solver": {"iterations": 4000, "tolerance": 0.0}}


def tiny(**changes: Any) -> Study:
    return parse(TINY | changes)


def run(study: Study, workspace: Path, name: str, **options: Any) -> Record:
    """In this process, as the command does it."""
    prepared = runner.prepare(study)
    out = workspace / name
    known = runner.finished(out, prepared, workspace)
    return known or runner.run(prepared, out, workspace=workspace, **options)


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "gifcore", *map(str, words)]


_started: list[subprocess.Popen[str]] = []


def start(folder: Path, study: Study, name: str, *, threads: int = 1) -> subprocess.Popen[str]:
    """`python -m gifcore run` in its own process."""
    (folder / f"{name}.toml").write_text(dumps(study), encoding="utf-8")
    workspace = folder / "runs"
    options = ("--out", workspace / name, "--workspace", workspace)
    process = subprocess.Popen(
        command("run", folder / f"{name}.toml", *options),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )  # fmt: skip
    _started.append(process)
    return process


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    yield
    while _started:
        process = _started.pop()
        if process.poll() is None:
            process.kill()
            process.communicate()


def until(true: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def status(folder: Path) -> str | None:
    state = read_state(folder)
    return state and state["status"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with one finished study, "first"; copy it to change it."""
    workspace = tmp_path_factory.mktemp("runner") / "runs"
    run(tiny(), workspace, "first")
    return workspace


@pytest.fixture
def workspace(shared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shared, tmp_path / "runs", symlinks=True))


def numbers(record: Record) -> dict[str, Any]:
    """Everything a study computes, without times."""
    found: dict[str, Any] = {"before": record.info["before"]}
    for method in record.methods:
        entry = record.info["methods"][method]
        certificate = {k: v for k, v in entry["certificate"].items() if k != "seconds"}
        indices, delta = record.update(method)
        found[method] = {
            "steps": entry["steps"],
            "certificate": certificate,
            "delta": delta.tolist(),
            "indices": None if indices is None else indices.tolist(),
            "scores": {
                q["index"]: record.scores(method, q["index"]).to_dict() for q in record.queries
            },
            "curves": record.curves(method).to_dict(),
        }
    return found


# --- a whole run ---------------------------------------------------------------------------------


def test_a_record_is_complete_and_consistent(workspace: Path) -> None:
    record = Record.open(workspace / "first")
    info = record.info
    assert info["status"] == "finished"
    assert [q["index"] for q in record.queries] == [3, 7]
    assert info["selection"]["k"] == sum(layer["k"] for layer in info["selection"]["layers"])
    assert info["selection"]["p"] == info["model"]["parameters"] == 650
    assert info["data"]["sizes"] == {"train": 1000, "validation": 397, "test": 400}
    assert (workspace / "first" / STUDY).read_text() == dumps(tiny())
    assert not (workspace / "first" / runner.STAGES_FOLDER).exists()
    assert status(workspace / "first") == "finished"
    before = record.samples(BEFORE)
    for method in record.methods:
        entry = info["methods"][method]
        indices, delta = record.update(method)
        assert entry["k"] == len(delta) == (650 if method == "if" else info["selection"]["k"])
        assert (indices is None) == (method == "if")
        assert set(entry["query_certificates"]) == {"3", "7"}
        for certificate in [entry["certificate"], *entry["query_certificates"].values()]:
            assert {"status", "residual", "hvps", "curvature_of", "samples"} <= set(certificate)
        assert entry["certificate"]["curvature_of"] == "retained"
        assert entry["query_certificates"]["3"]["curvature_of"] == "full"
        for query in (3, 7):
            assert sorted(record.scores(method, query)["train_index"]) == list(range(1000))
        for step in ("natural", "searched"):
            after = record.samples(method, step)
            assert (after["label"] == before["label"]).all()
            own = after[after["label"] == 8]
            self_accuracy = float((own["predicted"] == 8).mean())
            assert entry["steps"][step]["test"]["self"] == pytest.approx(self_accuracy)
        assert entry["steps"]["natural"]["scale"] == 1.0
        searched = entry["steps"]["searched"]
        curve = record.curves(method).query("curve == 'score'")
        assert searched["validation"]["score"] == pytest.approx(curve["value"].max())
        assert searched["scale"] == curve.loc[curve["value"].idxmax(), "x"]


def test_scores_are_those_of_the_public_functions(workspace: Path) -> None:
    import gifcore as gif
    from gifcore import data, stages

    record = Record.open(workspace / "first")
    prepared = runner.prepare(tiny())
    digits = data.load("digits")
    problem = stages.load_problem(tiny(), digits, prepared.weights, prepared.weight_decay)
    change = gif.RemoveClass(8)
    selected = gif.select(problem, change, ratio=0.2)
    queries = gif.Queries(stages.tensors(digits, "test"), [[3]])
    solver = gif.LSMR(iterations=6)
    for method in record.methods:
        # LSMR in float32 is chaotic from its fifth iteration on here: same batches, then
        at_query = curvature(problem, samples=100, batch_size=64)
        at_update = curvature(change.apply(problem), samples=100, batch_size=64)
        options = {"method": method, "selected": selected, "solver": solver}
        scores = gif.rank(problem, queries, curvature=at_query, **options).values[0].numpy()
        table = record.scores(method, 3).set_index("train_index")["influence"].sort_index()
        np.testing.assert_allclose(table, scores, rtol=1e-3, atol=1e-5 * np.abs(scores).max())
        delta = gif.influence(problem, change, curvature=at_update, **options).delta.numpy()
        np.testing.assert_allclose(record.update(method)[1], delta, rtol=1e-3, atol=1e-5)


def test_the_same_study_again_is_not_computed(workspace: Path, tmp_path: Path) -> None:
    before = {p.name: p.stat().st_mtime_ns for p in (workspace / "first").iterdir()}
    process = start(tmp_path, tiny(title="Another title"), "first")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.startswith("Already computed: ")
    assert before == {p.name: p.stat().st_mtime_ns for p in (workspace / "first").iterdir()}


def test_the_same_study_elsewhere_is_linked(workspace: Path) -> None:
    record = run(tiny(), workspace, "second")
    assert (workspace / "second").is_symlink()
    assert record.path.resolve() == (workspace / "first").resolve()
    assert Record.open(workspace / "second").hash == record.hash


def test_a_damaged_twin_is_passed_over(workspace: Path) -> None:
    path = workspace / "first" / "scores.parquet"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    prepared = runner.prepare(tiny())
    assert runner.finished(workspace / "second", prepared, workspace) is None
    assert not (workspace / "second").exists()


def test_a_damaged_record_is_computed_again_in_its_place(workspace: Path) -> None:
    expected = numbers(Record.open(workspace / "first"))
    (workspace / "first" / "scores.parquet").write_bytes(b"")
    assert numbers(run(tiny(), workspace, "first")) == expected


def test_a_folder_with_another_study_is_refused_and_untouched(workspace: Path) -> None:
    before = {p.name: p.read_bytes() for p in (workspace / "first").iterdir()}
    for other in (tiny(seed=1), tiny(selection={"ratio": 0.3})):
        with pytest.raises(GifError, match="first holds another study; choose another --out"):
            run(other, workspace, "first")
    assert before == {p.name: p.read_bytes() for p in (workspace / "first").iterdir()}


@pytest.mark.parametrize("name", ["notes.txt", ".git", ".profile"])
@pytest.mark.parametrize("known", [True, False], ids=["in the workspace", "new"])
def test_a_folder_with_other_files_is_refused_and_untouched(
    workspace: Path, name: str, known: bool
) -> None:
    """Hidden files count too: linking replaces the folder."""
    out = workspace / "mine"
    out.mkdir()
    (out / name).write_text("precious")
    with pytest.raises(GifError, match="holds other files; choose an empty or new folder"):
        run(tiny(seed=0 if known else 1), workspace, "mine")
    assert (out / name).read_text() == "precious"


def test_out_that_is_no_folder(workspace: Path) -> None:
    (workspace / "file").write_text("")
    with pytest.raises(GifError, match="file is a file; give a folder"):
        run(tiny(), workspace, "file")
    for seed in (0, 1):  # known and new
        with pytest.raises(GifError, match="Cannot make the folder"):
            run(tiny(seed=seed), workspace, "file/deeper")


def test_one_folder_is_run_by_one_process_at_a_time(tmp_path: Path) -> None:
    prepared = runner.prepare(tiny())
    out = tmp_path / "runs" / "x"
    out.mkdir(parents=True)
    with locked(out / ".lock", ""), pytest.raises(GifError, match="running already in .*x; wait"):
        runner.run(prepared, out, workspace=tmp_path / "runs")
    assert [p.name for p in out.iterdir()] == [".lock"]


# --- reuse ---------------------------------------------------------------------------------------


def test_reuse_copies_what_does_not_depend_on_the_selection(workspace: Path) -> None:
    first = Record.open(workspace / "first")
    second = run(tiny(selection={"ratio": 0.3}), workspace, "second", reuse=workspace / "first")
    assert second.folder("if") == (workspace / "second").resolve()
    for query in (3, 7):
        pd.testing.assert_frame_equal(second.scores("if", query), first.scores("if", query))
    assert (second.update("if")[1] == first.update("if")[1]).all()
    assert second.info["selection"]["k"] > first.info["selection"]["k"]
    assert len(second.update("gif")[1]) != len(first.update("gif")[1])
    assert second.info["family"] == first.info["family"]
    shutil.rmtree(workspace / "first")
    assert len(Record.open(workspace / "second").scores("if", 3)) == 1000


def test_link_points_to_the_sibling(workspace: Path) -> None:
    study = tiny(selection={"ratio": 0.3})
    second = run(study, workspace, "second", reuse=workspace / "first", link=True)
    assert second.info["methods"]["if"]["folder"] == "../first"
    assert second.folder("if") == (workspace / "first").resolve()
    own = pd.read_parquet(workspace / "second" / "scores.parquet")
    assert set(own["method"]) == {"gif"}
    assert len(second.scores("if", 3)) == 1000
    third = run(  # a link to a link points to where the rows are
        tiny(selection={"ratio": 0.4}), workspace, "third", reuse=workspace / "second", link=True
    )
    assert third.info["methods"]["if"]["folder"] == "../first"
    shutil.rmtree(workspace / "first")
    with pytest.raises(RecordError):
        Record.open(workspace / "second")


def test_methods_of_another_family_are_not_reused(workspace: Path) -> None:
    other = run(
        tiny(solver={"iterations": 5}), workspace, "o", reuse=workspace / "first", link=True
    )
    assert all(entry["folder"] == "." for entry in other.info["methods"].values())
    assert other.info["methods"]["if"]["certificate"]["iterations"] == 5


# --- cancel, resume, queue -----------------------------------------------------------------------


def test_cancel_and_resume_give_the_numbers_of_an_uninterrupted_run(tmp_path: Path) -> None:
    """Ctrl-C in the middle of a solve: the process is gone, the record says so, the parts stay."""
    short = {"solver": {"iterations": 60, "tolerance": 0.0}, "ranking": {"queries": [3]}}
    study = parse(LONG | short)
    out = tmp_path / "runs" / "x"
    process = start(tmp_path, study, "x")
    until(lambda: list(out.glob(".stages/*/update-if.npz")))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "cancelled" in err
    assert process_started(process.pid) is None
    assert json.loads((out / RECORD).read_text())["status"] == "cancelled"
    assert status(out) == "cancelled"
    (entry,) = list_workspace(tmp_path / "runs")
    assert entry.status == "cancelled"
    with pytest.raises(RecordError, match="was cancelled; it has no result"):
        Record.open(out)
    kept = {p.name: p.stat().st_mtime_ns for p in out.glob(".stages/*/*.npz")}
    assert {"select.npz", "gradient.npz", "update-if.npz"} <= set(kept)

    seen: dict[str, int] = {}

    def listen(_: dict[str, Any]) -> None:
        seen.update({p.name: p.stat().st_mtime_ns for p in out.glob(".stages/*/*.npz")})

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        resumed = run(study, tmp_path / "runs", "x", listen=listen)
        fresh = run(study, tmp_path / "elsewhere", "y")
    finally:
        torch.set_num_threads(threads)
    assert kept.items() <= seen.items()  # read back, not computed again
    assert numbers(resumed) == numbers(fresh)
    assert not (out / ".stages").exists()


def test_parts_of_a_stopped_study_are_never_taken_for_another(tmp_path: Path) -> None:
    """The visible files were removed by hand, the hidden parts were not."""
    workspace = tmp_path / "runs"

    def stop(state: dict[str, Any]) -> None:
        if any(s["name"] == "rank" and s["state"] == "running" for s in state["stages"]):
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        run(tiny(seed=5), workspace, "x", listen=stop)
    assert list((workspace / "x").glob(".stages/**/*.npz"))
    for path in (workspace / "x").iterdir():
        if not path.name.startswith("."):
            path.unlink()
    found = run(tiny(selection={"ratio": 0.4}), workspace, "x")
    expected = run(tiny(selection={"ratio": 0.4}), tmp_path / "elsewhere", "y")
    assert numbers(found) == numbers(expected)


def test_a_second_study_waits_its_turn_and_a_cancelled_one_frees_it(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    long = start(tmp_path, parse(LONG), "long")
    until(lambda: status(runs / "long") == "running")
    second = start(tmp_path, tiny(), "second")
    until(lambda: status(runs / "second") == "waiting")
    assert read_state(runs / "second")["message"] == "Waiting for the study before it."
    assert [e.status for e in list_workspace(runs)] == ["waiting", "running"]
    time.sleep(0.5)
    assert status(runs / "second") == "waiting"
    assert cancel(runs / "long") is True  # by the folder, as a page does
    _, err = long.communicate(timeout=60)
    assert (long.returncode, status(runs / "long")) == (130, "cancelled"), err
    _, err = second.communicate(timeout=60)
    assert second.returncode == 0, err
    assert Record.open(runs / "second").info["status"] == "finished"
    with pytest.raises(RecordError, match="was cancelled"):
        Record.open(runs / "long")


# --- bad input: one sentence, exit code 1, no traceback ------------------------------------------


def arrays(**changes: np.ndarray) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    found = {
        "x_train": generator.random((30, 8, 8), dtype=np.float32),
        "y_train": np.arange(30) % 3,
        "x_test": generator.random((12, 8, 8), dtype=np.float32),
        "y_test": np.arange(12) % 3,
    }
    return found | changes


def weights(path: Path, shape: tuple[int, int, int] = (1, 8, 8), value: float = 0.1) -> Path:
    model = build("logistic", shape, 3)
    save_file({k: torch.full_like(v, value) for k, v in model.state_dict().items()}, path)
    return path


def own(tmp_path: Path, npz: dict[str, np.ndarray], checkpoint: Path, **changes: Any) -> Study:
    np.savez(tmp_path / "own.npz", **npz)
    return tiny(
        **{
            "data": {"source": str(tmp_path / "own.npz")},
            "model": {"name": "logistic", "weights": str(checkpoint)},
            "change": {"label": 1},
        }
        | changes
    )


def with_nan() -> dict[str, np.ndarray]:
    found = arrays()
    found["x_train"][4, 2, 2] = np.nan
    return found


def with_card(path: Path) -> Path:
    path.with_suffix(".json").write_text('{"weight_decay": "much"}')
    return weights(path)


ONE_CLASS = {"y_train": np.zeros(30, int), "y_test": np.zeros(12, int)}
LENET = {"name": "lenet"}
BAD: dict[str, tuple[Callable[[Path], Study], str]] = {
    "class": (lambda _: tiny(change={"label": 77}), "has class 77; there are: 0, 1"),
    "model": (lambda _: tiny(model={"name": "gpt"}), "no model 'gpt'; the models are tinynet"),
    "data": (lambda _: tiny(data={"source": "cats"}), "no data set 'cats': expected fashion"),
    "file": (lambda _: tiny(data={"source": "/none/x.npz"}), "There is no file /none/x.npz"),
    "not bundled": (lambda _: tiny(model=LENET), "No trained lenet for digits is bundled"),
    "query": (lambda _: tiny(ranking={"queries": [400]}), "no test image 400; 0 … 399 exist"),
    "shapes": (
        lambda path: own(path, arrays(), weights(path / "w.safetensors", (1, 5, 5))),
        r"'linear.weight' has shape \(3, 25\), expected \(3, 64\)",
    ),
    "NaN in weights": (
        lambda path: own(path, arrays(), weights(path / "w.safetensors", value=np.nan)),
        "has values that are NaN or infinite",
    ),
    "card": (
        lambda path: own(path, arrays(), with_card(path / "w.safetensors")),
        "states the weight decay 'much'",
    ),
    "no checkpoint": (
        lambda path: own(path, arrays(), path / "none.safetensors"),
        "There is no checkpoint",
    ),
    "one class": (
        lambda path: own(path, arrays(**ONE_CLASS), weights(path / "w.safetensors")),
        "the training split has only class 0; at least two classes",
    ),
    "NaN in data": (
        lambda path: own(path, with_nan(), weights(path / "w.safetensors")),
        r"\(NaN or infinity\) in sample 4",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_one_sentence_and_no_record(kind: str, tmp_path: Path) -> None:
    make, sentence = BAD[kind]
    (tmp_path / "s.toml").write_text(dumps(make(tmp_path)), encoding="utf-8")
    out = tmp_path / "runs" / "x"
    words = ["run", str(tmp_path / "s.toml"), "--out", str(out), "--workspace", str(out.parent)]
    answer = CliRunner().invoke(app, words)
    assert answer.exit_code == 1
    assert isinstance(answer.exception, SystemExit)
    said = answer.stderr.strip()
    assert said.startswith("Error: ")
    assert re.search(sentence, " ".join(said.split()))
    assert "Traceback" not in said
    assert not (out / RECORD).exists()
    assert status(out) in (None, "failed")


def test_own_data_and_weights_are_a_study_like_any_other(tmp_path: Path) -> None:
    study = own(tmp_path, arrays(), weights(tmp_path / "w.safetensors"), ranking={"count": 2})
    record = run(study, tmp_path / "runs", "x")
    images = record.thumbnails()
    assert images["test.index"].tolist() == [q["index"] for q in record.queries]
    assert images["train.images"].shape[1:] == (8, 8)
    (tmp_path / "own.npz").unlink()  # the record speaks without its data
    assert len(Record.open(tmp_path / "runs" / "x").scores("gif", record.queries[0]["index"])) == 30


def test_a_full_disk_is_one_sentence_and_an_earlier_record_stays(workspace: Path) -> None:
    """A process that cannot write files beyond 2000 bytes runs another study beside the first."""
    before = {p.name: p.read_bytes() for p in (workspace / "first").iterdir()}
    (workspace.parent / "s.toml").write_text(dumps(tiny(seed=3)), encoding="utf-8")
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000));"
        "from gifcore.cli import main; main()"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, "run", str(workspace.parent / "s.toml"),
         "--out", str(workspace / "x"), "--workspace", str(workspace)],
        capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert answer.returncode == 1
    assert "Traceback" not in answer.stderr
    assert "File too large; free some space" in " ".join(answer.stderr.split())
    assert before == {p.name: p.read_bytes() for p in (workspace / "first").iterdir()}
    assert status(workspace / "x") == "failed"
    with pytest.raises(RecordError):
        Record.open(workspace / "x")


def test_torchs_own_out_of_memory_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**46)
    assert runner._out_of_memory(caught.value)
    assert not runner._out_of_memory(RuntimeError("shapes do not match"))
