"""Declarations of splits: the source of their rows, and the selection from it."""

import math
import re
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from harness.artifacts import plugins
from harness.suite.fields import PLUG_IN, Closed, Id, Name, Seed, Sha256, Share, check_not_turned, kind_of, repeated
from harness.suite.gates import SLICE_VALUES

PROJECT_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
DATASET_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$"
COMMIT_PATTERN = r"^[0-9a-f]{40}$"
NUMBER = re.compile(r"[+-]?(\d{1,20}(\.\d{0,20})?|\.\d{1,20})")


def _can_be_slices(names: tuple[str, ...]) -> tuple[str, ...]:
    if twice := repeated(names):
        raise ValueError(f"names {twice[0]!r} more than once")
    for name in names:
        if name in SLICE_VALUES:
            raise ValueError(f"{name!r} is already a slice of every split; rename the column")
    return names


SliceColumns = Annotated[tuple[Name, ...], AfterValidator(_can_be_slices)]


def _is_absent(value: object) -> bool:
    """True for a key that is not declared; dumps omit it, so that digests of earlier suites stay the same."""
    return value is None


class ClusterShare(Closed):
    """A part of the clusters or texts, so that none is in two splits: shuffled with `seed`, from `start` to `stop`."""

    seed: Seed
    start: Share
    stop: Share

    @model_validator(mode="after")
    def _is_not_empty(self) -> "ClusterShare":
        if self.start >= self.stop:
            raise ValueError(f"start {self.start} must be below stop {self.stop}")
        return self


class Perturb(Closed):
    """Changed copies of the rows, each beside its original, as pairs."""

    kind: Literal["typos", "case", "names", "neutral", "negation", "praise", "complaint"]
    """`typos`, `case`, `names`, `neutral`: the answer should stay. `praise`, `complaint`, `negation`: the score must
    rise, fall, or move away from the label."""
    seed: Seed


class Draw(Closed):
    """Selection and order of a source's rows."""

    id: Id
    shuffle_seed: Seed | None = None
    """Order of `numpy.random.default_rng(seed).permutation(n)`, as `datasets` shuffles."""
    stratify: bool = False
    """If true, `take` keeps the source's share of each label, to the nearest row."""
    share: ClusterShare | None = Field(default=None, exclude_if=_is_absent)
    """Part of the rows, divided by cluster, or by text where rows have no cluster; all if absent."""
    skip: Annotated[int, Field(ge=1)] | None = Field(default=None, exclude_if=_is_absent)
    """Number of rows to leave out at the start, after shuffling; none if absent."""
    take: Annotated[int, Field(ge=1)] | None = None
    """Number of rows to take from there; all if absent."""
    cluster_block: Annotated[int, Field(ge=2)] | None = None
    """Number of consecutive rows of the source that form a cluster, for ordered sources with similar neighbours."""
    perturb: Perturb | None = Field(default=None, exclude_if=_is_absent)
    """If present, each drawn row is followed by a changed copy, and both are a pair."""

    @model_validator(mode="after")
    def _stratifies_what_it_takes(self) -> "Draw":
        if self.stratify and self.take is None and self.skip is None:
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


def canonical(value: object) -> str:
    """A label's value as text, the same in every format: `1`, `1.0` and `"1"` are equal, and so are true and `"True"`.
    Blanks around a string do not count; no value at all is an empty text."""
    if value is None:
        return ""
    if isinstance(value, str) and (bare := value.strip()).casefold() not in ("true", "false"):
        if not NUMBER.fullmatch(bare):
            return bare
        value = float(bare)
    if isinstance(value, bool | str):
        return str(value).strip().casefold()
    if isinstance(value, float | Decimal):
        value = float(value)
        return str(int(value)) if value.is_integer() else "" if math.isnan(value) else str(value)
    return str(value)


def _is_value(value: Any) -> Any:
    values = value if isinstance(value, list | tuple) else [value]
    if not values or any(not isinstance(one, str | int | float) for one in values):
        raise ValueError("must be a string, a number, true, false, or a list of these")
    return tuple(value) if isinstance(value, list) else value


LabelValue: TypeAlias = bool | int | float | str
LabelValues = Annotated[LabelValue | tuple[LabelValue, ...], BeforeValidator(_is_value)]


class Labels(Closed):
    """Values of the label column that mean negative and positive. Rows with other values are dropped."""

    negative: LabelValues
    positive: LabelValues

    @model_validator(mode="after")
    def _are_apart(self) -> "Labels":
        both = {canonical(one) for one in _listed(self.negative)} & {canonical(one) for one in _listed(self.positive)}
        if both:
            raise ValueError(f"{min(both)!r} cannot be both negative and positive")
        if "" in map(canonical, (*_listed(self.negative), *_listed(self.positive))):
            raise ValueError("a row without a label is dropped, so an empty value cannot be declared")
        check_not_turned(_listed(self.negative), _listed(self.positive))
        return self

    @cached_property
    def classes(self) -> dict[str, int]:
        """The label that each declared value means, by its canonical form."""
        negative = dict.fromkeys(map(canonical, _listed(self.negative)), 0)
        return negative | dict.fromkeys(map(canonical, _listed(self.positive)), 1)


