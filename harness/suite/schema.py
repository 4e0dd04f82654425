"""The tables of a suite file as closed, strict pydantic models: unknown keys and impossible values are errors.

Each field is documented below it; `docs/suites.md` is the guide for readers. `harness.suite.load.load` reads a file
into a `Suite` and checks references across tables.
"""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from harness.artifacts import digest
from harness.suite.bases import Base, ForeignAdapter, HubAdapter, HubBase, PackageBase, PathAdapter, PathBase, WheelBase
from harness.suite.fields import ID_PATTERN, SHA256_PATTERN, Closed, Id, Name, Seeds, Share, Trials, repeated
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
    AnswerColumns,
    CheckpointLabels,
    CheckpointModel,
    MajorityModel,
    Model,
    PeftModel,
    PlugInModel,
    Precision,
    PredictionsModel,
    ProbeModel,
    Repeats,
    TfidfModel,
    TransformerModel,
)
from harness.suite.prompts import Asked, Calibration, Prompt, PromptModel, Prompts, Shots
from harness.suite.splits import (
    COMMIT_PATTERN,
    DATASET_PATTERN,
    PROJECT_PATTERN,
    ClusterShare,
    Columns,
    FileSplit,
    HubSplit,
    JoinedText,
    Labels,
    Perturb,
    PlugInSplit,
    SdistSplit,
    SplitRule,
)
from harness.suite.text import TEMPLATE_PATTERN, Text

NULL_SUFFIX = "-null"
"""Ending of the ids of null adapters and their models."""
WITHOUT_PEFT = ("full", "bitfit", "head")
"""Methods that train the foundation model itself; a `transformer` model scores them, a `peft` model all others."""


class EarlyStopping(Closed):
    """Condition for ending the training before its last epoch; the weights of the best epoch are kept."""

    share: Annotated[float, Field(gt=0, lt=1)]
    """Share of the training clusters (or rows, without clusters) that is held out and never trained on."""
    patience: Annotated[int, Field(ge=1)]
    """Number of consecutive epochs without a smaller loss on the held-out rows after which training ends."""


class Training(Closed):
    """Training settings. One adapter is trained per seed."""

    split: Id
    epochs: Annotated[int, Field(ge=1, le=1000)]
    learning_rate: Annotated[float, Field(gt=0, lt=1)]
    """Peak learning rate; it rises linearly during the warm-up and then falls linearly to zero."""
    batch_size: Annotated[int, Field(ge=1)]
    warmup_share: Share | None = None
    """Warm-up as a share of all steps."""
    warmup_steps: Annotated[int, Field(ge=0)] | None = None
    """Warm-up in steps; with more steps than the training has, the learning rate never reaches its peak."""
    weight_decay: Annotated[float, Field(ge=0)]
    max_grad_norm: Annotated[float, Field(gt=0)]
    precision: Literal["fp32", "bf16", "fp16", "auto"]
    """`auto`: bf16 autocast over fp32 weights if the device supports it, else fp16 on CUDA and fp32 elsewhere."""
    # Keys added later: if omitted, they are in no dump, so that the digests of earlier trainings stay the same.
    accumulate: Annotated[int, Field(ge=1)] | None = Field(default=None, exclude_if=lambda value: value is None)
    """Number of batches per optimizer step, whose gradients are accumulated; defaults to 1."""
    gradient_checkpointing: bool = Field(default=False, exclude_if=lambda value: not value)
    """Compute activations again in the backward pass, which takes less memory and more time."""
    early_stopping: EarlyStopping | None = Field(default=None, exclude_if=lambda value: value is None)
    """If absent, every epoch is trained."""
    seeds: Seeds
    null_seeds: Seeds | None = Field(default=None, exclude_if=lambda value: value is None)
    """Seeds of a null adapter: the same recipe, trained on permuted labels. If omitted, there is none."""

    @model_validator(mode="after")
    def _has_one_warmup(self) -> "Training":
        if (self.warmup_share is None) == (self.warmup_steps is None):
            raise ValueError("give either warmup_share or warmup_steps")
        return self


class Adapter(Closed):
    """Weights to train: a PEFT method, or `full` for every weight of the base."""

    id: Id
    base: Id
    method: Name
    """A PEFT type in lower case (`lora`, `ia3`, …) or `full`."""
    params: dict[str, Any]
    """Keyword arguments of that method's configuration class."""
    task: Literal["causal_lm"] | None = Field(default=None, exclude_if=lambda value: value is None)
    """`causal_lm`: trained as a language model that answers prompts; absent for a classification head."""
    prompts: Prompts | None = Field(default=None, exclude_if=lambda value: value is None)
    """With a task, ids of the `[[prompt]]` tables that ask the training rows, each row by one of them."""
    labels: Literal["permuted"] | None = Field(default=None, exclude_if=lambda value: value is None)
    """`permuted` for a null adapter, which `null_seeds` of another one declares."""
    trials: Trials = None
    """Number of settings that its authors tried, including the chosen one; absent if unknown."""
    train: Training

    @model_validator(mode="after")
    def _is_asked_as_its_task_needs(self) -> "Adapter":
        if (self.task is None) != (self.prompts is None):
            raise ValueError("task and prompts go together: give both for a language model, neither for a classifier")
        if self.task is not None and self.method in WITHOUT_PEFT:
            raise ValueError(
                f"method {self.method!r} trains a classifier; with task, name a PEFT method such as 'lora'"
            )
        return self


