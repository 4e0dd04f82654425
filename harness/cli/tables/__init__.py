"""Tables of results on stdout, rendered from finished rows. An absent number is a dash."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.text import Text

from harness.cli.tables.cells import interval, number, print_lines, print_table, styled, text, wrapped
from harness.gates.watch import Watch
from harness.output.visible import visible
from harness.records import Expected, Run, Verdict
from harness.stats.drift import COMMITS_PER_ALARM
from harness.stats.metrics import METRICS
from leaderboard.board.answers import Answer
from leaderboard.board.curves import CurveResult
from leaderboard.pages.answers import sentence
from leaderboard.pages.curves import sentences as curve_sentences
from leaderboard.pages.formats import minus

Row = Mapping[str, Any]
ANSWERED = 12
"""Largest number of adapters that are answered for; a board has them all."""
LISTED = 5
"""Number of examples, or groups of them, that are listed for each finding."""


def show_splits(suite: str, rows: Sequence[Row]) -> None:
    """Show the splits of `harness data`."""
    columns = ["split", "use", "n", "positive", "clusters", "digest"]
    cells = []
    for r in rows:
        counts = [f"{r['n']:,}", f"{r['positives']:,}", text(r["clusters"])]
        cells.append([r["split"], r["use"], *counts, r["digest"][:16]])
    print_table(f"{suite}: splits", columns, cells, numbers=["n", "positive", "clusters"])


def show_audit(rows: Sequence[Row], beginnings: Mapping[str, str]) -> None:
    """Show the audit: counts by split, token lengths, overlap, and the first examples of each finding.

    Args:
        rows: each with `split` and its `audit`.
        beginnings: beginnings of examples, by id; empty if texts must not be shown.
    """
    texts: list[list[str]] = []
    tokens: list[list[str]] = []
    overlap: list[list[str]] = []
    named: list[list[str]] = []
    for split, found in ((row["split"], row["audit"]) for row in rows):
        counts = [found["exact_duplicates"]["rows"], found["conflicting_labels"]["rows"]]
        counts += [_nearly(found), found["empty"]["titles"], found["empty"]["contents"]]
        texts.append([split, *(f"{count:,}" for count in (*counts, found["not_english"]["rows"]))])
        tokens += [[split, base, *_lengths(lengths)] for base, lengths in found["tokens"].items()]
        for train, shared in found.get("overlap", {}).items():
            counts = [len(shared["exact"]), len(shared["normalised"]), len(shared["near"])]
            overlap.append([train, split, *(f"{count:,}" for count in counts)])
        named += [[split, *finding] for finding in _named(found, beginnings)]
    columns = ["split", "repeated", "of both labels", "nearly equal", "no title", "no content", "not English?"]
    print_table("rows to look at", columns, texts, numbers=columns[1:])
    if tokens:
        columns = ["split", "base", "shortest", "median", "90 %", "99 %", "longest", "cut at", "are cut", "share"]
        print_table("tokens", columns, tokens, numbers=columns[2:])
    if overlap:
        columns = ["trained on", "scored", "equal rows", "rewritten rows", "nearly equal pairs"]
        print_table("overlap", columns, overlap, numbers=columns[2:])
    if named:
        print_table("which rows", ["split", "finding", "examples", "begin with"][: 4 if beginnings else 3], named)


def _nearly(found: Row) -> int:
    """Count the rows that nearly equal another one, or are a rewritten form of one."""
    pairs = [ids for *ids, _ in found["near_duplicates"]["ids"]]
    return len({one for ids in (*pairs, *found["normalised_duplicates"]["ids"]) for one in ids})


def _lengths(tokens: Row | None) -> list[str]:
    if tokens is None:
        return ["–"] * 8
    quantiles = [f"{value:,.0f}" for value in tokens["quantiles"].values()]
    share = f"{100 * tokens['truncated_share']:.1f} %"
    return [*quantiles, f"{tokens['max_length']:,}", f"{tokens['truncated']:,}", share]


def _named(found: Row, beginnings: Mapping[str, str]) -> list[list[str]]:
    """List the first few examples of each finding: its kind, their ids, and their beginnings if these may be shown."""
    kinds = {
        "repeated": [("", ids) for ids in found["exact_duplicates"]["ids"]],
        "of both labels": [("", ids) for ids in found["conflicting_labels"]["ids"]],
        "rewritten": [("", ids) for ids in found["normalised_duplicates"]["ids"]],
        "nearly equal": [(f"{similarity:.2f}", ids) for *ids, similarity in found["near_duplicates"]["ids"]],
        "no content": [("", [one]) for one in found["empty"]["content_ids"]],
        "not English?": [(f"{language} {sure:.2f}", [one]) for one, language, sure in found["not_english"]["ids"]],
    }
    for train, shared in found.get("overlap", {}).items():
        kinds[f"equals one of {train}"] = [("", ids) for ids in shared["exact"]]
        kinds[f"reads as one of {train}"] = [("", ids) for ids in shared["normalised"]]
        kinds[f"nearly equals one of {train}"] = [(f"{similarity:.2f}", ids) for *ids, similarity in shared["near"]]
    cells = []
    for kind, listed in kinds.items():
        for note, ids in listed[:LISTED]:
            shown = ids[:LISTED]
            texts = ["\n".join(beginnings.get(one, "") for one in shown)] if beginnings else []
            cells.append([f"{kind} {note}".strip(), "\n".join(shown), *texts])
        if len(listed) > LISTED:
            cells.append([kind, f"and {len(listed) - LISTED:,} more, listed by --json", *([""] if beginnings else [])])
    return cells


def show_adapters(suite: str, rows: Sequence[Row]) -> None:
    """Show the adapters on disk after `harness train`."""
    columns = ["adapter", "method", "seed", "trainable", "train s", "bytes", "folder"]
    cells = []
    for r in rows:
        cost = [f"{r['n_trainable']:,}", number(r["train_seconds"], 1), f"{r['size_bytes']:,}"]
        cells.append([r["adapter_id"], r["method"], str(r["seed"]), *cost, r["folder"]])
    print_table(f"{suite}: adapters", columns, cells, numbers=columns[2:6])


def show_results(suite: str, metric: str, rows: Sequence[Row]) -> None:
    """Show the results of `harness evaluate`."""
    columns = ["split", "model", "seeds", metric, "95 % interval", "n"]
    cells = []
    for r in _ranked(metric, rows):
        value = [number(r["value"]), interval(r["ci_low"], r["ci_high"])]
        cells.append([r["split"], r["model"], str(r["seeds"]), *value, f"{r['n']:,}"])
    print_table(f"{suite}: {metric}, mean over seeds", columns, cells, numbers=columns[2:])


def _ranked(metric: str, rows: Sequence[Row]) -> list[Row]:
    """Rows from best to worst within each split; those without a value last."""
    splits = list(dict.fromkeys(row["split"] for row in rows))
    sign = -1 if METRICS[metric].higher_is_better else 1
    return sorted(rows, key=lambda r: (splits.index(r["split"]), r["value"] is None, sign * (r["value"] or 0.0)))


def show_answers(answers: Sequence[Answer], metric: str, verdicts: Sequence[Verdict] = ()) -> None:
    """Answer for every adapter if it is better than its base; those without any runs are left out.

    Args:
        metric: the suite's primary one.
        verdicts: of the suite's gates, where they were judged.
    """
    known = [one for one in answers if one.lead is not None]
    said = [line for one in known[:ANSWERED] for line in wrapped(sentence(one, metric, verdicts))]
    more = [f"{len(known) - ANSWERED:,} more adapters: see the board."] if len(known) > ANSWERED else []
    if known:
        print_lines("", *said, *more)


def show_curves(curves: Sequence[CurveResult]) -> None:
    """Say for every learning curve from how many training rows on its model beats each of the others."""
    for one in curves:
        said = [line for sentence in curve_sentences(one) for line in wrapped(sentence)]
        print_lines("", *said)


def curves_of(curves: Sequence[CurveResult]) -> list[Row]:
    """Learning curves as JSON: crossovers, and the metric by number of training rows."""
    return [
        {
            "curve": one.curve.id,
            "model": one.curve.model,
            "split": one.curve.split,
            "crossovers": [
                {"against": pair.other_id, **(pair.crossover._asdict() if pair.crossover else {"rows": None})}
                for pair in one.pairs
            ],
            "points": [
                {"model": line.model_id, "rows": place.rows, "seeds": len(place.runs), **asdict(place.metric)}
                for line in one.lines
                for place in line.places
            ],
        }
        for one in curves
    ]


def show_judged(verdicts: Sequence[Verdict], passed: bool) -> None:
    """Say in a sentence what the gates come to."""
    counted = ", ".join(
        f"{n} {word}"
        for outcome, word in (("pass", "passed"), ("fail", "failed"), ("inconclusive", "inconclusive"))
        if (n := sum(verdict.outcome == outcome for verdict in verdicts))
    )
    print_lines(Text.assemble("Gates: ", styled("pass" if passed else "fail"), f" ({counted})"))


def show_next(command: str, why: str) -> None:
    """Name the next step."""
    print_lines(f"next: {command}  ({why})")


def show_verdicts(suite: str, verdicts: Sequence[Verdict]) -> None:
    """Show the verdicts of `harness gate`."""
    rows = []
    for verdict in verdicts:
        tolerated = "" if verdict.blocking or verdict.outcome == "pass" else " (warning)"
        rows.append((verdict.outcome + tolerated, verdict.gate_id, minus(verdict.reason)))
    _show_rules(f"{suite}: gates", rows)


def show_expected(suite: str, expected: Sequence[Expected]) -> None:
    """Show the answers to a suite's expectations, and whether these were stated before the runs."""
    stated = {True: "stated before the runs", False: "stated after the runs", None: "not run yet"}
    rows = [(one.answer, one.rule, f"{minus(one.reason)}; {stated[one.stated_first]}") for one in expected]
    _show_rules(f"\n{suite}: expectations", rows)


