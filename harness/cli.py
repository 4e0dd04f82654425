"""The `harness` command: each verb parses its words, makes one call and returns an exit code.

0 fine · 1 a gate failed · 2 bad usage or bad suite · 3 a run errored · 130 interrupted. Results go to stdout, progress
and warnings to stderr. What is slow to import is imported by the verbs that need it, when they need it.
"""

import functools
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, ParamSpec

import typer

from harness.errors import HarnessError, UsageError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Is the adapter really better than its base? Score, compare and gate PEFT sentiment classifiers.",
)
P = ParamSpec("P")

SuitePath = Annotated[Path, typer.Argument(metavar="SUITE", help="A suite file, such as suites/quickstart.toml.")]
SuitePaths = Annotated[list[Path], typer.Argument(metavar="SUITE...", help="One or more suite files.")]
Db = Annotated[Path, typer.Option("--db", envvar="HARNESS_DB", help="The store.")]
Engine = Annotated[str, typer.Option("--engine", help="Where the work is done: local.")]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes of the local engine; one per core if unset.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
DEFAULT_DB = Path("runs/harness.duckdb")


def reporting(verb: Callable[P, int]) -> Callable[P, None]:
    """A verb's exit code as the process's, and errors made for users printed as such, without a traceback."""

    @functools.wraps(verb)
    def command(*args: P.args, **kwargs: P.kwargs) -> None:
        from harness.terminal import say

        try:
            code = verb(*args, **kwargs)
        except HarnessError as error:
            say(str(error))
            code = error.exit_code
        except Exception:  # noqa: BLE001 (a bug: told whole, and not with the exit code of a failed gate)
            traceback.print_exc()
            code = 3
        except KeyboardInterrupt:
            say("interrupted; what was finished is stored, and the same command goes on from there")
            code = 130
        raise typer.Exit(code)

    return command


@app.command()
@reporting
def validate(suites: SuitePaths, as_json: Json = False) -> int:
    """Check suite files and list every problem."""
    from harness import suite as suite_file
    from harness.errors import SuiteError
    from harness.terminal import print_json, say

    results = []
    for path in suites:
        try:
            suite = suite_file.load(path)
            results.append({"suite": str(path), "ok": True, "digest": suite.digest, "problems": []})
        except SuiteError as error:
            results.append({"suite": str(path), "ok": False, "digest": None, "problems": list(error.problems)})
            for problem in error.problems:
                say(problem)
    if as_json:
        print_json(results)
    else:
        for result in results:
            if result["ok"]:
                typer.echo(f"{result['suite']}: ok")
    return 0 if all(result["ok"] for result in results) else 2


