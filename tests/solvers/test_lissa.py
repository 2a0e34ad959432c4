"""LiSSA: the recursion, its fixed point, the damping it really has, its batches and chains."""

import math
import multiprocessing
import os
import pickle
import signal
from dataclasses import dataclass
from threading import Thread

import pytest
import torch
from torch import Tensor

from gifcore.curvature import Hessian, draw_samples
from gifcore.curved import curvature as curvature_of
from gifcore.errors import Cancelled, GifError
from gifcore.operators import LinearOperator, Matrix
from gifcore.solvers import Lissa, Status
from gifcore.solvers.chains import Batches, Chain, Recursion, _Run, _serve
from tests.cases import problem as make_problem
from tests.cases import random_vector
from tests.solvers.test_lsmr import random_matrix
from tests.solvers.test_minres import with_eigenvalues

H = with_eigenvalues(-0.3, 0.2, 1, 2, 3)
B = random_vector(5, 5)
EYE = torch.eye(5, dtype=torch.float64)


@pytest.mark.parametrize("J", [1, 2, 3, 17])
def test_exactly_j_steps_of_the_recursion(J: int) -> None:
    damp, scale = 0.1, 8.0
    e = B.clone()
    for _ in range(J):
        e = B + (1 - damp) * e - H @ e / scale
    solution = Lissa(J, damp=damp, scale=scale).solve(Matrix(H), B)
    torch.testing.assert_close(solution.value, e / scale, rtol=1e-12, atol=1e-14)
    assert (solution.iterations, solution.hvps) == (J, J)


@pytest.mark.parametrize(("damp", "scale"), [(0.1, 8.0), (0.02, 50.0), (0.5, 4.0)])
def test_its_fixed_point_is_that_of_the_effective_damping(damp: float, scale: float) -> None:
    solution = Lissa(20_000, damp=damp, scale=scale, tolerance=1e-10).solve(Matrix(H), B)
    expected = torch.linalg.solve(H + damp * scale * EYE, B)
    torch.testing.assert_close(solution.value, expected, rtol=1e-8, atol=1e-10)
    assert solution.status is Status.CONVERGED
    assert solution.solver_damping == damp * scale
    assert any(f"damp * scale = {damp * scale:g}" in note for note in solution.notes)


@pytest.mark.parametrize("J", [100, 400])
def test_where_the_curvature_is_small_it_converges_as_one_minus_damp_to_the_j(J: int) -> None:
    """FastIF's settings: damp 5e-3, scale 1e4."""
    small = 1e-9 * H
    expected = torch.linalg.solve(small + 50 * EYE, B)
    start = B / 1e4
    solution = Lissa(J).solve(Matrix(small), B)
    left = (solution.value - expected).norm() / (start - expected).norm()
    assert float(left) == pytest.approx((1 - 5e-3) ** J, rel=1e-6)


def test_the_certificate_is_that_of_the_damped_system() -> None:
    solution = Lissa(30, damp=0.1, scale=8.0).solve(Matrix(H), B)
    A = H + 0.8 * EYE
    r = B - A @ solution.value
    assert solution.residual == pytest.approx(float(r.norm() / B.norm()))
    assert solution.normal_residual == pytest.approx(float((A @ r).norm() / (A @ B).norm()))
    assert solution.status is Status.ITERATION_LIMIT
    history = solution.residual_history
    assert len(history) == 30 + 2
    assert history[0] == 1.0
    first = float((B - A @ B / 8.0).norm() / B.norm())
    assert history[1] == pytest.approx(first)
    assert history[-1] == solution.residual


@pytest.mark.parametrize(("scale", "steps"), [(1.0, 50), (0.1, 8)])
def test_a_scale_that_is_too_small_diverges(scale: float, steps: int) -> None:
    """It converges only where lambda < (2 - damp) scale."""
    solution = Lissa(5000, damp=0.01, scale=scale).solve(Matrix(H), B)
    assert solution.status is Status.DIVERGED
    assert not solution.trusted
    assert solution.iterations <= steps  # it does not walk on until it overflows
    assert bool(torch.isfinite(solution.value).all())


def test_slow_growth_is_divergence_too() -> None:
    """A negative eigenvalue beyond the damping: worse than zero after all its steps."""
    solution = Lissa(300, damp=0.01, scale=10.0).solve(Matrix(H), B)
    assert solution.status is Status.DIVERGED
    assert solution.residual > 1
    assert solution.iterations == 300


# --- mini-batches --------------------------------------------------------------------------------

ROWS = random_matrix(7, 3, 1)
MEAN = ROWS.T @ ROWS / 7


