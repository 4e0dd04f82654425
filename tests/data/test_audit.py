"""The audit of splits: what is planted is found by name, what is not there is not found, and leaks stop a suite."""

import io
import json
import os
import re
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import provenance
from harness.artifacts import digest
from harness.data import as_split, audit, language, near_duplicates
from harness.data.source import Row
from harness.errors import LeakError, StoreError
from harness.evaluation.inputs import Workspace, gather
from harness.models import tokens
from harness.records import Finding, Split
from harness.store import reader, writer
from harness.store.connection import opened
from harness.suite.load import load
from harness.suite.schema import Audit, Suite
from tests import processes

Command = Callable[..., Any]

VOCABULARY = """
    this that it was is the a an of in on for with and but not very really quite never always good bad great poor cheap
    solid broken useless lovely phone book album film battery screen case cable story sound price quality service day
    week month year buy bought return returned like love hate want need work works worked stopped arrived box paper
"""

SUITE = """
version = 1
name = "planted"
description = "Rows of JSON Lines files"
primary_metric = "accuracy"

[text]
template = "{title}. {content}"
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

[[metric]]
name = "accuracy"
"""
AUDIT = '\n[audit]\nexact_overlap = "{exact}"\nnear_overlap = "{near}"\nnear_threshold = {threshold}\n'


def review(seed: int, n_words: int = 30) -> str:
    """Made-up English, different for every seed."""
    return " ".join(np.random.default_rng(seed).choice(VOCABULARY.split(), size=n_words))


def with_one_word_changed(text: str) -> str:
    words = text.split()
    words[len(words) // 2] = "otherwise"
    return " ".join(words)


def rows_of(seeds: Iterable[int]) -> list[Row]:
    return [Row(f"Title {seed}", review(seed), seed % 2, None) for seed in seeds]


def planted() -> tuple[list[Row], list[Row]]:
    """Training and test rows; the last two test rows are an exact and a near copy of training rows 3 and 7."""
    train, test = rows_of(range(40)), rows_of(range(100, 120))
    exact = replace(train[3], label=1 - train[3].label)
    return train, [*test, exact, replace(train[7], content=with_one_word_changed(train[7].content))]


def ids_of(rows: Sequence[Row]) -> list[str]:
    return [example.example_id for example in as_split("any", rows, {}).examples]


def splits_of(train: Sequence[Row], test: Sequence[Row]) -> dict[str, Split]:
    return {"train": as_split("train", train, {}), "test": as_split("test", test, {})}


@pytest.fixture
def suite_of(tmp_path: Path) -> Callable[..., Path]:
    """Write a suite with these training and test rows; `audit` fills its table, which is left out without."""

    def written(train: Sequence[Row], test: Sequence[Row], text: str = SUITE, **rules: Any) -> Path:
        folder = tmp_path / "suites"
        folder.mkdir(exist_ok=True)
        for name, rows in (("train", train), ("test", test)):
            lines = (json.dumps({"label": r.label, "title": r.title, "content": r.content}) for r in rows)
            (folder / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines))
        table = AUDIT.format(**{"exact": "forbid", "near": "report", "threshold": 0.8} | rules) if rules else ""
        (folder / "planted.toml").write_text(text + table)
        return folder / "planted.toml"

    return written


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "harness.duckdb"


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    """The suite of JSON Lines files, as declared."""
    path = tmp_path_factory.mktemp("suite") / "planted.toml"
    path.write_text(SUITE)
    return load(path)


