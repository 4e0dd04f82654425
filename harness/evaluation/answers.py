"""Answers of a system that runs elsewhere: read from a file and matched to the rows of the scored splits.

Every row of a split needs exactly one answer. The file is digested and compared with its pin each time, so that a run
stands for the answers that the suite names.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness.artifacts import digest
from harness.data import local_file, text_file
from harness.data.source import Places
from harness.errors import DataError
from harness.records import Example, Split
from harness.suite.schema import AnswerColumns, FileSplit, PredictionsModel, Text
from harness.suite.splits import canonical

NAMED = 3
"""Number of rows that a refusal names."""
_BATCH_ROWS = 10_000


class MissingAnswersError(ValueError):
    """A row of a split has no answer."""


@dataclass(frozen=True, slots=True)
class Given:
    """The answers of one model."""

    scores: Mapping[str, float]
    """Probability of class 1 by example id, for the splits that are answered."""
    problems: Mapping[str, str]
    """The reason for each split that is not answered."""


def given(model: PredictionsModel, text: Text, splits: Sequence[Split], places: Places) -> Given:
    """Read a model's answers for splits; a split whose rows do not each have one answer gets none."""
    who = f"model {model.id}: {model.path}"
    try:
        path = local_file.find(model.path, places, who)
        if (found := digest.of_file(path)) != model.sha256:
            raise DataError(f"{who}: has sha256 {found}, but the suite pins {model.sha256}; the answers were changed")
        by_key = _by_key(path, model, who)
    except DataError as problem:
        return Given({}, {split.split_id: str(problem) for split in splits})
    scores: dict[str, float] = {}
    problems = {}
    for split in splits:
        try:
            matched = match_rows(by_key, model.columns, text, split)
            if any(scores.get(example_id, score) != score for example_id, score in matched.items()):
                raise ValueError("answers an example otherwise than in another split, though it is the same")
            scores |= matched
        except ValueError as problem:
            problems[split.split_id] = f"{who}: {problem}"
    return Given(scores, problems)


def _by_key(path: Path, model: PredictionsModel, who: str) -> dict[str, list[float]]:
    """Scores by example id, row number or text, in the file's order."""
    columns = model.columns
    key, answer = columns.key, columns.score or columns.label
    assert answer is not None
    found: dict[str, list[float]] = defaultdict(list)
    rows, number = _rows(path, model, who), 1
    try:
        for row in rows:
            if absent := [name for name in (key, answer) if name not in row]:
                raise ValueError(f"has no column {absent[0]!r} (found: {', '.join(map(str, row))}); correct `columns`")
            value = row[key]
            if value is None or (columns.row and not str(value).isdecimal()):
                raise ValueError(f"{key} is {value!r}; it must be {'a number from 0' if columns.row else 'given'}")
            named = str(int(value)) if columns.row else str(value)
            found[named].append(_score(row[answer], model))
            number += 1
    except (pa.ArrowException, OSError) as problem:
        raise DataError(f"{who}: is not readable as Parquet ({problem}); get a new copy") from None
    except ValueError as problem:
        raise DataError(f"{who}: row {number}: {problem}") from None
    return found


def _rows(path: Path, model: PredictionsModel, who: str) -> Iterator[Mapping[Any, Any]]:
    if model.format == "parquet":
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH_ROWS):
                yield from batch.to_pylist()
        return
    codec = text_file.COMPRESSIONS.get(path.suffix.lower())
    lines = text_file.lines(path, codec, model.encoding, who)
    if model.format == "jsonl":
        yield from local_file.cells(lines, FileSplit(id="rows", source="file", path=path.name, format="jsonl"))
        return
    table = local_file.csv_rows(lines, model.delimiter or ",")
    header = next(table, [])
    for row in table:
        if row and len(row) != len(header):
            raise ValueError(f"has {len(row)} columns, but the header has {len(header)}")
        if row:
            yield dict(zip(header, row, strict=True))


def _score(value: Any, model: PredictionsModel) -> float:
    """A score, or the one that a label stands for."""
    if model.columns.score is None:
        classes = model.labels.classes if model.labels else {"0": 0, "1": 1}
        label = classes.get(canonical(value))
        if label is None:
            raise ValueError(f"answer {value!r:.40} means neither class; declare it in `labels`, or score that row")
        return float(label)
    try:
        score = float(value)
    except (TypeError, ValueError):
        score = math.nan
    if isinstance(value, bool) or not 0 <= score <= 1:
        raise ValueError(f"score {value!r:.40} is not a probability of positive, from 0 to 1")
    return score


def match_rows(
    by_key: Mapping[str, Sequence[float]], columns: AnswerColumns, text: Text, split: Split
) -> dict[str, float]:
    """Match answers to the rows of a split, one to each.

    Args:
        by_key: scores by example id, row number or text.
        columns: states which of these the keys are.

    Returns:
        Scores by example id.

    Raises:
        MissingAnswersError: a row has no answer.
        ValueError: a row has more than one, or an answer is for no row.
    """
    examples = split.examples
    rendered = any(text.render(example.title, example.content) in by_key for example in examples[:100])

    def key_of(place: int, example: Example) -> str:
        if columns.example:
            return example.example_id
        if columns.row:
            return str(place)
        return text.render(example.title, example.content) if rendered else example.content

    wanted: dict[str, list[str]] = defaultdict(list)
    for place, example in enumerate(examples):
        wanted[key_of(place, example)].append(example.example_id)
    missing = [example_id for key, ids in wanted.items() if key not in by_key for example_id in ids]
    if missing:
        raise MissingAnswersError(f"has no answer for {len(missing):,} of {len(examples):,} rows ({_some(missing)})")
    scores: dict[str, float] = {}
    for key, ids in wanted.items():
        answers = by_key[key]
        if len(answers) > len(ids) or len(set(answers)) > 1:
            raise ValueError(f"answers {len(answers)} times for {len(ids)} row ({key!r:.60}); one answer is needed")
        scores |= dict.fromkeys(ids, answers[0])
    if columns.row and (strange := by_key.keys() - wanted.keys()):
        raise ValueError(f"answers {len(strange):,} rows beyond the {len(examples):,} of split {split.split_id!r}")
    return scores


def _some(ids: Sequence[str]) -> str:
    more = f"; and {len(ids) - NAMED:,} more" if len(ids) > NAMED else ""
    return ", ".join(ids[:NAMED]) + more
