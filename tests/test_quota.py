"""What a selector will take is known before it looks at data, from the header of a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import save_file

from gifcore.change import RemoveSamples
from gifcore.quota import BLOCKS, chosen, network, taken
from gifcore.selection import SELECTORS, select
from tests import cases

MODELS = ("convolution", "batch norm")


@pytest.mark.parametrize("budget", ["layer", "global"])
@pytest.mark.parametrize("selector", SELECTORS)
@pytest.mark.parametrize("name", MODELS)
def test_as_many_are_taken_as_was_said(
    name: str, selector: str, budget: str, tmp_path: Path
) -> None:
    problem = cases.problem(name)
    save_file(problem.model.state_dict(), tmp_path / "net.safetensors")
    found = network(tmp_path / "net.safetensors")
    assert found is not None
    assert found.p == problem.space.size
    any_layer = selector in ("random", "all", "highest-k-magnitude")  # scored or not
    for ratio, norms in ((0.4 if selector in BLOCKS else 0.07, False), (0.3, any_layer)):
        said = taken(selector, ratio, chosen(found, norms=norms), budget)
        change = RemoveSamples(problem.positions[:3])
        real = select(
            problem, change, selector=selector, ratio=ratio, budget=budget, norms=norms
        ).indices
        if selector in BLOCKS:
            assert 0 < len(real) <= said
        else:
            assert len(real) == said


def test_layers_by_name_and_kind(tmp_path: Path) -> None:
    problem = cases.problem("batch norm")
    save_file(problem.model.state_dict(), tmp_path / "net.safetensors")
    found = network(tmp_path / "net.safetensors")
    assert found is not None
    kinds = {layer.kind for layer in found.layers}
    assert kinds == {"conv", "linear", "norm"}
    (last,) = chosen(found, kinds=["linear"])[-1:]
    assert chosen(found, [last.name]) == [last]
    assert taken("all", 0.01, [last]) == last.size


def test_what_is_no_checkpoint_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nonsense")
    assert network(tmp_path / "x.safetensors") is None
    assert network(tmp_path / "gone.safetensors") is None