def _kind_of_adapter(declared: Any) -> str:
    """An adapter's `source`; `none` for one that is trained here."""
    source = declared.get("source", "none") if isinstance(declared, dict) else getattr(declared, "source", "none")
    return str(source)


AnyAdapter: TypeAlias = Annotated[
    Annotated[Adapter, Tag("none")] | Annotated[PathAdapter, Tag("path")] | Annotated[HubAdapter, Tag("hub")],
    Discriminator(
        _kind_of_adapter,
        custom_error_type="unknown_source",
        custom_error_message="must be 'path' or 'hub'; omit it if the weights are trained here",
    ),
]


class MetricSpec(Closed):
    """A metric to compute for every run."""

    name: MetricName


class Curve(Closed):
    """A model on nested subsets of its training rows, compared with others: how much data does it take?"""

    id: Id
    model: Id
    """A model that is trained or fitted on rows of the suite."""
    against: Annotated[tuple[Id, ...], Field(min_length=1)]
    """Models to compare it with, trained on the same split; a model that is not trained is a flat line."""
    split: Id
    """The split to score on."""
    rows: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=2, max_length=100)]
    """Numbers of training rows, increasing."""
    seeds: Annotated[Seeds, Field(min_length=2)]
    """Each draws its own nested subsets, and trains on them."""
    balanced: bool = Field(default=False, exclude_if=lambda value: not value)
    """If true, a subset has as many rows of either label; if not, the split's share of each."""
    min_steps: Annotated[int, Field(ge=1)] | None = Field(default=None, exclude_if=lambda value: value is None)
    """Fewest optimizer steps of a training, with more epochs where they are needed; if absent, epochs as declared."""

    @model_validator(mode="after")
    def _grows(self) -> "Curve":
        if falls := [(one, other) for one, other in pairwise(self.rows) if other <= one]:
            raise ValueError(f"rows must increase, and {falls[0][1]:,} follows {falls[0][0]:,}")
        if self.model in self.against:
            raise ValueError(f"{self.model!r} would be compared with itself; remove it from against")
        if twice := repeated(self.against):
            raise ValueError(f"against names {twice[0]!r} more than once")
        return self

    def point_id(self, of: str, rows: int, seed: int) -> str:
        """Id of a model, or of an adapter, at a point of this curve."""
        return f"{of}.{self.id}-{rows}-{seed}"

    def has(self, derived_id: str) -> bool:
        """True for the id of a model or an adapter at one of its points."""
        found = re.fullmatch(rf".+\.{re.escape(self.id)}-([0-9]+)-([0-9]+)", derived_id)
        return found is not None and int(found[1]) in self.rows and int(found[2]) in self.seeds


