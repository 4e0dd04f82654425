"""The tables of a suite file as closed, strict pydantic models: unknown keys and impossible values are errors.

Each field says what it means where it stands; `docs/suites.md` is the same for readers. `harness.suite.load.load` reads
a file into a `Suite` and checks what crosses tables.
"""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from harness.artifacts import digest
from harness.suite.bases import Base, ForeignAdapter, HubAdapter, HubBase, PackageBase, PathAdapter, PathBase
from harness.suite.fields import ID_PATTERN, SHA256_PATTERN, Closed, Id, Name, Seeds, Share, Trials
from harness.suite.gates import (
    SLICE_PATTERN,
    SLICE_VALUES,
    Against,
    DropLimit,
    Expectation,
    FlipLimit,
    Gate,
    MetricName,
    ThroughputLimit,
)
from harness.suite.models import (
    CheckpointLabels,
    CheckpointModel,
    MajorityModel,
    Model,
    PeftModel,
    Precision,
    ProbeModel,
    TfidfModel,
    TransformerModel,
)
from harness.suite.splits import (
    COMMIT_PATTERN,
    DATASET_PATTERN,
    PROJECT_PATTERN,
    ClusterShare,
    FileSplit,
    HubSplit,
    JoinedText,
    SdistSplit,
    SplitRule,
)
from harness.suite.text import TEMPLATE_PATTERN, Text

WITHOUT_PEFT = ("full", "bitfit", "head")
"""Methods that train the foundation model itself; a `transformer` model scores them, a `peft` model all others."""


class EarlyStopping(Closed):
    """When training ends before its last epoch; the weights kept are those of the best epoch."""

    share: Annotated[float, Field(gt=0, lt=1)]
    """Part of the training clusters (rows, where there are none) that is held out and never trained on."""
    patience: Annotated[int, Field(ge=1)]
    """Epochs in a row without a smaller loss on the held-out rows after which it ends."""


class Training(Closed):
    """How weights are trained. One adapter is trained per seed."""

    split: Id
    epochs: Annotated[int, Field(ge=1, le=1000)]
    learning_rate: Annotated[float, Field(gt=0, lt=1)]
    """Peak; it rises linearly over the warm-up and falls linearly to zero."""
    batch_size: Annotated[int, Field(ge=1)]
    warmup_share: Share | None = None
    """Warm-up as a share of all steps."""
    warmup_steps: Annotated[int, Field(ge=0)] | None = None
    """Warm-up in steps; with more of them than the training has, the learning rate never reaches its peak."""
    weight_decay: Annotated[float, Field(ge=0)]
    max_grad_norm: Annotated[float, Field(gt=0)]
    precision: Literal["fp32", "bf16", "auto"]
    """`auto`: bf16 autocast over fp32 master weights where the processor has it, else fp32."""
    # Keys that came later: left out, they are in no dump, and so in no digest of what was trained before.
    accumulate: Annotated[int, Field(ge=1)] | None = Field(default=None, exclude_if=lambda value: value is None)
    """Batches whose gradients make one step of the optimizer; 1 where it is absent."""
    early_stopping: EarlyStopping | None = Field(default=None, exclude_if=lambda value: value is None)
    """Every epoch is trained where it is absent."""
    seeds: Seeds

    @model_validator(mode="after")
    def _has_one_warmup(self) -> "Training":
        if (self.warmup_share is None) == (self.warmup_steps is None):
            raise ValueError("give warmup_share or warmup_steps, one of the two")
        return self


class Adapter(Closed):
    """Weights to train: a PEFT method, or `full` for every weight of the base."""

    id: Id
    base: Id
    method: Name
    """A PEFT type in lower case (`lora`, `ia3`, …) or `full`."""
    params: dict[str, Any]
    """Keyword arguments of that method's configuration class."""
    trials: Trials = None
    """Settings that its authors tried before they chose this one, which counts too; absent where they do not say."""
    train: Training


def _kind_of_adapter(declared: Any) -> str:
    """An adapter without `source` is trained; one that comes from elsewhere says from where."""
    told = declared.get("source", "none") if isinstance(declared, dict) else getattr(declared, "source", "none")
    return str(told)


