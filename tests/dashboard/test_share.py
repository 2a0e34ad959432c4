"""Links that open the same view or say what is gone; the report; how to compute it again."""

from __future__ import annotations

import html
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from dashboard import report, reproduce, saved_views, state
from dashboard.components import page
from dashboard.picks import PARAMS
from gifcore import record as records
from gifcore import runner
from gifcore.assets_path import asset
from gifcore.record import SEARCHED, STUDY, Record
from gifcore.study import for_query, parse, read
from tests.dashboard.make_record import make_record, make_study
from tests.dashboard.opened import keys, open_page, open_share

DEMO = asset("demo") / "highest-k-gradients-05"


@pytest.fixture(scope="module")
def written() -> str:
    return report.report(report.context_of(Record.open(DEMO)))


@pytest.mark.usefixtures("workspace")
def test_the_link_holds_every_pick_and_opens_the_same_view() -> None:
    app = open_page("parameters", layer="conv2.weight", ratio="0.1", tab="unit")
    assert not app.code  # nothing is built before the popover is opened
    app.selectbox(key="unit").set_value(3).run()
    open_share(app)
    (link,) = [code.value for code in app.code if code.value.startswith(("http", "?"))]
    picks = {key: value[0] for key, value in parse_qs(urlsplit(link).query).items()}
    assert picks["layer"] == "conv2.weight"
    assert picks["unit"] == "3"
    assert {"study", "selector", "ratio", "query", "methods", "k"} <= set(picks)
    other = open_page("parameters", **picks)
    assert other.selectbox(key="unit").value == 3
    assert other.select_slider(key="ratio").value == 0.1
    assert not other.warning


@pytest.mark.parametrize(
    ("picks", "words"),
    [
        ({"study": "000000000000"}, "the study “000000000000”, which is not here"),
        ({"query": "99999"}, "test image “99999”, which is not here"),
        ({"layer": "gone.weight", "unit": "4"}, "layer “gone.weight”"),
        ({"ratio": "many", "selector": "best"}, "which are not here"),
    ],
)
@pytest.mark.usefixtures("workspace")
def test_a_link_to_what_is_gone_says_so_once(picks: dict[str, str], words: str) -> None:
    app = open_page("parameters", **picks)
    assert words in app.warning[0].value.replace("\\", "")
    app.run()
    assert not app.warning


def test_the_address_names_the_record_and_a_link_to_another_says_so(workspace: Path) -> None:
    app = open_page("compare", ratio="0.1")
    own = Record.open(workspace / "g10").hash[:12]
    assert app.query_params["record"] == own
    assert not open_page("compare", ratio="0.1", record=own).warning
    other = open_page("compare", ratio="0.1", record="0123456789ab")
    said_ = other.warning[0].value
    assert "made from the record “0123456789ab”, which is not here" in said_
    assert f"“{own}” is shown" in said_
    assert other.query_params["record"] == own
    other.run()
    assert not other.warning


@pytest.mark.usefixtures("workspace")
def test_a_link_to_another_study_names_no_record_and_another_ratio_its_own() -> None:
    app = open_page("compare")
    first = app.query_params["record"]
    app.select_slider(key="ratio").set_value(0.1).run()
    assert app.query_params["record"] != first
    assert not app.warning
    app.select_slider(key="ratio").set_value(0.25).run()  # not computed
    assert "record" not in app.query_params


def test_a_link_to_another_record_does_not_name_the_hash_of_this_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    picks = {"study": "a", "ratio": 0.1, "record": "0123456789ab", "k": 50}
    monkeypatch.setattr(state.st, "session_state", {"picked": picks})
    assert state.address(k=20)["record"] == "0123456789ab"
    for other in ({"study": "b"}, {"selector": "random"}, {"ratio": 0.05}):
        assert "record" not in state.address(**other)


THIRD = {"study": "000000000000", "ratio": "0.1", "record": "0123456789ab"}


@pytest.mark.parametrize(
    ("picks", "words"),
    [
        (THIRD, "the study “000000000000”, which is not here"),
        ({"query": "99999"}, "test image “99999”, which is not here"),
        ({"record": "0123456789ab"}, "made from the record “0123456789ab”"),
        ({"query": "17"}, ""),
    ],
)
def test_a_saved_view_of_what_is_gone_says_so_like_its_link(
    workspace: Path, picks: dict[str, str], words: str
) -> None:
    saved_views.save(workspace, "mine", "samples", picks, PARAMS)
    app = open_page()
    (key,) = [key for key in keys(app) if key.startswith("saved-open-home-")]
    app.button(key=key).click().run()
    assert app.title[0].value == "Samples"
    assert bool(app.warning) == bool(words)
    if words:
        assert words in app.warning[0].value.replace("\\", "")
    app._page_hash = calc_hash("samples")
    app.run()
    assert not app.warning


