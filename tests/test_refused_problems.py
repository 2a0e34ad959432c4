"""Models, data and losses that are refused before anything is computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention
from torch.utils.data import TensorDataset

from gifcore.checks import check_problem
from gifcore.errors import GifError
from gifcore.problem import Problem, cross_entropy
from tests import cases

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
