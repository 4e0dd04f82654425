"""Rows of a local file: Parquet, the original CSV, JSON Lines or fastText lines.

Texts are used exactly as written: nothing is stripped or folded, and empty titles and contents are kept (the audit
counts them). So the same row has the same example id in every format that can express it. Limits of the formats:

- CSV writes a newline as the two characters `\\n`, and has no way to write these two themselves: `C:\\new` is read with
  a newline in it. Parquet keeps the text as it is.
- fastText writes `title: content`, which is split at the first `: `. A title that contains `: ` itself loses its tail
  to the content: the label is right, but the title, the content and so the ids differ from those of other formats. (A
  title that ends with `:` is split correctly.) A line without `: ` is content without a title. Newlines cannot be
  written.

A split of whole files therefore has one digest in Parquet, CSV and JSON Lines, unless texts contain a backslash before
an `n`, and another in fastText as soon as one title contains `: ` (40 of 5,000 rows drawn from Amazon Polarity's train
split have such a title). A file made from fastText lines keeps their split, whatever its format is now.

Text files are UTF-8 with one row per line. They are read again for each request and never held in memory: a line has at
most `MAX_LINE_BYTES`, and at any point a compressed file may have unpacked to at most `FREE_BYTES` plus `MAX_RATIO`
times the bytes read. A byte order mark at the start is not part of the text, nor is a carriage return at the end of a
line.
"""

import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from harness.data.parquet import ParquetRows
from harness.data.source import FREE_BYTES, MAX_RATIO, Places, Row, Rows, Streamed
from harness.errors import DataError
from harness.suite.schema import FileSplit

COMPRESSIONS: Mapping[str, str] = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
"""Suffix to Arrow's name for the codec."""
LOCAL_COPIES = "$HARNESS_DATA"
MAX_LINE_BYTES = 16 * 2**20
BUFFER_BYTES = 2**16
MAX_DIGITS = 20

