"""The tables of a suite file as closed, strict pydantic models: unknown keys and impossible values are errors.

Each field says what it means where it stands; `docs/suites.md` is the same for readers. `harness.suite.load` reads a
file into a `Suite` and checks what crosses tables.
"""

from string import Formatter
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, field_validator, model_validator

from harness import digest
from harness.declarations.common import ID_PATTERN, SHA256_PATTERN, Closed, Id, Name, Seeds, Sha256, Share
from harness.declarations.splits import (
    COMMIT_PATTERN,
    DATASET_PATTERN,
    PROJECT_PATTERN,
    ClusterShare,
    FileSplit,
    HubSplit,
    SdistSplit,
    SplitRule,
)

TEMPLATE_PATTERN = r"\{content\}"
Precision: TypeAlias = Literal["fp32", "bf16"]
MetricName: TypeAlias = Literal["accuracy", "f1", "precision", "recall", "mcc", "roc_auc", "log_loss", "brier", "ece"]

WITHOUT_PEFT = ("full",)
"""Methods that train the foundation model itself; a `transformer` model scores them, a `peft` model all others."""


class Text(Closed):
    """What the model reads."""

    template: Annotated[str, Field(pattern=TEMPLATE_PATTERN)]
    """Text with `{title}` and `{content}`."""
    max_length: Annotated[int, Field(ge=8, le=8192)]
    """Tokens, special ones included; longer texts are cut, and counted."""
    store: bool = False
    """Whether the store and the site may hold the texts; otherwise digests alone."""

    @field_validator("template")
    @classmethod
    def _uses_known_fields(cls, template: str) -> str:
        try:
            parts = list(Formatter().parse(template))
        except ValueError:
            raise ValueError("has a brace that stands alone; write {{ or }} for a brace in the text") from None
        fields = [(name, conversion, form) for _, name, form, conversion in parts if name is not None]
        for name, conversion, form in fields:
            if name not in ("title", "content") or conversion or form:
                field = name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
                raise ValueError(f"has the field {{{field}}}; only {{title}} and {{content}} exist, written just so")
        if ("content", None, "") not in fields:
            raise ValueError("must hold {content}, where the review goes")
        return template

    def render(self, title: str, content: str) -> str:
        """The text of one example."""
        return self.template.format(title=title, content=content).strip()


class PackageBase(Closed):
    """A foundation model that an installed Python package carries."""

    id: Id
    source: Literal["package"]
    package: Name
    """Distribution name, as given to pip."""
    version: Name
    path: Name
    """Folder with `config.json`, relative to site-packages."""
    sha256: Sha256
    """Of its `model.safetensors`."""


class PathBase(Closed):
    """A foundation model in a local folder, relative to the suite file."""

    id: Id
    source: Literal["path"]
    path: Name
    sha256: Sha256
    """Of its `model.safetensors`."""


class HubBase(Closed):
    """A foundation model on the Hugging Face hub, at one commit."""

    id: Id
    source: Literal["hub"]
    name: Annotated[str, Field(pattern=DATASET_PATTERN)]
    """Repository: owner/name."""
    revision: Annotated[str, Field(pattern=COMMIT_PATTERN)]


Base: TypeAlias = Annotated[PackageBase | PathBase | HubBase, Field(discriminator="source")]


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
    train: Training


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
    precision: Precision


class TransformerModel(Closed):
    """The base with an untrained head (one per seed), or with weights that were trained without PEFT (`adapter`)."""

    id: Id
    backend: Literal["transformer"]
    base: Id | None = None
    seeds: Seeds | None = None
    adapter: Id | None = None
    precision: Precision

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
    precision: Precision


Model: TypeAlias = Annotated[
    MajorityModel | TfidfModel | ProbeModel | TransformerModel | PeftModel, Field(discriminator="backend")
]


class MetricSpec(Closed):
    """A metric to compute for every run."""

    name: MetricName


class Against(Closed):
    """The other side of a comparison."""

    model: Id
    margin: Annotated[float, Field(ge=0)]
    """In the metric's own unit, for the better direction."""


class Gate(Closed):
    """What must hold for one model on one split. Each rule is judged on its own."""

    model: Id
    split: Id
    metric: MetricName
    min: float | None = None
    max: float | None = None
    non_inferior_to: Against | None = None
    """The difference is not worse than minus the margin."""
    superior_to: Against | None = None
    """The difference is better than the margin."""
    on_inconclusive: Literal["fail", "warn"]

    @model_validator(mode="after")
    def _has_a_rule(self) -> "Gate":
        if all(rule is None for rule in (self.min, self.max, self.non_inferior_to, self.superior_to)):
            raise ValueError("a gate needs min, max, non_inferior_to or superior_to")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}; nothing can pass")
        return self


class Audit(Closed):
    """What the splits are held to before anything is scored."""

    exact_overlap: Literal["forbid", "report"]
    """A text that stands both in a split that is trained on and in one that is scored."""
    near_overlap: Literal["forbid", "report"]
    """The same for nearly equal texts."""
    near_threshold: Annotated[float, Field(gt=0, le=1)]
    """Jaccard similarity of word 3-grams from which two texts are nearly equal."""


class Suite(Closed):
    """A whole suite file."""

    version: Literal[1]
    name: Id
    description: Name
    primary_metric: MetricName
    text: Text
    split: Annotated[tuple[SplitRule, ...], Field(min_length=1)]
    base: tuple[Base, ...] = ()
    adapter: tuple[Adapter, ...] = ()
    model: Annotated[tuple[Model, ...], Field(min_length=1)]
    metric: Annotated[tuple[MetricSpec, ...], Field(min_length=1)]
    gate: tuple[Gate, ...] = ()
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
        return frozenset(fitted | {a.train.split for a in self.adapter})


__all__ = [
    "COMMIT_PATTERN",
    "DATASET_PATTERN",
    "ID_PATTERN",
    "PROJECT_PATTERN",
    "SHA256_PATTERN",
    "TEMPLATE_PATTERN",
    "WITHOUT_PEFT",
    "Adapter",
    "Against",
    "Audit",
    "Base",
    "Closed",
    "ClusterShare",
    "FileSplit",
    "Gate",
    "HubBase",
    "HubSplit",
    "Id",
    "MajorityModel",
    "MetricName",
    "MetricSpec",
    "Model",
    "PackageBase",
    "PathBase",
    "PeftModel",
    "Precision",
    "ProbeModel",
    "SdistSplit",
    "SplitRule",
    "Suite",
    "Text",
    "TfidfModel",
    "Training",
    "TransformerModel",
]
