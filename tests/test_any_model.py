"""The engine on any model: generic tests on further rows, torchvision's networks, bad input."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from gifcore.change import RemoveSamples
from gifcore.checks import check_problem
from gifcore.curvature import Hessian
from gifcore.curved import curvature
from gifcore.edit import edit
from gifcore.errors import GifError
from gifcore.gradient_products import gradient_products
from gifcore.influence import embedded, influence
from gifcore.models import build
from gifcore.problem import Problem, cross_entropy
from gifcore.scoring import Queries, rank
from gifcore.second_derivatives import check_second_derivatives, explain_double_backward
from gifcore.selection import select
from gifcore.solvers import LSMR
from tests import cases, oracles
from tests.test_influence import CONVERGED, chosen

EVERY = cases.PROBLEMS | cases.ANY_MODEL
CHANGE = RemoveSamples([0, 3, 4])


class Reference(nn.Module):
    """Called as the oracles call, with attention that can be differentiated twice."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Any) -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            return self.model(*inputs) if isinstance(inputs, list) else self.model(inputs)


@cache
def truth(name: str) -> tuple[np.ndarray, np.ndarray]:
    """The dense Hessian of the objective and the gradients of all samples."""
    problem = cases.problem(name)
    reference = replace(problem, model=Reference(problem.model))
    return oracles.hessian(reference), oracles.train_gradients(reference)


@pytest.mark.parametrize("memory_mb", [0, 512], ids=["rebuilt", "kept"])
@pytest.mark.parametrize("batch_size", [4, 1000])
@pytest.mark.parametrize("name", cases.ANY_MODEL)
def test_product_is_the_dense_hessian_times_v(name: str, batch_size: int, memory_mb: int) -> None:
    problem = cases.problem(name)
    H = Hessian(problem, problem.positions, batch_size, memory_mb)
    for seed in range(2):
        v = cases.random_vector(problem.space.size, seed)
        expected = torch.from_numpy(truth(name)[0]) @ v
        torch.testing.assert_close(H @ v, expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("batch_size", [1, 4, 1000])
@pytest.mark.parametrize("name", cases.ANY_MODEL)
def test_gradients_and_their_products(name: str, batch_size: int) -> None:
    problem, gradients = cases.problem(name), truth(name)[1]
    found = problem.data_gradient(problem.positions, batch_size=batch_size)
    np.testing.assert_allclose(found, gradients.mean(0), rtol=1e-10, atol=1e-12)
    stack = torch.stack([cases.random_vector(problem.space.size, seed) for seed in range(3)])
    for s in (stack, stack[0]):
        products = gradient_products(problem, s, batch_size=batch_size)
        np.testing.assert_allclose(products, s.numpy() @ gradients.T, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("method", ["gradient", "if", "gif"])
@pytest.mark.parametrize("name", cases.ANY_MODEL)
def test_update_edit_and_ranking(name: str, method: str) -> None:
    """Damped, as several of these have parameters that the loss hardly reaches."""
    problem, (H, gradients) = cases.problem(name), truth(name)
    H = H + 6 * np.eye(len(H))
    selected, curved = chosen(problem), curvature(problem, damping=6.0)
    n, removed = len(gradients), [0, 3, 4]
    kept = [i for i in range(n) if i not in removed]
    g = gradients.mean(0) - gradients[kept].mean(0)
    J = selected.indices.numpy()
    result = influence(
        problem, CHANGE, method=method, selected=selected, curvature=curved, solver=CONVERGED
    )
    np.testing.assert_allclose(result.delta, oracles.update(method, H, J, g), rtol=1e-6, atol=1e-8)
    edited = copy.deepcopy(problem.model)
    edited.load_state_dict(edit(problem, result))
    moved = nn.utils.parameters_to_vector(edited.parameters()) - problem.theta
    expected = embedded(result, problem.space.size)
    torch.testing.assert_close(moved, expected, rtol=1e-9, atol=1e-12)
    queries = Queries(problem.train, [[1], [2]])
    found = rank(
        problem, queries, method=method, selected=selected, curvature=curved, solver=CONVERGED
    ).values
    for q in range(2):
        s = oracles.adjoint(method, H, J, gradients[q + 1])
        np.testing.assert_allclose(found[q], oracles.scores(s, gradients), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", EVERY)
def test_checks_find_nothing_wrong_with_what_is_right(name: str) -> None:
    problem = cases.problem(name)
    state = torch.get_rng_state()
    before = copy.deepcopy(problem.model.state_dict())
    problem.model.eval()
    assert check_problem(problem) == ()
    check_second_derivatives(problem)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[k], v) for k, v in problem.model.state_dict().items())
    assert not any(m._forward_pre_hooks for m in problem.model.modules())


class OfOutputs(nn.Module):
    """Returns a dict, as language models do."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"value": self.last(torch.tanh(self.first(x)))[:, 0]}


def test_targets_that_are_numbers_and_outputs_that_are_a_dict() -> None:
    x, _ = cases.features((3,), 11, seed=0)
    problem = Problem(
        OfOutputs().double(),
        TensorDataset(x, x.sum(1)),
        loss=lambda outputs, batch: (outputs["value"] - batch[1]) ** 2,
        weight_decay=0.1,
    )
    assert check_problem(problem) == ()
    v = cases.random_vector(problem.space.size)
    expected = torch.from_numpy(oracles.hessian(problem)) @ v
    torch.testing.assert_close(
        Hessian(problem, problem.positions, 4) @ v, expected, rtol=1e-10, atol=1e-11
    )
    products = gradient_products(problem, v)
    np.testing.assert_allclose(products, oracles.train_gradients(problem) @ v.numpy(), rtol=1e-9)


# --- whole networks ------------------------------------------------------------------------------


def slim_vgg() -> nn.Module:
    """torchvision's VGG-11 with batch norm; its head of 120 million weights is a small one."""
    with torch.device("meta"):
        model = torchvision.models.vgg11_bn(num_classes=3)
    model.avgpool = nn.AdaptiveAvgPool2d(1)
    model.classifier = nn.Sequential(
        nn.Linear(512, 8), nn.ReLU(True), nn.Dropout(), nn.Linear(8, 3)
    )
    for module in model.features.to_empty(device="cpu").modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return model


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "torchvision resnet18": (lambda: torchvision.models.resnet18(num_classes=3), 32),
    "torchvision vgg11_bn": (slim_vgg, 32),
    "torchvision shufflenet_v2": (lambda: torchvision.models.shufflenet_v2_x1_0(num_classes=3), 32),
    "resnet18": (lambda: build("resnet18", (3, 8, 8), 3), 8),
    "vgg11-bn": (lambda: build("vgg11-bn", (3, 8, 8), 3), 8),
    "shufflenet-v2": (lambda: build("shufflenet-v2", (3, 8, 8), 3), 8),
}


