"""What a source is to the rest: rows in a fixed order, counted, and read at chosen positions only."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from harness.errors import DataError
from harness.stats.inference import Ints

FREE_BYTES = 64 * 2**20
"""What any compressed file may unpack to, so that small ones may be as regular as they like."""
MAX_RATIO = 20
"""Bytes unpacked per byte of a larger one. Reviews come to 3 to 6."""
NO_COLUMNS: Mapping[str, str] = {}
"""Shared by all rows and examples that have none: of millions, each would take 64 bytes for its own. No
`MappingProxyType`, since examples travel to other processes, and that cannot be pickled."""


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled text as a source reads it, before anything was drawn from it."""

    title: str
    """Empty where the source has none."""
    content: str
    label: int
    """0 negative, 1 positive."""
    cluster: str | None
    """What it has in common with other rows, or None."""
    columns: Mapping[str, str] = field(default_factory=lambda: NO_COLUMNS, hash=False)
    """Values of slice columns by name; those that the row lacks may be left out."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where sources find and keep things."""

    cache: Path
    """What was fetched once."""
    suite_dir: Path
    """Folder of the suite file."""
    local_copies: Path | None
    """The folder that `HARNESS_DATA` names, if it is set."""


class Rows(Protocol):
    """A source's rows. Millions may be behind it: only those asked for are held."""

    @property
    def commit(self) -> str | None:
        """What a moving name, such as a hub dataset without a revision, was resolved to; None where nothing moves."""
        ...

    def __len__(self) -> int:
        """How many rows there are."""
        ...

    def labels(self) -> Ints:
        """The label of every row, shape (n,)."""
        ...

    def at(self, positions: Ints) -> list[Row]:
        """The rows at these positions (each in 0…n-1, all different), in the order of the positions."""
        ...


class Listed:
    """Rows that are all in memory."""

    commit = None

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def labels(self) -> Ints:
        """The label of every row, shape (n,)."""
        return np.array([row.label for row in self.rows], dtype=np.int64)

    def at(self, positions: Ints) -> list[Row]:
        """The rows at these positions."""
        return [self.rows[i] for i in positions]


class Streamed:
    """Rows that are read one after the other, anew for each question, so that none but the wanted are held."""

    commit = None

    def __init__(self, read: Callable[[], Iterator[Row]]) -> None:
        self.read = read

    def __len__(self) -> int:
        return len(self._labels)

    def labels(self) -> Ints:
        """The label of every row, shape (n,)."""
        return self._labels

    @cached_property
    def _labels(self) -> Ints:
        return np.fromiter((row.label for row in self.read()), dtype=np.int64)

    def at(self, positions: Ints) -> list[Row]:
        """The rows at these positions."""
        wanted, last = set(positions.tolist()), int(positions.max(initial=-1))
        found: dict[int, Row] = {}
        for position, row in enumerate(self.read()):
            if position > last:
                break
            if position in wanted:
                found[position] = row
        if len(found) < len(wanted):
            raise DataError("a source lost rows while it was read; leave its file alone and try again")
        return [found[i] for i in positions.tolist()]
