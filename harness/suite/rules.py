"""The rules of a suite's gates and expectations, one at a time and in words."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from harness.suite.schema import Against, Expectation, Gate, Suite

Kind: TypeAlias = Literal[
    "min", "max", "non_inferior_to", "superior_to", "max_flips", "max_drop_out_of_domain",
    "max_size_bytes", "max_train_seconds", "min_throughput",
]  # fmt: skip


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
    metric: str | None = None
    slice: str | None = None
    """Only these examples of the split: `family=value`."""
    reference: str | None = None
    """The other model of a comparison."""
    baseline: str | None = None
    """The stored evaluation of a comparison; the other side is the same model in it."""
    elsewhere: str | None = None
    """The split of the other domain."""

    @property
    def place(self) -> str:
        """Model, split and slice, in words."""
        return f"{self.model} on {self.split}" + (f" where {self.slice}" if self.slice else "")

    @property
    def other_side(self) -> str | None:
        """The other side of the comparison, in words."""
        return self.reference if self.baseline is None else f"baseline {self.baseline}"


def of_gates(suite: Suite) -> list[Rule]:
    """A suite's gates, one rule each, in the file's order."""
    return [rule for gate in suite.gate for rule in _of_gate(gate)]


def of_expectations(suite: Suite) -> list[Rule]:
    """A suite's expectations, one rule each, in the file's order."""
    return [rule for expectation in suite.expect for rule in _of_claim(expectation, inconclusive_fails=False)]


def _place(declared: Gate | Expectation) -> str:
    return f"{declared.model} on {declared.split}" + (f" where {declared.slice}" if declared.slice else "")


def _of_claim(declared: Gate | Expectation, *, inconclusive_fails: bool) -> Iterator[Rule]:
    place = f"{_place(declared)}: {declared.metric}"

    def rule(words: str, kind: Kind, limit: float, against: Against | None = None) -> Rule:
        return Rule(
            f"{place} {words}", kind, declared.model, declared.split, limit, inconclusive_fails, declared.metric,
            declared.slice, against.model if against else None, against.baseline if against else None,
        )  # fmt: skip

    if declared.min is not None:
        yield rule(f">= {declared.min!r}", "min", declared.min)
    if declared.max is not None:
        yield rule(f"<= {declared.max!r}", "max", declared.max)
    if (other := declared.non_inferior_to) is not None:
        yield rule(
            f"not worse than {other.words} by more than {other.margin!r}", "non_inferior_to", other.margin, other
        )
    if (other := declared.superior_to) is not None:
        yield rule(f"better than {other.words} by more than {other.margin!r}", "superior_to", other.margin, other)


def _of_gate(gate: Gate) -> Iterator[Rule]:
    strict = gate.on_inconclusive == "fail"
    yield from _of_claim(gate, inconclusive_fails=strict)
    place = _place(gate)
    if (flips := gate.max_flips) is not None:
        yield Rule(
            f"{place}: flips against {flips.words} <= {flips.share!r}", "max_flips", gate.model, gate.split,
            flips.share, strict, slice=gate.slice, reference=flips.model, baseline=flips.baseline,
        )  # fmt: skip
    if (drop := gate.max_drop_out_of_domain) is not None:
        yield Rule(
            f"{place}: {gate.metric} drop to {drop.split} <= {drop.drop!r}", "max_drop_out_of_domain", gate.model,
            gate.split, drop.drop, strict, metric=gate.metric, elsewhere=drop.split,
        )  # fmt: skip
    if (size := gate.max_size_bytes) is not None:
        yield Rule(f"{place}: size_bytes <= {size!r}", "max_size_bytes", gate.model, gate.split, size, strict)
    if (seconds := gate.max_train_seconds) is not None:
        yield Rule(
            f"{place}: train_seconds <= {seconds!r}", "max_train_seconds", gate.model, gate.split, seconds, strict
        )
    if (speed := gate.min_throughput) is not None:
        yield Rule(
            f"{place}: throughput >= {speed.ratio!r} of {speed.model}", "min_throughput", gate.model, gate.split,
            speed.ratio, strict, reference=speed.model,
        )  # fmt: skip