def _listed(values: LabelValue | tuple[LabelValue, ...]) -> tuple[LabelValue, ...]:
    return values if isinstance(values, tuple) else (values,)


def _is_column(value: Any) -> Any:
    is_name = isinstance(value, str) and value != ""
    is_number = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if not is_name and not is_number:
        raise ValueError("must be a column's name, or its number, counted from 1, in a CSV file without a header")
    return value


ColumnKey = Annotated[str | int | None, BeforeValidator(_is_column)]


class Columns(Closed):
    """Columns to read, by name, or by number in a CSV file without a header."""

    content: ColumnKey = None
    """Column of the texts; `content` if absent."""
    title: ColumnKey = None
    """Column of the titles; `title` if absent, where there is one."""
    label: ColumnKey = None
    """Column of the labels; `label` if absent."""

    @model_validator(mode="after")
    def _are_of_one_kind(self) -> "Columns":
        stated = [key for key in (self.content, self.title, self.label) if key is not None]
        if not stated:
            raise ValueError("names no column; give content, title or label")
        if repeated(stated):
            raise ValueError(f"names {repeated(stated)[0]!r} more than once")
        if self.by_number and (not all(isinstance(key, int) for key in stated) or None in (self.content, self.label)):
            raise ValueError("without a header, give content and label, and title if there is one, all by number")
        return self

    @property
    def by_number(self) -> bool:
        """True if the file has no header."""
        return any(isinstance(key, int) for key in (self.content, self.title, self.label))


class NamedColumns(Draw):
    """Rows whose columns have names: `label` (0 or 1), `content` and, where there is one, `title`."""

    columns: Columns | None = Field(default=None, exclude_if=_is_absent)
    """Names of these columns, where they are others."""
    labels: Labels | None = Field(default=None, exclude_if=_is_absent)
    """Values that mean negative and positive; 0 and 1 if absent."""
    text: JoinedText | None = None
    """The column to read if title and content are joined in one."""
    cluster: Name | None = None
    """Column with the cluster of each row."""
    slice_columns: SliceColumns = ()
    """Columns whose values are slices of the split."""
    pair: Name | None = Field(default=None, exclude_if=_is_absent)
    """Column with the pair, or larger group, of each row, whose rows are judged together. Pairs are clusters."""
    change: Name | None = Field(default=None, exclude_if=_is_absent)
    """Column that is `rise` or `fall` for a row whose score must be above or below that of its pair's original, and
    empty for the original."""
    unlabelled: bool = Field(default=False, exclude_if=lambda value: not value)
    """If true, rows have no labels, and no label column is read."""

    @model_validator(mode="after")
    def _has_whole_pairs(self) -> "NamedColumns":
        if self.pair is None and self.change is not None:
            raise ValueError("change needs pair")
        if self.unlabelled and self.pair is None and self.perturb is None:
            raise ValueError("rows without labels need pair or perturb; nothing else can be measured on them")
        if self.unlabelled and (self.labels or self.stratify or (self.columns and self.columns.label)):
            raise ValueError("unlabelled rows have no labels; remove labels, stratify and the label column")
        if self.unlabelled and self.perturb is not None and self.perturb.kind == "negation":
            raise ValueError("perturb 'negation' needs labels: a score moves away from the label")
        if self.pair is not None:
            other = [key for key in ("cluster", "cluster_block", "perturb", "skip", "take") if getattr(self, key)]
            if other:
                raise ValueError(f"pair and {other[0]} exclude each other; for a part of the pairs, use share")
        return self

    @property
    def group(self) -> str | None:
        """The column with the cluster of each row: the declared one, or the pair."""
        return self.pair or self.cluster

    @property
    def kept_columns(self) -> tuple[str, ...]:
        """The columns whose values are kept as they are."""
        return self.slice_columns if self.change is None else tuple(dict.fromkeys((*self.slice_columns, self.change)))

    @model_validator(mode="after")
    def _joins_or_names_its_texts(self) -> "NamedColumns":
        if self.text and self.columns and (self.columns.content or self.columns.title):
            raise ValueError("text already names the column of title and content; remove both from columns")
        if self.columns and self.columns.by_number and not getattr(self, "has_no_header", False):
            raise ValueError("columns by number are for format 'csv' only, for a file without a header; name them")
        return self

    @property
    def label_column(self) -> str | int:
        """The column of the labels."""
        return (self.columns and self.columns.label) or "label"

    @property
    def content_column(self) -> str | int:
        """The column of the texts, titles included if they are joined."""
        return self.text.column if self.text else (self.columns and self.columns.content) or "content"

    @property
    def title_column(self) -> str | int | None:
        """The column of the titles, which a source may lack unless it is declared; None if there cannot be one."""
        if self.text or (self.columns and self.columns.by_number and self.columns.title is None):
            return None
        return (self.columns and self.columns.title) or "title"

    @property
    def title_is_declared(self) -> bool:
        """True if the source must have titles."""
        return bool(self.columns and self.columns.title)


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
        problems += ["cluster_share and share exclude each other"] if self.cluster_share and self.share else []
        if problems:
            raise ValueError("; ".join(problems))
        return self


