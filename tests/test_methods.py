"""The methods that go beyond one solve, against their formulas; what all methods have in common."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from gifcore.change import Relabel, RemoveClass, RemoveSamples
from gifcore.checkpoints import Checkpoint
from gifcore.curvature import EKFAC, DataInf
from gifcore.curved import curvature
from gifcore.errors import GifError
from gifcore.influence import adjoint, embedded, influence
from gifcore.methods import METHODS, worse_of
from gifcore.problem import Problem
from gifcore.scoring import Queries, rank
from gifcore.solvers import LSMR, MINRES, Dense, Lissa, Neumann, Solution, Status
from tests import cases, oracles
from tests.test_influence import CHANGE, chosen, hessians, refitted, selection

SCORED = [name for name, row in METHODS.items() if row.adjoint and not row.checkpoints]
EXACT = ("gradient", "if", "projected", "freeze", "gif", "datainf", "ekfac")
NAMES = ("perceptron with decay", "convolution")


@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize("name", NAMES)
def test_adjoint_consistency(name: str, method: str) -> None:
    """g_q . E delta = s_q . g: dense solves on an indefinite H with damping, and closed forms."""
    problem = cases.problem(name)
    selected, p = chosen(problem), problem.space.size
    curved = curvature(problem, damping=0.05)
    g_q, g = cases.random_vector(p, 1), cases.random_vector(p, 2)
    update = influence(
        problem, CHANGE, method=method, selected=selected, curvature=curved, solver=Dense(),
        gradient=g,
    )  # fmt: skip
    s = adjoint(problem, g_q, method=method, selected=selected, solver=Dense(), curved=curved)
    left = float(g_q @ embedded(update, p))
    assert left == pytest.approx(float(s.value @ g), rel=1e-8, abs=1e-10)


@pytest.mark.parametrize("iterations", [1, 3, 5])
@pytest.mark.parametrize("method", ["if", "projected", "freeze", "gif"])
def test_a_series_is_adjoint_at_any_iteration(method: str, iterations: int) -> None:
    """`neumann` with a fixed normaliser is linear in the right-hand side; Krylov solves are not."""
    problem = cases.problem("perceptron with decay")
    selected, p = chosen(problem), problem.space.size
    curved = curvature(problem)
    g_q, g = cases.random_vector(p, 1), cases.random_vector(p, 2)

    def both(solver: Any) -> tuple[float, float]:
        update = influence(
            problem, CHANGE, method=method, selected=selected, curvature=curved, solver=solver,
            gradient=g,
        )  # fmt: skip
        s = adjoint(problem, g_q, method=method, selected=selected, solver=solver, curved=curved)
        return float(g_q @ embedded(update, p)), float(s.value @ g)

    left, right = both(Neumann(iterations, 0.0, normaliser=3.0))
    assert left == pytest.approx(right, rel=1e-10, abs=1e-12)
    left, right = both(LSMR(iterations, 0, preconditioner="none"))
    assert abs(left - right) > 1e-6


@pytest.mark.parametrize("method", ["projected", "freeze", "gif", "hyperinf"])
@pytest.mark.parametrize("name", NAMES)
def test_with_everything_selected_all_solves_agree(name: str, method: str) -> None:
    """With damping, so that the terms of HyperINF's series are not too many for a test."""
    problem = cases.problem(name)
    everything = selection(problem.space, torch.arange(problem.space.size))
    solver = LSMR(2**12) if method == "hyperinf" else Dense()
    found, classic = (
        influence(problem, CHANGE, method=m, selected=everything, solver=s, damping=2.0).delta
        for m, s in ((method, solver), ("if", Dense()))
    )
    torch.testing.assert_close(found, classic, rtol=1e-4, atol=1e-7)


def test_hyperinf_is_a_series_of_two_to_the_doublings_terms() -> None:
    problem = cases.problem("perceptron with decay")
    selected = chosen(problem)
    J = selected.indices.numpy()
    A = hessians("perceptron with decay")["retained"][:, J]
    found = influence(problem, CHANGE, method="hyperinf", selected=selected, solver=LSMR(15))
    g = found.gradient.numpy()
    beta = float(found.solution.notes[0].split()[-1])
    expected, term = np.zeros(len(J)), A.T @ g
    for _ in range(16):
        expected += beta * term
        term = term - beta * A.T @ (A @ term)
    np.testing.assert_allclose(found.delta, expected, rtol=1e-4)
    assert found.solution.iterations == 4


