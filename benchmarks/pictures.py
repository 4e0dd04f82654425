"""Pictures of a rendered site in a headless Chromium, and the README's own.

    python benchmarks/pictures.py site --folder pictures --readme docs/leaderboard.png

Every kind of page is taken at 390 and 1440 pixels, light and dark. The browser is the machine's own: playwright's
download is not used.
"""

import argparse
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
WIDTHS = (390, 1440)  # pixels: a phone, a desk
SCHEMES = ("light", "dark")
README_SIZE = {"width": 1280, "height": 900}  # pixels
READY = "() => !document.querySelector('[aria-busy]') && !document.querySelector('#app[hidden]')"
"""JavaScript that is true once a page's script has finished."""


def chromium() -> str | None:
    """The browser's path; None where this machine has none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def launched() -> Iterator[Browser]:
    """A headless browser, closed at the end of the block."""
    path = chromium()
    if path is None:
        raise SystemExit(f"needs one of {', '.join(NAMES)} on the PATH, such as from `apt-get install chromium`")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


def show(page: Page, site: Path, name: str) -> None:
    """Open a page of a site from disk, `demo/compare/index.html#a=x`, and wait until its script is done."""
    path, _, choice = name.partition("#")
    page.goto((site / path).absolute().as_uri() + (f"#{choice}" if choice else ""))
    page.wait_for_function(READY)


def kinds(site: Path) -> dict[str, str]:
    """One page of each kind by the kind's name: the index, and of the first suite a model's page and the tools."""
    found = {"index": "index.html"}
    for folder in sorted(path for path in site.iterdir() if (path / "compare" / "index.html").is_file()):
        models = sorted(path.name for path in folder.glob("*.html"))
        found |= {
            "model": f"{folder.name}/{models[-1]}",
            "compare": f"{folder.name}/compare/index.html",
            "examples": f"{folder.name}/examples/index.html",
        }
        break
    return found


def picture(browser: Browser, site: Path, name: str, file: Path, width: int, scheme: str) -> None:
    """A whole page as a PNG."""
    file.parent.mkdir(parents=True, exist_ok=True)
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    show(page, site, name)
    page.screenshot(path=str(file), full_page=True)
    context.close()


def main() -> None:
    """Take the requested pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", type=Path, nargs="?", default=Path("site"), help="the rendered site")
    parser.add_argument("--folder", type=Path, default=Path("runs/pictures"), help="folder of the pictures")
    parser.add_argument("--readme", type=Path, help="write the top of the index page to this file too")
    asked = parser.parse_args()
    with launched() as browser:
        for kind, name in kinds(asked.site).items():
            for width in WIDTHS:
                for scheme in SCHEMES:
                    file = asked.folder / f"{kind}-{width}-{scheme}.png"
                    picture(browser, asked.site, name, file, width, scheme)
                    print(file)
        if asked.readme is not None:
            context = browser.new_context(viewport=README_SIZE, color_scheme="light")
            page = context.new_page()
            show(page, asked.site, "index.html")
            page.screenshot(path=str(asked.readme))
            context.close()
            print(asked.readme)


if __name__ == "__main__":
    main()
