"""The verbs about baselines: earlier evaluations, kept in files beside the suite."""

from dataclasses import asdict
from typing import Annotated

import typer

from harness.cli.common import DEFAULT_DB, Db, Device, Json, SuitePath, announce, app, reporting

verbs = typer.Typer(no_args_is_help=True)
app.add_typer(verbs, name="baseline", help="Keep evaluations beside the suite, for gates to hold later ones against.")


@verbs.command("set")
@reporting
def set_baseline(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What rules call it, such as main.")],
    suite_path: SuitePath,
    model: Annotated[
        list[str] | None, typer.Option("--model", metavar="ID", help="This model; those that rules name if unset.")
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option("--split", metavar="ID", help="This split; those that rules name if unset.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file that is there.")] = False,
    device: Device = None,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> int:
    """Keep the suite's current runs as a baseline."""
    from harness import api
    from harness.cli import tables
    from harness.output.terminal import print_json, say

    project = api.open(suite_path, db, device)
    summary, warnings = api.set_baseline(project, name, models=model or (), splits=split or (), force=force)
    for warning in warnings:
        say(f"warning: {warning}")
    if as_json:
        print_json(asdict(summary))
    else:
        tables.show_baselines(project.suite.name, [asdict(summary)])
    return 0


@verbs.command("watch")
@reporting
def watch_baseline(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A baseline of the suite, such as main.")],
    suite_path: SuitePath,
    device: Device = None,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> int:
    """Look for a fall over many commits that no single one shows; exit code 1 if there is one."""
    announce("reading the stored runs")
    from harness import api
    from harness.cli import tables
    from harness.output.terminal import print_json, say_all

    project = api.open(suite_path, db, device)
    watch = api.watch_baseline(project, name)
    say_all(watch.warnings, [])
    if as_json:
        print_json({**asdict(watch), "alarms": [asdict(one) for one in watch.alarms]})
    else:
        tables.show_watch(project.suite.name, watch)
    return 1 if watch.alarms else 0


@verbs.command("ls")
@reporting
def list_baselines(suite_path: SuitePath, as_json: Json = False) -> int:
    """List a suite's baselines."""
    from harness import api
    from harness.cli import tables
    from harness.output.terminal import print_json, say

    project = api.open(suite_path)
    rows = [asdict(one) for one in api.baselines(project)]
    if as_json:
        print_json(rows)
    else:
        tables.show_baselines(project.suite.name, rows)
    for row in rows:
        if row["problem"] is not None:
            say(f"warning: baseline {row['name']}: {row['problem']}")
    return 0
