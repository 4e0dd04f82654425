"""Reports of verdicts for continuous integration: JUnit XML for programs, Markdown for people.

check_writable(path)                      before anything is judged
judged = judge_stored(suite, workspace)
write_junit(path, suite, judged)
append_summary(path, suite, judged)
"""

import io
import os
import re
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from junitparser import Failure, Skipped, xunit2

from harness.artifacts import atomic
from harness.errors import UsageError
from harness.gates.compare import shared
from harness.gates.judge import compared
from harness.gates.service import Judged
from harness.output.visible import visible
from harness.records import Outcomes, Verdict
from harness.suite.rules import Comparison, Flips, Kind, Rule, of_expectations, of_gates
from harness.suite.schema import Suite

WORST_FLIPS = 10
SHARED = 3
"""Most slices or words listed for each direction of each comparison."""
TEXT_CHARACTERS = 160
_SIGNED: frozenset[Kind] = frozenset({"non_inferior_to", "superior_to", "max_drop_out_of_domain"})
"""Rules about a difference."""
_MARKUP = re.compile(r"[&<>\\`*_{}\[\]|~#@$^]|:(?=\S)|(?<=www)\.", re.IGNORECASE)
"""Characters that GitHub's Markdown may take for HTML, emphasis, a cell's end, a link, mention, emoji or formula."""


@dataclass(frozen=True, slots=True)
class Flip:
    """An example that the model gets wrong and other sides get right, by their mean scores over seeds."""

    place: str
    """Model and split, in words."""
    example_id: str
    label: int
    score: float
    """The model's probability of class 1."""
    others: Mapping[str, float]
    """Scores of the other sides by name."""

    @property
    def wrongness(self) -> float:
        """Probability that the model gives to the wrong label, in [0.5, 1]."""
        return abs(self.score - self.label)


