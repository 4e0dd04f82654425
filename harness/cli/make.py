"""The verbs that make something: checked suites, pinned rows, trained adapters, stored runs."""

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
    SuitePaths,
    Workers,
    app,
    reporting,
)


@app.command()
@reporting
def validate(suites: SuitePaths, as_json: Json = False) -> int:
    """Check suite files and list every problem."""
    from harness.errors import SuiteError
    from harness.output.terminal import print_json, say, show
    from harness.suite.load import load

    results = []
    for path in suites:
        try:
            suite = load(path)
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
                show(f"{result['suite']}: ok")
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
    from harness.cli import tables
    from harness.data import audit, load_split, lock, notes, repeats
    from harness.evaluation.inputs import Workspace, examine
    from harness.output.terminal import print_json, say
    from harness.suite.load import load

    suite = load(suite_path)
    workspace = Workspace(suite_path, db)
    lock_path = lock.path_for(suite_path)
    pinned = {} if update_lock else lock.read(lock_path) or {}
    drawn = {rule.id: load_split(rule, workspace.places, pinned.get(rule.id)) for rule in suite.split}
    lock.check(lock_path, pinned, drawn.values())
    if new := lock.unpinned(pinned, [rule.id for rule in suite.split]):
        lock.write(lock_path, drawn.values(), kept=pinned)
        say(f"pinned {len(new)} splits in {lock_path}")
    settled = repeats.settle(suite, drawn)
    splits = list(settled.splits.values())
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
    for warning in (*notes(drawn.values()), *settled.notes, *warnings):
        say(f"warning: {warning}")
    settled.refuse()
    audit.refuse(audit.judge(suite.audit, audited.overlaps))
    return 0


@app.command()
@reporting
def train(
    suite_path: SuitePath,
    adapter: Annotated[list[str] | None, typer.Option("--adapter", metavar="ID", help="Only this adapter.")] = None,
    engine: Engine = "local",
    workers: Workers = None,
    address: Address = None,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> int:
    """Train the adapters of a suite that are not there yet."""
    from harness import api
    from harness.cli import tables
    from harness.output.terminal import Bars, print_json, say

    project = api.open(suite_path, db)
    trained, failures = api.train(
        project, adapters=adapter or (), engine=engine, workers=workers, address=address, progress=Bars()
    )
    rows = [{**asdict(one.record), "folder": str(one.folder)} for one in trained]
    for reason in failures:
        say(reason)
    if as_json:
        print_json(rows)
    else:
        tables.show_adapters(project.suite.name, rows)
    return 3 if failures else 0


@app.command()
@reporting
def evaluate(
    suite_path: SuitePath,
    model: Annotated[list[str] | None, typer.Option("--model", metavar="ID", help="Only this model.")] = None,
    split: Annotated[list[str] | None, typer.Option("--split", metavar="ID", help="Only this split.")] = None,
    engine: Engine = "local",
    workers: Workers = None,
    address: Address = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Score again what is stored.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only each split's first N examples.")] = None,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> int:
    """Train what is missing, score what is not yet stored, and print the results."""
    from harness import api
    from harness.cli import tables
    from harness.output.terminal import Bars, print_json, say, say_all

    project = api.open(suite_path, db)
    report = api.evaluate(
        project,
        models=model or (),
        splits=split or (),
        engine=engine,
        workers=workers,
        address=address,
        limit=limit,
        fresh=fresh,
        progress=Bars(),
    )
    say_all(report.warnings, [*report.notes, *report.reasons])
    say(f"scored {len(report.scored)}, already stored {len(report.reused)}, failed {len(report.failed)}")
    if as_json:
        print_json(
            {
                "suite": project.suite.name,
                "suite_digest": project.suite.digest,
                "scored": len(report.scored),
                "reused": len(report.reused),
                "failed": [{"model": run.model_id, "split": run.split_id, "error": run.error} for run in report.failed],
                "results": report.results,
            }
        )
    else:
        tables.show_results(project.suite.name, project.suite.primary_metric, report.results)
    return 3 if report.failed else 0
