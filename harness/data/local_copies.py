"""Local copies that can replace a hub split: files in `$HARNESS_DATA/<last part of the dataset's name>`.

A copy is used only if the split drawn from it has the pinned digest, so the choice of file affects no numbers but those
of slices: the digest does not cover the slice columns. A copy may hold the rows that the rule selects, in order, or
rows from which the rule draws them.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, TypeAlias

from harness.data import local_file, text_file
from harness.data.source import Places, Rows
from harness.errors import DataError
from harness.suite.schema import FileSplit, HubSplit

Format: TypeAlias = Literal["parquet", "csv", "jsonl", "fasttext"]

FORMATS: Mapping[str, Format] = {".parquet": "parquet", ".csv": "csv", ".jsonl": "jsonl", ".txt": "fasttext"}
"""Suffix, without that of a compression, to the `format` of a file split."""


def candidates(rule: HubSplit, places: Places, n: int) -> Iterator[tuple[FileSplit, Rows]]:
    """Candidates for the rule's rows: a file split and its rows, for each file and each way to draw from it.

    Args:
        rule: the hub split.
        places: where local copies are.
        n: number of rows of the pinned split.
    """
    for path, kind in _files(rule, places):
        for declared in _readings(rule, path, kind):
            try:
                rows = local_file.rows(declared, places)
                if len(rows) == n:
                    yield declared, rows
            except DataError:
                continue  # not a copy: the next one, or the hub
            draw = {key: getattr(rule, key) for key in ("shuffle_seed", "stratify", "share", "skip", "take")}
            yield declared.model_copy(update=draw), rows


def _readings(rule: HubSplit, path: str, kind: Format) -> Iterator[FileSplit]:
    """File splits for the ways a file may store the rule's columns: as on the hub, or with title and content apart."""
    declared = FileSplit(id=rule.id, source="file", path=path, format=kind, cluster_block=rule.cluster_block)
    if kind in ("parquet", "jsonl"):
        named = {name: getattr(rule, name) for name in ("cluster", "slice_columns", "pair", "change", "unlabelled")}
        of_hub = {"text": rule.text, "columns": rule.columns, "labels": rule.labels}
        for reading in [of_hub, {}] if any(of_hub.values()) else [{}]:
            yield declared.model_copy(update=named | reading)
    elif not rule.slice_columns:  # these formats have none
        yield declared


def _files(rule: HubSplit, places: Places) -> Iterator[tuple[str, Format]]:
    """Path and format of the files that may be copies, sorted by name."""
    folder = rule.dataset.rpartition("/")[2]
    if places.local_copies is None or not (places.local_copies / folder).is_dir():
        return
    for path in sorted((places.local_copies / folder).rglob("*")):
        suffix = _without_compression(path).suffix.lower()
        if suffix in FORMATS and path.is_file():
            yield f"{local_file.LOCAL_COPIES}/{path.relative_to(places.local_copies).as_posix()}", FORMATS[suffix]


def _without_compression(path: Path) -> Path:
    return path.with_suffix("") if path.suffix.lower() in text_file.COMPRESSIONS else path
