"""An adapter against its base, as text: a card of the board, a cell of its table, a sentence for a terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.evaluation.unadapted import Kind
from harness.records import Verdict
from harness.stats.metrics import METRICS
from leaderboard.board.answers import Answer, Outcome
from leaderboard.board.records import Board, Entry
from leaderboard.pages import formats, links
from leaderboard.pages.parts import Cell, data
from leaderboard.plots import inline

CARDS = 12
"""Largest number of cards; the tables' column "Against base" has them all."""
WORDS: Mapping[Outcome, tuple[str, str, str]] = {
    "better": ("pass", "✓", "Yes"),
    "worse": ("fail", "✗", "No"),
    "undecided": ("inconclusive", "?", "Not shown"),
    "unknown": ("inconclusive", "?", "Not known"),
}
"""Colour, sign and word of each answer."""
BASES: Mapping[Kind, str] = {
    "prompted": "its prompted base",
    "probed": "a linear probe",
    "untrained": "an untrained head, which is chance",
}


@dataclass(frozen=True, slots=True)
class Card:
    """A model with trained weights against its base on the suite's first split."""

    model_id: str
    href: str
    title: str
    """`Is LoRA better than minilm?`."""
    outcome: str
    """The gate outcome whose colour it has."""
    sign: str
    word: str
    lead: Markup | str
    """With its unit; empty where there is none."""
    interval: str
    over: str
    """The base in words, or the reason why there is no answer."""
    over_id: str
    over_href: str
    bar: Markup
    facts: tuple[str, ...]


def cards(board: Board) -> tuple[Card, ...]:
    """The suite's answers on its first split, those of gated models first."""
    section = board.sections[0]
    entries = {entry.model_id: entry for entry in section.entries}
    shown = section.answers[:CARDS]
    drawn = {answer.model_id: mark for answer in shown if (mark := _mark(answer)) is not None}
    scale = inline.scale(drawn.values(), inline.Reference("no difference", 0.0))
    return tuple(
        _card(board, answer, entries[answer.model_id], inline.zero_bar(drawn[answer.model_id], scale))
        if answer.model_id in drawn
        else _card(board, answer, entries[answer.model_id], Markup())
        for answer in shown
    )


def _mark(answer: Answer) -> inline.Mark | None:
    lead = answer.lead
    return inline.Mark(answer.model_id, lead.value, lead.ci_low, lead.ci_high) if lead is not None else None


def _card(board: Board, answer: Answer, entry: Entry, bar: Markup) -> Card:
    outcome, sign, word = WORDS[answer.outcome]
    name, suite = board.suite.primary_metric, board.suite.name
    base = answer.base
    n = entry.primary.n if entry.primary is not None else None
    return Card(
        model_id=answer.model_id,
        href=links.href(links.model_file(suite, answer.model_id)),
        title=f"Is {formats.METHOD_NAMES.get(entry.method, entry.method)} better than {answer.base_id}?",
        outcome=outcome,
        sign=sign,
        word=word,
        lead=marked_lead(answer, formats.lead(name, answer.lead.value), name, suite) if answer.lead is not None else "",
        interval=lead_interval(answer, name),
        over=f"over {BASES[base.kind]}" if base is not None and answer.lead is not None else reason(answer, entry),
        over_id=base.model_id if base is not None else "",
        over_href=links.href(links.model_file(suite, base.model_id)) if base is not None else "",
        bar=bar,
        facts=(
            f"{formats.metric_phrase(name)} on {answer.split_id}" + (f", n {formats.count(n)}" if n else ""),
            *_weights(entry),
            *over_null(answer, name),
            *gates_passed(board.verdicts, answer.model_id),
        ),
    )


def reason(answer: Answer, entry: Entry) -> str:
    """Say why there is no difference."""
    if answer.base is None:
        return f"nothing shows {answer.base_id} without it: declare a probe on it, and evaluate"
    if not entry.complete:
        return "not all its runs are there: harness evaluate produces them"
    return f"there is no interval of its difference to {answer.base.model_id}"


