"""The verb that says what a suite's gates need."""

from dataclasses import asdict
from typing import Annotated

import typer

from harness.cli.common import (
    DEFAULT_DB,
    Db,
    Json,
    SuitePath,
    app,
    reporting,
)
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
    from harness import evidence, jobs, planning, provenance, references
    from harness import suite as suite_file
    from harness.gather import Workspace, gather
    from harness.records import Evidence
    from harness.rules import of_gates
    from harness.store.connection import opened
    from harness.supposed import Guess
    from harness.tables.needs import show_plan
    from harness.terminal import print_json

    suite = suite_file.load(suite_path)
    rules = of_gates(suite)
    if not rules:
        raise UsageError(f"{suite_path}: gate: the suite declares no gates")
    guess, stored = Guess(value, difference, disagreement), db.is_file()
    if not stored and guess == Guess():
        raise UsageError(
            f"{db}: there is no store to learn from; run `harness evaluate {suite_path}` first, or suppose something: "
            "--value for min and max, --difference and --disagreement for comparisons"
        )
    workspace = Workspace(suite_path, db)
    todo = jobs.plan(suite, gather(suite, workspace), workspace)
    if stored:
        with opened(db, read_only=True) as connection:
            baselines = references.find(connection, suite, workspace, todo, rules)
            found = evidence.of(connection, todo, {name: one.baseline for name, one in baselines.items()})
    else:
        missing = {
            (job.model.id, job.split.split_id): f"{job.model.id} was not scored on {job.split.split_id}" for job in todo
        }
        found = Evidence({}, {}, missing, {}, {job.split.split_id: job.split.examples for job in todo}, {})
    rows = planning.needs(rules, found, guess, provenance.hardware(), power)
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        show_plan(suite.name, power, rows)
    return 0
