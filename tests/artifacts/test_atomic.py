"""Files are written whole or not at all, and a disk that takes nothing is named."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from harness.artifacts import atomic
from harness.errors import UsageError


def test_a_file_takes_the_place_of_another_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    atomic.write(path, b"first")
    with atomic.replacing(path) as fresh:
        fresh.write_bytes(b"second")
        assert path.read_bytes() == b"first"
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_what_fails_on_the_way_leaves_what_was_there(tmp_path: Path, number: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"first")

    def fail(problem: BaseException) -> None:
        with atomic.replacing(path) as fresh:
            fresh.write_bytes(b"sec")
            raise problem

    with pytest.raises(UsageError, match=f"{path}: cannot be written .{os.strerror(number)}.; make room"):
        fail(OSError(number, os.strerror(number)))
    with pytest.raises(KeyboardInterrupt):
        fail(KeyboardInterrupt())
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"file/inner: cannot be written \(.+\); make room"):
        atomic.write(tmp_path / "file" / "inner", b"")


LIMITED = """if True:
    import sys
    from pathlib import Path
    from harness.errors import UsageError
    from leaderboard.site import render
    try:
        render.write({"index.html": "new" * 1000, "a/b.html": "x" * 100_000}, Path(sys.argv[1]))
    except UsageError as error:
        print(error)
"""


def test_a_site_on_a_full_disk_keeps_its_files_whole(tmp_path: Path) -> None:
    """No file may grow beyond 50 kB: what a disk without room answers to."""
    from leaderboard.site import render

    old = {"index.html": "old", "a/b.html": "old"}
    render.write(old, tmp_path / "site")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "site")],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )
    assert f"{tmp_path}/site/a/b.html: cannot be written (File too large)" in done.stdout
    assert (tmp_path / "site" / "a" / "b.html").read_text() == "old"
    names = {path.name for path in (tmp_path / "site").rglob("*") if path.is_file()}
    assert names == {"index.html", "b.html", render.MANIFEST}
    assert render.write(old, tmp_path / "site") == 1, "and it is brought up to date as ever"


def test_a_file_of_the_harnesss_own_fails_with_the_systems_error(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic.whole(tmp_path / "file") as fresh:
            fresh.write_bytes(b"some of it")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space"):
        fail()
    assert list(tmp_path.iterdir()) == []


def _made(folder: Path, text: str) -> None:
    with atomic.whole_folder(folder, lambda there: (there / "file").is_file()) as fresh:
        (fresh / "file").write_text(text)


def test_a_folder_appears_whole_and_the_one_that_was_first_stays(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "made"
    _made(folder, "first")
    _made(folder, "second")
    assert (folder / "file").read_text() == "first"
    assert list(folder.parent.iterdir()) == [folder]


def test_a_damaged_folder_is_replaced_and_a_failed_one_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "half").touch()

    def interrupted() -> None:
        with atomic.whole_folder(folder, lambda there: False) as fresh:
            (fresh / "file").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in folder.iterdir()] == ["half"]
    _made(folder, "anew")
    assert [path.name for path in folder.iterdir()] == ["file"]
    assert list(tmp_path.iterdir()) == [folder]
