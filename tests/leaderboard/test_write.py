"""Pages into a folder: only what changed, only what is ours, never outside."""

import json
import os
from pathlib import Path

import pytest

from harness.errors import UsageError
from leaderboard.site import render

PAGES = {"index.html": "home", "demo/a.html": "a", "demo/b.html": "b", "static/style.css": "s"}


def on_disk(out: Path) -> dict[str, str]:
    files = (file for file in out.rglob("*") if file.is_file() and file.name != render.MANIFEST)
    return {file.relative_to(out).as_posix(): file.read_text(encoding="utf-8") for file in files}


def test_files_arrive_as_rendered(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "site"
    assert render.write(PAGES | {"demo/ü.html": "–"}, out) == 5
    assert on_disk(out) == PAGES | {"demo/ü.html": "–"}


def test_only_changed_files_are_written_again(tmp_path: Path) -> None:
    render.write(PAGES, tmp_path)
    for file in tmp_path.rglob("*.*"):
        os.utime(file, (1000, 1000))
    assert render.write(PAGES | {"demo/a.html": "changed"}, tmp_path) == 1
    fresh = {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*.*") if file.stat().st_mtime != 1000}
    assert fresh == {"demo/a.html"}


def test_a_second_call_with_the_same_files_changes_nothing(tmp_path: Path) -> None:
    render.write(PAGES, tmp_path)
    assert render.write(PAGES, tmp_path) == 0


def test_pages_that_are_no_longer_rendered_go_with_their_empty_folders(tmp_path: Path) -> None:
    render.write(PAGES, tmp_path)
    assert render.write({"index.html": "home"}, tmp_path) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [render.MANIFEST, "index.html"]


def test_files_of_others_stay_whatever_happens(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("kept")
    render.write(PAGES, tmp_path)
    (tmp_path / "demo" / "notes.html").write_text("kept too")
    render.write({"index.html": "home"}, tmp_path)
    assert on_disk(tmp_path) == {"README.md": "kept", "demo/notes.html": "kept too", "index.html": "home"}


def test_a_file_of_others_in_the_way_is_not_overwritten_and_nothing_else_is_written(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("somebody's home page")
    with pytest.raises(UsageError, match=r"index\.html: is in the way"):
        render.write(PAGES, tmp_path)
    assert on_disk(tmp_path) == {"index.html": "somebody's home page"}


def test_a_page_that_was_removed_by_hand_comes_back_and_may_also_stay_away(tmp_path: Path) -> None:
    render.write(PAGES, tmp_path)
    (tmp_path / "demo" / "a.html").unlink()
    assert render.write(PAGES, tmp_path) == 1
    (tmp_path / "demo" / "b.html").unlink()
    assert render.write({name: text for name, text in PAGES.items() if name != "demo/b.html"}, tmp_path) == 0


@pytest.mark.parametrize(
    "name", ["../evil.html", "/tmp/evil.html", "demo/../../evil.html", "a\\..\\b.html", "", render.MANIFEST]
)
def test_paths_that_leave_the_folder_are_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    out = tmp_path / "site"
    with pytest.raises(UsageError, match="not a path inside"):
        render.write(PAGES | {name: "evil"}, out)
    assert not out.exists()
    assert not list(tmp_path.rglob("evil*"))


def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    out, outside = tmp_path / "site", tmp_path / "outside"
    out.mkdir()
    outside.mkdir()
    (out / "demo").symlink_to(outside)
    with pytest.raises(UsageError, match="not a path inside"):
        render.write(PAGES, out)
    assert not list(outside.iterdir())


def test_a_manifest_that_names_files_outside_deletes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "site"
    render.write(PAGES, out)
    (tmp_path / "precious.txt").write_text("kept")
    (out / render.MANIFEST).write_text(json.dumps({"files": ["../precious.txt"]}))
    with pytest.raises(UsageError, match="not a path inside"):
        render.write(PAGES, out)
    assert (tmp_path / "precious.txt").read_text() == "kept"


@pytest.mark.parametrize("text", ["", "not json", "[]", "{}", '{"files": 3}', "\udce4"])
def test_with_a_damaged_manifest_nothing_is_known_to_be_ours_so_nothing_goes(tmp_path: Path, text: str) -> None:
    render.write(PAGES, tmp_path)
    (tmp_path / render.MANIFEST).write_bytes(text.encode("utf-8", "surrogateescape"))
    assert render.write({"index.html": "home"}, tmp_path) == 0
    assert on_disk(tmp_path) == PAGES


def test_the_manifest_lists_what_was_generated(tmp_path: Path) -> None:
    render.write(PAGES, tmp_path)
    assert json.loads((tmp_path / render.MANIFEST).read_text()) == {"files": sorted(PAGES)}
