"""SHA-256 over files, canonical JSON and syntax trees: the only way this project identifies content.

Weights take seconds to minutes to read. Within `remembering`, the digests of large files are kept, and a file whose
size, place on the disk and times of change are those of before is not read again, as git does it. That is enough to
look at stored results; `read_remembered` reads what was not, before weights are used.
"""

import ast
import hashlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.artifacts import atomic
from harness.errors import DataError

LARGE = 2**20
"""Bytes from which a file's digest is kept: smaller ones are read in a millisecond."""
SETTLED_SECONDS = 2.0
"""Age of a file's last change from which its times show whether it was changed since: clocks of file systems tick."""


@dataclass(frozen=True, slots=True)
class _State:
    """Properties of a file of which one changes with every change of the file."""

    size: int
    inode: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> "_State":
        found = path.stat()
        return cls(found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)


@dataclass(slots=True)
class _Memory:
    """Digests of large files: those of this block, and in a folder those of earlier ones."""

    folder: Path
    read: dict[Path, tuple[_State, str]] = field(default_factory=dict)
    unread: dict[Path, tuple[_State, str]] = field(default_factory=dict)

    def of_file(self, path: Path) -> str:
        place = path.resolve()
        state = _State.of(place)
        if state.size < LARGE:
            return of_file(place)
        for known in (self.read, self.unread):
            if place in known and known[place][0] == state:
                return known[place][1]
        entry = self.entry(place)
        if (kept := _kept(entry, state)) is not None:
            self.unread[place] = state, kept
            return kept
        found = of_file(place)
        age = time.time_ns() - max(state.modified_ns, state.changed_ns)
        if _State.of(place) == state and age > SETTLED_SECONDS * 1e9:
            self.read[place] = state, found
            # A store may be read where nothing can be written.
            with suppress(OSError), atomic.whole(entry, durable=False) as fresh:
                fresh.write_text(json.dumps(asdict(state) | {"sha256": found}), encoding="utf-8")
        return found

    def entry(self, place: Path) -> Path:
        """The file that keeps the digest of the file at a place."""
        return self.folder / f"{of_bytes(str(place).encode())[:32]}.json"


_memory: ContextVar[_Memory | None] = ContextVar("_memory", default=None)


def _kept(entry: Path, state: _State) -> str | None:
    """The digest in an entry, if it is of a file in this state."""
    try:
        kept = json.loads(entry.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    sha256 = kept.get("sha256") if isinstance(kept, dict) else None
    return sha256 if isinstance(sha256, str) and kept == asdict(state) | {"sha256": sha256} else None


@contextmanager
def remembering(folder: Path) -> Iterator[None]:
    """Keep the digests of large files in a folder, and within the block read no file that seems unchanged since.

    Whoever uses weights in the block calls `read_remembered` first.
    """
    token = _memory.set(_Memory(folder))
    try:
        yield
    finally:
        _memory.reset(token)


def read_remembered() -> None:
    """Read the files whose digests this block took from earlier ones, several at a time.

    Raises:
        DataError: one of them is not what it was.
    """
    memory = _memory.get()
    if memory is None or not memory.unread:
        return
    remembered = list(memory.unread.items())
    memory.unread.clear()
    with ThreadPoolExecutor() as threads:  # digests need no lock
        found = list(threads.map(_read_in_state, remembered))
    for (place, (state, kept)), true in zip(remembered, found, strict=True):
        if true is None:
            continue
        if true != kept:
            memory.entry(place).unlink(missing_ok=True)
            raise DataError(
                f"{place}: its bytes are not those that were read before, though its size and times are; run the "
                "command again, which reads it anew"
            )
        memory.read[place] = state, kept


def _read_in_state(remembered: tuple[Path, tuple[_State, str]]) -> str | None:
    """The digest of a file; None if it was changed or removed meanwhile, which whoever uses it next comes to see."""
    place, (state, _) = remembered
    try:
        return of_file(place) if _State.of(place) == state else None
    except OSError:
        return None


def of_weights(path: Path) -> str:
    """Hex SHA-256 of a file whose contents are used only after `read_remembered`; within `remembering` it may be kept.

    For a file that is read at once, `of_file` is the right one.
    """
    memory = _memory.get()
    return of_file(path) if memory is None else memory.of_file(path)


def of_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, which are read (64 characters)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_bytes(data: bytes) -> str:
    """Hex SHA-256 of bytes (64 characters)."""
    return hashlib.sha256(data).hexdigest()


def of_json(value: Any) -> str:
    """Hex SHA-256 of a JSON-serializable value, independent of key order (64 characters)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def of_files(folder: Path, names: list[str]) -> str:
    """Hex SHA-256 over the named files of a folder, including their names; absent files are ignored."""
    return of_json({name: of_weights(folder / name) for name in names if (folder / name).is_file()})


def of_source(source: bytes) -> str:
    """Hex SHA-256 of a Python module's syntax tree, ignoring docstrings, comments and layout (64 characters).

    The tree is serialized here rather than by `ast.dump`, whose format changes between Python releases.
    """
    parts: list[str] = []
    _write(ast.parse(source), parts)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _write(node: Any, parts: list[str]) -> None:
    if isinstance(node, ast.AST):
        parts.append(type(node).__name__)
        for name in node._fields:
            value = getattr(node, name, None)
            if name == "body" and isinstance(value, list):
                value = [item for item in value if not _is_bare_text(item)]
            if value is not None and value != [] and name != "ctx":
                parts.append(name)
                _write(value, parts)
        parts.append(")")
    elif isinstance(node, list):
        for item in node:
            _write(item, parts)
        parts.append("]")
    else:
        parts.append(repr(node))


def _is_bare_text(node: ast.AST) -> bool:
    """True for a docstring, including one below a field."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
