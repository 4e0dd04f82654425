"""What surrounded a run: package versions, processor, git commit. Read from metadata; no package is imported."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path

SCORING_PACKAGES = ("torch", "transformers", "tokenizers", "peft", "numpy", "scikit-learn")
"""Packages whose release can change predictions; they are part of each run key."""

RUNTIME_PACKAGES = ("openvino", "nncf")
"""The same for models with `runtime = "openvino"`: part of the run keys of these alone."""


def now() -> datetime:
    """The time in UTC without a zone, as the store keeps it."""
    return datetime.now(UTC).replace(tzinfo=None)


@cache
def packages() -> dict[str, str]:
    """Versions of the harness and of the packages that can change predictions; absent ones are left out."""
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
    """Processor, its usable cores and its number formats."""
    cpu = _cpu_info()
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "processor": cpu.get("model name", platform.processor()),
        "cores": cores(),
        "bf16": int(has_fast_bf16()),
    }


@cache
def has_fast_bf16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware; elsewhere it is emulated and slower than float32."""
    return bool(_cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"})


@cache
def has_fast_int8() -> bool:
    """Whether the processor multiplies and adds up int8 in one instruction; elsewhere it is no faster than float32."""
    return bool(_cpu_flags() & {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})


def _cpu_flags() -> set[str]:
    """What the processor has, as Linux names it on x86 and on ARM."""
    return set(_cpu_info().get("flags", _cpu_info().get("Features", "")).split())


@cache
def git(folder: Path) -> tuple[str | None, bool | None]:
    """Commit of the repository around `folder`, and whether tracked files differ from it; (None, None) outside one."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return commit, bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return None, None


def _git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True, text=True).stdout.strip()


@cache
def _cpu_info() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return {}
    pairs = (line.split(":", 1) for line in path.read_text().split("\n\n")[0].splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}
