"""How tables and what stands in them are written. An absent number is a dash, never a stand-in."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from harness.output.visible import visible


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[str] = ()) -> None:
    """A table on stdout.

    Args:
        numbers: columns that stand flush right.
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
    sys.stdout.write(printed.get())  # rich would end the process with 1, a failed gate, where nobody reads any more


def number(value: float | None, digits: int = 3) -> str:
    """A value, rounded to so many digits."""
    return "–" if value is None else f"{value:.{digits}f}"


def interval(low: float | None, high: float | None) -> str:
    """Both ends."""
    return "–" if low is None or high is None else f"[{low:.3f}, {high:.3f}]"


def p_value(value: float | None) -> str:
    """Three decimals, or that it is less."""
    return "–" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def text(value: Any) -> str:
    """Any value; a mapping has a line for each of its entries."""
    if isinstance(value, Mapping):
        return "\n".join(f"{name}: {text(inner)}" for name, inner in value.items())
    return "–" if value is None else str(value)
