"""A headless Chromium for tests and for the screenshots in the documentation.

python tests/helpers/browser.py plots/evolution.html plots/screenshots/evolution.png
python tests/helpers/browser.py plots/label.html plots/screenshots/label.png
"""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium")


@contextmanager
def open_page(path: Path, width: int = 1400, height: int = 1000) -> Iterator[tuple[Page, list[str]]]:
    """Open a page from disk.

    Args:
        path: The HTML file.
        width: Width of the window in CSS pixels.
        height: Height of the window in CSS pixels.

    Yields:
        The page, and a growing list of what must not happen: errors, dialogs, and requests that leave the page.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(120_000)  # A busy machine is slow; what never comes fails all the same.
        wrong: list[str] = []
        page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on(
            "request",
            lambda request: request.url.startswith(("file:", "data:", "blob:")) or wrong.append(request.url),
        )
        page.goto(path.resolve().as_uri())
        yield page, wrong
        browser.close()


def main(source: str, target: str) -> None:
    """Save a screenshot of a page: that of the evolution at its last checkpoint, with the first image selected."""
    with open_page(Path(source)) as (page, _):
        page.wait_for_selector("body[data-ready=yes]")
        if page.locator("#time").count():
            page.locator("#time").press("End")
            page.keyboard.press("n")
        page.wait_for_timeout(500)
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=target)


if __name__ == "__main__":
    main(*sys.argv[1:])
