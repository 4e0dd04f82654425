"""Local files in every format, and splits loaded from them."""

import bz2
import gzip
import io
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness import data
from harness.data.source import Places, Row
from harness.records import Split
from harness.suite.schema import FileSplit
from harness.suite.splits import JoinedText

ROWS = [
    Row("Great CD", 'She said "play it again", and again.', 1, None),
    Row("", "no title\nbut two lines", 0, None),
    Row("Ends with a colon:", " spaces around, and a comma ", 0, None),
    Row("naïve ☕", "", 1, None),
]
MIB = 2**20


def csv_bytes(rows: Sequence[Row]) -> bytes:
    """The original shape: all quoted, quotes doubled, newlines as two characters."""
    cells = [[str(row.label + 1), *(text.replace("\n", "\\n") for text in (row.title, row.content))] for row in rows]
    return "".join(",".join('"' + cell.replace('"', '""') + '"' for cell in line) + "\n" for line in cells).encode()


def jsonl_bytes(rows: Sequence[Row], *, ascii_only: bool = True) -> bytes:
    lines = [{"label": row.label, "title": row.title, "content": row.content} for row in rows]
    return "".join(json.dumps(line, ensure_ascii=ascii_only) + "\n" for line in lines).encode()


def fasttext_bytes(rows: Sequence[Row]) -> bytes:
    return "".join(f"__label__{row.label + 1} {row.title}: {row.content}\n" for row in rows).encode()


def parquet_bytes(columns: Mapping[str, Any], **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(dict(columns)), sink, **options)
    return sink.getvalue()


def parquet_of(rows: Sequence[Row], **options: Any) -> bytes:
    columns = {name: [getattr(row, name) for row in rows] for name in ("label", "title", "content")}
    schema = [("label", pa.int64()), ("title", pa.string()), ("content", pa.string())]
    return parquet_bytes({name: pa.array(columns[name], type_) for name, type_ in schema}, **options)


JOINED = JoinedText(column="text", separator="\n\n")


def joined_as(format: str, rows: Sequence[Row], separator: str = "\n\n") -> bytes:
    """The same rows with title and content in one column, beside one that nothing reads."""
    lines = [
        {"label": row.label, "text": row.title + separator + row.content, "label_text": "positive" * row.label}
        for row in rows
    ]
    if format == "parquet":
        return parquet_bytes({name: [line[name] for line in lines] for name in lines[0]}, row_group_size=3)
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def zstd(plain: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(plain)
    return bytes(sink.getvalue().to_pybytes())


WRITERS: Mapping[str, Callable[[Sequence[Row]], bytes]] = {
    "parquet": parquet_of,
    "csv": csv_bytes,
    "jsonl": jsonl_bytes,
    "fasttext": fasttext_bytes,
}
PACKERS: Mapping[str, Callable[[bytes], bytes]] = {
    "": lambda plain: plain,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": zstd,
}


def rule(path: str, format: str, **changes: Any) -> FileSplit:
    fields: dict[str, Any] = {"id": "rows", "source": "file", "path": path, "format": format}
    return FileSplit(**fields | changes)


def load(folder: Path, path: str, format: str, **changes: Any) -> Split:
    """Load a file of a folder as a split."""
    return data.load_split(rule(path, format, **changes), Places(folder, folder, None))


def load_bytes(content: bytes, format: str, suffix: str = "", **changes: Any) -> Split:
    """Load these bytes as a split, from a file of their own."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"rows.{format}{suffix}").write_bytes(content)
        return load(Path(folder), f"rows.{format}{suffix}", format, **changes)


def table_as(format: str, lines: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows with columns of any name, in the format; those that a row lacks are null in Parquet."""
    if format == "parquet":
        names = dict.fromkeys(name for line in lines for name in line)
        return parquet_bytes({name: [line.get(name) for line in lines] for name in names})
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def rows_of(split: Split) -> list[Row]:
    return [Row(e.title, e.content, e.label, e.cluster) for e in split.examples]


STARS: list[dict[str, Any]] = [
    {"label": 1, "title": "a", "content": "b", "stars": 5, "kind": "toys", "price": 2.5, "verified": True},
    {"label": 0, "title": "c", "content": "d", "stars": 1, "kind": None, "price": 3.0, "verified": False},
    {"label": 0, "title": "e", "content": "f", "stars": 2, "kind": "toys"},
]


def numbered(n: int, labels: Sequence[int] | None = None) -> list[Row]:
    return [Row(f"title {i}", f"text {i}", labels[i] if labels else i % 2, None) for i in range(n)]
