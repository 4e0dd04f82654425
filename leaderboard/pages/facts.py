"""Caveats about a split's rows, as finished text: looks and audit."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from leaderboard.board.records import Section
from leaderboard.pages import formats


@dataclass(frozen=True, slots=True)
class Fact:
    """A term, its value and what that means."""

    term: str
    value: str
    note: str
    command: str = ""
    """The command that determines it."""
    warning: bool = False
    """True if it makes scores doubtful."""


def facts(section: Section) -> tuple[Fact, ...]:
    """Everything known about a split's rows, in a fixed order; what was not audited is marked as such."""
    return (*_looks(section), *_audit(section))


def _looks(section: Section) -> Iterator[Fact]:
    if section.times_scored:
        number = (
            "1 configuration" if section.times_scored == 1 else f"{formats.count(section.times_scored)} configurations"
        )
        verb = "has" if section.times_scored == 1 else "have"
        note = f"{verb} been scored on these rows in this store; every look lets choices overfit them"
        yield Fact("Looks", number, note)


def _audit(section: Section) -> Iterator[Fact]:
    if not section.audit:
        note = "finds repeated rows, rows that were trained on, and truncated texts"
        yield Fact("Audit", "not audited", note, command="harness data SUITE")
        return
    found = {finding.name: finding.value for finding in section.audit}
    yield _balance(found["balance"])
    yield _repeated(found)
    for train, shared in sorted(found["overlap"].items()):
        yield _overlap(train, shared)
    for base, lengths in sorted(found["tokens"].items()):
        yield _cut(base, lengths, found["balance"]["n"])


def _balance(balance: Mapping[str, Any]) -> Fact:
    share = balance["positive"] / balance["n"] if balance["n"] else None
    rows = f"{formats.count(balance['positive'])} of {formats.count(balance['n'])} rows"
    return Fact("Positive", formats.percent(share), rows)


def _repeated(found: Mapping[str, Mapping[str, Any]]) -> Fact:
    counts = [found[f"{kind}_duplicates"]["rows"] for kind in ("exact", "normalised", "near")]
    conflicting = found["conflicting_labels"]["rows"]
    note = f"rows, by their text; {formats.count(conflicting)} with both labels"
    return Fact("Repeated", _alike(*counts), note)


def _overlap(train: str, shared: Mapping[str, Any]) -> Fact:
    near = len({scored for _, scored, _ in shared["near"]})
    counts = [len(shared["exact"]), len(shared["normalised"]), near]
    return Fact(f"Also in {train}", _alike(*counts), "rows, by their text", warning=sum(counts) > 0)


def _cut(base: str, lengths: Mapping[str, Any] | None, n: int) -> Fact:
    if lengths is None:
        return Fact("Truncated", formats.ABSENT, f"the tokenizer of {base} was not available")
    term = f"Truncated at {formats.count(lengths['max_length'])} tokens"
    note = f"{formats.count(lengths['truncated'])} of {formats.count(n)} rows, as {base} tokenizes them"
    return Fact(term, formats.percent(lengths["truncated_share"]), note)


def _alike(equal: int, rewritten: int, near: int) -> str:
    return f"{formats.count(equal)} equal, {formats.count(rewritten)} rewritten, {formats.count(near)} nearly equal"
