"""One configuration as the finished rows that `templates/model.html` prints: every number is text already."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from pydantic import BaseModel

from harness.declarations import Adapter, Model, Suite
from harness.records import AdapterRecord, Run
from harness.suite import by_id
from leaderboard import charts, formats, links
from leaderboard.board import Board, Entry, ScoredRun
from leaderboard.parts import Cell, VerdictRow, cell, interval_method, mark, seeds_text, verdict_rows

Pairs = tuple[tuple[str, str], ...]
"""The terms and values of a definition list."""


@dataclass(frozen=True, slots=True)
class SplitRow:
    """The model's means on one split."""

    split_id: str
    href: str
    n: str
    seeds: str
    tier: str
    badges: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class SeedRow:
    """One run."""

    seed: str
    cells: tuple[Cell, ...]
    rate: str
    tokens: str
    truncated: str


@dataclass(frozen=True, slots=True)
class SeedGroup:
    """The runs on one split."""

    split_id: str
    rows: tuple[SeedRow, ...]


@dataclass(frozen=True, slots=True)
class ConfusionRows:
    """Predictions by truth, added up over the seeds; each count with its share of the true class."""

    split_id: str
    caption: str
    positive: tuple[str, str, str, str]
    """Predicted positive: count, share; predicted negative: count, share."""
    negative: tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One seed's training."""

    seed: str
    n_trainable: str
    seconds: str
    size: str
    peak: str
    trained_on: str
    base_digest: str
    digest: str


@dataclass(frozen=True, slots=True)
class RunRows:
    """Where a run came from, and the query that recomputes it."""

    title: str
    pairs: Pairs
    sql: str
    accuracy: str


@dataclass(frozen=True, slots=True)
class Environment:
    """What some runs had in common around them."""

    runs: str
    pairs: Pairs


@dataclass(frozen=True, slots=True)
class ModelRows:
    """A configuration's page."""

    suite: str
    suite_digest: str
    model_id: str
    what: str
    badges: tuple[str, ...]
    back: str
    metric_names: tuple[str, ...]
    primary_metric: str
    chart: Markup | None
    splits: tuple[SplitRow, ...]
    missing: tuple[str, ...]
    methods: tuple[str, ...]
    """How intervals were made; where splits differ in it, which ones which way."""
    seeds: tuple[SeedGroup, ...]
    verdicts: tuple[VerdictRow, ...]
    confusions: tuple[ConfusionRows, ...]
    training: tuple[TrainingRow, ...]
    declared: tuple[tuple[str, Pairs], ...]
    runs: tuple[RunRows, ...]
    environments: tuple[Environment, ...]


def model_rows(board: Board, model: Model) -> ModelRows:
    """All that a configuration's page says."""
    suite, entries = board.suite, board.entries_of(model.id)
    scored = [run for entry in entries for run in entry.runs]
    adapters = {record.adapter_digest: record for entry in entries for record in entry.adapters}
    common = tuple(badge for badge in entries[0].badges if all(badge in entry.badges for entry in entries))
    return ModelRows(
        suite=suite.name,
        suite_digest=suite.digest,
        model_id=model.id,
        what=formats.method_phrase(entries[0].method, entries[0].base_id),
        badges=common,
        back=links.href(links.INDEX, links.suite_anchor(suite.name), up=True),
        metric_names=tuple(formats.metric_name(spec.name) for spec in suite.metric),
        primary_metric=formats.metric_name(suite.primary_metric),
        chart=_chart(suite, model, entries),
        splits=tuple(_split_row(suite, entry, common) for entry in entries),
        missing=tuple(_missing(entry) for entry in entries if not entry.complete),
        methods=_methods(board),
        seeds=tuple(SeedGroup(entry.split_id, _seed_rows(suite, entry)) for entry in entries if entry.runs),
        verdicts=verdict_rows([v for v in board.verdicts if v.gate_id.startswith(f"{model.id} on ")]),
        confusions=tuple(_confusion(entry) for entry in entries if entry.runs),
        training=tuple(_training_row(record) for record in adapters.values()),
        declared=_declared(suite, model),
        runs=tuple(_run_rows(run) for run in scored),
        environments=_environments(scored),
    )


def recompute_sql(run_id: str) -> str:
    """The statement that recomputes a run's accuracy and n from its stored predictions."""
    literal = run_id.replace("'", "''")
    return (
        "SELECT avg((prediction.predicted = example.label)::DOUBLE) AS accuracy, count(*) AS n\n"
        "FROM run\n"
        "JOIN prediction USING (run_id)\n"
        "JOIN example ON example.digest = run.split_digest AND example.example_id = prediction.example_id\n"
        f"WHERE run_id = '{literal}';"
    )


def _chart(suite: Suite, model: Model, entries: Sequence[Entry]) -> Markup | None:
    marks = [found for entry in entries if (found := mark(entry, entry.split_id)) is not None]
    if not marks:
        return None
    title = f"{formats.metric_name(suite.primary_metric)} of {model.id} by split, with 95 % intervals"
    return charts.forest(marks, charts.scale(marks, None), None, chart_id="splits-chart", title=title)


def _split_row(suite: Suite, entry: Entry, common: Sequence[str]) -> SplitRow:
    return SplitRow(
        split_id=entry.split_id,
        href=links.href(links.INDEX, links.split_anchor(suite.name, entry.split_id), up=True),
        n=formats.count(entry.primary.n if entry.primary is not None else None),
        seeds=seeds_text(entry),
        tier=formats.count(entry.tier),
        badges=tuple(badge for badge in entry.badges if badge not in common),
        cells=tuple(cell(entry.metrics.get(spec.name)) for spec in suite.metric),
    )