CLASSES = {"1": 0, "2": 1}
"""Class in the original files to label."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
CSV_CELL = re.compile(r'(?:"([^"]*+(?:""[^"]*+)*+)"|([^",]*+))(,|\Z)')
"""One cell with its terminator. Quantifiers are possessive, so that a quoted cell is never parsed in a second way."""
OTHER_SEPARATOR = re.compile(r'\s*(?:"[^"]*"|[^",;\t|]*)\s*([;\t|])')
"""The first cell of a table that is not separated by commas, with its separator."""
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
OTHER_ENCODINGS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
"""Byte order mark to its encoding."""
SURROGATE = re.compile("[\ud800-\udfff]")


def rows(rule: FileSplit, places: Places) -> Rows:
    """The rule's rows, in the file's order.

    Raises:
        DataError: the path does not exist or leads out of its folder, or the file does not have the stated `format`.
            Malformed rows are found when they are read: in text formats any row of the file; in Parquet any label, and
            the texts of the selected rows.
    """
    where = f"split {rule.id}: {rule.path}"
    path = _regular_file(_path(rule.path, places, where), where)
    codec = COMPRESSIONS.get(Path(rule.path).suffix.lower())  # by the name, not by the target of a link
    if rule.format != "parquet":
        return Streamed(lambda: _parsed(_lines(path, codec, where), rule, where))
    if codec is not None:
        raise DataError(f"{where}: Parquet is compressed internally and is not read from {codec}; unpack the file")
    return ParquetRows(path, rule, where)


def _path(declared: str, places: Places, where: str) -> Path:
    """A declared path with its links resolved, in the suite's folder or in the folder of local copies.

    Raises:
        DataError: the path is absolute, leaves its folder, or that folder is unknown.
    """
    folder, name, within = places.suite_dir, declared, "the suite's folder"
    first, _, rest = declared.partition("/")
    if first == LOCAL_COPIES:
        if places.local_copies is None:
            raise DataError(f"{where}: HARNESS_DATA is not set; set it to the folder of your local copies")
        if not places.local_copies.is_dir():
            raise DataError(f"{where}: HARNESS_DATA is {places.local_copies}, which is not a folder; set it to one")
        folder, name, within = places.local_copies, rest, f"the folder of {LOCAL_COPIES}"
    if Path(name).is_absolute():
        raise DataError(
            f"{where}: is absolute, so it would differ between machines; name the file relative to the suite, "
            f"or as {LOCAL_COPIES}/…"
        )
    try:
        root = folder.resolve()
        path = (root / name).resolve()
    except (OSError, RuntimeError, ValueError) as problem:  # a loop of links; a NUL
        raise DataError(f"{where}: is not a path ({problem}); correct it") from None
    if not path.is_relative_to(root):
        raise DataError(f"{where}: leads out of {within}; move or copy the file there")
    return path


def _regular_file(path: Path, where: str) -> Path:
    try:
        if path.is_file():
            return path
        problem = "is not a regular file" if path.exists() else "there is no such file"
        problem = "is a folder" if path.is_dir() else problem
    except OSError as failure:
        problem = f"cannot be read ({failure.strerror})"
    raise DataError(f"{where}: {problem}; `path` must name one file")


def _parsed(lines: Iterator[bytes], rule: FileSplit, where: str) -> Iterator[Row]:
    """The rows of a text file's lines.

    Raises:
        DataError: a line is malformed, with its number counted from 1; or, at the end, no row has a slice column.
    """
    number, parse, unseen = 0, PARSERS[rule.format], set(rule.slice_columns)
    for number, line in enumerate(lines, start=1):
        try:
            row = parse(_decoded(line), rule)
        except ValueError as problem:
            raise DataError(f"{where}: line {number}: {problem}") from None
        unseen -= row.columns.keys()
        yield row
    if not number:
        raise DataError(f"{where}: is empty; a split needs rows")
    if unseen:
        raise DataError(f"{where}: no row has {' or '.join(map(repr, sorted(unseen)))}; correct slice_columns")


def _lines(path: Path, codec: str | None, where: str) -> Iterator[bytes]:
    """The lines of a plain or compressed file without line ends, none longer than `MAX_LINE_BYTES`."""
    number = 0
    try:
        with pa.OSFile(str(path)) as packed, _unpacked(packed, codec) as file:
            unpacked = 0
            while line := file.readline(MAX_LINE_BYTES + 1):
                number, unpacked = number + 1, unpacked + len(line)
                if len(line) > MAX_LINE_BYTES:
                    raise DataError(
                        f"{where}: line {number}: is longer than {MAX_LINE_BYTES // 2**20} MiB; no review is, so the "
                        "file was refused: check that it has one row per line"
                    )
                if codec and unpacked > FREE_BYTES + MAX_RATIO * packed.tell():
                    raise DataError(
                        f"{where}: line {number}: unpacks to more than {MAX_RATIO} times its size and was refused; if "
                        "that is correct, unpack the file yourself"
                    )
                if number == 1:
                    line = line.removeprefix(BYTE_ORDER_MARK)
                    if (encoding := OTHER_ENCODINGS.get(line[:2])) is not None:
                        raise DataError(f"{where}: is {encoding}; save it as UTF-8")
                yield line.removesuffix(b"\n").removesuffix(b"\r")
    except OSError as problem:
        kind, remedy = (f" as {codec}", ", or correct its suffix") if codec else ("", "")
        raise DataError(
            f"{where}: is not readable{kind} after line {number}: {problem}; get a new copy of the file{remedy}"
        ) from None


def _unpacked(packed: Any, codec: str | None) -> io.BufferedReader:
    raw = packed if codec is None else pa.CompressedInputStream(packed, codec)
    return io.BufferedReader(raw, BUFFER_BYTES)


def _decoded(line: bytes) -> str:
    if not line:
        raise ValueError("is empty; remove it")
    if line.startswith(BYTE_ORDER_MARK):
        raise ValueError("begins with a byte order mark, as if files were joined; remove it")
    if b"\0" in line:
        raise ValueError("contains a NUL byte; remove it, or check that the file is plain UTF-8 text")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise ValueError(
            f"is not UTF-8 (byte {problem.start + 1}); convert the file, or, if it is compressed, give it the right "
            f"suffix ({', '.join(COMPRESSIONS)})"
        ) from None


def _from_csv(line: str, _: FileSplit) -> Row:
    """Parse `"2","title","content"`: quotes doubled, newlines as `\\n`. Unquoted cells are accepted too."""
    label, title, content = _three_cells(line)
    if label not in CLASSES:
        _check_separator(line)
        header = "" if label.isdigit() else "; this format has no header line"
        raise ValueError(f"class {label!r:.40} is neither 1 (negative) nor 2 (positive){header}")
    return Row(title.replace("\\n", "\n"), content.replace("\\n", "\n"), CLASSES[label], None)


def _three_cells(line: str) -> Sequence[str]:
    cells: list[str] = []
    position, ended = 0, False
    while not ended and len(cells) <= 3:
        cell = CSV_CELL.match(line, position)
        if cell is None:
            _check_separator(line)
            raise ValueError(
                f"column {len(cells) + 1} has a quote that is not closed or not doubled; in this format a row is one "
                'line, a quote in a text is "" and a newline is \\n'
            )
        quoted, bare, end = cell.groups()
        cells.append(bare if quoted is None else quoted.replace('""', '"'))
        position, ended = cell.end(), not end
    if len(cells) != 3:
        _check_separator(line)
        found = "more than 3" if len(cells) > 3 else len(cells)
        raise ValueError(f"{found} columns, expected 3: class, title, content")
    return cells


def _check_separator(line: str) -> None:
    """Raise if a malformed line comes from a table with another separator."""
    if (found := OTHER_SEPARATOR.match(line)) is not None:
        raise ValueError(
            f"is separated by {SEPARATORS[found[1]]}; this format needs commas, so save the file with commas, or as "
            "JSON Lines or Parquet"
        )


def _from_fasttext(line: str, _: FileSplit) -> Row:
    """Parse `__label__2 title: content`, split at the first `: `; without one, all is content."""
    label, _space, text = line.partition(" ")
    name = label.removeprefix("__label__")
    if name == label:
        raise ValueError("does not begin with a label; a line must be `__label__1 title: content`")
    if name not in CLASSES:
        raise ValueError(f"label {label!r:.40} is neither __label__1 (negative) nor __label__2 (positive)")
    if not text:
        raise ValueError(f"has no text after {label}; remove it, or write its title and content")
    title, cut, content = text.partition(": ")
    return Row(title, content, CLASSES[name], None) if cut else Row("", text, CLASSES[name], None)


def _from_json(line: str, rule: FileSplit) -> Row:
    """Parse `{"label": 1, "title": …, "content": …}`; an absent or null title is empty, other keys are ignored."""
    joined, cluster = rule.text, rule.cluster
    try:
        row = JSON.decode(line)
    except json.JSONDecodeError as problem:
        raise ValueError(f"is not one JSON object ({problem.msg}, column {problem.colno})") from None
    except RecursionError:
        raise ValueError("is nested too deeply to be a row") from None
    if not isinstance(row, dict):
        raise ValueError(f"must be a JSON object with label and content, not {_kind(row)}")
    needed = dict.fromkeys(["label", joined.column if joined else "content", *([cluster] if cluster else [])])
    absent = [repr(name) for name in needed if name not in row]
    if absent:
        raise ValueError(f"has no {' and no '.join(absent)} (found: {', '.join(map(repr, row)) or 'nothing':.200})")
    if type(row["label"]) is not int or row["label"] not in (0, 1):  # True equals 1 but is not a label
        raise ValueError(f"label {json.dumps(row['label']):.40} is neither 0 (negative) nor 1 (positive)")
    if joined:
        title, content = joined.cut(_text(row, joined.column))
    else:
        title, content = "" if row.get("title") is None else _text(row, "title"), _text(row, "content")
    columns = {name: _slice(row, name) for name in rule.slice_columns if name in row}
    return Row(title, content, row["label"], _cluster(row, cluster) if cluster else None, columns)


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row[name]
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a string, not {_kind(value)}")
    if "\0" in value:
        raise ValueError(f"{name} contains a NUL character; remove it")
    if SURROGATE.search(value):
        raise ValueError(f"{name} contains half of a surrogate pair, which is not a character; remove it")
    return value


def _cluster(row: Mapping[str, Any], name: str) -> str:
    """The cluster as text. Never None: one row without a cluster would make all rows count as independent."""
    return str(row[name]) if type(row[name]) is int else _text(row, name)


def _slice(row: Mapping[str, Any], name: str) -> str:
    """A slice value as text, as Python writes it."""
    value = row[name]
    if isinstance(value, dict | list):
        raise ValueError(f"{name} must be a string, a number, true, false or null, not {_kind(value)}")
    if isinstance(value, str):
        return _text(row, name)
    return "" if value is None else str(value)


def _kind(value: object) -> str:
    """The JSON name of a value's type, for messages."""
    names = {dict: "an object", list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object's keys and values; duplicate keys are an error."""
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"names {next(name for name in names if names.count(name) > 1)!r:.40} twice")
    return row


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _whole_number(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"has a number of {len(digits):,} digits; no label or cluster needs more than {MAX_DIGITS}")
    return int(digits)


JSON = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_refuse_constant, parse_int=_whole_number)

PARSERS: Mapping[str, Callable[[str, FileSplit], Row]] = {
    "csv": _from_csv,
    "jsonl": _from_json,
    "fasttext": _from_fasttext,
}
"""Text format to the function that parses a line into a row; it raises ValueError for a malformed line."""
