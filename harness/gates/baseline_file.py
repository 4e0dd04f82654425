"""An earlier evaluation as a small Parquet file beside the suite, made to be committed.

    write(path_of(suite_path, "main"), of_stored(suite, workspace, model_ids, split_ids))
    kept = read(path_of(suite_path, "main"), suite.name)    # held to the digest that was written into it

It holds ids of examples, predicted labels and scores; neither texts nor labels. `docs/baselines.md` has its schema.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from harness import provenance
from harness.artifacts import atomic, digest
from harness.errors import UsageError
from harness.evaluation import results
from harness.evaluation.inputs import Workspace, gather
from harness.evaluation.plan import plan
from harness.records import Outcomes, Prediction, Run
from harness.store.connection import opened
from harness.suite.rules import of_expectations, of_gates
from harness.suite.schema import ID_PATTERN, Suite

FOLDER = "baselines"
"""Beside the suite file."""
VERSION = 1
"""Of the files' schema."""
SCHEMA = pa.schema(
    {
        "model": pa.string(),
        "seed": pa.int64(),
        "split": pa.string(),
        "example_id": pa.string(),
        "predicted": pa.int8(),
        "score": pa.float64(),
    }
)
ABOUT, DIGEST = b"harness.gates.baseline_file", b"harness.sha256"
"""Keys of the file's metadata: all that is no prediction, as JSON; SHA-256 over that and the predictions."""

NO_KEPT = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What comes of JSON that is none, nests too deep, or is not what `_kept` expects."""
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""What a terminal would obey, and what cannot be printed at all; names are printed, a run's specification is not."""


@dataclass(frozen=True, slots=True)
class BaselineRun:
    """What a baseline keeps of a run: what went in, what it ran on and what it said. The fields are those of `Run`."""

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
    """All that a baseline's file holds."""

    suite: str
    suite_digest: str
    created_at: datetime
    """UTC, without time zone."""
    git_commit: str | None
    """Of the suite's folder when the file was made."""
    git_dirty: bool | None
    runs: tuple[BaselineRun, ...]


class Unreadable(Exception):
    """Why a file is not taken for what was evaluated; it stands after the baseline's name."""


def path_of(suite_path: Path, name: str) -> Path:
    """Where a suite's baseline of this name is kept."""
    return suite_path.parent / FOLDER / f"{suite_path.stem}.{name}.parquet"


def names(suite_path: Path) -> list[str]:
    """The baselines that a suite has as files."""
    begin, end = path_of(suite_path, "\n").name.split("\n")
    files = [path.name for path in (suite_path.parent / FOLDER).glob("*")]
    found = [file.removeprefix(begin).removesuffix(end) for file in files if file.startswith(begin)]
    return sorted(name for name in found if re.fullmatch(ID_PATTERN, name) and begin + name + end in files)


def wanted(suite: Suite) -> tuple[list[str], list[str]]:
    """The models and splits that a suite's gates and expectations name: what a rule may be held against."""
    models: dict[str, None] = {}
    splits: dict[str, None] = {}
    for rule in [*of_gates(suite), *of_expectations(suite)]:
        models |= {name: None for name in (rule.model, rule.reference) if name is not None}
        splits |= {name: None for name in (rule.split, rule.elsewhere) if name is not None}
    return list(models), list(splits)


def of_stored(
    suite: Suite, workspace: Workspace, model_ids: Collection[str], split_ids: Collection[str]
) -> BaselineFile:
    """A baseline of the suite's current runs.

    Args:
        model_ids: these models.
        split_ids: on these splits.

    Raises:
        UsageError: some of these runs are not stored as they would be scored now.
        StoreError: there is no store.
    """
    jobs = plan(suite, gather(suite, workspace), workspace, model_ids=model_ids, split_ids=split_ids)
    with opened(workspace.db, read_only=True) as connection:
        found = results.of(connection, jobs)
    if found.missing:
        raise UsageError("\n".join(["a baseline needs all of its runs:", *found.missing.values()]))
    runs = [
        kept_of(run, outcomes)
        for place, many in found.runs.items()
        for run, outcomes in zip(many, found.outcomes[place], strict=True)
    ]
    git_commit, git_dirty = provenance.git(workspace.suite_path.resolve().parent)
    return BaselineFile(suite.name, suite.digest, provenance.now(), git_commit, git_dirty, tuple(runs))


