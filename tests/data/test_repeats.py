"""Repeated texts are one unit in every number; texts that read the same are the same text."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data import as_split, repeats
from harness.data.plain import LOOK_ALIKES, fingerprints, plain
from harness.data.source import Row
from harness.stats import calibration, estimates
from harness.store import reader
from harness.store.connection import opened
from harness.suite.schema import Text

Command = Callable[..., Any]
TEXT = Text(template="{content}", max_length=64, store=False)

SUITE = """
version = 1
name = "repeating"
description = "Rows of JSON Lines files"
primary_metric = "accuracy"

[text]
template = "{content}"
max_length = 64
store = false

[[split]]
id = "train"
source = "file"
path = "train.jsonl"
format = "jsonl"

[[split]]
id = "test"
source = "file"
path = "test.jsonl"
format = "jsonl"

[[model]]
id = "majority"
backend = "majority"
train_split = "train"

[[model]]
id = "tfidf"
backend = "tfidf"
train_split = "train"
ngram_range = [1, 1]
sublinear_tf = true
C = 1.0

[[metric]]
name = "accuracy"

[[metric]]
name = "f1"

[[gate]]
model = "majority"
split = "test"
metric = "accuracy"
min = 0.95
on_inconclusive = "fail"
"""
AUDIT = '\n[audit]\nexact_overlap = "forbid"\nnear_overlap = "report"\nnear_threshold = 0.8\nrepeated_texts = "{}"\n'

Data = tuple[str, int]
"""Content and label."""


def repeating(written: Callable[[int], str] = lambda copy: "") -> list[Data]:
    """420 rows: 55 texts of 7 or 8 copies each and one more; 12 rows, of two texts, are negative."""
    sizes = [8] * 34 + [7] * 21
    rows = [("the odd one", 1)]
    for text, size in enumerate(sizes):
        copies = size if text else 8
        rows += [(f"text number {text}{written(copy)}", int(text > 0)) for copy in range(copies)]
    negative = [(text, 0) for text, label in rows[9:13]]
    return [*rows[:9], *negative, *rows[13:]]


@pytest.fixture
def suite_of(tmp_path: Path) -> Callable[..., Path]:
    """Write a suite with these test rows, trained on rows of which most are positive."""

    def written(test: Sequence[Data], rule: str | None = None) -> Path:
        train = [(f"learned {i}", int(i > 2)) for i in range(10)]
        for name, rows in (("train", train), ("test", test)):
            lines = [json.dumps({"label": label, "title": "", "content": text}) for text, label in rows]
            (tmp_path / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines))
        path = tmp_path / "repeating.toml"
        path.write_text(SUITE + (AUDIT.format(rule) if rule else ""))
        return path

    return written


def accuracy_of(result: Any) -> tuple[float, float, float]:
    (row,) = [row for row in result.json()["results"] if row["model"] == "majority"]
    return row["value"], row["ci_low"], row["ci_high"]


def split_of(rows: Sequence[Data], clusters: Sequence[str | None] | None = None) -> Any:
    names = clusters or [None] * len(rows)
    return as_split("test", [Row("", text, label, name) for (text, label), name in zip(rows, names, strict=True)], {})


@pytest.mark.parametrize(
    "written", [lambda copy: "", lambda copy: [".", "!", " \u200b", " ..."][copy % 4]], ids=["alike", "nearly alike"]
)
def test_rows_that_repeat_a_few_texts_are_no_better_than_so_many_texts(
    harness: Command, suite_of: Callable[..., Path], written: Callable[[int], str]
) -> None:
    path = suite_of(repeating(written))
    evaluated = harness("evaluate", path, "--workers", "1", "--json")
    assert evaluated.code == 0, evaluated.err
    value, low, high = accuracy_of(evaluated)
    assert value == 408 / 420
    assert low < 0.945, "as if the rows were independent it is 0.951"
    assert high <= 1
    gated = harness("gate", path)
    assert gated.code == 1
    for said in (evaluated.err, gated.err):
        assert "419 of the 420 rows of split 'test' repeat 55 texts" in said
        assert "count as one cluster" in said


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["cluster", "independent", "drop", "forbid"])
def test_the_suite_says_what_becomes_of_repeated_texts(
    harness: Command, suite_of: Callable[..., Path], tmp_path: Path, rule: str
) -> None:
    path = suite_of(repeating(), rule)
    assert harness("data", path).code == (2 if rule == "forbid" else 0)
    evaluated = harness("evaluate", path, "--workers", "1", "--json")
    assert "rows of split 'test' repeat 55 texts" in evaluated.err
    if rule == "forbid":
        assert evaluated.code == 2
        assert "remove the repeated rows" in evaluated.err
        return
    assert evaluated.code == 0, evaluated.err
    value, low, _ = accuracy_of(evaluated)
    if rule == "independent":
        assert round(low, 3) == 0.951
        assert harness("gate", path).code == 0
    if rule == "drop":
        assert "1 of them with both labels" in evaluated.err
        assert "each text was kept once" in evaluated.err
        assert value > 0.95
    shown = harness("store", "verify")
    assert shown.code == 0, shown.out


def test_a_lock_of_rows_that_repeat_stays_valid_whatever_becomes_of_them(
    harness: Command, suite_of: Callable[..., Path]
) -> None:
    path = suite_of(repeating())
    assert harness("data", path).code == 0
    pinned = path.with_suffix(".lock").read_text()
    assert json.loads(pinned)["splits"]["test"]["digest"] == split_of(repeating()).digest
    for rule in ("independent", "drop", "cluster"):
        suite_of(repeating(), rule)
        assert harness("data", path).code == 0
    assert path.with_suffix(".lock").read_text() == pinned


def test_the_store_knows_the_clusters_that_were_made(
    harness: Command, suite_of: Callable[..., Path], tmp_path: Path
) -> None:
    path = suite_of(repeating())
    evaluated = harness("evaluate", path, "--workers", "1", "--json")
    assert evaluated.code == 0, evaluated.err
    listed = harness("ls", "--json").json()
    with opened(path.parent / "runs" / "harness.duckdb", read_only=True) as connection:
        found = reader.outcomes(connection, listed[0]["run_id"])
    assert found.clusters is not None
    assert len(np.unique(found.clusters)) == 56


def test_a_split_without_repeats_is_left_as_it_is(suite_of: Callable[..., Path]) -> None:
    from harness.suite.load import load

    suite = load(suite_of([("one", 1)]))
    split = split_of([("one", 1), ("two", 0), (":)", 1), (":(", 0)])
    settled = repeats.settle(suite, {"test": split})
    assert settled.splits["test"] is split
    assert settled.notes == ()


def test_training_rows_that_repeat_are_left_as_they_are(suite_of: Callable[..., Path]) -> None:
    from harness.suite.load import load

    suite = load(suite_of([("one", 1)], "forbid"))
    split = split_of([("one", 1), ("one", 1)])
    settled = repeats.settle(suite, {"train": split})
    assert (settled.splits["train"], settled.forbidden) == (split, ())


def test_clusters_that_have_a_text_in_common_are_one() -> None:
    rows = [("a", 1), ("b", 1), ("B!", 0), ("c", 1), ("c", 1), ("d", 0)]
    split = split_of(rows, ["x", "x", "y", "y", "z", "w"])
    made = repeats.clustered(split.examples, fingerprints(split.examples, TEXT))
    assert [example.cluster for example in made] == ["x", "x", "x", "x", "x", "w"]


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from("vwxyz")), min_size=1, max_size=12))
def test_clusters_are_the_connected_parts(rows: list[tuple[str, str]]) -> None:
    split = split_of([(text, 1) for text, _ in rows], [cluster for _, cluster in rows])
    made = [e.cluster for e in repeats.clustered(split.examples, fingerprints(split.examples, TEXT))]
    parts = list(range(len(rows)))  # the second way: spread the least number until nothing changes
    changed = True
    while changed:
        before = list(parts)
        for i, one in enumerate(rows):
            for j, other in enumerate(rows):
                if one[0] == other[0] or one[1] == other[1]:
                    parts[i] = parts[j] = min(parts[i], parts[j])
        changed = parts != before
    assert [[a == b for b in made] for a in made] == [[a == b for b in parts] for a in parts]


def test_of_a_dropped_text_with_both_labels_no_row_is_kept(suite_of: Callable[..., Path]) -> None:
    from harness.suite.load import load

    suite = load(suite_of([("one", 1)], "drop"))
    split = split_of([("a", 1), ("b", 1), ("B.", 0), ("c", 0), ("c", 0)])
    settled = repeats.settle(suite, {"test": split})
    assert [example.content for example in settled.splits["test"].examples] == ["a", "c"]
    assert "2 texts, 1 of them with both labels" in settled.notes[0]


def test_texts_that_differ_in_what_the_model_does_not_read_are_repeated(suite_of: Callable[..., Path]) -> None:
    rows = [Row(f"title {i}", "same content", 1, None) for i in range(3)]
    split = as_split("test", rows, {})
    assert len(repeats.groups_of(split.examples, fingerprints(split.examples, TEXT))) == 1
    titled = Text(template="{title} {content}", max_length=64, store=False)
    assert repeats.groups_of(split.examples, fingerprints(split.examples, titled)) == []


def repeated(make: Callable[..., Any], texts: int, copies: int, wrong: int) -> tuple[Any, Any]:
    """Outcomes of different texts, of which the last so many are wrong, and of the same with so many copies of each."""
    labels = [i % 2 for i in range(texts)]
    scores = [abs(label - 0.1 - 0.8 * (i >= texts - wrong)) for i, label in enumerate(labels)]
    names = np.repeat([f"text-{i:03}" for i in range(texts)], copies).tolist()
    return make(labels, scores), make(np.repeat(labels, copies).tolist(), np.repeat(scores, copies).tolist(), names)


@pytest.mark.parametrize("name", ["accuracy", "f1", "mcc", "recall"])
@pytest.mark.parametrize("wrong", [0, 4])
def test_an_interval_over_repeated_texts_is_as_wide_as_one_over_the_texts(
    make_outcomes: Callable[..., Any], name: str, wrong: int
) -> None:
    once, many = (
        estimates.summarise(name, [outcomes], np.random.default_rng(1))
        for outcomes in repeated(make_outcomes, 56, 8, wrong)
    )
    assert once.ci_low is not None
    assert many.ci_low is not None
    assert once.value == pytest.approx(many.value)
    assert many.ci_high - many.ci_low == pytest.approx(once.ci_high - once.ci_low, rel=0.35)  # type: ignore[operator]
    if not wrong:
        assert many.ci_low == pytest.approx(once.ci_low, abs=0.01)


@pytest.mark.parametrize("name", ["accuracy", "f1"])
def test_equal_answers_to_repeated_texts_leave_as_much_open_as_those_to_the_texts(
    make_outcomes: Callable[..., Any], name: str
) -> None:
    once, many = (
        estimates.difference(name, [outcomes], [outcomes], np.random.default_rng(1))
        for outcomes in repeated(make_outcomes, 56, 8, 4)
    )
    assert once is not None
    assert many is not None
    assert (many.value, many.p_value) == (0, 1)
    assert (many.ci_low, many.ci_high) == pytest.approx((once.ci_low, once.ci_high), abs=0.01)
    assert many.ci_high > 0.03


def test_where_nothing_flips_on_repeated_texts_as_many_may_as_on_the_texts(make_outcomes: Callable[..., Any]) -> None:
    once, many = (
        estimates.flip_share([outcomes], [outcomes], np.random.default_rng(1))
        for outcomes in repeated(make_outcomes, 56, 8, 4)
    )
    assert once is not None
    assert many is not None
    assert (many.ci_low, many.ci_high) == (once.ci_low, once.ci_high)


def test_a_bin_of_confidence_is_of_as_many_texts_as_are_in_it(make_outcomes: Callable[..., Any]) -> None:
    (once,), (many,) = (
        calibration.reliability([outcomes], np.random.default_rng(1)) for outcomes in repeated(make_outcomes, 56, 8, 0)
    )
    assert (many.ci_low, many.ci_high) == (once.ci_low, once.ci_high)


LEARNED = 'A "great" phone, of which I bought two for my family'
COPIES = (
    LEARNED.upper(),
    LEARNED.replace('"', "&quot;"),
    LEARNED.replace("phone", "pho\u200bne"),
    LEARNED + ".",
    LEARNED.replace(" ", "\n"),
    LEARNED.replace("e", "е"),
)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["data", "evaluate", "gate"])
@pytest.mark.parametrize(
    ("rules", "code"), [("", 0), ('normalised_overlap = "forbid"', 2), ('near_overlap = "forbid"', 2)]
)
def test_a_training_row_that_is_written_in_another_way_is_no_new_row(
    harness: Command, suite_of: Callable[..., Path], verb: str, rules: str, code: int
) -> None:
    path = suite_of([*((copy, 1) for copy in COPIES), *((f"row {i}", 1) for i in range(200))])
    with (path.parent / "train.jsonl").open("a") as file:
        file.write(json.dumps({"label": 1, "title": "", "content": LEARNED}) + "\n")
    if verb == "gate":
        assert harness("evaluate", path, "--workers", "1").code == 0
    near = "" if "near_overlap" in rules else 'near_overlap = "report"\n'
    table = f'\n[audit]\nexact_overlap = "forbid"\nnear_threshold = 0.8\n{near}{rules}\n'
    path.write_text(SUITE.replace("min = 0.95", "min = 0.5") + (table if rules else ""))
    if verb == "gate" and not rules:
        assert harness("evaluate", path, "--workers", "1").code == 0
    result = harness(verb, path, *(["--workers", "1"] if verb == "evaluate" else []))
    assert result.code == code, result.err
    assert f"texts that read the same as {len(COPIES)} of the 206 rows of split 'test'" in result.err


@pytest.mark.parametrize(
    "written",
    [
        "IT'S GREAT, REALLY",
        "it’s great – really.",
        "It&#39;s great, &quot;really&quot;",
        "It&amp;#39;s great, really",
        "it's\u00a0great,\u200b really",
        "\ufeffit's gre\u00adat, really",
        "it's great,\nreally\r\n",
        "it's great,<br />really",
        "it's great,\\nreally",
        "it's grеat, rеally",
        "it's greαt, reαlly",
        "ΙΤ'Ѕ GRΕΑT, RΕΑLLY",
        "ｉｔ'ｓ ｇｒｅａｔ, ｒｅａｌｌｙ",
        "it´s great really",
        "it`s great, really",
        "  it's   great ,really  ",
    ],
)
def test_texts_that_read_the_same_are_the_same(written: str) -> None:
    assert plain(written) == plain("it's great, really")


@pytest.mark.parametrize(
    ("one", "other"),
    [(":)", ":("), ("$5", "5"), ("not good", "good"), ("résumé", "resume"), ("", "."), ("5 stars", "1 stars"),
     ("हिन्दी", "हनद"), ("👍", "👎")],
)  # fmt: skip
def test_texts_that_read_differently_are_not(one: str, other: str) -> None:
    assert plain(one) != plain(other)


@given(st.text())
def test_a_plain_text_is_plain_and_has_no_blanks(text: str) -> None:
    assert plain(text).split() in ([], [plain(text)])
    assert plain(text.upper()) == plain(text.upper().lower()) or not text.isascii()


def test_look_alikes_are_of_other_scripts_and_stand_for_one_letter_each() -> None:
    pairs = [(a, b) for others, latin in LOOK_ALIKES for a, b in zip(others, latin, strict=True)]
    assert not any(a.isascii() for a, _ in pairs)
    assert all(b.isascii() for _, b in pairs)
    assert len(dict(pairs)) == len(pairs)


def test_evaluate_audits_once_and_evaluate_and_gate_name_nearly_equal_texts(
    harness: Command, suite_of: Callable[..., Path]
) -> None:
    words = [f"word{i}" for i in range(30)]
    changed = [*words[:15], "otherwise", *words[16:]]
    path = suite_of([(" ".join(changed), 1), *((f"row {i}", 1) for i in range(99))])
    with (path.parent / "train.jsonl").open("a") as file:
        file.write(json.dumps({"label": 1, "title": "", "content": " ".join(words)}) + "\n")
    complaint = "texts nearly equal to 1 of the 100 rows of split 'test'"
    first = harness("evaluate", path, "--workers", "1")
    assert first.code == 0, first.err
    assert "audit of 2 splits, once: 111 in" in first.err
    again = harness("evaluate", path, "--workers", "1")
    assert "audit of" not in again.err
    gated = harness("gate", path)
    assert [said.err.count(complaint) for said in (first, again, gated)] == [1, 1, 1]
    with (path.parent / "test.jsonl").open("a") as file:
        file.write(json.dumps({"label": 1, "title": "", "content": "one more"}) + "\n")
    other = harness("evaluate", path, "--workers", "1")
    assert "audit of 2 splits, once: 112 in" in other.err


def test_a_stored_audit_says_what_the_audit_said(suite_of: Callable[..., Path]) -> None:
    from harness.data import audit
    from harness.suite.load import load

    suite = load(suite_of([("one", 1)]))
    train = as_split("train", [Row("", f"thing number {i}", 1, None) for i in range(9)], {})
    test = split_of([("thing number 1", 1), ("Thing number 2!", 1), ("thing number 1 and 2", 0)])
    splits = {"train": train, "test": test}
    audited = audit.audit(suite, splits, {})
    findings = json.loads(json.dumps({"test": audited.findings["test"]["overlap"]}))
    restored = audit.overlaps_of(findings, splits)
    assert restored is not None
    assert [o.complaints for o in restored] == [o.complaints for o in audited.overlaps]
    assert set(restored[0].complaints) == {"exact", "normalised"}
    assert audit.overlaps_of(findings, splits | {"train": test}) is None
