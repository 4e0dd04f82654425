"""`harness site --check` and `--serve` on a real evaluation."""

import signal
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import processes

Command = Callable[..., Any]


@pytest.fixture
def site(harness: Command, evaluated: Path, tmp_path: Path) -> Path:
    """A rendered site of two models."""
    done = harness("site", evaluated, "--out", tmp_path / "site")
    assert done.code == 0, done.err
    return tmp_path / "site"


def test_a_rendered_site_passes_its_check_and_a_changed_one_fails_it(
    harness: Command, suite_path: Path, site: Path
) -> None:
    name = suite_path.stem
    assert (site / name / "compare" / "index.html").is_file()
    done = harness("site", suite_path, "--out", site, "--check")
    assert (done.code, done.err) == (0, "")
    assert "all as in the store" in done.out
    found = harness("site", suite_path, "--out", site, "--check", "--json").json()
    assert found["problems"] == []
    assert found["numbers"] > 10

    page = site / name / "tfidf.html"
    text = page.read_text(encoding="utf-8")
    before = page.stat().st_mtime_ns
    page.write_text(text.replace('data-metric="accuracy"', 'data-metric="recall"', 1), encoding="utf-8")
    done = harness("site", suite_path, "--out", site, "--check")
    assert done.code == 1
    assert f"{site}/{name}/tfidf.html, line " in done.out
    assert harness("site", suite_path, "--out", site).code == 0, "rendering again mends it"
    assert page.read_text(encoding="utf-8") == text
    assert page.stat().st_mtime_ns > before
    assert harness("site", suite_path, "--out", site, "--check").code == 0


def test_the_check_says_so_where_runs_were_scored_after_the_site_was_rendered(
    harness: Command, suite_path: Path, site: Path
) -> None:
    assert harness("evaluate", suite_path, "--model", "probe", "--workers", "1").code == 0
    done = harness("site", suite_path, "--out", site, "--check")
    assert done.code == 1
    assert "predictions/probe.js: is missing" in done.out
    assert "differs from what the store renders now; render the site again" in done.out


def test_a_check_without_a_site_and_a_check_while_serving_are_refused(
    harness: Command, suite_path: Path, tmp_path: Path
) -> None:
    done = harness("site", suite_path, "--out", tmp_path / "nothing", "--check")
    assert done.code == 2
    assert "there is no site to check" in done.err
    done = harness("site", suite_path, "--check", "--serve")
    assert done.code == 2
    assert "give one of them" in done.err


def test_a_served_site_follows_the_store_and_ends_with_an_interrupt(
    harness: Command, suite_path: Path, site: Path
) -> None:
    with processes.Command(["site", suite_path, "--out", site, "--serve", "--port", "0"]) as command:
        line = ""
        while not line.endswith("\n"):
            assert command.poll() is None, command.errors()
            time.sleep(0.05)
            lines = command.errors().splitlines(keepends=True)
            line = next((line for line in lines if not line.startswith("warning: ")), "")  # of splits without a lock
        assert line.startswith(f"serving {site} on http://127.0.0.1:"), line
        address = line.split(" on ")[1].split()[0]

        def shown() -> str:
            with urllib.request.urlopen(address) as answer:
                return str(answer.read().decode())

        assert "tfidf" in shown()
        before = shown()
        assert harness("evaluate", suite_path, "--model", "probe", "--workers", "1").code == 0
        deadline = time.monotonic() + 120
        while shown() == before:
            assert time.monotonic() < deadline, "the new runs never appeared"
            time.sleep(0.2)
        command.send_signal(signal.SIGINT)
        assert command.wait().returncode == 130