def in_a_process(words: Sequence[object], db: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The real command line."""
    command = [sys.executable, "-m", "harness", *map(str, words)]
    return subprocess.run(
        command, env=os.environ | {"HARNESS_DB": str(db)} | environment, capture_output=True, text=True, check=False
    )


def found_of(result: Any, split: str) -> dict[str, Any]:
    """The audit of one split in what `harness data --json` printed."""
    (row,) = [row for row in result if row["split"] == split]
    found: dict[str, Any] = row["audit"]
    return found


# Planted rows, on the command line


def test_a_planted_exact_and_a_planted_near_duplicate_are_found_by_name(
    suite_of: Callable[..., Path], db: Path
) -> None:
    train, test = planted()
    train_ids, test_ids = ids_of(train), ids_of(test)
    path = suite_of(train, test)
    done = processes.command("data", path, "--json", HARNESS_DB=str(db))
    assert done.returncode == 2, done.stderr
    overlap = found_of(json.loads(done.stdout), "test")["overlap"]["train"]
    assert overlap["exact"] == [[train_ids[3], test_ids[20]]]
    ((one, other, similarity),) = overlap["near"]
    assert (one, other) == (train_ids[7], test_ids[21])
    # Title and content are 32 words with 30 shingles, of which three hold the changed word.
    assert similarity == 27 / 33
    assert f"trained on 1 of the 22 rows of split 'test' ({train_ids[3]} = {test_ids[20]})" in done.stderr
    assert f"texts nearly equal to 1 of the 22 rows of split 'test' ({train_ids[7]} ~ {test_ids[21]}" in done.stderr
    assert path.with_suffix(".lock").is_file(), "rows are pinned before they are judged"
    with opened(db, read_only=True) as connection:
        stored = {(f.split_id, f.name): f for f in reader.latest_audit(connection, load(path).digest)}
    assert stored["test", "overlap"].value["train"] == overlap
    assert stored["test", "overlap"].split_digest == as_split("test", test, {}).digest
    assert "overlap" not in {name for split, name in stored if split == "train"}


@pytest.mark.slow
def test_findings_are_the_same_in_every_process(suite_of: Callable[..., Path], db: Path) -> None:
    path = suite_of(*planted(), exact="report")
    first, second = (in_a_process(["data", path, "--json"], db, PYTHONHASHSEED=seed) for seed in ("1", "2"))
    assert first.returncode == second.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    assert first.stdout.count("~") == 0


def test_repeated_rows_conflicting_labels_and_empty_fields_are_counted_and_named(
    harness: Command, suite_of: Callable[..., Path]
) -> None:
    base = rows_of(range(10))
    repeated = [base[0], base[0], replace(base[1], label=1 - base[1].label)]
    empty = [Row("", review(60), 1, None), Row("Only a title", "", 0, None), Row(" ", " ", 0, None)]
    rows = [*base, *repeated, *empty]
    ids = ids_of(rows)
    found = found_of(harness("data", suite_of(rows, rows_of(range(100, 105))), "--json").json(), "train")
    assert found["balance"] == {"n": 16, "positive": 6, "negative": 10}
    triple, pair = sorted([ids[0], ids[10], ids[11]]), sorted([ids[1], ids[12]])
    assert found["exact_duplicates"] == {"groups": 2, "rows": 5, "ids": sorted([triple, pair])}
    assert found["conflicting_labels"] == {"groups": 1, "rows": 2, "ids": [pair]}
    assert found["empty"] == {"titles": 2, "contents": 2, "content_ids": sorted([ids[14], ids[15]])}
    assert found["near_duplicates"]["pairs"] == 0, "equal texts are not nearly equal ones"
    assert ids[10] == f"{ids[0]}-2"


def test_rows_that_a_source_distribution_repeats_are_dropped_before_they_are_audited(
    harness: Command, serve: Callable[[bytes], Any], suite_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unique = [review(seed, 20) for seed in range(30)]
    train = [f"1_{i}\t{1 - 2 * (i % 2)}.0\t{text}" for i, text in enumerate([*unique[:20], unique[0], unique[1]])]
    test = [f"2_{i}\t1.0\t{text}" for i, text in enumerate([*unique[20:], unique[5], with_one_word_changed(unique[6])])]
    served = serve(two_files({"train.txt": train, "test.txt": test}))
    monkeypatch.setenv("PIP_INDEX_URL", served.url)
    text = "\n".join(line for line in suite_path.read_text().splitlines() if not line.startswith("cluster_share"))
    old_sha256 = load(suite_path).split[0].sha256  # type: ignore[union-attr]  # of the sdist kind here
    head, middle, tail = text.replace(old_sha256, served.sha256).split('"rows/reviews.txt"')
    suite_path.write_text(
        f'{head}"rows/train.txt"{middle}"rows/test.txt"{tail}'
        + AUDIT.format(exact="report", near="report", threshold=0.7)
    )
    result = harness("data", suite_path, "--json")
    assert result.code == 0, result.err
    found = found_of(result.json(), "train")
    assert found["balance"]["n"] == 20
    assert found["exact_duplicates"] == {"groups": 0, "rows": 0, "ids": []}
    assert found["empty"]["titles"] == 20
    overlap = found_of(result.json(), "test")["overlap"]["train"]
    assert [len(overlap["exact"]), len(overlap["near"])] == [1, 1]


def two_files(files: dict[str, list[str]]) -> bytes:
    """A source distribution as in conftest, with several files of rows."""
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as tar:
        for name, lines in files.items():
            data = "".join(f"{line}\r\n" for line in lines).encode()
            info = tarfile.TarInfo(f"rows/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    outer = io.BytesIO()
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("made-up-1.0/rows.tar.gz"), inner.getvalue())
    return outer.getvalue()


def test_the_report_is_readable_and_shows_texts_only_where_the_suite_does(
    harness: Command, suite_of: Callable[..., Path], db: Path
) -> None:
    train, test = planted()
    train[7] = replace(train[7], title="Title\t\x1b\n7")
    beginning = " ".join(f"{test[21].title} {test[21].content}".split())[:60]
    silent = harness("data", suite_of(train, test, exact="report"))
    assert silent.code == 0
    for words in ("planted: splits", "rows to look at", "overlap", "which rows", ids_of(train)[3], ids_of(test)[21]):
        assert words in silent.out
    assert beginning not in silent.out
    shown = harness("data", suite_of(train, test, SUITE.replace("store = false", "store = true"), exact="report"))
    assert beginning in shown.out
    assert f"{test[21].title} {test[21].content}"[:61] not in shown.out
    assert "Title · 7 " in shown.out
    assert "\x1b" not in shown.out
    assert review(7)[:20] not in db.read_bytes().decode("latin-1")
    assert review(7)[:20] not in harness("data", suite_of(train, test), "--json").out


def test_long_lists_are_cut_on_the_terminal_and_whole_in_json(harness: Command, suite_of: Callable[..., Path]) -> None:
    rows = rows_of(range(12))
    path = suite_of([*rows, *rows], rows_of(range(100, 103)))
    table = harness("data", path).out
    assert "and 7 more, listed by --json" in table
    assert len(found_of(harness("data", path, "--json").json(), "train")["exact_duplicates"]["ids"]) == 12


# What the suite forbids or wants reported


@pytest.mark.parametrize(
    ("rules", "code", "complaint"),
    [
        ({}, 2, "were trained on 1 of the 22 rows"),
        ({"exact": "forbid"}, 2, "were trained on 1 of the 22 rows"),
        ({"exact": "report"}, 0, "warning: models that use split 'train' were trained on 1 of the 22 rows"),
        ({"exact": "report", "near": "forbid"}, 2, "were trained on texts nearly equal to 1 of the 22 rows"),
        ({"exact": "report", "near": "forbid", "threshold": 0.9}, 0, "warning: models that use split 'train'"),
    ],
    ids=str,
)
def test_evaluate_refuses_what_is_forbidden_and_warns_of_what_is_reported(
    harness: Command, suite_of: Callable[..., Path], db: Path, rules: dict[str, Any], code: int, complaint: str
) -> None:
    train, test = planted()
    result = harness("evaluate", suite_of(train, test, **rules), "--workers", "1")
    assert result.code == code, result.err
    assert complaint in result.err
    row = 7 if "nearly" in complaint else 3
    assert f"{ids_of(train)[row]} {'~' if row == 7 else '='} {ids_of(test)[21 if row == 7 else 20]}" in result.err
    assert db.exists() == (code == 0)
    assert ("warning: models that use" in result.err) == (code == 0)


def test_everything_that_is_forbidden_is_told_at_once(suite: Suite) -> None:
    splits = splits_of(*planted())
    rules = Audit(exact_overlap="forbid", near_overlap="forbid", near_threshold=0.8)
    found = audit.overlaps(suite.model_copy(update={"audit": rules}), splits, look_for_near=True)
    judged = audit.judge(rules, found)
    assert (len(judged.forbidden), judged.reported) == (2, ())
    with pytest.raises(LeakError) as caught:
        audit.refuse(judged)
    assert all(sentence in str(caught.value) for sentence in judged.forbidden)
    audit.refuse(audit.Judged((), judged.forbidden))


def test_a_complaint_names_a_few_rows_and_counts_the_others(suite: Suite) -> None:
    rows = rows_of(range(8))
    splits = splits_of(rows, rows)
    (overlap,) = audit.overlaps(suite, splits, look_for_near=False)
    assert overlap.near is None
    assert overlap.complaints["exact"].count(" = ") == audit.NAMED
    assert overlap.complaints["exact"].endswith("; and 5 more)")


def test_nearly_equal_texts_are_not_looked_for_where_they_are_only_reported(suite_of: Callable[..., Path]) -> None:
    path = suite_of(rows_of(range(5)), rows_of(range(10, 15)))
    code = (
        "import sys\nfrom pathlib import Path\nfrom harness.evaluation.inputs import Workspace, gather\n"
        "from harness.suite.load import load\n"
        f"path = Path({str(path)!r})\ngather(load(path), Workspace(path, path.with_name('x.duckdb')))\n"
        "assert not {'datasketch', 'py3langid', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# Nearly equal texts


def test_every_text_with_one_word_of_thirty_changed_is_found_and_no_unrelated_one() -> None:
    texts = [review(seed) for seed in range(300)]
    changed = [with_one_word_changed(text) for text in texts]
    pairs = near_duplicates.between(
        near_duplicates.sketch(texts),
        near_duplicates.sketch([*changed, *(review(seed) for seed in range(1000, 1300))]),
        0.8,
    )
    assert [(pair.one, pair.other) for pair in pairs] == [(i, i) for i in range(300)]
    assert max(pair.similarity for pair in pairs) == 25 / 31
    assert near_duplicates.within(near_duplicates.sketch(texts), 0.8) == []


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.8, 0.95, 1.0])
def test_what_is_found_is_what_comparing_all_pairs_finds(threshold: float) -> None:
    generator = np.random.default_rng(5)
    texts = [review(seed, 12) for seed in range(12)]
    for text in texts[:12]:  # each in versions that are ever less like it
        words = text.split()
        for _ in range(4):
            words[int(generator.integers(len(words)))] = str(generator.choice(VOCABULARY.split()))
            texts.append(" ".join(words))
    sets = [near_duplicates.shingles(text) for text in texts]
    every = [
        near_duplicates.Near(i, j, near_duplicates.jaccard(sets[i], sets[j]))
        for i in range(len(texts))
        for j in range(i + 1, len(texts))
        if near_duplicates.jaccard(sets[i], sets[j]) >= threshold
    ]
    assert every or threshold > 0.9
    made = near_duplicates.sketch(texts)
    assert near_duplicates.within(made, threshold) == every
    ones, others = near_duplicates.sketch(texts[:20]), near_duplicates.sketch(texts[20:])
    across = [near_duplicates.Near(i, j - 20, similarity) for i, j, similarity in every if i < 20 <= j]
    assert near_duplicates.between(ones, others, threshold) == across
    assert (
        sorted(near_duplicates.Near(j, i, s) for i, j, s in near_duplicates.between(others, ones, threshold)) == across
    )


def test_a_pair_just_at_the_threshold_is_found_and_one_just_below_is_not() -> None:
    one, other = review(1), with_one_word_changed(review(1))
    made = near_duplicates.sketch([one, other])
    assert len(near_duplicates.within(made, 25 / 31)) == 1
    assert near_duplicates.within(made, np.nextafter(25 / 31, 1)) == []


@pytest.mark.parametrize("threshold", [0.07, 0.2, 0.5, 0.7, 0.8, 0.9, 0.99, 1.0])
def test_pairs_at_the_threshold_are_hardly_ever_missed(threshold: float) -> None:
    number, length = near_duplicates.bands(threshold)
    assert number * length <= near_duplicates.PERMUTATIONS
    assert (1 - threshold**length) ** number <= near_duplicates.MAX_MISS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The phone works well", {"the phone works", "phone works well"}),
        ("the PHONE works: well!!!", {"the phone works", "phone works well"}),
        ("I don't like it", {"i don't like", "don't like it"}),
        ("ﬁne cafe\u0301 tables", {"fine café tables"}),
        ("two words", {"two words"}),
        ("One.", {"one"}),
        (" :-) ", {":-)"}),
        (" \n", set()),
        ("", set()),
    ],
)
def test_shingles_are_word_triples_whatever_the_case_and_punctuation(text: str, expected: set[str]) -> None:
    assert near_duplicates.shingles(text) == expected


def test_empty_texts_are_near_to_nothing_and_short_ones_to_their_like() -> None:
    made = near_duplicates.sketch(["", " ", "value for", "Value for!", "", "value"])
    assert near_duplicates.within(made, 0.8) == [near_duplicates.Near(2, 3, 1.0)]
    assert near_duplicates.between(near_duplicates.sketch([""]), near_duplicates.sketch(["", "a"]), 0.01) == []


def test_texts_are_hashed_alike_in_every_process() -> None:
    code = "from harness.data import near_duplicates as near; "
    code += f"print(near.sketch([{review(1)!r}]).hashes[0].hashvalues.tolist())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == near_duplicates.sketch([review(1)]).hashes[0].hashvalues.tolist()


def test_a_title_that_the_model_does_not_read_makes_no_difference(suite: Suite) -> None:
    rows = [Row(f"A title of its own, number {i}", review(1, 8), 1, None) for i in range(2)]
    content_only = suite.model_copy(
        update={"text": suite.text.model_copy(update={"template": "So {{title}}: {content}"})}
    )
    for declared, groups in ((suite, 0), (content_only, 1)):
        found = audit.audit(declared, splits_of(rows, rows_of([9])), {}).findings["train"]
        assert found["normalised_duplicates"]["groups"] == groups
        assert found["near_duplicates"]["pairs"] == 0


# Languages

FOREIGN = {
    "de": [
        "Das Telefon ist sehr gut, aber der Akku hält leider nicht lange.",
        "Ich würde dieses Buch nie wieder kaufen.",
    ],
    "fr": [
        "Ce livre est magnifique, je le recommande à tous mes amis.",
        "Le film est trop long et le son est mauvais.",
    ],
    "es": [
        "Este producto no funciona y quiero que me devuelvan el dinero.",
        "Una película muy bonita, me gustó mucho.",
    ],
}
ENGLISH = [
    "The phone is great, but the battery does not last long.",
    "I would never buy this book again.",
    "DO NOT BUY THIS!!! It broke after two days and customer service was useless.",
    "my kids love it",
    "Très chic, as they say, and the sound is superb; I play it every morning.",
    "5 stars",
    "wow",
    "",
    ":-)",
]


def test_german_french_and_spanish_are_probably_not_english() -> None:
    texts = [(code, text) for code, many in FOREIGN.items() for text in many]
    found = language.not_english([text for _, text in texts])
    assert [(f.position, f.language) for f in found] == [(i, code) for i, (code, _) in enumerate(texts)]
    assert all(language.MIN_PROBABILITY <= f.probability <= 1 for f in found)


def test_english_reviews_and_texts_too_short_to_tell_are_left_alone() -> None:
    assert language.not_english(ENGLISH) == []


def test_the_command_names_what_is_probably_not_english(harness: Command, suite_of: Callable[..., Path]) -> None:
    rows = [*(Row("Review", text, 1, None) for text in ENGLISH[:4]), Row("Film", FOREIGN["fr"][1], 0, None)]
    result = harness("data", suite_of(rows, rows_of(range(100, 103))), "--json")
    ((example_id, code, _),) = found_of(result.json(), "train")["not_english"]["ids"]
    assert (example_id, code) == (ids_of(rows)[-1], "fr")


# Nothing depends on order

titles = st.sampled_from(["", "Good", "A title"])
contents = st.sampled_from(["", "it works", *(review(s, 9) for s in range(3)), with_one_word_changed(review(0, 9))])
drawn_rows = st.lists(st.builds(Row, titles, contents, st.integers(0, 1), st.none()), min_size=1, max_size=12)


@pytest.mark.slow
@settings(max_examples=60)
@given(st.data(), drawn_rows, drawn_rows)
def test_findings_do_not_depend_on_the_order_of_rows(suite: Suite, draw: st.DataObject, a: Any, b: Any) -> None:
    loose = suite.model_copy(update={"audit": Audit(exact_overlap="report", near_overlap="report", near_threshold=0.3)})

    def found(train: list[Row], test: list[Row]) -> tuple[Any, Any]:
        audited = audit.audit(loose, splits_of(train, test), {})
        audited.findings["test"]["overlap"]["train"].pop("train_digest")
        return audited.findings, audit.judge(loose.audit, audited.overlaps)

    assert found(draw.draw(st.permutations(a)), draw.draw(st.permutations(b))) == found(a, b)


# Token lengths


def test_token_quantiles_are_those_of_a_case_worked_by_hand() -> None:
    found = audit.token_summary(np.array([21, 3, 13, 5, 8]), 12)
    assert found["quantiles"] == pytest.approx({"0": 3.0, "0.5": 8.0, "0.9": 17.8, "0.99": 20.68, "1": 21.0})
    assert (found["max_length"], found["truncated"], found["truncated_share"]) == (12, 2, 0.4)


@given(st.lists(st.integers(1, 600), min_size=1, max_size=30))
def test_token_quantiles_are_numpys(lengths: list[int]) -> None:
    found = audit.token_summary(np.array(lengths), 128)
    assert list(found["quantiles"].values()) == np.quantile(lengths, [0, 0.5, 0.9, 0.99, 1]).tolist()
    assert found["truncated"] == sum(length > 128 for length in lengths)


def test_tokens_are_counted_as_the_base_counts_them(tiny_base: Path) -> None:
    count = tokens.counter(tiny_base)
    assert count(["the phone is great .", "", "phone"]).tolist() == [7, 2, 3]


def test_what_the_audit_says_is_cut_is_what_scoring_cuts(harness: Command, suite_path: Path) -> None:
    suite_path.write_text(suite_path.read_text().replace("max_length = 32", "max_length = 9"))
    found = found_of(harness("data", suite_path, "--json").json(), "test")["tokens"]["tiny"]
    assert harness("evaluate", suite_path, "--model", "untrained", "--workers", "1").code == 0
    (truncated,) = {run["truncated"] for run in harness("ls", "--json").json()}
    assert 0 < found["truncated"] == truncated


def test_a_base_that_is_not_at_hand_has_no_token_lengths_and_stops_nothing(
    harness: Command, suite_path: Path, tiny_base: Path
) -> None:
    suite_path.write_text(suite_path.read_text().replace(f'path = "{tiny_base}"', 'path = "nowhere"'))
    result = harness("data", suite_path, "--json")
    assert result.code == 0
    assert found_of(result.json(), "test")["tokens"]["tiny"] is None
    assert "no token lengths for base 'tiny'" in result.err
    assert "–" in harness("data", suite_path).out


# What adapters say they were trained on


@pytest.fixture
def trained(harness: Command, suite_path: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The made-up suite with two scored splits and one LoRA of one seed, trained; and the adapter's folder."""
    text = suite_path.read_text().replace("seeds = [1, 2] }", "seeds = [1] }")
    whole = text[text.index('[[split]]\nid = "test"') : text.index("[[base]]")]
    first = whole.replace("stop = 1.0", "stop = 0.8")
    second = whole.replace('id = "test"', 'id = "test-b"').replace("start = 0.6", "start = 0.8")
    suite_path.write_text(text.replace(whole, first + second))
    assert harness("train", suite_path, "--adapter", "lora", "--workers", "1").code == 0
    (folder,) = (tmp_path / "runs" / "adapters" / "lora").glob("seed-1-*")
    return suite_path, folder


def plant(folder: Path, harness: Command, suite_path: Path) -> str:
    """Make an adapter's folder say that it was trained on a row of `test-b`, in place of another; that row's id."""
    example = (
        gather(load(suite_path), Workspace(suite_path, folder.parents[2] / "x.duckdb")).splits["test-b"].examples[2]
    )
    listed = (folder / "trained-on.txt").read_text().split()
    (folder / "trained-on.txt").write_text("".join(f"{line}\n" for line in sorted([*listed[1:], example.text_digest])))
    pin_list(folder)
    return example.example_id


def pin_list(folder: Path) -> None:
    """Make an adapter's card agree with the list of texts beside it."""
    card = json.loads((folder / "harness-card.json").read_text())
    card["trained_on"]["sha256"] = digest.of_file(folder / "trained-on.txt")
    (folder / "harness-card.json").write_text(json.dumps(card))


@pytest.mark.slow
def test_an_adapter_is_not_scored_on_a_split_that_its_own_folder_lists(
    harness: Command, trained: tuple[Path, Path], db: Path
) -> None:
    suite_path, folder = trained
    words = ["evaluate", suite_path, "--model", "tiny+lora", "--model", "majority", "--workers", "1", "--json"]
    before = harness(*words)
    assert (before.code, before.json()["scored"]) == (0, 4)
    row = plant(folder, harness, suite_path)
    after = harness(*words)
    assert after.code == 3
    assert (after.json()["scored"], after.json()["reused"]) == (0, 3), "the run from before does not count any more"
    (failed,) = after.json()["failed"]
    assert (failed["model"], failed["split"]) == ("tiny+lora", "test-b")
    assert "adapter 'lora' seed 1 was trained on 1 of the" in failed["error"]
    assert f"rows of split 'test-b' (first: {row})" in failed["error"]
    results = {(entry["model"], entry["split"]) for entry in after.json()["results"]}
    assert results == {("tiny+lora", "test"), ("majority", "test"), ("majority", "test-b")}


def test_a_model_that_is_loaded_for_one_split_is_not_used_on_one_that_is_forbidden(
    harness: Command, trained: tuple[Path, Path]
) -> None:
    suite_path, folder = trained
    plant(folder, harness, suite_path)
    result = harness("evaluate", suite_path, "--model", "tiny+lora", "--workers", "1", "--json")
    assert (result.code, result.json()["scored"], len(result.json()["failed"])) == (3, 1, 1)


@pytest.mark.slow
def test_an_adapter_is_scored_with_a_warning_where_the_suite_wants_a_report(
    harness: Command, trained: tuple[Path, Path]
) -> None:
    suite_path, folder = trained
    row = plant(folder, harness, suite_path)
    suite_path.write_text(suite_path.read_text() + AUDIT.format(exact="report", near="report", threshold=0.8))
    result = harness("evaluate", suite_path, "--model", "tiny+lora", "--workers", "1", "--json")
    assert (result.code, result.json()["scored"]) == (0, 2)
    (warning,) = [line for line in result.err.splitlines() if line.startswith("warning: tiny+lora")]
    assert row in warning


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["missing", "shorter", "another text"])
def test_an_adapter_that_does_not_say_what_it_was_trained_on_is_not_scored(
    harness: Command, trained: tuple[Path, Path], damage: str
) -> None:
    suite_path, folder = trained
    path = folder / "trained-on.txt"
    if damage == "missing":
        path.unlink()
    elif damage == "another text":  # as long as before, so that a leak would not be seen
        first, rest = path.read_text().split("\n", 1)
        path.write_text(f"{'0' * len(first)}\n{rest}")
    else:
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    result = harness("evaluate", suite_path, "--model", "tiny+lora", "--model", "majority", "--workers", "1", "--json")
    assert (result.code, result.json()["scored"]) == (3, 2)
    why = {
        "missing": "No such file",
        "shorter": " lists ",
        "another text": "is not the list of texts that its card pins",
    }
    assert why[damage] in result.json()["failed"][0]["error"]
    assert "trained-on.txt" in result.json()["failed"][0]["error"]
    assert "delete the folder to train anew" in result.json()["failed"][0]["error"]


