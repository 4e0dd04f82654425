"""Rows of a dataset on the Hugging Face hub, at one commit.

`datasets` says which files make a split. They are fetched, their digests verified, and kept as Arrow on disk, of which
only the rows that are asked for are read. A rule that takes the first rows as they stand is met without fetching the
files: their beginning is enough, and is kept as a small Parquet file. What was fetched once needs no network.

A dataset that would have to run a script of its own is refused. Columns are `label` (0 or 1), `content` and, where
there is one, `title`, or one that holds both, where the rule says so.
"""

import glob
import io
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from harness.artifacts import digest, hub
from harness.data.parquet import LABEL_BATCH_ROWS, ParquetRows
from harness.data.source import Places, Rows
from harness.errors import DataError
from harness.stats.inference import Ints
from harness.suite.schema import HubSplit

STREAMED_BLOCK_BYTES = 2**20
"""What one request for the next part of a Parquet file brings at least."""


def rows(rule: HubSplit, places: Places) -> Rows:
    """The rule's rows, in the dataset's order: all of the split, or the first that it takes as they stand.

    Raises:
        FetchError: the hub does not serve them.
        DataError: the dataset needs a script, has no such split, other columns, or other bytes than the hub states.
    """
    who = f"split {rule.id}"
    commit = rule.revision or hub.newest_commit("dataset", rule.dataset, who)
    repo = hub.Repo("dataset", rule.dataset, commit, places.cache / "hub")
    where = f"{who}: {repo.label}, split {rule.split!r}"
    if rule.take is not None and rule.shuffle_seed is None and not rule.stratify:
        found = ParquetRows(_head(repo, rule.split, rule.take, who), rule, where)
    else:
        found = ArrowRows(_prepared(repo, rule.split, who), rule, where)
    found.commit = commit
    return found


class ArrowRows(ParquetRows):
    """The rows of a table that lies on disk and is mapped into memory: checked as those of a Parquet file are."""

    def __init__(self, table: Any, rule: HubSplit, where: str) -> None:
        self.table, self.rule, self.where = table, rule, where
        self.n, self.size = table.num_rows, table.nbytes
        self.texts = self._checked(table.schema)

    def _batches(
        self, columns: list[str], rows: int = LABEL_BATCH_ROWS, wanted: Ints | None = None
    ) -> Iterator[tuple[int, Any]]:
        """Batches, each with its first row's position. Those in which no row is wanted (sorted) are passed over."""
        start = 0
        for batch in self.table.select(columns).to_batches(max_chunksize=rows):
            end = start + batch.num_rows
            if wanted is None or np.searchsorted(wanted, start) < np.searchsorted(wanted, end):
                yield start, batch
            start = end


def _prepared(repo: hub.Repo, split: str, who: str) -> Any:
    """The whole split as an Arrow table, mapped from disk. The first time its files are fetched and verified."""
    reader, paths = _files(repo, split, who)
    folder = hub.fetch(repo, paths, who)
    import datasets

    try:
        # The files are given by name: a path of the hub's choosing must not be read as a pattern.
        files = {split: [glob.escape(str(folder / path)) for path in paths]}
        return datasets.load_dataset(
            reader, data_files=files, split=split, cache_dir=str(repo.kept("arrow"))
        ).data.table
    except (datasets.exceptions.DatasetsError, pa.ArrowException, ValueError, OSError) as problem:
        raise _unreadable(repo, who, problem) from None


def _head(repo: hub.Repo, split: str, take: int, who: str) -> Path:
    """A Parquet file of the split's first rows; fewer where there are fewer."""
    path = repo.kept("heads") / f"{digest.of_json([split, take])[:16]}.parquet"
    if path.is_file():
        return path
    reader, paths = _files(repo, split, who)
    with hub.explained(who, repo.label):
        try:
            table = _first_rows_of_parquet(repo, paths, take) if reader == "parquet" else None
            table = table if table is not None else _first_rows(repo, reader, split, paths, take)
        except (pa.ArrowInvalid, UnicodeDecodeError) as problem:  # the last: of a column's name
            raise _unreadable(repo, who, problem) from None
    written = io.BytesIO()
    pq.write_table(table, written)
    hub.keep(path, written.getvalue())
    return path


def _first_rows_of_parquet(repo: hub.Repo, paths: Sequence[str], take: int) -> Any:
    """The first rows of these files: their footers and first row groups are all that is asked for."""
    files = hub.library().HfFileSystem()
    groups: list[Any] = []
    left = take
    for path in paths:
        address = f"datasets/{repo.name}@{repo.commit}/{path}"
        with files.open(address, block_size=STREAMED_BLOCK_BYTES) as remote, pq.ParquetFile(remote) as file:
            for group in range(file.num_row_groups):
                if left <= 0:
                    return pa.concat_tables(groups)
                groups.append(file.read_row_group(group, use_threads=False).slice(0, left))
                left -= groups[-1].num_rows
    return pa.concat_tables(groups)


def _first_rows(repo: hub.Repo, reader: str, split: str, paths: Sequence[str], take: int) -> Any:
    """The first rows of files in another format, through `datasets` as a stream."""
    import datasets

    files = {split: [f"hf://datasets/{repo.name}@{repo.commit}/{path}" for path in paths]}
    stream = datasets.load_dataset(reader, data_files=files, split=split, streaming=True)
    return pa.Table.from_pylist(list(islice(stream, take)))


def _files(repo: hub.Repo, split: str, who: str) -> tuple[str, list[str]]:
    """Which of the library's readers reads a split, and its files in order. The hub is asked once."""
    path = repo.kept("splits", ".json")
    try:
        found = json.loads(path.read_bytes())
        reader, files = found["reader"], found["files"]
    except (OSError, ValueError, KeyError, TypeError):
        reader, files = _resolved(repo, who)
        hub.keep(path, json.dumps({"reader": reader, "files": files}).encode())
    if split not in files:
        raise DataError(f"{who}: {repo.label} has no split {split!r} (found: {', '.join(files)}); correct `split`")
    return reader, files[split]


def _resolved(repo: hub.Repo, who: str) -> tuple[str, dict[str, list[str]]]:
    """The reader and the files of every split, as `datasets` finds them from the dataset's card and file names."""
    name = repo.name.rpartition("/")[2]
    if f"{name}.py" in hub.listing(repo, who):
        raise DataError(
            f"{who}: {repo.label} runs a script ({name}.py), which is never done; use a commit that has files"
        )
    hub.library()
    import datasets

    with hub.explained(who, repo.label):
        try:
            # With the scheme before it, a name is never taken for a folder of this machine. The cache is this commit's
            # alone: where the hub fails, `datasets` falls back on the newest commit that it finds there.
            builder = datasets.load_dataset_builder(
                f"hf://datasets/{repo.name}", revision=repo.commit, cache_dir=str(repo.kept("arrow"))
            )
        except (datasets.exceptions.DataFilesNotFoundError, ValueError) as problem:
            raise _unreadable(repo, who, problem) from None
    root = f"hf://datasets/{repo.name}@{repo.commit}/"
    files = builder.config.data_files or {}
    return builder.name, {str(split): [path.removeprefix(root) for path in paths] for split, paths in files.items()}


def _unreadable(repo: hub.Repo, who: str, problem: Exception) -> DataError:
    cause = problem.__cause__ or problem
    reason = " ".join(hub.without_secrets(str(cause)).split())
    return DataError(f"{who}: {repo.label} cannot be read by `datasets`: {reason}")
