"""Models: what competes, in which precision, and what computes it."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from harness.suite.fields import Closed, Id, Name, Seeds

Precision: TypeAlias = Literal["fp32", "bf16", "int8"]
"""In which a model's weights are multiplied, once `auto` is decided."""
Runtime: TypeAlias = Literal["torch", "openvino"]
"""What computes a model."""


def _is_torch(runtime: str) -> bool:
    """Whether a runtime is the one that there was before there were two: left out, it is in no digest."""
    return runtime == "torch"


class MajorityModel(Closed):
    """The training split's larger class, always."""

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

    @model_validator(mode="after")
    def _ngrams_are_a_range(self) -> "TfidfModel":
        if not 1 <= self.ngram_range[0] <= self.ngram_range[1]:
            raise ValueError("ngram_range must rise from at least 1")
        return self


class ProbeModel(Closed):
    """Logistic regression over the frozen base's mean token state: what the base knows before any fine-tuning."""

    id: Id
    backend: Literal["probe"]
    base: Id
    train_split: Id
    C: Annotated[float, Field(gt=0)]
    precision: Literal["fp32", "bf16"]


class TransformerModel(Closed):
    """The base with an untrained head (one per seed), or with weights that were trained without PEFT (`adapter`)."""

    id: Id
    backend: Literal["transformer"]
    base: Id | None = None
    seeds: Seeds | None = None
    adapter: Id | None = None
    precision: Literal["fp32", "bf16", "int8", "auto"]
    """`auto`: the fastest whose answers are those of the reference on this machine, else fp32."""
    runtime: Runtime = Field(default="torch", exclude_if=_is_torch)
    """torch where it is absent."""

    @model_validator(mode="after")
    def _is_one_of_two(self) -> "TransformerModel":
        if self.adapter is None and (self.base is None or self.seeds is None):
            raise ValueError("give base and seeds for an untrained head, or adapter for trained weights")
        if self.adapter is not None and (self.base is not None or self.seeds is not None):
            raise ValueError("adapter already says base and seeds; remove them here")
        return self


class PeftModel(Closed):
    """A base with a PEFT adapter on it, one per seed of its training."""

    id: Id
    backend: Literal["peft"]
    adapter: Id
    precision: Literal["fp32", "bf16", "int8", "auto"]
    """`auto`: the fastest whose answers are those of the reference on this machine, else fp32."""
    runtime: Runtime = Field(default="torch", exclude_if=_is_torch)
    """torch where it is absent."""


class CheckpointLabels(Closed):
    """Which outputs of a finished classifier stand for which class."""

    negative: Annotated[tuple[Name, ...], Field(min_length=1, max_length=1)]
    """Names of outputs, as the checkpoint's `id2label` has them."""
    positive: Annotated[tuple[Name, ...], Field(min_length=1, max_length=1)]

    @model_validator(mode="after")
    def _are_apart(self) -> "CheckpointLabels":
        if set(self.negative) & set(self.positive):
            raise ValueError("the same output cannot be negative and positive")
        return self


class CheckpointModel(Closed):
    """A finished classifier with two outputs, as its checkpoint has it."""

    id: Id
    backend: Literal["checkpoint"]
    base: Id
    labels: CheckpointLabels | None = Field(default=None, exclude_if=lambda value: value is None)
    """Needed where the names of its outputs do not plainly say which is negative and which positive."""
    precision: Literal["fp32", "bf16"]
    runtime: Runtime = Field(default="torch", exclude_if=_is_torch)
    """torch where it is absent."""


Model: TypeAlias = Annotated[
    MajorityModel | TfidfModel | ProbeModel | TransformerModel | PeftModel | CheckpointModel,
    Field(discriminator="backend"),
]
