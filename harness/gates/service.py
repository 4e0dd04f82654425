"""Judging of a suite's gates and expectations on stored results.

judged = judge_stored(suite, workspace)
judged.verdicts, judged.expected
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from harness import provenance
from harness.errors import UsageError
from harness.evaluation import expectations, results
from harness.evaluation.inputs import Workspace, gather, nearly_equal, stored_overlaps
from harness.evaluation.plan import plan
from harness.evaluation.results import Stored
from harness.evaluation.scoring import Job
from harness.gates import baselines as gates_baselines
from harness.gates import canary, judge
from harness.gates.power import Assumption, PowerEstimate, power_of_rules
from harness.gates.sequential import decide_early
from harness.models import device
from harness.progress import Progress, silent
from harness.records import Answer, Evidence, Expected, Outcome, Run, Split, Verdict
from harness.stats import inference
from harness.store import reader, writer
from harness.store.connection import Connection, check_exists, opened
from harness.suite.rules import Rule, of_expectations, of_gates
from harness.suite.schema import Suite


@dataclass(frozen=True, slots=True)
class Judged:
    """Verdicts and answered expectations of a suite, and the evidence for them."""

    verdicts: tuple[Verdict, ...]
    expected: tuple[Expected, ...]
    evidence: Evidence
    warnings: tuple[str, ...] = ()
    """Caveats for readers of the verdicts."""
    notes: tuple[str, ...] = ()
    """The outcome of scoring part of a baseline again."""

    @property
    def passed(self) -> bool:
        """True if no gate fails the command; an inconclusive verdict fails it where its gate is declared so."""
        return not any(verdict.blocking for verdict in self.verdicts)


def judge_stored(
    suite: Suite,
    workspace: Workspace,
    *,
    against: str | None = None,
    sequential: bool = False,
    progress: Progress = silent,
) -> Judged:
    """Judge a suite's gates and expectations on stored results, and store the verdicts.

    Args:
        against: substitute for every baseline that a rule names: a file, a name, a commit or tag, or a time.
        sequential: where runs are not stored, score them block by block until the rule is decided: for all rules, not
            only those that the suite declares so.

    Raises:
        UsageError: nothing matches `against`, or no rule names a baseline.
        DataError: an input of the suite is unavailable or differs from its pin.
        StoreError: there is no store to judge on.
    """
    rules = [*of_gates(suite), *of_expectations(suite)]
    early_rules = [rule for rule in of_gates(suite) if sequential or rule.sequential]
    if not early_rules:
        check_exists(workspace.db)  # before bases are fetched in vain
    materials = gather(suite, workspace)
    known = stored_overlaps(suite, materials.splits, workspace) or ()
    warnings, notes = [*materials.warnings, *nearly_equal(known)], list[str]()
    jobs = plan(suite, materials, workspace)
    with opened(workspace.db, read_only=not early_rules) as connection:  # from an empty store, if need be
        baselines = gates_baselines.find(connection, suite, workspace, jobs, rules, against)
        found = results.of(connection, jobs, {name: one.baseline for name, one in baselines.items()})
        seen = reader.first_seen(connection, expectations.stated(suite, _splits_of(jobs)))
    may_score = early_rules.__contains__
    found = canary.run_canaries(
        rules, found, baselines, jobs, progress, notes.append, warnings.append, will_score=may_score
    )
    early = decide_early(
        of_gates(suite), jobs, found, workspace.shards, may_score=may_score, family=_family(suite), progress=progress
    )
    verdicts = judge.judge(suite, found, provenance.now(), early.decisions)
    with opened(workspace.db) as connection:
        writer.write_verdicts(connection, verdicts)
    warnings += early.damaged
    notes += early.notes if early_rules else ()
    return Judged(tuple(verdicts), expected(suite, jobs, found, seen), found, tuple(warnings), tuple(notes))


def _family(suite: Suite) -> int:
    return judge.family_of(of_gates(suite)) if suite.family == "holm" else 1


_ANSWERS: dict[Outcome, Answer] = {"pass": "confirmed", "fail": "refuted", "inconclusive": "undecided"}


def judge_again(
    connection: Connection, suite: Suite, workspace: Workspace, jobs: Sequence[Job], stored: Stored
) -> Judged:
    """Judge a suite's rules on the contents of an open store, without scoring or storing anything.

    So the verdicts on a page follow from the runs that it shows, not from verdicts that were stored earlier. No part of
    a baseline is scored again here: only `judge_stored` detects that the environment scores differently.
    """
    rules = [*of_gates(suite), *of_expectations(suite)]
    baselines = gates_baselines.find(connection, suite, workspace, jobs, rules)
    found = results.evidence_from(connection, jobs, stored, {name: one.baseline for name, one in baselines.items()})
    seen = reader.first_seen(connection, expectations.stated(suite, _splits_of(jobs)))
    judged_at = max((run.finished_at for run in stored.runs.values()), default=datetime.min)  # noqa: DTZ901 (UTC)
    early = decide_early(
        of_gates(suite), jobs, found, workspace.shards, may_score=lambda rule: False, family=_family(suite)
    )
    verdicts = judge.judge(suite, found, judged_at, early.decisions)
    return Judged(tuple(verdicts), expected(suite, jobs, found, seen), found)


def power_of_gates(
    suite: Suite, workspace: Workspace, assumption: Assumption | None = None, power: float = inference.POWER
) -> list[PowerEstimate]:
    """Estimate how many examples a suite's gates need, from stored runs and an assumption.

    Raises:
        UsageError: the suite declares no gates; there are neither runs nor an assumption, or they contradict each
            other.
    """
    rules, assumed = of_gates(suite), assumption or Assumption()
    if not rules:
        raise UsageError(f"{workspace.suite_path}: gate: the suite declares no gates")
    if not workspace.db.is_file() and assumed == Assumption():
        raise UsageError(
            f"{workspace.db}: there is no store to learn from; run `harness evaluate {workspace.suite_path}` first, or "
            "state an assumption: --value for min and max, --difference and --disagreement for comparisons"
        )
    jobs = plan(suite, gather(suite, workspace), workspace)
    if workspace.db.is_file():
        with opened(workspace.db, read_only=True) as connection:
            baselines = gates_baselines.find(connection, suite, workspace, jobs, rules)
            found = results.of(connection, jobs, {name: one.baseline for name, one in baselines.items()})
    else:
        places = {(job.model.id, job.split.split_id): job.split.examples for job in jobs}
        missing = {place: f"{place[0]} was not scored on {place[1]}" for place in places}
        found = Evidence({}, {}, missing, {}, {split_id: examples for (_, split_id), examples in places.items()}, {})
    return power_of_rules(rules, found, assumed, {**provenance.hardware(), **device.described(workspace.device)}, power)


def changed_since(connection: Connection, judged: Judged) -> list[str]:
    """Describe the verdicts of a suite that differ from those stored last."""
    now = {verdict.gate_id: verdict for verdict in judged.verdicts}
    if not now:
        return []
    return [
        f"{then.gate_id}: the store says {then.outcome}, judged {then.judged_at:%Y-%m-%d %H:%M} UTC, and these runs "
        f"say {now[then.gate_id].outcome}; `harness gate` judges and stores it anew"
        for then in reader.latest_verdicts(connection, judged.verdicts[0].suite_digest)
        if then.gate_id in now and then.outcome != now[then.gate_id].outcome
    ]


def expected(suite: Suite, jobs: Sequence[Job], found: Evidence, seen: Mapping[str, datetime]) -> tuple[Expected, ...]:
    """Answer every expectation, in the file's order. One without runs is undecided.

    Args:
        seen: time at which the store first saw each expectation, by digest.
    """
    splits = {job.split.split_id: job.split for job in jobs}
    answers = []
    rules = of_expectations(suite)
    for rule, decision in zip(rules, judge.decide_all(rules, found, {}), strict=True):
        runs = _runs(rule, found)
        first_seen_at = seen.get(expectations.digest_of(rule, splits))
        began = min((run.started_at for run in runs), default=None)
        stated_first = None if first_seen_at is None or began is None else first_seen_at <= began
        answers.append(
            Expected(
                rule=rule.gate_id,
                model_id=rule.model,
                answer=_ANSWERS[decision.outcome] if decision.numbers else "undecided",
                reason=decision.reason,
                numbers=decision.numbers,
                first_seen_at=first_seen_at,
                stated_first=stated_first,
            )
        )
    return tuple(answers)


def _runs(rule: Rule, found: Evidence) -> list[Run]:
    return [run for model in rule.models for run in found.runs.get((model, rule.split), ())]


def _splits_of(jobs: Sequence[Job]) -> dict[str, Split]:
    return {job.split.split_id: job.split for job in jobs}
