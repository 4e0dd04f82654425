"""Lines of a suite file: where in it a table or key stands, and how people call it."""

import re
from collections.abc import Mapping
from typing import Any

_HEADER = re.compile(r"\s*(\[\[?)\s*([\w.\-]+)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"\s*([\w-]+)\s*[.=]")
_LAST = re.compile(r"(\.[\w-]+|\.\"[^\"]*\"|\[\d+\])$")


def lines_of(text: str) -> dict[str, int]:
    """The line, from 1, of every table and every first key of it, by its place: `model[1]`, `model[1].adapter`.

    Keys inside inline tables and arrays stand where these begin.
    """
    found: dict[str, int] = {}
    counts: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            table = _table(header[2], counts, new=header[1] == "[[")
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            found.setdefault(f"{table}.{key[1]}".lstrip("."), number)
    return found


def _table(name: str, counts: dict[str, int], *, new: bool) -> str:
    """The place that a header begins: the next of its list, or a table inside the latest one."""
    if new:
        counts[name] = counts.get(name, -1) + 1
        return f"{name}[{counts[name]}]"
    first, dot, rest = name.partition(".")
    return f"{first}[{counts[first]}]{dot}{rest}" if first in counts else name


def line_of(place: str, lines: Mapping[str, int]) -> int | None:
    """The line of a place, or of the innermost thing around it; None for the file as a whole."""
    while place and place not in lines:
        shorter = _LAST.sub("", place)
        place = "" if shorter == place else shorter
    return lines.get(place)


def called(place: str, data: Mapping[str, Any]) -> str:
    """A place with the table's id in place of its number: `model 'lora'.adapter`; unchanged where it has none."""
    match = re.match(r"(\w+)\[(\d+)\]", place)
    tables = data.get(match[1]) if match else None
    if match is None or not isinstance(tables, list) or int(match[2]) >= len(tables):
        return place
    table = tables[int(match[2])]
    named = table.get("id", table.get("name")) if isinstance(table, dict) else None
    return f"{match[1]} {named!r}{place[match.end() :]}" if isinstance(named, str) else place
