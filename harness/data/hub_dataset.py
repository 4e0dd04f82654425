"""Rows of a dataset on the Hugging Face hub, at one commit.

`datasets` determines the files of a split. They are fetched, their digests verified, and cached as Arrow on disk, of
which only the requested rows are read. For a rule that takes the first rows in order, only the beginning of the files
is fetched, and cached as a small Parquet file. Anything in the cache needs no network.

A dataset that requires running its own script is refused. The columns are those of a Parquet file.
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
from harness.data import parquet
from harness.data.parquet import LABEL_BATCH_ROWS, ParquetRows
from harness.data.source import Places, Rows
from harness.errors import DataError
from harness.stats.inference import Ints
from harness.suite.schema import HubSplit

STREAMED_BLOCK_BYTES = 2**20
"""Smallest number of bytes requested from a remote Parquet file."""


def rows(rule: HubSplit, places: Places) -> Rows:
    """The rule's rows, in the dataset's order: all of the split, or only the first rows that the rule takes.

    Raises:
        FetchError: the hub does not serve them.
        DataError: the dataset needs a script, has no such split, has other columns, or other bytes than the hub states.
    """
    who = f"split {rule.id}"
    commit = rule.revision or hub.newest_commit("dataset", rule.dataset, who)
    repo = hub.Repo("dataset", rule.dataset, commit, places.cache / "hub")
    where = f"{who}: {repo.label}, split {rule.split!r}"
    chooses = rule.shuffle_seed is not None or rule.stratify or rule.labels or rule.share
    if rule.take is not None and not chooses:
        found = ParquetRows(_head(repo, rule.split, (rule.skip or 0) + rule.take, who), rule, where)
    else:
        found = ArrowRows(_prepared(repo, rule.split, who), rule, where)
    found.commit = commit
    return found


class ArrowRows(ParquetRows):
    """The rows of a table on disk that is mapped into memory, checked like those of a Parquet file."""

    def __init__(self, table: Any, rule: HubSplit, where: str) -> None:
        self.table, self.rule, self.where = table, rule, where
        self.n, self.size = table.num_rows, table.nbytes
        self.texts = self._checked(table.schema)

    def _batches(
        self, columns: list[str], rows: int = LABEL_BATCH_ROWS, wanted: Ints | None = None
    ) -> Iterator[tuple[int, Any]]:
        """Batches, each with its first row's position. Batches without rows in `wanted` (sorted) are skipped."""
        start = 0
        for batch in self.table.select(columns).to_batches(max_chunksize=rows):
            end = start + batch.num_rows
            if wanted is None or np.searchsorted(wanted, start) < np.searchsorted(wanted, end):
                yield start, batch
            start = end


def _prepared(repo: hub.Repo, split: str, who: str) -> Any:
    """The whole split as an Arrow table, mapped from disk. Its files are fetched and verified the first time."""
    reader, paths = _files(repo, split, who)
    folder = hub.fetch(repo, paths, who)
    import datasets

    try:
        # The files are given by name: a path chosen by the hub must not be read as a pattern.
        files = {split: [glob.escape(str(folder / path)) for path in paths]}
        return datasets.load_dataset(
            reader, data_files=files, split=split, cache_dir=str(repo.kept("arrow"))
        ).data.table
    except (datasets.exceptions.DatasetsError, pa.ArrowException, ValueError, OSError) as problem:
        raise _unreadable(repo, who, problem) from None


def _head(repo: hub.Repo, split: str, take: int, who: str) -> Path:
    """A Parquet file with the split's first `take` rows, or all if there are fewer."""
    path = repo.kept("heads") / f"{digest.of_json([split, take])[:16]}.parquet"
    if path.is_file():
        return path
    reader, paths = _files(repo, split, who)
    with hub.explained(who, repo.label):
        try:
            table = _first_rows_of_parquet(repo, paths, take) if reader == "parquet" else None
            table = table if table is not None else _first_rows(repo, reader, split, paths, take)
        except (pa.ArrowInvalid, UnicodeDecodeError) as problem:  # the last: from a column's name
            raise _unreadable(repo, who, problem) from None
    written = io.BytesIO()
    pq.write_table(table, written)
    hub.keep(path, written.getvalue())
    return path


def _first_rows_of_parquet(repo: hub.Repo, paths: Sequence[str], take: int) -> Any:
    """The first rows of these files; only their footers and first row groups are requested."""
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
    """The first rows of files in another format, streamed by `datasets`."""
    import datasets

    files = {split: [f"hf://datasets/{repo.name}@{repo.commit}/{path}" for path in paths]}
    stream = datasets.load_dataset(reader, data_files=files, split=split, streaming=True)
    return pa.Table.from_pylist(list(islice(stream, take)))


def splits_of(repo: hub.Repo, who: str) -> list[str]:
    """The names of a dataset's splits.

    Raises:
        FetchError: the hub does not serve it.
        DataError: the dataset needs a script, or `datasets` cannot read it.
    """
    return list(_all_files(repo, who)[1])


def first_rows(repo: hub.Repo, split: str, n: int, who: str) -> list[dict[str, Any]]:
    """The first rows of a split, before anything is declared of it.

    Raises:
        FetchError: the hub does not serve them.
        DataError: `datasets` cannot read them.
    """
    return parquet.first_rows(_head(repo, split, n, who), n)


def _files(repo: hub.Repo, split: str, who: str) -> tuple[str, list[str]]:
    """The name of the library's reader for a split, and the split's files in order."""
    reader, files = _all_files(repo, who)
    if split not in files:
        raise DataError(f"{who}: {repo.label} has no split {split!r} (found: {', '.join(files)}); correct `split`")
    return reader, files[split]


def _all_files(repo: hub.Repo, who: str) -> tuple[str, dict[str, list[str]]]:
    """The name of the library's reader, and the files of every split in order. The answer is cached."""
    path = repo.kept("splits", ".json")
    try:
        found = json.loads(path.read_bytes())
        return found["reader"], found["files"]
    except (OSError, ValueError, KeyError, TypeError):
        reader, files = _resolved(repo, who)
        hub.keep(path, json.dumps({"reader": reader, "files": files}).encode())
        return reader, files


def _resolved(repo: hub.Repo, who: str) -> tuple[str, dict[str, list[str]]]:
    """The reader and the files of every split, as `datasets` derives them from the dataset's card and file names."""
    name = repo.name.rpartition("/")[2]
    if f"{name}.py" in hub.listing(repo, who):
        raise DataError(
            f"{who}: {repo.label} requires running a script ({name}.py), which is never done; use a commit with files"
        )
    hub.library()
    import datasets

    with hub.explained(who, repo.label):
        try:
            # With the scheme, a name is never taken for a local folder. The cache is for this commit only: if the hub
            # fails, `datasets` falls back to the newest commit that it finds there.
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