# --- closed forms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["datainf", "ekfac"])
def test_closed_forms_are_cut_to_the_selection(kind: str) -> None:
    """Units of one layer: the inverse of the cut. All parameters: the inverse itself."""
    problem = cases.problem("perceptron with decay")
    retained = CHANGE.apply(problem)
    fitted = (
        EKFAC.fit(retained, retained.positions)
        if kind == "ekfac"
        else DataInf(retained, retained.positions)
    )
    selected = chosen(problem)
    for J in (selected, None):
        found = influence(problem, CHANGE, method=kind, selected=J, damping=0.2)
        g = found.gradient
        if J is None:
            expected, exact = fitted.inverse(g, 0.2), True
        else:
            expected, exact = fitted.restricted_inverse(g[J.indices], J.indices, 0.2)
            expected = expected if exact else fitted.inverse(g, 0.2)[J.indices]
        torch.testing.assert_close(found.delta, expected, rtol=1e-10, atol=1e-12)
        assert found.solution.status is Status.DIRECT
        assert found.solution.solver_damping == 0.2
        assert found.solution.notes[0].startswith("inverse of the" if exact else "cut of the")


class CutOfInverse:
    """An approximation whose cut has no closed form: only its inverse can be cut."""

    def __init__(self, matrix: torch.Tensor) -> None:
        self.matrix = matrix

    def inverse(self, vector: torch.Tensor, damping: float) -> torch.Tensor:
        return torch.linalg.solve(self.matrix + damping * torch.eye(len(vector)), vector)

    def restricted_inverse(
        self, vector: torch.Tensor, indices: torch.Tensor, damping: float
    ) -> tuple[torch.Tensor, bool]:
        full = vector.new_zeros(len(self.matrix))
        full[indices] = vector
        return self.inverse(full, damping)[indices], False


def test_where_the_cut_has_no_closed_form_the_inverse_is_cut() -> None:
    """E^T Hhat^-1 g of the whole g, and its adjoint Hhat^-1 E E^T g_q."""
    problem = cases.problem("perceptron with decay")
    selected, p = chosen(problem), problem.space.size
    J = selected.indices
    root = cases.random_vector(p * p).reshape(p, p)
    B = root @ root.T / p
    curved = curvature(CHANGE.apply(problem), damping=0.3, of="retained")
    curved._fitted["ekfac"] = CutOfInverse(B)
    whole = torch.linalg.inv(B + 0.3 * torch.eye(p))
    found = influence(problem, CHANGE, method="ekfac", selected=selected, curvature=curved)
    torch.testing.assert_close(found.delta, (whole @ found.gradient)[J], rtol=1e-8, atol=1e-10)
    assert found.solution.notes[0] == "cut of the inverse curvature"
    g_q = cases.random_vector(p, 1)
    s = adjoint(problem, g_q, method="ekfac", selected=selected, curved=curved, solver=LSMR()).value
    kept = torch.zeros_like(g_q)
    kept[J] = g_q[J]
    torch.testing.assert_close(s, whole @ kept, rtol=1e-8, atol=1e-10)


def test_a_closed_form_without_damping_says_what_it_took() -> None:
    problem = cases.problem("perceptron")
    found = influence(problem, CHANGE, method="datainf", selected=chosen(problem)).solution
    assert found.solver_damping > 0
    assert "mean eigenvalue" in found.auto[0]


# --- second order ---------------------------------------------------------------------------------


@pytest.mark.parametrize("selects", [False, True])
def test_second_order_is_its_formula(selects: bool) -> None:
    """d1 - c (d1 - H^-1 H_U d1), with group averages and the minus sign."""
    problem = cases.problem("perceptron with decay")
    selected = chosen(problem) if selects else None
    found = influence(problem, CHANGE, method="second-order", selected=selected, solver=Dense())
    H = oracles.hessian(problem)
    H_U = oracles.hessian(problem.narrowed(torch.tensor([0, 3, 4])))
    c = 3 / (11 - 3)
    first = np.linalg.solve(H, found.gradient.numpy())
    expected = first - c * (first - np.linalg.solve(H, H_U @ first))
    at = slice(None) if selected is None else selected.indices.numpy()
    np.testing.assert_allclose(found.delta, expected[at], rtol=1e-8, atol=1e-10)
    assert found.solution.curvature_of == "full"


