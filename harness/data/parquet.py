"""Rows of a Parquet file of any size: a label, a text and an optional title, in the columns that the rule names.

The number of rows comes from the file's footer, labels are read from their column alone, and texts are decoded a small
batch at a time, of which only the selected rows are kept. Memory holds those, one batch, and one page per column, so a
row group as large as the file needs no more than a small one. A dictionary may refer to one long text in millions of
rows, so the number of rows and the total size of the kept texts are bounded by the file's size.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from harness.data import guess
from harness.data.source import DROPPED, FREE_BYTES, MAX_RATIO, Row
from harness.errors import DataError
from harness.stats.inference import Ints
from harness.suite.splits import NamedColumns, canonical

LABEL_BATCH_ROWS = 65_536
TEXT_BATCH_ROWS = 128
"""Small, since a dictionary-encoded page may refer to one long text in every row."""
BUFFER_BYTES = 2**20
FREE_ROWS = 100_000
"""Number of rows allowed for any file; beyond that, at most one row per byte. No review takes less."""
SLICED = "strings, whole numbers, fractions, truth values or nulls"


class ParquetRows:
    """The rows of one file, read again for each request.

    Args:
        path: the file.
        rule: names the columns to read.
        where: prefix of error messages, which count rows from 1.

    Raises:
        DataError: the file is not Parquet, is damaged, has no rows, or lacks required columns.
    """

    commit: str | None = None

    def __init__(self, path: Path, rule: NamedColumns, where: str) -> None:
        self.path, self.rule, self.where, self.dense = path, rule, where, list[str]()
        with self._opened() as file:
            self.n: int = file.metadata.num_rows
            held = sum(file.metadata.row_group(group).num_rows for group in range(file.num_row_groups))
            self.texts = self._checked(file.schema_arrow)
            self.dense = _dense(file.metadata, self.texts)
        self.size = path.stat().st_size
        if self.n > FREE_ROWS + self.size:
            raise DataError(
                f"{where}: claims {self.n:,} rows in {self.size:,} bytes and was refused; if that is correct, "
                "save it as JSON Lines"
            )
        if held != self.n:
            raise DataError(
                f"{where}: its row groups have {held:,} rows, but its footer states {self.n:,}; get a new copy"
            )
        if not self.n:
            raise DataError(f"{where}: has no rows; a split needs at least one")

    def __len__(self) -> int:
        return self.n

    def labels(self) -> Ints:
        """The label of every row, shape (n,)."""
        return self._labels

    def dropped(self) -> Mapping[str, int]:
        """Number of rows with each value that means no label."""
        if DROPPED not in self._labels:
            return {}
        found = Counter[str]()
        for _, batch in self._batches([str(self.rule.label_column)]):
            for value, count in Counter(batch.column(0).to_pylist()).items():
                if self._meaning(value) == DROPPED:
                    found[canonical(value)] += count
        return found

    def at(self, positions: Ints) -> list[Row]:
        """The rows at these positions. Every label of the file and the texts of these rows are validated."""
        found: dict[int, Row] = {}
        left = FREE_BYTES + MAX_RATIO * self.size
        for position, row in self._each(np.sort(positions)):
            found[position] = row
            left -= len(row.title) + len(row.content)
            if left < 0:
                raise DataError(
                    f"{self.where}: row {position + 1}: unpacks to more than {MAX_RATIO} times its size and was "
                    "refused; if that is correct, save it as JSON Lines"
                )
        return [found[position] for position in positions.tolist()]

    def __iter__(self) -> Iterator[Row]:
        return (row for _, row in self._each(np.arange(self.n)))

    def _each(self, wanted: Ints) -> Iterator[tuple[int, Row]]:
        """The rows at these positions, which are sorted, each with its position."""
        labels, left = self.labels(), len(wanted)
        for start, batch in self._batches(self.texts, TEXT_BATCH_ROWS, wanted):
            here = wanted[np.searchsorted(wanted, start) : np.searchsorted(wanted, start + batch.num_rows)]
            for position in here.tolist():
                yield position, self._row(batch, position - start, position, int(labels[position]))
            left -= len(here)
            if not left:
                return

    @cached_property
    def _labels(self) -> Ints:
        if self.rule.unlabelled:
            return np.zeros(self.n, dtype=np.int64)
        name = str(self.rule.label_column)
        valid = self._valid_labels if self.rule.labels is None else self._declared_labels
        return np.concatenate([valid(batch.column(0), start) for start, batch in self._batches([name])])

    def _declared_labels(self, column: Any, start: int) -> Ints:
        """The labels of a batch by the rule's `labels`; every distinct value is looked up once."""
        encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        meanings = np.array([self._meaning(value) for value in encoded.dictionary.to_pylist()] + [DROPPED])
        codes = encoded.indices.fill_null(len(meanings) - 1).to_numpy(zero_copy_only=False)
        return np.asarray(meanings[codes], dtype=np.int64)

    def _meaning(self, value: object) -> int:
        """The label that a value means, by itself or by the name that the data set gives to a number."""
        assert self.rule.labels is not None
        classes = self.rule.labels.classes
        if isinstance(value, int) and 0 <= value < len(self.class_names) and str(value) not in classes:
            value = self.class_names[value]
        return classes.get(canonical(value), DROPPED)

    def _valid_labels(self, column: Any, start: int) -> Ints:
        """The labels of a batch whose first row is at `start`; without the rule's `labels` they are 0 and 1."""
        name, where = self.rule.label_column, self.where

        def advice() -> str:
            values = dict.fromkeys(column.to_pylist())
            named = [self.class_names[v] for v in values if isinstance(v, int) and 0 <= v < len(self.class_names)]
            return guess.advice_on_labels(named if len(named) == len(values) else values)

        if _kind(column.type) != "whole numbers":
            raise DataError(f"{where}: column {name!r} is {column.type}, but must be whole numbers; {advice()}")
        if column.null_count:
            row = start + int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0]) + 1
            raise DataError(
                f"{where}: row {row}: {name} is null; every row needs 0 (negative) or 1 (positive); fill it in, or, to "
                "drop such rows, declare labels = { negative = 0, positive = 1 }"
            )
        labels = column.to_numpy(zero_copy_only=False)
        strange = np.flatnonzero((labels != 0) & (labels != 1))
        if len(strange):
            row, label = start + int(strange[0]) + 1, labels[strange[0]]
            raise DataError(f"{where}: row {row}: {name} {label} is neither 0 (negative) nor 1 (positive); {advice()}")
        return np.asarray(labels, dtype=np.int64)

    def _row(self, batch: Any, index: int, position: int, label: int) -> Row:
        rule = self.rule
        if label == DROPPED:
            return Row("", "", DROPPED, None)
        cells = {name: self._cell(batch.column(name)[index], name, position) for name in self.texts}
        title, content = cells.get(str(rule.title_column), ""), cells[str(rule.content_column)]
        if rule.text:
            title, content = rule.text.cut(content)
        columns = {name: cells[name] for name in rule.kept_columns}
        return Row(title, content, label, cells[rule.group] if rule.group else None, columns)

    def _cell(self, cell: Any, name: str, position: int) -> str:
        """A text, cluster or slice. A null title or slice is empty; content and cluster must not be null: one row
        without a cluster would make all rows count as independent."""
        where = f"{self.where}: row {position + 1}: {name}"
        try:
            value = cell.as_py()
        except UnicodeDecodeError as problem:
            raise DataError(f"{where} is not UTF-8 (byte {problem.start + 1}); write the file again as UTF-8") from None
        needed = (self.rule.content_column, self.rule.group)
        if value is None and name in needed:
            raise DataError(f"{where} is null; remove the row or fill it in")
        text = "" if value is None else str(value)
        if "\0" in text:
            raise DataError(f"{where} contains a NUL character; remove it")
        return text

    def _checked(self, schema: Any) -> list[str]:
        """Names of the columns to read besides the label, after checking that each exists once with the right type."""
        rule, names = self.rule, schema.names
        label, texts = str(rule.label_column), [str(rule.content_column)]
        if rule.title_column is not None and (rule.title_is_declared or rule.title_column in names):
            texts.append(str(rule.title_column))
        kinds = ({} if rule.unlabelled else {label: SLICED}) | dict.fromkeys(texts, "strings")
        if rule.group:
            kinds.setdefault(rule.group, "strings or whole numbers")
        for name in rule.kept_columns:
            kinds.setdefault(name, SLICED)
        for name, kind in kinds.items():
            count, listed = names.count(name), ", ".join(names)
            if not count:
                advice = "correct it" if name in (rule.group, *rule.kept_columns) else guess.advice_on_columns(names)
                raise DataError(f"{self.where}: has no column {name!r} (found: {listed}); {advice}")
            if count > 1:
                raise DataError(f"{self.where}: has {count} columns {name!r} (found: {listed}); rename one of them")
            if _kind(schema.field(name).type) not in kind:
                found = schema.field(name).type
                raise DataError(f"{self.where}: column {name!r} is {found}, but must be {kind}; convert it")
        self.class_names = _class_names(schema, label)
        return [name for name in kinds if name != label or name in (rule.group, *rule.kept_columns, *texts)]

    def _batches(
        self, columns: list[str], rows: int = LABEL_BATCH_ROWS, wanted: Ints | None = None
    ) -> Iterator[tuple[int, Any]]:
        """Batches, each with its first row's position. Row groups without rows in `wanted` (sorted) are not read."""
        with self._opened() as file:
            start = 0
            for group in range(file.num_row_groups):
                end = start + file.metadata.row_group(group).num_rows
                if wanted is None or np.searchsorted(wanted, start) < np.searchsorted(wanted, end):
                    for batch in file.iter_batches(rows, [group], columns, use_threads=False):
                        yield start, batch
                        start += batch.num_rows
                    if start != end:
                        raise DataError(f"{self.where}: ends at row {start:,} of {self.n:,}; get a new copy")
                start = end

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        try:
            # Unbuffered or prefetched, it would hold a whole row group. Few writers add checksums; they are verified.
            with pq.ParquetFile(
                self.path,
                buffer_size=BUFFER_BYTES,
                pre_buffer=False,
                page_checksum_verification=True,
                read_dictionary=self.dense,
            ) as file:
                yield file
        except (pa.ArrowException, OSError, UnicodeDecodeError) as problem:  # the last: from a column's name
            reason = " ".join(str(problem).split()).rstrip(".")
            raise DataError(
                f"{self.where}: is not readable as Parquet ({reason}); check `format`, or get a new copy"
            ) from None


