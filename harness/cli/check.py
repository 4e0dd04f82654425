"""The verbs for a first look at an adapter: a suite drafted, and all that follows from it in one command."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.common import DEFAULT_DB, Db, Device, Json, Workers, app, keys_of, reporting

if TYPE_CHECKING:
    from harness.drafts.draft import Draft
    from leaderboard.board.records import Board

Adapter = Annotated[
    str,
    typer.Argument(metavar="ADAPTER", help="Folder of an adapter or a finished classifier, or its name on the hub."),
]
Base = Annotated[
    str | None,
    typer.Option("--base", help="Folder of the base, or its name on the hub; the one that the adapter names if unset."),
]
Data = Annotated[str, typer.Option("--data", help="File of the rows to score, or a dataset's name on the hub.")]
Train = Annotated[
    str | None, typer.Option("--train", help="Rows to fit competitors on: a probe on the base, counted words.")
]
Columns = Annotated[
    str | None, typer.Option("--columns", help="As in a suite, where it cannot be read: 'content = \"text\"'.")
]
Labels = Annotated[str | None, typer.Option("--labels", help="As in a suite: 'negative = [1, 2], positive = [4, 5]'.")]


@app.command()
@reporting
def init(
    adapter: Adapter,
    data: Data,
    base: Base = None,
    train: Train = None,
    columns: Columns = None,
    labels: Labels = None,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> int:
    """Write a suite and its lock for an adapter and a data file into this folder, and say what was chosen and why."""
    from harness.output.terminal import print_json, show

    made, path = _written(adapter, data, base, train, columns, labels, db)
    if as_json:
        print_json({"suite": str(path), "choices": list(made.choices), "copies": list(made.copies)})
    else:
        for choice in made.choices:
            show(choice)
        show(f"{path}: written, with {path.with_suffix('.lock').name}; next: harness evaluate {path}")
    return 0


@app.command()
@reporting
def check(
    adapter: Adapter,
    data: Data,
    base: Base = None,
    train: Train = None,
    columns: Columns = None,
    labels: Labels = None,
    out: Annotated[Path, typer.Option("--out", help="Folder to render the site into.")] = Path("site"),
    workers: Workers = None,
    device: Device = None,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> int:
    """Draft a suite, evaluate and judge it, say whether the adapter is better than its base, and render the site."""
    from harness import api
    from harness.cli import tables
    from harness.engine import local
    from harness.models import SLOW_IMPORTS
    from harness.output.terminal import Bars, print_json, say, say_all

    local.start_importing(SLOW_IMPORTS, workers)
    made, path = _written(adapter, data, base, train, columns, labels, db)
    for choice in made.choices:
        say(choice)
    say(f"{path}: written, with {path.with_suffix('.lock').name}")
    project = api.open(path, db, device)
    report = api.evaluate(project, workers=workers, progress=Bars())
    say_all(report.warnings, [*report.notes, *report.reasons])
    judged = api.judge(project, progress=Bars())
    board = api.board(project)
    site = api.render(project, out)
    verdict = sentence(board, made.name, passed=judged.passed, has_train=train is not None)
    if as_json:
        verdicts = [{"rule": v.gate_id, "outcome": v.outcome, "reason": v.reason} for v in judged.verdicts]
        print_json(
            {
                "suite": str(path), "choices": list(made.choices), "results": report.results, "verdicts": verdicts,
                "passed": judged.passed, "verdict": verdict, "site": str(site.folder),
            }
        )  # fmt: skip
    else:
        tables.show_results(project.suite.name, project.suite.primary_metric, report.results)
        tables.show_verdicts(project.suite.name, judged.verdicts)
        show_verdict(verdict, out, path)
    return 3 if report.failed else 0 if judged.passed else 1


def _written(
    adapter: str, data: str, base: str | None, train: str | None, columns: str | None, labels: str | None, db: Path
) -> "tuple[Draft, Path]":
    """The draft, and the suite file that was written with its lock."""
    from harness.drafts.draft import Wanted, draft, pin, write
    from harness.evaluation.inputs import Workspace
    from harness.output.terminal import say
    from harness.suite.load import load

    say(f"reading {adapter} and {data}")
    wanted = Wanted(adapter, data, base, train, keys_of("--columns", columns), keys_of("--labels", labels))
    folder = Path()
    workspace = Workspace(folder / "suite.toml", db)
    made = draft(wanted, folder, workspace.cache)
    path = write(made, folder)
    pin(path, load(path), workspace.places)
    return made, path


def show_verdict(verdict: str, out: Path, path: Path) -> None:
    """End with the answer and the next step."""
    from harness.output.terminal import show

    show(verdict)
    show(f"{out / 'index.html'} shows it; {path} can be edited, and `harness evaluate {path}` scores what changed")


def sentence(board: "Board", name: str, *, passed: bool, has_train: bool) -> str:
    """The verdict on a drafted suite's adapter."""
    from leaderboard.board.answers import of_model

    section = board.sections[0]
    entry = next(entry for entry in section.entries if entry.model_id == name)
    if entry.primary is None or entry.primary.value is None:
        return f"No verdict: {name} was not scored; the reasons are above."
    value = f"accuracy {entry.primary.value:.3f}{_interval(entry.primary.ci_low, entry.primary.ci_high)}"
    n = f"{entry.primary.n:,} rows"
    answer = of_model(section.answers, name)
    gate = "Its gates pass." if passed else "Its gates do not pass."
    if answer is None or answer.base is None or answer.lead is None:
        return f"{name} reaches an {value} on {n}. {gate}"
    how = {
        "better": "is better than its base", "worse": "is worse than its base",
        "undecided": "cannot be separated from its base", "unknown": "cannot be compared with its base",
    }[answer.outcome]  # fmt: skip
    kind = {
        "prompted": "prompted",
        "probed": "under a linear probe",
        "untrained": "with an untrained head, which is chance",
    }
    lead = f"{100 * answer.lead.value:+.1f} points{_interval(100 * answer.lead.ci_low, 100 * answer.lead.ci_high, 1)}"
    more = "" if has_train else " Training rows (--train FILE) would show what the base can do under a probe."
    return f"{name} {how} {kind[answer.base.kind]}: {value} on {n}, {lead}. {gate}{more}"


def _interval(low: float | None, high: float | None, digits: int = 3) -> str:
    return "" if low is None or high is None else f" [{low:.{digits}f}, {high:.{digits}f}]"
