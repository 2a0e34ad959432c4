"""Relabelled and joined data sets: samples, batches and labels say the same in every form."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from gifcore.problem import Batched, fetch, targets
from gifcore.views import Joined, Relabelled
from tests import cases


def plain(kind: str, n: int = 11) -> Any:
    """One set of samples in every form a label can have."""
    x, y = cases.features((3,), n, 0)
    rows: dict[str, Callable[[int], Any]] = {
        "tensor": lambda i: (x[i], y[i]),
        "int": lambda i: (x[i], int(y[i])),
        "list": lambda i: [x[i].numpy(), np.int64(y[i])],
        "float": lambda i: (x[i], float(y[i])),
        "vector": lambda i: (x[i], nn.functional.one_hot(y[i], 3).numpy()),
        "more": lambda i: (x[i], y[i], f"sample {i}", {"i": i}),
        "dict": lambda i: {"x": x[i], "labels": int(y[i]), "text": f"sample {i}"},
    }
    return cases.Rows([rows[kind](i) for i in range(n)])


KINDS = ("tensor", "int", "list", "float", "vector", "more", "dict")


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return set(one) == set(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(np.all(one == other)) and np.asarray(one).dtype == np.asarray(other).dtype


@pytest.mark.parametrize("kind", KINDS)
def test_relabelled_samples_batches_and_labels_agree(kind: str) -> None:
    base = plain(kind)
    labels = targets(base)
    new = labels[[5, 0]] * 0 + 1
    data = Relabelled(base, torch.tensor([5, 0]), new)
    expected = labels.clone()
    expected[[5, 0]] = new
    assert len(data) == 11
    assert torch.equal(targets(data), expected)
    assert torch.equal(targets(data, torch.tensor([6, 5, 0])), expected[[6, 5, 0]])
    some = torch.tensor([7, 5, 1, 0, 10])
    assert same(fetch(data, some, "cpu"), _tuples(default_collate([data[int(i)] for i in some])))
    for i in range(11):
        old = base.rows[i]
        if i not in {0, 5}:
            assert data[i] is old
        else:
            assert type(_label(data[i])) is type(_label(old))
            assert np.asarray(_label(data[i])).dtype == np.asarray(_label(old)).dtype
    assert same(data[-1], base.rows[10])
    with pytest.raises(IndexError):
        data[11]
    assert torch.equal(targets(base), labels)


def _label(sample: Any) -> Any:
    return sample["labels"] if isinstance(sample, dict) else sample[1]


def _tuples(batch: Any) -> Any:
    if isinstance(batch, dict):
        return {k: _tuples(v) for k, v in batch.items()}
    return tuple(_tuples(v) for v in batch) if isinstance(batch, list | tuple) else batch


@pytest.mark.parametrize("kind", KINDS)
def test_joined_samples_batches_and_labels_agree(kind: str) -> None:
    one, other = plain(kind), plain(kind, 3)
    data = Joined(one, other)
    assert len(data) == 14
    assert torch.equal(targets(data), torch.cat([targets(one), targets(other)]))
    everything = [*one.rows, *other.rows]
    assert all(same(data[i], everything[i]) for i in range(-14, 14))
    with pytest.raises(IndexError):
        data[14]
    for some in ([0, 13], [12, 3, 4, 11, 10], [1, 2], [11], list(range(14))):
        found = fetch(data, torch.tensor(some), "cpu")
        expected = default_collate([everything[i] for i in some])
        assert same(_tuples(found), _tuples(expected))


class Lent(Batched):
    """Gives its own tensors away, not copies."""

    def __init__(self) -> None:
        self.x, self.y = cases.features((3,), 5, 0)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> Any:
        return self.x[index], self.y[index]

    def batch(self, indices: Tensor) -> Any:
        assert indices.tolist() == list(range(5))
        return self.x, self.y

    def labels(self, indices: Tensor) -> Tensor:
        return self.batch(indices)[1]


def test_relabelling_writes_into_nothing_it_was_lent() -> None:
    base = Lent()
    before, everything = base.y.clone(), torch.arange(5)
    data = Relabelled(base, torch.tensor([1]), (before[[1]] + 1) % 3)
    assert not torch.equal(targets(data), before)
    assert not torch.equal(fetch(data, everything, "cpu")[1], before)
    assert torch.equal(base.y, before)
