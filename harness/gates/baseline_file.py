"""Baseline files: an earlier evaluation as a small Parquet file beside the suite, to be committed with it.

    write(path_of(suite_path, "main"), of_stored(suite, workspace, model_ids, split_ids))
    kept = read(path_of(suite_path, "main"), suite.name)    # verified against the digest in the file

A file holds ids of examples, predicted labels and scores, but neither texts nor true labels. `docs/baselines.md` has
the schema.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from harness import provenance
from harness.artifacts import atomic, digest
from harness.errors import UsageError
from harness.evaluation import results
from harness.evaluation.inputs import Workspace, bases_of, gather
from harness.evaluation.plan import plan
from harness.records import Outcomes, Prediction, Run
from harness.store.connection import opened
from harness.suite.rules import of_expectations, of_gates
from harness.suite.schema import ID_PATTERN, Suite

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER = "baselines"
"""Folder beside the suite file."""
VERSION = 1
"""Version of the files' schema."""
ABOUT, DIGEST = b"harness.gates.baseline_file", b"harness.sha256"
"""Keys of the file's metadata: everything but the predictions as JSON, and the SHA-256 of that and the predictions."""

MALFORMED = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""Exceptions raised by invalid or too deeply nested JSON, or by JSON of another shape than `_kept` expects."""
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters and unprintable ones, which names must not hold because they are printed."""


@dataclass(frozen=True, slots=True)
class BaselineRun:
    """Part of a run that a baseline keeps: inputs, environment and predictions. The fields are those of `Run`."""

    run_id: str
    run_key: str
    model_id: str
    seed: int | None
    split_id: str
    split_digest: str
    configuration: str
    adapter_digest: str | None
    spec: Mapping[str, Any]
    packages: Mapping[str, str]
    hardware: Mapping[str, Any]
    predictions: tuple[Prediction, ...]
    """In the order of the split."""


@dataclass(frozen=True, slots=True)
class BaselineFile:
    """Contents of a baseline file."""

    suite: str
    suite_digest: str
    created_at: datetime
    """UTC, without time zone."""
    git_commit: str | None
    """Commit of the suite's folder when the file was made."""
    git_dirty: bool | None
    runs: tuple[BaselineRun, ...]


@dataclass(frozen=True, slots=True)
class BaselineSummary:
    """A baseline file without its predictions. What cannot be read from a damaged one is None."""

    name: str
    path: str
    bytes: int
    created_at: datetime | None = None
    """UTC, without time zone."""
    git_commit: str | None = None
    git_dirty: bool | None = None
    models: list[str] | None = None
    splits: list[str] | None = None
    runs: int | None = None
    n: int | None = None
    """Number of predictions."""
    problem: str | None = None
    """Reason why it cannot be read."""


class Unreadable(Exception):
    """Reason for rejecting a baseline file; it is printed after the baseline's name."""


def path_of(suite_path: Path, name: str) -> Path:
    """Path of the suite's baseline of this name."""
    return suite_path.parent / FOLDER / f"{suite_path.stem}.{name}.parquet"


def names(suite_path: Path) -> list[str]:
    """List the baselines that a suite has as files."""
    begin, end = path_of(suite_path, "\n").name.split("\n")
    files = [path.name for path in (suite_path.parent / FOLDER).glob("*")]
    found = [file.removeprefix(begin).removesuffix(end) for file in files if file.startswith(begin)]
    return sorted(name for name in found if re.fullmatch(ID_PATTERN, name) and begin + name + end in files)


def wanted(suite: Suite) -> tuple[list[str], list[str]]:
    """List the models and splits that a suite's gates and expectations name, which a baseline needs by default."""
    models: dict[str, None] = {}
    splits: dict[str, None] = {}
    for rule in [*of_gates(suite), *of_expectations(suite)]:
        models |= dict.fromkeys(rule.models)
        splits |= dict.fromkeys(rule.splits)
    return list(models), list(splits)


