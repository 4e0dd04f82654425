"""Formatting of tables and their cells. An absent number is a dash.

A table is whole at every width: where it is too wide for the terminal, columns that can be spared go first, then each
row becomes a record of lines. No word is broken unless it is longer than a line.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.output.terminal import folded
from harness.output.visible import visible
from leaderboard.pages.formats import minus

PIPED = 200
"""Width in characters of what is not printed on a terminal: a file or another program must not get folded tables."""
_GAP = 2  # characters between columns
STYLES = {
    "pass": "green", "confirmed": "green", "yes": "green", "fail": "bold red", "refuted": "bold red", "no": "bold red",
    "inconclusive": "yellow", "undecided": "yellow", "not shown": "yellow", "not known": "yellow",
}  # fmt: skip
"""Colours of outcomes on a terminal, besides their words."""


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    numbers: Sequence[str] = (),
    *,
    spared: Sequence[int] = (),
) -> None:
    """Print a table on stdout.

    Args:
        numbers: columns to align right.
        spared: places of columns that a narrow terminal can do without, the first to go first.
    """
    cells = [[visible(cell) for cell in row] for row in rows]
    kept, width = [*range(len(columns))], _console().width
    going = [*spared]
    while going and _width(columns, cells, kept) > width:
        kept.remove(going.pop(0))
    if _width(columns, cells, kept) > width:
        names = max(cell_len(row[0]) for row in (columns, *cells)) + _GAP
        if len(columns) == 2 and names <= width // 3:
            _print_pairs(title, names, [columns, *cells])
        else:
            _print_records(title, columns, cells)
        return
    table = Table(title_justify="left", box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
    for place in kept:
        table.add_column(columns[place], justify="right" if columns[place] in numbers else "left", overflow="fold")
    for row in cells:
        table.add_row(*(_styled(row[place]) for place in kept))
    _print(*_title(title), table)


def _title(title: str) -> list[Text]:
    return [Text(part, style="bold") for line in title.split("\n") for part in wrapped(visible(line))]


def _width(columns: Sequence[str], cells: Sequence[Sequence[str]], kept: Sequence[int]) -> int:
    """Number of characters of the widest line."""
    longest = [
        max(cell_len(line) for text in (columns[place], *(row[place] for row in cells)) for line in _lines(text))
        for place in kept
    ]
    return sum(longest) + _GAP * (len(kept) - 1)


def _lines(text: str) -> list[str]:
    return text.splitlines() or [""]


def _print_pairs(title: str, indent: int, cells: Sequence[Sequence[str]]) -> None:
    """Each row as a name and its value, of which the value alone is folded."""
    lines = _title(title)
    for name, value in cells:
        first, *others = [part for line in _lines(value) for part in wrapped(line, indent)]
        lines += [Text(name.ljust(indent) + first), *(Text(" " * indent + line) for line in others)]
    _print(*lines)


def _print_records(title: str, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """Each row as lines: its first cell, and below it the others after their columns' names."""
    lines = _title(title)
    indent = 2 + max(cell_len(column) for column in columns[1:]) + _GAP if len(columns) > 1 else 0
    for row in cells:
        lines += [Text(line) for line in wrapped(row[0])]
        for column, cell in zip(columns[1:], row[1:], strict=True):
            first, *others = [part for line in _lines(cell) for part in wrapped(line, indent)]
            lines.append(Text.assemble(f"  {column}".ljust(indent), _styled(first)))
            lines += [Text(" " * indent + line) for line in others]
    _print(*lines)


def wrapped(text: str, indent: int = 0) -> list[str]:
    """A text as lines of the terminal's width, broken between words."""
    return folded(text, max(20, _console().width - indent))


def print_lines(*lines: str | Text) -> None:
    """Print lines on stdout, folded only between words."""
    _print(*(line if isinstance(line, Text) else Text(visible(line)) for line in lines))


def styled(text: str) -> Text:
    """A word in the colour of the outcome that it names."""
    return _styled(visible(text))


def _styled(text: str) -> Text:
    return Text(text, style=STYLES.get(text.partition(" (")[0].lower(), ""))


def _console() -> Console:
    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else PIPED)


def _print(*parts: Text | Table) -> None:
    console = _console()
    with console.capture() as printed:
        for part in parts:
            console.print(part, soft_wrap=isinstance(part, Text))
    sys.stdout.write(printed.get())  # on a closed pipe, rich would exit with 1, the code of a failed gate


def number(value: float | None, digits: int = 3) -> str:
    """Format a value, rounded to this many digits."""
    return "–" if value is None else minus(f"{value:z.{digits}f}")


def interval(low: float | None, high: float | None) -> str:
    """Format both ends of an interval."""
    return "–" if low is None or high is None else f"[{number(low)}, {number(high)}]"


def p_value(value: float | None) -> str:
    """Format a p-value with three decimals, or as `<0.001`."""
    return "–" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def text(value: Any) -> str:
    """Format any value; a mapping becomes a line for each of its entries, in which an inner one's name has a dot."""
    if isinstance(value, Mapping):
        return "\n".join(line for name, inner in value.items() for line in _entry(str(name), inner))
    return "–" if value is None else str(value)


def _entry(name: str, value: Any) -> list[str]:
    if isinstance(value, Mapping) and value:
        return [line for inner, of_inner in value.items() for line in _entry(f"{name}.{inner}", of_inner)]
    return [f"{name}: {'–' if value is None or value == {} else value}"]
