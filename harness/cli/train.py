"""The verb that trains the adapters that are not there yet."""

from dataclasses import asdict
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
    reporting,
)


@app.command()
@reporting
def train(
    suite_path: SuitePath,
    adapter: Annotated[list[str] | None, typer.Option("--adapter", metavar="ID", help="Only this adapter.")] = None,
    engine: Engine = "local",
    workers: Workers = None,
    address: Address = None,
    gpus_per_worker: GpusPerWorker = 0,
    device: Device = None,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> int:
    """Train the adapters of a suite that are not there yet."""
    announce("reading splits and bases")
    from harness import api
    from harness.cli import tables
    from harness.output.terminal import Bars, print_json, say

    project = api.open(suite_path, db, device)
    trained, failures = api.train(
        project,
        adapters=adapter or (),
        engine=engine,
        workers=workers,
        address=address,
        gpus_per_worker=gpus_per_worker,
        progress=Bars(),
    )
    rows = [{**asdict(one.record), "folder": str(one.folder)} for one in trained]
    for reason in failures:
        say(reason)
    if as_json:
        print_json(rows)
    else:
        tables.show_adapters(project.suite.name, rows)
    return 3 if failures else 0
