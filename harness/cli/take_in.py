"""The verb that makes results of other harnesses a model of a suite."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.common import DEFAULT_DB, Db, Json, SuitePath, announce, app, command, keys_of, reporting
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.suite.schema import Labels


@app.command("import")
@reporting
def take_in(
    suite_path: SuitePath,
    file: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Results of one model from lm-evaluation-harness, Inspect, …"),
    ],
    model: Annotated[str, typer.Option("--model", metavar="ID", help="Id of the new model.")],
    split: Annotated[
        list[str] | None, typer.Option("--split", metavar="ID", help="Only this split; what FILE answers if unset.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option("--labels", help='Answers that mean either: \'negative = "no", positive = "yes"\'.')
    ] = None,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> int:
    """Make results of another harness a model of a suite: matched row by row, pinned, and marked as made elsewhere."""
    announce("reading the results and the splits")
    from harness import api
    from harness.output.terminal import print_json, say, show

    declared = _labels(labels)
    taken = api.import_answers(api.open(suite_path, db), model, file, splits=split or (), labels=declared)
    for note in taken.notes:
        say(note)
    if as_json:
        print_json(
            {
                "suite": str(suite_path),
                "model": taken.model_id,
                "file": str(taken.path),
                "splits": list(taken.splits),
                "answers": taken.answers,
                "declaration": taken.declaration,
                "notes": list(taken.notes),
            }
        )
    else:
        show(f"{taken.path}: {taken.answers:,} answers; {suite_path} declares them:")
        show(f"\n{taken.declaration}")
        show(f"{taken.model_id} can be scored now: {command('evaluate', suite_path, db)} --model {taken.model_id}")
    return 0


def _labels(text: str | None) -> "Labels | None":
    """The declared meaning of answers.

    Raises:
        UsageError: it is written otherwise than in a suite, or is impossible.
    """
    from pydantic import ValidationError

    from harness.suite.schema import Labels

    keys = keys_of("--labels", text)
    if keys is None:
        return None
    try:
        return Labels.model_validate_json(json.dumps(keys, default=str))
    except ValidationError as problem:
        first = problem.errors()[0]
        place = ".".join(map(str, first["loc"])) or "it"
        raise UsageError(f"--labels: {place}: {first['msg']}") from None
