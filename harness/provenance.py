"""A run's environment: package versions, processor, git commit. Read from metadata; no package is imported."""

import os
import platform
import re
import subprocess
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path

SCORING_PACKAGES = ("torch", "transformers", "tokenizers", "peft", "numpy", "scikit-learn")
"""Packages whose release can change predictions; they are part of every run key."""

RUNTIME_PACKAGES = ("openvino", "nncf")
"""The same for models with `runtime = "openvino"`: part of the run keys of these models only."""


def now() -> datetime:
    """The current time in UTC without a time zone, as the store keeps it."""
    return datetime.now(UTC).replace(tzinfo=None)


@cache
def packages() -> dict[str, str]:
    """Versions of the harness and of the packages that can change predictions; those not installed are left out."""
    found = {}
    for name in ("adapter-harness", *SCORING_PACKAGES, *RUNTIME_PACKAGES):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def hardware() -> dict[str, str | int]:
    """The processor, its usable cores and its number formats."""
    cpu = _cpu_info()
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "processor": cpu.get("model name", platform.processor()),
        "cores": cores(),
        "bf16": int(has_fast_bf16()),
    }


def accelerators(system: Path = Path("/")) -> dict[str, str]:
    """The driver and the models of this machine's accelerators, as Linux states them; empty where it states none.

    Args:
        system: root of the file system.
    """
    found = {}
    nvidia = _driver_version(system / "proc/driver/nvidia/version")
    amd = _first_line_of(system / "sys/module/amdgpu/version")
    drivers = [f"{maker} {version}" for maker, version in (("nvidia", nvidia), ("amdgpu", amd)) if version]
    if drivers:
        found["driver"] = ", ".join(drivers)
    models = {_model(path) for path in (system / "proc/driver/nvidia/gpus").glob("*/information")}
    if models := models - {""}:
        found["accelerator"] = ", ".join(sorted(models))
    return found


def _driver_version(path: Path) -> str:
    """The version in a line such as `NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 …`."""
    words = _first_line_of(path).split()
    return next((word for word in words if re.fullmatch(r"\d+(\.\d+)+", word)), "")


def _model(path: Path) -> str:
    """The model in a driver's description of one device."""
    with suppress(OSError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("Model:"):
                return line.partition(":")[2].strip()
    return ""


def _first_line_of(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").partition("\n")[0].strip()
    return ""


@cache
def has_fast_bf16() -> bool:
    """True if the processor multiplies bfloat16 in hardware; elsewhere it is emulated and slower than float32."""
    return bool(_cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"})


@cache
def has_fast_int8() -> bool:
    """True if the processor multiplies and accumulates int8 in one instruction; else int8 is no faster than float32."""
    return bool(_cpu_flags() & {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})


def _cpu_flags() -> set[str]:
    """The processor's features, as Linux names them on x86 and on ARM."""
    return set(_cpu_info().get("flags", _cpu_info().get("Features", "")).split())


def git(folder: Path) -> tuple[str | None, bool | None]:
    """Commit of the repository around `folder`, and whether tracked files differ; None where git has no answer."""
    commit = ask_git(folder, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    if commit is None:
        return None, None
    # In submodules git would use their own configuration. It still notices a submodule moved to another commit.
    changed = ask_git(folder, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=dirty")
    return commit, None if changed is None else bool(changed)


GIT_SECONDS = 60
"""Time limit for an answer from git; a repository can be crafted to make git read for ever."""
_HEAD_BYTES = 4096


def ask_git(folder: Path, *words: str) -> str | None:
    """Git's output about the repository around `folder`, without using that repository's configuration.

    Configuration can name programs that git then runs: `core.fsmonitor`, hooks, filters of `.gitattributes`. A folder
    unpacked from an archive may contain all of it, so git is shown another repository: the objects, references and
    index of this one with an empty configuration. No environment variable but PATH is passed on.

    Returns:
        None outside a repository, where git is not installed, or where git cannot answer under these conditions.
    """
    try:
        found = _repository(folder.resolve())
        if found is None:
            return None
        worktree, own, common = found
        with tempfile.TemporaryDirectory(prefix="harness-git-") as made:
            bare = Path(made)
            _without_configuration(bare, own, common)
            environment = {
                "GIT_DIR": str(bare),
                "GIT_WORK_TREE": str(worktree),
                "GIT_OBJECT_DIRECTORY": str(common / "objects"),
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_CONFIG_GLOBAL": os.devnull,
                "GIT_ATTR_NOSYSTEM": "1",
                "GIT_OPTIONAL_LOCKS": "0",
                "GIT_NO_LAZY_FETCH": "1",
                "GIT_TERMINAL_PROMPT": "0",
                "HOME": str(bare),  # git before 2.32 looks for the user's configuration there
                "LC_ALL": "C",
            }
            environment |= {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
            done = subprocess.run(
                ["git", *words],
                cwd=worktree,
                env=environment,
                check=True,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=GIT_SECONDS,
            )
        return done.stdout.decode("utf-8", "replace").strip()
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def _repository(folder: Path) -> tuple[Path, Path, Path] | None:
    """Work tree, own git folder and shared git folder of the repository around a folder."""
    for worktree in (folder, *folder.parents):
        own = worktree / ".git"
        if own.is_file():  # a worktree's, or a submodule's
            own = worktree / _first_line(own).removeprefix("gitdir: ")
        if (own / "HEAD").is_file():
            shared = own / "commondir"
            return worktree, own, own / _first_line(shared) if shared.is_file() else own
    return None


def _first_line(path: Path) -> str:
    """The first line of one of git's small files."""
    with path.open(encoding="utf-8") as file:
        return file.read(_HEAD_BYTES).partition("\n")[0]


def _without_configuration(made: Path, own: Path, common: Path) -> None:
    """Fill a git folder with a repository's head, references and index, but nothing that names a program."""
    head = _first_line(own / "HEAD")
    (made / "HEAD").write_text(f"{head}\n", encoding="utf-8")
    (made / "config").write_text("[core]\n\trepositoryformatversion = 0\n\tbare = false\n", encoding="utf-8")
    shared = [common / name for name in ("refs", "packed-refs", "shallow")]
    for path in [*shared, own / "index", *own.glob("sharedindex.*")]:
        if path.exists():
            (made / path.name).symlink_to(path.absolute())


@cache
def _cpu_info() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return {}
    pairs = (line.split(":", 1) for line in path.read_text().split("\n\n")[0].splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}