def test_a_ratio_of_many_digits_is_opened_again_by_its_address(empty_workspace: Path) -> None:
    make_record(empty_workspace / "third", ratio=1 / 3)
    app = open_page("samples")
    assert app.session_state["context"].ratio == 1 / 3
    copied = {key: "".join(app.query_params[key]) for key in app.query_params}
    make_record(empty_workspace / "other", ratio=0.05)
    again = open_page("samples", **copied)
    assert again.session_state["context"].ratio == 1 / 3
    assert not again.warning
    assert copied["ratio"] == "0.3333333333333333"


# --- tables ---------------------------------------------------------------------------------------


def test_every_table_is_drawn_by_a_module_that_offers_its_files() -> None:
    folder = Path(page.__file__).parents[1]
    found = {
        path.name: text
        for path in [*folder.glob("*.py"), *folder.glob("*/*.py")]
        if re.search(r"\.(dataframe|table)\($", text := path.read_text(), flags=re.MULTILINE)
        or re.search(r"\bst\.(dataframe|table)\(", text)
    }
    assert "page.py" in found
    for name, text in found.items():
        offered = re.search(r"\b(frame|page)\.(take|table|downloads)\(|def take\(", text)
        assert offered, f"{name} draws a table that cannot be downloaded"


@pytest.mark.usefixtures("workspace")
def test_a_table_has_both_files_under_it_and_they_hold_what_it_shows() -> None:
    app = open_page("before-after")
    offered = {button.proto.id.rsplit("-", 2)[-2:][0] for button in app.get("download_button")}
    assert {"csv", "parquet"} <= offered
    shown = pd.DataFrame({"model": ["a\\_b", "=1+1"], "n": [1, 2]}, index=["x", "y"])
    held = pd.read_parquet(io.BytesIO(page.parquet(shown)))
    assert held["n"].tolist() == [1, 2]
    assert b"'=1+1" in page.csv(shown)


# --- charts ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("workspace")
def test_charts_are_written_as_the_popover_says() -> None:
    def formats(app: AppTest) -> set[str]:
        configs = [json.loads(chart.proto.config) for chart in app.get("plotly_chart")]
        return {config["toImageButtonOptions"]["format"] for config in configs}

    app = open_share(open_page("compare"))
    assert formats(app) == {"png"}
    app.segmented_control(key="pictures-as").set_value("svg").run()
    assert formats(app) == {"svg"}


# --- the report -----------------------------------------------------------------------------------


def test_the_report_needs_no_network(written: str) -> None:
    markup = re.sub(r"<script.*?</script>", "<script></script>", written, flags=re.DOTALL)
    assert re.findall(r'(?:src|href)="(?!data:|#)([^"]+)"', markup) == []
    assert 'src="' not in "".join(re.findall(r"<script[^>]*>", written))
    assert written.count('class="plotly-graph-div"') == 5
    assert written.count("Plotly.newPlot(") >= 5
    assert len(written) < 8_000_000


def test_the_report_says_verdict_numbers_and_certificates_of_the_record(written: str) -> None:
    info = Record.open(DEMO).info
    after = info["methods"]["gif"]["steps"][SEARCHED]["test"]
    assert f"{100 * after['self']:.1f}" in written
    assert "GIF at 5 %" in written
    assert "Most helpful, by GIF" in written
    assert info["hash"][:16] in written
    assert written.count('<img src="data:image/png') == 1 + 2 * 2 * report.SHOWN + 2
    assert all('alt="' in tag for tag in re.findall(r"<img [^>]+>", written))


def test_the_report_holds_rankings_steps_confusions_a_layer_and_doubts(written: str) -> None:
    record = Record.open(DEMO)
    info, query = record.info, record.queries[0]["index"]
    assert "the step is chosen on validation at × 14.1" in written
    ranked = record.scores("gif", query)
    (ends,) = re.findall(r"of 8,000 by GIF.*?</table>", written, flags=re.DOTALL)
    listed = [int(row) for row in re.findall(r"<tr>\s*<td>\d+</td>\s*<td>(\d+)</td>", ends)]
    assert listed == [*ranked["train_index"].head(10), *ranked["train_index"].tail(10)]
    (after,) = re.findall(r"After GIF’s searched step.*?</table>", written, flags=re.DOTALL)
    samples = record.samples("gif", SEARCHED)
    bags = samples[samples["label"] == 8]["predicted"].value_counts()
    (row,) = re.findall(r"<td>Bag</td>(.*?)</tr>", after, flags=re.DOTALL)
    counts = [int(count) for count in re.findall(r"<td>(\d+)</td>", row)]
    assert counts == [int(bags.get(c, 0)) for c in range(10)]
    assert "Dots: the 150 of 8,000 training images" in written
    assert "The other 7,850 are in the shading" in written
    assert "training images per cell" in written
    assert 'alt="Moves of ' in written
    assert written.count("what would make it wrong</h3>") == 3
    assert f"{info['data']['sizes']['test'] // 10} test images stand behind" in written
    assert "`" not in re.sub(r"<script.*?</script>|<pre>.*?</pre>", "", written, flags=re.DOTALL)


