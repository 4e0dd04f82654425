"""One configuration as the finished rows that `templates/model.html` prints: every number is text already."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.records import AdapterRecord, Example, Metric
from harness.stats import timing
from harness.suite.load import by_id
from harness.suite.schema import Model, PromptModel, Suite
from leaderboard.board.records import Board, Entry, ScoredRun
from leaderboard.pages import formats, links
from leaderboard.pages.again import citation, commands, loading
from leaderboard.pages.badges import Picture, of_model, picture
from leaderboard.pages.forgetting import ForgettingRow, forgetting_rows
from leaderboard.pages.gallery import Plot, smoothed
from leaderboard.pages.hardest import HardExample, hardest
from leaderboard.pages.history import history_plot
from leaderboard.pages.index import NO_EXAMPLES
from leaderboard.pages.origins import Environment, PastRow, RunRows, declared, environments, past_rows, run_rows
from leaderboard.pages.parity import ParityRow, parity_rows
from leaderboard.pages.parts import (
    Cell,
    ExpectedRow,
    RuleGroup,
    VerdictRow,
    cell,
    expected_groups,
    interval_method,
    mark,
    marked,
    marked_count,
    seeds_text,
    shared_scale,
    verdict_groups,
)
from leaderboard.plots import inline


@dataclass(frozen=True, slots=True)
class SplitRow:
    """The model's means on one split."""

    split_id: str
    href: str
    n: str
    seeds: str
    tier: str
    badges: tuple[str, ...]
    bar: Markup
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
    """Predictions by true label, summed over seeds; each count with its share of the true class."""

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
    curve: Markup
    """The training loss by step; empty where the card has none."""


@dataclass(frozen=True, slots=True)
class HardRows:
    """A split's errors that the model is most confident in."""

    split_id: str
    examples: tuple[HardExample, ...]


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
    proofs: tuple[str, ...]
    splits: tuple[SplitRow, ...]
    missing: tuple[str, ...]
    methods: tuple[str, ...]
    """Sentences on how intervals were computed, by split where splits differ."""
    seeds: tuple[SeedGroup, ...]
    verdicts: tuple[RuleGroup[VerdictRow], ...]
    expected: tuple[RuleGroup[ExpectedRow], ...]
    confusions: tuple[ConfusionRows, ...]
    trials: str
    """A sentence on how many settings were tried; empty for a model without an adapter."""
    training: tuple[TrainingRow, ...]
    parities: tuple[ParityRow, ...]
    moved: tuple[ForgettingRow, ...]
    hardest: tuple[HardRows, ...]
    texts: bool
    """True if the suite lets the site show its texts."""
    declared: str
    """TOML."""
    commands: str
    """The calls that make these runs again."""
    loading: str
    """A program that loads the weights with transformers and PEFT; empty for what has none of PEFT's."""
    citation: str
    """BibTeX; empty without runs."""
    pictures: tuple[Picture, ...]
    """Badges: the lead over its base, and its gates."""
    history: Plot | None
    past: tuple[PastRow, ...]
    runs: tuple[RunRows, ...]
    environments: tuple[Environment, ...]


def model_rows(
    board: Board,
    model: Model,
    suite_digest: str,
    examples: Mapping[str, Sequence[Example]] = NO_EXAMPLES,
    board_file: str = links.INDEX,
) -> ModelRows:
    """Content of a configuration's page.

    Args:
        suite_digest: of the board's suite; a suite of a thousand models takes a while to digest, so once is enough.
        examples: by split, for the texts of the hardest ones.
        board_file: the page of the suite's board.
    """
    suite, entries = board.suite, board.entries_of(model.id)
    scored = [run for entry in entries for run in entry.runs]
    adapters = {record.adapter_digest: record for entry in entries for record in entry.adapters}
    shown = shared_scale(entries)
    common = tuple(badge for badge in entries[0].badges if all(badge in entry.badges for entry in entries))
    return ModelRows(
        suite=suite.name,
        suite_digest=suite_digest,
        model_id=model.id,
        what=_what(entries[0].method, entries[0].base_id, scored),
        badges=common,
        back=links.href(board_file, links.suite_anchor(suite.name), up=True),
        metric_names=tuple(formats.metric_name(spec.name) for spec in suite.metric),
        primary_metric=formats.metric_name(suite.primary_metric),
        proofs=tuple(dict.fromkeys(proof for entry in entries for proof in entry.proofs)),
        splits=tuple(_split_row(suite, entry, common, shown, board_file) for entry in entries),
        missing=tuple(_missing(entry) for entry in entries if not entry.complete),
        methods=_methods(board),
        seeds=tuple(SeedGroup(entry.split_id, _seed_rows(suite, entry)) for entry in entries if entry.runs),
        verdicts=verdict_groups([one for one in board.verdicts if one.model_id == model.id]),
        expected=expected_groups([one for one in board.expected if one.model_id == model.id]),
        confusions=tuple(_confusion(entry) for entry in entries if entry.runs),
        trials=_trials(entries[0]),
        training=tuple(_training_row(record) for record in adapters.values()),
        parities=parity_rows(entries),
        moved=forgetting_rows(entries),
        hardest=tuple(
            HardRows(entry.split_id, found)
            for entry in entries
            if (found := _hardest(board, entry, examples.get(entry.split_id, ())))
        ),
        texts=suite.text.store,
        declared=declared(suite, model),
        commands=commands(entries),
        loading=loading(entries),
        citation=citation(suite, suite_digest, entries[0]),
        pictures=tuple(picture(badge) for badge in of_model(board, model.id)),
        history=history_plot(board, model.id, scored),
        past=past_rows(board.past.get(model.id, ()), scored),
        runs=tuple(run_rows(run) for run in scored),
        environments=environments(scored),
    )


