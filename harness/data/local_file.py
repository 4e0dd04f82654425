"""Rows of a local file: Parquet, CSV, JSON Lines or fastText lines.

Texts are used exactly as written: nothing is stripped or folded, and empty titles and contents are kept (the audit
counts them). So the same row has the same example id in every format that can express it. Limits of the formats:

- Amazon Polarity's original CSV, which is read where no key describes the file, writes a newline as the two characters
  `\\n`, and has no way to write these two themselves: `C:\\new` is read with a newline in it.
- fastText writes `title: content`, which is split at the first `: `. A title that contains `: ` itself loses its tail
  to the content: the label is right, but the title, the content and so the ids differ from those of other formats. (A
  title that ends with `:` is split correctly.) A line without `: ` is content without a title. Newlines cannot be
  written.

A split of whole files therefore has one digest in Parquet, CSV and JSON Lines, and another in fastText as soon as one
title contains `: ` (40 of 5,000 rows drawn from Amazon Polarity's train split have such a title). A file made from
fastText lines keeps their split, whatever its format is now.

CSV is parsed by Python's `csv` in strict mode. It streams, reports a misplaced quote rather than guessing, and knows
the line of every row. pyarrow.csv has no line numbers and takes an unclosed quote for a text; `datasets` reads CSV by
pandas, which makes a missing value of the text "NA"; DuckDB guesses the dialect from a sample, and reads only UTF-8,
UTF-16 and Latin-1 without a further download.
"""

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from harness.data import guess, text_file
from harness.data.cells import MissingColumnError, UnknownLabelError, kind, row_of
from harness.data.parquet import ParquetRows
from harness.data.source import Places, Row, Rows, Streamed
from harness.data.text_file import COMPRESSIONS, MAX_LINE_BYTES
from harness.errors import DataError
from harness.suite.schema import FileSplit

LOCAL_COPIES = "$HARNESS_DATA"
MAX_DIGITS = 20
LOOKED_AT = 1000
"""Number of further rows whose labels a refusal takes into account."""

CLASSES = {"1": 0, "2": 1}
"""Class in the original files to label."""
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
csv.field_size_limit(MAX_LINE_BYTES)  # of the whole process; the default is below the longest review


def rows(rule: FileSplit, places: Places) -> Rows:
    """The rule's rows, in the file's order.

    Raises:
        DataError: the path does not exist or leads out of its folder, or the file does not have the stated `format`.
            Malformed rows are found when they are read: in text formats any row of the file; in Parquet any label, and
            the texts of the selected rows.
    """
    where = f"split {rule.id}: {rule.path}"
    path = find(rule.path, places, where)
    codec = COMPRESSIONS.get(Path(rule.path).suffix.lower())  # by the name, not by the target of a link
    if rule.format != "parquet":
        return Streamed(lambda: parsed(text_file.lines(path, codec, rule.encoding, where), rule, where))
    if codec is not None:
        raise DataError(f"{where}: Parquet is compressed internally and is not read from {codec}; unpack the file")
    return ParquetRows(path, rule, where)


def find(declared: str, places: Places, where: str) -> Path:
    """The file at a declared path, in the suite's folder or in the folder of local copies.

    Raises:
        DataError: it does not exist, is no regular file, or is elsewhere.
    """
    return _regular_file(_path(declared, places, where), where)


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


