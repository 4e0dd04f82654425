"""The verb that renders the leaderboard, holds it to the store, and shows it on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.common import DEFAULT_DB, Db, Json, SuitePaths, app, reporting
from harness.errors import UsageError

if TYPE_CHECKING:
    from leaderboard.board.examples import Examples
    from leaderboard.board.records import Board


@app.command()
@reporting
def site(
    suites: SuitePaths,
    out: Annotated[Path, typer.Option("--out", help="Folder to render into.")] = Path("site"),
    check: Annotated[
        bool, typer.Option("--check", help="Render nothing: recompute what the folder says; 1 where it is not so.")
    ] = False,
    serve: Annotated[
        bool, typer.Option("--serve", help="Show it on 127.0.0.1, rendered again when store or suite change.")
    ] = False,
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="Of --serve; 0 takes a free one.")] = 8000,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> int:
    """Render the leaderboard of one or more suites as a static site."""
    if check and serve:
        raise UsageError("--check and --serve do different things; give one of them")
    if check:
        return _check(suites, out, db, as_json)
    from harness.output.terminal import print_json, show

    made = _build(suites, out, db)
    if as_json:
        print_json(made)
    else:
        show(f"{out / 'index.html'}: {len(made['pages'])} files, {made['changed']} changed")
    return _serve(suites, out, db, port) if serve else 0


def _build(suites: list[Path], out: Path, db: Path) -> dict[str, Any]:
    """Bring the folder to what the store holds."""
    from leaderboard.site import render

    boards, examples = _read(suites, db)
    files = render.render(boards, examples)
    changed = render.write(files, out)
    return {"out": str(out), "pages": sorted(files), "changed": changed}


def _read(suites: list[Path], db: Path) -> "tuple[list[Board], dict[str, Examples]]":
    """Boards, and the examples of each suite by its name. Reading takes long, so it is a copy that is read."""
    from harness import api
    from harness.evaluation.inputs import Workspace, gather
    from harness.evaluation.plan import plan
    from harness.output.terminal import say
    from harness.store.connection import snapshot
    from harness.suite.load import load

    planned = []
    for path, suite in [(path, load(path)) for path in suites]:
        workspace = Workspace(path, db)
        planned.append((suite, workspace, plan(suite, gather(suite, workspace), workspace)))
    boards = []
    with snapshot(db) as connection:
        for suite, workspace, jobs in planned:
            boards.append(api.board_of(connection, suite, workspace, jobs, lambda line: say(f"warning: {line}")))
    examples: dict[str, Examples] = {
        suite.name: {job.split.split_id: job.split.examples for job in jobs} for suite, _, jobs in planned
    }
    return boards, examples


def _check(suites: list[Path], out: Path, db: Path, as_json: bool) -> int:
    from harness.output.terminal import print_json, show
    from harness.store import sql_metrics
    from harness.store.connection import opened
    from leaderboard.site import check, render

    if not out.is_dir():
        raise UsageError(f"{out}: there is no site to check; render it first, without --check")
    boards, examples = _read(suites, db)
    with opened(db, read_only=True) as connection:
        known = sql_metrics.metrics_of(connection, check.run_ids(boards))
    found = check.check(render.render(boards, examples), boards, out, known)
    if as_json:
        print_json({"out": str(out), "numbers": found.numbers, "files": found.files, "problems": list(found.problems)})
    else:
        for problem in found.problems:
            show(f"{out}/{problem}")
        verdict = f"{len(found.problems)} problems" if found.problems else "all as in the store"
        show(f"{out}: {found.numbers} numbers recomputed, {found.files} files held to the store: {verdict}")
    return 1 if found.problems else 0


def _serve(suites: list[Path], out: Path, db: Path, port: int) -> int:
    import threading

    from harness.output.terminal import say
    from leaderboard.site import serve

    serve.serve(lambda: _build(suites, out, db), [db, *suites], out, port, say, threading.Event())
    return 0