def check_writable(path: Path) -> None:
    """Make the folders above a file, and check that the file can be written.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            path.open("ab").close()
        else:
            tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror}); name another file") from None


def write_junit(path: Path, suite: Suite, judged: Judged) -> None:
    """Write the verdicts as JUnit XML, the whole file or nothing."""
    written = junit(suite, judged)
    if path.exists() and not path.is_file():  # a pipe or a device has no name to be renamed to
        try:
            path.write_bytes(written)
        except OSError as problem:
            raise UsageError(atomic.unwritable(path, problem)) from None
        return
    atomic.write(path, written)


def append_summary(path: Path, suite: Suite, judged: Judged) -> None:
    """Append the verdicts to a file as Markdown, for `$GITHUB_STEP_SUMMARY`."""
    begun = path.stat().st_size if path.is_file() else 0
    added = (("\n" if begun else "") + summary(suite, judged)).encode()
    try:
        with path.open("ab", buffering=0) as file:
            written = file.write(added)
            while written < len(added):  # a disk may take a part of it before it reports that it is full
                written += file.write(added[written:])
    except OSError as problem:
        if path.is_file():
            os.truncate(path, begun)
        raise UsageError(atomic.unwritable(path, problem)) from None


def junit(suite: Suite, judged: Judged) -> bytes:
    """Convert the verdicts to JUnit XML, one case for each rule.

    A blocking verdict is a failure. An inconclusive one that only warns is skipped, with its reason. The numbers that
    decided are properties of the case.
    """
    cases = xunit2.TestSuite(xml_text(suite.name))  # type: ignore[no-untyped-call]  # theirs has a `name=None`
    for verdict in judged.verdicts:
        cases.add_testcase(_case(suite, verdict))
    if judged.verdicts:
        cases.timestamp = judged.verdicts[0].judged_at.isoformat(timespec="seconds")
    document = xunit2.JUnitXml()
    document.add_testsuite(cases)
    written = io.BytesIO()
    document.write(written)
    return written.getvalue()


def _case(suite: Suite, verdict: Verdict) -> xunit2.TestCase:
    case = xunit2.TestCase(xml_text(verdict.gate_id), classname=xml_text(suite.name), time=0)
    for name, value in {"outcome": verdict.outcome, **_known(verdict.numbers)}.items():
        case.add_property(name, xml_text(str(value)))
    message = xml_text(reason(verdict))
    if verdict.blocking:
        failure = Failure(message, verdict.outcome)
        failure.text = xml_text("\n".join(f"{name}: {value}" for name, value in _known(verdict.numbers).items()))
        case.result = failure
    elif verdict.outcome != "pass":
        case.result = Skipped(message)
    return case


def reason(verdict: Verdict) -> str:
    """State why a rule did not pass."""
    return f"inconclusive: {verdict.reason}" if verdict.outcome == "inconclusive" else verdict.reason


def xml_text(text: str) -> str:
    """Replace characters that XML cannot hold."""
    return visible(text)


def _known(numbers: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in numbers.items() if value is not None}


def summary(suite: Suite, judged: Judged) -> str:
    """Convert verdicts, expectations, the worst flips and what flips share to GitHub-flavoured Markdown."""
    return "\n".join([*_verdicts(suite, judged), *_expected(judged), *_flips(suite, judged), *_shared(suite, judged)])


def _verdicts(suite: Suite, judged: Judged) -> Iterator[str]:
    count = dict.fromkeys(("pass", "fail", "inconclusive"), 0)
    for verdict in judged.verdicts:
        count[verdict.outcome] += 1
    yield f"## {suite.name}: {count['pass']} passed, {count['fail']} failed, {count['inconclusive']} inconclusive\n"
    rows = []
    for rule, verdict in zip(of_gates(suite), judged.verdicts, strict=True):
        tolerated = "" if verdict.blocking or verdict.outcome == "pass" else " (warning)"
        rows.append([verdict.gate_id, *_numbers(rule, verdict.numbers), verdict.outcome + tolerated])
    yield _table(["rule", "value or difference", "95 % interval", "n", "limit", "outcome"], rows, "lrrrrl")
    for verdict in judged.verdicts:
        if verdict.outcome != "pass":
            yield f"- {cell(verdict.gate_id)}: {cell(reason(verdict))}"
    if any(verdict.outcome != "pass" for verdict in judged.verdicts):
        yield ""


def _numbers(rule: Rule, numbers: Mapping[str, Any]) -> list[str]:
    """Format value, interval, n and limit; a dash stands for an absent number."""
    form = "+.3f" if rule.kind in _SIGNED else {"max_size_bytes": ",", "max_train_seconds": ".1f"}.get(rule.kind, ".3f")
    value, low, high, n = (numbers.get(name) for name in ("value", "ci_low", "ci_high", "n"))
    interval = "–" if low is None or high is None else f"[{low:{form}}, {high:{form}}]"
    limit = f"{rule.limit:,.0f}" if rule.kind == "max_size_bytes" else f"{rule.limit:g}"
    known = "limit" in numbers
    return ["–" if value is None else f"{value:{form}}", interval, _count(n), limit if known else "–"]


def _count(n: int | None) -> str:
    return "–" if n is None else f"{n:,}"


def _expected(judged: Judged) -> Iterator[str]:
    if judged.expected:
        stated = {True: "before the runs", False: "after the runs", None: "–"}
        rows = [[one.rule, one.answer, stated[one.stated_first], one.reason] for one in judged.expected]
        yield "### Expectations\n"
        yield _table(["expectation", "answer", "stated", "numbers"], rows, "llll")


def _flips(suite: Suite, judged: Judged) -> Iterator[str]:
    flips = worst_flips(suite, judged)
    if not flips:
        return
    texts = {
        example.example_id: f"{example.title} {example.content}"
        for examples in judged.evidence.examples.values()
        for example in examples
    }
    columns = ["example", "label", "model", "score", "other side", "its score", "text"]
    rows = []
    for flip in flips:
        others = [", ".join(flip.others), ", ".join(f"{score:.3f}" for score in flip.others.values())]
        label = "positive" if flip.label else "negative"
        rows.append([flip.example_id, label, flip.place, f"{flip.score:.3f}", *others])
        if suite.text.store:
            rows[-1].append(_cut(texts.get(flip.example_id, "")))
    kept = columns if suite.text.store else columns[:-1]
    yield "### New flips\n"
    yield (
        f"The {len(flips)} most confident wrong answers of models to examples that another side gets right. "
        "A score is the probability of a positive label, averaged over seeds.\n"
    )
    # GitHub makes no links inside code, neither of names after an @ nor of numbers after a #.
    yield _table(kept, rows, "lllrlrl"[: len(kept)], code=("example", "text"))


def _shared(suite: Suite, judged: Judged) -> Iterator[str]:
    """Slices and words that lost or won examples share, for each pair of sides that the rules compare."""
    rows, n_tested, seen = [], 0, set()
    for rule in [*of_gates(suite), *of_expectations(suite)]:
        sides = compared(rule, judged.evidence)
        if sides is None or not isinstance(rule, Comparison | Flips):
            continue
        place = (f"{rule.model} on {rule.split}", rule.other.words)
        if place in seen:
            continue
        seen.add(place)
        now, was = sides
        found = shared(judged.evidence.examples[rule.split], was, now, with_text=suite.text.store)
        n_tested += found.n_tested
        for change, direction in zip(("lost", "won"), found.directions, strict=True):
            for one in direction[:SHARED]:
                among = [f"{one.changed:,} of {one.n_changed:,}", f"{one.others:,} of {one.n_others:,}"]
                rows.append([*place, change, one.name, *among, f"{one.p_adjusted:.2g}"])
    if not n_tested:
        return
    yield "### What lost and won examples share\n"
    over = f"exact tests of {n_tested:,} slices, words and pairs of words, corrected (Benjamini–Hochberg)"
    if not rows:
        yield f"Nothing is more frequent among them than chance explains; {over}.\n"
        return
    yield f"More frequent among them than among the others that the same side gets right; {over}.\n"
    columns = ["model", "other side", "change", "more frequent", "among these", "among the others", "p"]
    yield _table(columns, rows, "llllrrr", code=("more frequent",))


def worst_flips(suite: Suite, judged: Judged) -> list[Flip]:
    """Find the examples on which models are most confidently wrong, over all comparisons of gates and expectations."""
    found: dict[tuple[str, str, str], Flip] = {}
    for rule in [*of_gates(suite), *of_expectations(suite)]:
        sides = compared(rule, judged.evidence)
        if sides is None or not isinstance(rule, Comparison | Flips):
            continue
        (now, scores), (was, other_scores) = (_mean(side) for side in sides)
        first = sides[0][0]
        for i in np.flatnonzero(was & ~now):
            key = (rule.model, rule.split, first.example_ids[i])
            others = {**(found[key].others if key in found else {}), rule.other.words: float(other_scores[i])}
            place = f"{rule.model} on {rule.split}"
            found[key] = Flip(place, first.example_ids[i], int(first.labels[i]), float(scores[i]), others)
    return sorted(found.values(), key=lambda flip: (-flip.wrongness, flip.place, flip.example_id))[:WORST_FLIPS]


def _mean(seeds: Sequence[Outcomes]) -> tuple[Any, Any]:
    """Average the seeds' scores: masks of the right ones and the scores, each of shape (n,)."""
    scores = np.mean([outcomes.scores for outcomes in seeds], axis=0)
    return (scores > 0.5) == (seeds[0].labels == 1), scores


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= TEXT_CHARACTERS else line[: TEXT_CHARACTERS - 1] + "…"


def cell(text: str) -> str:
    """Escape text for a table cell: one line without markup."""
    line = "".join(character for character in " ".join(text.split()) if character.isprintable())
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", line.strip())


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], alignment: str, *, code: Collection[str] = ()) -> str:
    """Render a Markdown table.

    Args:
        alignment: an l or an r for each column.
        code: columns to show as code.
    """
    lines = [columns, ["---:" if side == "r" else "---" for side in alignment]]
    for row in rows:
        cells = [(name, cell(value)) for name, value in zip(columns, row, strict=True)]
        lines.append([f"<code>{value}</code>" if name in code and value else value for name, value in cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