def _what(method: str, base_id: str | None, runs: Sequence[ScoredRun]) -> str:
    """Method and base; the form that the base's weights had, where they were dequantised; where answers come from."""
    specs = [scored.run.spec for scored in runs]
    origins = dict.fromkeys(
        one for spec in specs for one in (spec.get("base_origin"), spec.get("model", {}).get("origin"))
    )
    return "; ".join([formats.method_phrase(method, base_id), *(origin for origin in origins if origin)])


def _split_row(suite: Suite, entry: Entry, common: Sequence[str], shown: inline.Scale, board_file: str) -> SplitRow:
    drawn = mark(entry, "")
    return SplitRow(
        split_id=entry.split_id,
        href=links.href(board_file, links.split_anchor(suite.name, entry.split_id), up=True),
        n=formats.count(entry.primary.n if entry.primary is not None else None),
        seeds=seeds_text(entry),
        tier=formats.count(entry.tier),
        badges=tuple(badge for badge in entry.badges if badge not in common),
        bar=inline.bar(drawn, shown) if drawn is not None else Markup(),
        cells=tuple(_marked(entry, entry.metrics.get(spec.name)) for spec in suite.metric),
    )


def _marked(entry: Entry, metric: Metric | None, seed: str = "") -> Cell:
    return marked(cell(metric), entry, metric, seed=seed)


def _hardest(board: Board, entry: Entry, examples: Sequence[Example]) -> tuple[HardExample, ...]:
    return hardest(entry, board.outcomes, examples, with_text=board.suite.text.store)


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
    return f"There is no run{seeds} on {entry.split_id}; harness evaluate produces it."


def _run_name(suite: Suite, model_id: str, seed: int | None) -> str:
    """A run's seed; for a model that is asked in words, its prompt."""
    model = by_id(suite.model, model_id)
    if not isinstance(model, PromptModel) or seed is None:
        return formats.seed(seed)
    asked = suite.asked_of(model)[seed]
    shots = f", shots of seed {asked.draw}" if asked.draw is not None else ""
    trained = f", trained with seed {asked.training_seed}" if asked.training_seed is not None else ""
    return f"{seed}: {asked.prompt}{shots}{trained}"


def _seed_rows(suite: Suite, entry: Entry) -> tuple[SeedRow, ...]:
    return tuple(
        SeedRow(
            _run_name(suite, entry.model_id, scored.run.seed),
            tuple(_marked(entry, scored.metrics[spec.name], formats.seed(scored.run.seed)) for spec in suite.metric),
            formats.rate(timing.examples_per_second(scored.run, scored.metrics[suite.primary_metric].n)),
            formats.count(scored.run.tokens),
            formats.count(scored.run.truncated),
        )
        for scored in entry.runs
    )


def _confusion(entry: Entry) -> ConfusionRows:
    """The confusion matrix over all seeds."""
    counts = [scored.confusion for scored in entry.runs]
    tp, fp = sum(c.true_positive for c in counts), sum(c.false_positive for c in counts)
    fn, tn = sum(c.false_negative for c in counts), sum(c.true_negative for c in counts)
    over = f", {len(counts)} seeds summed" if len(counts) > 1 else ""

    def shown(name: str, value: int) -> Markup:
        return marked_count(name, value, entry)

    return ConfusionRows(
        split_id=entry.split_id,
        caption=f"{entry.split_id}: {formats.count(tp + fp + fn + tn)} predictions{over}",
        positive=(shown("true_positive", tp), _share(tp, tp + fn), shown("false_negative", fn), _share(fn, tp + fn)),
        negative=(shown("false_positive", fp), _share(fp, fp + tn), shown("true_negative", tn), _share(tn, fp + tn)),
    )


def _share(part: int, whole: int) -> str:
    return formats.score(part / whole if whole else None)


def _trials(entry: Entry) -> str:
    if entry.adapter_id is None:
        return ""
    if entry.trials is None:
        return "How many settings were tried before this one is not stated."
    if entry.trials == 1:
        return "It is the only setting that was tried, as the suite states."
    return f"{formats.count(entry.trials)} settings were tried, this one included, as the suite states."


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
        curve=_curve(record),
    )


def _curve(record: AdapterRecord) -> Markup:
    points = smoothed(record)
    if len(points) < 2:
        return Markup()
    first, last = (formats.score(points[i][1]) for i in (0, -1))
    return inline.line([loss for _, loss in points], f"training loss, from {first} to {last} nats")
