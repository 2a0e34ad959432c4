"""`make pictures`: every page at 1280 px, light and dark, into assets/pictures.

    python -m tests.browser.pictures [FOLDER [PAGE …]]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.browser.site import WIDTH, browser, served, settled

PICTURES = Path(__file__).resolve().parents[2] / "assets" / "pictures"
PAGES = {
    "home": "/",
    "samples": "/samples",
    "parameters": "/parameters",
    "before-after": "/before-after",
    "compare": "/compare",
    "new-study": "/new-study",
    "studies": "/studies",
}


def main(folder: Path = PICTURES, wanted: list[str] | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as workspace, browser() as chromium:
        with served(Path(workspace)) as address:
            for scheme in ("light", "dark"):
                context = chromium.new_context(
                    viewport={"width": WIDTH, "height": 900}, color_scheme=scheme
                )
                page = context.new_page()
                for name, path in PAGES.items():
                    if wanted and name not in wanted:
                        continue
                    page.goto(address + path)
                    settled(page)
                    page.wait_for_timeout(1500)  # charts are drawn after the script has ended
                    height = page.evaluate(
                        "Math.max(...[...document.querySelectorAll('[data-testid=stMain] > div,"
                        " [data-testid=stSidebarContent]')].map(e => e.scrollHeight)) + 80"
                    )
                    page.set_viewport_size({"width": WIDTH, "height": min(int(height), 4200)})
                    page.wait_for_timeout(1500)
                    page.screenshot(path=folder / f"{name}-{scheme}.png")
                    page.set_viewport_size({"width": WIDTH, "height": 900})
                    print(folder / f"{name}-{scheme}.png", flush=True)
                context.close()


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(Path(arguments[0]) if arguments else PICTURES, arguments[1:])
