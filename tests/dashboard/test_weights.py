"""Updates cut into layers, cells and tiles."""

from __future__ import annotations

import numpy as np
import pytest

from dashboard.components import weights

LAYERS = [
    {"name": "a.weight", "shape": [2, 3], "offset": 0, "size": 6},
    {"name": "b.weight", "shape": [4, 2, 3, 3], "offset": 6, "size": 72},
    {"name": "b.bias", "shape": [4], "offset": 78, "size": 4},
]


def test_layer_values_put_moves_at_their_places_and_nan_elsewhere() -> None:
    indices, delta = np.array([1, 5, 6, 79]), np.array([1.0, 2.0, 3.0, 4.0])
    a = weights.layer_values(LAYERS[0], indices, delta)
    assert a.shape == (2, 3)
    assert a[0, 1] == 1
    assert a[1, 2] == 2
    assert np.isnan(a).sum() == 4
    assert weights.layer_values(LAYERS[1], indices, delta)[0, 0, 0, 0] == 3
    assert weights.layer_values(LAYERS[2], indices, delta)[1] == 4


def test_layer_values_without_indices_are_all_of_them() -> None:
    delta = np.arange(82.0)
    assert weights.layer_values(LAYERS[2], None, delta).tolist() == [78, 79, 80, 81]


def test_a_layer_without_selection_counts_zero_and_is_all_nan() -> None:
    table = weights.layer_table(LAYERS, np.array([0]), np.array([3.0]))
    assert table["selected"].tolist() == [1, 0, 0]
    assert table["norm"].tolist() == [3, 0, 0]
    assert table["rms"].tolist() == [3, 0, 0]
    assert np.isnan(weights.layer_values(LAYERS[1], np.array([0]), np.array([3.0]))).all()


@pytest.mark.parametrize("shape", [(3, 4), (64, 64), (65, 130), (200, 1), (1, 1)])
def test_blocks_keep_the_strongest_with_its_sign(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=shape)
    matrix[rng.random(shape) < 0.5] = np.nan
    cut = weights.blocks(matrix)
    assert max(cut.values.shape) <= weights.LARGEST
    assert cut.values.size <= weights.MOST
    for (r, c), value in np.ndenumerate(cut.values):
        part = matrix[r * cut.rows : (r + 1) * cut.rows, c * cut.columns : (c + 1) * cut.columns]
        moved = part[~np.isnan(part)]
        if moved.size:
            assert value == moved[np.abs(moved).argmax()]
        else:
            assert np.isnan(value)


@pytest.mark.parametrize(
    ("shape", "cells"),
    [((10, 64), (10, 64)), ((10, 1024), (10, 64)), ((64, 288), (64, 16)), ((256, 1152), (64, 16))],
)
def test_inputs_are_put_together_before_units(
    shape: tuple[int, int], cells: tuple[int, int]
) -> None:
    assert weights.blocks(np.zeros(shape)).values.shape == cells


def test_limit_is_the_larger_99th_percentile_and_never_zero() -> None:
    small, large = np.linspace(0, 1, 101), np.linspace(0, 10, 101)
    assert weights.limit([small, large]) == pytest.approx(9.9)
    assert weights.limit([np.full(3, np.nan)]) == 1.0
    assert weights.limit([np.zeros(3)]) == 1.0
    one_outlier = np.zeros(1000)
    one_outlier[0] = 5
    assert weights.limit([one_outlier]) == 5.0


def test_tiles_show_every_input_once_with_gaps_between_kernels() -> None:
    values = np.arange(18.0).reshape(2, 3, 3)
    tiles = weights.unit_tiles(values)
    assert sorted(tiles.inputs[tiles.inputs >= 0].tolist()) == list(range(18))
    assert (tiles.inputs[:, 3] == -1).all()
    assert np.isnan(tiles.values[:, 3]).all()
    flat = weights.unit_tiles(np.arange(100.0))
    assert flat.values.shape == (10, 10)
    assert flat.values[9, 9] == 99
    assert weights.unit_tiles(np.array([7.0])).values.tolist() == [[7.0]]


def test_unit_strength_is_nan_where_nothing_was_selected() -> None:
    strength = weights.unit_strength(np.array([[3.0, 4.0], [np.nan, np.nan], [np.nan, 2.0]]))
    assert strength[[0, 2]].tolist() == [5, 2]
    assert np.isnan(strength[1])
