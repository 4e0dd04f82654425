"""Gates that are decided as soon as it is certain, on a part of the split.

    decisions = decide_early(rules, jobs, evidence, folder)     # scores blocks of units until a rule passes or fails

The units (clusters where the split names them, else examples) stand in an order that is drawn from their contents, so
it does not depend on the file's. All sides of a rule score a block of units, and a confidence sequence says pass, fail
or go on (`harness.stats.anytime`). The answers are kept in blocks: a gate that was stopped goes on where it stood, and
a later evaluation of the whole split scores only the rest.

Rules about a mean of bounded terms can be decided so: accuracy and Brier score, their differences, and flips; the other
side may be a stored baseline. With several seeds a verdict is about these weights, since the choice of seeds is no part
of the sequence.
"""

import hashlib
import math
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from harness.artifacts import digest
from harness.errors import StoreError
from harness.evaluation import scoring, shards
from harness.evaluation.scoring import Job
from harness.gates.judge import Decision, Unjudgeable, baseline_of, naming_baseline
from harness.gates.judge import decide as decide_whole
from harness.gates.questions import BLOCK, Question, ends_of_blocks, question, why_whole
from harness.models.classifier import Classifier
from harness.progress import Advance, Progress, silent
from harness.records import Evidence, Example, Outcome, Outcomes, Place
from harness.stats import anytime, slices
from harness.stats.anytime import Seen, Side
from harness.stats.inference import Floats
from harness.suite.rules import Comparison, Flips, Rule, of_expectations, of_gates
from harness.suite.schema import Suite

ORDER = "order-1"
"""Seed of the order of the units."""


class Scores(Protocol):
    """The scores of one model with one seed, for examples that are asked for."""

    def __call__(self, examples: Sequence[Example], advance: Advance) -> Floats: ...


class Sides(NamedTuple):
    """Both sides of a rule, by seed."""

    candidate: tuple[Scores, ...]
    reference: tuple[Scores, ...]
    """Empty for a rule about one model."""


class Early(NamedTuple):
    """Decisions on a part of their splits."""

    decisions: Mapping[str, Decision]
    """By the rule in words."""
    answers: int
    """Number of answers that the models have given, now or earlier."""
    of_answers: int
    """Number of answers that they would give on their whole splits."""
    damaged: tuple[str, ...]
    """Descriptions of damaged files, whose examples were scored again."""

    @property
    def notes(self) -> tuple[str, ...]:
        """A line about how much was scored."""
        if not self.of_answers:
            return ()
        return (f"decided on {self.answers:,} of {self.of_answers:,} answers; the others were not scored",)


def decide_early(
    rules: Sequence[Rule],
    jobs: Sequence[Job],
    evidence: Evidence,
    folder: Path,
    *,
    may_score: Callable[[Rule], bool] = lambda rule: True,
    family: int = 1,
    progress: Progress = silent,
) -> Early:
    """Decide the rules whose runs are not all stored and that can be decided on a part of their split.

    Args:
        rules: gates; those that need the whole split get no decision here.
        jobs: the plan of the suite.
        evidence: what is stored as a whole.
        folder: of all shards.
        may_score: False for a rule that is decided by the kept blocks alone, and left out where these do not decide.
        family: number of rules for which a fail will be corrected.

    Returns:
        The decisions. A model that cannot be scored fails its rules, with the reason; where scoring is asked for, so
        does a rule that needs the whole split.
    """
    evaluation_id, models = uuid.uuid4().hex, dict[str, FromModel]()
    found = {}
    for rule in rules:
        if _is_stored(rule, evidence):
            continue
        if (why := why_whole(rule)) is not None:
            if may_score(rule):
                whole = decide_whole(rule, evidence)
                found[rule.gate_id] = whole._replace(reason=f"{whole.reason}; a part is not enough: {why}")
            continue
        try:
            sides = _sides(rule, jobs, evidence, models, lambda job: FromModel(job, folder, evaluation_id))
            for one in models.values():
                one.may_score = may_score(rule)
            decided = decide(rule, sides, _examples(rule, jobs), progress, family)
            found[rule.gate_id] = naming_baseline(rule, evidence, decided)
        except NotKept:
            continue
        except Unjudgeable as problem:
            found[rule.gate_id] = Decision("fail", str(problem), {})
        except StoreError:
            raise
        except Exception as problem:  # noqa: BLE001 (whatever a model raises fails its rules, and the others go on)
            reason = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
            found[rule.gate_id] = Decision("fail", f"a model cannot be scored on {rule.split}: {reason}", {})
    used = models.values()
    return Early(
        found,
        sum(len(one.known) for one in used),
        sum(len(one.job.split.examples) for one in used),
        tuple(problem for one in used for problem in one.damaged),
    )