class Audit(Closed):
    """Checks of the splits before anything is scored."""

    exact_overlap: Literal["forbid", "report"]
    """Treatment of texts that occur both in a training split and in a scored one."""
    near_overlap: Literal["forbid", "report"]
    """The same for nearly equal texts."""
    near_threshold: Annotated[float, Field(gt=0, le=1)]
    """Smallest Jaccard similarity of word 3-grams at which two texts count as nearly equal."""
    normalised_overlap: Literal["forbid", "report"] = "report"
    """The same for texts that differ only in spelling: case, blanks, punctuation, entities, look-alike letters."""
    repeated_texts: Literal["cluster", "drop", "forbid", "independent"] = "cluster"
    """Treatment of rows with the same text in a scored split: one cluster, kept once, rejected, or independent."""


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
    prompt: tuple[Prompt, ...] = Field(default=(), exclude_if=lambda value: not value)
    model: Annotated[tuple[Model, ...], Field(min_length=1)]
    metric: Annotated[tuple[MetricSpec, ...], Field(min_length=1)]
    gate: tuple[Gate, ...] = ()
    family: Literal["none", "holm"] = Field(default="none", exclude_if=lambda value: value == "none")
    """Correction of failed rules for the number of rules: none, or by Holm's method."""
    expect: tuple[Expectation, ...] = ()
    curve: tuple[Curve, ...] = Field(default=(), exclude_if=lambda value: not value)
    audit: Audit = Audit(exact_overlap="forbid", near_overlap="report", near_threshold=0.8)
    """Without `[audit]`, texts shared by training and scored splits are forbidden, and nearly equal ones reported."""

    @field_validator("version", mode="before")
    @classmethod
    def _version_is_an_integer(cls, version: Any) -> Any:
        if type(version) is not int:  # true and 1.0 equal 1
            raise ValueError("must be 1")
        return version

    @property
    def digest(self) -> str:
        """SHA-256 of the declarations; comments, layout and points of curves do not count (64 hex digits)."""
        return digest.of_json(self.declared.model_dump(mode="json"))

    @property
    def declared(self) -> "Suite":
        """The suite without the models and adapters at points of its curves, which `curves.expanded` adds."""
        if not self.curve:
            return self
        return self.model_copy(
            update={
                "model": tuple(model for model in self.model if self.curve_of(model.id) is None),
                "adapter": tuple(adapter for adapter in self.adapter if self.curve_of(adapter.id) is None),
            }
        )

    def curve_of(self, model_id: str) -> Curve | None:
        """The curve of which a model is a point; None for a model that the file declares."""
        return next((curve for curve in self.curve if curve.has(model_id)), None)

    @property
    def train_split_ids(self) -> frozenset[str]:
        """Splits used for training; the others are scored."""
        named = {getattr(model, "train_split", None) for model in self.model}
        fitted = {split_id for split_id in named if split_id is not None}
        shown = {split for m in self.model if isinstance(m, PromptModel) for split in m.training_splits}
        return frozenset(fitted | shown | {adapter.train.split for adapter in self.trained_adapters})

    def scores(self, model: Model, split_id: str) -> bool:
        """True if a model is scored on a split that nothing is trained on."""
        if (curve := self.curve_of(model.id)) is not None:
            return split_id == curve.split
        return not isinstance(model, PredictionsModel) or model.splits is None or split_id in model.splits

    def seeds_of(self, model: Model) -> tuple[int | None, ...]:
        """The seeds with which a model is scored; (None,) for one without randomness."""
        if isinstance(model, PromptModel):
            return tuple(range(len(self.asked_of(model))))
        if isinstance(model, TfidfModel | ProbeModel) and model.repeats is not None:
            return tuple(range(model.repeats.draws))
        declared = [one for one in self.trained_adapters if one.id == getattr(model, "adapter", None)]
        seeds = declared[0].train.seeds if declared else getattr(model, "seeds", None)
        return seeds or (None,)

    def asked_of(self, model: PromptModel) -> tuple[Asked, ...]:
        """List the runs of a prompted model; a run's seed is its position in this list."""
        declared = [one for one in self.trained_adapters if one.id == model.adapter]
        seeds = declared[0].train.seeds if declared else (None,)
        return tuple(Asked(prompt, draw, seed) for prompt, draw in model.asked for seed in seeds)

    @property
    def null_models(self) -> Mapping[str, str]:
        """The models on null adapters, by the ids of the models that they are the null of."""
        permuted = {adapter.id for adapter in self.trained_adapters if adapter.labels is not None}
        nulls = [model.id for model in self.model if getattr(model, "adapter", None) in permuted]
        return {model_id.removesuffix(NULL_SUFFIX): model_id for model_id in nulls}

    @property
    def timed_model_ids(self) -> frozenset[str]:
        """Models whose speed a gate compares."""
        rules = [(gate.model, gate.min_throughput.model) for gate in self.gate if gate.min_throughput is not None]
        return frozenset(model for both in rules for model in both)

    @property
    def trained_adapters(self) -> tuple[Adapter, ...]:
        """The adapters that are trained here; the others were trained elsewhere."""
        return tuple(adapter for adapter in self.adapter if isinstance(adapter, Adapter))


__all__ = [
    "COMMIT_PATTERN",
    "DATASET_PATTERN",
    "ID_PATTERN",
    "NULL_SUFFIX",
    "PROJECT_PATTERN",
    "SHA256_PATTERN",
    "SLICE_PATTERN",
    "SLICE_VALUES",
    "TEMPLATE_PATTERN",
    "WITHOUT_PEFT",
    "Adapter",
    "Against",
    "AnswerColumns",
    "AnyAdapter",
    "Asked",
    "Audit",
    "Base",
    "Calibration",
    "CheckpointLabels",
    "CheckpointModel",
    "Closed",
    "ClusterShare",
    "Columns",
    "Curve",
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
    "Labels",
    "MajorityModel",
    "MetricName",
    "MetricSpec",
    "Model",
    "PackageBase",
    "PathAdapter",
    "PathBase",
    "PeftModel",
    "Perturb",
    "PlugInModel",
    "PlugInSplit",
    "Precision",
    "PredictionsModel",
    "ProbeModel",
    "Prompt",
    "PromptModel",
    "Repeats",
    "SdistSplit",
    "Shots",
    "SplitRule",
    "Suite",
    "Text",
    "TfidfModel",
    "ThroughputLimit",
    "Training",
    "TransformerModel",
    "WheelBase",
]
