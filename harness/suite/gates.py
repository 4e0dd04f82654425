"""Declarations of gates, which must hold (`[[gate]]`), and of the authors' expectations (`[[expect]]`)."""

from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from harness.artifacts import plugins
from harness.suite.fields import Closed, Id

METRIC_NAMES = (
    "accuracy", "f1", "precision", "recall", "mcc", "roc_auc", "log_loss", "brier", "ece",
    "pair_accuracy", "invariance", "direction",
)  # fmt: skip
"""The built-in metrics; `harness.stats.metrics` defines them."""


def _is_metric(name: str) -> str:
    plugins.check("metric", name, METRIC_NAMES)
    return name


MetricName: TypeAlias = Annotated[
    str, AfterValidator(_is_metric), WithJsonSchema({"type": "string", "enum": [*METRIC_NAMES]})
]
"""A metric, built in or of a plug-in. Editors know the built-in ones."""
SLICE_PATTERN = r"^[A-Za-z0-9_.-]+=.*$"
SLICE_VALUES = {
    "label": ("negative", "positive"),
    "length": ("short", "medium", "long"),
    "title": ("absent", "present"),
    "negation": ("absent", "present"),
}
"""The slices that every split has, by family; `harness.stats.slices` assigns the examples."""
Slice: TypeAlias = Annotated[str, Field(pattern=SLICE_PATTERN)]
"""A part of a split, as `family=value`: `negation=present`."""


class _Reference(Closed):
    """The other side of a comparison: another model, or the same model in a stored baseline."""

    model: Id | None = None
    baseline: Id | None = None
    """Name of a baseline that `harness baseline set` wrote."""

    @model_validator(mode="after")
    def _is_one_of_two(self) -> "_Reference":
        if (self.model is None) == (self.baseline is None):
            raise ValueError("give either model or baseline")
        return self

    @property
    def words(self) -> str:
        """The reference in words."""
        return f"baseline {self.baseline}" if self.baseline is not None else str(self.model)


class Against(_Reference):
    """A comparison of a metric."""

    margin: Annotated[float, Field(ge=0)]
    """Margin in the metric's own unit, towards the better direction."""


class FlipLimit(_Reference):
    """Limit on examples that get worse, even if others get better."""

    share: Annotated[float, Field(ge=0, lt=1)]
    """Share of all examples that the reference gets right and the model gets wrong."""


class DropLimit(Closed):
    """Limit on a metric's loss on another domain."""

    split: Id
    """The other domain's split."""
    drop: Annotated[float, Field(ge=0)]
    """Loss in the metric's own unit, towards the worse direction."""


class ThroughputLimit(Closed):
    """Lower limit on scoring speed, relative to a competitor scored in the same evaluation."""

    model: Id
    ratio: Annotated[float, Field(gt=0)]
    """Examples per second, divided by the competitor's."""


class Expectation(Closed):
    """An expectation of the suite's authors about a model on a split, written down before the run."""

    model: Id
    split: Id
    metric: MetricName
    slice: Slice | None = None
    """Only this part of the split's examples."""
    min: float | None = None
    max: float | None = None
    non_inferior_to: Against | None = None
    """The difference is not worse than minus the margin."""
    superior_to: Against | None = None
    """The difference is better than the margin."""

    @model_validator(mode="after")
    def _has_a_rule(self) -> "Expectation":
        if all(rule is None for rule in (self.min, self.max, self.non_inferior_to, self.superior_to)):
            raise ValueError("an expectation needs min, max, non_inferior_to or superior_to")
        _can_hold(self.min, self.max)
        return self


class Gate(Closed):
    """Rules that must hold for one model on one split. Each is judged separately."""

    model: Id
    split: Id
    metric: MetricName | None = None
    """The metric of min, max, non_inferior_to, superior_to and max_drop_out_of_domain."""
    slice: Slice | None = None
    """Only this part of the split's examples."""
    min: float | None = None
    max: float | None = None
    non_inferior_to: Against | None = None
    """The difference is not worse than minus the margin."""
    superior_to: Against | None = None
    """The difference is better than the margin."""
    max_flips: FlipLimit | None = None
    max_drop_out_of_domain: DropLimit | None = None
    max_size_bytes: Annotated[int, Field(ge=0)] | None = None
    """Limit on the size on disk of the adapter's weights and configuration, for the largest of its seeds."""
    max_train_seconds: Annotated[float, Field(gt=0)] | None = None
    """Limit on the training time of the adapter's slowest seed, on the machine that trained it."""
    min_throughput: ThroughputLimit | None = None
    sequential: bool = Field(default=False, exclude_if=lambda value: not value)
    """If true, models whose runs are not stored are scored only until the gate's rules pass or fail."""
    on_inconclusive: Literal["fail", "warn"]

    @model_validator(mode="after")
    def _has_a_rule(self) -> "Gate":
        of_metric = (self.min, self.max, self.non_inferior_to, self.superior_to, self.max_drop_out_of_domain)
        costs = (self.max_size_bytes, self.max_train_seconds, self.min_throughput)
        if all(rule is None for rule in (*of_metric, self.max_flips, *costs)):
            raise ValueError("a gate needs a rule, such as min, non_inferior_to or max_flips")
        if self.metric is None and any(rule is not None for rule in of_metric):
            raise ValueError("needs metric for its rule")
        if self.slice is not None and any(rule is not None for rule in (self.max_drop_out_of_domain, *costs)):
            raise ValueError("slice cannot be combined with costs or max_drop_out_of_domain; use a separate gate")
        _can_hold(self.min, self.max)
        return self


def _can_hold(low: float | None, high: float | None) -> None:
    if low is not None and high is not None and low > high:
        raise ValueError(f"min {low} is above max {high}; nothing can pass")
