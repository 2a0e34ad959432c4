"""The measuring of the dashboard: percentiles, the large record, and what keeps pages light."""

from __future__ import annotations

import gc
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.dashboard_numbers import Measured, markdown, percentile
from benchmarks.dashboard_record import make
from benchmarks.dashboard_server import resident
from dashboard import __main__ as server
from dashboard import cache, settings
from dashboard.charts.heatmap import Panel, heatmap
from dashboard.charts.kept import digest
from dashboard.charts.style import Palette
from dashboard.components import gallery, measures, query_picker
from gifcore.record import Record, write_record
from gifcore.run_state import LIVE
from tests.dashboard.opened import figures, open_page

SAMPLES, QUERIES, TESTS = 2_500, 40, 8_000
LARGEST = 2_000_000  # bytes of one message to the browser


# --- percentiles ----------------------------------------------------------------------------------


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(value) for value in np.random.default_rng(0).permutation(np.arange(1, 101))]
    assert [percentile(values, q) for q in (0.5, 0.95, 0.99, 1.0)] == [50, 95, 99, 100]
    assert percentile([7.0], 0.5) == percentile([7.0], 0.99) == 7
    assert percentile(list(range(1, 21)), 0.95) == 19  # 19 of 20 values are at most that
    with pytest.raises(ValueError, match="needs values"):
        percentile([], 0.5)


def test_a_row_says_whether_the_aim_was_met_by_the_percentile_it_is_about() -> None:
    values = [100.0] * 95 + [900.0] * 5
    assert Measured("clicks", aim=300, values=values).cells() == [
        "clicks [ms]", "100", "100", "100", "900", "900", "p95 ≤ 300", "yes",
    ]  # fmt: skip
    assert Measured("clicks", aim=300, of="max", values=values).cells()[-1] == "**no**"
    assert Measured("clicks", aim=300, values=[*values, 900.0]).cells()[-1] == "**no**"
    assert Measured("clicks", aim=300).cells()[-1] == "not measured"
    table = markdown("Title", [Measured("one", "kB", values=[0.5])], ["a note"])
    assert "| one [kB] | 1 | 0.50 | 0.50 | 0.50 | 0.50 |  |  |" in table
    assert table.splitlines()[2].count("|") == table.splitlines()[3].count("|")
    assert "- a note" in table


def test_the_memory_of_a_process_is_read_and_that_of_none_is_nothing() -> None:
    own = resident(os.getpid())
    assert 50 < own < 50_000
    assert resident(2**22 + 1) == 0


# --- the large record -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("large"), SAMPLES, QUERIES, TESTS)


