"""Study: what is refused and in which words, its file form, and what each hash depends on."""

from pathlib import Path
from typing import Any

import pytest

from gifcore.errors import GifError
from gifcore.study import (
    METHOD_LABELS,
    METHODS,
    USES_SELECTION,
    Study,
    dumps,
    family_hash,
    for_query,
    method_hash,
    parse,
    read,
    study_hash,
)

RICH: dict[str, Any] = {
    "title": 'Quotes ", \\ and ünïcödé \U0001f600\ttab\nline \x7f',
    "seed": 7,
    "methods": ["gif", "gradient"],
    "data": {"source": "digits"},
    "model": {"name": "fcn", "weight_decay": 1e-16},
    "change": {"label": 3},
    "selection": {"selector": "random", "ratio": 0.29},
    "curvature": {"samples": "all", "damping": 1e-05, "batch_size": 7, "memory_mb": 0},
    "solver": {"iterations": 3, "tolerance": 0.0, "ridge": 1e22, "preconditioner": "none"},
    "ranking": {"queries": [5, 1, 3], "batch_size": 11},
    "edit": {"enabled": False, "min_scale": 0.5, "max_scale": 2.5, "evaluations": 9},
}


@pytest.mark.parametrize("values", [{}, RICH])
def test_round_trip_through_toml(values: dict[str, Any], tmp_path: Path) -> None:
    study = parse(values)
    path = tmp_path / "study.toml"
    path.write_text(dumps(study), encoding="utf-8")
    assert read(path) == study
    assert dumps(read(path)) == dumps(study)
    assert study_hash(read(path), "d", "w") == study_hash(study, "d", "w")


def test_a_study_is_frozen() -> None:
    study = parse({})
    with pytest.raises(ValueError, match="frozen"):
        study.seed = 3  # type: ignore[misc]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"colour": 1}, "unknown key 'colour'; allowed here: title, seed, methods, data"),
    ({"selection": {"share": 1}}, "unknown key 'selection.share'; allowed here: selector, ratio"),
    ({"selection": {"ratio": 0}}, "selection.ratio = 0 is not possible: .*greater than 0"),
    ({"selection": {"ratio": 1.5}}, "selection.ratio = 1.5 is not possible: .*less than or equal"),
    ({"selection": {"ratio": -1}}, "selection.ratio = -1"),
    ({"selection": {"ratio": float("nan")}}, "selection.ratio = nan is not possible: .*finite"),
    ({"selection": {"ratio": float("inf")}}, "selection.ratio = inf"),
    ({"selection": {"ratio": "much"}}, "selection.ratio = 'much' is not possible: .*number"),
    ({"selection": {"selector": "top"}}, "selection.selector = 'top' .*'highest-k-gradients'"),
    ({"selection": "random"}, "selection = 'random' is not possible"),
    ({"methods": []}, "methods = .* is not possible: name one or more methods, each once: gif"),
    ({"methods": ["if", "if"]}, "name one or more methods, each once"),
    ({"methods": ["hydra"]}, "'hydra' is not possible: .*'gif'"),
    ({"methods": "gif"}, "methods = 'gif' is not possible"),
    ({"seed": -1}, "seed = -1"),
    ({"seed": 1.5}, "seed = 1.5"),
    ({"seed": 10**30}, "seed = 10+ is not possible"),
    ({"title": 3}, "title = 3 is not possible: .*string"),
    ({"change": {"label": -1}}, "change.label = -1"),
    ({"change": {"label": 10**30}}, "change.label = 10+"),
    ({"change": {"kind": "add"}}, "change.kind = 'add' is not possible: .*'remove-class'"),
    ({"curvature": {"samples": 0}}, "curvature.samples"),
    ({"curvature": {"samples": "most"}}, "curvature.samples"),
    ({"curvature": {"damping": -1}}, "curvature.damping = -1"),
    ({"curvature": {"damping": float("inf")}}, "curvature.damping = inf"),
    ({"curvature": {"batch_size": 0}}, "curvature.batch_size = 0"),
    ({"curvature": {"batch_size": 10**30}}, "curvature.batch_size = 10+"),
    ({"solver": {"iterations": 0}}, "solver.iterations = 0"),
    ({"solver": {"iterations": 10**9}}, "solver.iterations = 1000000000 .*10000"),
    (
        {"solver": {"preconditioner": "ilu"}},
        "solver.preconditioner = 'ilu' .*'kronecker' or 'none'",
    ),
    ({"solver": {"probes": 0}}, "solver.probes = 0"),
    ({"ranking": {"queries": [1, 1]}}, "queries are distinct positions in the test split"),
    ({"ranking": {"queries": [-1]}}, "queries are distinct positions in the test split, 0 or more"),
    ({"ranking": {"count": 10**6}}, "ranking.count = 1000000 .*1000"),
    ({"edit": {"max_scale": 1}}, "edit.max_scale = 1"),
    ({"seed": -1, "title": 3}, r"\(1 more\)"),
]


