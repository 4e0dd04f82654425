"""The verb that renders the leaderboard, holds it to the store, and shows it on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.common import DEFAULT_DB, Db, Device, Json, SuitePaths, announce, app, reporting
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.api import Project


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
    url: Annotated[
        str | None,
        typer.Option(
            "--url", metavar="URL", help="Where it will be published: links to it then show its first answer."
        ),
    ] = None,
    device: Device = None,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> int:
    """Render the leaderboard of one or more suites as a static site."""
    announce("reading the store" if check else "reading the store and rendering")
    if check and serve:
        raise UsageError("--check and --serve do different things; give one of them")
    from harness import api
    from harness.output.terminal import print_json, say, say_all, show

    projects = [api.open(path, db, device) for path in suites]
    if check:
        return _check(projects, out, url, as_json)

    def build() -> api.Site:
        made = api.render([api.open(path, db, device) for path in suites], out, url=url)
        say_all(made.warnings)
        return made

    made = build()
    if as_json:
        print_json({"out": str(out), "pages": list(made.files), "changed": made.changed})
    else:
        show(f"{out / 'index.html'}: {len(made.files)} files, {made.changed} changed")
    if serve:
        import threading

        from leaderboard.site import serve as server

        server.serve(build, [db, *suites], out, port, say, threading.Event())
    return 0


def _check(projects: "list[Project]", out: Path, url: str | None, as_json: bool) -> int:
    from harness import api
    from harness.cli.tables.cells import print_lines, wrapped
    from harness.output.terminal import print_json, show

    found = api.check_site(projects, out, url=url)
    if as_json:
        print_json({"out": str(out), "numbers": found.numbers, "files": found.files, "problems": list(found.problems)})
    else:
        for problem in found.problems:
            show(f"{out}/{problem}")
        verdict = f"{len(found.problems)} problems" if found.problems else "all as in the store"
        print_lines(
            *wrapped(
                f"{out}: {found.numbers} numbers recomputed, {found.files} files compared with the store: {verdict}"
            )
        )
    return 1 if found.problems else 0
