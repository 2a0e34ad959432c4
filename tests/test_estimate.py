"""Estimates: products counted as the solvers count them, seconds that add up."""

import pytest

from gifcore import scoring
from gifcore.change import RemoveSamples
from gifcore.estimate import (
    SMALL_SOLVE,
    STACKED,
    estimate,
    preview_parts,
    previewed,
    probes,
    products,
    query_count,
    sweeps,
)
from gifcore.influence import influence
from gifcore.manifest import measured_costs
from gifcore.methods import METHODS
from gifcore.solvers import LSMR
from gifcore.solvers.preconditioners import default_probes
from gifcore.study import parse
from gifcore.tables import MethodResult
from tests import cases
from tests.test_influence import chosen

SIZES = {"train": 1000, "validation": 100, "test": 200}
COSTS = {"hvp_per_sample": 1e-3, "jvp_per_sample": 1e-4, "forward_per_sample": 1e-5}


@pytest.mark.parametrize("preconditioner", ["jacobi", "none"])
@pytest.mark.parametrize("iterations", [3, 16, 20])
@pytest.mark.parametrize("method", [*cases.METHODS, "second-order", "hyperinf"])
def test_products_are_those_a_solve_spends_at_its_limit(
    method: str, iterations: int, preconditioner: str
) -> None:
    study = parse({"solver": {"iterations": iterations, "preconditioner": preconditioner}})
    problem = cases.problem("batch norm")
    solution = influence(
        problem, RemoveSamples([0]), method=method, selected=chosen(problem, k=40),
        solver=LSMR(iterations, 0, preconditioner=preconditioner),
    ).solution  # fmt: skip
    expected = products(method, study) + (probes(study) if method == "gif" else 0)
    assert solution.hvps + solution.check_hvps == expected


@pytest.mark.parametrize("iterations", [1, 15, 16, 20, 32, 1000])
def test_default_probes_are_those_of_the_engine(iterations: int) -> None:
    study = parse({"solver": {"iterations": iterations}})
    assert probes(study) == default_probes(2 * iterations)
    assert probes(parse({"methods": ["if"]})) == 0
    assert probes(parse({"solver": {"probes": 3}})) == 3


def test_by_hand() -> None:
    study = parse(
        {
            "methods": ["if", "gif"],
            "curvature": {"samples": 500},
            "solver": {"iterations": 10, "preconditioner": "none"},
            "ranking": {"queries": [1, 2, 3]},
        }
    )
    found = estimate(study, SIZES, COSTS)
    solves = ((10 + 2) + (20 + 1 + 2)) * (3 + 1)
    gradient = 3 * 1e-5 * 1000
    assert found["stages"]["solve"] == pytest.approx(solves * 500 * 1e-3 + gradient)
    assert found["stages"]["rank"] == pytest.approx((2 + 2 * 3 * 2) * 1000 * 1e-4 / 3)
    assert found["seconds"] == pytest.approx(sum(found["stages"].values()))
    assert query_count(study) == 3


def test_more_of_anything_costs_more_and_all_is_capped_by_the_split() -> None:
    def seconds(**values: object) -> float:
        return estimate(parse(values), SIZES, COSTS)["seconds"]

    base = seconds()
    assert seconds(solver={"iterations": 40}) > base
    assert seconds(ranking={"count": 5}) > base
    assert seconds(methods=["if"]) < base
    assert seconds(edit={"enabled": False}) < base
    assert seconds(curvature={"samples": "all"}) == seconds(curvature={"samples": 10**6})


def test_a_sketch_costs_products_coordinates_small_solves_and_a_recall() -> None:
    values = {
        "methods": ["gradient", "gif", "second-order"],
        "curvature": {"samples": 500},
        "solver": {"iterations": 10},
        "ranking": {"queries": [1, 2, 3]},
    }
    study = parse(values | {"preview": {"rank": 10, "held_out": 5}})
    costs = COSTS | {"column_per_sample": 2e-6}
    found = preview_parts(study, SIZES, costs)
    sample = 10 * 2e-6 + 3 * 1e-5
    swept = (4 + 4) + (2 + 5)  # two more images by each method; all five by their gradients
    expected = {
        "products": 10 * 500 * 1e-3,
        "training": 1000 * sample,
        "test": 200 * sample,
        "solves": 200 * SMALL_SOLVE,
        "recall": 2 * (20 + 1 + 2) * 500 * 1e-3 + swept * 1000 * 1e-4 / 3,
    }
    assert found == pytest.approx(expected)
    whole = estimate(study, SIZES, costs)
    assert whole["stages"]["preview"] == pytest.approx(sum(expected.values()))
    assert estimate(parse(values), SIZES, costs)["stages"]["preview"] == 0
    assert whole["seconds"] > estimate(parse(values), SIZES, costs)["seconds"]


def test_what_a_sketch_can_hold_is_what_the_engine_says() -> None:
    for method, row in METHODS.items():
        able = row.adjoint is not None and not row.checkpoints
        assert (previewed(parse({"methods": [method]})) == [method]) == able


def test_stages_are_those_of_a_run() -> None:
    from gifcore.runner import STAGES

    assert list(estimate(parse({}), SIZES, COSTS)["stages"]) == list(STAGES)


def test_the_measured_cost_of_a_product_leaves_shared_probes_out() -> None:
    """A certificate's seconds do not hold its probes, which were spent once, before."""

    def certificate(hvps: int, probes: int, seconds: float) -> dict[str, object]:
        R = {"products": probes} if probes else None
        return {"hvps": hvps, "check_hvps": 2, "samples": 10, "preconditioner": R} | {
            "seconds": seconds
        }

    solved = {"1": certificate(16, 0, 18.0), "2": certificate(37, 4, 35.0)}  # a second a product
    result = MethodResult("gif", {"query_certificates": solved})
    assert measured_costs([result], None)["hvp_per_sample"] == pytest.approx(0.1)  # type: ignore[arg-type]


def test_one_sweep_serves_a_stack_of_solves() -> None:
    """Two passes for the batch and one a solve, until formed gradients are cheaper.

    One solve alone goes by forward mode.
    """
    assert STACKED == scoring.STACKED == 64
    assert [sweeps(m) for m in (0, 1, 2, 16, 18, 60)] == [0, 3, 4, 18, 19, 26]
    assert sweeps(65) == sweeps(64) + 3