def test_an_automatic_damping_is_in_every_curvature_of_a_solve() -> None:
    """In H_U of second-order and in the mini-batches of LiSSA as in H."""
    problem = cases.problem("perceptron")
    p = problem.space.size
    found = influence(
        problem, CHANGE, method="second-order", solver=MINRES(200, 1e-13), damping="auto"
    )
    d, c = found.solution.damping, 3 / (11 - 3)
    assert d > 0
    H = oracles.hessian(problem) + d * np.eye(p)
    H_U = oracles.hessian(problem.narrowed(torch.tensor([0, 3, 4]))) + d * np.eye(p)
    first = np.linalg.solve(H, found.gradient.numpy())
    expected = first - c * (first - np.linalg.solve(H, H_U @ first))
    np.testing.assert_allclose(found.delta, expected, rtol=1e-7, atol=1e-10)
    walked = influence(
        problem, CHANGE, method="if", curvature_of="full", damping="auto",
        solver=Lissa(1500, batch_size=11, damp=0.01, scale=20.0),
    )  # fmt: skip
    full = oracles.hessian(problem) + (walked.solution.damping + 0.2) * np.eye(p)
    np.testing.assert_allclose(walked.delta, np.linalg.solve(full, walked.gradient), rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "solver", "added"),
    [
        (CHANGE, Lissa(60, batch_size=11, damp=0.3, scale=5.0), 1.5),
        (RemoveSamples([0, 3]) | RemoveSamples([4, 3]), Dense(), 0.0),
    ],
)
def test_second_order_counts_weights_and_what_the_solver_adds(
    change: Any, solver: Any, added: float
) -> None:
    """c = W_U / (W - W_U), and the effective damping of LiSSA in H_U as in H; unions too."""
    plain = cases.problem("perceptron with decay")
    w = torch.linspace(0.5, 3.0, 11, dtype=torch.float64)
    problem = Problem(plain.model, plain.train, weight_decay=0.3, weights=w)
    found = influence(problem, change, method="second-order", solver=solver)
    U = [0, 3, 4]
    singles = [oracles.hessian(problem.narrowed(torch.tensor([i]))) for i in range(11)]
    H, H_U = (
        sum(float(w[i]) * singles[i] for i in group) / float(w[group].sum())
        + added * np.eye(problem.space.size)
        for group in (list(range(11)), U)
    )
    c = float(w[U].sum() / (w.sum() - w[U].sum()))
    first = np.linalg.solve(H, found.gradient.numpy())
    expected = first - c * (first - np.linalg.solve(H, H_U @ first))
    np.testing.assert_allclose(found.delta, expected, rtol=1e-5, atol=1e-8)


def test_of_two_solves_the_certificate_is_that_of_the_worse() -> None:
    """Products that are not finite are worse than a budget that is spent, whatever the residual."""
    spent = Solution(torch.zeros(2), Status.ITERATION_LIMIT, "a", residual=0.5, notes=("one",))
    broken = Solution(torch.zeros(2), Status.NOT_FINITE, "a", residual=math.nan, notes=("other",))
    for pair in ((spent, broken), (broken, spent)):
        both = worse_of(*pair, torch.ones(2))
        assert both.status is Status.NOT_FINITE
        assert {"one", "other"} < set(both.notes)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3])
@pytest.mark.parametrize("which", ["random", "high leverage"])
def test_second_order_is_closer_to_the_refit_of_ridge_regression(share: float, which: str) -> None:
    x, y = cases.features((4,), 200, seed=3)
    model = torch.nn.Linear(4, cases.CLASSES).double()
    problem = refitted(
        Problem(model, TensorDataset(x, y), loss=cases.half_square, weight_decay=0.05)
    )
    order = torch.randperm(200, generator=torch.Generator().manual_seed(1))
    if which == "high leverage":
        order = x.square().sum(1).argsort(descending=True)
    change = RemoveSamples(order[: round(share * 200)].tolist())
    moved = oracles.refit(change.apply(problem)) - oracles.theta_of(problem).numpy()
    first, second = (
        influence(problem, change, method=method, curvature_of="full", solver=Dense()).delta
        for method in ("if", "second-order")
    )
    errors = [float(np.linalg.norm(delta.numpy() - moved)) for delta in (first, second)]
    assert errors[1] < 0.7 * errors[0]


# --- checkpoints ----------------------------------------------------------------------------------


def checkpoints(problem: Problem) -> list[Checkpoint]:
    return [
        Checkpoint(problem.theta + 0.1 * cases.random_vector(problem.space.size, seed), rate, steps)
        for seed, rate, steps in ((1, 0.1, 3), (2, 0.05, 7))
    ]