@cache
def network(name: str) -> Problem:
    build_it, side = NETWORKS[name]
    x, y = cases.features((3, side, side), 3, seed=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_it().double()
        model(torch.randn(4, 3, side, side, dtype=torch.float64))  # running statistics that matter
    return Problem(model.eval(), TensorDataset(x, y))


def plain_gradient(problem: Problem, rows: slice, *, graph: bool) -> tuple[Tensor, list[Tensor]]:
    """The summed gradient of a copy of the model, taken without anything of the engine."""
    model = copy.deepcopy(problem.model)
    x, y = problem.train.tensors
    loss = F.cross_entropy(model(x[rows]), y[rows], reduction="sum")
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(loss, parameters, create_graph=graph)
    return torch.cat([g.reshape(-1) for g in gradients]), parameters


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_run_unchanged(name: str) -> None:
    problem = network(name)
    before = copy.deepcopy(problem.model.state_dict())
    size, n = problem.space.size, problem.n
    v = cases.random_vector(size)
    gradient, parameters = plain_gradient(problem, slice(None), graph=True)
    product = torch.autograd.grad(gradient, parameters, v)
    expected = torch.cat([part.reshape(-1) for part in product]) / n
    found = Hessian(problem, problem.positions, 2) @ v
    assert float((found - expected).norm()) <= 1e-9 * float(expected.norm())
    rows = torch.stack([plain_gradient(problem, slice(i, i + 1), graph=False)[0] for i in range(n)])
    for s in (v, torch.stack([v, problem.theta])):
        found = gradient_products(problem, s, batch_size=2)
        torch.testing.assert_close(found, s @ rows.T, rtol=1e-8, atol=1e-10)
    after = problem.model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("name", ["shufflenet-v2"])
def test_select_gif_edit_and_rank_on_a_network(name: str) -> None:
    problem = network(name)
    assert check_problem(problem) == ()
    selected = select(problem, RemoveSamples([0]), ratio=0.05)
    solver = LSMR(2, reorthogonalise=0)
    result = influence(problem, RemoveSamples([0]), selected=selected, solver=solver)
    edited = copy.deepcopy(problem.model)
    edited.load_state_dict(edit(problem, result))
    moved = nn.utils.parameters_to_vector(edited.parameters()) - problem.theta
    where = moved.nonzero().flatten()
    assert set(where.tolist()) <= set(selected.indices.tolist())
    assert len(where) > 0
    scores = rank(problem, Queries(problem.train, [[1]]), selected=selected, solver=solver)
    assert bool(torch.isfinite(scores.values).all())
    assert float(scores.values.abs().sum()) > 0


# --- what is refused before anything is computed --------------------------------------------------

X, Y = cases.features((3,), 11, seed=0)


def perceptron(model: nn.Module | None = None) -> nn.Module:
    return (cases.perceptron() if model is None else model).double()


class Draws(cases.Rows):
    """A data set with random augmentation."""

    def __getitem__(self, index: int) -> Any:
        x, y = self.rows[index]
        return x + torch.randn(3, dtype=torch.float64), y


class Detached(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).detach()


class Random(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.dropout(x, 0.5))


class Mixing(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(0))


def normalised(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), layer, nn.Linear(4, 3))


