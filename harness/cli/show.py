"""The verbs that show what is stored."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.common import (
    DEFAULT_DB,
    Db,
    Json,
    SuitePaths,
    app,
    reporting,
)
from harness.errors import UsageError


@app.command()
@reporting
def ls(db: Db = DEFAULT_DB, as_json: Json = False) -> int:
    """List the stored runs, the newest first."""
    from harness import tables
    from harness.store import reader
    from harness.store.connection import opened
    from harness.terminal import print_json

    with opened(db, read_only=True) as connection:
        runs = reader.all_runs(connection)
    if as_json:
        print_json([asdict(run) for run in runs])
    else:
        tables.show_runs(str(db), runs)
    return 0


@app.command()
@reporting
def show(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or the beginning of one.")],
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> int:
    """Show one stored run: metrics, digests, what it ran on."""
    from harness import tables
    from harness.store import reader
    from harness.store.connection import opened
    from harness.terminal import print_json

    with opened(db, read_only=True) as connection:
        runs = reader.all_runs(connection, run_id)
    if len(runs) != 1:
        problem = "no run's id begins" if not runs else f"{len(runs)} runs' ids begin"
        raise UsageError(f"{db}: {problem} with {run_id!r}; `harness ls` lists them")
    if as_json:
        print_json(asdict(runs[0]))
    else:
        tables.show_run(runs[0])
    return 0


@app.command()
@reporting
def site(
    suites: SuitePaths,
    out: Annotated[Path, typer.Option("--out", help="Folder to render into.")] = Path("site"),
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> int:
    """Render the leaderboard of one or more suites as a static site."""
    from harness import suite as suite_file
    from harness.gather import Workspace, gather
    from harness.jobs import current_keys, plan
    from harness.judging import expected_of_stored
    from harness.store.connection import opened
    from harness.terminal import print_json
    from leaderboard import entries, render

    planned = []
    for path, suite in [(path, suite_file.load(path)) for path in suites]:
        workspace = Workspace(path, db)
        planned.append((suite, workspace, plan(suite, gather(suite, workspace), workspace)))
    with opened(db, read_only=True) as connection:
        boards = [
            entries.read(connection, suite, current_keys(jobs), expected_of_stored(connection, suite, workspace, jobs))
            for suite, workspace, jobs in planned
        ]
    files = render.render(boards)
    changed = render.write(files, out)
    if as_json:
        print_json({"out": str(out), "pages": sorted(files), "changed": changed})
    else:
        typer.echo(f"{out / 'index.html'}: {len(files)} files, {changed} changed")
    return 0
