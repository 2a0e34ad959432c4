"""`make pictures`: every page at 1280 px, light and dark, into assets/pictures.

python -m tests.browser.pictures [FOLDER [PAGE …]]
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from dashboard import library
from tests.browser.site import WIDTH, browser, served, settled

PICTURES = Path(__file__).resolve().parents[2] / "assets" / "pictures"
DEMO = PICTURES.parent / "demo"
STUDIES = {"speed": "fastif-recall", "wrong-labels": "wrong-labels"}  # pages about others
PAGES = {
    "home": "/",
    "samples": "/samples",
    "browse": "/samples?filter=all~wrong",  # the training images that the model gets wrong
    "card": "/samples?sample=2489&pin=5453",
    "table": "/samples?tab=table",
    "parameters": "/parameters",
    "layer": "/parameters?tab=layer",
    "unit": "/parameters?tab=unit",
    "before-after": "/before-after",
    "edit": "/before-after?tab=edit",
    "confusions": "/before-after?tab=confusions&cell=8-6",
    "flips": "/before-after?tab=flips",
    "compare": "/compare",
    "overlap": "/compare?tab=overlap",
    "flow": "/compare?tab=flow",
    "moves": "/compare?tab=moves",
    "edits": "/compare?tab=edits",
    "wrong-labels": "/wrong-labels",
    "speed": "/speed",
    "own": "/own",
    "new-study": "/new-study",
    "studies": "/studies",
}
README = (  # their upper part is shown there
    "home", "samples", "browse", "parameters", "before-after", "compare", "wrong-labels", "own",
    "new-study",
)  # fmt: skip
TOP = 1000  # px
TALLEST = 6200


def main(folder: Path = PICTURES, wanted: list[str] | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as workspace,
        browser() as chromium,
        served(Path(workspace)) as address,
    ):
        for scheme in ("light", "dark"):
            page = chromium.new_page(viewport={"width": WIDTH, "height": TOP}, color_scheme=scheme)
            for name, path in PAGES.items():
                if not wanted or name in wanted:
                    page.set_viewport_size({"width": WIDTH, "height": TOP})
                    page.goto(
                        address + path + (f"?study={family(name)}" if name in STUDIES else "")
                    )
                    take(page, folder / f"{name}-{scheme}.png", name in README)
            page.close()


def family(page: str) -> str:
    """Return what a link to the study that a page is about names it by."""
    info = json.loads((DEMO / STUDIES[page] / "record.json").read_text())
    found: str = info["family"][: library.FAMILY_DIGITS]
    return found


def take(page: Any, path: Path, in_readme: bool) -> None:
    """Save the whole page, and its upper part for README."""
    settled(page)
    page.wait_for_timeout(1500)  # charts are drawn after the script has ended
    height = page.evaluate(
        "Math.max(...[...document.querySelectorAll('[data-testid=stMainBlockContainer],"
        " [data-testid=stSidebarContent]')].map(e => e.scrollHeight)) + 60"
    )
    page.set_viewport_size({"width": WIDTH, "height": min(max(int(height), 600), TALLEST)})
    page.wait_for_timeout(1500)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    save(picture, path)
    if in_readme:
        top = picture.crop((0, 0, WIDTH, min(TOP, picture.height)))
        save(top, path.with_stem(f"{path.stem}-top"))


def save(picture: Image.Image, path: Path) -> None:
    """Save with 256 colours: a third of the size, no difference to see."""
    picture.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        path, optimize=True
    )
    print(path, flush=True)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(Path(arguments[0]) if arguments else PICTURES, arguments[1:])