AnyAdapter: TypeAlias = Annotated[
    Annotated[Adapter, Tag("none")] | Annotated[PathAdapter, Tag("path")] | Annotated[HubAdapter, Tag("hub")],
    Discriminator(
        _kind_of_adapter,
        custom_error_type="unknown_source",
        custom_error_message="must be 'path' or 'hub', or left out where the weights are trained",
    ),
]


class MetricSpec(Closed):
    """A metric to compute for every run."""

    name: MetricName


class Audit(Closed):
    """What the splits are held to before anything is scored."""

    exact_overlap: Literal["forbid", "report"]
    """A text that stands both in a split that is trained on and in one that is scored."""
    near_overlap: Literal["forbid", "report"]
    """The same for nearly equal texts."""
    near_threshold: Annotated[float, Field(gt=0, le=1)]
    """Jaccard similarity of word 3-grams from which two texts are nearly equal."""
    normalised_overlap: Literal["forbid", "report"] = "report"
    """The same for texts that differ only in how they are written: case, blanks, punctuation, entities, look-alikes."""
    repeated_texts: Literal["cluster", "drop", "forbid", "independent"] = "cluster"
    """Rows of one text in a split that is scored: one cluster, kept once, refused, or taken as independent."""


class Suite(Closed):
    """A whole suite file."""

    version: Literal[1]
    name: Id
    description: Name
    primary_metric: MetricName
    text: Text
    split: Annotated[tuple[SplitRule, ...], Field(min_length=1)]
    base: tuple[Base, ...] = ()
    adapter: tuple[AnyAdapter, ...] = ()
    model: Annotated[tuple[Model, ...], Field(min_length=1)]
    metric: Annotated[tuple[MetricSpec, ...], Field(min_length=1)]
    gate: tuple[Gate, ...] = ()
    expect: tuple[Expectation, ...] = ()
    audit: Audit = Audit(exact_overlap="forbid", near_overlap="report", near_threshold=0.8)
    """Where a suite has no `[audit]`: equal texts are forbidden across the line, nearly equal ones reported."""

    @field_validator("version", mode="before")
    @classmethod
    def _version_is_an_integer(cls, version: Any) -> Any:
        if type(version) is not int:  # true and 1.0 equal 1
            raise ValueError("must be 1")
        return version

    @property
    def digest(self) -> str:
        """SHA-256 of the declarations; comments and layout do not count (64 hex digits)."""
        return digest.of_json(self.model_dump(mode="json"))

    @property
    def train_split_ids(self) -> frozenset[str]:
        """Splits that something is trained on; the others are scored."""
        fitted = {m.train_split for m in self.model if isinstance(m, (MajorityModel, TfidfModel, ProbeModel))}
        return frozenset(fitted | {adapter.train.split for adapter in self.trained_adapters})

    @property
    def timed_model_ids(self) -> frozenset[str]:
        """Models whose speed a gate is about."""
        rules = [(gate.model, gate.min_throughput.model) for gate in self.gate if gate.min_throughput is not None]
        return frozenset(model for both in rules for model in both)

    @property
    def trained_adapters(self) -> tuple[Adapter, ...]:
        """The adapters that are trained here; the others come from elsewhere."""
        return tuple(adapter for adapter in self.adapter if isinstance(adapter, Adapter))


__all__ = [
    "COMMIT_PATTERN",
    "DATASET_PATTERN",
    "ID_PATTERN",
    "PROJECT_PATTERN",
    "SHA256_PATTERN",
    "SLICE_PATTERN",
    "SLICE_VALUES",
    "TEMPLATE_PATTERN",
    "WITHOUT_PEFT",
    "Adapter",
    "Against",
    "AnyAdapter",
    "Audit",
    "Base",
    "CheckpointLabels",
    "CheckpointModel",
    "Closed",
    "ClusterShare",
    "DropLimit",
    "EarlyStopping",
    "Expectation",
    "FileSplit",
    "FlipLimit",
    "ForeignAdapter",
    "Gate",
    "HubAdapter",
    "HubBase",
    "HubSplit",
    "Id",
    "JoinedText",
    "MajorityModel",
    "MetricName",
    "MetricSpec",
    "Model",
    "PackageBase",
    "PathAdapter",
    "PathBase",
    "PeftModel",
    "Precision",
    "ProbeModel",
    "SdistSplit",
    "SplitRule",
    "Suite",
    "Text",
    "TfidfModel",
    "ThroughputLimit",
    "Training",
    "TransformerModel",
]