class _Counted:
    """Lines, counted from 1, with the first line of the row that is being read."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self.lines, self.number, self.first = iter(lines), 0, 0

    def __iter__(self) -> Iterator[str]:
        for line in self.lines:
            self.number += 1
            yield text_file.decoded(line)

    def single(self) -> Iterator[str]:
        """Lines without their ends, each of which is a row."""
        for line in self.lines:
            self.number = self.first = self.number + 1
            bare = text_file.without_end(line)
            if not bare:
                raise ValueError("is empty; remove it")
            yield text_file.decoded(bare)


def parsed(lines: Iterator[bytes], rule: FileSplit, where: str) -> Iterator[Row]:
    """The rows of a text file's lines.

    Raises:
        DataError: a row is malformed, with the number of its first line, counted from 1; or, at the end, no row has a
            slice column.
    """
    counted, unseen, empty = _Counted(lines), set(rule.kept_columns), True
    read = _original if rule.is_original_csv else READERS[rule.format]
    try:
        for row in read(counted, rule):
            empty = False
            unseen -= row.columns.keys()
            yield row
    except ValueError as problem:
        raise DataError(f"{where}: line {counted.first or counted.number}: {problem}") from None
    if empty:
        raise DataError(f"{where}: is empty; a split needs rows" if not counted.number else f"{where}: has no rows")
    if unseen:
        keys = "slice_columns" if rule.change is None else "slice_columns and change"
        raise DataError(f"{where}: no row has {' or '.join(map(repr, sorted(unseen)))}; correct {keys}")


def cells(lines: Iterable[bytes], rule: FileSplit) -> Iterator[Mapping[Any, Any]]:
    """The cells by column of every row of a CSV or JSON Lines file, before anything is made of them.

    Raises:
        ValueError: a line is malformed.
    """
    return (_table if rule.format == "csv" else _objects)(_Counted(lines), rule)


def csv_rows(lines: Iterable[bytes], delimiter: str) -> Iterator[list[str]]:
    """The cells of every row of a CSV file.

    Raises:
        ValueError: a quote is misplaced.
    """
    return _csv_rows(_Counted(lines), delimiter)


def _named(lines: _Counted, found: Iterator[Mapping[Any, Any]], rule: FileSplit) -> Iterator[Row]:
    """Rows from their cells by column; a refusal says which key would read the file."""
    seen: list[Any] = []
    for one in found:
        try:
            row = row_of(one, rule)
        except MissingColumnError as problem:
            raise ValueError(f"{problem}; {guess.advice_on_columns(problem.names)}") from None
        except UnknownLabelError as problem:
            name, first = rule.label_column, lines.first
            values = [*seen, *(other.get(name) for other in (one, *islice(_sound(found), LOOKED_AT)))]
            lines.first = first
            raise ValueError(f"{problem}; {guess.advice_on_labels(values)}") from None
        if len(seen) < LOOKED_AT:
            seen.append(one.get(rule.label_column))
        yield row


def _sound(found: Iterator[Mapping[Any, Any]]) -> Iterator[Mapping[Any, Any]]:
    """The rows that follow, up to the first malformed one."""
    try:
        yield from found
    except (ValueError, DataError):
        return


def _table(lines: _Counted, rule: FileSplit) -> Iterator[Mapping[Any, Any]]:
    """The cells of a CSV file's rows by the names in its header, or, without one, by number."""
    names: list[Any] = []
    for row in _csv_rows(lines, rule.delimiter or ","):
        if not row:  # an empty line
            continue
        if not names and rule.has_no_header:
            names = list(range(1, len(row) + 1))
        if not names:
            _check_header(row, rule)
            names = row
            continue
        if len(row) != len(names):
            raise ValueError(
                f"has {len(row)} columns, but the first line has {len(names)}; quote texts that contain "
                f"{rule.delimiter or ','!r}, a quote or a line break, or correct `delimiter`"
            )
        cells: dict[Any, Any] = dict(zip(names, row, strict=True))
        if rule.labels is None and cells.get(rule.label_column) in ("0", "1"):
            cells[rule.label_column] = int(cells[rule.label_column])
        yield cells
    if not names and lines.number:
        raise ValueError("has no header and no rows")


def _csv_rows(lines: _Counted, delimiter: str) -> Iterator[list[str]]:
    table = csv.reader(iter(lines), delimiter=delimiter, strict=True)
    while True:
        lines.first = lines.number + 1
        try:
            row = next(table, None)
        except csv.Error as problem:
            raise ValueError(_plain(problem)) from None
        if row is None:
            return
        yield row


def _plain(problem: csv.Error) -> str:
    """A complaint of the CSV parser with its remedy."""
    message = str(problem)
    if "unexpected end of data" in message:
        return "has a quote that is not closed before the end of the file; close it, or double it inside a text"
    if "expected after" in message:
        return (
            'has a quote that is not closed or not doubled; a quote inside a quoted text is written "". A file with '
            '\\" instead is converted by: '
            "duckdb -c \"COPY (FROM read_csv('FILE', escape='\\')) TO 'FILE.parquet'\", and "
            "one without any quoting by quote='' in place of escape='\\'"
        )
    if "field larger" in message:
        return "has a quote that is not closed within 16 MiB; close it, or double it inside a text"
    return "has a carriage return inside a text that is not quoted; quote the text"


def _check_header(names: Sequence[str], rule: FileSplit) -> None:
    """Check the first line of a table.

    Raises:
        ValueError: it is no header, lacks a column, or has one twice.
    """
    needed = {rule.content_column, *rule.kept_columns, *([rule.group] if rule.group else [])}
    needed |= set() if rule.unlabelled else {rule.label_column}
    needed |= {rule.title_column} if rule.title_column is not None and rule.title_is_declared else set()
    if not needed - {*names, *rule.kept_columns}:
        if twice := [name for name in needed if names.count(str(name)) > 1]:
            raise ValueError(f"names {len(twice)} columns twice ({twice[0]!r}); rename one of them")
        return
    if names[0].startswith("sep="):
        raise ValueError("is an instruction to Excel (sep=…) and no header; remove it")
    if len(names) == 1 and (other := _other_separator(names[0], rule.delimiter or ",")):
        raise ValueError(f"is separated by {SEPARATORS.get(other, 'commas')}; declare delimiter = {guess.toml(other)}")
    absent = " and no ".join(repr(name) for name in sorted(map(str, needed - {*names, *rule.kept_columns})))
    advice = guess.advice_on_columns(names)
    if guess.columns([dict.fromkeys(names)]) == {}:
        advice += "; or, if this line is a row and not a header, by number: columns = { content = 1, label = 2 }"
    raise ValueError(f"has no {absent} (found: {', '.join(map(repr, names)):.200}); {advice}")


