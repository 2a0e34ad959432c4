"""Studies of every kind of change: what they compute, what judges them, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from gifcore import data, runner, stages
from gifcore import study as studies
from gifcore.assets_path import asset
from gifcore.change import RemoveSamples, Reweight, Union
from gifcore.changing import asked, judge_of
from gifcore.cli import app
from gifcore.data.backdoor import triggered
from gifcore.errors import GifError
from gifcore.estimate import estimate
from gifcore.evaluate import predict, touched
from gifcore.models.bundle import checkpoint_card
from gifcore.outcome import outcome
from gifcore.record import Record
from gifcore.solving import spread_of
from gifcore.study import dumps, parse, read_backdoor, study_hash
from gifcore.training import Settings, train_with
from tests.conftest import KINDS, study_of_kind

FCN = asset("models", "fcn-digits.safetensors")
TASKS = {"backdoor": "backdoor"}  # else "samples"


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_says_what_was_changed_and_what_judged_it(kind: str, kind_records: Path) -> None:
    record = Record.open(kind_records / kind)
    change, judged = record.info["change"], outcome(record.info["change"])
    expected = {"remove-samples": 3, "relabel": 2, "reweight": 2, "add-samples": 4}
    assert change["kind"] == kind
    assert change["judged_by"] == judged.task == TASKS.get(kind, "samples")
    assert change["touched"] == expected.get(kind, change["touched"]) > 0
    for method in record.methods:
        for entry in [record.info["before"], *record.info["methods"][method]["steps"].values()]:
            for split in ("validation", "test"):
                found = entry[split]
                assert set(judged.keys) <= set(found)
                assert all(0 <= found[figure.key] <= 1 for figure in judged.figures)
                assert all(figure.count(found) > 0 for figure in judged.figures)
        curves = record.curves(method)
        score = curves[curves["curve"] == "score"]
        searched = record.info["methods"][method]["steps"]["searched"]
        assert {name for name, _ in judged.curves} <= set(curves["curve"])
        assert searched["validation"]["score"] == pytest.approx(score["value"].max())


def loaded(kind: str) -> tuple[Any, Any, Any, dict[str, Any]]:
    """(problem, what is asked, judge, predictions before) of a study, as `stages.load` has them."""
    study = study_of_kind(kind)
    prepared = runner.prepare(study)
    wanted = asked(study, data.load("digits"))
    problem = stages.load_problem(study, wanted.data, prepared.weights, prepared.weight_decay)
    before = {s: predict(problem, stages.tensors(wanted.data, s)) for s in ("validation", "test")}
    return problem, wanted, judge_of(study, wanted, problem, before), before


def test_samples_to_learn_and_to_forget_are_judged_apart() -> None:
    """By hand: the samples of each group, their labels after the change, and the score."""
    problem, wanted, judge, before = loaded("union")
    theta = problem.theta * 0.3
    y = wanted.data.train.y
    eights = np.flatnonzero(y == 8)
    learn, forget = touched(wanted.change, problem)
    assert [len(learn), len(forget)] == [1, len(eights)]
    x = torch.from_numpy(wanted.data.train.inputs())
    outputs = problem.outputs(problem.space.unflatten(theta), (x, torch.from_numpy(y)))
    log_p = outputs.double().log_softmax(1)
    right = float(log_p[4].argmax() == 0)  # relabelled: 0 is its new label
    lost = float(-log_p[eights, 8].mean())
    found = judge.measure(problem, before, theta)["test"]
    unseen = before["test"].loss.mean()
    reached = (right + len(eights) * min(1.0, lost / unseen)) / (1 + len(eights))
    accuracy = (before["test"].predicted == before["test"].labels).mean()
    assert found["forget_loss"] == pytest.approx(lost, rel=1e-5)
    assert found["reached"] == pytest.approx(reached, rel=1e-5)
    assert found["score"] == pytest.approx(2 * reached * accuracy / (reached + accuracy))
    assert found["touched_n"] == 1 + len(eights)


def test_forgetting_further_than_unseen_images_earns_nothing() -> None:
    problem, _, judge, before = loaded("remove-samples")
    for factor in (0.1, -1.0):  # uncertain, and wrong
        assert judge.measure(problem, before, factor * problem.theta)["test"]["reached"] == 1.0
    assert judge.measure(problem, before)["test"]["reached"] < 1


def test_raised_weights_are_to_be_learnt_and_lowered_ones_to_be_forgotten() -> None:
    problem, _, judge, _ = loaded("reweight")
    assert [len(judge.learn), len(judge.forget)] == [1, 1]
    problem = Reweight([3, 57], [4.0, 0.25]).apply(problem)
    learn, forget = touched(Union([Reweight([3], [2.0]), RemoveSamples([5])]), problem)
    assert [len(learn), len(forget)] == [0, 2]  # from 4 to 2 is lowered


def test_a_backdoor_is_judged_on_images_with_the_trigger(kind_records: Path) -> None:
    problem, wanted, judge, before = loaded("backdoor")
    section = study_of_kind("backdoor").change
    found = judge.measure(problem, before)["validation"]
    split = triggered(wanted.data.validation, section.backdoor.trigger(wanted.data))
    outputs = problem.outputs(
        problem.space.unflatten(problem.theta), (torch.from_numpy(split.inputs()), None)
    )
    predicted = outputs.argmax(1).numpy()
    assert found["corrupt"] == pytest.approx((predicted == 4).mean())
    assert found["relabel"] == pytest.approx((predicted == split.y).mean())
    assert found["clean"] == pytest.approx(
        (before["validation"].predicted == before["validation"].labels).mean()
    )
    assert found["corrupt"] > 0.9  # the bundled weights have learnt it
    info = Record.open(kind_records / "backdoor").info
    assert info["before"]["validation"] == found
    after = info["methods"]["if"]["steps"]["searched"]["test"]
    assert after["corrupt"] < 0.5 < info["before"]["test"]["corrupt"]
    assert after["score"] > info["before"]["test"]["score"]


def test_the_selection_is_scored_on_the_touched_samples(kind_records: Path) -> None:
    from gifcore.selection import select

    problem, wanted, _, _ = loaded("relabel")
    only = select(problem, RemoveSamples([3, 57]), selector="highest-k-outputs", ratio=0.1)
    assert (select(problem, wanted.change, selector="highest-k-outputs", ratio=0.1).indices
            == only.indices).all()  # fmt: skip
    indices, _ = Record.open(kind_records / "relabel").update("gif")
    assert indices is not None
    assert indices.tolist() == only.indices.tolist()


def test_change_samples_reaches_the_gradient(tmp_path: Path) -> None:
    values = KINDS["remove-samples"] | {"change_samples": 1}
    quick = {"ranking": {"count": 0}, "methods": ["gradient"]}
    study = study_of_kind("remove-samples", change=values, **quick)
    record = runner.run(runner.prepare(study), tmp_path / "x", workspace=tmp_path)
    problem, wanted, _, _ = loaded("remove-samples")
    indices, delta = record.update("gradient")
    assert indices is not None
    g = wanted.change.gradient(problem, change_samples=1, seed=study.seed)
    assert np.allclose(delta, g[torch.from_numpy(indices).long()].numpy(), atol=1e-7)
    whole = wanted.change.gradient(problem)[torch.from_numpy(indices).long()].numpy()
    assert not np.allclose(delta, whole, atol=1e-7)


# --- the spread over draws ------------------------------------------------------------------------


def test_draws_give_the_spread_of_every_update(kind_records: Path) -> None:
    info = Record.open(kind_records / "remove-samples").info
    assert "spread" not in info["methods"]["gradient"]  # knows no curvature
    for method in ("if", "gif"):
        entry = info["methods"][method]
        spread = entry["spread"]
        assert spread["draws"] == len(spread["norms"]) == 3
        assert spread["norms"][0] == pytest.approx(entry["norm"])
        assert len(set(spread["norms"])) == 3  # other samples, other updates
        assert 0 < spread["mean_cosine"] < 1
        certificate = entry["certificate"]
        assert spread["hvps"] == 2 * (certificate["hvps"] + certificate["check_hvps"])
    assert all(
        "spread" not in e for e in Record.open(kind_records / "union").info["methods"].values()
    )


def test_spread_by_hand() -> None:
    found = spread_of([torch.tensor([3.0, 4.0]), torch.tensor([4.0, 3.0])])
    assert found["mean_cosine"] == pytest.approx(24 / 25)
    assert found["norms"] == [5.0, 5.0]
    assert found["norm_deviation"] == 0
    assert spread_of([torch.zeros(2), torch.ones(2)])["mean_cosine"] is None


def test_more_draws_are_more_solves_in_the_estimate() -> None:
    sizes = {"train": 1000, "validation": 100, "test": 200}
    costs = {"hvp_per_sample": 1e-3, "jvp_per_sample": 1e-4, "forward_per_sample": 1e-5}

    def seconds(draws: int, count: int) -> float:
        values = {"curvature": {"draws": draws}, "ranking": {"count": count}}
        return estimate(parse(values), sizes, costs)["stages"]["solve"]

    gradient = 3 * 1e-5 * 1000
    assert seconds(3, 0) - gradient == pytest.approx(3 * (seconds(1, 0) - gradient))
    assert seconds(3, 2) - seconds(1, 2) == pytest.approx(2 * (seconds(1, 0) - gradient))


# --- identity -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_study_of_every_kind_is_written_and_read(kind: str, tmp_path: Path) -> None:
    study = study_of_kind(kind, change=KINDS[kind] | {"change_samples": 7})
    (tmp_path / "s.toml").write_text(dumps(study), encoding="utf-8")
    assert studies.read(tmp_path / "s.toml") == study
    assert ("[[change.changes]]" in dumps(study)) == (kind == "union")


def test_hashes_of_old_studies_do_not_know_the_new_keys() -> None:
    """As computed before there was more than one kind of change."""
    assert study_hash(parse({}), "d", "w")[:16] == "4b20a3f14deceed5"
    values = {"change": {"label": 3}, "selection": {"layers": ["a"]}}
    assert study_hash(parse(values), "d", "w")[:16] == "6fc3ec928794e4bf"


def test_added_samples_are_known_by_content_wherever_they_lie(tmp_path: Path) -> None:
    digits = data.load("digits")
    arrays = {f"{k}_{s}": getattr(digits.split(s), k)[:40] for k in "xy" for s in ("train", "test")}
    hashes = []
    for name, count in (("a", 40), ("b", 40), ("c", 39)):
        np.savez(tmp_path / f"{name}.npz", **{k: v[:count] for k, v in arrays.items()})
        (tmp_path / "s.toml").write_text(
            '[data]\nsource = "digits"\n[model]\nname = "logistic"\n'
            f'[change]\nkind = "add-samples"\nsource = "{name}.npz"\ncount = 3\n'
        )
        hashes.append(runner.prepare(studies.read(tmp_path / "s.toml")).hash)
    shutil.copy(tmp_path / "a.npz", tmp_path / "d.npz")
    study = study_of_kind(
        "add-samples", change={"kind": "add-samples", "source": str(tmp_path / "d.npz")}
    )
    assert hashes[0] != hashes[2]
    assert len(asked(study, digits).change.dataset) == 40  # type: ignore[attr-defined]
    assert "d.npz" not in str(studies._content(study, "d", "w"))


# --- weights with the backdoor --------------------------------------------------------------------


def test_weights_of_another_backdoor_are_refused(tmp_path: Path) -> None:
    study = study_of_kind("backdoor", change=KINDS["backdoor"] | {"count": 99})
    with pytest.raises(GifError, match="train .*--backdoor label=4,count=99,strength=0.25,seed=0"):
        runner.prepare(study)
    with pytest.raises(GifError, match="does not say that it was trained"):
        runner.prepare(study_of_kind("backdoor", model={"name": "fcn", "weights": str(FCN)}))
    copied = Path(shutil.copy(asset("models", "fcn-digits-backdoor.safetensors"), tmp_path))
    card = json.loads(asset("models", "fcn-digits-backdoor.json").read_text())
    card["data"]["hash"] = "another"
    copied.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(GifError, match="does not say that it was trained"):
        runner.prepare(study_of_kind("backdoor", model={"name": "fcn", "weights": str(copied)}))


def test_train_plants_the_backdoor_that_the_study_expects(tmp_path: Path) -> None:
    words = "label=2,count=50,size=3,strength=0.5"
    out = tmp_path / "w.safetensors"
    command = ["train", "--data", "digits", "--model", "logistic", "--epochs", "1"]
    answer = CliRunner().invoke(app, [*command, "--backdoor", words, "--out", str(out)])
    assert answer.exit_code == 0, answer.output
    change = {"kind": "backdoor", "label": 2, "count": 50, "size": 3, "strength": 0.5}
    model = {"name": "logistic", "weights": str(out)}
    assert runner.prepare(study_of_kind("backdoor", model=model, change=change)).weights == out
    plain = train_with(data.load("digits"), "logistic", Settings(epochs=1), out=tmp_path / "p")
    assert "backdoor" not in (checkpoint_card(plain.checkpoint) or {})
    assert plain.checkpoint.read_bytes() != out.read_bytes()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("4", "'4' is not of the form label=4"),
        ("label=4,colour=1", "--backdoor: unknown key 'change.colour'; allowed here: kind"),
        ("label=4,count=0", "change.count = '0' is not possible"),
    ],
)
def test_words_that_are_no_backdoor(words: str, sentence: str) -> None:
    with pytest.raises(GifError, match=sentence):
        read_backdoor(words)


# --- refusals -------------------------------------------------------------------------------------

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"kind": "remove-samples"}, "change.indices = .* is not possible: field required"),
    ({"kind": "remove-samples", "indices": []}, "change.indices = .*one or more .*, each once"),
    ({"kind": "remove-samples", "indices": [1, 1]}, "change.indices = .*each once"),
    ({"kind": "remove-samples", "indices": [-1]}, "change.indices.0 = -1"),
    ({"kind": "relabel", "indices": [1, 2], "labels": [1]}, "2 indices need 2 labels, not 1"),
    ({"kind": "reweight", "indices": [1], "weights": [0]}, "change.weights.0 = 0 .*greater than 0"),
    ({"kind": "reweight", "indices": [1], "weights": [1, 2]}, "1 indices need 1 weights, not 2"),
    ({"kind": "relabel", "label": 3}, "change.indices"),
    ({"kind": "remove-class", "indices": [3]}, "unknown key 'change.indices'; allowed here: kind"),
    ({"kind": "add-samples"}, "change.source"),
    (
        {"kind": "add-samples", "source": "digits", "count": 3, "indices": [1]},
        "give indices or count, not both",
    ),
    ({"kind": "backdoor", "strength": 2}, "change.strength = 2"),
    ({"kind": "backdoor", "size": 1}, "change.size = 1"),
    ({"kind": "union", "changes": []}, "change.changes = .*one or more changes"),
    (
        {"kind": "union", "changes": [{"kind": "backdoor"}]},
        r"change.changes.0.kind = 'backdoor' .*'add-samples'",
    ),
    (
        {"kind": "union", "changes": [{"kind": "relabel", "indices": [1], "labels": [1], "a": 1}]},
        "unknown key 'change.changes.0.a'; allowed here: kind, change_samples, indices, labels",
    ),
    (
        {"kind": "union", "changes": [{"label": 3, "change_samples": 3}]},
        "change_samples is said of the union as a whole",
    ),
    ({"label": 1, "change_samples": 0}, "change.change_samples = 0"),
    ({"kind": 3}, "change.kind = '3' .*'remove-class'"),
]


@pytest.mark.parametrize(("change", "sentence"), REFUSED, ids=lambda v: str(v)[:50])
def test_a_change_that_cannot_be_is_one_sentence(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(GifError, match=sentence) as caught:
        parse({"change": change}, origin="my.toml")
    assert str(caught.value).startswith("my.toml: ")


def test_second_order_is_for_removals() -> None:
    values = {"methods": ["second-order"], "change": KINDS["relabel"]}
    with pytest.raises(GifError, match="second-order is for remove-class and remove-samples"):
        parse(values)
    assert parse(values | {"change": KINDS["remove-samples"]}).methods == ("second-order",)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_what_judges_a_study_cannot_be_added(split: str, tmp_path: Path) -> None:
    """Known by content: a copy under another name is the same data."""
    change = {"kind": "add-samples", "split": split, "count": 3}
    with pytest.raises(GifError, match=f"The {split} split of digits judges this study"):
        runner.prepare(study_of_kind("add-samples", change=change | {"source": "digits"}))
    digits = data.load("digits")
    arrays = {f"{k}_{s}": getattr(digits.split(s), k)[:40] for k in "xy" for s in ("train", "test")}
    for name in "ab":
        np.savez(tmp_path / f"{name}.npz", **arrays)
    a, b = (str(tmp_path / f"{name}.npz") for name in "ab")
    own = {"data": {"source": a}, "model": {"name": "fcn", "weights": str(FCN)}}
    with pytest.raises(GifError, match="judges this study"):
        runner.prepare(study_of_kind("add-samples", change=change | {"source": b}, **own))


def test_a_long_list_is_not_printed_whole() -> None:
    with pytest.raises(GifError) as caught:
        parse({"change": {"kind": "remove-samples", "indices": [1] * 5000}})
    assert len(str(caught.value)) < 300


LOAD = [
    ({"kind": "remove-samples", "indices": [1000]}, "Training sample 1000 is not there; .*0 … 999"),
    ({"kind": "relabel", "indices": [3], "labels": [10]}, "Training sample 3 .*10"),
    ({"kind": "add-samples", "source": "digits", "indices": [1000]}, "no sample 1000 in the train"),
    ({"kind": "add-samples", "source": "digits", "count": 1001}, "has 1000 samples, 1001 cannot"),
    ({"kind": "add-samples", "source": "fashion-mnist-mini", "count": 1}, "the training samples"),
    (
        {
            "kind": "union",
            "changes": [
                {"kind": "remove-samples", "indices": [3]},
                {"kind": "relabel", "indices": [3], "labels": [0]},
            ],
        },
        "sample 3 is both removed and relabelled",
    ),
]


@pytest.mark.parametrize(("change", "sentence"), LOAD, ids=lambda v: str(v)[:50])
def test_a_change_that_the_data_refuse(change: dict[str, Any], sentence: str) -> None:
    study = study_of_kind("relabel", change=change)
    prepared = runner.prepare(study)
    digits = data.load("digits")
    problem = stages.load_problem(study, digits, prepared.weights, prepared.weight_decay)
    with pytest.raises(GifError, match=sentence):
        asked(study, digits).change.apply(problem)


# --- the terminal and the examples ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("remove-samples", "remove 3 training samples"),
        ("union", r"change \d+ training samples \(remove-class, relabel\)"),
        ("backdoor", r"take back the backdoor for class 4 \(\d+ samples relabelled\)"),
    ],
)
def test_show_names_the_change_and_its_numbers(kind: str, words: str, kind_records: Path) -> None:
    answer = CliRunner().invoke(app, ["show", str(kind_records / kind)], env={"COLUMNS": "240"})
    assert answer.exit_code == 0, answer.output
    text = " ".join(answer.stdout.split())
    assert re.search(words, text)
    columns = (
        ["corrupt %", "clean %", "relabel %"] if kind == "backdoor" else ["touched %", "reached %"]
    )
    assert all(column in text for column in columns)
    cells = " ".join(" ".join(line.split("│")[-2:-1]) for line in answer.stdout.splitlines())
    assert ("3 draws: mean cosine" in " ".join(cells.split())) == (kind == "remove-samples")


@pytest.mark.parametrize("name", ["backdoor", "remove-samples"])
def test_the_example_studies_can_run(name: str) -> None:
    """Their tiny variants run above; here that data, weights and card fit."""
    study = studies.read(asset("studies", f"{name}.toml"))
    assert runner.prepare(study).study.change.kind == name
    small = study_of_kind(name)
    assert (small.change == study.change) == (name == "backdoor")
