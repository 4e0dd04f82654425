"""Models watched from commit to commit: a fall too slow for any single commit to show.

    watch = record(suite, workspace, "main")
    watch.alarms

Each call compares the stored runs with a baseline on the same rows and adds one value for each model and split to its
series in the store. A commit counts once, and so do weights: what was scored before is no new evidence, and a command
that is run again changes nothing. `harness.stats.drift` says what a series shows.

The null hypothesis is that the commits' models are exchangeable: trained anew, and different by the noise of training
alone. The baseline is what they are compared with, but no member of the series: it was chosen, and may have been lucky.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness import provenance
from harness.artifacts import digest
from harness.errors import UsageError
from harness.evaluation import results
from harness.evaluation.inputs import Workspace, gather
from harness.evaluation.plan import plan
from harness.gates import baselines
from harness.gates.baseline_file import BaselineRun
from harness.records import Outcomes, Place, Run, Watched
from harness.stats import drift, metrics
from harness.stats.metrics import METRICS
from harness.store import reader, writer
from harness.store.connection import Connection, opened
from harness.suite.schema import Suite

FORM = "watch-1"


@dataclass(frozen=True, slots=True)
class Series:
    """The present state of one model on one split."""

    model: str
    split: str
    metric: str
    commits: int
    """Commits with weights of their own."""
    is_new: bool
    """True if this call added a value."""
    value: float
    """Difference from the baseline now, positive where it is better."""
    evidence: float
    """For a lasting fall; on average it reaches `alarm_at` at most once in so many commits by chance."""
    alarm_at: float
    """Evidence of an alarm: a thousand for each series that is watched."""
    falling_since: str | None
    """Commit with which the fall most likely began, if there is an alarm and git knew it."""
    falling_for: int | None
    """Number of commits since then, it included; None without an alarm."""

    @property
    def is_alarm(self) -> bool:
        """True if it has fallen for good."""
        return self.evidence >= self.alarm_at


@dataclass(frozen=True, slots=True)
class Watch:
    """A suite's models, watched against a baseline."""

    baseline: str
    git_commit: str | None
    series: tuple[Series, ...]
    warnings: tuple[str, ...]

    @property
    def alarms(self) -> tuple[Series, ...]:
        """Those that have fallen."""
        return tuple(one for one in self.series if one.is_alarm)


def record(suite: Suite, workspace: Workspace, name: str) -> Watch:
    """Compare the suite's current runs with a baseline, and add them to the series in the store.

    Args:
        name: of a baseline beside the suite.

    Raises:
        UsageError: there is no such baseline, it cannot be used, or none of its models has current runs.
        StoreError: there is no store.
    """
    with digest.remembering(workspace.digests):
        jobs = plan(suite, gather(suite, workspace), workspace)
    splits = {job.split.split_id: job.split for job in jobs}
    baseline, kept = baselines.beside_suite(name, suite, workspace, splits)
    if baseline.problem is not None:
        raise UsageError(f"baseline {name}: {baseline.problem}")
    warnings = [
        f"{model} on {split}: baseline {name} holds other examples than are scored now; set it anew to watch it"
        for model, split in sorted(baseline.other_examples)
    ]
    commit, is_dirty = provenance.git(workspace.suite_path.resolve().parent)
    if is_dirty:
        warnings.append(f"there are uncommitted changes; commit {commit} alone does not say what is recorded for it")
    with opened(workspace.db, read_only=True) as connection:
        found = results.of(connection, jobs)
    places = [place for place in baseline.outcomes if place in found.outcomes]
    warnings += [found.missing[place] for place in baseline.outcomes if place in found.missing]
    if not places:
        reasons = warnings or [f"baseline {name} holds none of the suite's models"]
        raise UsageError("\n".join(["nothing can be watched:", *reasons]))
    values = {place: _gap(suite.primary_metric, found.outcomes[place], baseline.outcomes[place]) for place in places}
    warnings += [
        f"{model} on {split}: {suite.primary_metric} is not defined"
        for (model, split), value in values.items()
        if not np.isfinite(value)
    ]
    now = [
        Watched(
            series=_series(suite, place, splits[place[1]].digest, kept),
            position=0,
            suite=suite.name,
            baseline=name,
            model_id=place[0],
            split_id=place[1],
            metric=suite.primary_metric,
            weights=_weights(found.runs[place], found.outcomes[place]),
            git_commit=commit,
            value=value,
            watched_at=provenance.now(),
        )
        for place, value in values.items()
        if np.isfinite(value)
    ]
    own = {place: _weights_of_baseline(kept, place, baseline.outcomes[place]) for place in places}
    with opened(workspace.db) as connection:
        return Watch(name, commit, _added(connection, now, own), tuple(warnings))


