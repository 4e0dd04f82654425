"""What surrounded a run, read from real repositories and the real machine."""

import os
import re
import shutil
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


def spy(folder: Path, name: str) -> tuple[Path, Path]:
    """A program that passes its input on, and the file in which it records its name and environment when it is run."""
    program, seen = folder / name, folder / "seen"
    program.write_text(f'#!/bin/sh\n(echo "{name} $*"; env) >> {seen}\nexec cat\n')
    program.chmod(0o755)
    return program, seen


HOOKS = ("post-index-change", "post-checkout", "pre-commit", "reference-transaction", "fsmonitor-watchman")


def test_a_repository_cannot_make_git_run_its_programs_nor_see_a_secret(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that a folder can bring: settings that name programs, attributes that use them, hooks, a submodule."""
    commit = git(repository, "rev-parse", "HEAD")
    program, seen = spy(tmp_path, "program")
    settings = ["core.fsmonitor", "core.pager", "core.sshCommand", "core.editor", "core.askPass", "diff.external"]
    settings += [f"filter.planted.{kind}" for kind in ("clean", "smudge", "process")]
    settings += ["diff.planted.textconv", "diff.planted.command", "merge.planted.driver", "credential.helper"]

    def plant(folder: Path) -> None:
        (folder / ".gitattributes").write_text("* filter=planted diff=planted merge=planted\n")
        hooks = Path(git(folder, "rev-parse", "--absolute-git-dir")) / "hooks"
        hooks.mkdir(exist_ok=True)
        for name in HOOKS:
            (hooks / name).write_text(program.read_text())
            (hooks / name).chmod(0o755)
        for setting in settings:
            git(folder, "config", setting, str(program))
        git(folder, "config", "core.hooksPath", str(hooks))

    library = tmp_path / "library"
    library.mkdir()
    git(library, "init", "--quiet")
    (library / "code").write_text("code\n")
    git(library, "add", ".")
    git(library, "commit", "--quiet", "--message", "Library")
    git(repository, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(library), "part")
    git(repository, "commit", "--quiet", "--message", "Second")
    commit = git(repository, "rev-parse", "HEAD")
    plant(repository / "part")
    plant(repository)
    (repository / "inner" / "file").write_text("COMMITTED\n")  # as long as before: git must read it
    (repository / "part" / "code").write_text("CODE\n")
    seen.unlink(missing_ok=True)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert provenance.git(repository / "inner") == (commit, True)
    assert not seen.exists(), seen.read_text()
    assert provenance.ask_git(repository, "rev-parse", "--verify", "--quiet", "HEAD~1^{commit}") not in (None, commit)
    assert not seen.exists(), seen.read_text()
    monkeypatch.delenv("HF_TOKEN")
    git(repository, "status")
    assert "program" in seen.read_text(), "git itself runs what is planted"


def test_git_sees_nothing_of_the_environment_but_where_programs_are(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tmp_path / "seen"
    (tmp_path / "git").write_text(f"#!/bin/sh\nenv > {seen}\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name in ("HF_TOKEN", "GIT_DIR", "GIT_EXTERNAL_DIFF", "GIT_TRACE2_EVENT"):
        monkeypatch.setenv(name, "hf_secret")
    assert provenance.ask_git(repository, "rev-parse", "HEAD") == ""
    assert "hf_secret" not in seen.read_text()


def test_a_worktree_a_submodule_and_packed_references_are_read(repository: Path, tmp_path: Path) -> None:
    git(repository, "tag", "v1")
    git(repository, "pack-refs", "--all")
    git(repository, "gc", "--quiet")
    first = git(repository, "rev-parse", "HEAD")
    linked = tmp_path / "linked"
    git(repository, "worktree", "add", "--quiet", "-b", "other", str(linked))
    (linked / "inner" / "file").write_text("changed\n")
    assert provenance.git(linked) == (first, True)
    git(linked, "commit", "--quiet", "--all", "--message", "Second")
    second = git(linked, "rev-parse", "HEAD")
    assert provenance.git(linked / "inner") == (second, False)
    assert provenance.git(repository) == (first, False)
    for ref, commit in (("v1", first), ("other", second), (second[:10], second), ("other~1", first)):
        assert provenance.ask_git(repository, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}") == commit
    git(linked, "update-index", "--split-index")
    assert provenance.git(linked) == (second, False)


def test_a_repository_of_somebody_else_is_read_though_git_itself_would_not_trust_it(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(subprocess.CalledProcessError):
        git(repository, "rev-parse", "HEAD")
    assert provenance.git(repository) == (commit, False)


@pytest.mark.parametrize("damage", ["HEAD", "index", "objects"])
def test_what_a_damaged_repository_cannot_say_is_absent(repository: Path, damage: str) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    target = repository / ".git" / damage
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.write_bytes(b"\xff\0nothing")
    assert provenance.git(repository) == ((commit, None) if damage == "index" else (None, None))


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
