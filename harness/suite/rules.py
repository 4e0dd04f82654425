"""The rules of a suite's gates and expectations, one at a time and in words: one type for each kind of question."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from harness.suite.schema import Against, Expectation, FlipLimit, Gate, Suite

Kind: TypeAlias = Literal[
    "min", "max", "non_inferior_to", "superior_to", "max_flips", "max_drop_out_of_domain",
    "max_size_bytes", "max_train_seconds", "min_throughput",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class OtherModel:
    """The other side of a comparison: another model on the same examples."""

    model: str

    @property
    def words(self) -> str:
        """The other side in words."""
        return self.model


@dataclass(frozen=True, slots=True)
class StoredBaseline:
    """The other side of a comparison: the same model, as an earlier evaluation scored it."""

    name: str

    @property
    def words(self) -> str:
        """The other side in words."""
        return f"baseline {self.name}"


OtherSide: TypeAlias = OtherModel | StoredBaseline


@dataclass(frozen=True, slots=True)
class Rule:
    """One condition that must hold, or is expected; a `[[gate]]` of the suite declares one or more."""

    gate_id: str
    """The rule in words."""
    kind: Kind
    model: str
    split: str
    limit: float
    """The bound, or the margin of a comparison."""
    inconclusive_fails: bool
    slice: str | None = field(default=None, kw_only=True)
    """Only these examples of the split: `family=value`."""
    sequential: bool = field(default=False, kw_only=True)
    """True if a part of the split may decide it, as soon as that is certain."""

    @property
    def place(self) -> str:
        """Model, split and slice, in words."""
        return f"{self.model} on {self.split}" + (f" where {self.slice}" if self.slice else "")

    @property
    def models(self) -> tuple[str, ...]:
        """The models whose runs it needs, its own first."""
        return (self.model,)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits on which it needs them, its own first."""
        return (self.split,)

    @property
    def baseline(self) -> str | None:
        """Name of the earlier evaluation that it needs, if any."""
        return None


@dataclass(frozen=True, slots=True)
class Bound(Rule):
    """A metric has a limit: `min`, `max`."""

    metric: str


@dataclass(frozen=True, slots=True)
class _TwoSided(Rule):
    """A rule about a model and another side, on the same examples."""

    other: OtherSide

    @property
    def models(self) -> tuple[str, ...]:
        """The models whose runs it needs, its own first."""
        return (self.model, self.other.model) if isinstance(self.other, OtherModel) else (self.model,)

    @property
    def baseline(self) -> str | None:
        """Name of the earlier evaluation that it needs, if any."""
        return self.other.name if isinstance(self.other, StoredBaseline) else None


@dataclass(frozen=True, slots=True)
class Comparison(_TwoSided):
    """The difference of a metric has a margin: `non_inferior_to`, `superior_to`."""

    metric: str


@dataclass(frozen=True, slots=True)
class Flips(_TwoSided):
    """The share of examples that only the other side gets right has a limit: `max_flips`."""


@dataclass(frozen=True, slots=True)
class Drop(Rule):
    """A metric's loss on another domain has a limit: `max_drop_out_of_domain`."""

    metric: str
    elsewhere: str
    """The split of the other domain."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits on which it needs runs, its own first."""
        return (self.split, self.elsewhere)


@dataclass(frozen=True, slots=True)
class Cost(Rule):
    """A cost of the adapter has a limit: `max_size_bytes`, `max_train_seconds`."""


@dataclass(frozen=True, slots=True)
class Throughput(Rule):
    """The speed of scoring, relative to another model's, has a limit: `min_throughput`."""

    reference: str
    """The other model."""

    @property
    def models(self) -> tuple[str, ...]:
        """The models whose runs it needs, its own first."""
        return (self.model, self.reference)


def of_gates(suite: Suite) -> list[Rule]:
    """A suite's gates, one rule each, in the file's order."""
    return [rule for gate in suite.gate for rule in _of_gate(gate)]


def of_expectations(suite: Suite) -> list[Rule]:
    """A suite's expectations, one rule each, in the file's order."""
    return [rule for expectation in suite.expect for rule in _of_claim(expectation, inconclusive_fails=False)]


def _place(declared: Gate | Expectation) -> str:
    return f"{declared.model} on {declared.split}" + (f" where {declared.slice}" if declared.slice else "")


def _other(declared: Against | FlipLimit) -> OtherSide:
    if declared.baseline is not None:
        return StoredBaseline(declared.baseline)
    return OtherModel(str(declared.model))


def _of_claim(declared: Gate | Expectation, *, inconclusive_fails: bool) -> Iterator[Rule]:
    metric = str(declared.metric)  # a gate without a metric has none of these rules
    place, at = f"{_place(declared)}: {metric}", (declared.model, declared.split)

    def bound(words: str, kind: Kind, limit: float) -> Rule:
        return Bound(f"{place} {words}", kind, *at, limit, inconclusive_fails, metric, slice=declared.slice)

    def comparison(words: str, kind: Kind, against: Against) -> Rule:
        words = f"{place} {words} than {against.words} by more than {against.margin!r}"
        limit, other = against.margin, _other(against)
        return Comparison(words, kind, *at, limit, inconclusive_fails, other, metric, slice=declared.slice)

    if declared.min is not None:
        yield bound(f">= {declared.min!r}", "min", declared.min)
    if declared.max is not None:
        yield bound(f"<= {declared.max!r}", "max", declared.max)
    if declared.non_inferior_to is not None:
        yield comparison("not worse", "non_inferior_to", declared.non_inferior_to)
    if declared.superior_to is not None:
        yield comparison("better", "superior_to", declared.superior_to)


def _of_gate(gate: Gate) -> Iterator[Rule]:
    return (replace(rule, sequential=gate.sequential) for rule in _rules_of_gate(gate))


def _rules_of_gate(gate: Gate) -> Iterator[Rule]:
    strict = gate.on_inconclusive == "fail"
    yield from _of_claim(gate, inconclusive_fails=strict)
    place, at = _place(gate), (gate.model, gate.split)
    if (flips := gate.max_flips) is not None:
        words = f"{place}: flips against {flips.words} <= {flips.share!r}"
        yield Flips(words, "max_flips", *at, flips.share, strict, _other(flips), slice=gate.slice)
    if (drop := gate.max_drop_out_of_domain) is not None:
        metric = str(gate.metric)
        words = f"{place}: {metric} drop to {drop.split} <= {drop.drop!r}"
        yield Drop(words, "max_drop_out_of_domain", *at, drop.drop, strict, metric, drop.split)
    if (size := gate.max_size_bytes) is not None:
        yield Cost(f"{place}: size_bytes <= {size!r}", "max_size_bytes", *at, size, strict)
    if (seconds := gate.max_train_seconds) is not None:
        yield Cost(f"{place}: train_seconds <= {seconds!r}", "max_train_seconds", *at, seconds, strict)
    if (speed := gate.min_throughput) is not None:
        words = f"{place}: throughput >= {speed.ratio!r} of {speed.model}"
        yield Throughput(words, "min_throughput", *at, speed.ratio, strict, speed.model)
