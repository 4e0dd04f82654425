"""A bundle as a file: a zip archive of uncompressed members, bounded and checked against the digests in its manifest.

The members are Parquet files, which are compressed internally. So nothing is decompressed here, and an extracted member
is never larger than the archive.
"""

import hashlib
import json
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from harness.artifacts import atomic, digest
from harness.errors import StoreError, UsageError

FORMAT = "adapter-harness runs"
MANIFEST = "manifest.json"
LARGEST_MANIFEST_BYTES = 100_000
LARGEST_BUNDLE_BYTES = 2**32 - 2**16
"""Keeps the archive free of zip64 records, so that none can mislead the reader."""
LARGEST_ROWS = 2**31
"""Limit for one table."""
_LARGEST_DIRECTORY_BYTES = 10_000
_CHUNK_BYTES = 2**20
_END = struct.Struct("<4s4H2LH")
"""The last record of a zip archive without a comment: 22 bytes."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A bundle's description of itself."""

    schema: int
    """Schema of the store that it was exported from."""
    rows: Mapping[str, int]
    """Number of rows by table."""


def pack(folder: Path, rows: Mapping[str, int], schema: int, path: Path) -> None:
    """Pack a folder's tables into a bundle, which appears only when it is complete.

    Args:
        rows: number of rows by table; each table's file is `TABLE.parquet`.
    """
    files = {
        f"{table}.parquet": {"sha256": digest.of_file(folder / f"{table}.parquet"), "rows": n}
        for table, n in rows.items()
    }
    manifest = {"format": FORMAT, "schema": schema, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    try:
        with (
            atomic.whole(path) as fresh,
            zipfile.ZipFile(fresh, "x", zipfile.ZIP_STORED, allowZip64=False) as packed,
        ):
            for name in (MANIFEST, *files):
                info = zipfile.ZipInfo(name)  # always with the same date, so that the same runs give the same bytes
                info.external_attr = 0o644 << 16
                _add(packed, info, folder / name)
    except zipfile.LargeZipFile:
        raise UsageError(f"{path}: would be larger than 4 GiB; export one suite at a time with --suite") from None
    except OSError as problem:
        raise StoreError(f"{path}: cannot be written ({problem.strerror}); nothing was left there") from None


def _add(packed: zipfile.ZipFile, info: zipfile.ZipInfo, file: Path) -> None:
    info.file_size = file.stat().st_size
    with file.open("rb") as source, packed.open(info, "w") as target:
        while chunk := source.read(_CHUNK_BYTES):
            target.write(chunk)


def unpack(path: Path, folder: Path, tables: Sequence[str], added: Sequence[str] = ()) -> Manifest:
    """Extract a bundle's tables into a folder, each as `TABLE.parquet`, and check their digests.

    Args:
        added: those of the tables that bundles of earlier releases lack, all of them or none.

    Raises:
        UsageError: it is not a bundle, truncated, damaged, too large, or has unexpected members.
    """
    try:
        with path.open("rb") as file:
            entries = _check_end(file, path, len(tables) + 1, len(tables) + 1 - len(added))
            if entries <= len(tables):
                tables = [table for table in tables if table not in added]
            expected = [MANIFEST, *(f"{table}.parquet" for table in tables)]
            with zipfile.ZipFile(file) as packed:
                _check_members(packed, expected, path)
                manifest, sums = _manifest(packed, tables, path)
                for name in expected[1:]:
                    _copy_member(packed, name, folder / name, sums[name], path)
    except (zipfile.BadZipFile, struct.error, NotImplementedError, RuntimeError, UnicodeError, EOFError) as problem:
        raise UsageError(f"{path}: is not a bundle, or damaged ({problem}); get a new copy") from None
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise UsageError(f"{path}: is a folder, not a bundle") from None
    return manifest


def _check_end(file: IO[bytes], path: Path, members: int, members_before: int) -> int:
    """Bound the archive's directory, which zipfile reads into memory, by the size stated in the last record.

    Args:
        members: number of a bundle's members.
        members_before: their number in earlier releases.

    Returns:
        The stated number of members.
    """
    size = file.seek(0, 2)
    if size > LARGEST_BUNDLE_BYTES:
        raise UsageError(f"{path}: has {size:,} bytes, but a bundle has at most {LARGEST_BUNDLE_BYTES:,}")
    file.seek(max(0, size - _END.size - 20))
    tail = file.read()
    if len(tail) < _END.size or tail[-_END.size :][:4] != b"PK\5\6" or tail[:4] == b"PK\6\7":
        raise UsageError(f"{path}: is not a bundle, or is truncated; get a new copy")
    _, _, _, _, entries, directory_bytes, _, comment = _END.unpack(tail[-_END.size :])
    if entries not in (members, members_before) or directory_bytes > _LARGEST_DIRECTORY_BYTES or comment:
        raise UsageError(f"{path}: is not a bundle: it has {entries} members, a bundle has {members}")
    file.seek(0)
    return int(entries)


def _check_members(packed: zipfile.ZipFile, expected: Sequence[str], path: Path) -> None:
    found = packed.infolist()
    if sorted(info.filename for info in found) != sorted(expected):
        raise UsageError(f"{path}: is not a bundle: its members are not {', '.join(expected)}")
    for info in found:
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size or info.flag_bits & 1:
            raise UsageError(f"{path}: {info.filename} is compressed or encrypted; a bundle's members never are")
    if sum(info.file_size for info in found) > LARGEST_BUNDLE_BYTES:
        raise UsageError(f"{path}: its members claim more bytes than the file has; get a new copy")


def _manifest(packed: zipfile.ZipFile, tables: Sequence[str], path: Path) -> tuple[Manifest, dict[str, str]]:
    with packed.open(MANIFEST) as file:
        data = file.read(LARGEST_MANIFEST_BYTES + 1)
    try:
        if len(data) > LARGEST_MANIFEST_BYTES:
            raise ValueError("it is too large")
        stated: Any = json.loads(data)
        if stated["format"] != FORMAT or type(stated["schema"]) is not int or stated["schema"] < 1:
            raise ValueError("it has another format")
        files = {table: stated["files"][f"{table}.parquet"] for table in tables}
        rows = {table: file["rows"] for table, file in files.items()}
        if not all(type(n) is int and 0 <= n <= LARGEST_ROWS for n in rows.values()):
            raise ValueError("its numbers of rows are impossible")
        return Manifest(stated["schema"], rows), {f"{table}.parquet": str(files[table]["sha256"]) for table in tables}
    except (ValueError, KeyError, TypeError, RecursionError) as problem:
        raise UsageError(f"{path}: its {MANIFEST} is invalid ({problem}); get a new copy") from None


def _copy_member(packed: zipfile.ZipFile, name: str, target: Path, expected: str, path: Path) -> None:
    whole = hashlib.sha256()
    with packed.open(name) as source, target.open("xb") as file:
        while chunk := source.read(_CHUNK_BYTES):
            whole.update(chunk)
            file.write(chunk)
    if whole.hexdigest() != expected:
        raise UsageError(f"{path}: {name} is damaged: its digest is not the manifest's; get a new copy")
