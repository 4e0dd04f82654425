"""The verbs about baselines: earlier evaluations, kept in files beside the suite."""

from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.common import DEFAULT_DB, Db, Json, SuitePath, app, reporting
from harness.errors import UsageError, check_known

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
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> int:
    """Keep the suite's current runs as a baseline."""
    import re

    from harness.cli import tables
    from harness.evaluation.inputs import Workspace
    from harness.gates import baseline_file
    from harness.output.terminal import print_json, say
    from harness.suite.load import load
    from harness.suite.schema import ID_PATTERN

    suite = load(suite_path)
    check_known("model", model, [declared.id for declared in suite.model])
    scored_splits = [rule.id for rule in suite.split if rule.id not in suite.train_split_ids]
    check_known("split to score", split, scored_splits)
    if not re.fullmatch(ID_PATTERN, name):
        raise UsageError(f"baseline {name!r}: a name is lower-case letters, digits and . _ + - only")
    path = baseline_file.path_of(suite_path, name)
    if path.exists() and not force:
        raise UsageError(f"{path}: is there already; --force replaces it, another name keeps it")
    named_models, named_splits = baseline_file.wanted(suite)
    models, splits = model or named_models, split or named_splits
    if not models or not splits:
        raise UsageError(f"{suite_path}: no gate or expectation says what to keep; give --model and --split")
    kept = baseline_file.of_stored(suite, Workspace(suite_path, db), models, splits)
    if kept.git_dirty:
        say(f"warning: there are uncommitted changes; commit {(kept.git_commit or '')[:12]} alone does not say it all")
    baseline_file.write(path, kept)
    row = _row(suite_path, suite.name, name)
    if as_json:
        print_json(row)
    else:
        tables.show_baselines(suite.name, [row])
    return 0


@verbs.command("ls")
@reporting
def list_baselines(suite_path: SuitePath, as_json: Json = False) -> int:
    """List a suite's baselines."""
    from harness.cli import tables
    from harness.gates import baseline_file
    from harness.output.terminal import print_json, say
    from harness.suite.load import load

    suite = load(suite_path)
    rows = [_row(suite_path, suite.name, name) for name in baseline_file.names(suite_path)]
    if as_json:
        print_json(rows)
    else:
        tables.show_baselines(suite.name, rows)
    for row in rows:
        if row["problem"] is not None:
            say(f"warning: baseline {row['name']}: {row['problem']}")
    return 0


def _row(suite_path: Path, suite: str, name: str) -> dict[str, Any]:
    """A baseline's row; what cannot be read from a file that is no good is None."""
    from harness.gates import baseline_file

    path = baseline_file.path_of(suite_path, name)
    read = ("created_at", "git_commit", "git_dirty", "models", "splits", "runs", "n")
    row: dict[str, Any] = {"name": name, "path": str(path), "bytes": path.stat().st_size, **dict.fromkeys(read)}
    try:
        kept = baseline_file.read(path, suite)
    except baseline_file.Unreadable as problem:
        return {**row, "problem": str(problem)}
    return {
        **row,
        "created_at": kept.created_at,
        "git_commit": kept.git_commit,
        "git_dirty": kept.git_dirty,
        "models": list(dict.fromkeys(run.model_id for run in kept.runs)),
        "splits": list(dict.fromkeys(run.split_id for run in kept.runs)),
        "runs": len(kept.runs),
        "n": sum(len(run.predictions) for run in kept.runs),
        "problem": None,
    }
