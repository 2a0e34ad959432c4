"""Every method, curvature and solver that a study can name, from its file to its record."""

from pathlib import Path
from typing import Any, get_args

import pytest

from gifcore import runner
from gifcore import study as studies
from gifcore.data import load
from gifcore.record import Record
from gifcore.study import METHODS, RANKS
from gifcore.training import train


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with checkpoints of its training."""
    out = tmp_path_factory.mktemp("model") / "m"
    return train(load("digits"), "logistic", epochs=6, checkpoints=3, out=out).checkpoint


def computed(weights: Path, folder: Path, reuse: Path | None = None, **values: Any) -> Record:
    folder.mkdir(exist_ok=True)
    study = studies.parse(
        {
            "data": {"source": "digits"},
            "model": {"name": "logistic", "weights": str(weights)},
            "ranking": {"count": 2},
        }
        | values
    )
    prepared = runner.prepare(studies.parse(studies.read(_written(study, folder)).model_dump()))
    return runner.run(prepared, folder / "record", workspace=folder, reuse=reuse)


def _written(study: studies.Study, folder: Path) -> Path:
    path = folder / "study.toml"
    path.write_text(studies.dumps(study), encoding="utf-8")
    return path


def test_all_methods_in_one_study(weights: Path, tmp_path: Path) -> None:
    record = computed(
        weights, tmp_path, methods=list(METHODS), curvature={"samples": 100},
        solver={"iterations": 6},
    )  # fmt: skip
    assert record.methods == list(METHODS)
    queries = [query["index"] for query in record.queries]
    for method in METHODS:
        info = record.info["methods"][method]
        assert set(info["steps"]) == {"natural", "searched"}
        certificates = info.get("query_certificates", {})
        assert set(certificates) == ({str(q) for q in queries} if RANKS[method] else set())
        for query in queries if RANKS[method] else ():
            scores = record.scores(method, query)
            assert len(scores) == record.info["data"]["sizes"]["train"]
            assert scores["influence"].abs().max() > 0
        iterated = method in ("if", "gif", "projected", "freeze", "hyperinf")
        stable = [c["rank_stability"] is not None for c in certificates.values()]
        assert stable == [iterated] * len(stable), method
    again = computed(
        weights, tmp_path / "other", methods=["if", "second-order"], curvature={"samples": 100},
        solver={"iterations": 6}, reuse=record.path,
    )  # fmt: skip
    assert again.info["methods"]["second-order"]["k"] == record.info["methods"]["second-order"]["k"]


@pytest.mark.parametrize("kind", ["ggn", "fisher", "block", "ekfac", "datainf"])
def test_every_curvature(kind: str, weights: Path, tmp_path: Path) -> None:
    record = computed(
        weights, tmp_path, solver={"iterations": 4},
        curvature={"kind": kind, "samples": 60, "sampler": "stratified", "damping": 0.1},
    )  # fmt: skip
    certificate = record.info["methods"]["gif"]["certificate"]
    assert certificate["damping"] == 0.1
    assert certificate["rayleigh"] > 0


def test_every_solver(weights: Path, tmp_path: Path) -> None:
    kinds = get_args(studies.SolverSection.model_fields["kind"].annotation)
    for kind in kinds:
        folder = tmp_path / kind
        folder.mkdir()
        record = computed(
            weights, folder, methods=["if", "gif"], ranking={"count": 0},
            solver={"kind": kind, "iterations": 5},
            curvature={"samples": 60, "damping": 0.5},
        )  # fmt: skip
        used = {m: record.info["methods"][m]["certificate"]["solver"] for m in record.methods}
        expected = {
            "lsmr": ("MINRES", "LSMR"), "cg": ("CG", "LSMR"), "minres": ("MINRES", "LSMR"),
            "neumann": ("Neumann", "Neumann"), "p-lissa": ("P-LiSSA", "P-LiSSA"),
            "lissa": ("LiSSA", "LSMR"), "dense": ("dense", "dense"),
        }[kind]  # fmt: skip
        assert (used["if"], used["gif"]) == expected


def test_layer_filter_and_budget_reach_the_selection(weights: Path, tmp_path: Path) -> None:
    record = computed(
        weights, tmp_path, methods=["gradient"], ranking={"count": 0},
        selection={"selector": "caps", "ratio": 0.2, "layers": ["linear"], "budget": "global"},
    )  # fmt: skip
    assert record.info["selection"]["selector"] == "caps"
    assert 0 < record.info["selection"]["k"] <= 0.2 * 650


def test_auto_damping_says_why(weights: Path, tmp_path: Path) -> None:
    record = computed(
        weights, tmp_path, curvature={"samples": 60, "damping": "auto"}, ranking={"count": 0}
    )
    assert "Lanczos" in record.info["methods"]["if"]["certificate"]["auto"][0]
    assert record.info["methods"]["gif"]["certificate"]["ridge"] > 0


def test_a_study_that_uses_nothing_new_keeps_its_hash() -> None:
    """Records that were shipped before a key existed are still the records of their studies."""
    plain = studies.parse({})
    assert studies.study_hash(plain, "d", "w") == studies.study_hash(
        studies.parse({"solver": {"kind": "lsmr"}, "selection": {"budget": "layer"}}), "d", "w"
    )
    other = studies.parse({"curvature": {"sampler": "entropy"}})
    assert studies.study_hash(other, "d", "w") != studies.study_hash(plain, "d", "w")
