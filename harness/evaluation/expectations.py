"""What a suite's authors expect (`[[expect]]`), told to the store before the runs that answer it."""

from collections.abc import Mapping, Sequence

from harness import provenance
from harness.artifacts import digest
from harness.evaluation.inputs import Workspace
from harness.evaluation.scoring import Job
from harness.records import Split
from harness.store import writer
from harness.store.connection import opened
from harness.suite.rules import Rule, of_expectations
from harness.suite.schema import Suite


def stated(suite: Suite, jobs: Sequence[Job]) -> dict[str, str]:
    """A suite's expectations in words, by digest: other rows make another expectation."""
    splits = {job.split.split_id: job.split for job in jobs}
    return {digest_of(rule, splits): rule.gate_id for rule in of_expectations(suite) if rule.split in splits}


def note(suite: Suite, jobs: Sequence[Job], workspace: Workspace) -> None:
    """Tell the store what is expected, before it is known."""
    rules = stated(suite, jobs)
    if rules:
        commit, _ = provenance.git(workspace.suite_path.resolve().parent)
        with opened(workspace.db) as connection:
            writer.write_expectations(connection, suite.name, rules, provenance.now(), commit)


def digest_of(rule: Rule, splits: Mapping[str, Split]) -> str:
    """What the store knows an expectation by.

    Args:
        splits: by id; the rule's is among them.
    """
    return digest.of_json([rule.gate_id, splits[rule.split].digest])