def curvature(samples: Tensor) -> Matrix:
    part = ROWS[samples]
    return Matrix(part.T @ part / len(part))


def test_batches_walk_through_permutations_of_the_samples() -> None:
    seen: list[list[int]] = []

    def record(samples: Tensor) -> Matrix:
        seen.append(samples.tolist())
        return curvature(samples)

    batches = Lissa(batch_size=3, seed=4).batches(record, torch.arange(7))
    for chain in range(2):
        for step in range(4):
            batches(chain, step)
    assert {len(part) for part in seen} == {3}
    for first in range(0, 8, 2):
        assert not set(seen[first]) & set(seen[first + 1])  # 7 // 3 = 2 batches a permutation
    assert len({tuple(part) for part in seen}) > 4
    again = Lissa(batch_size=3, seed=4).batches(curvature, torch.arange(7))
    assert torch.equal(again(1, 3).matrix, curvature(torch.tensor(seen[7])).matrix)
    other = Lissa(batch_size=3, seed=5).batches(curvature, torch.arange(7))
    assert any(not torch.equal(other(0, s).matrix, again(0, s).matrix) for s in range(4))


def test_full_batches_are_the_operator() -> None:
    settings = Lissa(50, batch_size=100, damp=0.05, scale=10.0)
    b = random_vector(3, 5)
    full = settings.solve(Matrix(MEAN), b)
    drawn = settings.solve(Matrix(MEAN), b, batches=settings.batches(curvature, torch.arange(7)))
    torch.testing.assert_close(full.value, drawn.value, rtol=1e-12, atol=1e-14)
    assert ("full batches" in full.notes[1]) is not ("full batches" in drawn.notes[1])


def test_chains_are_averaged_and_close_in_on_the_damped_solution() -> None:
    b = random_vector(3, 5)
    expected = torch.linalg.solve(MEAN + torch.eye(3, dtype=torch.float64), b)

    def error(chains: int) -> float:
        solver = Lissa(400, 1, chains, damp=0.02, scale=50.0)
        solution = solver.solve(Matrix(MEAN), b, batches=solver.batches(curvature, torch.arange(7)))
        assert solution.hvps == 400 * chains
        assert solution.status is Status.ITERATION_LIMIT
        assert solution.residual < 0.3
        return float((solution.value - expected).norm() / expected.norm())

    assert error(20) < 0.5 * error(1)
    single = [Lissa(20, 1, 1, 0.02, 50.0, seed=0), Lissa(20, 1, 2, 0.02, 50.0, seed=0)]
    draws = single[0].batches(curvature, torch.arange(7))
    chains = [
        single[0].solve(Matrix(MEAN), b, batches=lambda _, step, c=c: draws(c, step)).value
        for c in range(2)
    ]
    both = single[1].solve(Matrix(MEAN), b, batches=draws)
    torch.testing.assert_close(both.value, (chains[0] + chains[1]) / 2)


def test_a_batch_that_is_not_finite_ends_it() -> None:
    def batches(_chain: int, step: int) -> Matrix:
        return Matrix(MEAN * (math.nan if step == 3 else 1.0))

    solver = Lissa(20, scale=10.0)
    solution = solver.solve(Matrix(MEAN), random_vector(3, 5), batches=batches)
    assert (solution.status, solution.iterations) == (Status.NOT_FINITE, 3)
    assert bool(torch.isfinite(solution.value).all())


