"""A headless Chromium for tests and for the pictures in the README.

python tests/browser.py plots/evolution.html plots/screenshots/evolution.png
"""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def opened(path: Path, width: int = 1400, height: int = 1000) -> Iterator[tuple[Page, list[str]]]:
    """A page opened from disk, and a list that collects what must not happen: complaints, and requests that leave the page."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": height})
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
    with opened(Path(source)) as (page, _):
        page.wait_for_selector("body[data-ready=yes]")
        page.locator("#time").press("End")
        page.keyboard.press("n")
        page.wait_for_timeout(500)
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=target)


if __name__ == "__main__":
    main(*sys.argv[1:])
