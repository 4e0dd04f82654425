"""The verb that trains what is missing, and scores what is not stored."""

import time
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.common import (
    DEFAULT_DB,
    Address,
    Db,
    Device,
    Engine,
    GpusPerWorker,
    Json,
    SuitePath,
    Workers,
    announce,
    app,
    command,
    reporting,
)


@app.command()
@reporting
def evaluate(
    suite_path: SuitePath,
    model: Annotated[list[str] | None, typer.Option("--model", metavar="ID", help="Only this model.")] = None,
    split: Annotated[list[str] | None, typer.Option("--split", metavar="ID", help="Only this split.")] = None,
    curve: Annotated[
        list[str] | None, typer.Option("--curve", metavar="ID", help="Only the points of this learning curve.")
    ] = None,
    engine: Engine = "local",
    workers: Workers = None,
    address: Address = None,
    gpus_per_worker: GpusPerWorker = 0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Score again what is stored.")] = False,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Also score up to 12 examples per model and split without each of their words, at most 396 texts; "
            "the site marks the words that moved a score.",
        ),
    ] = False,
    timeline: Annotated[
        Path | None,
        typer.Option("--timeline", metavar="FILE", help="Write when each task ran, in Chrome's trace format."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only each split's first N examples.")] = None,
    device: Device = None,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> int:
    """Train what is missing, score what is not yet stored, and print the results."""
    began = time.time()
    announce("reading splits and bases")
    from harness import api
    from harness.cli import tables
    from harness.engine import timeline as timelines
    from harness.output.terminal import Bars, print_json, say, say_all
    from harness.provenance import cores

    project = api.open(suite_path, db, device)
    report = api.evaluate(
        project,
        models=model or (),
        splits=split or (),
        curves=curve or (),
        engine=engine,
        workers=workers,
        address=address,
        gpus_per_worker=gpus_per_worker,
        limit=limit,
        fresh=fresh,
        explain=explain,
        progress=Bars(),
    )
    say_all(report.warnings, [*report.notes, *report.reasons])
    if timeline is not None:
        timelines.write(timeline, report.spans)
    say(timelines.summary(report.spans, workers or cores(), time.time() - began))
    say(f"scored {len(report.scored)}, already stored {len(report.reused)}, failed {len(report.failed)}")
    if explain:
        what = f"example{'s' * (report.explained != 1)}"
        say(f"explained {report.explained} {what}, already stored {report.explained_before}")
    asked = curve or ([] if model else [one.id for one in project.suite.curve])
    curves = [one for one in api.curves(project, report.evidence) if one.curve.id in asked] if asked else []
    if as_json:
        print_json(
            {
                "suite": project.suite.name,
                "suite_digest": project.suite.digest,
                "scored": len(report.scored),
                "reused": len(report.reused),
                "failed": [{"model": run.model_id, "split": run.split_id, "error": run.error} for run in report.failed],
                "results": report.results,
                **({"explained": {"new": report.explained, "stored": report.explained_before}} if explain else {}),
                **({"curves": tables.curves_of(curves)} if curves else {}),
            }
        )
    else:
        if report.results or not curve:
            tables.show_results(project.suite.name, project.suite.primary_metric, report.results)
        if report.evidence is not None:
            tables.show_answers(api.answers(project, report.evidence), project.suite.primary_metric)
        tables.show_curves(curves)
        if project.suite.gate:
            tables.show_next(command("gate", suite_path, db, device), "judges the suite's gates")
        else:
            tables.show_next(command("site", suite_path, db, device), "renders the board")
    return 3 if report.failed else 0