def test_batches_of_a_model_are_its_hessian_on_some_samples() -> None:
    problem = make_problem("perceptron")
    samples = draw_samples(problem, None, 0)
    v = random_vector(problem.space.size)
    solver = Lissa(batch_size=len(samples) // 2)
    batches = solver.batches(lambda part: Hessian(problem, part), samples)
    whole, odd = Hessian(problem, samples), len(samples) % 2
    both = (batches(0, 0) @ v + batches(0, 1) @ v) / 2
    drawn = torch.cat([batches(0, step).samples for step in range(2)])
    assert len(drawn.unique()) == len(samples) - odd
    torch.testing.assert_close(both, Hessian(problem, drawn.sort().values) @ v)
    full = Lissa(batch_size=len(samples)).batches(lambda part: Hessian(problem, part), samples)
    torch.testing.assert_close(full(3, 5) @ v, whole @ v)


# --- chains in processes -------------------------------------------------------------------------


@dataclass(frozen=True)
class Harmed:
    """Mini-batches; one chain of them kills its process, or raises."""

    batches: Batches
    chain: int
    fate: str = "killed"

    def __call__(self, chain: int, step: int) -> LinearOperator:
        if chain == self.chain and step == 3:
            if self.fate == "raises":
                raise GifError("This batch cannot be read.")
            assert multiprocessing.parent_process() is not None
            os.kill(os.getpid(), signal.SIGKILL)
        return self.batches(chain, step)


def one_row(chain: int, step: int) -> Matrix:
    return curvature(torch.tensor([(3 * chain + step) % 7]))


def test_processes_walk_the_chains_of_the_callers_model_and_a_killed_one_loses_its_own() -> None:
    problem = make_problem("perceptron with decay")
    curved = curvature_of(problem, damping=0.1, stop=lambda: None)
    b = random_vector(problem.space.size, 5)
    curved.H @ b  # leaves graphs behind, which no other process could have
    solver = Lissa(20, 2, 4, damp=0.05, scale=8.0, seed=3, processes=2)
    batches = solver.batches(curved.batch, curved.samples)
    solution = solver.solve(curved.H, b, batches=Harmed(batches, 1))
    walked = [
        Recursion(20, 0.05, 8.0).walk(chain, b, batches, lambda _step: None).e / 8.0
        for chain in (0, 2, 3)
    ]
    torch.testing.assert_close(solution.value, sum(walked) / 3, rtol=1e-12, atol=1e-15)
    assert solution.status is Status.ITERATION_LIMIT
    assert solution.hvps == 3 * 20
    assert solution.notes[2:] == (
        "chain 2 of 4 was lost (its process was killed by signal 9): the value is the mean of the "
        "3 others, as noisy as with T = 3",
    )
    assert not multiprocessing.active_children()


def test_without_any_chain_there_is_no_answer() -> None:
    """Processes that never come up, as those of a script without a guard."""
    before = multiprocessing.spawn.get_executable()
    multiprocessing.set_executable("/bin/false")
    try:
        solver = Lissa(20, 1, 2, damp=0.05, scale=8.0, processes=2)
        with pytest.raises(GifError, match=r"All 2 chains .* \(exit code 1\).* set processes=1"):
            solver.solve(Matrix(MEAN), random_vector(3, 5), batches=one_row)
    finally:
        multiprocessing.set_executable(before)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)])
def test_the_first_chain_that_fails_ends_the_mean_whichever_comes_first(order: tuple[int]) -> None:
    b = random_vector(3, 5)
    run = _Run(4)
    for number in order:
        failed = Status.DIVERGED if number in (1, 3) else None
        run.found[number] = Chain(b, b, failed=failed)
    assert run.end == 2
    assert run.missing() == []
    run = _Run(4)
    run.found[2] = Chain(b, b, failed=Status.NOT_FINITE)
    run.lost[0] = "killed"
    assert (run.end, run.gone(), run.missing()) == (3, [0, 1], [1])


def test_what_cannot_be_pickled_is_refused_before_a_process_starts() -> None:
    solver = Lissa(5, 1, 2, scale=8.0, processes=2)
    batches = solver.batches(lambda part: curvature(part), torch.arange(7))  # noqa: PLW0108
    with pytest.raises(GifError, match="has to pickle .* or set processes=1"):
        solver.solve(Matrix(MEAN), random_vector(3, 5), batches=batches)


def test_cancelling_ends_the_processes() -> None:
    def cancel(_done: int, _total: int, _note: str) -> None:
        raise Cancelled

    solver = Lissa(5, 1, 2, scale=8.0, processes=2)
    with pytest.raises(Cancelled):
        solver.solve(Matrix(MEAN), random_vector(3, 5), batches=one_row, progress=cancel)
    assert not multiprocessing.active_children()


def served(payload: bytes, chains: list[int]) -> list[tuple[str, object]]:
    """What a worker says, run in a thread of this process."""
    ours, theirs = multiprocessing.Pipe()
    threads = torch.get_num_threads()
    worker = Thread(target=_serve, args=(theirs,))
    worker.start()
    said = []
    ours.send_bytes(payload)
    try:
        for number in chains:
            said.append(pickle.loads(ours.recv_bytes()))
            ours.send_bytes(pickle.dumps(number))
        said.append(pickle.loads(ours.recv_bytes()))
    finally:
        ours.close()
        worker.join()
        torch.set_num_threads(threads)
    return said


def test_a_worker_says_what_went_wrong() -> None:
    payload = pickle.dumps(
        (Recursion(5, 0.05, 8.0), random_vector(3, 5), Harmed(one_row, 1, "raises"))
    )
    ready, chain, raised = served(payload, [0, 1])
    assert ready == ("ready", None)
    assert chain[0] == "chain"
    assert raised[0] == "raised"
    assert str(raised[1]) == "This batch cannot be read."
    ((kind, error),) = served(b"no pickle", [])
    assert kind == "raised"
    assert "set processes=1" in str(error)
