"""Distance of adapted encoders from their bases, as finished text: a column of the board, a table of a page."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.records import Forgetting
from leaderboard.board.records import Entry
from leaderboard.pages import formats
from leaderboard.pages.parts import Cell


@dataclass(frozen=True, slots=True)
class ForgettingRow:
    """One seed's encoder on a sample of one split."""

    split_id: str
    seed: str
    n: str
    similarity: Cell
    loss: str
    """As a language model: per hidden token of a masked one, per token of a causal one."""
    loss_of_base: str


def similarity(entry: Entry) -> Cell:
    """The mean over seeds; beneath it the interval of a single seed, or the range over several."""
    found = [moved for of_seed in entry.moved if (moved := of_seed.get("similarity")) is not None]
    if not found:
        return Cell(formats.ABSENT, "")
    value = formats.score(statistics.fmean(moved.value for moved in found))
    if len(found) == 1:
        return Cell(value, formats.interval(found[0].ci_low, found[0].ci_high))
    low, high = (formats.score(end(moved.value for moved in found)) for end in (min, max))
    return Cell(value, f"seeds {low} to {high}")


def forgetting_rows(entries: Sequence[Entry]) -> tuple[ForgettingRow, ...]:
    """A row for each split and seed with measurements."""
    return tuple(
        _row(entry, scored.run.seed, of_seed)
        for entry in entries
        if entry.moved
        for scored, of_seed in zip(entry.runs, entry.moved, strict=True)
        if of_seed
    )


def _row(entry: Entry, seed: int | None, found: Mapping[str, Forgetting]) -> ForgettingRow:
    near = found.get("similarity")
    return ForgettingRow(
        split_id=entry.split_id,
        seed=formats.seed(seed),
        n=formats.count(max(moved.n for moved in found.values())),
        similarity=Cell(formats.ABSENT, "")
        if near is None
        else Cell(formats.score(near.value), formats.interval(near.ci_low, near.ci_high)),
        loss=_loss(found, "mlm_loss", "lm_loss"),
        loss_of_base=_loss(found, "mlm_loss_of_base", "lm_loss_of_base"),
    )


def _loss(found: Mapping[str, Forgetting], *names: str) -> str:
    """The one of these losses that was measured, if any."""
    return formats.score(next((found[name].value for name in names if name in found), None))
