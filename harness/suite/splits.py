"""Declarations of splits: the source of their rows, and the selection from it."""

from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, field_validator, model_validator

from harness.suite.fields import Closed, Id, Name, Seed, Sha256, Share, repeated
from harness.suite.gates import SLICE_VALUES

PROJECT_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
DATASET_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$"
COMMIT_PATTERN = r"^[0-9a-f]{40}$"


def _can_be_slices(names: tuple[str, ...]) -> tuple[str, ...]:
    if twice := repeated(names):
        raise ValueError(f"names {twice[0]!r} more than once")
    for name in names:
        if name in SLICE_VALUES:
            raise ValueError(f"{name!r} is already a slice of every split; rename the column")
    return names


SliceColumns = Annotated[tuple[Name, ...], AfterValidator(_can_be_slices)]


class ClusterShare(Closed):
    """A part of the clusters, so that none is in two splits: shuffled with `seed`, from `start` up to `stop`."""

    seed: Seed
    start: Share
    stop: Share

    @model_validator(mode="after")
    def _is_not_empty(self) -> "ClusterShare":
        if self.start >= self.stop:
            raise ValueError(f"start {self.start} must be below stop {self.stop}")
        return self


class Draw(Closed):
    """Selection and order of a source's rows."""

    id: Id
    shuffle_seed: Seed | None = None
    """Order of `numpy.random.default_rng(seed).permutation(n)`, as `datasets` shuffles."""
    stratify: bool = False
    """If true, `take` keeps the source's share of each label, to the nearest row."""
    take: Annotated[int, Field(ge=1)] | None = None
    """Number of rows to take from the start, after shuffling; all if absent."""
    cluster_block: Annotated[int, Field(ge=2)] | None = None
    """Number of consecutive rows of the source that form a cluster, for ordered sources with similar neighbours."""

    @model_validator(mode="after")
    def _stratifies_what_it_takes(self) -> "Draw":
        if self.stratify and self.take is None:
            raise ValueError("stratify needs take")
        if self.cluster_block and getattr(self, "cluster", None):
            raise ValueError("cluster and cluster_block exclude each other; remove one of them")
        return self


class JoinedText(Closed):
    """One column that holds title and content."""

    column: Name
    separator: Name
    """Its first occurrence separates title and content; a text without it is all content."""

    @field_validator("column")
    @classmethod
    def _is_not_the_label(cls, column: str) -> str:
        if column == "label":
            raise ValueError("'label' holds the labels; name the column with the texts")
        return column

    def cut(self, text: str) -> tuple[str, str]:
        """Split a text into title and content."""
        title, separator, content = text.partition(self.separator)
        return (title, content) if separator else ("", text)


class NamedColumns(Draw):
    """Rows whose columns have names: `label` (0 or 1), `content` and, where there is one, `title`."""

    text: JoinedText | None = None
    """The column to read if title and content are joined in one."""
    cluster: Name | None = None
    """Column with the cluster of each row."""
    slice_columns: SliceColumns = ()
    """Columns whose values are slices of the split."""


class SdistSplit(Draw):
    """Rows of a tab-separated file (no header, no quoting, UTF-8) in a source distribution from the package index."""

    source: Literal["sdist"]
    project: Annotated[str, Field(pattern=PROJECT_PATTERN)]
    version: Name
    sha256: Sha256
    """Digest of the source distribution as the index serves it."""
    members: Annotated[tuple[Name, ...], Field(min_length=1, max_length=2)]
    """Path of the file in the archive; with two, the first is an archive that holds the second."""
    columns: Annotated[tuple[Name, ...], Field(min_length=2)]
    """Names for the file's columns, in order; they must include `content` and the columns named by other keys."""
    rating: Name
    """Column with a number whose sign is the label."""
    min_abs_rating: Annotated[float, Field(ge=0)]
    """Rows whose rating is closer to zero than this are omitted, since their raters did not agree on a sign."""
    cluster: Name | None = None
    """Column whose part before the first `_` is the cluster of the row."""
    slice_columns: SliceColumns = ()
    """Columns whose values are slices of the split."""
    cluster_share: ClusterShare | None = None

    @model_validator(mode="after")
    def _columns_exist(self) -> "SdistSplit":
        needed = dict.fromkeys(("content", self.rating, *([self.cluster] if self.cluster else []), *self.slice_columns))
        known = set(self.columns)
        absent = [repr(name) for name in needed if name not in known]
        problems = [f"columns do not name {' and '.join(absent)}"] if absent else []
        twice = [repr(name) for name in repeated(self.columns)]
        problems += [f"columns name {' and '.join(twice)} more than once"] if twice else []
        problems += ["cluster_share needs cluster"] if self.cluster_share and not self.cluster else []
        if problems:
            raise ValueError("; ".join(problems))
        return self


class FileSplit(NamedColumns):
    """Rows of a local file, plain or compressed (`.gz`, `.bz2`, `.zst`)."""

    source: Literal["file"]
    path: Name
    """Path relative to the suite's folder, or `$HARNESS_DATA/…` for one relative to that variable's folder."""
    format: Literal["parquet", "csv", "jsonl", "fasttext"]
    """`parquet` and `jsonl`: columns have names. `csv`: no header, class 1 or 2, title, content, quotes doubled,
    newlines as `\\n`. `fasttext`: `__label__1 title: content`."""

    @model_validator(mode="after")
    def _has_names_for_its_columns(self) -> "FileSplit":
        keys = [key for key in ("text", "cluster", "slice_columns") if getattr(self, key)]
        if keys and self.format in ("csv", "fasttext"):
            listed = " and ".join(part for part in (", ".join(keys[:-1]), keys[-1]) if part)
            raise ValueError(f"format {self.format!r} has no named columns; remove {listed}, or use parquet or jsonl")
        return self


class HubSplit(NamedColumns):
    """Rows of a dataset on the Hugging Face hub, at one commit."""

    source: Literal["hub"]
    dataset: Annotated[str, Field(pattern=DATASET_PATTERN)]
    revision: Annotated[str, Field(pattern=COMMIT_PATTERN)] | None = None
    """Commit; if absent, the newest one at the first run is pinned in the lock."""
    split: Name


SplitRule: TypeAlias = Annotated[SdistSplit | FileSplit | HubSplit, Field(discriminator="source")]
