"""The verb that holds two models against each other."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Annotated, Any

import typer

from harness.cli.common import DEFAULT_DB, Db, Device, Json, SuitePath, announce, app, command, reporting


@app.command()
@reporting
def compare(
    suite_path: SuitePath,
    model_a: Annotated[str, typer.Argument(metavar="MODEL_A", help="A model of the suite.")],
    model_b: Annotated[str, typer.Argument(metavar="MODEL_B", help="The model that it is compared with.")],
    split: Annotated[
        list[str] | None, typer.Option("--split", metavar="ID", help="Only this split; all that both ran on if unset.")
    ] = None,
    flips: Annotated[int, typer.Option("--flips", min=0, help="Flips to name, in each direction.")] = 10,
    device: Device = None,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> int:
    """Compare two models on their stored runs: metrics, tests, flips, slices, calibration."""
    announce("reading the stored runs of both models")
    from harness import api
    from harness.cli.tables import show_next
    from harness.cli.tables.comparison import show_comparison, show_conclusion
    from harness.output.terminal import print_json, say

    project = api.open(suite_path, db, device)
    found = api.compare(project, model_a, model_b, splits=split or ())
    for reason in found.missing:
        say(f"not compared: {reason}")
    if as_json:
        about = {"suite": project.suite.name, "suite_digest": project.suite.digest}
        print_json(about | {"comparisons": _plain(list(found.comparisons), found.texts)})
    else:
        for comparison in found.comparisons:
            show_comparison(comparison, flips, found.texts)
        show_conclusion(found.comparisons)
        show_next(command("site", suite_path, db, device), "shows any two models side by side, with their texts")
    return 0


def _plain(value: Any, texts: Mapping[str, str]) -> Any:
    """Records as JSON-able values by field name; with each flip its text, where there is one."""
    if is_dataclass(value):
        plain = {field.name: _plain(getattr(value, field.name), texts) for field in fields(value)}
        known = {"text": texts[plain["example_id"]]} if plain.get("example_id") in texts else {}
        return plain | known
    if hasattr(value, "_asdict"):
        return value._asdict()
    return [_plain(one, texts) for one in value] if isinstance(value, list | tuple) else value
