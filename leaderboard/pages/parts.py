"""Text that both kinds of page share: scores in cells, verdicts, seeds, how intervals were computed.

The rows of `templates/_parts.html`, as finished text.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from markupsafe import Markup

from harness.records import Expected, Metric, Verdict
from leaderboard.board.records import Entry, Section
from leaderboard.pages import formats
from leaderboard.plots import inline

_Row = TypeVar("_Row")
_SIGNS = {"pass": "✓", "fail": "✗", "inconclusive": "?"}


@dataclass(frozen=True, slots=True)
class Cell:
    """A score and, beneath it, its interval."""

    value: str
    interval: str


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """The outcome of a gate."""

    outcome: str
    sign: str
    rule: str
    """The rule in words, without model and split."""
    reason: str
    consequence: str


@dataclass(frozen=True, slots=True)
class RuleGroup(Generic[_Row]):
    """Rules about one model on one split, which they need not repeat."""

    place: str
    """`minilm+lora-r8 on amazon-test`."""
    rows: tuple[_Row, ...]


@dataclass(frozen=True, slots=True)
class ExpectedRow:
    """The outcome of an expectation."""

    outcome: str
    """The gate outcome whose colour it has."""
    sign: str
    answer: str
    rule: str
    reason: str
    stated: str
    """Time of the statement, relative to the runs that answer it."""


def cell(metric: Metric | None) -> Cell:
    """A metric as text."""
    if metric is None:
        return Cell(formats.ABSENT, "")
    return Cell(formats.score(metric.value), formats.interval(metric.ci_low, metric.ci_high))


def marked(shown: Cell, entry: Entry, metric: Metric | None, *, suite: str = "", seed: str = "") -> Cell:
    """The cell with its value marked for `harness site --check`, which recomputes it from the predictions.

    Args:
        suite: on a page that is not in the suite's folder.
        seed: of a single run; the mean over the entry's runs without it.
    """
    if metric is None or metric.value is None:
        return shown
    return Cell(_data(shown.value, f"{metric.value:.12g}", metric.name, entry, suite, seed), shown.interval)


def marked_count(name: str, value: int, entry: Entry) -> Markup:
    """A count of a confusion matrix over an entry's runs as text, marked likewise.

    Args:
        name: as in `harness.store.sql_metrics`.
    """
    return _data(formats.count(value), str(value), name, entry, "", "")


def _data(shown: str, value: str, name: str, entry: Entry, suite: str, seed: str) -> Markup:
    place = {"suite": suite, "metric": name, "model": entry.model_id, "split": entry.split_id, "seed": seed}
    return data(shown, value, place)


def data(shown: str, value: str, place: Mapping[str, str]) -> Markup:
    """A number as text, marked for `harness site --check` with its value and place; empty parts of it are left out."""
    told = Markup("").join(Markup(' data-{}="{}"').format(name, text) for name, text in place.items() if text)
    return Markup('<data value="{}"{}>{}</data>').format(value, told, shown)


def seeds_text(entry: Entry) -> str:
    """Number of seeds: `3`, `2 of 3`, or a dash where there is no randomness."""
    if not entry.complete:
        return f"{len(entry.runs)} of {len(entry.expected_seeds)}"
    return formats.ABSENT if entry.expected_seeds == (None,) else str(len(entry.expected_seeds))


def verdict_groups(verdicts: Sequence[Verdict]) -> tuple[RuleGroup[VerdictRow], ...]:
    """Gates' outcomes as text, by model and split."""
    return _grouped(
        (
            verdict.gate_id,
            VerdictRow(
                verdict.outcome,
                _SIGNS[verdict.outcome],
                _rule(verdict.gate_id),
                formats.minus(verdict.reason),
                "" if verdict.outcome == "pass" else "fails the gate" if verdict.blocking else "warns only",
            ),
        )
        for verdict in verdicts
    )


def expected_groups(expected: Sequence[Expected]) -> tuple[RuleGroup[ExpectedRow], ...]:
    """Outcomes of expectations as text, by model and split."""
    outcomes = {"confirmed": "pass", "refuted": "fail", "undecided": "inconclusive"}
    return _grouped(
        (
            one.rule,
            ExpectedRow(
                outcomes[one.answer],
                _SIGNS[outcomes[one.answer]],
                one.answer,
                _rule(one.rule),
                formats.minus(one.reason),
                _stated(one),
            ),
        )
        for one in expected
    )


def _grouped(named: Iterable[tuple[str, _Row]]) -> tuple[RuleGroup[_Row], ...]:
    """Rows by the model and split that their rules begin with, in the order of their first appearance."""
    groups: dict[str, list[_Row]] = {}
    for rule, row in named:
        groups.setdefault(rule.partition(": ")[0], []).append(row)
    return tuple(RuleGroup(place, tuple(rows)) for place, rows in groups.items())


def _rule(rule: str) -> str:
    return rule.partition(": ")[2] or rule


def _stated(expected: Expected) -> str:
    if expected.first_seen_at is None:
        return "not recorded in this store yet"
    words = {True: "stated first on", False: "stated after the run, on", None: "not yet run; stated on"}
    return f"{words[expected.stated_first]} {formats.time(expected.first_seen_at)}"


def mark(entry: Entry, label: str) -> inline.Mark | None:
    """An entry's score as a point in a chart, or None where it has none."""
    metric = entry.primary
    if metric is None or metric.value is None:
        return None
    values = [scored.metrics[metric.name].value for scored in entry.runs]
    seeds = tuple(value for value in values if value is not None) if len(values) > 1 else ()
    return inline.Mark(label, metric.value, metric.ci_low, metric.ci_high, seeds, not entry.ranked)


def shared_scale(entries: Iterable[Entry]) -> inline.Scale:
    """A scale of scores that spans the ranked entries that have learned something, or else all of them.

    The majority class and untrained heads would stretch it until an interval is narrower than its dot.
    """
    drawn = [(entry, found) for entry in entries if (found := mark(entry, "")) is not None]
    learned = [found for entry, found in drawn if entry.ranked and entry.backend != "majority"]
    return inline.scale(learned or [found for _, found in drawn], None)


def interval_method(section: Section, name: str) -> str:
    """Sentence on how this split's intervals were computed."""
    units = "clusters" if section.n_clusters is not None else "examples"
    method = f"95 % intervals: bootstrap over {units} and seeds"
    wilson = name == "accuracy" and section.n_clusters is None
    return f"{method}; Wilson where there is one run." if wilson else f"{method}."