@pytest.fixture
def served(large: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(settings.WORKSPACE_VARIABLE, str(large.parent))
    monkeypatch.setattr(settings, "demo_folder", lambda: large / "no-demo")
    return large


def test_the_large_record_is_whole_and_of_its_data(large: Path) -> None:
    record = Record.open(large)
    assert len(record.queries) == QUERIES
    data = cache.data(record.info["data"]["source"], record.info["data"]["hash"])
    assert data is not None
    assert record.info["data"]["sizes"] == {
        "train": len(data.train), "validation": 2000, "test": len(data.test),
    }  # fmt: skip
    assert (len(data.train), len(data.test)) == (SAMPLES, TESTS)
    for method in record.methods:
        for query in (record.queries[0], record.queries[-1]):
            ranking = record.scores(method, query["index"])
            assert sorted(ranking["train_index"]) == list(range(SAMPLES))
            assert (np.diff(ranking["influence"]) <= 0).all()
    for query in record.queries:
        assert query["label"] == data.test.y[query["index"]]
    assert len(record.samples("before")) == TESTS
    assert len(record.train()) == len(record.suspects()) == SAMPLES
    sketch = record.sketch()
    assert sketch is not None
    assert sketch.scores(TESTS - 1, "gif").shape == (SAMPLES,)
    assert cache.weights(large) is not None  # of the model the study names


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("page", ["samples", "parameters", "before-after", "compare"])
def test_no_element_of_a_page_is_large(page: str) -> None:
    app = open_page(page)
    elements = [*app.main, *app.sidebar]
    protos = [getattr(one, "proto", None) for one in elements]
    sizes = [proto.ByteSize() for proto in protos if proto is not None]
    assert len(sizes) > 10
    assert max(sizes) < LARGEST / 4
    assert sum(sizes) < LARGEST


def test_many_test_images_are_drawn_a_page_at_a_time(served: Path) -> None:
    queries = Record.open(served).queries
    last = queries[-1]["index"]
    app = open_page("samples", query=str(last))
    drawn = [b.key for b in app.button if str(b.key).startswith("query-")]
    rest = queries[query_picker.AT_ONCE :]
    assert drawn == [f"query-{query['index']}" for query in rest]  # the page of the one shown
    assert query_picker.page_of(queries, None) == query_picker.page_of(queries, -5) == 1


@pytest.mark.usefixtures("served")
def test_pictures_of_test_images_need_no_request_of_their_own() -> None:
    app = open_page("samples")
    found = figures(app, "Test")
    assert len(found) == query_picker.AT_ONCE
    assert all('<img src="data:image/png;base64,' in figure for figure in found)
    assert gallery.within(b"x" * (gallery.WITHIN + 1)) == b"x" * (gallery.WITHIN + 1)


# --- what is kept ---------------------------------------------------------------------------------


def test_a_figure_is_built_again_only_for_other_content() -> None:
    def drawn(value: float) -> object:
        return heatmap([Panel("GIF", np.array([[value, np.nan]]), 1.0)], "T", Palette(False))

    assert drawn(0.5) is drawn(0.5)
    assert drawn(0.5) is not drawn(0.25)


def test_contents_that_differ_have_different_digests() -> None:
    values = [
        0, 0.0, "0", None, True, [], [0], ["0"], ["a", "b"], ["ab", ""], ["a\0b"], {"a": 0},
        {"a": 1}, np.zeros(2), np.zeros(2, int), np.zeros((1, 2)), np.array(["a", "b"]),
        Palette(True), Palette(False), Panel("a", np.zeros(1), 1.0), Panel("a", np.ones(1), 1.0),
    ]  # fmt: skip
    assert len({digest(value) for value in values}) == len(values)
    assert digest(np.arange(6).reshape(2, 3).T) == digest(np.arange(6).reshape(2, 3).T.copy())
    with pytest.raises(TypeError, match="no content"):
        digest([object()])


def test_many_values_are_sorted_once_and_the_order_cannot_be_changed() -> None:
    values = np.random.default_rng(0).integers(-50, 50, measures.MANY).astype(float)
    for side, key in (("helpful", -values), ("harmful", values), ("strongest", -abs(values))):
        found = measures.order(values, side)
        assert (found == np.argsort(key, kind="stable")).all()
        assert measures.order(values.copy(), side) is found
        with pytest.raises(ValueError, match="read-only"):
            found[0] = 1


def test_words_of_cells_are_sent_once() -> None:
    cells = np.full((2, 2), "unit 1, input 2", dtype=object)
    values = np.array([[1.0, np.nan], [np.nan, 0.5]])
    figure = heatmap([Panel("GIF", values, 1.0, cells)], "T", Palette(False))
    sent = [[word for row in trace.text for word in row if word] for trace in figure.data]
    assert [len(words) for words in sent] == [2, 2]  # two grey cells, two that move
    clicked = heatmap([Panel("GIF", values, 1.0, step=(2, 3))], "T", Palette(False), clickable=True)
    assert all(trace.text is None for trace in clicked.data)


@pytest.mark.parametrize("shape", [(28, 28), (1, 28, 28), (28, 28, 1), (3, 16, 20), (16, 20, 3)])
def test_a_small_picture_is_a_png_of_its_own_pixels(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    plain = image[0] if shape[0] == 1 else image[..., 0] if shape[-1] == 1 else image
    plain = np.moveaxis(plain, 0, -1) if shape[0] == 3 else plain
    factor = 112 // max(plain.shape[:2])
    seen = np.asarray(Image.open(io.BytesIO(cache.png(image))))
    assert (seen == plain.repeat(factor, axis=0).repeat(factor, axis=1)).all()


def test_a_finished_study_is_listed_anew_only_when_a_file_of_it_changed(tmp_path: Path) -> None:
    info = {"status": "finished", "hash": "a", "title": "First", "methods": {}, "queries": []}
    write_record(tmp_path / "one", info, {"study.toml": b"x = 1"})
    (first,) = cache.listed(tmp_path)
    assert cache.listed(tmp_path)[0] is first
    write_record(tmp_path / "one", info | {"title": "Other name"}, {"study.toml": b"x = 1"})
    assert cache.listed(tmp_path)[0].title == "Other name"
    (tmp_path / "one" / "study.toml").write_bytes(b"x")
    assert cache.listed(tmp_path)[0].status == "damaged"
    assert "finished" not in LIVE


def test_what_is_imported_is_no_longer_looked_through() -> None:
    before = gc.get_freeze_count()
    try:
        server.settle()
        assert gc.get_freeze_count() > before + 10_000
    finally:
        gc.unfreeze()
