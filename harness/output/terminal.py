"""Terminal output: progress bars and warnings on stderr, results and JSON on stdout."""

import codecs
import io
import json
import shutil
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from harness.output.visible import visible
from harness.progress import Advance


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to the caller: rich would exit with 1, which means that a gate failed."""
        raise  # rich calls this in the handler of the error


stderr = _Console(stderr=True, highlight=False)


class Bars:
    """A `Progress` that draws bars on a terminal; elsewhere, such as in CI, it writes a line for each finished task."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self.drawn = RichProgress(*columns, TextColumn("{task.fields[note]}"), console=stderr, transient=True)
        self.open_tasks = 0

    @contextmanager
    def __call__(self, label: str, total: int) -> Iterator[Advance]:
        """Show a task for as long as the block lasts."""
        began = time.monotonic()
        last_note, done = "", 0
        task = self.drawn.add_task(label, total=total, note="")

        def advance(units: int, note: str) -> None:
            nonlocal last_note, done
            last_note, done = note or last_note, done + units
            self.drawn.update(task, advance=units, note=note)

        self.open_tasks += 1
        if stderr.is_terminal:
            self.drawn.start()
        try:
            yield advance
        finally:
            self.open_tasks -= 1
            self.drawn.remove_task(task)
            if stderr.is_terminal and not self.open_tasks:
                self.drawn.stop()
        count = f"{done:,} of {total:,}" if 0 < done < total else f"{total:,}"
        say(f"{label}: {count} in {time.monotonic() - began:.1f} s{', ' if last_note else ''}{last_note}")


def say(message: str) -> None:
    """Print a line of progress or a warning on stderr, without markup; on a terminal, folded between words."""
    lines = visible(message).split("\n")
    if stderr.is_terminal:
        lines = [part for line in lines for part in folded(line, stderr.width)]
    stderr.print("\n".join(lines), markup=False, soft_wrap=True)


def folded(text: str, width: int) -> list[str]:
    """A text as lines of at most so many characters, broken between words; a longer word has a line of its own."""
    if len(text) <= width:
        return [text]
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def say_all(warnings: Iterable[str], notes: Iterable[str] = ()) -> None:
    """Warnings, marked as such, and notes after them, one line each."""
    for warning in warnings:
        say(f"warning: {warning}")
    for note in notes:
        say(note)


_PLAIN = {"−": "-", "–": "-", "…": "...", "·": ".", "→": "->", "↓": "v", "≥": ">=", "₀": "0", "α": "alpha", "’": "'"}


def write_in_any_encoding() -> None:
    """Make stdout and stderr replace characters missing in their encoding by plain ones, or else by their codes."""
    codecs.register_error("harness.plain", _plainly)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="harness.plain")


def _plainly(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(character, f"<U+{ord(character):04X}>") for character in lacking), error.end


def show(text: str) -> None:
    """Print a result for people on stdout: on a terminal a sentence is folded between words.

    A text of several lines is there to be copied and stays as it is.
    """
    lines = [visible(text)]
    if sys.stdout.isatty() and "\n" not in text:
        lines = folded(lines[0], shutil.get_terminal_size().columns)
    sys.stdout.write("\n".join(lines) + "\n")


def print_json(value: Any) -> None:
    """Print a result for programs on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")
