"""Frozen records of a leaderboard. Numbers, not text: `index` and `model` do the wording.

`None` means "there is no such number", never zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from harness.artifacts import digest
from harness.records import (
    AdapterRecord,
    Expected,
    Finding,
    Forgetting,
    Metric,
    Occlusion,
    Outcomes,
    Parity,
    Run,
    Verdict,
)
from harness.stats.estimates import Difference
from harness.stats.inference import ALPHA
from harness.stats.winner import Corrected
from harness.suite.models import BACKEND_NAMES
from harness.suite.schema import SplitRule, Suite
from leaderboard.board.answers import Answer
from leaderboard.board.curves import CurveResult


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts of examples by true label and predicted label."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int


@dataclass(frozen=True, slots=True)
class ScoredRun:
    """One seed of an entry."""

    run: Run
    metrics: Mapping[str, Metric]
    """By name, in the suite's order: as stored, or recomputed from the predictions where the store lacks it."""
    confusion: Confusion


@dataclass(frozen=True, slots=True)
class Entry:
    """One declared model on one split, over its seeds. It exists even without runs."""

    model_id: str
    split_id: str
    backend: str
    method: str
    """The adapter's method (`lora`, …, `full`), or the backend of a model without one."""
    base_id: str | None
    adapter_id: str | None
    expected_seeds: tuple[int | None, ...]
    """As declared; `(None,)` for a model without randomness."""
    runs: tuple[ScoredRun, ...]
    """The stored runs, in the order of `expected_seeds`."""
    metrics: Mapping[str, Metric]
    """Means over the seeds with 95 % intervals, by name in the suite's order; empty without runs."""
    primary: Metric | None
    """The suite's primary metric of `metrics`; None without runs."""
    adapters: tuple[AdapterRecord, ...]
    """The records of the trained weights, in the order of `runs`."""
    n_trainable: int | None
    train_seconds: float | None
    """Mean over the seeds."""
    size_bytes: int | None
    """Size on disk of one seed's weights and configuration; the largest over the seeds."""
    peak_bytes: int | None
    """Largest resident set of any seed's training."""
    trials: int | None
    """Number of settings that the adapter's authors state they tried, this one included; None where not stated."""
    examples_per_second: float | None
    """Median over the runs that were timed; loading excluded."""
    tier: int | None
    """From 1; None where the entry is not ranked."""
    parities: tuple[Parity, ...] = ()
    """Parity checks of the weights' variants against torch in fp32, the latest first."""
    is_null: bool = False
    """True for a null adapter, which was trained on permuted labels."""
    moved: tuple[Mapping[str, Forgetting], ...] = ()
    """For each of `runs`, measures of the encoder's distance from its base, by name; () where nothing was measured."""

    @property
    def untrained_head(self) -> bool:
        """True for a base whose classification head was never trained: its score is chance."""
        return self.backend == "transformer" and self.adapter_id is None

    @property
    def complete(self) -> bool:
        """True if every declared seed has a run."""
        return len(self.runs) == len(self.expected_seeds)

    @property
    def ranked(self) -> bool:
        """True if the entry takes part in the tiers."""
        defined = self.primary is not None and self.primary.value is not None
        return defined and self.complete and not self.untrained_head and not self.is_null

    @property
    def proofs(self) -> tuple[str, ...]:
        """Checks that the weights passed before they were scored.

        A run with an adapter exists only if every tensor of its file was found in the live model and switching the
        adapter off changed the answers.
        """
        is_peft = self.backend in ("peft", "prompt") and self.adapter_id is not None
        loaded = ("adapter loaded",) if is_peft and self.runs else ()
        return loaded + self._parity

    @property
    def _parity(self) -> tuple[str, ...]:
        """Proof that the scored variant is as good as the reference, with the largest number of flips of any seed."""
        held: dict[tuple[str, str | None], Parity] = {}
        for scored in self.runs:
            form, prompt = form_of(scored.run), scored.run.spec.get("prompt")
            asked = None if prompt is None else digest.of_json(prompt)
            for parity in self.parities:
                mine = (parity.form, parity.adapter_digest, parity.spec.get("prompt"))
                if mine == (form, scored.run.adapter_digest, asked):
                    held.setdefault((parity.adapter_digest, asked), parity)
        if not held or len(held) < len(self.runs) or not all(parity.passed for parity in held.values()):
            return ()
        worst = max(held.values(), key=lambda parity: parity.flips or 0)
        return (f"{worst.form}: {worst.flips} of {worst.n} flip",)

    @property
    def badges(self) -> tuple[str, ...]:
        """Caveats that a reader must know before trusting the score."""
        found = ["untrained head"] if self.untrained_head else []
        if self.is_null:
            found.append("null: permuted labels")
        if self.backend == "checkpoint":
            found.append("trained checkpoint")
        if self.backend == "predictions":
            found.append("answers from elsewhere, not reproducible here")
        if self.backend not in BACKEND_NAMES:
            found.append("plug-in")
        if self.backend == "checkpoint" or any(record.trained_on is None for record in self.adapters):
            found.append("trained on unknown texts")
        n_expected, seeded = len(self.expected_seeds), self.expected_seeds != (None,)
        if not self.runs:
            found.append("not run")
        elif not self.complete:
            found.append(f"{len(self.runs)} of {n_expected} seeds")
        elif seeded and n_expected == 1:
            found.append("1 seed")
        return tuple(found)


