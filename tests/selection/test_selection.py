"""A selection: coverage, saving, loading and what is refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from gifcore.errors import GifError
from gifcore.parameters import ParameterSpace
from gifcore.selection import SELECTORS, Selection, select
from tests import cases
from tests.selection.shared import CHANGE


def by_hand(indices: list[int], name: str = "batch norm") -> Selection:
    return Selection(torch.tensor(indices), cases.problem(name).space, "by hand", 0.1, 0)


def test_coverage_by_layer_and_by_unit() -> None:
    """Blocks of 12 (3 units of 4), 3 + 3 and 81 + 3 (3 units of 27 + 1)."""
    selected = by_hand([0, 4, 5, 6, 7, 12, 14, 17, 18, 100])
    assert selected.by_layer() == {
        "0.weight": 5, "1.weight": 2, "1.bias": 1, "4.weight": 1, "4.bias": 1,
    }  # fmt: skip
    assert selected.coverage() == {"0": 5 / 12, "1": 3 / 6, "4": 2 / 84}
    assert selected.by_unit("0").tolist() == [1 / 4, 1.0, 0.0]
    assert selected.by_unit("1").tolist() == [1 / 2, 0.0, 1.0]
    assert selected.by_unit("4").tolist() == [1 / 28, 1 / 28, 0.0]
    with pytest.raises(GifError, match="Unknown layer '2'; there are: '0', '1', '4'"):
        selected.by_unit("2")


@pytest.mark.parametrize("selector", SELECTORS)
def test_a_selection_reproduces_itself(selector: str) -> None:
    problem = cases.problem("batch norm")
    options = {"seed": 4, "layers": ["0", "1"], "norms": True, "budget": "global"}
    for more in ({}, options, {"kinds": ("linear", "norm")}):
        first = select(problem, CHANGE, selector=selector, ratio=0.4, **more)
        again = select(problem, CHANGE, **first.reproduces)
        assert torch.equal(first.indices, again.indices)
        assert first.reproduces == again.reproduces
    with pytest.raises(GifError, match="Unknown selector 'by hand'"):
        select(problem, CHANGE, **by_hand([1]).reproduces)


def test_saved_and_loaded(tmp_path: Path) -> None:
    problem = cases.problem("batch norm")
    options = {"layers": ["0", "1"], "kinds": ["conv", "norm"], "budget": "global"}
    for number, selected in enumerate(
        [
            select(problem, CHANGE, ratio=0.4, seed=2, **options),
            select(problem, CHANGE, selector="all"),
            by_hand([3, 5]),
        ]
    ):
        path = tmp_path / f"{number}.safetensors"
        selected.save(path)
        loaded = Selection.load(path, problem.space)
        assert torch.equal(loaded.indices, selected.indices)
        assert loaded.reproduces == selected.reproduces
        assert loaded.space == selected.space
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{i}.safetensors" for i in range(3)]


def test_files_that_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "one.safetensors"
    problem = cases.problem("batch norm")
    by_hand([3, 5]).save(path)
    other = r"another model: its tensor 1 is '0.weight' of shape \(3, 1, 2, 2\), this model has"
    with pytest.raises(GifError, match=other):
        Selection.load(path, cases.problem("perceptron").space)
    longer = ParameterSpace.of(nn.ModuleList([*problem.model, nn.Linear(1, 1)]).double())
    with pytest.raises(GifError, match="it has 5 tensors, this model 7"):
        Selection.load(path, longer)
    shorter = ParameterSpace.of(problem.model[:2])
    with pytest.raises(GifError, match=r"its tensor 4 is '4.weight' .* no more"):
        Selection.load(path, shorter)
    with pytest.raises(GifError, match="There is no selection"):
        Selection.load(tmp_path / "none", problem.space)
    with pytest.raises(GifError, match="There is no folder"):
        by_hand([3]).save(tmp_path / "none" / "one")
    damaged = tmp_path / "damaged"
    damaged.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(GifError, match="is damaged"):
        Selection.load(damaged, problem.space)
    save_file({"indices": torch.tensor([1])}, damaged)
    with pytest.raises(GifError, match="is not a selection"):
        Selection.load(damaged, problem.space)
    save_file({"indices": torch.tensor([1])}, damaged, {"format": "gif-studio selection 1"})
    with pytest.raises(GifError, match="is damaged"):
        Selection.load(damaged, problem.space)


@pytest.mark.parametrize(
    ("indices", "sentence"),
    [
        (torch.tensor([], dtype=torch.long), "selection is empty"),
        (torch.tensor([3, 3]), "Index 3 is selected twice"),
        (torch.tensor([4, 3]), "not sorted"),
        (torch.tensor([-1, 3]), "Selected index -1 is out of range; indices are 0 … 101"),
        (torch.tensor([3, 102]), "Selected index 102 is out of range"),
        (torch.tensor([True, False]), "mask.nonzero"),
        (torch.tensor([[1, 2]]), r"shape \(1, 2\), expected torch.int64 of shape \(k,\)"),
        (torch.tensor([1.0]), "are torch.float32"),
    ],
)
def test_indices_that_are_refused(indices: Tensor, sentence: str) -> None:
    with pytest.raises(GifError, match=sentence):
        Selection(indices, cases.problem("batch norm").space, "by hand", 0.1, 0)


def test_a_selection_of_everything_says_so() -> None:
    assert by_hand(list(range(102))).advice.startswith("Every parameter is selected")
    assert by_hand(list(range(101))).advice == ""