@pytest.mark.parametrize(("values", "sentence"), REFUSED, ids=lambda v: str(v)[:40])
def test_refused_with_key_value_and_what_is_allowed(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(GifError, match=sentence) as caught:
        parse(values, origin="my.toml")
    words = str(caught.value)
    assert words.startswith("my.toml: ")
    assert "\n" not in words
    assert "pydantic" not in words.lower()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"ratio = = 3", "is not a TOML file"),
        (b"\xff\xfe\x00", "is not a TOML file"),
        (b"[selection]\nratio = 2", "selection.ratio = 2 is not possible"),
        (b"a = 1\na = 2", "is not a TOML file"),
    ],
)
def test_files_that_are_no_study(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(GifError, match=sentence) as caught:
        read(path)
    assert "bad.toml" in str(caught.value)


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(GifError, match="Cannot read the study .*No such file"):
        read(tmp_path / "none.toml")
    with pytest.raises(GifError, match="Cannot read the study .*directory"):
        read(tmp_path)


def test_an_empty_file_is_the_default_study(tmp_path: Path) -> None:
    (tmp_path / "empty.toml").write_text("")
    assert read(tmp_path / "empty.toml") == Study()


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text('[data]\nsource = "x/my.npz"\n[model]\nweights = "../w.safetensors"\n')
    study = read(path)
    assert study.data.source == str(tmp_path / "x" / "my.npz")
    assert study.model.weights == str(tmp_path.parent / "w.safetensors")


# --- hashes --------------------------------------------------------------------------------------

#                change of the study                     study  family  if     gif
HASHES: list[tuple[dict[str, Any], tuple[bool, bool, bool, bool]]] = [
    ({"title": "Another"}, (False, False, False, False)),
    ({"selection": {"ratio": 0.1}}, (True, False, False, True)),
    ({"selection": {"selector": "random"}}, (True, False, False, True)),
    ({"methods": ["if"]}, (True, True, False, False)),
    ({"seed": 1}, (True, True, True, True)),
    ({"change": {"label": 1}}, (True, True, True, True)),
    ({"curvature": {"samples": 100}}, (True, True, True, True)),
    ({"curvature": {"damping": 0.1}}, (True, True, True, True)),
    ({"solver": {"iterations": 21}}, (True, True, True, True)),
    ({"ranking": {"count": 3}}, (True, True, True, True)),
    ({"edit": {"max_scale": 10}}, (True, True, True, True)),
    ({"edit": {"evaluations": 12}}, (True, True, True, True)),
    ({"edit": {"min_scale": 1}}, (True, True, True, True)),
    ({"model": {"name": "fcn"}}, (True, True, True, True)),
    ({"preview": {"rank": 8}}, (True, False, False, False)),
    ({"preview": {"held_out": 4}}, (False, False, False, False)),
]


def all_hashes(study: Study, data: str = "d", weights: str = "w") -> list[str]:
    return [
        study_hash(study, data, weights),
        family_hash(study, data, weights),
        method_hash(study, "if", data, weights),
        method_hash(study, "gif", data, weights),
    ]


@pytest.mark.parametrize(("values", "changed"), HASHES, ids=lambda v: str(v)[:40])
def test_which_change_changes_which_hash(values: dict[str, Any], changed: tuple[bool, ...]) -> None:
    before, after = all_hashes(parse({})), all_hashes(parse(values))
    assert tuple(b != a for b, a in zip(before, after, strict=True)) == changed


def test_data_weights_and_engine_change_every_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    study = parse({})
    before = all_hashes(study)
    assert len(set(before)) == 4
    monkeypatch.setattr("gifcore.study.ENGINE_VERSION", "another")
    for other in (all_hashes(study, data="e"), all_hashes(study, weights="v"), all_hashes(study)):
        assert not set(before) & set(other)


def test_the_same_data_by_another_path_is_the_same_study() -> None:
    one, two = (parse({"data": {"source": f"/{place}/x.npz"}}) for place in "ab")
    assert all_hashes(one) == all_hashes(two)


def test_registries_agree() -> None:
    assert set(METHODS) == set(METHOD_LABELS) == set(USES_SELECTION)


def test_one_more_query_is_a_study_of_its_own() -> None:
    study = parse({"ranking": {"queries": [1, 2]}})
    more = for_query(study, 9)
    assert more.ranking.queries == (9,)
    assert not more.edit.enabled
    assert study_hash(more, "d", "w") != study_hash(study, "d", "w")
    assert more.selection == study.selection
