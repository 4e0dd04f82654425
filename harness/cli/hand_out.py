"""The verb that writes stored results in the forms of others."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.common import DEFAULT_DB, Db, Device, Json, SuitePath, announce, app, reporting


@app.command("export")
@reporting
def hand_out(
    suite_path: SuitePath,
    form: Annotated[str, typer.Option("--to", metavar="FORM", help="The form: every-eval-ever, model-index.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write into.")] = Path("exported"),
    model: Annotated[list[str] | None, typer.Option("--model", metavar="ID", help="Only this model.")] = None,
    split: Annotated[list[str] | None, typer.Option("--split", metavar="ID", help="Only this split.")] = None,
    device: Device = None,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> int:
    """Write stored results, with intervals, methods and digests, as Every Eval Ever or as model cards for the hub."""
    announce("reading the stored results")
    from harness import api
    from harness.output.terminal import print_json, say, show

    handed = api.export_results(api.open(suite_path, db, device), form, out, models=model or (), splits=split or ())
    for reason in handed.missing:
        say(f"left out: {reason}")
    if as_json:
        print_json({"suite": str(suite_path), "form": form, "files": [str(path) for path in handed.files]})
    else:
        results, files = handed.results, len(handed.files)
        show(f"{out}: {results:,} result{'s' * (results != 1)} in {files:,} file{'s' * (files != 1)}")
    return 0