def kept_of(run: Run, outcomes: Outcomes) -> BaselineRun:
    """What is kept of a run."""
    said = zip(outcomes.example_ids, outcomes.predicted.tolist(), outcomes.scores.tolist(), strict=True)
    fields = {name: getattr(run, name) for name in BaselineRun.__dataclass_fields__ if name != "predictions"}
    return BaselineRun(**fields, predictions=tuple(Prediction(*one) for one in said))


def write(path: Path, kept: BaselineFile) -> None:
    """Keep a baseline as a file, which appears whole or not at all. The same content gives the same bytes.

    Raises:
        UsageError: the file cannot be written.
    """
    about = _about(kept)
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
        schema=SCHEMA,
    )
    metadata = {ABOUT: json.dumps(about, sort_keys=True, allow_nan=False), DIGEST: _digest(about, rows.to_pydict())}
    with (
        atomic.replacing(path) as fresh,
        pq.ParquetWriter(
            fresh,
            SCHEMA,
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
    """A baseline's file, held to the digest that was written into it.

    Args:
        suite: name of the suite that it must be of.

    Raises:
        Unreadable: it is no baseline, has another release's schema, is damaged, was edited, or is of another suite.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            metadata = file.metadata.metadata or {}
            about = json.loads(metadata[ABOUT])
            if about["version"] != VERSION:
                raise Unreadable(f"{path} has schema {about['version']!r}, this release reads {VERSION}; set it anew")
            if not file.schema_arrow.equals(SCHEMA):
                raise ValueError("it has other columns")
            columns = file.read().to_pydict()
        whole = metadata[DIGEST].decode() == _digest(about, columns)
        kept = _kept(about, columns) if whole else None
    except (pa.ArrowException, OSError, *NO_KEPT) as problem:
        reason = (str(problem).splitlines() or [""])[0]
        raise Unreadable(f"{path} is damaged or is no baseline ({reason}); restore it or set it anew") from None
    if kept is None:
        raise Unreadable(f"was edited: {path} is not as `harness baseline set` wrote it; restore it or set it anew")
    if kept.suite != suite:
        raise Unreadable(f"{path} is of the suite {kept.suite!r}, not of {suite!r}")
    return kept


def _about(kept: BaselineFile) -> dict[str, Any]:
    """All but the predictions, as JSON-able values."""
    runs = [
        {name: getattr(run, name) for name in BaselineRun.__dataclass_fields__ if name != "predictions"}
        for run in kept.runs
    ]
    fields = {name: getattr(kept, name) for name in BaselineFile.__dataclass_fields__}
    return {"version": VERSION, **fields, "created_at": kept.created_at.isoformat(), "runs": runs}


def _kept(about: Mapping[str, Any], columns: Mapping[str, list[Any]]) -> BaselineFile:
    """What `_about` and the columns were made of. Whoever wrote the digest may have written anything else too."""
    printed = [{name: value for name, value in run.items() if name != "spec"} for run in about["runs"]]
    if any(CONTROL.search(text) for text in _texts([{**about, "runs": printed}, columns["example_id"]])):
        raise ValueError("a name holds control characters")
    said: dict[tuple[Any, ...], list[Prediction]] = {}
    for *run, example_id, predicted, score in zip(*columns.values(), strict=True):
        if predicted not in (0, 1) or not 0 <= score <= 1:
            raise ValueError(f"predicted {predicted!r} with {score!r}: not a class, or not a probability")
        said.setdefault(tuple(run), []).append(Prediction(example_id, predicted, score))
    for place, predictions in said.items():
        ids = {prediction.example_id for prediction in predictions}
        if None in ids or len(ids) < len(predictions):
            raise ValueError(f"{place[0]} says something of one example twice, or of none")
    runs = [
        run | {"predictions": said.get((run["model_id"], run["seed"], run["split_id"]), [])} for run in about["runs"]
    ]
    return TypeAdapter(BaselineFile).validate_python({**about, "runs": runs})


def _texts(value: Any) -> Iterator[str]:
    """Every string in a JSON value, keys included."""
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
