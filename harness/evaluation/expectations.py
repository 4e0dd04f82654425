"""Expectations of a suite's authors (`[[expect]]`), stored before the runs that answer them."""

from collections.abc import Mapping, Sequence

from harness import keys, provenance
from harness.evaluation.inputs import Workspace
from harness.evaluation.scoring import Job
from harness.records import Split
from harness.store import writer
from harness.store.connection import opened
from harness.suite.rules import Rule, of_expectations
from harness.suite.schema import Suite


def stated(suite: Suite, jobs: Sequence[Job]) -> dict[str, str]:
    """Map the digest of each expectation to its wording; the digest changes with the rows of its split."""
    splits = {job.split.split_id: job.split for job in jobs}
    return {digest_of(rule, splits): rule.gate_id for rule in of_expectations(suite) if rule.split in splits}


def note(suite: Suite, jobs: Sequence[Job], workspace: Workspace) -> None:
    """Store the expectations before their answers are known."""
    rules = stated(suite, jobs)
    if rules:
        commit, _ = provenance.git(workspace.suite_path.resolve().parent)
        with opened(workspace.db) as connection:
            writer.write_expectations(connection, suite.name, rules, provenance.now(), commit)


def digest_of(rule: Rule, splits: Mapping[str, Split]) -> str:
    """Digest that identifies an expectation in the store.

    Args:
        splits: by id, including the rule's.
    """
    return keys.key(keys.expectation(rule.gate_id, splits[rule.split].digest))
