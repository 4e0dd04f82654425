"""The verb that holds variants of trained models to their reference."""

from dataclasses import asdict
from typing import Annotated

import typer

from harness.cli.common import (
    DEFAULT_DB,
    Address,
    Db,
    Engine,
    Json,
    SuitePath,
    Workers,
    app,
    reporting,
)
from harness.errors import check_known


@app.command()
@reporting
def parity(
    suite_path: SuitePath,
    model: Annotated[list[str] | None, typer.Option("--model", metavar="ID", help="Only this model.")] = None,
    engine: Engine = "local",
    workers: Workers = None,
    address: Address = None,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> int:
    """Hold every variant of a suite's trained models to torch in fp32: reloaded, merged, bf16, int8, OpenVINO."""
    from harness.cli.tables.variants import show_parities
    from harness.engine import ENGINES
    from harness.evaluation import parity
    from harness.evaluation import parity as evaluation_parity
    from harness.evaluation.inputs import Workspace, gather
    from harness.evaluation.plan import checks
    from harness.models import is_installed
    from harness.output.terminal import Bars, print_json, say
    from harness.suite.load import load

    suite = load(suite_path)
    check_known("engine", [engine], list(ENGINES))
    trained = [declared.id for declared in suite.model if parity.has_variants(declared)]
    check_known("model with trained weights", model, trained)
    runtimes = [name for name in ("torch", "openvino") if is_installed(name)]
    if "openvino" not in runtimes:
        say(
            "warning: OpenVINO is not installed, so it is left out: `python -m pip install 'adapter-harness[openvino]'`"
        )
    variants = [
        variant for variant in parity.TOLERANCES if variant == parity.RELOADED or variant.split()[0] in runtimes
    ]
    workspace = Workspace(suite_path, db)
    with ENGINES[engine](workers, Bars(), address=address, folder=db.parent) as map_unordered:
        held = checks(suite, gather(suite, workspace), workspace, model_ids=model or (), variants=variants)
        found = evaluation_parity.bring_up_to_date(held, workspace, map_unordered)
    if {check.model.id for check in held} < set(model or trained):
        say(f"warning: some weights are not there yet; `harness evaluate {suite_path}` trains them")
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        show_parities(suite.name, found)
    return 0
