"""Declarations of the competing models, with their precision and runtime."""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Discriminator, Field, Tag, WithJsonSchema, model_validator

from harness.artifacts import plugins
from harness.suite.fields import PLUG_IN, Closed, Id, Name, Seed, Seeds, Sha256, check_not_turned, kind_of, repeated
from harness.suite.prompts import PromptModel
from harness.suite.splits import Delimiter, Encoding, Labels

Precision: TypeAlias = Literal["fp32", "bf16", "int8"]
"""Precision in which a model computes, once `auto` is decided."""
Runtime: TypeAlias = Literal["torch", "openvino"]
"""The library that computes a model."""


def _is_torch(runtime: str) -> bool:
    """True for the runtime that was once the only one; it is omitted from dumps, so that digests stay the same."""
    return runtime == "torch"


class Repeats(Closed):
    """Draws of few training rows. The model is fitted on each draw, and they count like seeds."""

    per_label: Annotated[int, Field(ge=1)]
    """Number of rows of each label in a draw."""
    draws: Annotated[int, Field(ge=2, le=1000)]
    seed: Seed
    """Seed of all draws."""


class MajorityModel(Closed):
    """Always the training split's larger class."""

    id: Id
    backend: Literal["majority"]
    train_split: Id


class TfidfModel(Closed):
    """Logistic regression over TF-IDF of word n-grams."""

    id: Id
    backend: Literal["tfidf"]
    train_split: Id
    ngram_range: Annotated[tuple[int, ...], Field(min_length=2, max_length=2)]
    sublinear_tf: bool
    C: Annotated[float, Field(gt=0)]
    """Inverse strength of L2 regularisation."""
    repeats: Repeats | None = Field(default=None, exclude_if=lambda value: value is None)
    """If absent, the model is fitted once, on all training rows."""

    @model_validator(mode="after")
    def _ngrams_are_a_range(self) -> "TfidfModel":
        if not 1 <= self.ngram_range[0] <= self.ngram_range[1]:
            raise ValueError("ngram_range must be two numbers with 1 <= first <= second")
        return self


class ProbeModel(Closed):
    """Logistic regression over the frozen base's mean token state, which shows what it knows without fine-tuning."""

    id: Id
    backend: Literal["probe"]
    base: Id
    train_split: Id
    C: Annotated[float, Field(gt=0)]
    normalise: bool = Field(default=False, exclude_if=lambda value: not value)
    """If true, each text's state is divided by its length (L2) before the regression."""
    repeats: Repeats | None = Field(default=None, exclude_if=lambda value: value is None)
    """If absent, the model is fitted once, on all training rows."""
    precision: Literal["fp32", "bf16"]


class TransformerModel(Closed):
    """The base with an untrained head (one per seed), or with weights trained without PEFT (`adapter`)."""

    id: Id
    backend: Literal["transformer"]
    base: Id | None = None
    seeds: Seeds | None = None
    adapter: Id | None = None
    precision: Literal["fp32", "bf16", "int8", "auto"]
    """`auto`: the fastest precision that gives the reference's answers on this machine, else fp32."""
    runtime: Runtime = Field(default="torch", exclude_if=_is_torch)
    """Defaults to torch."""

    @model_validator(mode="after")
    def _is_one_of_two(self) -> "TransformerModel":
        if self.adapter is None and (self.base is None or self.seeds is None):
            raise ValueError("give base and seeds for an untrained head, or adapter for trained weights")
        if self.adapter is not None and (self.base is not None or self.seeds is not None):
            raise ValueError("adapter already determines base and seeds; remove them here")
        return self


class PeftModel(Closed):
    """A base with a PEFT adapter, one per seed of its training."""

    id: Id
    backend: Literal["peft"]
    adapter: Id
    precision: Literal["fp32", "bf16", "int8", "auto"]
    """`auto`: the fastest precision that gives the reference's answers on this machine, else fp32."""
    runtime: Runtime = Field(default="torch", exclude_if=_is_torch)
    """Defaults to torch."""


class CheckpointLabels(Closed):
    """Assignment of a finished classifier's outputs to the two classes. Outputs that neither names are neutral."""

    negative: tuple[Name, ...]
    """Names of outputs, as in the checkpoint's `id2label`; none for a classifier with a single output."""
    positive: Annotated[tuple[Name, ...], Field(min_length=1)]
    midpoint: float | None = Field(default=None, exclude_if=lambda value: value is None)
    """Value of a single output above which it means positive; 0, as for log-odds, if absent."""

    @model_validator(mode="after")
    def _are_apart(self) -> "CheckpointLabels":
        if repeated((*self.negative, *self.positive)):
            raise ValueError("the same output cannot be both negative and positive")
        if not self.negative and len(self.positive) > 1:
            raise ValueError("name the negative outputs; only a classifier with a single output has none")
        if self.negative and self.midpoint is not None:
            raise ValueError("midpoint is for a classifier with a single output, whose negative is []")
        check_not_turned(self.negative, self.positive)
        return self


