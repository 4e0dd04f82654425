"""The keys that would read a file which nobody has described, with the reason for each: for drafts and first looks.

    found = sniff(Path("reviews.csv"))
    found.keys                 # {"format": "csv", "delimiter": ";", "columns": {"content": "text"}, …}
    found.choices              # ("cells are separated by ';': every row then has 3", …)

The keys are written into a suite, which then declares them; only a draft depends on what is guessed here.
"""

import codecs
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from harness.data import guess, local_file, text_file
from harness.data.parquet import first_rows
from harness.errors import DataError
from harness.suite.schema import FileSplit

LOOKED_AT = 1000
"""Rows from the start that a guess is based on."""
DECODED_LINES = 200_000
DELIMITERS = (",", ";", "\t", "|")
_NAMES = {",": "commas", **local_file.SEPARATORS}


@dataclass(frozen=True, slots=True)
class Sniffed:
    """A guess at how to read a file."""

    keys: Mapping[str, Any]
    """Keys of a `[[split]]` with `source = "file"`, without id, source and path."""
    choices: tuple[str, ...]
    """A sentence for each guess, with the reason."""


def sniff(path: Path, columns: Mapping[str, Any] | None = None, labels: Mapping[str, Any] | None = None) -> Sniffed:
    """Guess how to read a file.

    Args:
        columns: the columns, where they are known; a key that is absent is guessed.
        labels: the meaning of the labels, where it is known.

    Raises:
        DataError: it cannot be read, or its columns or labels cannot be guessed; names the ones that are there.
    """
    where = str(path)
    if not path.is_file():
        raise DataError(f"{where}: there is no such file; name a data file")
    codec = text_file.COMPRESSIONS.get(path.suffix.lower())
    start = b"".join(islice(text_file.lines(path, codec, "latin-1", where), 3))[:65_536]
    if start.startswith(b"PAR1"):
        return described(first_rows(path, LOOKED_AT), {"format": "parquet"}, (), where, columns, labels)
    keys, choices = _encoding(path, codec, where)
    rule = {"id": "rows", "source": "file", "path": path.name, **keys}
    if start.lstrip(b"\xef\xbb\xbf\xc3\xaf\xc2\xbb\xc2\xbf").startswith(b"__label__"):
        return Sniffed({"format": "fasttext", **keys}, (*choices, "every line begins with a fastText label"))
    if start.lstrip("\ufeff\x00".encode() + b" \t\r\n\xc3\xaf\xc2\xbb\xc2\xbf").startswith((b"{", b"[")):
        keys = {"format": "jsonl", **keys}
        declared = FileSplit.model_validate(rule | keys)
        rows = _first(path, codec, declared, where)
        return described(rows, keys, choices, where, columns, labels)
    if not keys and _is_original(path, codec, rule, where):
        return Sniffed({"format": "csv"}, ("every row is a class 1 or 2, a title and a content, without a header",))
    table, delimiter = _table(path, codec, rule | keys, where)
    keys = {"format": "csv", **({"delimiter": delimiter} if delimiter != "," else {}), **keys}
    choices = (*choices, f"cells are separated by {_NAMES[delimiter]}: every row then has {len(table[0])}")
    if columns is None and not _has_header(table):
        choices = (*choices, "there is no header: the first line is a row like the others, so columns have numbers")
        rows = [dict(enumerate(row, start=1)) for row in table]
    else:
        rows = [dict(zip(table[0], row, strict=True)) for row in table[1:]]
    return described(rows, keys, choices, where, columns, labels)


def described(
    rows: Sequence[Mapping[Any, Any]],
    keys: Mapping[str, Any],
    choices: Sequence[str],
    where: str,
    columns: Mapping[str, Any] | None = None,
    labels: Mapping[str, Any] | None = None,
) -> Sniffed:
    """Add columns and labels to the keys that read these rows.

    Raises:
        DataError: the columns or the labels cannot be guessed.
    """
    if not rows:
        raise DataError(f"{where}: has no rows")
    found = guess.columns(rows) | dict(columns or {})
    names = list(dict.fromkeys(name for row in rows for name in row))
    if absent := [key for key in ("content", "label") if key not in found]:
        raise DataError(
            f"{where}: no column looks like the {' or the '.join(absent)} (found: {', '.join(map(repr, names))}); name "
            'them: --columns \'content = "…", label = "…"\''
        )
    if unknown := [name for name in found.values() if name not in names]:
        raise DataError(f"{where}: has no column {unknown[0]!r} (found: {', '.join(map(repr, names))}); correct it")
    by_number = any(isinstance(name, int) for name in found.values())
    stated = {key: found[key] for key in ("content", "title", "label") if key in found}
    if not by_number:
        stated = {key: name for key, name in stated.items() if name != key}
    said = [f"{key}: column {name!r}" for key, name in found.items()]
    meaning, why = _labels([row.get(found["label"]) for row in rows], where, labels)
    declared = dict(keys) | ({"columns": stated} if stated else {}) | ({"labels": meaning} if meaning else {})
    if declared == {"format": "csv"}:  # with no other key it would be the original form
        declared["columns"] = {"content": "content", "label": "label"}
    return Sniffed(declared, (*choices, "; ".join(said), why))