def marked_lead(answer: Answer, shown: str, name: str, suite: str) -> Markup:
    """A lead as text, marked for `harness site --check` as the difference of the two scores; empty without one."""
    if answer.lead is None or answer.base is None:
        return Markup()
    value = answer.lead.value if METRICS[name].higher_is_better else -answer.lead.value
    number, _, unit = shown.partition(" ")
    where = {"suite": suite, "metric": name, "model": answer.model_id, "minus": answer.base.model_id}
    return data(number, f"{value:.12g}", {**where, "split": answer.split_id}) + (f" {unit}" if unit else "")


def lead_interval(answer: Answer, name: str) -> str:
    """`[4.0, 9.9]`, in the unit of the lead; empty without one."""
    lead = answer.lead
    return formats.lead_interval(name, lead.ci_low, lead.ci_high) if lead is not None else ""


def cell(answer: Answer | None, name: str, suite: str) -> Cell:
    """A lead as a cell of the board's table, in the metric's own unit."""
    if answer is None or answer.lead is None:
        return Cell(formats.ABSENT, "")
    shown = marked_lead(answer, formats.difference(answer.lead.value), name, suite)
    return Cell(shown, formats.interval(answer.lead.ci_low, answer.lead.ci_high))


def sentence(answer: Answer, name: str, verdicts: Sequence[Verdict] = ()) -> str:
    """The question with its answer, for a terminal.

    Args:
        name: the suite's primary metric.
        verdicts: of the suite's gates, where they were judged.
    """
    question = f"Is {answer.model_id} better than {answer.base_id}? {WORDS[answer.outcome][2]}"
    if answer.base is None or answer.lead is None:
        return f"{question}: {_unknown(answer)}"
    lead = f"{formats.lead(name, answer.lead.value)} of {formats.metric_phrase(name)} {lead_interval(answer, name)}"
    gates = "".join(f"; {words}" for words in (*over_null(answer, name), *gates_passed(verdicts, answer.model_id)))
    return f"{question}: {lead} over {answer.base.model_id}, {BASES[answer.base.kind]}, on {answer.split_id}{gates}."


def _unknown(answer: Answer) -> str:
    if answer.base is None:
        return f"no stored run shows {answer.base_id} without an adapter; declare a probe on it, and evaluate."
    return f"runs of it or of {answer.base.model_id} are missing on {answer.split_id}; harness evaluate produces them."


def over_null(answer: Answer, name: str) -> tuple[str, ...]:
    """Where an adapter stands against its null, the same recipe on permuted labels; nothing without one.

    Args:
        name: the suite's primary metric.
    """
    if answer.null_id is None:
        return ()
    if answer.over_null is None or answer.clear_of_null is None:
        return (f"not compared with its null: runs of {answer.null_id} are missing",)
    lead = f"{formats.lead(name, answer.over_null.value)} "
    lead += formats.lead_interval(name, answer.over_null.ci_low, answer.over_null.ci_high)
    return (f"{'clear of' if answer.clear_of_null else 'not clear of'} its null on permuted labels: {lead}",)


def _weights(entry: Entry) -> tuple[str, ...]:
    share = share_of_weights(entry)
    if share is None:
        return ()
    return ("all of the weights" if share > 0.9995 else f"{formats.percent(share)} of the weights",)


def share_of_weights(entry: Entry) -> float | None:
    """The share of the network's parameters that training could change; None where a card does not have it."""
    totals = [record.card.get("n_parameters") for record in entry.adapters]
    known = [total for total in totals if isinstance(total, int) and total > 0]
    return entry.n_trainable / max(known) if entry.n_trainable is not None and known else None


def gates_passed(verdicts: Sequence[Verdict], model_id: str) -> tuple[str, ...]:
    """`6 of 6 gates`; nothing for a model that no gate is about."""
    own = [verdict for verdict in verdicts if verdict.model_id == model_id]
    passed = sum(verdict.outcome == "pass" for verdict in own)
    return (f"{passed} of {len(own)} gates",) if own else ()


def note(board: Board) -> str:
    """A sentence on how the answers were found."""
    section = board.sections[0]
    n = sum(answer.adjusted_p is not None for answer in section.answers)
    more = len(section.answers) - CARDS
    rest = f" {formats.count(more)} more stand in the table's column “Against base”." if more > 0 else ""
    corrected = f", corrected for {formats.count(n)} adapters" if n > 1 else ""
    return (
        "Paired by example, with 95 % intervals; right of the line is better. The answer is yes or no only where p is "
        f"below 0.05{corrected}.{rest}"
    )
