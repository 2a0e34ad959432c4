"""The instant preview: the method itself in a small space, read by NumPy, its recall measured."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from gifcore import preview
from gifcore import small_space as small_space_module
from gifcore.curved import Curved, curvature
from gifcore.errors import GifError
from gifcore.methods import METHODS
from gifcore.operators import LinearOperator, Matrix
from gifcore.preview import Sketch, recall
from gifcore.problem import Problem, cross_entropy, silent
from gifcore.scoring import Queries, rank
from gifcore.selection import Selection
from gifcore.sketch import build_sketch
from gifcore.small_solve import Rotated, small_solve
from gifcore.small_space import Space, coordinates, small_space
from gifcore.solvers import LSMR, Dense, Lissa
from tests import cases, oracles
from tests.test_imports import run_code
from tests.test_influence import chosen

HASHES = {"model": "m" * 64, "data": "d" * 64}
CLOSED = ("ekfac", "datainf")
TEST = 6


def data(name: str, n: int, seed: int) -> TensorDataset:
    return cases.samples(cases.PROBLEMS[name], n, seed)


@cache
def problem(name: str = "perceptron with decay", n: int = 47) -> Problem:
    made = cases.problem(name)
    return Problem(made.model, data(name, n, 3), loss=made.loss, weight_decay=made.weight_decay)


@cache
def setting(name: str = "perceptron with decay") -> tuple[Problem, TensorDataset, Curved]:
    """A problem with more samples than parameters, test samples, a curvature."""
    return problem(name), data(name, TEST, 4), curvature(problem(name), damping=0.05)


def build(given: Problem, test: TensorDataset, curved: Curved, **wanted: Any) -> Sketch:
    defaults = {
        "methods": ["if"], "rank": given.space.size, "solver": Dense(), "held_out": 4,
        "numbers": "float64", **HASHES,
    }  # fmt: skip
    return build_sketch(given, test, curved=curved, **{**defaults, **wanted})


def exact(
    given: Problem, test: TensorDataset, curved: Curved, selected: Selection | None, method: str,
    solver: Any,
) -> np.ndarray:  # fmt: skip
    groups = [[q] for q in range(len(test))]
    return rank(
        given, Queries(test, groups), method=method, selected=selected, curvature=curved,
        solver=solver,
    ).values.numpy()  # fmt: skip


@pytest.mark.parametrize(
    ("name", "whole", "solver"),
    [
        ("perceptron with decay", False, Dense()),
        ("perceptron with decay", False, LSMR(150, 1e-13, probes=0)),
        ("convolution", True, Dense()),
    ],
)
def test_with_full_rank_the_preview_is_the_exact_ranking(
    name: str, whole: bool, solver: Any
) -> None:
    """Every method, on a selection or on all parameters, dense and by converged iterations."""
    given, test, curved = setting(name)
    selected = None if whole else chosen(given)
    methods = [*cases.METHODS, *CLOSED]
    sketch = build(given, test, curved, methods=methods, selected=selected, solver=solver)
    for method in methods:
        expected = exact(given, test, curved, selected, method, solver)
        found = np.stack([sketch.scores(q, method) for q in range(TEST)])
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8 * abs(expected).max())
        measured = sketch.recall(method)["largest"]
        assert (measured["mean"], measured["min"]) == (1, 1)


@pytest.mark.parametrize("damping", [0.05, "auto"])
def test_an_early_stop_is_where_it_is_at_full_size(damping: float | str) -> None:
    """Systems are rotated before they are solved, and R with them: no iterate is another one."""
    given, test, _ = setting()
    curved, solver = curvature(given, damping=damping), LSMR(4, probes=4)
    methods = ["if", "projected", "freeze", "gif"]
    sketch = build(given, test, curved, methods=methods, selected=chosen(given), solver=solver)
    for method in methods:
        expected = exact(given, test, curved, chosen(given), method, solver)
        found = np.stack([sketch.scores(q, method) for q in range(TEST)])
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7 * abs(expected).max())


def test_an_automatic_ridge_is_that_of_the_type_of_full_size() -> None:
    """In float64 a problem of float32 would be solved with 1e-9 of the ridge it has."""
    curved, eps = curvature(problem(), damping="auto"), torch.finfo(torch.float32).eps
    solve = Rotated(LSMR(50), None, silent, curved, METHODS["gif"], eps=eps)
    A, b = cases.random_vector(12).view(4, 3), cases.random_vector(4, 1)
    squares = A.T @ A + eps * torch.linalg.matrix_norm(A, 2) ** 2 * torch.eye(3)
    for _ in range(2):  # found in the first call, kept for the second
        found = solve.minimum_norm(Matrix(A.T), A.T @ b).value
        torch.testing.assert_close(
            found, A @ torch.linalg.solve(squares, A.T @ b), rtol=1e-9, atol=0
        )


def test_lissa_takes_its_mini_batches_in_no_small_space() -> None:
    """With V square the small system has the shape of the whole one, and other coordinates."""
    given, _, curved = setting()
    p, damped = given.space.size, 0.05 * 20
    J = torch.arange(p)
    space = small_space(given, curved, J, p, solving=True, seed=0, progress=silent)
    solve = small_solve(space, curved, None, Lissa(300, damp=0.05, scale=20), "if", METHODS["if"])
    g_q = cases.random_vector(p)
    expected = torch.linalg.solve(curved.H.dense() + damped * torch.eye(p), g_q)
    torch.testing.assert_close(space.V.T @ solve(space.V @ g_q), expected, rtol=1e-5, atol=1e-7)


def test_known_rankings_are_not_solved_again() -> None:
    """Held out are those known for all methods, then drawn ones; a false one shows in it."""
    given, test, curved = setting("convolution")
    expected = exact(given, test, curved, None, "if", Dense())
    known = {"if": {q: expected[q] for q in (1, 4)}, "gradient": {4: expected[4]}}
    both = {"methods": ["if", "gradient"], "rank": 12, "held_out": 3}
    sketch = build(given, test, curved, known=known, **both)
    plain = build(given, test, curved, **both)
    assert 4 in sketch.info["held_out"]
    assert len(sketch.info["held_out"]) == 3
    plainly = exact(given, test, curved, None, "gradient", Dense())
    plainly[4] = expected[4]  # what was called exact counts, even where it is not
    for method, called in (("if", expected), ("gradient", plainly)):
        held = sketch.info["held_out"]
        found = [recall(called[q], sketch.scores(q, method), 4) for q in held]
        for name in preview.CRITERIA:
            mean = np.mean([one[name] for one in found])
            assert sketch.recall(method)[name]["mean"] == pytest.approx(mean)
    np.testing.assert_array_equal(sketch.train, plain.train)
    many = {"if": {q: expected[q] for q in range(TEST)}}
    assert build(given, test, curved, rank=12, held_out=1, known=many).info["held_out"] == [
        0, 1, 2, 3, 4, 5
    ]  # fmt: skip


def test_hyperinf_too_up_to_the_start_of_its_series() -> None:
    """Its first step is scaled by an estimate of the norm, which is not the same in V."""
    given, test, curved = setting()
    solver = LSMR(1000)
    sketch = build(given, test, curved, methods=["hyperinf"], selected=chosen(given), solver=solver)
    expected = exact(given, test, curved, chosen(given), "hyperinf", solver)
    for q in range(TEST):
        error = np.abs(sketch.scores(q, "hyperinf") - expected[q]).max()
        assert error < 0.05 * np.abs(expected[q]).max()


def test_the_preview_is_the_closed_form_of_gif() -> None:
    """Against an oracle that shares no code with the engine."""
    given, test, curved = setting()
    J = chosen(given).indices.numpy()
    sketch = build(given, test, curved, methods=["gif"], selected=chosen(given))
    H = oracles.hessian(given) + 0.05 * np.eye(given.space.size)
    for q in (0, 5):
        g_q = oracles.sample_gradients(given, test, [q])[0]
        expected = oracles.scores(oracles.adjoint("gif", H, J, g_q), oracles.train_gradients(given))
        np.testing.assert_allclose(sketch.scores(q, "gif"), expected, rtol=1e-6, atol=1e-9)


def test_weights_and_narrowed_problems() -> None:
    given, test, _ = setting()
    w = torch.linspace(0.5, 3, 47, dtype=torch.float64)
    weighted = replace(given, weights=w, samples=torch.arange(2, 45))
    curved = curvature(weighted, damping=0.05)
    sketch = build(weighted, test, curved)
    expected = exact(weighted, test, curved, None, "if", Dense())
    np.testing.assert_allclose(sketch.scores(5, "if"), expected[5], rtol=1e-6, atol=1e-12)
    assert sketch.positions.tolist() == list(range(2, 45))


def test_in_a_small_space_gif_cancels_the_whole_gradient_not_its_part_in_the_space() -> None:
    """s = H D (D^T H^2 D)^-1 D^T g_q, D the columns on J, seen in V; by hand."""
    given, test, curved = setting("convolution")
    selected, few = chosen(given), 20
    sketch = build(given, test, curved, methods=["gif"], selected=selected, rank=few)
    space = small_space(given, curved, selected.indices, few, solving=True, seed=0, progress=silent)
    V, H, G = space.V.numpy(), curved.H.dense().numpy(), oracles.train_gradients(given)
    D = V[space.inside.numpy()].T
    for q in range(TEST):
        g_q = oracles.sample_gradients(given, test, [q])[0]
        s = H @ D @ np.linalg.solve(D.T @ H @ H @ D, D.T @ g_q)
        expected = oracles.scores(V @ s, G @ V.T)
        np.testing.assert_allclose(sketch.scores(q, "gif"), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("method", ["if", "gif"])
def test_a_low_rank_is_nearer_to_the_exact_ranking_than_gradients_are(method: str) -> None:
    given, test, curved = setting("convolution")
    selected = chosen(given)
    few = given.space.size // 2
    sketch = build(given, test, curved, methods=[method, "gradient"], selected=selected, rank=few)
    expected = exact(given, test, curved, selected, method, Dense())
    control = exact(given, test, curved, selected, "gradient", Dense())
    preview, control = (
        np.mean([recall(e, f, 10)["largest"] for e, f in zip(expected, scores, strict=True)])
        for scores in ([sketch.scores(q, method) for q in range(TEST)], control)
    )
    assert control + 0.1 < preview < 1


def test_the_recall_is_that_of_the_held_out_queries_against_exact_rankings() -> None:
    given, test, curved = setting("convolution")
    selected = chosen(given)
    sketch = build(given, test, curved, methods=["gif"], selected=selected, rank=12, held_out=5)
    held = sketch.info["held_out"]
    assert len(set(held)) == 5
    expected = exact(given, test, curved, selected, "gif", Dense())
    gradients = exact(given, test, curved, None, "gradient", Dense())
    found = [recall(expected[q], sketch.scores(q, "gif"), 4) for q in held]
    plain = [recall(expected[q], gradients[q], 4) for q in held]
    measured = sketch.recall("gif")
    assert (measured["queries"], measured["depth"]) == (5, 4)  # a tenth of 47 samples
    for name in preview.CRITERIA:
        values = [one[name] for one in found]
        assert measured[name]["mean"] == pytest.approx(np.mean(values))
        assert measured[name]["min"] == min(values)
        assert measured[name]["control"] == pytest.approx(np.mean([one[name] for one in plain]))
    assert measured["largest"]["mean"] < 1


def test_no_test_sample_has_a_part_in_the_space() -> None:
    """So every test sample is held out: other test samples change nothing for this one."""
    given, test, curved = setting()
    x, y = test.tensors
    others = TensorDataset(torch.cat([x[:1], x[:5] * 9]), torch.cat([y[:1], y[:5]]))
    one, two = (build(given, t, curved, rank=10, held_out=h) for t, h in ((test, 4), (others, 2)))
    np.testing.assert_array_equal(one.train, two.train)
    np.testing.assert_allclose(one.scores(0, "if"), two.scores(0, "if"), rtol=1e-9)
    assert not np.allclose(one.scores(1, "if"), two.scores(1, "if"))


def test_seeds() -> None:
    given, test, curved = setting()
    same, again, other = (build(given, test, curved, rank=6, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(same.train, again.train)
    assert same.info["held_out"] == again.info["held_out"]
    assert not np.allclose(same.scores(0, "if"), other.scores(0, "if"))


def test_the_space_holds_gradients_and_what_h_makes_of_them() -> None:
    given, _, curved = setting("convolution")
    for selected in (None, chosen(given)):
        J = torch.arange(given.space.size) if selected is None else selected.indices
        space = small_space(given, curved, J, 24, solving=True, seed=0, progress=silent)
        V, H = space.V, curved.H.dense()
        torch.testing.assert_close(V @ V.T, torch.eye(24, dtype=V.dtype), rtol=0, atol=1e-10)
        torch.testing.assert_close(space.H, V @ H @ V.T, rtol=1e-9, atol=1e-11)
        moved = V[space.inside] @ H
        torch.testing.assert_close(
            (space.leak.T @ space.leak + space.H @ space.H)[space.inside][:, space.inside],
            moved @ moved.T, rtol=1e-8, atol=1e-10,
        )  # fmt: skip
        on = torch.zeros(24, dtype=torch.bool)
        on[space.inside] = True
        J_part = torch.zeros(given.space.size, dtype=torch.bool)
        J_part[J] = True
        assert not V[on][:, ~J_part].any()
        assert not V[~on][:, J_part].any()
        if selected is None:  # the second half of the columns is made of H times the first
            moved = V[:12] @ H
            assert float((moved - moved @ V.T @ V).norm() / moved.norm()) < 1e-8
        else:
            assert 0 < len(space.inside) < 24


@pytest.mark.parametrize("name", [*cases.PROBLEMS, *cases.ANY_MODEL])
def test_coordinates_of_every_kind_of_model(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On all parameters, and with columns on a selection and off it."""
    given = cases.problem(name)
    p = given.space.size
    V = torch.stack([cases.random_vector(p, seed) for seed in range(4)])
    G = torch.stack([given.data_gradient(i[None]) for i in given.positions])
    none, J = torch.zeros(0, 0), chosen(given, k=p // 3).indices
    inside = torch.tensor([0, 2])
    split = V.clone()
    split[1::2, J] = 0
    off = torch.ones(p, dtype=torch.bool)
    off[J] = False
    split[inside[:, None], off.nonzero().squeeze(1)] = 0
    for most, space in (
        (4, Space(V, torch.arange(p), torch.arange(4), none, none)),
        (64, Space(split, J, inside, none, none)),
    ):
        monkeypatch.setattr(small_space_module, "MOST", most)
        found = coordinates(given, space, silent, "")
        torch.testing.assert_close(found, G @ space.V.T, rtol=1e-9, atol=1e-11)


# --- kept and read --------------------------------------------------------------------------------


@cache
def small() -> Sketch:
    given, test, curved = setting()
    return build(
        given, test, curved, methods=["if", "gradient"], rank=9, numbers="float16",
        solver=LSMR(30),
    )  # fmt: skip


def test_save_and_load(tmp_path: Path) -> None:
    sketch, path = small(), tmp_path / "sketch.npz"
    sketch.save(path)
    read = preview.load(path, **HASHES)
    for method in ("if", "gradient"):
        np.testing.assert_array_equal(read.scores(3, method), sketch.scores(3, method))
        assert read.recall(method) == sketch.recall(method)
    assert read.info == json.loads(json.dumps(sketch.info))
    with pytest.raises(GifError, match="of another model"):
        preview.load(path, model="x", data=HASHES["data"])
    with pytest.raises(GifError, match="of another data"):
        preview.load(path, model=HASHES["model"], data="x")


def test_float16_is_near_float64() -> None:
    sketch = small()
    assert sketch.train.dtype == np.float16
    given, test, curved = setting()
    wide = build(given, test, curved, methods=["if"], rank=9, solver=LSMR(30))
    np.testing.assert_allclose(
        sketch.scores(2, "if"), wide.scores(2, "if"), rtol=0,
        atol=2e-3 * np.abs(wide.scores(2, "if")).max(),
    )  # fmt: skip


def test_float16_loses_no_small_gradient() -> None:
    given, test, _ = setting()
    faint = replace(given, loss=lambda out, batch: 1e-9 * cross_entropy(out, batch))
    curved = curvature(faint)
    sketch = build(faint, test, curved, methods=["gradient"], numbers="float16")
    expected = exact(faint, test, curved, None, "gradient", Dense())[2]
    atol = 2e-3 * np.abs(expected).max()
    np.testing.assert_allclose(sketch.scores(2, "gradient"), expected, rtol=0, atol=atol)


def test_the_stated_size_is_that_of_the_arrays() -> None:
    sketch = small()
    row = 9 * 2 + 4  # r numbers in float16 and a length
    assert sketch.nbytes == 47 * (row + 4 + 8) + 9 * 4 + 2 * TEST * row


def test_reading_needs_no_torch(tmp_path: Path) -> None:
    path = tmp_path / "sketch.npz"
    small().save(path)
    code = (
        "import sys; from gifcore import preview;"
        f"s = preview.load({str(path)!r}, **{HASHES!r});"
        "print(s.scores(1, 'if').shape, sorted(s.recall('if')), 'torch' in sys.modules)"
    )
    listed = "['depth', 'harmful', 'helpful', 'largest', 'queries']"
    assert run_code(code) == f"(47,) {listed} False"


@pytest.mark.parametrize("content", [b"", b"no zip", None])
def test_what_is_no_sketch(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "sketch.npz"
    if content is None:
        np.savez(path, train=np.zeros(3))
    else:
        path.write_bytes(content)
    with pytest.raises(GifError, match="no sketch that can be read"):
        preview.load(path, **HASHES)


def test_a_sketch_with_pickles_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sketch.npz"
    np.savez(path, info=np.array([{"a": 1}], dtype=object))
    with pytest.raises(GifError, match="no sketch that can be read"):
        preview.load(path, **HASHES)


def test_damaged_arrays() -> None:
    with pytest.raises(GifError, match="mean have the shape"):
        replace(small(), mean=np.zeros(3))
    lengths = small().lengths.copy()
    lengths[4] = np.nan
    with pytest.raises(GifError, match="lengths hold NaN"):
        replace(small(), lengths=lengths)


def test_what_the_sketch_does_not_hold() -> None:
    with pytest.raises(GifError, match="holds if, gradient, not 'gif'"):
        small().scores(0, "gif")
    for query in (-1, TEST):
        with pytest.raises(GifError, match="no test sample"):
            small().scores(query, "if")


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"rank": 32}, "rank is 32; it must be from 1 to 31"),
        ({"rank": 0}, "rank is 0"),
        ({"held_out": 0}, "held_out is 0"),
        ({"held_out": TEST + 1}, "from 1 to the 6 test samples"),
        ({"methods": []}, "Name one or more methods"),
        ({"methods": ["second-order"]}, "ranks no samples"),
        ({"methods": ["tracin"]}, "has no preview"),
        ({"methods": ["nonsense"]}, "Unknown method"),
        ({"numbers": "int8"}, "choose one of: float16"),
        ({"memory_mb": 0.005}, "lower `rank` to 6"),
    ],
)
def test_bad_input(wanted: dict[str, Any], said: str) -> None:
    given, test, curved = setting()
    with pytest.raises(GifError, match=said):
        build(given, test, curved, **wanted)