def of_stored(
    suite: Suite, workspace: Workspace, model_ids: Collection[str], split_ids: Collection[str]
) -> BaselineFile:
    """Make a baseline of the suite's current runs.

    Args:
        model_ids: models to include.
        split_ids: splits to include.

    Raises:
        UsageError: some of these runs are not stored with the inputs that they would have now.
        StoreError: there is no store.
    """
    wanted = model_ids or [model.id for model in suite.model]
    inputs = gather(suite, workspace, bases_of(suite, model_ids=wanted))
    jobs = plan(suite, inputs, workspace, model_ids=wanted, split_ids=split_ids)
    with opened(workspace.db, read_only=True) as connection:
        found = results.of(connection, jobs)
    if found.missing:
        raise UsageError("\n".join(["a baseline needs all of its runs:", *found.missing.values()]))
    runs = [
        reduce_run(run, outcomes)
        for place, many in found.runs.items()
        for run, outcomes in zip(many, found.outcomes[place], strict=True)
    ]
    git_commit, git_dirty = provenance.git(workspace.suite_path.resolve().parent)
    return BaselineFile(suite.name, suite.digest, provenance.now(), git_commit, git_dirty, tuple(runs))


def set_from_store(
    suite: Suite,
    workspace: Workspace,
    name: str,
    model_ids: Collection[str],
    split_ids: Collection[str],
    *,
    force: bool = False,
) -> tuple[BaselineSummary, list[str]]:
    """Keep the suite's current runs in a file beside it.

    Args:
        model_ids, split_ids: these; those that gates and expectations name where empty.
        force: replace a baseline of this name.

    Returns:
        A summary of the file, and warnings.

    Raises:
        UsageError: the name is not one, or taken; or some of these runs are not stored.
        StoreError: there is no store.
    """
    if not re.fullmatch(ID_PATTERN, name):
        raise UsageError(f"baseline {name!r}: a name is lower-case letters, digits and . _ + - only")
    path = path_of(workspace.suite_path, name)
    if path.exists() and not force:
        raise UsageError(f"{path}: is there already; --force replaces it, another name keeps it")
    named_models, named_splits = wanted(suite)
    model_ids, split_ids = model_ids or named_models, split_ids or named_splits
    if not model_ids or not split_ids:
        raise UsageError(f"{workspace.suite_path}: no gate or expectation says what to keep; give --model and --split")
    kept = of_stored(suite, workspace, model_ids, split_ids)
    write(path, kept)
    commit = (kept.git_commit or "")[:12]
    warning = f"there are uncommitted changes; commit {commit} alone does not say it all"
    return summarise(workspace.suite_path, suite.name, name), [warning] if kept.git_dirty else []


def summarise(suite_path: Path, suite: str, name: str) -> BaselineSummary:
    """Summarise a baseline beside a suite; one that cannot be read says why."""
    path = path_of(suite_path, name)
    place: dict[str, Any] = {"name": name, "path": str(path), "bytes": path.stat().st_size}
    try:
        kept = read(path, suite)
    except Unreadable as problem:
        return BaselineSummary(**place, problem=str(problem))
    return BaselineSummary(
        **place,
        created_at=kept.created_at,
        git_commit=kept.git_commit,
        git_dirty=kept.git_dirty,
        models=list(dict.fromkeys(run.model_id for run in kept.runs)),
        splits=list(dict.fromkeys(run.split_id for run in kept.runs)),
        runs=len(kept.runs),
        n=sum(len(run.predictions) for run in kept.runs),
    )


def reduce_run(run: Run, outcomes: Outcomes) -> BaselineRun:
    """Reduce a run and its outcomes to the part that a baseline keeps."""
    rows = zip(outcomes.example_ids, outcomes.predicted.tolist(), outcomes.scores.tolist(), strict=True)
    fields = {name: getattr(run, name) for name in BaselineRun.__dataclass_fields__ if name != "predictions"}
    return BaselineRun(**fields, predictions=tuple(Prediction(*row) for row in rows))


