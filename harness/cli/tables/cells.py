"""Formatting of tables and their cells. An absent number is a dash."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from harness.output.visible import visible


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[str] = ()) -> None:
    """Print a table on stdout.

    Args:
        numbers: columns to align right.
    """
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(visible, row))
    # Piped into a file or another program, a table must not be folded at 80 columns.
    width = None if sys.stdout.isatty() else 200
    console = Console(highlight=False, markup=False, width=width)
    with console.capture() as printed:
        console.print(table)
    sys.stdout.write(printed.get())  # on a closed pipe, rich would exit with 1, the code of a failed gate


def number(value: float | None, digits: int = 3) -> str:
    """Format a value, rounded to this many digits."""
    return "–" if value is None else f"{value:.{digits}f}"


def interval(low: float | None, high: float | None) -> str:
    """Format both ends of an interval."""
    return "–" if low is None or high is None else f"[{low:.3f}, {high:.3f}]"


def p_value(value: float | None) -> str:
    """Format a p-value with three decimals, or as `<0.001`."""
    return "–" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def text(value: Any) -> str:
    """Format any value; a mapping becomes a line for each of its entries."""
    if isinstance(value, Mapping):
        return "\n".join(f"{name}: {text(inner)}" for name, inner in value.items())
    return "–" if value is None else str(value)
