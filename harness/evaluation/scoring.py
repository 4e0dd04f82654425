"""Scoring of one model on one split, independent of the store and of other models.

job = Job(…)                          # everything that can change the predictions, digested in `run_key`
classifier = load(job)
answers = [answer(job, classifier, examples, advance) for examples in …]     # the split, or its parts in their order
scored = finished(job, answers)
"""

import time
import traceback
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np

from harness import models, provenance
from harness.errors import HarnessError, RunError
from harness.models import device
from harness.models.classifier import Classifier, ModelInputs, RecordedAnswers
from harness.progress import Advance
from harness.records import AdapterRecord, Example, Prediction, Run, Split, Status
from harness.stats import estimates, metrics
from harness.stats.inference import Floats
from harness.suite.schema import Model, Suite


@dataclass(frozen=True, slots=True)
class Job:
    """One model with one seed, to be scored on one split."""

    suite: Suite
    model: Model
    seed: int | None
    split: Split
    ingredients: ModelInputs
    adapter: AdapterRecord | None
    """Record of its weights."""
    configuration: str
    run_key: str
    spec: Mapping[str, Any]
    """The inputs of which `run_key` is the digest."""
    git_commit: str | None
    git_dirty: bool | None
    blocked: str | None = None
    """Reason why it cannot be scored, such as an adapter whose training failed or that saw rows of the split."""
    warning: str | None = None
    """Caveat for readers of its score, such as an adapter that may have been trained on rows of the split."""
    note: str | None = None
    """The variant that `precision = "auto"` chose, and why."""

    @property
    def label(self) -> str:
        """Model, seed and split, for display."""
        seed = "" if self.seed is None else f" seed {self.seed}"
        return f"{self.model.id}{seed} on {self.split.split_id}"


class Answers(NamedTuple):
    """Scores of a model for n consecutive examples of a split."""

    scores: Floats
    """Shape (n,), probability of class 1, in the order of the examples."""
    tokens: int | None
    """Number of tokens read; None without a tokenizer."""
    truncated: int | None
    """Number of truncated texts; None without a tokenizer."""
    seconds: float | None
    """Wall time of prediction, including earlier tokenizing; None where another model computed part of the work."""
    started_at: datetime
    """UTC, without time zone."""
    evaluation_id: str | None = None
    """The call of `harness evaluate` in which it was scored."""


class Scored(NamedTuple):
    """A run and its predictions in the order of the split; there are none unless it succeeded."""

    run: Run
    predictions: tuple[Prediction, ...]


def load(job: Job) -> Classifier:
    """Load the job's model, ready to predict."""
    if job.blocked is not None:
        raise RunError(job.blocked)
    return models.load(job.model, job.ingredients)


def answer(job: Job, classifier: Classifier, examples: Sequence[Example], advance: Advance) -> Answers:
    """Score some of the split's examples.

    Raises:
        RunError: the job is blocked, or the classifier's scores are not one probability for each example.
    """
    if job.blocked is not None:  # the model may have been loaded for another of its splits
        raise RunError(job.blocked)
    started_at = provenance.now()
    text = job.suite.text
    texts = [text.render(example.title, example.content) for example in examples]
    seconds = None
    if isinstance(classifier, RecordedAnswers):
        found = classifier.recall([example.example_id for example in examples], advance)
    else:
        began = _clock(job)
        found = classifier.predict(texts, advance)
        elapsed = _clock(job) - began + found.tokenizing_seconds
        seconds = None if found.borrowed_seconds > 0 else elapsed
    scores = np.asarray(found.scores, dtype=np.float64)
    if scores.shape != (len(texts),) or not ((scores >= 0) & (scores <= 1)).all():
        raise RunError(f"{job.label}: expected {len(texts)} probabilities, one for each example")
    return Answers(scores, found.tokens, found.truncated, seconds, started_at)


def _clock(job: Job) -> float:
    """Seconds on a clock, once the device has done what it was given."""
    device.synchronise_kind(job.ingredients.device)
    return time.perf_counter()


def finished(job: Job, parts: Sequence[Answers]) -> Scored:
    """Combine the parts of a run, and compute the suite's metrics.

    Args:
        parts: these cover all examples of the split, in its order.
    """
    scores = np.concatenate([part.scores for part in parts])
    predictions = tuple(
        Prediction(example.example_id, int(score > 0.5), float(score))
        for example, score in zip(job.split.examples, scores, strict=True)
    )
    predicted = np.array([prediction.predicted for prediction in predictions], dtype=np.int64)
    outcomes = metrics.of_split(job.split, predicted, scores)
    names = [spec.name for spec in job.suite.metric]
    values = tuple(estimates.summaries(names, [outcomes], estimates.generator_for([job.run_key])).values())
    evaluations = {part.evaluation_id for part in parts}
    run = replace(
        _run(job, min(part.started_at for part in parts), "success", None),
        seconds=None if any(part.seconds is None for part in parts) else sum(part.seconds or 0.0 for part in parts),
        tokens=_sum([part.tokens for part in parts]),
        truncated=_sum([part.truncated for part in parts]),
        metrics=values,
        # Timings from several evaluations do not add up to a timing of one.
        evaluation_id=evaluations.pop() if len(evaluations) == 1 else uuid.uuid4().hex,
    )
    return Scored(run, predictions)


def _sum(counts: Sequence[int | None]) -> int | None:
    """Add counts; None if any of them is unknown."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def unfinished(job: Job, started_at: datetime, status: Status, problem: BaseException) -> Scored:
    """Record a run that failed or was cancelled."""
    text = str(problem) if isinstance(problem, HarnessError) else "".join(traceback.format_exception(problem))
    return Scored(_run(job, started_at, status, text or type(problem).__name__), ())


def _run(job: Job, started_at: datetime, status: Status, error: str | None) -> Run:
    return Run(
        run_id=uuid.uuid4().hex,
        run_key=job.run_key,
        suite=job.suite.name,
        suite_digest=job.suite.digest,
        split_id=job.split.split_id,
        split_digest=job.split.digest,
        model_id=job.model.id,
        configuration=job.configuration,
        seed=job.seed,
        adapter_digest=job.adapter.adapter_digest if job.adapter else None,
        status=status,
        error=error,
        spec=job.spec,
        packages=provenance.packages(),
        hardware={**provenance.hardware(), **device.described(job.ingredients.device)},
        git_commit=job.git_commit,
        git_dirty=job.git_dirty,
        started_at=started_at,
        finished_at=provenance.now(),
        seconds=None,
        tokens=None,
        truncated=None,
        metrics=(),
    )
