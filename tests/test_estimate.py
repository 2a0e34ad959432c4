"""Estimates: products counted as the solvers count them, seconds that add up."""

import pytest

from gifcore import scoring
from gifcore.change import RemoveSamples
from gifcore.estimate import STACKED, estimate, probes, products, query_count, sweeps
from gifcore.influence import influence
from gifcore.manifest import measured_costs
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
    """Two passes for the batch and one a solve; one solve alone goes by forward mode."""
    assert STACKED == scoring.STACKED
    assert [sweeps(m) for m in (0, 1, 2, 16, 17, 18)] == [0, 3, 4, 18, 21, 22]
