"""Provenance of a configuration's page: its declaration, its runs and their environments, its past.

The rows of `templates/model.html` that name digests, as finished text.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from harness.artifacts.plugins import Origin
from harness.records import Run
from harness.suite.load import by_id
from harness.suite.schema import Adapter, Model, PromptModel, Suite
from leaderboard.board.records import Past, ScoredRun
from leaderboard.pages import formats

Pairs = tuple[tuple[str, str], ...]
"""The terms and values of a definition list."""

PAST = 20
"""Number of a configuration's earlier runs that are shown, the newest ones."""


@dataclass(frozen=True, slots=True)
class RunRows:
    """A run's provenance, and the query that recomputes it."""

    title: str
    pairs: Pairs
    sql: str
    accuracy: str


@dataclass(frozen=True, slots=True)
class Environment:
    """The environment that some runs share."""

    runs: str
    pairs: Pairs


@dataclass(frozen=True, slots=True)
class PastRow:
    """An earlier run, or the present one."""

    commit: str
    split_id: str
    seed: str
    finished: str
    value: str
    interval: str
    current: bool
    """True if the page's other numbers come from it."""


def recompute_sql(run_id: str) -> str:
    """The statement that recomputes a run's accuracy and n from its stored predictions."""
    literal = run_id.replace("'", "''")
    return (
        "SELECT avg((prediction.predicted = example.label)::DOUBLE) AS accuracy, count(*) AS n\n"
        "FROM run\n"
        "JOIN prediction USING (run_id)\n"
        "JOIN example ON example.digest = run.split_digest AND example.example_id = prediction.example_id\n"
        f"WHERE run_id = '{literal}';"
    )


def declared(suite: Suite, model: Model) -> str:
    """The suite file's tables that define this configuration, as TOML without comments."""
    tables: list[tuple[str, BaseModel]] = [("[model]", model)]
    adapter_id, base_id = getattr(model, "adapter", None), getattr(model, "base", None)
    train_split_id = getattr(model, "train_split", None)
    if adapter_id is not None:
        adapter = by_id(suite.adapter, adapter_id)
        base_id = adapter.base
        train_split_id = adapter.train.split if isinstance(adapter, Adapter) else None
        tables.append(("[adapter]", adapter))
    if base_id is not None:
        tables += [("[base]", by_id(suite.base, base_id)), ("text", suite.text)]
    if isinstance(model, PromptModel):
        tables += [("[prompt]", by_id(suite.prompt, prompt_id)) for prompt_id in model.prompts]
        tables += [("[split]", by_id(suite.split, split_id)) for split_id in dict.fromkeys(model.training_splits)]
    if train_split_id is not None:
        tables.append(("[split]", by_id(suite.split, train_split_id)))
    return "\n".join(f"[{name}]\n{_toml(table.model_dump(mode='json', by_alias=True))}" for name, table in tables)


def _toml(table: Mapping[str, Any]) -> str:
    """The lines of a table; what was left out of the file stays out."""
    return "".join(f"{_key(key)} = {_value(value)}\n" for key, value in table.items() if value not in (None, {}))


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


def _value(value: Any) -> str:
    """JSON's strings, numbers, booleans and lists are TOML's too; its objects are not."""
    if isinstance(value, Mapping):
        inside = ", ".join(f"{_key(key)} = {_value(one)}" for key, one in value.items() if one is not None)
        return f"{{ {inside} }}"
    if isinstance(value, list):
        return f"[{', '.join(_value(one) for one in value)}]"
    return json.dumps(value, ensure_ascii=False)


def run_rows(scored: ScoredRun) -> RunRows:
    """A run with the digests of all its inputs."""
    run = scored.run
    pairs = {
        "run": run.run_id,
        "run key": run.run_key,
        "configuration": run.configuration,
        "split digest": run.split_digest,
        "adapter digest": run.adapter_digest or formats.ABSENT,
        "suite digest": run.suite_digest,
        "started": formats.time(run.started_at),
        "finished": formats.time(run.finished_at),
        "prediction": formats.seconds(run.seconds),
    }
    if (plugin := run.spec.get("plugin")) is not None:
        pairs["plug-in"] = str(Origin(**plugin))
    c = scored.confusion
    right = c.true_positive + c.true_negative
    labelled = right + c.false_positive + c.false_negative
    accuracy = formats.score(right / labelled if labelled else None)
    return RunRows(_title(run), tuple(pairs.items()), recompute_sql(run.run_id), accuracy)


def _title(run: Run) -> str:
    return run.split_id if run.seed is None else f"{run.split_id}, seed {run.seed}"


def environments(scored: Sequence[ScoredRun]) -> tuple[Environment, ...]:
    """Runs grouped by environment: usually all have the same, and differences show."""
    runs_of: dict[Pairs, list[str]] = {}
    for run in (item.run for item in scored):
        runs_of.setdefault(_surroundings(run), []).append(_title(run))
    return tuple(
        Environment("all runs" if len(runs_of) == 1 else "; ".join(titles), pairs) for pairs, titles in runs_of.items()
    )


def _surroundings(run: Run) -> Pairs:
    return (("git commit", _commit(run)), *_sorted_pairs(run.hardware), *_sorted_pairs(run.packages))


def _commit(run: Run | Past) -> str:
    dirty = {True: " with uncommitted changes", False: "", None: ""}[run.git_dirty]
    return f"{run.git_commit}{dirty}" if run.git_commit is not None else formats.ABSENT


def _sorted_pairs(table: Mapping[str, object]) -> Pairs:
    return tuple((name, str(value)) for name, value in sorted(table.items()))


def past_rows(past: Sequence[Past], current: Sequence[ScoredRun]) -> tuple[PastRow, ...]:
    """A configuration's runs over commits, the newest first; none while all are of one commit."""
    if len({run.git_commit for run in past}) < 2:
        return ()
    shown = {scored.run.run_id for scored in current}
    return tuple(
        PastRow(
            commit=_commit(run)[:10] + (" (changed)" if run.git_dirty else ""),
            split_id=run.split_id,
            seed=formats.seed(run.seed),
            finished=formats.time(run.finished_at),
            value=formats.score(run.value),
            interval=formats.interval(run.ci_low, run.ci_high),
            current=run.run_id in shown,
        )
        for run in past[:PAST]
    )
