"""SHA-256 over files, canonical JSON and syntax trees: the only way this project identifies content."""

import ast
import hashlib
import json
from pathlib import Path
from typing import Any


def of_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes (64 characters)."""
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
    return of_json({name: of_file(folder / name) for name in names if (folder / name).is_file()})


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