def form_of(run: Run) -> str:
    """Runtime and precision of a run, as the table `parity` names variants."""
    model = run.spec.get("model", {})
    return f"{model.get('runtime', 'torch')} {model.get('precision', 'fp32')}"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two ranked entries of a split, compared."""

    model_id: str
    """The higher-ranked entry."""
    other_id: str
    lead: Difference | None
    """The first entry's advantage, in the metric's own unit: positive is better whichever direction is good. None where
    there is no interval."""
    adjusted_p: float | None
    """The lead's p-value, corrected over all pairs of the split."""

    @property
    def apart(self) -> bool:
        """True if the data separate the two in favour of the higher-ranked one."""
        significant = self.adjusted_p is not None and self.adjusted_p < ALPHA
        return significant and self.lead is not None and self.lead.value > 0


@dataclass(frozen=True, slots=True)
class Tier:
    """Entries that the data cannot tell apart from the first of them."""

    number: int
    """From 1, the best."""
    model_ids: tuple[str, ...]
    gap: Pair | None
    """The comparison that opened this tier: the previous tier's first entry against its own; None for tier 1."""


@dataclass(frozen=True, slots=True)
class FrontPoint:
    """An entry's place in a plot of score against cost."""

    model_id: str
    cost: float
    value: float
    """The primary metric."""
    on_front: bool
    """True if no other entry is at least as good at no higher cost, and better in one of the two."""
    chance: float
    """Share of bootstrap resamples in which it is on the front, in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Front:
    """The ranked entries of a split by score and one cost."""

    cost: str
    """A field of `Entry`: `n_trainable`, `size_bytes` or `train_seconds`."""
    points: tuple[FrontPoint, ...]
    """In the order of the entries; those without this cost are absent."""


@dataclass(frozen=True, slots=True)
class Section:
    """The entries of one scored split."""

    split: SplitRule
    split_digest: str | None
    """None where nothing was scored on it."""
    n: int | None
    """Examples."""
    n_clusters: int | None
    """None where the split names no clusters."""
    entries: tuple[Entry, ...]
    """Ranked entries from best to worst, then unranked ones in the same order, then those without a score."""
    tiers: tuple[Tier, ...]
    pairs: tuple[Pair, ...]
    """Pairs of the first 20 ranked entries, and those that tiers and headline refer to; in the order of `entries`."""
    n_pairs: int
    """Number of pairs compared: all pairs of ranked entries. All of them count in Holm's correction."""
    answers: tuple[Answer, ...]
    """Every model with trained weights against its base: those that gates name first, then in `entries` order."""
    fronts: tuple[Front, ...]
    """One for each cost in which ranked entries differ."""
    best: Corrected | None
    """The first ranked entry's primary metric, corrected for having been chosen as the best of all ranked entries."""
    times_scored: int
    """Number of configurations scored on these rows in this store, including earlier declarations and other suites."""
    audit: tuple[Finding, ...]
    """Findings of the suite's last audit in these rows; empty if they were not audited."""


@dataclass(frozen=True, slots=True)
class Past:
    """A successful run of a model, under its present configuration or an earlier one, with its primary metric."""

    run_id: str
    model_id: str
    split_id: str
    seed: int | None
    git_commit: str | None
    git_dirty: bool | None
    evaluation_id: str | None
    """Shared by the runs of one evaluation; None for runs stored before evaluations had ids."""
    finished_at: datetime
    value: float | None
    ci_low: float | None
    ci_high: float | None


@dataclass(frozen=True, slots=True)
class Headline:
    """A suite's main result: the leader on its first split and its lead."""

    leader: Entry
    tied: tuple[str, ...]
    """Models of the leader's tier."""
    comparisons: tuple[Pair, ...]
    """The leader against the competitors that it is measured by."""
    corrected: Corrected | None
    """The leader's primary metric, corrected for having been chosen as the best."""
    n_candidates: int
    """Number of ranked entries that it was chosen from."""


@dataclass(frozen=True, slots=True)
class Board:
    """A suite's leaderboard."""

    suite: Suite
    sections: tuple[Section, ...]
    """One per scored split, in the suite's order."""
    headline: Headline | None
    """None while no entry of the first split is ranked."""
    verdicts: tuple[Verdict, ...]
    expected: tuple[Expected, ...]
    """Outcomes of the suite's expectations, in the file's order."""
    outcomes: Mapping[str, Outcomes]
    """Predictions of every run of the entries, by `run_id`: the source of the compare page and the example browser."""

    past: Mapping[str, tuple[Past, ...]] = field(default_factory=dict)
    """Runs at any commit by model, the newest first; only for models that were scored at more than one."""
    curves: tuple[CurveResult, ...] = ()
    """Results of the suite's learning curves, in the file's order."""
    explained: Mapping[str, tuple[Occlusion, ...]] = field(default_factory=dict)
    """Examples scored without each of their words, by run id; empty where the suite does not store texts."""

    def entries_of(self, model_id: str) -> tuple[Entry, ...]:
        """A model's entry on each scored split, in the suite's order."""
        return tuple(entry for section in self.sections for entry in section.entries if entry.model_id == model_id)
