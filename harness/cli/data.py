"""The verb that fetches, pins and audits splits, or looks at one data file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.common import DEFAULT_DB, Db, Json, announce, app, reporting
from harness.errors import UsageError


@app.command()
@reporting
def data(
    path: Annotated[
        Path, typer.Argument(metavar="SUITE|FILE", help="A suite file (.toml), or one data file to look at.")
    ],
    update_lock: Annotated[bool, typer.Option("--update-lock", help="Pin the rows as they are now.")] = False,
    pin: Annotated[
        bool, typer.Option("--pin", help="Add the digests and commits that the suite file lacks, and pin its rows.")
    ] = False,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> int:
    """Fetch, verify and audit a suite's splits, and pin them in its lock file the first time; or audit one file."""
    announce("fetching and verifying the splits")
    if path.suffix.lower() == ".toml":
        return _of_suite(path, db, update_lock=update_lock, pin=pin, as_json=as_json)
    if update_lock or pin:
        raise UsageError(f"{path}: is no suite file (.toml), so nothing is pinned; leave out --pin and --update-lock")
    return _of_file(path, db, as_json=as_json)


def _of_suite(suite_path: Path, db: Path, *, update_lock: bool, pin: bool, as_json: bool) -> int:
    from harness import api
    from harness.cli import tables
    from harness.data import audit, lock
    from harness.evaluation import prompts
    from harness.evaluation.inputs import Workspace
    from harness.output.terminal import print_json, say, show

    if pin and suite_path.is_file():
        from harness.drafts import pins

        for sentence in pins.add_missing(suite_path, Workspace(suite_path, db).cache):
            say(f"{suite_path}: {sentence}")
    project = api.open(suite_path, db)
    found, suite = api.examine_data(project, update_lock=update_lock), project.suite
    if found.pinned:
        say(f"pinned {len(found.pinned)} splits in {lock.path_for(suite_path)}")
    rows, splits = list(found.rows), list(found.splits.values())
    if as_json:
        print_json(rows)
    else:
        tables.show_splits(suite.name, rows)
        tables.show_audit(rows, audit.beginnings(splits) if suite.text.store else {})
        for heading, prompt in prompts.first_prompts(suite, found.splits) if suite.text.store else ():
            show(f"\n{heading}\n{prompt}")
    for warning in found.warnings:
        say(f"warning: {warning}")
    found.refuse()
    return 0


def _of_file(path: Path, db: Path, *, as_json: bool) -> int:
    """Say how a file would be read, and audit its rows; nothing is stored."""
    from harness.cli import tables
    from harness.data import audit, guess, load_split, lock, notes
    from harness.data.sniff import sniff
    from harness.data.source import Places
    from harness.output.terminal import print_json, say, show
    from harness.suite.schema import FileSplit, Text

    found = sniff(path)
    declared: Mapping[str, Any] = {"id": "rows", "source": "file", "path": path.name, **found.keys}
    split = load_split(FileSplit.model_validate(declared), Places(db.parent / "cache", path.parent, None))
    has_titles = any(example.title for example in split.examples)
    text = Text(template="{title} {content}" if has_titles else "{content}", max_length=512)
    rows = [lock.summary(split, trained_on=False) | {"audit": audit.audit_alone(split, text, 0.8)}]
    if as_json:
        print_json({"file": str(path), "keys": found.keys, "choices": list(found.choices), "rows": rows[0]})
    else:
        for choice in found.choices:
            show(choice)
        tables.show_splits(str(path), rows)
        tables.show_audit(rows, {})
        show("In a suite:")
        show("\n".join(["[[split]]", *(f"{key} = {guess.toml(value)}" for key, value in declared.items())]))
    for note in notes([split]):
        say(f"note: {note}")
    return 0