def test_a_rank_beyond_n() -> None:
    few = problem().narrowed(torch.arange(8))
    with pytest.raises(GifError, match="from 1 to 8"):
        build(few, setting()[1], curvature(few, damping=0.1), rank=9)


def test_products_that_are_not_finite() -> None:
    given, test, curved = setting()

    class Broken(LinearOperator):
        @property
        def shape(self) -> tuple[int, int]:
            return curved.H.shape

        def apply(self, vector: Tensor) -> Tensor:
            return vector * torch.nan

        apply_transposed = apply

    with pytest.raises(GifError, match="NaN or infinite"):
        build(given, test, replace(curved, H=Broken()), rank=5)


def test_recall_of_two_rankings() -> None:
    one = np.array([5.0, -6.0, 1.0, 0.0, 2.0])
    assert recall(one, one, 3) == {"largest": 1.0, "helpful": 1.0, "harmful": 1.0}
    assert recall(one, -one, 2) == {"largest": 1.0, "helpful": 0.0, "harmful": 0.0}
    other = np.array([1.0, -9.0, 2.0, 3.0, 0.0])  # helpful: 3, 2; harmful: 1, 4; largest: 1, 3
    assert recall(one, other, 2) == {"largest": 0.5, "helpful": 0.0, "harmful": 0.5}
    with pytest.raises(GifError, match="m is 6"):
        recall(one, one, 6)
    with pytest.raises(GifError, match="do not compare"):
        recall(one, one[:2], 1)
