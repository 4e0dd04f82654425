"""What surrounded a run, read from real repositories and the real machine."""

import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path

import pytest

from harness import provenance


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with one committed file and a folder."""
    folder = tmp_path / "repository"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "file").write_text("committed\n")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "First")
    return folder


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=Tester", "-c", "user.email=tester@example.org", "-c", "commit.gpgsign=false"]
    ran = subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True, text=True)
    return ran.stdout.strip()


def test_a_clean_repository_is_named_by_its_commit(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    assert re.fullmatch("[0-9a-f]{40}", commit)
    assert provenance.git(repository) == (commit, False)
    assert provenance.git(repository / "inner") == (commit, False)


def test_a_changed_file_makes_a_repository_dirty(repository: Path) -> None:
    (repository / "inner" / "file").write_text("changed\n")
    assert provenance.git(repository) == (git(repository, "rev-parse", "HEAD"), True)


def test_a_file_that_git_does_not_track_leaves_a_repository_clean(repository: Path) -> None:
    (repository / "new").write_text("not added\n")
    assert provenance.git(repository)[1] is False


def test_there_is_no_commit_outside_a_repository_nor_before_the_first_one(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    git(tmp_path / "empty", "init", "--quiet")
    assert provenance.git(tmp_path / "empty") == (None, None)
    assert provenance.git(tmp_path) == (None, None)
    assert provenance.git(tmp_path / "absent") == (None, None)


def test_there_is_no_commit_where_git_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.git(tmp_path) == (None, None)


def test_the_time_is_utc_without_a_zone() -> None:
    now = provenance.now()
    assert now.tzinfo is None
    assert abs(now - datetime.now(UTC).replace(tzinfo=None)) < timedelta(minutes=1)


def test_packages_are_those_installed_and_no_others() -> None:
    found = provenance.packages()
    assert found["adapter-harness"] == metadata.version("adapter-harness")
    assert found["numpy"] == metadata.version("numpy")
    installed = {distribution.name.lower() for distribution in metadata.distributions()}
    assert set(found) == {"adapter-harness", *provenance.SCORING_PACKAGES, *provenance.RUNTIME_PACKAGES} & installed


def test_an_absent_package_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "numpy-0.1.dist-info").mkdir()
    (tmp_path / "numpy-0.1.dist-info" / "METADATA").write_text("Name: numpy\nVersion: 0.1\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert provenance.packages.__wrapped__() == {"numpy": "0.1"}


def test_reading_versions_does_not_import_the_packages() -> None:
    code = (
        "import sys; from harness import provenance; provenance.packages(), provenance.hardware();"
        "print(sorted({'torch', 'transformers', 'peft', 'sklearn', 'numpy'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_hardware_names_the_processor_and_its_usable_cores() -> None:
    found = provenance.hardware()
    assert set(found) == {"machine", "system", "processor", "cores", "bf16"}
    assert int(found["cores"]) >= 1
    assert found["bf16"] == int(provenance.has_fast_bf16())
    assert all(isinstance(value, str | int) for value in found.values())


def test_what_a_processor_has_is_read_from_its_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    has_bf16, has_int8 = provenance.has_fast_bf16.__wrapped__, provenance.has_fast_int8.__wrapped__
    for info, expected in (
        ({"flags": "fma avx2 sha_ni"}, (False, False)),
        ({"flags": "avx2 avx_vnni"}, (False, True)),
        ({"flags": "avx512f avx512_bf16 avx512_vnni"}, (True, True)),
        ({"Features": "asimd asimddp"}, (False, True)),
        ({"Features": "asimd bf16 i8mm"}, (True, True)),
        ({}, (False, False)),
    ):
        monkeypatch.setattr(provenance, "_cpu_info", lambda info=info: info)
        assert (has_bf16(), has_int8()) == expected, info
