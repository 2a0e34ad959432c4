"""Group queries and self-influence in a study: from its file to its record and what `show` says."""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gifcore import data as datasets
from gifcore import runner
from gifcore.change import RemoveClass
from gifcore.errors import GifError
from gifcore.estimate import estimate, query_count
from gifcore.evaluate import Predictions
from gifcore.problem import Problem
from gifcore.record import Record, curve_query
from gifcore.selection import Selection, select
from gifcore.self_influence import self_influence
from gifcore.stages import groups_of, load_problem
from gifcore.study import dumps, for_query, parse, read, study_hash
from tests.test_cli import gif
from tests.test_runner import TINY, run

GROUPS = [
    {"name": "class three", "class": 3},
    {"name": "two of them", "samples": [3, 7]},
]
STUDY = TINY | {
    "methods": ["gradient", "gif", "ekfac"],
    "edit": {"enabled": False},
    "ranking": {"queries": [3, 7], "groups": GROUPS, "self_influence": True},
}


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    workspace = tmp_path_factory.mktemp("groups") / "runs"
    return run(parse(STUDY), workspace, "grouped")


def scores(record: Record, method: str, query: int) -> np.ndarray:
    frame = record.scores(method, query)
    values = np.empty(len(frame))
    values[frame["train_index"]] = frame["influence"]
    return values


def test_groups_are_queries_with_negative_numbers(record: Record) -> None:
    assert [query["index"] for query in record.queries] == [3, 7, -1, -2]
    labels = record.samples("before")["label"].to_numpy()
    three = np.flatnonzero(labels == 3)
    class_three, both = record.queries[2:]
    assert class_three["group"] == {
        "name": "class three", "size": len(three), "images": three[:9].tolist()
    }  # fmt: skip
    assert (class_three["label"], both["group"]["size"]) == (3, 2)
    frame = record.samples("before").set_index("index")
    assert class_three["loss"] == pytest.approx(frame["loss"][three].mean(), rel=1e-5)
    assert class_three["p_label"] == pytest.approx(frame["p_label"][three].mean(), rel=1e-5)
    assert both["label"] == (int(labels[3]) if labels[3] == labels[7] else None)
    for method in ("gradient", "gif"):
        assert record.ranked(method) == [3, 7, -1, -2]
        certificates = record.info["methods"][method]["query_certificates"]
        assert set(certificates) == {"3", "7", "-1", "-2"}
    # the mean loss: of a method without a solve, the mean of the scores
    mean = (scores(record, "gradient", 3) + scores(record, "gradient", 7)) / 2
    np.testing.assert_allclose(scores(record, "gradient", -2), mean, rtol=1e-4, atol=1e-9)
    assert np.abs(scores(record, "gradient", -1) - mean).max() > 1e-6


def test_the_history_of_a_group_is_not_that_of_the_update(record: Record) -> None:
    curves = record.curves("gif")
    for query in (3, -1, -2):
        spent = record.info["methods"]["gif"]["query_certificates"][str(query)]["iterations"]
        assert (curves["query"] == curve_query(query)).sum() == spent + 1
    assert not (curves["query"] == -1).any()  # nothing was edited


def test_self_influence_in_the_record(record: Record) -> None:
    study = read(record.path / "study.toml")
    problem = _problem(record)
    for method, way in (("gradient", "closed form"), ("gif", "sketch"), ("ekfac", "closed form")):
        info = record.info["methods"][method]["self_influence"]
        assert (info["way"], info["exact"]) == (way, way != "sketch")
        table = record.self_influence(method)
        assert table["train_index"].tolist() == list(range(problem.n))
    assert record.info["methods"]["gif"]["self_influence"]["rank"] == 256
    exact = self_influence(problem, method="gradient", selected=_selected(problem))
    values = record.self_influence("gradient")["value"]
    np.testing.assert_allclose(values, exact.values, rtol=1e-4, atol=1e-9)
    assert study.ranking.self_influence


def _problem(record: Record) -> Problem:
    prepared = runner.prepare(read(record.path / "study.toml"))
    data = datasets.load("digits")
    return load_problem(prepared.study, data, prepared.weights, prepared.weight_decay)


