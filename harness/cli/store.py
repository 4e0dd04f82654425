"""The verbs about the store itself: hold it to itself, pass runs on, take runs in, clear what nothing needs."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.common import DEFAULT_DB, Db, Json, app, reporting

verbs = typer.Typer(no_args_is_help=True)
app.add_typer(verbs, name="store", help="Look after the store: verify it, pass runs on, clear away what nothing needs.")


@verbs.command("verify")
@reporting
def verify_store(db: Db = DEFAULT_DB, as_json: Json = False) -> int:
    """Recompute what follows from what is stored; 1 where it does not agree."""
    from dataclasses import asdict

    from harness import api
    from harness.output.terminal import print_json, say, show

    report = api.verify_store(db)
    if as_json:
        print_json({"db": str(db), "ok": not report.problems, **asdict(report)})
    else:
        for problem in report.problems:
            show(str(problem))
        counts = ", ".join(f"{report.counts.get(name, 0):,} {name}s" for name in ("run", "prediction", "metric"))
        verdict = f"{len(report.problems)} problems" if report.problems else "all agree"
        show(f"{db}: {counts}: {verdict}")
    for note in report.notes:
        say(f"note: {note}")
    return 1 if report.problems else 0


@verbs.command("gc")
@reporting
def clear_store(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> int:
    """Remove what nothing needs: runs cut short or failed and made up for, folders of killed commands."""
    from dataclasses import asdict

    from harness import api
    from harness.output.terminal import print_json, show

    cleared = api.clear_store(db, dry_run=dry_run)
    if as_json:
        print_json({"db": str(db), "dry_run": dry_run, **asdict(cleared)})
    else:
        for garbage in cleared.found:
            size = "" if garbage.bytes is None else f" ({garbage.bytes:,} bytes)"
            show(f"{garbage.where}: {garbage.what}{size}")
        done = "would be removed" if dry_run else "removed"
        show(f"{db}: {len(cleared.found)} {done}, {cleared.freed_bytes:,} bytes")
    return 0


@verbs.command("export")
@reporting
def export_runs(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The bundle to write; must not be there yet.")],
    suite: Annotated[
        list[str] | None, typer.Option("--suite", metavar="NAME", help="Only runs of this suite; all if unset.")
    ] = None,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> int:
    """Write successful runs, with all that they refer to, into one file for another store."""
    from dataclasses import asdict

    from harness import api
    from harness.output.terminal import print_json, say, show

    exported = api.export_runs(db, file, suites=suite or ())
    if exported.texts:
        say(f"note: {file} holds the texts of {exported.texts:,} examples, as their suites allow")
    if as_json:
        print_json({"file": str(file), **asdict(exported)})
    else:
        n_runs, n_predictions = exported.rows["run"], exported.rows["prediction"]
        show(f"{file}: {n_runs:,} runs, {n_predictions:,} predictions, {exported.bytes:,} bytes")
    return 0


@verbs.command("import")
@reporting
def import_runs(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A bundle that `harness store export` wrote.")],
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> int:
    """Take the runs of a bundle in: all, or none and the reason; what the store has it keeps."""
    from dataclasses import asdict

    from harness import api
    from harness.output.terminal import print_json, show

    taken = api.import_runs(db, file)
    if as_json:
        print_json({"db": str(db), "file": str(file), **asdict(taken)})
    else:
        had = taken.in_bundle["run"] - taken.rows["run"]
        show(f"{db}: {taken.rows['run']:,} runs taken in, {had:,} were there already")
    return 0
