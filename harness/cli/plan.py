"""The verb that says what a suite's gates need."""

from dataclasses import asdict
from typing import Annotated

import typer

from harness.cli.common import DEFAULT_DB, Db, Json, SuitePath, app, reporting
from harness.errors import UsageError


@app.command()
@reporting
def plan(
    suite_path: SuitePath,
    difference: Annotated[
        float | None, typer.Option("--difference", help="Suppose that compared accuracies differ by this much.")
    ] = None,
    disagreement: Annotated[
        float | None,
        typer.Option("--disagreement", help="Suppose that one of two is right and the other wrong on this share."),
    ] = None,
    value: Annotated[float | None, typer.Option("--value", help="Suppose this accuracy, for min and max.")] = None,
    power: Annotated[float, typer.Option("--power", help="The chance of a verdict that is asked for.")] = 0.8,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> int:
    """Say how many examples a suite's gates need to be decided, from stored runs or guesses."""
    from harness import provenance
    from harness.cli.tables.power import show_plan
    from harness.evaluation import plan as evaluation_plan
    from harness.evaluation import results
    from harness.evaluation.inputs import Workspace, gather
    from harness.gates import baselines as gates_baselines
    from harness.gates import power as gates_power
    from harness.gates.power import Assumption
    from harness.output.terminal import print_json
    from harness.records import Evidence
    from harness.store.connection import opened
    from harness.suite.load import load
    from harness.suite.rules import of_gates

    suite = load(suite_path)
    rules = of_gates(suite)
    if not rules:
        raise UsageError(f"{suite_path}: gate: the suite declares no gates")
    guess, stored = Assumption(value, difference, disagreement), db.is_file()
    if not stored and guess == Assumption():
        raise UsageError(
            f"{db}: there is no store to learn from; run `harness evaluate {suite_path}` first, or state an "
            "assumption: --value for min and max, --difference and --disagreement for comparisons"
        )
    workspace = Workspace(suite_path, db)
    todo = evaluation_plan.plan(suite, gather(suite, workspace), workspace)
    if stored:
        with opened(db, read_only=True) as connection:
            baselines = gates_baselines.find(connection, suite, workspace, todo, rules)
            found = results.of(connection, todo, {name: one.baseline for name, one in baselines.items()})
    else:
        missing = {
            (job.model.id, job.split.split_id): f"{job.model.id} was not scored on {job.split.split_id}" for job in todo
        }
        found = Evidence({}, {}, missing, {}, {job.split.split_id: job.split.examples for job in todo}, {})
    rows = gates_power.power_of_rules(rules, found, guess, provenance.hardware(), power)
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        show_plan(suite.name, power, rows)
    return 0