def _selected(problem: Problem) -> Selection:
    return select(problem, RemoveClass(8), selector="highest-k-gradients", ratio=0.2, seed=0)


def test_show_names_groups_and_how_self_influence_was_taken(record: Record) -> None:
    said = " ".join(gif("show", record.path).stdout.split())
    assert "2 test images ranked, and 2 groups: class three" in said
    assert "by GIF: approximate: in a sketch of rank 256 of 650" in said
    assert "by Gradient: exact, in closed form" in said


def test_a_record_without_self_influence_says_so_by_an_empty_table(tmp_path: Path) -> None:
    plain = run(
        parse(TINY | {"methods": ["gradient"], "edit": {"enabled": False}}), tmp_path / "runs", "p"
    )
    assert len(plain.self_influence("gradient")) == 0
    assert "self_influence.parquet" not in plain.info["files"]
    assert [query["index"] for query in plain.queries] == [3, 7]


def test_the_file_of_a_study_with_groups_is_read_back() -> None:
    study = parse(STUDY | {"ranking": {"groups": [*GROUPS, {"name": "a cell", "cell": [3, 5]}]}})
    text = dumps(study)
    assert "[[ranking.groups]]" in text
    assert "class = 3" in text
    assert parse(tomllib.loads(text)) == study
    assert query_count(study) == 2 + 3
    later = for_query(study, 5)
    assert (later.ranking.groups, later.ranking.self_influence) == ((), False)
    plain = parse(STUDY | {"ranking": {"queries": [3, 7]}})
    hashes = {study_hash(s, "d", "w") for s in (study, plain, parse(STUDY))}
    assert len(hashes) == 3
    sizes = {"train": 6000, "validation": 100, "test": 100}
    costs = {"hvp_per_sample": 1e-4, "jvp_per_sample": 1e-4, "forward_per_sample": 1e-4}
    assert (
        estimate(parse(STUDY), sizes, costs)["seconds"] > estimate(plain, sizes, costs)["seconds"]
    )


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ([{"name": "x"}], "one of class, cell and samples"),
        ([{"name": "x", "class": 3, "samples": [1]}], "one of class, cell and samples"),
        ([{"name": "", "class": 3}], "ranking.groups.0.name"),
        ([{"name": "x", "class": 3}, {"name": "x", "class": 4}], "a name of its own"),
        ([{"name": "x", "samples": [1, 1]}], "name each test image once"),
        ([{"name": "x", "klass": 3}], "allowed here: name, class, cell, samples"),
    ],
)
def test_groups_that_are_none(groups: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(GifError, match=words):
        parse(TINY | {"ranking": {"groups": groups}})


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ({"name": "far", "samples": [99999]}, "no test image 99999 for 'far'"),
        ({"name": "none", "cell": [3, 77]}, "no test image is in 'none'"),
    ],
)
def test_groups_without_images(group: dict[str, Any], words: str, tmp_path: Path) -> None:
    study = parse(STUDY | {"ranking": {"groups": [group], "count": 0}})
    with pytest.raises(GifError, match=words):
        run(study, tmp_path / "runs", "bad")


def test_a_cell_holds_the_images_that_are_taken_for_another_class() -> None:
    tested = Predictions(np.array([1, 1, 2, 1]), np.array([2, 1, 2, 2]), np.ones(4), np.zeros(4))
    study = parse(TINY | {"ranking": {"groups": [{"name": "x", "cell": [1, 2]}]}})
    assert groups_of(study, tested) == ((0, 3),)


def test_a_record_says_how_scores_were_taken_and_why(engine_records: Path) -> None:
    """Two queries by two methods, each with its iterate at half the budget: 8 directions."""
    for method, info in Record.open(engine_records / "g10").info["methods"].items():
        card = info["scoring"]
        counted = card["operations_per_sample"]
        assert card["directions"] == 8, method
        assert card["way"] == min(counted, key=counted.get) == "layer by layer"
        assert card["seconds_of_one_direction"].keys() == counted.keys()