class CheckpointModel(Closed):
    """A finished classifier, used as its checkpoint defines it."""

    id: Id
    backend: Literal["checkpoint"]
    base: Id
    labels: CheckpointLabels | None = Field(default=None, exclude_if=lambda value: value is None)
    """Required unless it has two outputs whose names show clearly which is negative and which positive."""
    precision: Literal["fp32", "bf16"]
    runtime: Runtime = Field(default="torch", exclude_if=_is_torch)
    """Defaults to torch."""


def _is_absent(value: object) -> bool:
    return value is None


class AnswerColumns(Closed):
    """Columns of a file of answers: one that says which row is answered, and one with the answer."""

    example: Name | None = None
    """Column of example ids."""
    row: Name | None = None
    """Column of row numbers, counted from 0 in the order of the split."""
    text: Name | None = None
    """Column of texts: contents, or texts as the template renders them."""
    score: Name | None = None
    """Column with the probability of positive."""
    label: Name | None = None
    """Column with a label, which counts as a probability of 0 or 1."""

    @model_validator(mode="after")
    def _are_one_key_and_one_answer(self) -> "AnswerColumns":
        if sum(bool(one) for one in (self.example, self.row, self.text)) != 1:
            raise ValueError("give one of example, row and text")
        if (self.score is None) == (self.label is None):
            raise ValueError("give either score or label")
        return self

    @property
    def key(self) -> str:
        """The column that says which row is answered."""
        return self.example or self.row or self.text or ""


class PredictionsModel(Closed):
    """Answers of a system that runs elsewhere, from a file whose rows are matched to those of the scored splits."""

    id: Id
    backend: Literal["predictions"]
    path: Name
    """Path relative to the suite's folder, or `$HARNESS_DATA/…`."""
    format: Literal["parquet", "csv", "jsonl"]
    sha256: Sha256
    """Digest of the file."""
    columns: AnswerColumns
    labels: Labels | None = Field(default=None, exclude_if=_is_absent)
    """Values of the label column that mean negative and positive; 0 and 1 if absent."""
    delimiter: Delimiter | None = Field(default=None, exclude_if=_is_absent)
    """Character between the cells of a CSV file; a comma if absent."""
    encoding: Encoding | None = Field(default=None, exclude_if=_is_absent)
    """Encoding of a text file; UTF-8 if absent."""
    splits: Annotated[tuple[Id, ...] | None, Field(min_length=1, exclude_if=_is_absent)] = None
    """Splits that the file answers; all scored ones if absent."""
    origin: Name | None = Field(default=None, exclude_if=_is_absent)
    """The system and file that the answers come from, for display."""


BACKEND_NAMES = ("majority", "tfidf", "probe", "transformer", "peft", "checkpoint", "prompt", "predictions")
"""The built-in backends."""


def _is_backend(name: str) -> str:
    plugins.check("backend", name, BACKEND_NAMES)
    return name


class PlugInModel(Closed):
    """A model of a backend that an installed package adds."""

    id: Id
    backend: Annotated[
        str, AfterValidator(_is_backend), WithJsonSchema({"type": "string", "not": {"enum": [*BACKEND_NAMES]}})
    ]
    base: Id | None = None
    """A foundation model, whose folder the backend is given."""
    train_split: Id | None = None
    """A split, whose texts and labels the backend is given."""
    seeds: Seeds | None = None
    """The model is scored once with each."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Keys and values for the backend."""


Model: TypeAlias = Annotated[
    Annotated[MajorityModel, Tag("majority")]
    | Annotated[TfidfModel, Tag("tfidf")]
    | Annotated[ProbeModel, Tag("probe")]
    | Annotated[TransformerModel, Tag("transformer")]
    | Annotated[PeftModel, Tag("peft")]
    | Annotated[CheckpointModel, Tag("checkpoint")]
    | Annotated[PromptModel, Tag("prompt")]
    | Annotated[PredictionsModel, Tag("predictions")]
    | Annotated[PlugInModel, Tag(PLUG_IN)],
    Discriminator(kind_of("backend", BACKEND_NAMES)),
]
