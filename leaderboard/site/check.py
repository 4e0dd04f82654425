"""Check of a site against the store: every number recomputed, every file compared with a new rendering.

A number that a page marks, `<data value=… data-metric=… data-model=… data-split=…>`, is recomputed in SQL from the
predictions of its runs (`harness.store.sql_metrics`), which nothing else of the site uses. A difference has
`data-minus`, the number of a single run `data-seed`; counts of a confusion matrix are summed over runs. Predictions in
data files are counted too. The rest, such as intervals and words, is compared byte by byte with what the store renders
now.
"""

import base64
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from harness.records import Run
from harness.stats.metrics import METRICS
from harness.store.sql_metrics import Numbers
from leaderboard.board.records import Board
from leaderboard.pages import formats
from leaderboard.site.render import MANIFEST

TOLERANCE = 1e-9
"""Largest difference between a number of the site and the recomputed one, which is summed in another order."""
_COUNTED = ("true_", "false_")
"""Prefixes of the names of counts, which are summed over runs; metrics are averaged."""
NOT_SO = "differs from what the store renders now; render the site again, or find out who changed it"


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of a check."""

    numbers: int
    """Number of recomputed numbers."""
    files: int
    """Number of files that were compared with a new rendering."""
    problems: tuple[str, ...]
    """One line each, beginning with the file."""


@dataclass(frozen=True, slots=True)
class Marked:
    """A number that a page marks as recomputable."""

    line: int
    attributes: Mapping[str, str]
    text: str

    @property
    def what(self) -> str:
        """The number in words."""
        seed = f" seed {self.attributes['data-seed']}" if "data-seed" in self.attributes else ""
        minus = f" minus {self.attributes['data-minus']}" if "data-minus" in self.attributes else ""
        model, split = self.attributes.get("data-model", ""), self.attributes.get("data-split", "")
        return f"{self.attributes['data-metric']} of {model}{seed}{minus} on {split}"


def run_ids(boards: Sequence[Board]) -> set[str]:
    """Ids of all runs that these boards' numbers may come from."""
    return {run.run_id for board in boards for runs in _runs(board).values() for run in runs}


def check(
    files: Mapping[str, str | bytes], boards: Sequence[Board], out: Path, known: Mapping[str, Numbers]
) -> Checked:
    """Check a folder against the store.

    Args:
        files: what the store renders now, from `render`.
        boards: the source of that rendering; only the runs of each entry are used.
        out: the folder that `write` made at some time.
        known: by run id, the numbers that `sql_metrics` computed from the store's predictions.
    """
    runs = {board.suite.name: _runs(board) for board in boards}
    n_numbers, problems = 0, list(_left_over(files, out))
    for name, expected in files.items():
        path = out / name
        if not path.is_file():
            problems.append(f"{name}: is missing")
            continue
        data = path.read_bytes()
        if isinstance(expected, bytes):
            problems += [] if data == expected else [f"{name}: {NOT_SO}"]
            continue
        text = data.decode("utf-8", "replace")
        found: list[str] = []
        if name.endswith(".html"):
            suite = name.split("/")[0] if "/" in name else None
            for marked in numbers_of(text):
                n_numbers += 1
                found += _wrong(name, marked, runs.get(marked.attributes.get("data-suite") or suite or "", {}), known)
        elif "/predictions/" in name:
            counted, found = _wrong_predictions(name, text, known)
            n_numbers += counted
        problems += found or _changed(name, text, expected)
    return Checked(n_numbers, len(files), tuple(problems))


Runs = Mapping[tuple[str, str], tuple[Run, ...]]


def _runs(board: Board) -> Runs:
    """The runs behind each number of a board: of its entries, and of the points of its learning curves."""
    of_curves = {
        (place.label, result.curve.split): place.runs
        for result in board.curves
        for line in result.lines
        for place in line.places
    }
    return of_curves | {
        (entry.model_id, entry.split_id): tuple(scored.run for scored in entry.runs)
        for section in board.sections
        for entry in section.entries
    }


def numbers_of(page: str) -> list[Marked]:
    """The marked numbers of a page."""
    reader = _Numbers()
    reader.feed(page)
    reader.close()
    return reader.found


