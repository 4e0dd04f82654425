"""The verb that holds two models against each other."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Annotated, Any

import typer

from harness.cli.common import DEFAULT_DB, Db, Json, SuitePath, app, check_known, reporting
from harness.errors import UsageError


@app.command()
@reporting
def compare(
    suite_path: SuitePath,
    model_a: Annotated[str, typer.Argument(metavar="MODEL_A", help="A model of the suite.")],
    model_b: Annotated[str, typer.Argument(metavar="MODEL_B", help="The model that it is compared with.")],
    split: Annotated[
        list[str] | None, typer.Option("--split", metavar="ID", help="Only this split; all that both ran on if unset.")
    ] = None,
    flips: Annotated[int, typer.Option("--flips", min=0, help="Flips to name, in each direction.")] = 10,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> int:
    """Compare two models on their stored runs: metrics, tests, flips, slices, calibration."""
    from harness.cli.tables.comparison import show_comparison
    from harness.evaluation import results
    from harness.evaluation.inputs import Workspace, gather
    from harness.evaluation.plan import plan
    from harness.gates.compare import compare as compared
    from harness.gates.compare import side
    from harness.output.terminal import print_json, say
    from harness.store.connection import opened
    from harness.suite.load import load

    suite = load(suite_path)
    check_known("model", [model_a, model_b], [declared.id for declared in suite.model])
    if model_a == model_b:
        raise UsageError(f"{model_a} would be compared with itself; name two models")
    check_known("split to score", split, [rule.id for rule in suite.split if rule.id not in suite.train_split_ids])
    workspace = Workspace(suite_path, db)
    materials = gather(suite, workspace)
    jobs = plan(suite, materials, workspace, model_ids=[model_a, model_b], split_ids=split or ())
    with opened(db, read_only=True) as connection:
        found = results.of(connection, jobs)
    splits = list(found.examples)
    missing = {split_id for _, split_id in found.missing}
    if missing and (split or len(missing) == len(splits)):
        raise UsageError("\n".join(found.missing.values()))
    for reason in found.missing.values():
        say(f"not compared: {reason}")
    names = [metric.name for metric in suite.metric]
    comparisons = (
        compared(
            split_id, found.examples[split_id], side(found, model_a, split_id), side(found, model_b, split_id), names,
            suite.primary_metric,
        )
        for split_id in splits
        if split_id not in missing
    )  # fmt: skip
    texts = {
        example.example_id: suite.text.render(example.title, example.content)
        for examples in found.examples.values()
        for example in examples
        if suite.text.store
    }
    if as_json:
        print_json({"suite": suite.name, "suite_digest": suite.digest, "comparisons": _plain(list(comparisons), texts)})
    else:
        for comparison in comparisons:  # each is printed as soon as it is made
            show_comparison(comparison, flips, texts)
    return 0


def _plain(value: Any, texts: Mapping[str, str]) -> Any:
    """Records as JSON-able values by field name; with each flip its text, where there is one."""
    if is_dataclass(value):
        plain = {field.name: _plain(getattr(value, field.name), texts) for field in fields(value)}
        known = {"text": texts[plain["example_id"]]} if plain.get("example_id") in texts else {}
        return plain | known
    if hasattr(value, "_asdict"):
        return value._asdict()
    return [_plain(one, texts) for one in value] if isinstance(value, list | tuple) else value
