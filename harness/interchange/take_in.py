"""Another harness's results as a model of a suite: matched to its rows, written as answers, pinned and declared.

    taken = take_in(suite, workspace, "gpt", [Path("samples_polarity.jsonl")])
    taken.path                     # the file of answers, one for each row, by example id
    taken.declaration              # the `[[model]]` that names it, added to the suite file

From there on it is a model with `backend = "predictions"`: its runs are made from declared and digested files alone.
"""

import json
import re
import tomllib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from harness.artifacts import atomic, digest
from harness.data import guess
from harness.errors import DataError, UsageError
from harness.evaluation.answers import MissingAnswersError, match_rows
from harness.evaluation.inputs import Workspace, load_splits
from harness.interchange import forms
from harness.interchange.samples import Log, Sample
from harness.output.visible import visible
from harness.records import Split
from harness.suite.fields import ID_PATTERN
from harness.suite.load import read_text
from harness.suite.schema import AnswerColumns, Labels, Suite
from harness.suite.splits import canonical
from harness.suite.text import Text

_BY_ID, _BY_TEXT = AnswerColumns(example="example", score="score"), AnswerColumns(text="text", score="score")
MOST_PAIRS = 25_000_000
"""Most pairs of a question and a row that are searched for the row's text inside the question."""
_EDGES = re.compile(r"^[\W_]+|[\W_]+$")
_LONGEST_ORIGIN = 300


@dataclass(frozen=True, slots=True)
class TakenIn:
    """Results that became a model of a suite."""

    model_id: str
    path: Path
    """The file of answers."""
    declaration: str
    """The `[[model]]` in the suite file."""
    splits: tuple[str, ...]
    """Ids of the splits that are answered."""
    answers: int
    """Number of answers, one for each row of these splits."""
    notes: tuple[str, ...]
    """For display: the field by which rows were matched, and the number of answers that mean neither class."""


class _Scored(NamedTuple):
    """A sample whose answer is understood."""

    sample: Sample
    score: float
    label: int | None
    """The label that the other harness takes for correct."""


class _Matched(NamedTuple):
    scores: dict[str, float]
    """By example id."""
    field: str
    """The field that identified the rows, and how."""


def take_in(
    suite: Suite,
    workspace: Workspace,
    model_id: str,
    files: Sequence[Path],
    *,
    split_ids: Collection[str] = (),
    labels: Labels | None = None,
) -> TakenIn:
    """Match the answers of result files to a suite's rows, write and pin them, and declare the model.

    Args:
        model_id: id of the new model.
        files: result files of one model, each of which answers one split or more.
        split_ids: only these splits; those that a file answers where empty.
        labels: answers that mean negative and positive; guessed from the correct answers where None.

    Raises:
        UsageError: the id is taken or not one, or the suite file has a layout to which no model can be added.
        DataError: a file cannot be read, answers no split, or contradicts the rows' labels. Nothing was written.
    """
    path = workspace.suite_path
    if not re.fullmatch(ID_PATTERN, model_id) or len(model_id) > 64:
        raise UsageError(f"{model_id!r} is no id: lower-case letters, digits and . _ + - only, 64 at most")
    settled, _ = load_splits(suite, workspace)
    scored = {one: split for one, split in settled.splits.items() if one not in suite.train_split_ids}
    wanted = [split for one, split in scored.items() if not split_ids or one in split_ids]
    scores: dict[str, float] = {}
    answered: dict[str, Path] = {}
    notes: list[str] = []
    origins = []
    for file in files:
        log = forms.read(file)
        understood, neither = _understood(log, labels, str(file))
        found = _matched(understood, suite.text, wanted, str(file))
        for split_id, matched in found.items():
            if split_id in answered:
                raise DataError(f"{file}: answers split {split_id!r}, as {answered[split_id]} does; give one of them")
            if any(scores.get(one, score) != score for one, score in matched.scores.items()):
                raise DataError(f"{file}: answers an example of {split_id!r} otherwise than another file does")
            answered[split_id] = file
            scores |= matched.scores
            notes.append(f"{file}: answers the {len(matched.scores):,} rows of {split_id}, matched by {matched.field}")
        if neither:
            notes.append(
                f"{file}: {neither:,} of {len(log.samples):,} answers mean neither class; they are taken as the other "
                "harness judged them"
            )
        of_model = f" of {log.model}" if log.model else ""
        origins.append(f"{log.tool}{of_model}, {file.name} (sha256 {digest.of_file(file)[:12]})")
    if unanswered := [split.split_id for split in wanted if split_ids and split.split_id not in answered]:
        raise DataError(f"{', '.join(map(str, files))}: answers no whole split {', '.join(unanswered)}; leave it out")
    lines = [json.dumps({"example": one, "score": score}) for one, score in scores.items()]
    data = "".join(f"{line}\n" for line in lines).encode()
    target = path.parent / f"{model_id}.answers.jsonl"
    if target.exists() and target.read_bytes() != data:
        raise UsageError(f"{target}: is there already and has other answers; move it away, or choose another --model")
    splits = tuple(split_id for split_id in scored if split_id in answered)
    declared: dict[str, Any] = {
        "id": model_id,
        "backend": "predictions",
        "path": target.name,
        "format": "jsonl",
        "sha256": "",
        "columns": {"example": "example", "score": "score"},
    }
    if set(splits) < set(scored):
        declared["splits"] = list(splits)
    declared["origin"] = visible("; ".join(origins))[:_LONGEST_ORIGIN].replace("\n", " ")
    declared["sha256"] = digest.of_bytes(data)
    declaration = "[[model]]\n" + "".join(f"{key} = {guess.toml(value)}\n" for key, value in declared.items())
    text = _with(path, suite, declared, declaration)
    atomic.write(target, data)
    if text is not None:
        atomic.write(path, text.encode())
    return TakenIn(model_id, target, declaration, splits, len(scores), tuple(notes))


