"""A split's entries as finished rows of the board's table: a row per entry, a column per known quantity.

`static/board.js` sorts and filters these rows and hides columns; without it, the page shows the whole table.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.stats import timing
from harness.stats.metrics import METRICS
from leaderboard.board.answers import of_model
from leaderboard.board.records import Board, Entry, Section
from leaderboard.pages import answers, formats, links
from leaderboard.pages.forgetting import similarity
from leaderboard.pages.matrix import drop
from leaderboard.pages.parts import Cell, cell, mark, marked, seeds_text, shared_scale
from leaderboard.plots import inline


@dataclass(frozen=True, slots=True)
class Column:
    """A column after the model's name."""

    key: str
    """Name in the page's address and in the downloads."""
    head: str
    shown: bool = True
    """Shown by default where columns can be chosen."""

    @property
    def label(self) -> str:
        """Its name before a cell, where a row is a card: a constant, since style sheets contain it."""
        return "Drop" if self.key == "drop" else self.head


@dataclass(frozen=True, slots=True)
class Row:
    """An entry."""

    model_id: str
    href: str
    what: str
    """Method and base, in words."""
    method: str
    base: str
    badges: tuple[str, ...]
    proofs: tuple[str, ...]
    tier: str
    opens: bool
    """True for the first row of a tier or of the unranked part."""
    bar: Markup
    score: Cell
    cells: tuple[Cell, ...]
    """One for each column after the score's."""


@dataclass(frozen=True, slots=True)
class Table:
    """The board of one split."""

    columns: tuple[Column, ...]
    """The first is the primary metric's."""
    rows: tuple[Row, ...]
    reference: str
    """Position of the dashed line in every bar, in percent; empty without one."""


def table(board: Board, section: Section) -> Table:
    """The ranked entries from best to worst, then the others."""
    named = [(entry, mark(entry, entry.model_id)) for entry in section.entries]
    line = reference(section)
    shown = shared_scale(section.entries)
    bars = [inline.bar(found, shown) if found is not None else Markup() for _, found in named]
    before = [None, *(entry.tier for entry in section.entries)]
    rows = tuple(
        _row(board, section, entry, drawn, opens=place == 0 or entry.tier != before[place])
        for place, (entry, drawn) in enumerate(zip(section.entries, bars, strict=True))
    )
    within = line is not None and shown.low <= line.value <= shown.high
    return Table(
        _columns(board, section), rows, f"{shown.percent(line.value):.1f}" if line is not None and within else ""
    )


def reference(section: Section) -> inline.Reference | None:
    """The score of always predicting the majority class, where the suite has such a model."""
    majority = (entry for entry in section.entries if entry.backend == "majority")
    found = next((entry.primary for entry in majority if entry.primary is not None), None)
    return inline.Reference("majority class", found.value) if found is not None and found.value is not None else None


def _others(board: Board) -> list[str]:
    """Metrics besides the primary one."""
    return [spec.name for spec in board.suite.metric if spec.name != board.suite.primary_metric]


def _columns(board: Board, section: Section) -> tuple[Column, ...]:
    primary, first = board.suite.primary_metric, board.sections[0]
    found = [Column(primary, formats.metric_name(primary))]
    if section.answers:
        found.append(Column("against_base", "Against base"))
    found += [Column(name, formats.metric_name(name), shown=name == "ece") for name in _others(board)]
    if len(board.sections) > 1:
        elsewhere = section is first
        found.append(Column("drop", "Worst drop" if elsewhere else f"Drop from {first.split.id}"))
    if any(entry.moved for entry in section.entries):
        found.append(Column("similarity", "Similarity to base", shown=False))
    if _states_trials(section):
        found.append(Column("trials", "Trials"))
    return (
        *found,
        Column("n", "n", shown=False),
        Column("seeds", "Seeds"),
        Column("n_trainable", "Trainable"),
        Column("size_bytes", "On disk"),
        Column("train_seconds", "Training"),
        Column("examples_per_second", "Examples/s"),
        Column("peak_bytes", "Peak memory", shown=False),
    )


def devices(entry: Entry) -> str:
    """The kind of accelerator that computed an entry's runs; empty for the processor."""
    return ", ".join(sorted({kind for scored in entry.runs if (kind := timing.device_of(scored.run)) is not None}))


def _states_trials(section: Section) -> bool:
    return any(entry.trials is not None for entry in section.entries)


def _row(board: Board, section: Section, entry: Entry, bar: Markup, *, opens: bool) -> Row:
    cells = []
    if section.answers:
        cells.append(
            answers.cell(of_model(section.answers, entry.model_id), board.suite.primary_metric, board.suite.name)
        )
    cells += [cell(entry.metrics.get(name)) for name in _others(board)]
    if len(board.sections) > 1:
        cells.append(_drop(board, section, entry))
    if any(other.moved for other in section.entries):
        cells.append(similarity(entry))
    if _states_trials(section):
        cells.append(Cell(formats.count(entry.trials), ""))
    cells += [
        Cell(text, "")
        for text in (
            formats.count(entry.primary.n if entry.primary is not None else None),
            seeds_text(entry),
            formats.count(entry.n_trainable),
            formats.size(entry.size_bytes),
            formats.seconds(entry.train_seconds),
        )
    ]
    cells.append(Cell(formats.rate(entry.examples_per_second), devices(entry)))
    cells.append(Cell(formats.size(entry.peak_bytes), ""))
    return Row(
        model_id=entry.model_id,
        href=links.href(links.model_file(board.suite.name, entry.model_id)),
        what=formats.method_phrase(entry.method, entry.base_id),
        method=entry.method,
        base=entry.base_id or "",
        badges=entry.badges,
        proofs=entry.proofs,
        tier=formats.count(entry.tier),
        opens=opens,
        bar=bar,
        score=marked(cell(entry.primary), entry, entry.primary, suite=board.suite.name),
        cells=tuple(cells),
    )


def _drop(board: Board, section: Section, entry: Entry) -> Cell:
    """On the first split the worst drop to another one; on the others the drop from the first."""
    first = board.sections[0]
    others = [other for other in board.entries_of(entry.model_id) if other.split_id != first.split.id]
    if section is not first:
        own = board.entries_of(entry.model_id)
        home = next((found.primary for found in own if found.split_id == first.split.id), None)
        found = drop(home, entry.primary)
        return Cell(formats.difference(found[0]), formats.interval(*found[1:])) if found else Cell(formats.ABSENT, "")
    drops = [(found, other.split_id) for other in others if (found := drop(entry.primary, other.primary)) is not None]
    if not drops:
        return Cell(formats.ABSENT, "")
    worst, split_id = max(drops)
    return Cell(f"{formats.difference(worst[0])} on {split_id}", formats.interval(*worst[1:]))


def choices(boards: Sequence[Board]) -> dict[str, tuple[str, ...]]:
    """Options of the page's filters: methods, bases and splits."""
    entries = [entry for board in boards for section in board.sections for entry in section.entries]
    return {
        "method": tuple(dict.fromkeys(entry.method for entry in entries)),
        "base": tuple(dict.fromkeys(entry.base_id for entry in entries if entry.base_id is not None)),
        "split": tuple(dict.fromkeys(section.split.id for board in boards for section in board.sections)),
    }


def good_direction(name: str) -> str:
    """`higher` or `shared_layers`."""
    return "higher" if METRICS[name].higher_is_better else "lower"
