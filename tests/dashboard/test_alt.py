"""Every chart, table and picture of every page, tab and panel has words for who cannot see it."""

from __future__ import annotations

import re

import pytest
from streamlit.testing.v1 import AppTest

from gifcore.assets_path import asset
from gifcore.record import Record
from tests.dashboard.opened import TABS, open_page

RECORDS = ("highest-k-gradients-05", "wrong-labels", "forget-class-retrained", "fastif-recall")
PAGES = ("samples", "parameters", "before-after", "compare", "wrong-labels", "speed")
SHOWN = [(page, tab) for page in PAGES for tab in TABS.get(page, ("",))]


def opened_panels(app: AppTest) -> AppTest:
    """Open every panel and draw the page again, until no panel opens another."""
    while closed := [one for one in app.get("expander") if one.proto.id and not is_open(app, one)]:
        for one in closed:
            app.session_state[key_of(one)] = True
        app.run()
        assert not app.exception, app.exception
    return app


def key_of(panel: object) -> str:
    return str(panel.proto.id).split("-", 2)[2]  # type: ignore[attr-defined]


def is_open(app: AppTest, panel: object) -> bool:
    return key_of(panel) in app.session_state and bool(app.session_state[key_of(panel)])


def wordless(app: AppTest) -> list[str]:
    """What on the page is drawn and has no words."""
    found = [f"chart {chart.proto.id}" for chart in app.get("plotly_chart") if not chart.proto.alt]
    found += [f"table {table.proto.id}" for table in app.dataframe if not table.proto.alt]
    pictures = [picture for one in app.get("image") for picture in one.proto.imgs]
    found += [f"picture {picture.url[:40]}" for picture in pictures if not picture.alt]
    html = "".join(str(one.proto.body) for one in app.get("html"))
    found += [tag[:80] for tag in re.findall(r"<img[^>]*>", html) if 'alt="' not in tag]
    return found


@pytest.mark.parametrize("name", RECORDS)
def test_all_that_is_drawn_has_words(name: str) -> None:
    info = Record.open(asset("demo") / name).info
    selection = info["selection"]
    study = {"study": info["family"][:12], "selector": selection["selector"]}
    seen = 0
    for page, tab in SHOWN:
        picks = study | {"ratio": f"{selection['ratio']:g}"} | ({"tab": tab} if tab else {})
        app = opened_panels(open_page(page, **picks))
        assert wordless(app) == [], (page, tab)
        seen += len(app.get("plotly_chart")) + len(app.dataframe) + len(app.get("html"))
    assert seen > 20