def embedding(**options: Any) -> nn.Module:
    return nn.Sequential(nn.Embedding(5, 3, **options), nn.Flatten(), nn.Linear(9, 3))


def weight_norm() -> nn.Module:
    return normalised(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)))


def old_norm(model: nn.Module) -> nn.Module:
    """What torch's older, hook-based normalisations leave on a layer."""

    class WeightNorm:
        def __call__(self, *_: object) -> None: ...

    model[0].register_forward_pre_hook(WeightNorm())
    return model


def loss(kind: str) -> Callable[[Tensor, Any], Any]:
    def of(outputs: Tensor, batch: Any) -> Any:
        values = F.cross_entropy(outputs, batch[1], reduction="none")
        return {
            "column": values[:, None],
            "all outputs": outputs.reshape(-1),
            "number": 0.5,
            "squeezed": values[:, None].squeeze(),
            "classes": outputs.argmax(1),
            "infinite": values / 0,
            "scalar": values.mean(),
        }[kind]

    return of


ROWS = [(X[i], int(Y[i])) for i in range(11)]
BAD: dict[str, tuple[Callable[[], nn.Module], Any, Any, str]] = {
    "random augmentation": (
        perceptron, Draws(ROWS), cross_entropy, "Two reads of the same training samples differ",
    ),
    "sample is no pair": (
        perceptron, cases.Rows([x for x, _ in ROWS]), cross_entropy,
        "Training sample 0 is a Tensor; a data set must return pairs",
    ),
    "sample is a string": (
        perceptron, cases.Rows(["ab"] * 4), cross_entropy, "sample 0 is a str; a data set must",
    ),
    "ragged samples": (
        perceptron, cases.Rows([(torch.zeros(i + 1), 0) for i in range(4)]), cross_entropy,
        r"do not make a batch \(stack expects each tensor to be equal size",
    ),
    "inputs of another type": (
        perceptron, TensorDataset(X.float(), Y), cross_entropy,
        r"inputs are float32 and the parameters float64; convert the data with \.to\(torch\.fl",
    ),
    "images in bytes": (
        perceptron, TensorDataset(X.to(torch.uint8), Y), cross_entropy, "The inputs are uint8 and",
    ),
    "inputs of another shape": (
        perceptron, TensorDataset(X[:, :2], Y), cross_entropy,
        r"The model failed on the first batch, inputs of shape \(4, 2\) \(mat1 and mat2",
    ),
    "label too large": (
        perceptron, TensorDataset(X, Y.index_fill(0, torch.tensor([9]), 3)), cross_entropy,
        "There is a label 3, but the model has 3 outputs; labels must be 0 … 2",
    ),
    "negative label": (
        perceptron, TensorDataset(X, Y - 1), cross_entropy, "There is a label -1, but the model",
    ),
    "label of a row too large": (
        perceptron, cases.Rows([(x, 7) for x, _ in ROWS]), cross_entropy, "There is a label 7",
    ),
    "float labels": (
        perceptron, TensorDataset(X, Y.float()), cross_entropy, r"labels are float32; .* labels\.",
    ),
    "labels in a column": (
        perceptron, TensorDataset(X, Y[:, None]), cross_entropy,
        r"outputs of shape \(4, 3\) and labels of shape \(4, 1\); it needs \(batch, classes\)",
    ),
    "dicts without a loss of their own": (
        lambda: cases.OfDict().double(),
        cases.samples(cases.PROBLEMS["dict batches"], 5, 0), cross_entropy,
        "cross_entropy needs one tensor of outputs and batches",
    ),
    "loss fails": (
        perceptron, TensorDataset(X, Y), lambda o, b: o[:, b[2]],
        r"The loss failed on the first batch \(tuple index out of range\)",
    ),
    "loss in a column": (
        perceptron, TensorDataset(X, Y), loss("column"), r"returned shape \(4, 1\) for a batch",
    ),
    "loss by output": (
        perceptron, TensorDataset(X, Y), loss("all outputs"), r"returned shape \(12,\) for a batch",
    ),
    "loss is a scalar": (
        perceptron, TensorDataset(X, Y), loss("scalar"), r"returned shape \(\) for a batch of 4",
    ),
    "loss squeezes one sample": (
        perceptron, TensorDataset(X, Y), loss("squeezed"), r"returned shape \(\) for a batch of 1;",
    ),
    "loss is a number": (
        perceptron, TensorDataset(X, Y), loss("number"), "The loss returned a float for a batch",
    ),
    "loss is whole numbers": (
        perceptron, TensorDataset(X, Y), loss("classes"), "losses of the first samples are not fin",
    ),
    "loss is infinite": (
        perceptron, TensorDataset(X, Y), loss("infinite"), "are not finite; check inputs and weig",
    ),
    "model detached": (
        lambda: Detached(3, 3).double(), TensorDataset(X, Y), cross_entropy,
        "losses do not depend on the parameters; take detach",
    ),
    "random model": (
        lambda: Random(3, 3).double(), TensorDataset(X, Y), cross_entropy, "not deterministic",
    ),
    "samples mix": (
        lambda: Mixing(3, 3).double(), TensorDataset(X, Y), cross_entropy,
        "A sample's loss depends on the other samples in its batch",
    ),
    "batch norm without statistics": (
        lambda: perceptron(normalised(nn.BatchNorm1d(4, track_running_stats=False))),
        TensorDataset(X, Y), cross_entropy, r"Layer '1' \(BatchNorm1d\) cannot be explained: with",
    ),
    "sparse gradients": (
        lambda: embedding(sparse=True), TensorDataset(X, Y), cross_entropy,
        r"Layer '0' \(Embedding\) cannot be explained: sparse=True changes its gradient",
    ),
    "words rescaled in place": (
        lambda: embedding(max_norm=1.0), TensorDataset(X, Y), cross_entropy, r"max_norm=1\.0 chan",
    ),
    "weight norm": (
        weight_norm, TensorDataset(X, Y), cross_entropy,
        r"Layer '1' \(ParametrizedLinear\) .* weight_norm is wrong; take it off with .*'weight'\)",
    ),
    "weight norm by hook": (
        lambda: old_norm(perceptron()), TensorDataset(X, Y), cross_entropy,
        r"Layer '0' \(Linear\) cannot be explained: its hook overwrites the weight",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_has_its_sentence(name: str) -> None:
    model, data, loss_of, sentence = BAD[name]
    with pytest.raises(GifError, match=sentence):
        check_problem(Problem(model(), data, loss_of))


def test_a_compiled_model_is_refused() -> None:
    class Compiled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self._orig_mod = perceptron()

    with pytest.raises(GifError, match=r"The model itself \(Compiled\) .* torch.compile hides"):
        check_problem(Problem(Compiled(), TensorDataset(X, Y)))


def test_training_mode_is_a_note_and_comes_back() -> None:
    model = perceptron(normalised(nn.Dropout(0.5))).train()
    (note,) = check_problem(Problem(model, TensorDataset(X, Y)))
    assert note.startswith("Layer '1' (Dropout) was given in training mode; ")
    assert all(module.training for module in model.modules())
    assert check_problem(Problem(model.eval(), TensorDataset(X, Y))) == ()


@pytest.mark.parametrize("n", [1, 2])
def test_fewer_samples_than_are_read(n: int) -> None:
    assert check_problem(Problem(perceptron().eval(), TensorDataset(X[:n], Y[:n]))) == ()


def test_labels_that_are_passed_over_and_distributions_over_classes() -> None:
    ignored = Y.index_fill(0, torch.tensor([2]), -100)
    spread = torch.softmax(X, dim=1)
    for labels in (ignored, spread):
        assert check_problem(Problem(perceptron().eval(), TensorDataset(X, labels))) == ()


# --- where double backward does not exist ---------------------------------------------------------


class Forced(nn.Module):
    """Attention that insists on a fused kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(4, 12)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (6, 2)).transpose(1, 2).chunk(3, 1)
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * gradient


class Raw(Once):
    """Backward by a kernel that autograd does not see: wrong without a word."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return torch.from_numpy(
            2 * ctx.saved_tensors[0].detach().numpy() * gradient.detach().numpy()
        )


class Applied(nn.Module):
    def __init__(self, function: type[torch.autograd.Function]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function.apply(x)


class Words(nn.Module):
    """Embedded tokens, one layer to look at, the mean over positions."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.embedding, self.layer, self.last = nn.Embedding(5, 4), layer, nn.Linear(4, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.last(self.layer(self.embedding(tokens)).mean(1))


def words(layer: nn.Module) -> Problem:
    data = cases.samples(cases.ANY_MODEL["attention"], 5, 0)
    return Problem(Words(layer).double().eval(), data, weight_decay=0.1)


def bag() -> nn.Module:
    return nn.Sequential(nn.EmbeddingBag(5, 4), nn.Linear(4, 3))


RAISES = {
    "forced flash attention": (
        lambda: words(nn.Sequential(nn.Linear(4, 4), Forced())),
        r"Layer 'layer\.1' \(Forced\) has no second derivative .*flash_attention.*"
        r"take sdpa_kernel\(\.\.\.\) out of the model or set it to SDPBackend\.MATH",
    ),
    "once differentiable": (
        lambda: words(Applied(Once)),
        r"Layer 'layer' \(Applied\) has no second .* without once_differentiable",
    ),
    "bag of words": (
        lambda: Problem(
            bag().double(), TensorDataset(cases.tokens(X), Y)
        ),
        r"Layer '0' \(EmbeddingBag\) has no second derivative .* use nn\.Embedding and take",
    ),
}  # fmt: skip

# found layer by layer, though a product would go through and be wrong
SILENT = {
    "raw kernel": (lambda: words(Applied(Raw)), r"Layer 'layer' \(Applied\) has no second"),
    "weight norm": (
        lambda: words(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))),
        r"Layer 'layer.*WeightNorm\) .*does not follow .* choose curvature 'fisher'",
    ),
    "the loss": (
        lambda: replace(words(nn.Tanh()), loss=lambda o, b: Once.apply(cross_entropy(o, b))),
        "The loss has no second derivative",
    ),
}


@pytest.mark.parametrize("name", RAISES)
def test_the_layer_without_double_backward_is_named(name: str) -> None:
    make, sentence = RAISES[name]
    problem = make()
    with pytest.raises(GifError, match=sentence):
        check_second_derivatives(problem)
    with pytest.raises(GifError, match=sentence):
        Hessian(problem, problem.positions, 4) @ problem.theta


@pytest.mark.parametrize("name", SILENT)
def test_a_second_derivative_that_is_wrong_without_a_word_is_found(name: str) -> None:
    make, sentence = SILENT[name]
    with pytest.raises(GifError, match=sentence):
        check_second_derivatives(make())


def test_an_error_that_no_layer_explains_keeps_its_text() -> None:
    error = explain_double_backward(words(nn.Tanh()), RuntimeError("no room\nat all"))
    assert str(error) == "A curvature product failed (no room); try a smaller batch size."


def test_bad_input_is_explained_as_such_by_a_product_too() -> None:
    problem = Problem(perceptron(), TensorDataset(X[:, :2], Y))
    with pytest.raises(GifError, match="The model failed on the first batch"):
        Hessian(problem, problem.positions) @ problem.theta


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(ROWS)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (
            DataLoader(TensorDataset(X, Y), shuffle=True),
            r"is a DataLoader; give its data set \(load",
        ),
        (Stream(), "train is a Stream without positions; give a map-style data set"),
        (iter(ROWS), "train is a list_iterator without positions"),
    ],
)
def test_data_without_positions(data: Any, sentence: str) -> None:
    with pytest.raises(GifError, match=sentence):
        Problem(perceptron(), data)


def test_a_loss_that_is_no_tensor() -> None:
    problem = Problem(perceptron(), TensorDataset(X, Y), lambda _o, _b: 0.5)
    with pytest.raises(GifError, match="The loss returned 0.5; return one number per sample"):
        problem.data_gradient(problem.positions)