def write(path: Path, kept: BaselineFile) -> None:
    """Write a baseline file, whole or not at all. The same content gives the same bytes.

    Raises:
        UsageError: the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    about, columns = _about(kept), schema()
    rows = pa.Table.from_pylist(
        [
            {
                "model": run.model_id,
                "seed": run.seed,
                "split": run.split_id,
                "example_id": prediction.example_id,
                "predicted": prediction.predicted,
                "score": prediction.score,
            }
            for run in kept.runs
            for prediction in run.predictions
        ],
        schema=columns,
    )
    metadata = {ABOUT: json.dumps(about, sort_keys=True, allow_nan=False), DIGEST: _digest(about, rows.to_pydict())}
    with (
        atomic.replacing(path) as fresh,
        pq.ParquetWriter(
            fresh,
            columns,
            compression="zstd",
            use_dictionary=["model", "seed", "split", "example_id"],
            column_encoding={"score": "BYTE_STREAM_SPLIT"},
            store_schema=False,  # it would hold the metadata a second time
            write_page_checksum=True,
        ) as writer,
    ):
        writer.write_table(rows)
        writer.add_key_value_metadata(metadata)


def read(path: Path, suite: str) -> BaselineFile:
    """Read a baseline file, and verify it against the digest in it.

    Args:
        suite: name of the suite to which it must belong.

    Raises:
        Unreadable: it is no baseline, has the schema of another release, is damaged, was edited, or belongs to another
            suite.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            metadata = file.metadata.metadata or {}
            about = json.loads(metadata[ABOUT])
            if about["version"] != VERSION:
                raise Unreadable(f"{path} has schema {about['version']!r}, this release reads {VERSION}; set it anew")
            if not file.schema_arrow.equals(schema()):
                raise ValueError("it has other columns")
            columns = file.read().to_pydict()
        whole = metadata[DIGEST].decode() == _digest(about, columns)
        kept = _kept(about, columns) if whole else None
    except (pa.ArrowException, OSError, *MALFORMED) as problem:
        reason = (str(problem).splitlines() or [""])[0]
        raise Unreadable(f"{path} is damaged or is no baseline ({reason}); restore it or set it anew") from None
    if kept is None:
        raise Unreadable(f"was edited: {path} is not as `harness baseline set` wrote it; restore it or set it anew")
    if kept.suite != suite:
        raise Unreadable(f"{path} is of the suite {kept.suite!r}, not of {suite!r}")
    return kept


def schema() -> "pa.Schema":
    """Columns of the predictions of a baseline file."""
    import pyarrow as pa

    return pa.schema(
        {
            "model": pa.string(),
            "seed": pa.int64(),
            "split": pa.string(),
            "example_id": pa.string(),
            "predicted": pa.int8(),
            "score": pa.float64(),
        }
    )


def _about(kept: BaselineFile) -> dict[str, Any]:
    """Convert everything but the predictions to values that JSON can hold."""
    runs = [
        {name: getattr(run, name) for name in BaselineRun.__dataclass_fields__ if name != "predictions"}
        for run in kept.runs
    ]
    fields = {name: getattr(kept, name) for name in BaselineFile.__dataclass_fields__}
    return {"version": VERSION, **fields, "created_at": kept.created_at.isoformat(), "runs": runs}


def _kept(about: Mapping[str, Any], columns: Mapping[str, list[Any]]) -> BaselineFile:
    """Validate and rebuild the contents of a file. A forged file may have a matching digest, so nothing is trusted."""
    printed = [{name: value for name, value in run.items() if name != "spec"} for run in about["runs"]]
    if any(CONTROL.search(text) for text in _texts([{**about, "runs": printed}, columns["example_id"]])):
        raise ValueError("a name holds control characters")
    by_run: dict[tuple[Any, ...], list[Prediction]] = {}
    for *run, example_id, predicted, score in zip(*columns.values(), strict=True):
        if predicted not in (0, 1) or not 0 <= score <= 1:
            raise ValueError(f"predicted {predicted!r} with {score!r}: not a class, or not a probability")
        by_run.setdefault(tuple(run), []).append(Prediction(example_id, predicted, score))
    for place, predictions in by_run.items():
        ids = {prediction.example_id for prediction in predictions}
        if None in ids or len(ids) < len(predictions):
            raise ValueError(f"{place[0]} has two predictions for one example, or one without an example")
    runs = [
        run | {"predictions": by_run.get((run["model_id"], run["seed"], run["split_id"]), [])} for run in about["runs"]
    ]
    return TypeAdapter(BaselineFile).validate_python({**about, "runs": runs})


def _texts(value: Any) -> Iterator[str]:
    """Yield every string in a JSON value, including keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for pair in value.items():
            yield from _texts(list(pair))
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _digest(about: Mapping[str, Any], columns: Mapping[str, list[Any]]) -> str:
    return digest.of_json([about, columns])