def _places(rule: Rule) -> list[Place]:
    return [(model, rule.split) for model in rule.models]


def _is_stored(rule: Rule, evidence: Evidence) -> bool:
    return all(place in evidence.outcomes and place not in evidence.missing for place in _places(rule))


def _examples(rule: Rule, jobs: Sequence[Job]) -> Sequence[Example]:
    return next(job.split.examples for job in jobs if job.split.split_id == rule.split)


def _sides(
    rule: Rule,
    jobs: Sequence[Job],
    evidence: Evidence,
    models: dict[str, "FromModel"],
    load: Callable[[Job], "FromModel"],
) -> Sides:
    """The scores of both sides; a model that several rules are about is loaded once."""
    sides = []
    for place in _places(rule):
        if place in evidence.outcomes and place not in evidence.missing:
            sides.append(tuple(from_outcomes(outcomes) for outcomes in evidence.outcomes[place]))
            continue
        here = [job for job in jobs if (job.model.id, job.split.split_id) == place]
        _check_different(rule.model, here)
        for job in here:
            models.setdefault(job.run_key, load(job))
        sides.append(tuple(models[job.run_key] for job in here))
    if isinstance(rule, Comparison | Flips) and rule.baseline is not None:
        sides.append(tuple(from_outcomes(outcomes) for outcomes in baseline_of(rule, evidence)[1]))
    return Sides(sides[0], sides[1] if len(sides) > 1 else ())


def _check_different(model: str, jobs: Sequence[Job]) -> None:
    digests = [job.adapter.adapter_digest for job in jobs if job.adapter is not None]
    if len(set(digests)) < len(digests):
        raise Unjudgeable(f"two seeds of {model} have the same weights: they are one seed counted twice")


def only_early(suite: Suite) -> frozenset[Place]:
    """Models and splits that only rules ask for which the suite declares as sequential, and which a part can decide."""
    early: set[Place] = set()
    whole: set[Place] = set()
    for rule in [*of_gates(suite), *of_expectations(suite)]:
        places = early if rule.sequential and why_whole(rule) is None else whole
        places |= {(model, split) for model in rule.models for split in rule.splits}
    return frozenset(early - whole)


def from_outcomes(outcomes: Outcomes) -> Scores:
    """The scores of a run that is stored as a whole."""
    known = dict(zip(outcomes.example_ids, outcomes.scores.tolist(), strict=True))

    def scores(examples: Sequence[Example], advance: Advance) -> Floats:
        return np.array([known[example.example_id] for example in examples], dtype=np.float64)

    return scores


class FromModel:
    """The scores of a job's model, from its blocks as far as they are kept, else scored now and kept.

    Args:
        folder: of all shards.
        evaluation_id: recorded in the blocks that are scored.
    """

    may_score = True
    """False to use nothing but what is kept."""

    def __init__(self, job: Job, folder: Path, evaluation_id: str) -> None:
        self.job, self.folder, self.evaluation_id = job, folder, evaluation_id
        self.known, self.damaged = shards.known(job, folder)
        self.classifier: Classifier | None = None

    def __call__(self, examples: Sequence[Example], advance: Advance) -> Floats:
        missing = [example for example in examples if example.example_id not in self.known]
        if missing:
            self._score(missing, advance)
        return np.array([self.known[example.example_id] for example in examples], dtype=np.float64)

    def _score(self, examples: Sequence[Example], advance: Advance) -> None:
        from threadpoolctl import threadpool_limits

        if not self.may_score:
            raise NotKept
        if self.job.blocked is not None:
            raise Unjudgeable(self.job.blocked)
        digest.read_remembered()
        with threadpool_limits(1):
            self.classifier = self.classifier or shards.loaded(self.job)
            answers = scoring.answer(self.job, self.classifier, examples, advance)
        shards.write_block(self.job, examples, answers._replace(evaluation_id=self.evaluation_id), self.folder)
        self.known |= dict(zip([one.example_id for one in examples], answers.scores.tolist(), strict=True))


class NotKept(Exception):
    """Raised where the kept blocks do not go far enough for a decision."""


