"""The verbs that show what is stored."""

from dataclasses import asdict
from typing import Annotated

import typer

from harness.cli.common import DEFAULT_DB, Db, Json, app, reporting
from harness.errors import UsageError


@app.command()
@reporting
def ls(db: Db = DEFAULT_DB, as_json: Json = False) -> int:
    """List the stored runs, the newest first."""
    from harness.cli import tables
    from harness.output.terminal import print_json
    from harness.store import reader
    from harness.store.connection import opened

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
    from harness.cli import tables
    from harness.cli.tables.variants import show_parities
    from harness.output.terminal import print_json
    from harness.store import reader
    from harness.store.connection import opened

    with opened(db, read_only=True) as connection:
        runs = reader.all_runs(connection, run_id)
        of_weights = [one.adapter_digest for one in runs if one.adapter_digest is not None]
        parities = reader.parities(connection, adapter_digests=of_weights)
    if len(runs) != 1:
        problem = "no run's id begins" if not runs else f"{len(runs)} runs' ids begin"
        raise UsageError(f"{db}: {problem} with {run_id!r}; `harness ls` lists them")
    if as_json:
        print_json(asdict(runs[0]) | {"parity": [asdict(one) for one in parities]})
    else:
        tables.show_run(runs[0])
        if parities:
            show_parities("its weights", parities)
    return 0
