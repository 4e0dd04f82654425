"""The written site in a real browser, from disk."""

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from leaderboard import render

if TYPE_CHECKING:
    from tests.leaderboard.conftest import Bench

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip

PROBE = """
<!DOCTYPE html><meta charset="utf-8"><pre id="said">nothing</pre>
<iframe id="page" src="site/{page}" style="width: 390px; height: 800px"></iframe>
<script>
const page = document.getElementById("page");
page.onload = () => {{
  const doc = page.contentDocument, style = page.contentWindow.getComputedStyle;
  const point = doc.querySelector(".forest .point").getBoundingClientRect();
  document.getElementById("said").textContent = [
    style(doc.querySelector(".top")).position,
    doc.documentElement.scrollWidth <= 390 ? "fits" : "overflows by " + (doc.documentElement.scrollWidth - 390),
    point.width > 5 && point.left > 0 && point.right < 390 ? "drawn" : "not drawn",
  ].join("; ");
}};
</script>
"""


@pytest.fixture(scope="session")
def browser() -> str:
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"needs one of {', '.join(NAMES)} on the PATH, such as from `apt-get install chromium`")
    return found


def dump(browser: str, file: Path, profile: Path, *flags: str) -> str:
    """The page's elements after the browser has loaded it."""
    command = [browser, *FLAGS, *flags, f"--user-data-dir={profile}", "--dump-dom", file.as_uri()]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return done.stdout


@pytest.mark.browser
def test_a_browser_shows_every_model_from_disk(
    filled: "Bench", site: dict[str, str], browser: str, tmp_path: Path
) -> None:
    render.write(site, tmp_path / "site")
    shown = dump(browser, tmp_path / "site" / "index.html", tmp_path / "profile")
    for model in filled.suite.model:
        assert f">{model.id}</a>" in shown
    assert shown.count("<svg") == site["index.html"].count("<svg")


@pytest.mark.browser
@pytest.mark.parametrize("page", ["index.html", "demo/tiny%2Blora.html"])
def test_on_a_phone_the_style_applies_the_page_does_not_scroll_sideways_and_charts_are_drawn(
    site: dict[str, str], browser: str, tmp_path: Path, page: str
) -> None:
    render.write(site, tmp_path / "site")
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE.format(page=page), encoding="utf-8")
    # Two files of one folder may look into each other only with this flag; the site itself needs nothing of the kind.
    shown = dump(browser, probe, tmp_path / "profile", "--allow-file-access-from-files")
    assert '<pre id="said">sticky; fits; drawn</pre>' in shown