def _show_rules(title: str, rows: Sequence[tuple[str, str, str]]) -> None:
    """Show outcomes, rules and numbers; the model and split that rules begin with are named once above them."""
    places: dict[str, list[tuple[str, str, str]]] = {}
    for outcome, rule, numbers in rows:
        place, _, rest = rule.partition(": ")
        places.setdefault(place, []).append((outcome, rest or rule, numbers))
    first = max((len(outcome) for outcome, _, _ in rows), default=0) + 2
    second = max((len(rule.partition(": ")[2] or rule) for _, rule, _ in rows), default=0) + 2
    lines: list[str | Text] = [Text(visible(title), style="bold")]
    for place, those in places.items():
        lines.append(place)
        for outcome, rule, numbers in those:
            beside = wrapped(numbers, first + second)
            head = Text.assemble(styled(outcome), " " * (first - len(outcome)), visible(rule))
            if len(beside) == 1:
                lines.append(Text.assemble(head, " " * (second - len(rule)), visible(beside[0])))
            else:
                folded = wrapped(rule, first)
                lines.append(Text.assemble(styled(outcome), " " * (first - len(outcome)), visible(folded[0])))
                lines += [" " * first + line for line in (*folded[1:], *wrapped(numbers, first))]
    print_lines(*lines)