@pytest.mark.slow
def test_an_adapter_of_an_earlier_release_has_seen_the_split_that_its_key_names(
    harness: Command, trained: tuple[Path, Path]
) -> None:
    suite_path, folder = trained
    card = json.loads((folder / "harness-card.json").read_text())
    assert card["trained_on"].pop("sha256") == digest.of_file(folder / "trained-on.txt")
    (folder / "harness-card.json").write_text(json.dumps(card))
    result = harness("evaluate", suite_path, "--model", "tiny+lora", "--workers", "1", "--json")
    assert (result.code, result.json()["scored"]) == (0, 2)
    assert "is unknown" not in result.err


# The page that explains the findings


def test_every_finding_and_its_fields_are_documented(suite: Suite) -> None:
    audited = audit.audit(suite, splits_of(*planted()), {"base": lambda texts: np.ones(len(texts), dtype=np.int64)})
    page = (Path(__file__).parents[2] / "docs/data.md").read_text(encoding="utf-8")
    section = page.partition("## What the audit finds")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (`[^|]+) \|", section, re.MULTILINE)
    documented = {name: set(re.findall(r"`(\w+)`", fields)) for name, fields in rows}
    found = audited.findings["test"]
    inner = {"tokens": found["tokens"]["base"], "overlap": found["overlap"]["train"]}
    assert documented == {name: set(inner.get(name, value)) for name, value in found.items()}


# The store


def finding(**changes: Any) -> Finding:
    fields: dict[str, Any] = {
        "suite_digest": "a" * 64, "split_id": "test", "split_digest": "b" * 64, "name": "balance",
        "value": {"n": 3, "ids": [["ü", 0.5]], "none": None}, "audited_at": provenance.now(),
    }  # fmt: skip
    return Finding(**fields | changes)


def test_an_audit_takes_the_place_of_the_last_one_of_its_suite_only(db: Path) -> None:
    first = [finding(), finding(name="tokens"), finding(split_id="gone")]
    other = [finding(suite_digest="c" * 64, name="empty")]
    second = [finding(value={"n": 4}), finding(split_id="new")]
    with opened(db) as connection:
        for many in (first, other, second):
            writer.write_audit(connection, many)
        assert reader.latest_audit(connection, "a" * 64) == sorted(second, key=lambda f: f.split_id)
        assert reader.latest_audit(connection, "c" * 64) == other
        assert reader.latest_audit(connection, "d" * 64) == []


def test_a_store_of_the_first_schema_gains_the_audit_and_keeps_its_runs(tmp_path: Path, suite_path: Path) -> None:
    path = tmp_path / "old.duckdb"
    first = resources.files("harness.store").joinpath("migrations/0001_initial.sql").read_text()
    with duckdb.connect(str(path)) as old:
        old.execute("CREATE TABLE migration (version INTEGER PRIMARY KEY, applied_at TIMESTAMP NOT NULL)")
        old.execute(first)
        old.execute("INSERT INTO migration VALUES (1, TIMESTAMP '2025-01-01 00:00:00')")
        old.execute("INSERT INTO verdict VALUES ('s', 'g', TIMESTAMP '2025-01-01 00:00:00', 'pass', '{}')")
    with pytest.raises(StoreError, match="has an older schema"), opened(path, read_only=True):
        pass
    with opened(path) as connection:
        writer.write_audit(connection, [finding()])
        assert connection.execute("SELECT outcome FROM verdict").fetchall() == [("pass",)]
        assert connection.execute("SELECT version FROM migration ORDER BY version").fetchall()[:2] == [(1,), (2,)]
    with opened(path, read_only=True) as connection:
        assert [f.name for f in reader.latest_audit(connection, "a" * 64)] == ["balance"]


# The real thing, at the size of a suite


def test_thousands_of_reviews_are_compared_in_seconds() -> None:
    ones = [review(seed, 80) for seed in range(400)]
    others = [review(seed, 80) for seed in range(1000, 3000)]
    others[7] = with_one_word_changed(ones[3])
    began = time.process_time()
    pairs = near_duplicates.between(near_duplicates.sketch(ones), near_duplicates.sketch(others), 0.8)
    seconds = time.process_time() - began
    assert [(pair.one, pair.other) for pair in pairs] == [(3, 7)]
    assert seconds < 12, "a fifth of 2,000 against 10,000, for which there is a minute"