def test_tracin_sums_gradients_over_checkpoints() -> None:
    problem = cases.problem("convolution")
    selected, points = chosen(problem), checkpoints(problem)
    before = problem.theta.clone()
    found = influence(problem, CHANGE, method="tracin", selected=selected, checkpoints=points)
    queries = cases.queries("convolution")
    scores = rank(
        problem, Queries(queries, [[0], [1, 2]]), method="tracin", selected=selected,
        checkpoints=points, batch_size=4,
    )  # fmt: skip
    update, values = np.zeros(problem.space.size), np.zeros((2, 13))
    mask = np.zeros(problem.space.size)
    mask[selected.indices.numpy()] = 1
    for point in points:
        there = Problem(oracles.at(problem, point.theta.numpy()), problem.train, weight_decay=0.01)
        g = oracles.gradient(there) - oracles.gradient(CHANGE.apply(there))
        update += point.rate * point.steps * g
        rows = oracles.sample_gradients(there, queries, range(5))
        for row, g_q in enumerate((rows[0], rows[1:3].mean(0))):
            s = point.rate * point.steps * mask * g_q
            values[row] += oracles.scores(s, oracles.train_gradients(there))
    np.testing.assert_allclose(found.delta, update[selected.indices.numpy()], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(scores.values, values, rtol=1e-9, atol=1e-12)
    assert torch.equal(problem.theta, before)
    model = torch.nn.utils.parameters_to_vector(problem.model.parameters())
    assert torch.equal(model.detach(), before)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"method": "tracin"}, "tracin needs checkpoints of the training"),
        ({"method": "second-order", "curvature_of": "retained"}, "needs curvature_of='full'"),
        (
            {"method": "second-order", "change": Relabel([0], [1])},
            "second-order is for removals; choose another method",
        ),
        ({"method": "datainf", "curvature": "ggnn"}, "Unknown curvature 'ggnn'; choose one of"),
    ],
)
def test_refused(arguments: dict[str, Any], sentence: str) -> None:
    change = arguments.pop("change", RemoveClass(1))
    with pytest.raises(GifError, match=sentence):
        influence(cases.problem("perceptron"), change, **arguments)


def test_an_update_alone_ranks_nothing() -> None:
    problem = cases.problem("perceptron")
    with pytest.raises(GifError, match="second-order is an update and ranks no samples; choose"):
        rank(problem, Queries(cases.queries("perceptron"), [[0]]), method="second-order")
    point = Checkpoint(torch.zeros(3), 0.1, 1)
    with pytest.raises(GifError, match="A checkpoint holds"):
        influence(problem, CHANGE, method="tracin", checkpoints=[point])


class Once(torch.autograd.Function):
    """A square whose backward cannot be differentiated."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
        return 2 * ctx.saved_tensors[0] * g


class Squares(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Once.apply(x)


def test_a_layer_without_a_second_derivative_is_named_with_what_helps() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), Squares(), torch.nn.Linear(3, 3)).double()
    problem = Problem(model, cases.samples(cases.PROBLEMS["perceptron"], 11, 0))
    with pytest.raises(GifError, match="has no second derivative"):
        influence(problem, CHANGE, method="if")
    found = influence(problem, CHANGE, method="if", curvature="fisher", damping=0.1)
    assert float(found.delta.norm()) > 0
    for method in ("gradient", "datainf", "ekfac"):  # they take no second derivative
        assert float(influence(problem, CHANGE, method=method).delta.norm()) > 0


def test_a_problem_that_cannot_be_explained_is_refused_before_anything_is_computed() -> None:
    x, y = cases.features((3,), 11, 0)
    model = torch.nn.Linear(3, 3).double()
    for labels, sentence in (
        (y + 1, "There is a label 3, but the model has 3 outputs"),
        (y.int(), "The labels are int32; cross_entropy needs int64"),
    ):
        problem = Problem(model, TensorDataset(x, labels))
        with pytest.raises(GifError, match=sentence):
            curvature(problem)
    with pytest.raises(GifError, match=r"return one number per sample"):
        curvature(Problem(model, TensorDataset(x, y), loss=lambda out, _: out.square().mean()))


def test_what_was_given_in_training_mode_is_noted_on_the_certificate() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout()).double().train()
    problem = Problem(model, cases.samples(cases.PROBLEMS["perceptron"], 11, 0))
    solution = influence(problem, CHANGE, method="if", damping=0.5).solution
    assert "training mode" in solution.notes[-1]
    assert model.training