def units_in_order(examples: Sequence[Example]) -> list[tuple[Example, ...]]:
    """Group examples by cluster, and draw an order of the groups that depends on their contents alone."""
    groups: dict[str, list[Example]] = {}
    for example in examples:
        groups.setdefault(f"e {example.example_id}" if example.cluster is None else f"c {example.cluster}", []).append(
            example
        )
    units = [tuple(sorted(group, key=lambda one: one.example_id)) for group in groups.values()]
    return sorted(units, key=_place)


def _place(unit: tuple[Example, ...]) -> bytes:
    return hashlib.sha256("\n".join([ORDER, *(example.example_id for example in unit)]).encode()).digest()


def decide(
    rule: Rule, sides: Sides, examples: Sequence[Example], progress: Progress, family: int = 1, block: int = BLOCK
) -> Decision:
    """Score blocks of units until a rule passes or fails, or all units are scored.

    Args:
        examples: of the rule's split.
        family: number of rules for which a fail will be corrected; it then needs as many times the evidence, with which
            any of Holm's steps keeps it.
        block: examples, at least, between two looks.

    Raises:
        Unjudgeable: the rule's slice is empty, or a model cannot be scored.
        NotKept: a side may not score, and its kept blocks decide nothing.
        StoreError: the answers cannot be written.
    """
    asked = question(rule)
    if rule.slice is not None:
        kept = slices.chosen(rule.slice, examples)
        examples = [example for example, chosen in zip(examples, kept, strict=True) if chosen]
    units = units_in_order(examples)
    if not units:
        raise Unjudgeable(f"no example of {rule.split} is in the slice {rule.slice}")
    largest, per_unit = max(map(len, units)), len(examples) / len(units)
    # Whatever Holm's step, a fail with so many times the evidence stands; a pass is not corrected.
    fails: Side = "below" if asked.passes == "above" else "above"
    sums, sizes = np.zeros(0), np.zeros(0, dtype=np.int64)
    with progress(rule.gate_id, len(units)) as advance:
        for some in _blocks(units, block):
            terms = _terms(asked, sides, [example for unit in some for example in unit])
            lengths = np.array([len(unit) for unit in some])
            starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
            sums = np.concatenate([sums, np.add.reduceat(terms, starts)])
            sizes = np.concatenate([sizes, lengths])
            seen = Seen(sums, sizes, largest, per_unit, asked.low, asked.high)
            advance(len(some), "")
            if (side := anytime.decide(seen, asked.limit, {fails: family})) is not None:
                break
    return _decision(rule, asked, seen, side, len(units), max(len(sides.candidate), len(sides.reference)))


def _blocks(units: Sequence[tuple[Example, ...]], size: int) -> Iterator[Sequence[tuple[Example, ...]]]:
    """Divide units, in order, into blocks of at least so many examples; the last may be smaller."""
    start = 0
    for end in ends_of_blocks(np.array([len(unit) for unit in units], dtype=np.int64), size).tolist():
        yield units[start : end + 1]
        start = end + 1


def _terms(asked: Question, sides: Sides, examples: Sequence[Example]) -> Floats:
    labels = np.array([example.label for example in examples], dtype=np.int64)
    ours, theirs = ([scores(examples, lambda units, note: None) for scores in side] for side in sides)
    return asked.terms(ours, theirs, labels)


def _decision(rule: Rule, asked: Question, seen: Seen, side: Side | None, of_units: int, seeds: int) -> Decision:
    low, high = anytime.interval(seen)
    outcome: Outcome = "inconclusive" if side is None else "pass" if side == asked.passes else "fail"
    n, units = int(seen.sizes.sum()), len(seen.sums)
    above, below = anytime.log_evidence(seen, asked.limit)
    numbers: dict[str, Any] = {
        "value": seen.mean, "ci_low": low, "ci_high": high, "n": n, "limit": rule.limit, "units": units,
        "of_units": of_units, "seeds": seeds,
        "p_fail": math.exp(min(0.0, -(below if asked.passes == "above" else above))),
    }  # fmt: skip
    if isinstance(rule, Comparison | Flips):
        numbers["reference"] = rule.other.words
    sign = "+" if asked.low < 0 else ""
    reason = (
        f"{seen.mean:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}], decided after {units:,} of {of_units:,} units"
        if side is not None
        else f"{seen.mean:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}], undecided after all {of_units:,} units"
    )
    words = f"{reason}, limit {asked.limit:g}" + ("; about these weights, not other seeds" if seeds > 1 else "")
    return Decision(outcome, words, numbers)