def _other_separator(line: str, declared: str) -> str | None:
    """The character that separates a line's cells, if it is not the declared one."""
    counts = Counter(character for character in line if character in {",", *SEPARATORS} - {declared})
    return counts.most_common(1)[0][0] if counts else None


def _original(lines: _Counted, rule: FileSplit) -> Iterator[Row]:
    """Parse `"2","title","content"`: quotes doubled, newlines as `\\n`. Unquoted cells are accepted too."""
    for line in lines.single():
        try:
            (found,) = csv.reader([line], strict=True)
        except (csv.Error, ValueError):  # the latter: a line break inside the line
            _check_separator(line)
            raise ValueError(
                "has a quote that is not closed or not doubled; in this format a row is one line, a quote in a text is "
                '"" and a newline is \\n. A table with a header needs columns = { content = …, label = … }'
            ) from None
        if len(found) != 3 or found[0] not in CLASSES:
            _check_separator(line)
            _check_is_original(found, lines.first)
        label, title, content = found
        yield Row(title.replace("\\n", "\n"), content.replace("\\n", "\n"), CLASSES[label], None)


def _check_is_original(found: Sequence[str], number: int) -> None:
    if number == 1 and guess.columns([dict.fromkeys(found)]):
        raise ValueError(
            "seems to be a header, and a CSV file with no other key has none; "
            + guess.advice_on_columns(found, omit_usual=False)
        )
    problem = f"{len(found)} columns, expected 3: class, title, content"
    if len(found) == 3:
        problem = f"class {found[0]!r:.40} is neither 1 (negative) nor 2 (positive)"
    raise ValueError(
        f"{problem}; this format has no header line: for another table declare columns = {{ content = …, label = … }}, "
        "by name, or without a header by number"
    )


def _check_separator(line: str) -> None:
    """Raise if a malformed line comes from a table with another separator."""
    row = next(csv.reader([line]), [])
    other = _other_separator(row[0], ",") if row else None
    if other is not None:
        raise ValueError(f"is separated by {SEPARATORS[other]}; declare delimiter = {guess.toml(other)}")


def _fasttext(lines: _Counted, _: FileSplit) -> Iterator[Row]:
    """Parse `__label__2 title: content`, split at the first `: `; without one, all is content."""
    for line in lines.single():
        label, _space, text = line.partition(" ")
        name = label.removeprefix("__label__")
        if name == label:
            raise ValueError("does not begin with a label; a line must be `__label__1 title: content`")
        if name not in CLASSES:
            raise ValueError(f"label {label!r:.40} is neither __label__1 (negative) nor __label__2 (positive)")
        if not text:
            raise ValueError(f"has no text after {label}; remove it, or write its title and content")
        title, cut, content = text.partition(": ")
        yield Row(title, content, CLASSES[name], None) if cut else Row("", text, CLASSES[name], None)


def _objects(lines: _Counted, _: FileSplit) -> Iterator[Mapping[Any, Any]]:
    """Parse one JSON object a line, such as `{"label": 1, "title": …, "content": …}`."""
    for line in lines.single():
        try:
            row = JSON.decode(line)
        except json.JSONDecodeError as problem:
            whole = "; one array of objects is converted by: jq -c '.[]' FILE" if line.lstrip() in ("[", "[{") else ""
            raise ValueError(f"is not one JSON object ({problem.msg}, column {problem.colno}){whole}") from None
        except RecursionError:
            raise ValueError("is nested too deeply to be a row") from None
        if isinstance(row, list) and row and isinstance(row[0], dict):
            raise ValueError("is an array of objects; write each on a line of its own: jq -c '.[]' FILE > rows.jsonl")
        if not isinstance(row, dict):
            raise ValueError(f"must be a JSON object with label and content, not {kind(row)}")
        if row and all(isinstance(value, dict) for value in row.values()):
            raise ValueError("holds whole columns; with pandas, write to_json(path, orient='records', lines=True)")
        yield row


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

READERS: Mapping[str, Callable[[_Counted, FileSplit], Iterator[Row]]] = {
    "csv": lambda lines, rule: _named(lines, _table(lines, rule), rule),
    "jsonl": lambda lines, rule: _named(lines, _objects(lines, rule), rule),
    "fasttext": _fasttext,
}
"""Text format to the function that parses lines into rows; it raises ValueError for a malformed one."""