def show_baselines(suite: str, rows: Sequence[Row]) -> None:
    """Show the baselines beside the suite."""
    columns = ["baseline", "made at (UTC)", "commit", "models", "splits", "runs", "n", "bytes"]
    cells = []
    for r in rows:
        commit = text(r["git_commit"])[:12] + (" and changes" if r["git_dirty"] else "")
        made_at = "–" if r["created_at"] is None else f"{r['created_at']:%Y-%m-%d %H:%M:%S}"
        of = ["–" if r[name] is None else ", ".join(r[name]) for name in ("models", "splits")]
        counts = ["–" if r[name] is None else f"{r[name]:,}" for name in ("runs", "n", "bytes")]
        cells.append([r["name"], made_at, commit, *of, *counts])
    print_table(f"{suite}: baselines", columns, cells, numbers=columns[5:])


def show_watch(suite: str, watch: Watch) -> None:
    """Show what a suite's models came to from commit to commit, and answer whether any has fallen for good."""
    columns = ["split", "model", "commits", "now", "evidence", "alarm at"]
    cells = []
    for one in watch.series:
        shown = [f"{one.commits:,}", minus(f"{one.value:+z.3f}"), f"{one.evidence:,.1f}", f"{one.alarm_at:,.0f}"]
        cells.append([one.split, one.model, *shown])
    metric = watch.series[0].metric if watch.series else ""
    print_table(f"{suite}: {metric} minus that of baseline {watch.baseline}", columns, cells, numbers=columns[2:])
    known = [one for one in watch.series if not one.is_new]
    lines = [
        f"{one.model} on {one.split} has fallen for good, most likely since "
        f"{'commit ' + one.falling_since[:12] if one.falling_since else 'then'}, {one.falling_for} commits ago."
        for one in watch.alarms
    ] or [f"No lasting fall; a false alarm is raised at most once in {COMMITS_PER_ALARM:,} unchanged commits."]
    if known:
        names = ", ".join(f"{one.model} on {one.split}" for one in known)
        lines.append(f"Nothing new was recorded of {names}: its commit or its weights are known.")
    print_lines(*(line for text in lines for line in wrapped(text)))


def show_runs(store: str, runs: Sequence[Run]) -> None:
    """Show the runs of `harness ls`."""
    columns = ["run", "status", "suite", "model", "seed", "split", "accuracy", "started (UTC)"]
    cells = []
    for run in runs:
        accuracy = next((metric.value for metric in run.metrics if metric.name == "accuracy"), None)
        place = [run.suite, run.model_id, text(run.seed), run.split_id]
        cells.append([run.run_id[:12], run.status, *place, number(accuracy), f"{run.started_at:%Y-%m-%d %H:%M:%S}"])
    print_table(f"{len(runs)} runs in {store}", columns, cells, numbers=["seed", "accuracy"])


def show_run(run: Run) -> None:
    """Show one run and its metrics."""
    facts = [[name, text(value)] for name, value in asdict(run).items() if name != "metrics"]
    print_table(f"run {run.run_id}", ["field", "value"], facts)
    cells = [[m.name, number(m.value), interval(m.ci_low, m.ci_high), f"{m.n:,}"] for m in run.metrics]
    columns = ["metric", "value", "95 % interval", "n"]
    print_table("metrics", columns, cells, numbers=columns[1:])