def _labels(values: Sequence[Any], where: str, known: Mapping[str, Any] | None) -> tuple[dict[str, Any] | None, str]:
    """The meaning of the values of a label column, None for 0 and 1, and the reason."""
    if known is not None:
        return dict(known), "labels: as given"
    if all(type(value) is int or isinstance(value, str) for value in values) and {*map(str, values)} <= {"0", "1"}:
        strings = any(isinstance(value, str) for value in values)
        return ({"negative": 0, "positive": 1} if strings else None), "labels: 0 is negative, 1 is positive"
    found = guess.labels(values)
    if found is None:
        raise DataError(
            f"{where}: the labels do not show which are negative and which positive; "
            + guess.advice_on_labels(values).replace("declare labels = { ", "give them: --labels '").replace(" }", "'")
        )
    meaning = found.model_dump(mode="json")
    words = f"{guess.toml(meaning['negative'])} negative, {guess.toml(meaning['positive'])} positive"
    return meaning, f"labels: {words}; rows with others are dropped"


def _encoding(path: Path, codec: str | None, where: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The `encoding` of a text file; none for UTF-8."""
    with path.open("rb") as file:
        if codec is None and file.read(2) in text_file.UTF_16:
            return {"encoding": "utf-16"}, ("encoding: UTF-16, by its byte order mark",)
    utf8, cp1252 = True, True
    for line in islice(text_file.lines(path, codec, None, where), DECODED_LINES):
        utf8, cp1252 = utf8 and _decodes(line, "utf-8"), cp1252 and _decodes(line, "cp1252")
        if not utf8 and not cp1252:
            return {"encoding": "latin-1"}, ("encoding: Latin-1, since it is neither UTF-8 nor cp1252",)
    return ({}, ()) if utf8 else ({"encoding": "cp1252"}, ("encoding: cp1252 (Windows), since it is not UTF-8",))


def _decodes(line: bytes, encoding: str) -> bool:
    try:
        codecs.decode(line, encoding)
    except UnicodeDecodeError:
        return False
    return True


def _first(path: Path, codec: str | None, rule: FileSplit, where: str) -> list[Mapping[Any, Any]]:
    try:
        return list(islice(local_file.cells(text_file.lines(path, codec, rule.encoding, where), rule), LOOKED_AT))
    except ValueError as problem:
        raise DataError(f"{where}: {problem}") from None


def _is_original(path: Path, codec: str | None, rule: Mapping[str, Any], where: str) -> bool:
    """True if every row is a class 1 or 2, a title and a content, in Amazon Polarity's own form."""
    declared = FileSplit.model_validate({**rule, "format": "csv"})
    try:
        rows = list(islice(local_file.parsed(text_file.lines(path, codec, None, where), declared, where), LOOKED_AT))
    except DataError:
        return False
    return len(rows) > 0


def _table(path: Path, codec: str | None, rule: Mapping[str, Any], where: str) -> tuple[list[list[str]], str]:
    """The first rows of a table, and the delimiter by which they have the same, largest number of cells."""
    found: dict[str, list[list[str]]] = {}
    problems = []
    for delimiter in DELIMITERS:
        lines = text_file.lines(path, codec, rule.get("encoding"), where)
        try:
            rows = [row for row in islice(local_file.csv_rows(lines, delimiter), LOOKED_AT) if row]
        except ValueError as problem:
            problems.append(str(problem))
            continue
        if rows and len(rows[0]) > 1 and len({len(row) for row in rows}) == 1:
            found[delimiter] = rows
    if not found:
        why = f" ({problems[0]})" if problems else ""
        raise DataError(
            f"{where}: neither commas, semicolons, tabs nor bars give its rows the same number of cells, two or "
            f"more{why}; quote texts that contain the delimiter, or save it as JSON Lines or Parquet"
        )
    best = max(found, key=lambda delimiter: len(found[delimiter][0]))
    return found[best], best


def _has_header(table: Sequence[Sequence[str]]) -> bool:
    """True if the first row names columns: by usual names, or since none of its cells occurs below it."""
    if {"content", "label"} <= guess.columns([dict.fromkeys(table[0])]).keys():
        return True
    below = guess.columns([dict(enumerate(row)) for row in table[1:]])
    of_labels = below.get("label")
    return of_labels is None or table[0][of_labels] not in {row[of_labels] for row in table[1:]}
