"""Expectations of a suite's authors (`[[expect]]`), stored before the runs that answer them."""

from collections.abc import Mapping

from harness import keys, provenance
from harness.evaluation.inputs import Workspace
from harness.records import Split
from harness.store import writer
from harness.store.connection import opened
from harness.suite.rules import Rule, of_expectations
from harness.suite.schema import Suite


def stated(suite: Suite, splits: Mapping[str, Split]) -> dict[str, str]:
    """Map the digest of each expectation about these splits to its wording; the digest changes with the rows."""
    return {digest_of(rule, splits): rule.gate_id for rule in of_expectations(suite) if rule.split in splits}


def note(suite: Suite, splits: Mapping[str, Split], workspace: Workspace) -> None:
    """Store the expectations before their answers are known."""
    rules = stated(suite, splits)
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