@app.command()
@reporting
def data(
    suite_path: SuitePath,
    update_lock: Annotated[bool, typer.Option("--update-lock", help="Pin the rows as they are now.")] = False,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> int:
    """Fetch, verify and audit a suite's splits, and pin them in its lock file the first time."""
    from harness import suite as suite_file
    from harness import tables
    from harness.data import audit, load_split, lock
    from harness.gather import Workspace, examine
    from harness.terminal import print_json, say

    suite = suite_file.load(suite_path)
    workspace = Workspace(suite_path, db)
    lock_path = lock.path_for(suite_path)
    pinned = {} if update_lock else lock.read(lock_path) or {}
    splits = [load_split(rule, workspace.places, pinned.get(rule.id)) for rule in suite.split]
    lock.check(lock_path, pinned, splits)
    if new := lock.unpinned(pinned, [rule.id for rule in suite.split]):
        lock.write(lock_path, splits, kept=pinned)
        say(f"pinned {len(new)} splits in {lock_path}")
    audited, warnings = examine(suite, splits, workspace)
    rows = [
        lock.summary(split, trained_on=split.split_id in suite.train_split_ids)
        | {"audit": audited.findings[split.split_id]}
        for split in splits
    ]
    if as_json:
        print_json(rows)
    else:
        tables.show_splits(suite.name, rows)
        tables.show_audit(rows, audit.beginnings(splits) if suite.text.store else {})
    for warning in warnings:
        say(f"warning: {warning}")
    audit.refuse(audit.judge(suite.audit, audited.overlaps))
    return 0


@app.command()
@reporting
def train(
    suite_path: SuitePath,
    adapter: Annotated[list[str] | None, typer.Option("--adapter", metavar="ID", help="Only this adapter.")] = None,
    engine: Engine = "local",
    workers: Workers = None,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> int:
    """Train the adapters of a suite that are not there yet."""
    from harness import suite as suite_file
    from harness import tables, training
    from harness.engine import ENGINES
    from harness.evaluate import train_missing
    from harness.gather import Workspace, gather
    from harness.provenance import cores
    from harness.terminal import Bars, print_json, say

    suite = suite_file.load(suite_path)
    _check_known("engine", [engine], list(ENGINES))
    _check_known("adapter", adapter, [declared.id for declared in suite.adapter])
    workspace = Workspace(suite_path, db)
    materials = gather(suite, workspace)
    with ENGINES[engine](workers or cores(), Bars()) as each_done:
        failures = train_missing(suite, materials, workspace, each_done, adapter or ())
    rows = [
        {**asdict(training.card.read(job.folder)), "folder": str(job.folder)}
        for job in training.jobs(suite, materials.splits, materials.bases, workspace.adapters)
        if (not adapter or job.adapter.id in adapter) and (job.adapter.id, job.seed) not in failures
    ]
    for reason in failures.values():
        say(reason)
    if as_json:
        print_json(rows)
    else:
        tables.show_adapters(suite.name, rows)
    return 3 if failures else 0


@app.command()
@reporting
def evaluate(
    suite_path: SuitePath,
    model: Annotated[list[str] | None, typer.Option("--model", metavar="ID", help="Only this model.")] = None,
    split: Annotated[list[str] | None, typer.Option("--split", metavar="ID", help="Only this split.")] = None,
    engine: Engine = "local",
    workers: Workers = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Score again what is stored.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only each split's first N examples.")] = None,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> int:
    """Train what is missing, score what is not yet stored, and print the results."""
    from harness import suite as suite_file
    from harness import tables
    from harness.engine import ENGINES
    from harness.evaluate import evaluate as run_evaluation
    from harness.evaluate import results, train_missing
    from harness.gather import Workspace, gather
    from harness.jobs import plan
    from harness.provenance import cores
    from harness.store.connection import opened
    from harness.terminal import Bars, print_json, say

    suite = suite_file.load(suite_path)
    _check_known("engine", [engine], list(ENGINES))
    _check_known("model", model, [declared.id for declared in suite.model])
    scored_splits = [rule.id for rule in suite.split if rule.id not in suite.train_split_ids]
    _check_known("split to score", split, scored_splits)
    workspace = Workspace(suite_path, db)
    materials = gather(suite, workspace)
    if materials.unpinned:
        said = ", ".join(materials.unpinned)
        say(f"warning: {suite_path}: no lock pins {said}; `harness data {suite_path}` pins their rows")
    for warning in materials.warnings:
        say(f"warning: {warning}")
    wanted = [declared for declared in suite.model if not model or declared.id in model]
    adapters = {used for declared in wanted if (used := getattr(declared, "adapter", None)) is not None}
    with ENGINES[engine](workers or cores(), Bars()) as each_done:
        failures = train_missing(suite, materials, workspace, each_done, adapters) if adapters else {}
        jobs = plan(
            suite, materials, workspace, model_ids=model or (), split_ids=split or (), limit=limit, untrainable=failures
        )
        for job in jobs:
            if job.warning is not None:
                say(f"warning: {job.label}: {job.warning}")
        report = run_evaluation(jobs, workspace, each_done, fresh=fresh)
    for run in report.failed:
        say(f"failed: {run.model_id} seed {run.seed} on {run.split_id}: {(run.error or '').strip().splitlines()[-1]}")
    say(f"scored {len(report.scored)}, already stored {len(report.reused)}, failed {len(report.failed)}")
    with opened(db, read_only=True) as connection:
        rows = results(connection, suite, jobs)
    if as_json:
        print_json(
            {
                "suite": suite.name,
                "suite_digest": suite.digest,
                "scored": len(report.scored),
                "reused": len(report.reused),
                "failed": [{"model": run.model_id, "split": run.split_id, "error": run.error} for run in report.failed],
                "results": rows,
            }
        )
    else:
        tables.show_results(suite.name, suite.primary_metric, rows)
    return 3 if report.failed else 0


@app.command()
@reporting
def gate(suite_path: SuitePath, db: Db = DEFAULT_DB, as_json: Json = False) -> int:
    """Judge a suite's gates on the stored runs."""
    from harness import provenance, tables
    from harness import suite as suite_file
    from harness.evaluate import evidence
    from harness.gate import judge
    from harness.gather import Workspace, gather
    from harness.jobs import plan
    from harness.store import writer
    from harness.store.connection import opened
    from harness.terminal import print_json

    suite = suite_file.load(suite_path)
    if not suite.gate:
        raise UsageError(f"{suite_path}: gate: the suite declares no gates")
    workspace = Workspace(suite_path, db)
    jobs = plan(suite, gather(suite, workspace), workspace)
    with opened(db, read_only=True) as connection:
        found, missing = evidence(connection, jobs)
    verdicts = judge(suite, found, missing, provenance.now())
    with opened(db) as connection:
        writer.write_verdicts(connection, verdicts)
    if as_json:
        print_json([asdict(verdict) for verdict in verdicts])
    else:
        tables.show_verdicts(suite.name, verdicts)
    return 1 if any(verdict.blocking for verdict in verdicts) else 0


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
    from harness.store.connection import opened
    from harness.terminal import print_json
    from leaderboard import entries, render

    loaded = [(path, suite_file.load(path)) for path in suites]
    planned = []
    for path, suite in loaded:
        workspace = Workspace(path, db)
        planned.append((suite, current_keys(plan(suite, gather(suite, workspace), workspace))))
    with opened(db, read_only=True) as connection:
        boards = [entries.read(connection, suite, keys) for suite, keys in planned]
    files = render.render(boards)
    changed = render.write(files, out)
    if as_json:
        print_json({"out": str(out), "pages": sorted(files), "changed": changed})
    else:
        typer.echo(f"{out / 'index.html'}: {len(files)} files, {changed} changed")
    return 0


def _check_known(what: str, asked: list[str] | None, known: list[str]) -> None:
    strange = [name for name in asked or () if name not in known]
    if strange:
        raise UsageError(f"there is no {what} {strange[0]!r} (known: {', '.join(known) or 'none'})")


def main() -> None:
    """Entry point of the `harness` command."""
    app()


if __name__ == "__main__":
    main()
