"""`harness site --check` and `--serve` on a real evaluation."""

import re
import signal
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import processes

pytestmark = pytest.mark.slow

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


def test_a_changed_score_of_an_explained_word_is_found(harness: Command, suite_path: Path, site: Path) -> None:
    assert harness("evaluate", suite_path, "--model", "tfidf", "--workers", "1", "--explain").code == 0
    assert harness("site", suite_path, "--out", site).code == 0
    assert harness("site", suite_path, "--out", site, "--check").code == 0
    (words,) = site.rglob("words/tfidf.js")
    text = words.read_text()
    score = re.search(r"0\.\d{4}", text)
    assert score is not None
    words.write_text(text.replace(score[0], "0.0123", 1))
    done = harness("site", suite_path, "--out", site, "--check")
    assert done.code == 1
    assert f"{site}/{words.relative_to(site)}, line 1: differs from what the store renders now" in done.out


def test_the_check_says_so_where_runs_were_scored_after_the_site_was_rendered(
    harness: Command, suite_path: Path, site: Path
) -> None:
    assert harness("evaluate", suite_path, "--model", "probe", "--workers", "1").code == 0
    done = harness("site", suite_path, "--out", site, "--check")
    assert done.code == 1
    assert "predictions/probe.js: is missing" in done.out
    assert "differs from what the store renders now; render the site again" in done.out


def other_suite(path: Path, name: str) -> Path:
    """The suite under another name, beside it."""
    other = path.with_name(f"{name}.toml")
    text = path.read_text(encoding="utf-8").replace('name = "made-up"', f'name = "{name}"', 1)
    other.write_text(text, encoding="utf-8")
    return other


def ask_for_other_data(path: Path) -> None:
    """Name archives that no index has."""
    text, n = re.subn(r'sha256 = "[0-9a-f]{64}"', f'sha256 = "{"0" * 64}"', path.read_text(encoding="utf-8"))
    assert n
    path.write_text(text, encoding="utf-8")


def test_a_site_of_several_suites_passes_its_check_and_a_changed_index_or_board_fails_it(
    harness: Command, evaluated: Path, tmp_path: Path
) -> None:
    other, out = other_suite(evaluated, "second"), tmp_path / "site"
    done = harness("site", evaluated, other, "--out", out)
    assert done.code == 0, done.err
    done = harness("site", evaluated, other, "--out", out, "--check")
    assert (done.code, done.err) == (0, "")
    for name in ("index.html", "second/index.html"):
        page = out / name
        text = page.read_text(encoding="utf-8")
        page.write_text(text.replace("gates passed", "gates failed").replace("<h1>second", "<h1>2nd"), encoding="utf-8")
        done = harness("site", evaluated, other, "--out", out, "--check")
        assert done.code == 1
        assert f"{out}/{name}, line " in done.out
        page.write_text(text, encoding="utf-8")
    assert harness("site", evaluated, "--out", out).code == 0
    assert not (out / "second").exists(), "a suite that is no longer named leaves nothing behind"


def test_a_suite_whose_inputs_are_not_here_is_not_yet_evaluated_and_ends_no_other(
    harness: Command, evaluated: Path, tmp_path: Path
) -> None:
    other = other_suite(evaluated, "second")
    ask_for_other_data(other)
    done = harness("site", evaluated, other, "--out", tmp_path / "site")
    assert done.code == 0, done.err
    assert (
        f"{other}: is not evaluated yet, and its inputs are not here: split train: made-up-1.0.zip has sha256 "
        in done.err
    )
    index = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert index.count("not yet evaluated</span>") == 1
    assert "gates passed" in index
    assert (tmp_path / "site" / "second" / "index.html").is_file()
    alone = harness("site", other, "--out", tmp_path / "alone")
    assert alone.code == 2
    assert not (tmp_path / "alone").exists()


def test_a_suite_with_runs_whose_inputs_are_not_here_is_an_error(
    harness: Command, evaluated: Path, tmp_path: Path
) -> None:
    """The store has runs under its name, which a page that calls it not evaluated would hide."""
    first = other_suite(evaluated, "second")
    ask_for_other_data(evaluated)
    done = harness("site", first, evaluated, "--out", tmp_path / "site")
    assert done.code == 2
    assert not (tmp_path / "site").exists()


def test_two_suites_of_one_name_are_refused_before_anything_is_read(
    harness: Command, suite_path: Path, tmp_path: Path
) -> None:
    twin = suite_path.with_name("twin.toml")
    twin.write_text(suite_path.read_text(encoding="utf-8"), encoding="utf-8")
    done = harness("site", suite_path, twin, "--out", tmp_path / "site")
    assert done.code == 2
    assert f"{twin}: its suite is named 'made-up', as that of {suite_path} is" in done.err
    assert not (tmp_path / "site").exists()


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
