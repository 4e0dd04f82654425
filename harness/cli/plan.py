"""The verb that says what a suite's gates need."""

from dataclasses import asdict
from typing import Annotated

import typer

from harness.cli.common import DEFAULT_DB, Db, Device, Json, SuitePath, announce, app, reporting


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
    device: Device = None,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> int:
    """Say how many examples a suite's gates need to be decided, from stored runs or guesses."""
    announce("reading the stored runs")
    from harness import api
    from harness.cli.tables.power import show_plan
    from harness.gates.power import Assumption
    from harness.output.terminal import print_json

    project = api.open(suite_path, db, device)
    rows = api.power(project, assumption=Assumption(value, difference, disagreement), power=power)
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        show_plan(project.suite.name, power, rows)
    return 0