def test_the_report_holds_what_retrained_models_say() -> None:
    folder = asset("demo") / "forget-class-retrained"
    found = report.report(report.context_of(Record.open(folder)))
    assert "Same prediction as retrained models: IF 91.4 %" in found
    assert "Held against 3 retrained models." in found


def test_what_a_record_says_is_never_markup(tmp_path: Path) -> None:
    folder = make_record(tmp_path / "one")
    record = Record.open(folder)
    bad = "<script>alert(1)</script>"
    record.info["title"] = bad
    record.info["data"]["classes"] = [bad] * 10
    record.info["change"]["class_name"] = bad
    found = report.report(report.context_of(record))
    assert bad not in found  # Plotly's own JSON escapes it too
    assert html.escape(bad) in found


def test_the_command_line_writes_it_and_says_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "r.html"
    assert report.main([str(asset("demo") / "wrong-labels"), "--out", str(out)]) == 0
    assert "Wrong labels (digits)" in out.read_text(encoding="utf-8")
    assert report.main([str(tmp_path / "none")]) == 1
    assert "no record here" in capsys.readouterr().err
    assert report.main([str(asset("demo") / "wrong-labels"), "--out", str(tmp_path)]) == 1
    assert "Cannot write" in capsys.readouterr().err


# --- computing it again ---------------------------------------------------------------------------


def test_the_lines_of_python_are_python_and_the_study_is_the_records() -> None:
    import tomllib

    lines = reproduce.of(report.context_of(Record.open(DEMO)))
    compile(lines.python, "view", "exec")
    assert 'record.update("gif")' in lines.python
    assert parse(tomllib.loads(lines.study)).selection.ratio == 0.05


def test_the_lines_of_python_do_what_they_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backdoor's record: run again it is the same study, and the names are there."""
    context = report.context_of(Record.open(asset("demo") / "backdoor"))
    lines = reproduce.of(context)
    (tmp_path / "study.toml").write_text(lines.study, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    asked = []

    def run(prepared: runner.Prepared, out: Path, *, workspace: Path) -> Record:
        asked.append((prepared.hash, out, workspace))
        return context.shown

    monkeypatch.setattr(runner, "run", run)  # a minute otherwise; its own tests run it
    exec(lines.python, {})  # noqa: S102 - our own lines
    assert asked == [(context.shown.hash, Path("runs/again"), Path("runs"))]


def runs_of(
    lines: reproduce.Lines, folder: Path, monkeypatch: pytest.MonkeyPatch, found: list[Record]
) -> list[tuple[Any, Path]]:
    """Execute the lines; each study that they run is one of the records found, in turn."""
    (folder / "study.toml").write_text(lines.study, encoding="utf-8")
    monkeypatch.chdir(folder)
    asked: list[tuple[Any, Path]] = []

    def run(prepared: Any, out: Path, *, workspace: Path) -> Record:
        asked.append((prepared, out))
        assert workspace == Path("runs")
        return found[len(asked) - 1]

    monkeypatch.setattr(runner, "run", run)
    monkeypatch.setattr(runner, "prepare", lambda study: study)
    exec(lines.python, {})  # noqa: S102 - our own lines
    return asked


def test_the_lines_read_a_method_that_ranks(
    empty_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study("highest-k-gradients", 0.05, ("if", "gif", "second-order"))
    record = Record.open(make_record(empty_workspace / "one", study=study))
    context = report.context_of(record)
    assert context.methods[-1] == "second-order"
    lines = reproduce.of(context)
    assert 'record.update("second-order")' in lines.python
    assert 'record.scores("gif", 3)' in lines.python
    runs_of(lines, empty_workspace, monkeypatch, [record])
    silent = reproduce.of(replace(context, methods=["second-order"]))
    assert 'record.scores("gif", 3)' in silent.python


def test_the_lines_rank_an_image_that_was_ranked_later(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Record.open(workspace / "g05")
    study = for_query(read(record.path / STUDY), 7)
    later = make_record(records.addition_folder(workspace, record.hash, 7), study=study)
    context = replace(report.context_of(record), query=7)
    lines = reproduce.of(context)
    both = [record, Record.open(later)]
    asked = runs_of(lines, workspace, monkeypatch, both)
    assert [out for _, out in asked] == [Path("runs/again"), Path("runs/test-7")]
    assert asked[1][0] == study
    gone = reproduce.of(replace(context, query=999))
    assert "scores" not in gone.python
