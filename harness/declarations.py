"""The tables of a suite file as closed, strict pydantic models: unknown keys and impossible values are errors.

Each field says what it means where it stands; `docs/suites.md` is the same for readers. `harness.suite.load` reads a
file into a `Suite` and checks what crosses tables.
"""

from string import Formatter
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from harness import digest

ID_PATTERN = r"^[a-z0-9][a-z0-9._+-]*$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"
PROJECT_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
TEMPLATE_PATTERN = r"\{content\}"


def _are_distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    """A seed that stands twice would pass one training off as two."""
    for seed in seeds:
        if seeds.count(seed) > 1:
            raise ValueError(f"has {seed} more than once")
    return seeds


Id = Annotated[str, Field(pattern=ID_PATTERN, max_length=64)]
Sha256 = Annotated[str, Field(pattern=SHA256_PATTERN)]
Name = Annotated[str, Field(min_length=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(_are_distinct)]
Share = Annotated[float, Field(ge=0, le=1)]
Precision: TypeAlias = Literal["fp32", "bf16"]
MetricName: TypeAlias = Literal["accuracy", "f1", "precision", "recall", "mcc", "roc_auc", "log_loss", "brier", "ece"]

WITHOUT_PEFT = ("full",)
"""Methods that train the foundation model itself; a `transformer` model scores them, a `peft` model all others."""


class Closed(BaseModel):
    """A table in which an unknown key or a value of the wrong type is an error."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


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


class ClusterShare(Closed):
    """A part of the clusters, so that none stands in two splits: shuffled by `seed`, from `start` up to `stop`."""

    seed: Seed
    start: Share
    stop: Share

    @model_validator(mode="after")
    def _is_not_empty(self) -> "ClusterShare":
        if self.start >= self.stop:
            raise ValueError(f"start {self.start} must be below stop {self.stop}")
        return self


class SdistSplit(Closed):
    """Rows of a tab-separated file (no header, no quoting, UTF-8) inside a source distribution of the package index."""

    id: Id
    source: Literal["sdist"]
    project: Annotated[str, Field(pattern=PROJECT_PATTERN)]
    version: Name
    sha256: Sha256
    """Of the source distribution as the index serves it."""
    members: Annotated[tuple[Name, ...], Field(min_length=1, max_length=2)]
    """Path of the file in the archive; with two, the first is an archive that holds the second."""
    columns: Annotated[tuple[Name, ...], Field(min_length=2)]
    """Names for the file's columns, in order; `content` and the one named by `rating` must be among them."""
    rating: Name
    """Column with a number whose sign is the label."""
    min_abs_rating: Annotated[float, Field(ge=0)]
    """Rows whose rating is nearer to zero than this are left out: their raters did not agree on a sign."""
    cluster: Name | None = None
    """Column whose part before the first `_` names what the rows have in common."""
    cluster_share: ClusterShare | None = None
    shuffle_seed: Seed | None = None
    """Order of `numpy.random.default_rng(seed).permutation(n)`, as `datasets` shuffles."""
    take: Annotated[int, Field(ge=1)] | None = None
    """The first so many, after shuffling; all where absent."""

    @model_validator(mode="after")
    def _columns_exist(self) -> "SdistSplit":
        needed = dict.fromkeys(("content", self.rating, *([self.cluster] if self.cluster else [])))
        absent = [repr(name) for name in needed if name not in self.columns]
        problems = [f"columns do not name {' and '.join(absent)}"] if absent else []
        twice = [repr(name) for name in dict.fromkeys(self.columns) if self.columns.count(name) > 1]
        problems += [f"columns name {' and '.join(twice)} more than once"] if twice else []
        problems += ["cluster_share needs cluster"] if self.cluster_share and not self.cluster else []
        if problems:
            raise ValueError("; ".join(problems))
        return self


SplitRule: TypeAlias = SdistSplit


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


Base: TypeAlias = Annotated[PackageBase | PathBase, Field(discriminator="source")]


class Training(Closed):
    """How weights are trained. One adapter is trained per seed."""

    split: Id
    epochs: Annotated[int, Field(ge=1, le=1000)]
    learning_rate: Annotated[float, Field(gt=0, lt=1)]
    """Peak; it rises linearly over the warm-up and falls linearly to zero."""
    batch_size: Annotated[int, Field(ge=1)]
    warmup_share: Share
    """Share of all steps."""
    weight_decay: Annotated[float, Field(ge=0)]
    max_grad_norm: Annotated[float, Field(gt=0)]
    precision: Literal["fp32", "bf16", "auto"]
    """`auto`: bf16 autocast over fp32 master weights where the processor has it, else fp32."""
    seeds: Seeds


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