def _and(words: list[str]) -> str:
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)


def _is_one_character(delimiter: str) -> str:
    if len(delimiter) != 1 or delimiter in '"\r\n\0':
        raise ValueError("must be one character, other than a quote and a line end")
    return delimiter


Delimiter = Annotated[str, AfterValidator(_is_one_character)]
Encoding: TypeAlias = Literal[
    "utf-8", "utf-16", "cp1250", "cp1251", "cp1252", "latin-1", "mac-roman", "shift_jis", "gb18030"
]


_OF_COLUMNS = ("columns", "labels", "text", "cluster", "slice_columns", "pair", "change", "unlabelled")
"""Keys about columns that have names."""


class FileSplit(NamedColumns):
    """Rows of a local file, plain or compressed (`.gz`, `.bz2`, `.zst`)."""

    source: Literal["file"]
    path: Name
    """Path relative to the suite's folder, or `$HARNESS_DATA/…` for one relative to that variable's folder."""
    format: Literal["parquet", "csv", "jsonl", "fasttext"]
    """`parquet` and `jsonl`: columns have names. `csv`: the same, if a key below or one about columns is declared; if
    none is, no header, class 1 or 2, title, content, newlines as `\\n`. `fasttext`: `__label__1 title: content`."""
    delimiter: Delimiter | None = Field(default=None, exclude_if=_is_absent)
    """Character between the cells of a CSV file; a comma if absent."""
    encoding: Encoding | None = Field(default=None, exclude_if=_is_absent)
    """Encoding of a text file; UTF-8 if absent."""

    @model_validator(mode="after")
    def _has_what_its_format_has(self) -> "FileSplit":
        refused = {
            "fasttext": ("delimiter", *_OF_COLUMNS),
            "parquet": ("delimiter", "encoding"),
            "jsonl": ("delimiter",),
        }
        if keys := [key for key in refused.get(self.format, ()) if getattr(self, key)]:
            raise ValueError(f"format {self.format!r} has no {_and(keys)}; remove {'it' if len(keys) == 1 else 'them'}")
        keys = [key for key in ("cluster", "slice_columns", "text", "pair", "change") if getattr(self, key)]
        if keys and self.has_no_header:
            raise ValueError(f"columns by number have no names; remove {_and(keys)}, or give the file a header")
        return self

    @property
    def has_no_header(self) -> bool:
        """True for a CSV file whose columns are declared by number."""
        return self.format == "csv" and self.columns is not None and self.columns.by_number

    @property
    def is_original_csv(self) -> bool:
        """True for Amazon Polarity's own form of CSV, which no key describes."""
        keys = ("delimiter", "encoding", *_OF_COLUMNS)
        return self.format == "csv" and not any(getattr(self, key) for key in keys)


class HubSplit(NamedColumns):
    """Rows of a dataset on the Hugging Face hub, at one commit."""

    source: Literal["hub"]
    dataset: Annotated[str, Field(pattern=DATASET_PATTERN)]
    revision: Annotated[str, Field(pattern=COMMIT_PATTERN)] | None = None
    """Commit; if absent, the newest one at the first run is pinned in the lock."""
    split: Name


SOURCE_NAMES = ("sdist", "file", "hub")
"""The built-in sources."""


def _is_source(name: str) -> str:
    plugins.check("source", name, SOURCE_NAMES)
    return name


class PlugInSplit(Draw):
    """Rows of a source that an installed package adds. They have clusters if the source gives them any."""

    source: Annotated[
        str, AfterValidator(_is_source), WithJsonSchema({"type": "string", "not": {"enum": [*SOURCE_NAMES]}})
    ]
    slice_columns: SliceColumns = ()
    """Columns whose values are slices of the split."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Keys and values for the source."""


SplitRule: TypeAlias = Annotated[
    Annotated[SdistSplit, Tag("sdist")]
    | Annotated[FileSplit, Tag("file")]
    | Annotated[HubSplit, Tag("hub")]
    | Annotated[PlugInSplit, Tag(PLUG_IN)],
    Discriminator(kind_of("source", SOURCE_NAMES)),
]