def _with(path: Path, suite: Suite, declared: Mapping[str, Any], declaration: str) -> str | None:
    """The suite file with a further model; None if it has this very one.

    Raises:
        UsageError: it has another model of this id, or no table can be added at its end.
    """
    text = read_text(path)
    before = tomllib.loads(text)
    if any(model.id == declared["id"] for model in suite.model):
        if declared in before["model"]:
            return None
        raise UsageError(f"{path}: has another model {declared['id']!r} already; choose another --model, or remove it")
    written = f"{text.rstrip()}\n\n{declaration}"
    try:
        is_sound = tomllib.loads(written) == before | {"model": [*before["model"], declared]}
    except tomllib.TOMLDecodeError:
        is_sound = False
    if not is_sound:
        raise UsageError(f"{path}: is laid out so that no table can be added; write models as [[model]]")
    return written


def _understood(log: Log, labels: Labels | None, where: str) -> tuple[list[_Scored], int]:
    """The samples with their scores, and the number of answers that mean neither class.

    Raises:
        DataError: the answers or the correct answers are not understood.
    """
    if not log.samples:
        raise DataError(f"{where}: has no samples")
    targets = {sample.target for sample in log.samples if sample.target is not None}
    offered = {name for sample in log.samples if len(sample.answer) > 1 for name in sample.answer}
    words = targets | offered or {name for sample in log.samples for name in sample.answer}
    meant = labels or guess.labels(sorted(words)[: guess.MOST_VALUES + 1])
    if meant is None:
        raise DataError(
            f"{where}: it is not clear which answers mean negative and positive (found: "
            f'{", ".join(map(repr, sorted(words)))[:200]}); declare them: --labels \'negative = "…", positive = "…"\''
        )
    classes = {_plain(name): label for name, label in meant.classes.items()}
    found, neither = [], 0
    for sample in log.samples:
        label = None if sample.target is None else classes.get(_plain(sample.target))
        if sample.target is not None and label is None:
            raise DataError(
                f"{where}: {sample.place}: the correct answer is {sample.target!r:.60}, which means neither class; "
                'declare it: --labels \'negative = ["…"], positive = ["…"]\''
            )
        sides = [0.0, 0.0]
        for name, probability in sample.answer.items():
            if (side := classes.get(_plain(name))) is not None:
                sides[side] += probability
        if sum(sides) > 0:
            found.append(_Scored(sample, sides[1] / sum(sides), label))
            continue
        if label is None or sample.correct is None:
            raise DataError(
                f"{where}: {sample.place}: answer {next(iter(sample.answer), '')!r:.60} means neither class, and "
                "nothing says whether it is correct; declare it in --labels"
            )
        neither += 1
        found.append(_Scored(sample, float(label if sample.correct else 1 - label), label))
    return found, neither


def _plain(answer: str) -> str:
    """An answer without case, and without blanks and punctuation around it."""
    return _EDGES.sub("", canonical(answer).casefold()) or canonical(answer).casefold()


