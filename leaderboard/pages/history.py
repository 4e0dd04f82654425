"""A model's score over its evaluations, as the plot above the table of its runs over commits."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from leaderboard.board.records import Board, Past, ScoredRun
from leaderboard.pages import formats, links
from leaderboard.pages.gallery import Plot
from leaderboard.plots import svg

SHOWN = 12
"""Number of evaluations in the plot, the newest ones."""


def history_plot(board: Board, model_id: str, current: Sequence[ScoredRun]) -> Plot | None:
    """The primary metric on the suite's first split by evaluation; None with fewer than two evaluations.

    Args:
        current: the runs that the model's page is about.
    """
    split_id, metric = board.sections[0].split.id, formats.metric_name(board.suite.primary_metric)
    told = [run for run in board.past.get(model_id, ()) if run.split_id == split_id and run.value is not None]
    began = _began(told)
    names = {key: f"{_commit(run)}|{began[key]:%Y-%m-%d %H:%M}" for run in told if (key := _key(run))}
    order = list(dict.fromkeys(names[key] for key in sorted(began, key=lambda key: (began[key], key))))
    if len(order) < 2:
        return None
    kept, on_page = order[-SHOWN:], {scored.run.run_id for scored in current}
    shown = sorted(
        (run for run in told if names[_key(run)] in kept),
        key=lambda run: (kept.index(names[_key(run)]), run.seed or 0, run.finished_at, run.run_id),
    )
    rows = [_row(run, names[_key(run)], run.run_id in on_page) for run in shown]
    drawn = svg.history(
        rows, metric, plot_id=f"{links.split_anchor(board.suite.name, split_id)}:history",
        title=f"{metric} on {split_id} over evaluations",
    )  # fmt: skip
    last = f", the last {SHOWN} of {formats.count(len(order))} evaluations" if len(order) > SHOWN else ""
    return Plot(
        drawn,
        f"{metric} on {split_id} of every run with its 95 % interval, in chronological order{last}, labelled by "
        "commit; seeds are side by side. The runs of this page are in colour. Rings have uncommitted changes.",
    )


def _key(run: Past) -> str:
    return run.evaluation_id or run.run_id


def _began(past: Sequence[Past]) -> dict[str, datetime]:
    """End of each evaluation's first run."""
    found: dict[str, datetime] = {}
    for run in past:
        found[_key(run)] = min(run.finished_at, found.get(_key(run), run.finished_at))
    return found


def _commit(run: Past) -> str:
    return (run.git_commit or formats.ABSENT)[:7] + (" changed" if run.git_dirty else "")


def _row(run: Past, evaluation: str, current: bool) -> dict[str, Any]:
    seed = f", seed {run.seed}" if run.seed is not None else ""
    told = f"{formats.score(run.value)} {formats.interval(run.ci_low, run.ci_high)}".strip()
    return {
        "evaluation": evaluation, "seed": formats.seed(run.seed), "value": run.value, "low": run.ci_low,
        "high": run.ci_high, "current": current, "dirty": bool(run.git_dirty),
        "says": f"{_commit(run)}, {formats.time(run.finished_at)}{seed}: {told}",
    }  # fmt: skip
