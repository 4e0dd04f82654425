"""The verbs that say what stored runs come to."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.common import DEFAULT_DB, Db, Device, Json, SuitePath, announce, app, command, reporting


@app.command()
@reporting
def gate(
    suite_path: SuitePath,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            metavar="REF",
            help="Judge rules about a baseline against this one: a .parquet file, a baseline's name, a commit or tag, "
            "or a UTC time.",
        ),
    ] = None,
    sequential: Annotated[
        bool,
        typer.Option(
            "--sequential",
            help="Score models whose runs are not stored block by block, only until their rules are decided.",
        ),
    ] = False,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Write the verdicts there as JUnit XML too.")
    ] = None,
    summary: Annotated[
        Path | None, typer.Option("--summary", metavar="FILE", help="Add the verdicts and worst flips as Markdown.")
    ] = None,
    device: Device = None,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> int:
    """Judge a suite's gates on the stored runs."""
    announce("reading the stored runs")
    from harness import api
    from harness.cli import tables
    from harness.gates import reports
    from harness.output.terminal import Bars, print_json, say_all

    project = api.open(suite_path, db, device)
    for path in (junit, summary):
        if path is not None:
            reports.check_writable(path)
    judged = api.judge(project, against=baseline, sequential=sequential, progress=Bars())
    say_all(judged.warnings, judged.notes)
    if as_json:
        print_json([asdict(verdict) for verdict in judged.verdicts])
    else:
        tables.show_verdicts(project.suite.name, judged.verdicts)
        if judged.expected:
            tables.show_expected(project.suite.name, judged.expected)
        tables.show_answers(api.answers(project, judged.evidence), project.suite.primary_metric, judged.verdicts)
        tables.show_judged(judged.verdicts, judged.passed)
        if judged.evidence.missing:
            tables.show_next(command("evaluate", suite_path, db, device), "scores what is missing")
        else:
            tables.show_next(command("site", suite_path, db, device), "renders the board")
    if junit is not None:
        reports.write_junit(junit, project.suite, judged)
    if summary is not None:
        reports.append_summary(summary, project.suite, judged)
    return 0 if judged.passed else 1
