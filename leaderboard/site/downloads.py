"""The board as data: the same rows as CSV, JSON and Parquet. Full precision, in the units that column names state."""

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import parquet

from harness.records import Metric
from harness.stats.metrics import METRICS
from leaderboard.board.answers import of_model
from leaderboard.board.records import Board, Entry, Section
from leaderboard.pages import links
from leaderboard.pages.matrix import drop

if TYPE_CHECKING:
    import pandas as pd

_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def files(board: Board) -> dict[str, str | bytes]:
    """The board's data files by relative path. One row for each model and split; absent values are empty or null."""
    schema, rows = columns(board), rows_of(board)
    names = links.downloads(board.suite.name)
    about = {
        "suite": board.suite.name,
        "suite_digest": board.suite.digest,
        "primary_metric": board.suite.primary_metric,
        "higher_is_better": {spec.name: METRICS[spec.name].higher_is_better for spec in board.suite.metric},
        "confidence": 0.95,
        "entries": rows,
    }
    return {
        names["CSV"]: _csv(list(schema), rows),
        names["JSON"]: json.dumps(about, ensure_ascii=False, allow_nan=False, indent=1) + "\n",
        names["Parquet"]: _parquet(schema, rows),
    }


def rows_of(board: Board) -> list[dict[str, Any]]:
    """One row for each split and model, by the names of `columns`."""
    return [_row(board, section, entry) for section in board.sections for entry in section.entries]


def frame(board: Board) -> "pd.DataFrame":
    """The same numbers with one row for each split, model and metric; absent ones are NaN or <NA>."""
    import pandas as pd

    costs = {
        "n_trainable": "Int64",
        "size_bytes": "Int64",
        "train_seconds": "float64",
        "examples_per_second": "float64",
    }
    types = {
        "split": "str", "model": "str", "metric": "str", "value": "float64", "ci_low": "float64", "ci_high": "float64",
        "n": "Int64", "n_seeds": "Int64", "tier": "Int64",
    }  # fmt: skip
    rows = [
        (row["split"], row["model"], spec.name, *(row[f"{spec.name}{end}"] for end in ("", "_ci_low", "_ci_high")),
         row["n"], row["n_seeds"], row["tier"], *(row[cost] for cost in costs))
        for row in rows_of(board)
        for spec in board.suite.metric
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=[*types, *costs]).astype(types | costs)


def columns(board: Board) -> dict[str, type]:
    """Names and types of the columns, in order."""
    found: dict[str, type] = {
        "suite": str, "split": str, "split_digest": str, "n": int, "n_clusters": int, "model": str, "method": str,
        "base": str, "backend": str, "tier": int, "ranked": bool, "untrained_head": bool, "badges": str, "proofs": str,
        "n_seeds": int, "n_seeds_declared": int, "n_trainable": int, "size_bytes": int, "train_seconds": float,
        "peak_bytes": int, "trials": int, "examples_per_second": float,
    }  # fmt: skip
    found |= {"against": str}
    for name in [*(spec.name for spec in board.suite.metric), "drop", "against_base"]:
        found |= {name: float, f"{name}_ci_low": float, f"{name}_ci_high": float}
    return found


def _row(board: Board, section: Section, entry: Entry) -> dict[str, Any]:
    fixed = {
        "suite": board.suite.name, "split": section.split.id, "split_digest": section.split_digest, "n": section.n,
        "n_clusters": section.n_clusters, "model": entry.model_id, "method": entry.method, "base": entry.base_id,
        "backend": entry.backend, "tier": entry.tier, "ranked": entry.ranked, "untrained_head": entry.untrained_head,
        "badges": "; ".join(entry.badges), "proofs": "; ".join(entry.proofs), "n_seeds": len(entry.runs),
        "n_seeds_declared": len(entry.expected_seeds), "n_trainable": entry.n_trainable, "size_bytes": entry.size_bytes,
        "train_seconds": entry.train_seconds, "peak_bytes": entry.peak_bytes,
        "trials": entry.trials, "examples_per_second": entry.examples_per_second,
    }  # fmt: skip
    for spec in board.suite.metric:
        fixed |= _numbers(spec.name, entry.metrics.get(spec.name))
    first = board.sections[0]
    home = next((found for found in board.entries_of(entry.model_id) if found.split_id == first.split.id), None)
    fallen = drop(home.primary, entry.primary) if home is not None and section is not first else None
    fixed |= dict(zip(("drop", "drop_ci_low", "drop_ci_high"), fallen or (None, None, None), strict=True))
    return fixed | _against_base(section, entry)


def _against_base(section: Section, entry: Entry) -> dict[str, Any]:
    """The model that shows the entry's base, and the lead over it: positive is better, in the metric's unit."""
    answer = of_model(section.answers, entry.model_id)
    lead = answer.lead if answer is not None else None
    against = answer.base.model_id if answer is not None and answer.base is not None else None
    found = (lead.value, lead.ci_low, lead.ci_high) if lead is not None else (None, None, None)
    names = ("against_base", "against_base_ci_low", "against_base_ci_high")
    return {"against": against, **dict(zip(names, found, strict=True))}


def _numbers(name: str, metric: Metric | None) -> dict[str, float | None]:
    found = (metric.value, metric.ci_low, metric.ci_high) if metric is not None else (None, None, None)
    return dict(zip((name, f"{name}_ci_low", f"{name}_ci_high"), found, strict=True))


def _csv(names: list[str], rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    out = csv.DictWriter(text, names, lineterminator="\n")
    out.writeheader()
    out.writerows(rows)
    return text.getvalue()


def _parquet(schema: dict[str, type], rows: list[dict[str, Any]]) -> bytes:
    typed = pa.schema([(name, _TYPES[kind]) for name, kind in schema.items()])
    out = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows, schema=typed), out)
    return out.getvalue()