def _gap(metric: str, now: Sequence[Outcomes], was: Sequence[Outcomes]) -> float:
    ours, theirs = (float(np.mean([metrics.value(metric, one) for one in side])) for side in (now, was))
    return ours - theirs if METRICS[metric].higher_is_better else theirs - ours


def _series(suite: Suite, place: Place, rows: str, kept: Sequence[BaselineRun]) -> str:
    """Name a series by all that makes its values comparable; a baseline that is set anew begins another one."""
    of_baseline = sorted(run.run_id for run in kept if (run.model_id, run.split_id) == place)
    definition = metrics.origin(suite.primary_metric)
    named = [] if definition is None else [definition]
    return digest.of_json([FORM, suite.name, *place, rows, suite.primary_metric, of_baseline, *named])


def _weights(runs: Sequence[Run], outcomes: Sequence[Outcomes]) -> str:
    return _identity([run.adapter_digest for run in runs], outcomes)


def _weights_of_baseline(kept: Sequence[BaselineRun], place: Place, outcomes: Sequence[Outcomes]) -> str:
    return _identity([run.adapter_digest for run in kept if (run.model_id, run.split_id) == place], outcomes)


def _identity(adapter_digests: Sequence[str | None], outcomes: Sequence[Outcomes]) -> str:
    """Identify weights by their digests, and a model without any by its answers."""
    known = [one for one in adapter_digests if one is not None]
    if len(known) == len(adapter_digests):
        return digest.of_json(["weights", *sorted(known)])
    return digest.of_json(["answers", *sorted(one.predicted.tolist() for one in outcomes)])


def _added(connection: Connection, now: Sequence[Watched], own: Mapping[Place, str]) -> tuple[Series, ...]:
    """Add what is new to the store, and describe every series."""
    new, states = [], []
    alarm_at = float(drift.COMMITS_PER_ALARM * len(now))
    for one in now:
        past = reader.watched(connection, one.series)
        is_known = any(
            one.weights == then.weights or (one.git_commit is not None and one.git_commit == then.git_commit)
            for then in past
        )
        is_new = not is_known and one.weights != own[one.model_id, one.split_id]
        if is_new:
            past.append(replace(one, position=len(past)))
            new.append(past[-1])
        states.append(_state(one, past, is_new=is_new, alarm_at=alarm_at))
    writer.write_watched(connection, new)
    return tuple(states)


def _state(one: Watched, past: Sequence[Watched], *, is_new: bool, alarm_at: float) -> Series:
    values = np.array([then.value for then in past], dtype=np.float64)
    ties = np.array([drift.tie_of(then.series, then.weights) for then in past], dtype=np.float64)
    found = drift.fall(values, ties)
    is_alarm = found.evidence >= alarm_at and found.first is not None
    first = found.first if is_alarm else None
    return Series(
        model=one.model_id,
        split=one.split_id,
        metric=one.metric,
        commits=len(past),
        is_new=is_new,
        value=one.value,
        evidence=found.evidence,
        alarm_at=alarm_at,
        falling_since=None if first is None else past[first].git_commit,
        falling_for=None if first is None else len(past) - first,
    )
