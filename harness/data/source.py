"""The interface of sources: rows in a fixed order, with a known number, read only at chosen positions."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from harness.errors import DataError
from harness.stats.inference import Ints

FREE_BYTES = 16 * 2**20
"""Unpacked size allowed for any compressed file, so that small ones may compress well."""
MAX_RATIO = 20
"""Unpacked bytes per byte allowed for a larger one. Reviews reach 3 to 6."""
DROPPED = -1
"""Label of a row whose value means neither negative nor positive in its rule; such a row is never drawn."""
NO_COLUMNS: Mapping[str, str] = {}
"""Shared by all rows and examples without columns, to save 64 bytes for each of millions. Not a `MappingProxyType`,
since examples are sent to other processes, and that cannot be pickled."""


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled text as a source reads it, before rows are drawn."""

    title: str
    """Empty where the source has none."""
    content: str
    label: int
    """0 negative, 1 positive; `DROPPED`, and then the content is the dropped value."""
    cluster: str | None
    """The cluster it shares with other rows, or None."""
    columns: Mapping[str, str] = field(default_factory=lambda: NO_COLUMNS, hash=False)
    """Values of slice columns by name; those that the row lacks may be omitted."""
    pair: str | None = None
    """The pair, or larger group, that it is judged with."""
    change: int = 0
    """1 if its score must be above that of its pair's original, -1 if below."""


@dataclass(frozen=True, slots=True)
class Places:
    """Folders in which sources find and cache files."""

    cache: Path
    """Folder of downloaded files."""
    suite_dir: Path
    """Folder of the suite file."""
    local_copies: Path | None
    """The folder that `HARNESS_DATA` names, if it is set."""


class Rows(Protocol):
    """A source's rows. There may be millions, so only those requested are held in memory."""

    @property
    def commit(self) -> str | None:
        """The commit to which a name was resolved, such as a hub dataset without a revision; None without commits."""
        ...

    def __len__(self) -> int:
        """The number of rows."""
        ...

    def labels(self) -> Ints:
        """The label of every row, shape (n,)."""
        ...

    def dropped(self) -> Mapping[str, int]:
        """Number of rows with each value that means no label; an empty value stands for none."""
        ...

    def __iter__(self) -> Iterator[Row]:
        """All rows in order, read sequentially."""
        ...

    def at(self, positions: Ints) -> list[Row]:
        """The rows at these positions (each in 0…n-1, all different), in the order of the positions."""
        ...


class Listed:
    """Rows held in memory."""

    commit = None

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def labels(self) -> Ints:
        """The label of every row, shape (n,)."""
        return np.array([row.label for row in self.rows], dtype=np.int64)

    def dropped(self) -> Mapping[str, int]:
        """None: every row has a label."""
        return {}

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def at(self, positions: Ints) -> list[Row]:
        """The rows at these positions."""
        return [self.rows[i] for i in positions]


class Streamed:
    """Rows read sequentially, again for each request, so that only the selected ones are held in memory."""

    commit = None

    def __init__(self, read: Callable[[], Iterator[Row]]) -> None:
        self.read = read

    def __len__(self) -> int:
        return len(self._labels)

    def labels(self) -> Ints:
        """The label of every row, shape (n,)."""
        return self._labels

    def dropped(self) -> Mapping[str, int]:
        """Number of rows with each value that means no label."""
        return Counter(row.content for row in self.read() if row.label == DROPPED) if DROPPED in self._labels else {}

    def __iter__(self) -> Iterator[Row]:
        return self.read()

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
            raise DataError("a source lost rows while it was read; do not change its file meanwhile, and try again")
        return [found[i] for i in positions.tolist()]