class _Numbers(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[Marked] = []
        self._open: tuple[int, dict[str, str]] | None = None
        self._text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "data" and "data-metric" in attributes:
            self._open, self._text = (self.getpos()[0], attributes), ""

    def handle_data(self, data: str) -> None:
        self._text += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "data" and self._open is not None:
            self.found.append(Marked(*self._open, self._text.strip()))
            self._open = None


def _wrong(name: str, marked: Marked, runs: Runs, known: Mapping[str, Numbers]) -> Iterator[str]:
    model, split = marked.attributes.get("data-model", ""), marked.attributes.get("data-split", "")
    value = _value(marked, runs.get((model, split), ()), known)
    if "data-minus" in marked.attributes:
        other = _value(marked, runs.get((marked.attributes["data-minus"], split), ()), known)
        value = value - other if value is not None and other is not None else None
    where = f"{name}, line {marked.line}: {marked.what}"
    if value is None:
        yield f"{where} is {marked.text} on the page; the store has no such number"
        return
    is_count = marked.attributes["data-metric"].startswith(_COUNTED)
    shown = {formats.score(value), formats.difference(value), formats.count(round(value)), repr(value)}
    if "data-minus" in marked.attributes:
        shown |= _as_lead(marked.attributes["data-metric"], value)
    try:
        said = float(marked.attributes.get("value", ""))
    except ValueError:
        said = math.nan
    if not math.isclose(said, value, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
        yield f"{where} has the value {said!r} on the page, {value!r} recomputed from its predictions"
    elif marked.text not in shown and marked.text not in (formats.score(said), formats.difference(said)):
        recomputed = formats.count(round(value)) if is_count else formats.score(value)
        yield f"{where} is {marked.text} on the page, {recomputed} recomputed from its predictions"


def _as_lead(name: str, difference: float) -> set[str]:
    """A difference as an advantage, which is positive where it is better."""
    lead = difference if METRICS[name].higher_is_better else -difference
    return {formats.difference(lead), formats.lead(name, lead).split(" ")[0]}


def _value(marked: Marked, runs: Sequence[Run], known: Mapping[str, Numbers]) -> float | None:
    """Mean over an entry's runs, or the sum of a count; of one run where a seed is named."""
    metric, seed = marked.attributes["data-metric"], marked.attributes.get("data-seed")
    chosen = [run for run in runs if seed is None or formats.seed(run.seed) == seed]
    values = [known.get(run.run_id, {}).get(metric) for run in chosen]
    told = [value for value in values if value is not None]
    if not told or len(told) < len(values):
        return None
    return sum(told) if metric.startswith(_COUNTED) else sum(told) / len(told)


def _wrong_predictions(name: str, text: str, known: Mapping[str, Numbers]) -> tuple[int, list[str]]:
    """Number of runs in a data file, and a problem for each whose counts of labels differ from the store's."""
    try:
        value = json.loads(text.split(",", 1)[1].rstrip().removesuffix(");"))
        packed = {
            run_id: np.frombuffer(base64.b64decode(answers), dtype="<u2") >> 15 for run_id, _, answers in value["runs"]
        }
        has_labels = value.get("holds") is None
    except (ValueError, IndexError, KeyError, TypeError):
        return 0, [f"{name}: is not a data file"]
    problems = []
    for run_id, predicted in packed.items():
        stored = known.get(run_id, {})
        positive = (stored.get("true_positive") or 0) + (stored.get("false_positive") or 0)
        if not has_labels:  # nothing is counted by label; the file is compared with a new rendering
            positive = float(predicted.sum())
        if (len(predicted), int(predicted.sum())) != (stored.get("n"), positive):
            problems.append(
                f"{name}: run {run_id} predicts positive for {int(predicted.sum())} of {len(predicted)} examples here, "
                f"for {positive:.0f} of {stored.get('n') or 0:.0f} in the store"
            )
    return len(packed), problems


def _changed(name: str, text: str, expected: str) -> list[str]:
    if text == expected:
        return []
    pairs = zip([*text.splitlines(), ""], [*expected.splitlines(), ""], strict=False)
    line = next((i for i, (one, other) in enumerate(pairs, start=1) if one != other), 0)
    return [f"{name}, line {line}: {NOT_SO}"]


def _left_over(files: Mapping[str, str | bytes], out: Path) -> Iterator[str]:
    """Files of an earlier rendering that the store no longer renders."""
    try:
        listed = json.loads((out / MANIFEST).read_bytes())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        yield f"{MANIFEST}: is missing or damaged; render the site again"
        return
    yield from (f"{name}: the store no longer renders this file" for name in listed if name not in files)
