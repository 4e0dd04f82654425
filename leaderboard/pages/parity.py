"""A configuration's parity card, as finished text: each variant of its weights compared with torch in fp32."""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.records import Parity
from leaderboard.board.records import Entry
from leaderboard.pages import formats
from leaderboard.pages.parts import Cell


@dataclass(frozen=True, slots=True)
class ParityRow:
    """One variant of one seed's weights."""

    form: str
    seed: str
    n: str
    flips: Cell
    """Number of flips, and the interval of their share."""
    turned: str
    """Number of flips to positive, and number of flips to negative."""
    p_value: str
    largest_move: str
    allowed: str
    passed: bool
    problem: str


def parity_rows(entries: Sequence[Entry]) -> tuple[ParityRow, ...]:
    """A row for each variant and seed that was compared with the reference, from its latest check."""
    found: dict[tuple[str, str], Parity] = {}
    for parity in (parity for entry in entries for parity in entry.parities):
        found.setdefault((parity.form, parity.adapter_digest), parity)
    order = {name: place for place, name in enumerate(dict.fromkeys(variant for variant, _ in sorted(found)))}
    return tuple(_row(parity) for parity in sorted(found.values(), key=lambda one: (order[one.form], one.seed or 0)))


def _row(parity: Parity) -> ParityRow:
    return ParityRow(
        form=parity.form,
        seed=formats.seed(parity.seed),
        n=formats.count(parity.n),
        flips=Cell(formats.count(parity.flips), formats.interval(parity.flips_low, parity.flips_high)),
        turned=formats.ABSENT
        if parity.turned_positive is None
        else f"{formats.count(parity.turned_positive)} / {formats.count(parity.turned_negative)}",
        p_value=formats.p_value(parity.p_value),
        largest_move=formats.ABSENT if parity.largest_move is None else f"{parity.largest_move:.2g}",
        allowed=f"{100 * parity.flips_allowed:g} %, {parity.move_allowed:g}",
        passed=parity.passed,
        problem=parity.problem or "",
    )
