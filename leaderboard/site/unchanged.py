"""A rendered site that needs no second rendering, because all that it is made from is as it was.

Rendering is pure: the same boards and examples give the same files, as long as code, templates and packages are the
same. So one digest over all of these stands for the files. It is kept beside the store with a digest of each file; a
folder whose files still have these digests is left alone.
"""

import hashlib
import json
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from harness.artifacts import atomic, digest

MANIFEST = ".manifest.json"
"""Manifest beside the pages: the files that an earlier call made, which may be changed or removed."""
NAME = "site.json"
"""The file beside the store, in its cache: digests of the site that was rendered last."""
PACKAGES = ("altair", "jinja2", "markupsafe", "numpy", "pandas", "pyarrow", "scipy", "vl-convert-python")
"""Packages that decide a page's bytes."""


def made_from(*records: object) -> str:
    """Digest of records, of this project's code and templates, and of the packages that draw (64 hex digits)."""
    found = hashlib.sha256(_code().encode())
    for part in _parts(records):
        found.update(part)
    return found.hexdigest()


def standing(cache_folder: Path, inputs: str, out: Path) -> tuple[str, ...] | None:
    """Names of a site's files, where it was rendered from these inputs and each file is as it was rendered; else None.

    Args:
        cache_folder: the one that `keep` was called with.
        inputs: the digest by `made_from`.
        out: the site's folder.
    """
    try:
        kept = json.loads((cache_folder / NAME).read_bytes())
        files = dict(kept["files"])
        if kept["inputs"] != inputs or any(digest.of_file(out / name) != files[name] for name in files):
            return None
    except (OSError, ValueError, KeyError, TypeError):  # none was kept, or what was kept is damaged, or a file is gone
        return None
    return tuple(sorted(files.keys() - {MANIFEST}))


def keep(cache_folder: Path, inputs: str, out: Path, names: Collection[str]) -> None:
    """Keep the digests of a site that was just written, under the digest of its inputs."""
    found = {name: digest.of_file(out / name) for name in (*names, MANIFEST)}
    atomic.write(cache_folder / NAME, json.dumps({"inputs": inputs, "files": found}).encode())


@cache
def _code() -> str:
    """Digest of the interpreter, the packages that draw, and every file of this project's own packages."""
    versions: list[object] = [sys.version, *(metadata.version(name) for name in PACKAGES)]
    for package in ("harness", "leaderboard"):
        root = Path(str(resources.files(package)))
        versions += [
            [path.relative_to(root.parent).as_posix(), digest.of_file(path)]
            for path in sorted(root.rglob("*"))
            if path.is_file() and path.suffix != ".pyc"
        ]
    return digest.of_json(versions)


def _parts(value: Any) -> Iterator[bytes]:
    """Serialize records without ambiguity: every value with its type, every container with its length."""
    if is_dataclass(value) and not isinstance(value, type):
        yield f"{type(value).__qualname__}(".encode()
        for field in fields(value):
            yield from _parts(getattr(value, field.name))
    elif isinstance(value, BaseModel):
        yield f"{type(value).__qualname__}:{digest.of_json(value.model_dump(mode='json'))};".encode()
    elif isinstance(value, Mapping):
        yield f"map {len(value)}:".encode()
        for key, item in value.items():
            yield from _parts((key, item))
    elif isinstance(value, np.ndarray):
        yield f"array {value.dtype.str} {value.shape}:".encode()
        yield value.tobytes()
    elif isinstance(value, str):
        data = value.encode("utf-8", "surrogatepass")
        yield b"text %d:" % len(data)
        yield data
    elif isinstance(value, Sequence):
        yield f"list {len(value)}:".encode()
        for item in value:
            yield from _parts(item)
    elif value is None or isinstance(value, bool | int | float | datetime):
        yield f"{type(value).__name__} {value!r};".encode()
    else:
        raise TypeError(f"a {type(value).__name__} has no digest")