def _matched(understood: Sequence[_Scored], text: Text, splits: Sequence[Split], where: str) -> dict[str, _Matched]:
    """The splits whose every row has one answer.

    Raises:
        DataError: there is none, a row has several answers, or the file's correct answers are not the rows' labels.
    """
    found, problems = {}, []
    for split in splits:
        try:
            found[split.split_id] = _on(understood, text, split)
        except MissingAnswersError as problem:
            problems.append(f"split {split.split_id!r}: {problem}")
        except ValueError as problem:
            raise DataError(f"{where}: split {split.split_id!r}: {problem}") from None
    if not found:
        raise DataError(f"{where}: answers no split; {'; '.join(problems)}")
    return found


def _on(understood: Sequence[_Scored], text: Text, split: Split) -> _Matched:
    """The answers to a split's rows, matched by whichever field identifies most of them.

    Raises:
        MissingAnswersError: a row has no answer.
        ValueError: a row has more than one, or another label than the file's correct answer.
    """
    ids = {one.example_id for one in split.examples}
    texts = {one.content for one in split.examples} | {text.render(one.title, one.content) for one in split.examples}
    names = list(dict.fromkeys(name for one in understood for name in one.sample.fields))
    best, name, columns = 0, "", _BY_TEXT
    for field in names:
        values = {one.sample.fields.get(field) for one in understood}
        for wanted, kind in ((ids, _BY_ID), (texts, _BY_TEXT)):
            if (covered := len(wanted & values)) > best:
                best, name, columns = covered, field, kind
    keys = [one.sample.fields.get(name) for one in understood]
    how = f"the example ids in {name}" if columns is _BY_ID else f"the texts in {name}"
    if not best:
        name, keys = _inside(understood, names, split)
        how = f"the texts inside {name}"
    by_key = _by_key(understood, keys)
    scores = match_rows(by_key, columns, text, split)
    _check_labels(understood, keys, columns, text, split)
    return _Matched(scores, how)


def _by_key(understood: Sequence[_Scored], keys: Sequence[str | None]) -> Mapping[str, list[float]]:
    """Scores by key. Several filters, epochs or metrics of one file count once, where they have the same answers.

    Raises:
        ValueError: they have different ones.
    """
    by_variant: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one, key in zip(understood, keys, strict=True):
        if key is not None:
            by_variant[one.sample.variant][key].append(one.score)
    first, *others = by_variant.values() or [{}]
    if any(other != first for other in others):
        raise ValueError(f"has several answers to a row ({', '.join(sorted(by_variant))[:200]}); keep one of these")
    return first


def _inside(understood: Sequence[_Scored], names: Sequence[str], split: Split) -> tuple[str, list[str | None]]:
    """The field inside which rows' texts stand, and for each sample the text in it.

    Raises:
        MissingAnswersError: there is no such field.
        ValueError: a question contains the texts of several rows.
    """
    contents = sorted({one.content for one in split.examples}, key=len, reverse=True)
    if "" in contents or len(contents) * len(understood) > MOST_PAIRS:
        raise MissingAnswersError("no field holds its texts or example ids; log one of them with each sample")
    probe = understood[0].sample.fields
    likely = [name for name in names if any(content in probe.get(name, "") for content in contents)]
    for name in likely:
        keys: list[str | None] = []
        for one in understood:
            asked, held = one.sample.fields.get(name, ""), list[str]()
            for content in contents:
                if content in asked and not any(content in other for other in held):
                    held.append(content)
            if len(held) > 1:
                raise ValueError(f"{one.sample.place}: {name} holds the texts of {len(held)} rows; log the text alone")
            keys.append(held[0] if held else None)
        return name, keys
    raise MissingAnswersError(
        "no field holds its texts or example ids; they are of other rows, or must be logged as metadata"
    )


def _check_labels(
    understood: Sequence[_Scored], keys: Sequence[str | None], columns: AnswerColumns, text: Text, split: Split
) -> None:
    """Compare the file's correct answers with the labels of the rows.

    Raises:
        ValueError: they differ.
    """
    known: dict[str, set[int]] = defaultdict(set)
    for one in split.examples:
        for key in [one.example_id] if columns is _BY_ID else [one.content, text.render(one.title, one.content)]:
            known[key].add(one.label)
    stated = [(key, one.label) for one, key in zip(understood, keys, strict=True) if key in known]
    wrong = sum(label is not None and label not in known[str(key)] for key, label in stated)
    if wrong:
        raise ValueError(
            f"the correct answers are not the labels of {wrong:,} of {len(stated):,} rows; correct --labels, or the "
            "file is about other rows"
        )