def first_rows(path: Path, n: int) -> list[dict[str, Any]]:
    """The first rows of a file, before anything is declared of it; numbers that the file has names for, by name.

    Raises:
        DataError: it is not readable as Parquet.
    """
    try:
        with pq.ParquetFile(path) as file:
            batch = next(file.iter_batches(n), None)
            rows: list[dict[str, Any]] = [] if batch is None else batch.to_pylist()
            names = {name: _class_names(file.schema_arrow, name) for name in file.schema_arrow.names}
    except (pa.ArrowException, OSError, UnicodeDecodeError) as problem:
        raise DataError(f"{path}: is not readable as Parquet ({problem}); get a new copy") from None
    for name, known in names.items():
        for row in rows if known else ():
            if isinstance(row[name], int) and 0 <= row[name] < len(known):
                row[name] = known[row[name]]
    return rows


def _dense(metadata: Any, names: list[str]) -> list[str]:
    """Columns that unpack to many times their stored size, to be read as dictionaries, which repeat no text."""
    found = set()
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            column = metadata.row_group(group).column(number)
            repeats = column.total_compressed_size < column.num_values  # less than a byte per row: texts are repeated
            unpacks = column.total_uncompressed_size > MAX_RATIO * column.total_compressed_size
            if column.physical_type == "BYTE_ARRAY" and (repeats or unpacks):
                found.add(column.path_in_schema)
    return [name for name in names if name in found]


def _class_names(schema: Any, column: str) -> Sequence[str]:
    """The names that a data set of the hub gives to the numbers of a label column; none elsewhere."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[column]["names"]
    except (KeyError, TypeError, ValueError):
        return ()
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()


def _kind(type_: Any) -> str:
    """The kind of values in a column of this Arrow type, for messages and checks."""
    values = type_.value_type if pa.types.is_dictionary(type_) else type_
    if pa.types.is_string(values) or pa.types.is_large_string(values) or pa.types.is_string_view(values):
        return "strings"
    kinds = {
        "whole numbers": pa.types.is_integer,
        "fractions": lambda one: pa.types.is_floating(one) or pa.types.is_decimal(one),
        "truth values": pa.types.is_boolean,
        "nulls": pa.types.is_null,
    }
    return next((kind for kind, is_one in kinds.items() if is_one(values)), "something else")
