"""Every page by the rules of axe-core, in light and dark, and none that scrolls sideways."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from dashboard import library
from gifcore.assets_path import asset
from tests.browser.site import CHROMIUM, WIDTH, browser, served, settled

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None,
        reason="NO BROWSER: install Debian's package chromium, or the pages go untested",
    ),
]

PHONE = 390
GRAVE = ("serious", "critical")


@dataclass(frozen=True)
class Known:
    """A grave violation that is Streamlit's, by rule and CSS selector, and where it is reported."""

    rule: str
    selector: str
    scheme: str
    issue: str


KNOWN = (
    # Letters on the primary colour are always white; a blue that is dark enough under them could
    # not be read as letters on the dark ground, which the same option colours.
    Known(
        "color-contrast",
        '[data-testid="stBaseButton-primary"] *',
        "dark",
        "https://github.com/streamlit/streamlit/issues/12801",
    ),
)


def _study(record: str) -> str:
    info = json.loads((asset("demo") / record / "record.json").read_text())
    return f"study={info['family'][: library.FAMILY_DIGITS]}"


PAGES = {  # the address, and what is opened there
    "home": ("/", ()),
    "samples": ("/samples?query=6&sample=2489", ("sure",)),
    "browse": ("/samples?filter=all", ()),
    "table": ("/samples?tab=table", ()),
    "parameters": ("/parameters", ("sure",)),
    "layer": ("/parameters?layer=conv3.weight&tab=layer", ("sure",)),
    "unit": ("/parameters?layer=conv3.weight&unit=5&tab=unit", ("sure",)),
    "before-after": ("/before-after", ("sure",)),
    "retrained": (f"/before-after?{_study('forget-class-retrained')}&tab=retrained", ("sure",)),
    "edit": ("/before-after?tab=edit", ("sure",)),
    "confusions": ("/before-after?tab=confusions&cell=8-6", ()),
    "flips": ("/before-after?tab=flips", ()),
    "compare": ("/compare", ("share",)),
    "moves": ("/compare?tab=moves", ()),
    "edits": ("/compare?tab=edits", ("sure",)),
    "wrong-labels": (f"/wrong-labels?{_study('wrong-labels')}", ()),
    "speed": (f"/speed?{_study('fastif-recall')}", ()),
    "own": ("/own", ()),
    "new-study": ("/new-study", ()),
    "studies": ("/studies", ()),
    "story": ("/samples?story=forget&step=1", ()),
    "not-computed": ("/samples?selector=random&ratio=0.5", ()),
}
IN_DARK = ("home", "samples", "unit", "confusions", "edits", "new-study")
OPENED = {"sure": "[class*=st-key-sure-] summary", "share": "[data-testid=stPopover] button"}
RULES = {"resultTypes": ["violations"]}


@dataclass
class Seen:
    """What was found on a page: grave violations by colour scheme, what is too wide by width."""

    grave: dict[str, list[str]] = field(default_factory=dict)
    wide: dict[int, list[str]] = field(default_factory=dict)
    known: set[Known] = field(default_factory=set)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Seen]]:
    """Every page, visited once: in light, in dark, and as wide as a phone."""
    with served(tmp_path_factory.mktemp("workspace")) as address, browser() as chromium:
        page = chromium.new_page(color_scheme="light")
        page.set_default_timeout(60_000)
        yield {name: visit(page, address + PAGES[name][0], name) for name in PAGES}


def visit(page: Any, url: str, name: str) -> Seen:
    found = Seen()
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": WIDTH, "height": 900})
    page.goto(url)
    drawn(page)
    found.wide[WIDTH] = page.evaluate(TOO_WIDE)
    for what in PAGES[name][1]:
        page.locator(OPENED[what]).first.click()
        drawn(page)
    by_rules(page, "light", found)
    if name in IN_DARK:
        page.emulate_media(color_scheme="dark")
        page.wait_for_function(f"({GROUND})() < 100")
        drawn(page)
        by_rules(page, "dark", found)
    page.set_viewport_size({"width": PHONE, "height": 844})
    drawn(page)
    found.wide[PHONE] = page.evaluate(TOO_WIDE)
    return found


GROUND = """() => getComputedStyle(document.querySelector('[data-testid=stApp]'))
    .backgroundColor.match(/\\d+/g).map(Number)[0]"""

# The page's scroller, and what of the page itself is wider than the window; a table or a chart that
# scrolls within its own frame is not.
TOO_WIDE = """() => {
    const main = document.querySelector('[data-testid=stMain]');
    const block = document.querySelector('[data-testid=stMainBlockContainer]');
    const wider = [document.scrollingElement, main, block]
        .filter(e => e.scrollWidth > e.clientWidth + 1)
        .map(e => `${e.tagName} is ${e.scrollWidth} px in ${e.clientWidth} px`);
    if (!wider.length) return [];
    const right = main.getBoundingClientRect().right;
    const first = [...block.querySelectorAll('*')]
        .find(e => e.getBoundingClientRect().right > right + 1);
    return [...wider, first ? first.outerHTML.slice(0, 200) : ''];
}"""


def drawn(page: Any) -> None:
    """Wait until the script has ended, every chart is drawn and nothing fades in any more."""
    settled(page)
    page.wait_for_function(
        """() => [...document.querySelectorAll('[data-testid=stPlotlyChart]')]
            .every(chart => chart.querySelector('.main-svg'))
        && !document.querySelector('[data-stale=true]')
        && document.getAnimations().every(one => one.playState !== 'running'
            || one.effect.getComputedTiming().iterations === Infinity)"""
    )


def by_rules(page: Any, scheme: str, found: Seen) -> None:
    """Note the grave violations; those of Streamlit that are known are told apart."""
    from axe_playwright_python.sync_playwright import Axe

    grave: list[str] = []
    for violation in Axe().run(page, options=RULES).response["violations"]:
        for node in violation["nodes"] if violation["impact"] in GRAVE else ():
            known = next((k for k in KNOWN if is_it(page, k, violation, node, scheme)), None)
            if known:
                found.known.add(known)
            else:
                why = " ".join(node["failureSummary"].split())
                grave.append(f"{violation['id']}: {node['html'][:160]} ({why[:240]})")
    found.grave[scheme] = grave


def is_it(page: Any, known: Known, violation: Any, node: Any, scheme: str) -> bool:
    return (
        known.rule == violation["id"]
        and known.scheme == scheme
        and page.locator(node["target"][0]).first.evaluate(
            "(element, selector) => element.matches(selector)", known.selector
        )
    )


@pytest.mark.parametrize("name", PAGES)
def test_no_grave_violation_in_light(seen: dict[str, Seen], name: str) -> None:
    assert seen[name].grave["light"] == []


@pytest.mark.parametrize("name", IN_DARK)
def test_no_grave_violation_in_dark(seen: dict[str, Seen], name: str) -> None:
    assert seen[name].grave["dark"] == []


def test_every_known_violation_is_still_there(seen: dict[str, Seen]) -> None:
    """One that Streamlit has mended is to be taken off the list."""
    assert set(KNOWN) == set().union(*(page.known for page in seen.values()))


@pytest.mark.parametrize("name", PAGES)
def test_no_page_scrolls_sideways(seen: dict[str, Seen], name: str) -> None:
    assert seen[name].wide == {WIDTH: [], PHONE: []}
