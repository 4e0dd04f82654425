"""The verb that holds variants of trained models to their reference."""

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
def parity(
    suite_path: SuitePath,
    model: Annotated[list[str] | None, typer.Option("--model", metavar="ID", help="Only this model.")] = None,
    engine: Engine = "local",
    workers: Workers = None,
    address: Address = None,
    gpus_per_worker: GpusPerWorker = 0,
    device: Device = None,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> int:
    """Hold every variant of a suite's trained models to torch in fp32: reloaded, merged, bf16, int8, OpenVINO."""
    announce("reading splits, bases and weights")
    from harness import api
    from harness.cli.tables.variants import show_parities
    from harness.output.terminal import Bars, print_json, say

    project = api.open(suite_path, db, device)
    found, warnings = api.check_variants(
        project,
        models=model or (),
        engine=engine,
        workers=workers,
        address=address,
        gpus_per_worker=gpus_per_worker,
        progress=Bars(),
    )
    for warning in warnings:
        say(f"warning: {warning}")
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        show_parities(project.suite.name, found)
    return 0
