"""Backends, metrics and sources of data that other installed packages add, by entry points.

    [project.entry-points."adapter_harness.metrics"]
    balanced_accuracy = "harness_balanced:balanced_accuracy"

Finding a plug-in reads metadata only. Its package is imported when a suite that names it is loaded, so that one that
cannot be used is refused before anything is trained or scored.
"""

import sys
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from importlib import metadata, util
from pathlib import Path
from typing import Any, Literal, TypeAlias

from harness.artifacts import digest
from harness.errors import UsageError, closest

Kind: TypeAlias = Literal["backend", "metric", "source"]
GROUP = "adapter_harness.{kind}s"
"""Name of the entry points of a kind."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The installed package that a plug-in comes from."""

    distribution: str
    version: str
    code: str
    """SHA-256 over the syntax trees of its modules, so that an edit counts although the version stays."""

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}, code {self.code[:12]}"


@cache
def _entries(kind: Kind) -> tuple[metadata.EntryPoint, ...]:
    """Entry points of installed packages; the first of several packages of one name counts, as on import.

    Relative places on the search path, such as those of editable installations, are left out: they would be looked up
    in the folder of the call, where an unpacked archive may lie.
    """
    absolute = [place for place in sys.path if Path(place).is_absolute()]
    found: dict[str, tuple[metadata.EntryPoint, ...]] = {}
    for distribution in metadata.distributions(path=absolute):
        if entries := tuple(distribution.entry_points.select(group=GROUP.format(kind=kind))):
            found.setdefault(distribution.name, entries)
    return tuple(entry for entries in found.values() for entry in entries)


def names(kind: Kind) -> list[str]:
    """The names of a kind that installed packages add, sorted."""
    return sorted({entry.name for entry in _entries(kind)})


def check(kind: Kind, name: str, built_in: Collection[str]) -> None:
    """Check that a name has exactly one meaning, and import its plug-in if it is not built in.

    Raises:
        ValueError: it has none or several, or the plug-in cannot be imported.
    """
    if (problem := _problem(kind, name, built_in)) is not None:
        raise ValueError(problem)


def shadowing(kind: Kind, name: object, built_in: Collection[str]) -> str | None:
    """Describe the plug-ins that would replace what is built in; None if there are none."""
    packages = [_package(entry) for entry in _entries(kind) if entry.name == name]
    if name not in built_in or not packages:
        return None
    return (
        f"{kind} {name!r} is built in, and {' and '.join(packages)} would replace it; rename it there, or uninstall "
        "that package"
    )


def _problem(kind: Kind, name: str, built_in: Collection[str]) -> str | None:
    if name in built_in:
        return shadowing(kind, name, built_in)
    packages = [_package(entry) for entry in _entries(kind) if entry.name == name]
    if not packages:
        return unknown(kind, name, built_in)
    if len(packages) > 1:
        return f"{' and '.join(packages)} both add {kind} {name!r}; uninstall one of them"
    try:
        load(kind, name)
    except UsageError as problem:
        return str(problem)
    return None


def unknown(kind: Kind, name: str, built_in: Collection[str]) -> str:
    """Describe a name that is neither built in nor a plug-in's, with the known ones and the remedy."""
    known = [*built_in, *names(kind)]
    return (
        f"there is no {kind} {name!r}{closest(name, known)} (known: {', '.join(known)}); if a package adds it, install "
        "that package"
    )


def load(kind: Kind, name: str) -> Any:
    """Import what a plug-in adds: a function, or a metric's definition.

    Raises:
        UsageError: it cannot be imported.
    """
    entry = _one(kind, name)
    try:
        return entry.load()
    except (Exception, SystemExit) as problem:  # noqa: BLE001 (a foreign package may raise anything)
        reason = " ".join(str(problem).split()) or "no reason given"
        raise UsageError(
            f"{kind} {name!r} of {_package(entry)} cannot be imported ({type(problem).__name__}: {reason}); reinstall "
            "or repair that package"
        ) from None


@cache
def origin(kind: Kind, name: str) -> Origin:
    """The release and the code of the package that adds this name.

    Raises:
        UsageError: none does.
    """
    entry = _one(kind, name)
    assert entry.dist is not None  # entry points that are found have one
    return Origin(entry.dist.name, entry.dist.version, _code(entry.module))


def _one(kind: Kind, name: str) -> metadata.EntryPoint:
    found = [entry for entry in _entries(kind) if entry.name == name]
    if not found:
        raise UsageError(f"there is no {kind} {name!r}; if a package adds it, install that package")
    return found[0]


def _package(entry: metadata.EntryPoint) -> str:
    return "a package" if entry.dist is None else f"package {entry.dist.name} {entry.dist.version}"


def _code(module: str) -> str:
    """Digest of the modules of a plug-in's top package."""
    found = util.find_spec(module.partition(".")[0])
    folders = [Path(folder) for folder in (found and found.submodule_search_locations) or ()]
    files = sorted((file, file.relative_to(folder)) for folder in folders for file in folder.rglob("*.py"))
    if not folders and found is not None and found.origin is not None and found.origin.endswith(".py"):
        files = [(Path(found.origin), Path(Path(found.origin).name))]
    return digest.of_json([[name.as_posix(), digest.of_source(file.read_bytes())] for file, name in files])