def _methods(board: Board) -> tuple[str, ...]:
    splits_of: dict[str, list[str]] = {}
    for section in (section for section in board.sections if section.n is not None):
        splits_of.setdefault(interval_method(section, board.suite.primary_metric), []).append(section.split.id)
    if len(splits_of) < 2:
        return tuple(splits_of)
    return tuple(f"{', '.join(split_ids)}: {method}" for method, split_ids in splits_of.items())


def _missing(entry: Entry) -> str:
    present = {scored.run.seed for scored in entry.runs}
    absent = [str(seed) for seed in entry.expected_seeds if seed is not None and seed not in present]
    seeds = f" of seed {', '.join(absent)}" if absent else ""
    return f"There is no run{seeds} on {entry.split_id}; harness evaluate makes it."


def _seed_rows(suite: Suite, entry: Entry) -> tuple[SeedRow, ...]:
    return tuple(
        SeedRow(
            formats.seed(scored.run.seed),
            tuple(cell(scored.metrics[spec.name]) for spec in suite.metric),
            formats.rate(scored.metrics[suite.primary_metric].n / seconds if (seconds := scored.run.seconds) else None),
            formats.count(scored.run.tokens),
            formats.count(scored.run.truncated),
        )
        for scored in entry.runs
    )


def _confusion(entry: Entry) -> ConfusionRows:
    counts = [scored.confusion for scored in entry.runs]
    tp, fp = sum(c.true_positive for c in counts), sum(c.false_positive for c in counts)
    fn, tn = sum(c.false_negative for c in counts), sum(c.true_negative for c in counts)
    n_seeds = len(counts)
    over = f", {n_seeds} seeds added up" if n_seeds > 1 else ""
    return ConfusionRows(
        split_id=entry.split_id,
        caption=f"{entry.split_id}: {formats.count(tp + fp + fn + tn)} predictions{over}",
        positive=(formats.count(tp), _share(tp, tp + fn), formats.count(fn), _share(fn, tp + fn)),
        negative=(formats.count(fp), _share(fp, fp + tn), formats.count(tn), _share(tn, fp + tn)),
    )


def _share(part: int, whole: int) -> str:
    return formats.score(part / whole if whole else None)


def _training_row(record: AdapterRecord) -> TrainingRow:
    return TrainingRow(
        seed=formats.seed(record.seed),
        n_trainable=formats.count(record.n_trainable),
        seconds=formats.seconds(record.train_seconds),
        size=formats.size(record.size_bytes),
        peak=formats.size(record.peak_bytes),
        trained_on=record.trained_on or formats.ABSENT,
        base_digest=record.base_digest,
        digest=record.adapter_digest,
    )


def _declared(suite: Suite, model: Model) -> tuple[tuple[str, Pairs], ...]:
    tables: list[tuple[str, BaseModel]] = [("model", model)]
    adapter_id, base_id = getattr(model, "adapter", None), getattr(model, "base", None)
    train_split_id = getattr(model, "train_split", None)
    if adapter_id is not None:
        adapter = by_id(suite.adapter, adapter_id)
        base_id = adapter.base
        train_split_id = adapter.train.split if isinstance(adapter, Adapter) else None
        tables.append(("adapter", adapter))
    if base_id is not None:
        tables += [("base", by_id(suite.base, base_id)), ("text", suite.text)]
    if train_split_id is not None:
        tables.append(("split", by_id(suite.split, train_split_id)))
    return tuple((name, tuple(formats.definitions(table.model_dump(mode="json")))) for name, table in tables)


def _run_rows(scored: ScoredRun) -> RunRows:
    run = scored.run
    pairs = {
        "run": run.run_id,
        "run key": run.run_key,
        "configuration": run.configuration,
        "split digest": run.split_digest,
        "adapter digest": run.adapter_digest or formats.ABSENT,
        "suite digest": run.suite_digest,
        "started": formats.time(run.started_at),
        "finished": formats.time(run.finished_at),
        "prediction": formats.seconds(run.seconds),
    }
    c = scored.confusion
    right = c.true_positive + c.true_negative
    accuracy = formats.score(right / (right + c.false_positive + c.false_negative))
    return RunRows(_run_title(run), tuple(pairs.items()), recompute_sql(run.run_id), accuracy)


def _run_title(run: Run) -> str:
    return run.split_id if run.seed is None else f"{run.split_id}, seed {run.seed}"


def _environments(scored: Sequence[ScoredRun]) -> tuple[Environment, ...]:
    """Runs by what surrounded them: mostly all are alike, and where they are not, it shows."""
    runs_of: dict[Pairs, list[str]] = {}
    for run in (item.run for item in scored):
        runs_of.setdefault(_surroundings(run), []).append(_run_title(run))
    return tuple(
        Environment("all runs" if len(runs_of) == 1 else "; ".join(titles), pairs) for pairs, titles in runs_of.items()
    )


def _surroundings(run: Run) -> Pairs:
    dirty = {True: " with uncommitted changes", False: "", None: ""}[run.git_dirty]
    commit = f"{run.git_commit}{dirty}" if run.git_commit is not None else formats.ABSENT
    return (("git commit", commit), *_sorted_pairs(run.hardware), *_sorted_pairs(run.packages))


def _sorted_pairs(table: Mapping[str, object]) -> Pairs:
    return tuple((name, str(value)) for name, value in sorted(table.items()))
