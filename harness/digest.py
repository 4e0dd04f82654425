"""SHA-256 over files and over canonical JSON: the one way in which this project names content."""

import hashlib
import json
from pathlib import Path
from typing import Any


def of_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes (64 characters)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_json(value: Any) -> str:
    """Hex SHA-256 of a JSON-able value, independent of key order (64 characters)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def of_files(folder: Path, names: list[str]) -> str:
    """Hex SHA-256 over the named files of a folder, their names included; files that are absent do not count."""
    return of_json({name: of_file(folder / name) for name in names if (folder / name).is_file()})
