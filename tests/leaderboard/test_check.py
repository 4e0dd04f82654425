"""`--check`: a page or data file that differs from the store is found, whoever changed it."""

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.records import Outcomes, Prediction, Run, Split
from harness.stats.metrics import METRICS, value
from harness.store import sql_metrics, writer
from harness.store.connection import Connection, opened
from leaderboard.site import check, render
from leaderboard.site.check import Checked

if TYPE_CHECKING:
    from tests.leaderboard.conftest import Bench

COUNTS = {"n", "true_positive", "false_positive", "false_negative", "true_negative"}


Files = dict[str, str | bytes]
Check = Callable[[Path], Checked]


@pytest.fixture
def out(whole: Files, tmp_path: Path) -> Path:
    """The site of the store with texts, on disk."""
    render.write(whole, tmp_path / "site")
    return tmp_path / "site"


@pytest.fixture(scope="module")
def checked(with_texts: "Bench", whole: Files) -> Check:
    """Check a folder against that store."""
    boards = [with_texts.board()]
    known = sql_metrics.metrics_of(with_texts.connection, check.run_ids(boards))
    return lambda out: check.check(whole, boards, out, known)


def test_a_site_is_as_in_its_store_and_its_numbers_are_recomputed(checked: Check, out: Path, whole: Files) -> None:
    found = checked(out)
    assert found.problems == ()
    assert found.files == len(whole)
    assert found.numbers > 100


@pytest.mark.parametrize("name", ["index.html", "demo/tfidf.html", "demo/tiny+lora.html", "demo/compare/index.html"])
def test_a_changed_number_is_named_with_its_page_its_value_and_the_recomputed_one(
    checked: Check, out: Path, name: str
) -> None:
    page = (out / name).read_text(encoding="utf-8")
    marked = next(one for one in check.numbers_of(page) if one.attributes["data-metric"] == "accuracy")
    tag = re.search(r'<data[^>]*data-metric="accuracy"[^>]*>', page)
    assert tag is not None
    raw = marked.attributes["value"]
    (out / name).write_text(
        page.replace(tag[0], tag[0].replace(f'value="{raw}"', 'value="0.999"'), 1), encoding="utf-8"
    )
    (problem,) = checked(out).problems
    assert problem.startswith(f"{name}, line {marked.line}: accuracy of ")
    assert f"0.999 on the page, {float(raw)!r}" in problem.replace("has the value ", "")


def test_a_changed_count_of_a_confusion_matrix_is_named(checked: Check, out: Path) -> None:
    file = out / "demo" / "tiny+lora.html"
    page = file.read_text(encoding="utf-8")
    marked = [one for one in check.numbers_of(page) if one.attributes["data-metric"] in COUNTS - {"n"}]
    assert len(marked) == 4 * 2, "four counts over all seeds, on two splits"
    tag = re.search(r'<data value="(\d+)"([^>]*data-metric="false_negative"[^>]*)>', page)
    assert tag is not None
    file.write_text(page.replace(tag[0], f'<data value="77"{tag[2]}>', 1), encoding="utf-8")
    (problem,) = checked(out).problems
    assert "false_negative of tiny+lora on test has the value 77.0 on the page, " in problem
    assert problem.endswith(f"{float(tag[1])!r} recomputed from its predictions")
    file.write_text(re.sub(rf"({re.escape(tag[0])})\d+", r"\g<1>77", page, count=1), encoding="utf-8")
    (problem,) = checked(out).problems
    assert f"false_negative of tiny+lora on test is 77 on the page, {tag[1]} recomputed" in problem


def test_a_changed_number_of_one_run_is_named_with_its_seed(checked: Check, out: Path) -> None:
    file = out / "demo" / "tiny+lora.html"
    page = file.read_text(encoding="utf-8")
    tag = re.search(r'<data value="[^"]*"([^>]*data-metric="accuracy"[^>]*data-seed="42"[^>]*)>', page)
    assert tag is not None
    file.write_text(page.replace(tag[0], f'<data value="0.77"{tag[1]}>', 1), encoding="utf-8")
    (problem,) = checked(out).problems
    assert "accuracy of tiny+lora seed 42 on test has the value 0.77 on the page, " in problem


def test_a_changed_text_beside_an_unchanged_value_is_found(checked: Check, out: Path) -> None:
    file = out / "demo" / "tfidf.html"
    page = file.read_text(encoding="utf-8")
    file.write_text(re.sub(r"(<data[^>]*>)0\.\d+(</data>)", r"\g<1>0.987\g<2>", page, count=1), encoding="utf-8")
    (problem,) = checked(out).problems
    assert re.match(r"demo/tfidf\.html, line \d+: .* of tfidf.* is 0\.987 on the page, 0\.\d+ recomputed", problem)


def test_a_number_about_a_model_that_the_store_does_not_know_is_found(checked: Check, out: Path) -> None:
    file = out / "demo" / "tfidf.html"
    page = file.read_text(encoding="utf-8")
    file.write_text(page.replace('data-model="tfidf"', 'data-model="invented"', 1), encoding="utf-8")
    (problem,) = checked(out).problems
    assert "of invented" in problem
    assert "the store has no such number" in problem


@pytest.mark.parametrize("name", ["index.html", "demo/tfidf.html", "demo/examples/index.html", "static/stats.js"])
def test_changed_words_scripts_and_intervals_are_found_with_their_line(checked: Check, out: Path, name: str) -> None:
    file = out / name
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join([*lines[:6], "a line more\n", *lines[6:]]), encoding="utf-8")
    (problem,) = [one for one in checked(out).problems if "differs from what the store renders" in one]
    assert problem.startswith(f"{name}, line 7: ")


def test_a_changed_prediction_in_a_data_file_is_found(checked: Check, out: Path) -> None:
    file = out / "demo/data/test/predictions/tfidf.js"
    text = file.read_text()
    packed = re.search(r'null,"([^"]+)"', text)
    assert packed is not None
    file.write_text(text.replace(packed[1], packed[1][:2] + ("A" if packed[1][2] != "A" else "I") + packed[1][3:]))
    (problem,) = checked(out).problems
    assert problem.startswith("demo/data/test/predictions/tfidf.js")
    file.write_text('harnessData("test/predictions/tfidf",{"runs":[]});\n')
    (problem,) = checked(out).problems
    assert "differs from what the store renders now" in problem
    file.write_text("nothing of the kind")
    (problem,) = checked(out).problems
    assert problem == "demo/data/test/predictions/tfidf.js: is not a data file"


def test_other_labels_in_a_data_file_are_counted(checked: Check, out: Path) -> None:
    mine, other = (out / f"demo/data/test/predictions/{model}.js" for model in ("majority", "tfidf"))
    answers = re.search(r'null,"([^"]+)"', other.read_text())
    assert answers is not None
    mine.write_text(re.sub(r'(null,")[^"]+', lambda found: found[1] + answers[1], mine.read_text()))
    (problem,) = checked(out).problems
    assert re.search(r"predicts positive for \d+ of 300 examples here, for \d+ of 300 in the store", problem)


def test_missing_and_left_over_files_and_a_damaged_manifest_are_found(checked: Check, out: Path, whole: Files) -> None:
    (out / "demo" / "tiny.html").unlink()
    assert checked(out).problems == ("demo/tiny.html: is missing",)
    render.write({"old.html": "old", **whole}, out)
    assert checked(out).problems == ("old.html: the store no longer renders this file",)
    (out / render.MANIFEST).write_text("")
    assert checked(out).problems == (".manifest.json: is missing or damaged; render the site again",)


def test_a_store_whose_predictions_were_changed_afterwards_is_found(
    bench_of: Callable[..., "Bench"], tmp_path: Path
) -> None:
    bench = bench_of(splits=["test"])
    bench.fill(bench.add_split("test", 40), {"tfidf": 0.7, "majority": 0.5})
    render.write(bench.whole_site(), tmp_path / "site")
    bench.connection.execute(
        "UPDATE prediction SET predicted = 1 - predicted WHERE run_id LIKE 'tfidf%' AND example_id = ?",
        [bench.examples["test"][0].example_id],
    )
    boards = [bench.board()]
    known = sql_metrics.metrics_of(bench.connection, check.run_ids(boards))
    problems = check.check(bench.whole_site(), boards, tmp_path / "site", known).problems
    assert any(re.search(r"accuracy of tfidf.* on test has the value 0\.7", one) for one in problems)


# The recomputation itself


numbers = itertools.count()


@pytest.fixture(scope="module")
def recount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """A store for the runs of all examples: to make one takes longer than to recompute a run."""
    with opened(tmp_path_factory.mktemp("recount") / "store.duckdb") as connection:
        yield connection


@pytest.mark.slow
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.5001, 0.75, 0.9, 1.0])),
        min_size=1,
        max_size=25,
    )
)
def test_the_recomputation_in_sql_and_the_metrics_agree(
    rows: list[tuple[int, float]],
    make_split: Callable[..., Split],
    make_run: Callable[..., Run],
    make_predictions: Callable[..., list[Prediction]],
    recount: Connection,
) -> None:
    labels, scores = [label for label, _ in rows], [score for _, score in rows]
    split, run_id = make_split(len(rows), labels=labels), f"run-{next(numbers)}"
    writer.write_split(recount, "demo", split, with_text=False)
    writer.write_run(recount, make_run(split, run_id=run_id), make_predictions(split, scores))
    (found,) = sql_metrics.metrics_of(recount, [run_id, "no such run"]).values()
    outcomes = Outcomes((), np.array(labels), (np.array(scores) > 0.5).astype(np.int64), np.array(scores), None)
    expected: dict[str, Any] = {name: value(name, outcomes) for name in METRICS if not METRICS[name].of_pairs}
    assert set(found) == set(expected) | COUNTS
    for name, number in expected.items():
        told = found[name]
        assert (told is None) == bool(np.isnan(number)), name
        if told is not None:
            assert told == pytest.approx(number, abs=1e-9), name
    assert [found[name] for name in ("n", "true_positive")] == [
        len(rows), sum(label == 1 and score > 0.5 for label, score in rows)
    ]  # fmt: skip


MUTATIONS = {
    "a card's number": ("index.html", r'(class="answer">.*?<data[^>]*>)\+\d+\.\d', r"\g<1>+99.9"),
    "a card's value": ("index.html", r'(class="answer">.*?<data value=")[^"]*', r"\g<1>0.999"),
    "a card's interval": ("index.html", r'(class="answer">.*?<span class="ci">)\[\d+\.\d', r"\g<1>[0.1"),
    "a card's word": ("index.html", r'(class="answer">.*?</span> )Yes', r"\g<1>No"),
    "a card's sign": ("index.html", r'(class="answer">.*?aria-hidden="true">)✓', r"\g<1>✗"),
    "a card's colour": ("index.html", r'<li class="card pass">', '<li class="card fail">'),
    "a card's adapter": ("index.html", r"Is LoRA better", "Is IA³ better"),
    "a card's base": ("index.html", r"an untrained head, which is chance", "a linear probe"),
    "the link to a card's base": ("index.html", r'(class="over">.*?)demo/tiny\.html', r"\g<1>demo/tfidf.html"),
    "a card's drawing": ("index.html", r'(class="zeroed" style="--l:)\d+\.\d', r"\g<1>1.0"),
    "the place of zero in a card": ("index.html", r'(class="zeroed" style="[^"]*--z:)\d+\.\d', r"\g<1>1.0"),
    "a gate's outcome": ("index.html", r'(<ul class="verdicts">\s*<li class=")pass', r"\g<1>fail"),
    "a gate's word": ("index.html", r'(aria-hidden="true">✓</span> )pass', r"\g<1>fail"),
    "a gate's numbers": ("index.html", r'(<span class="reason">0\.)\d+', r"\g<1>999"),
    "a gate's rule": ("index.html", r"accuracy &gt;= 0\.5", "accuracy &gt;= 0.6"),
    "a lead in the table": ("index.html", r'(</td><td><data[^>]*data-minus="tiny"[^>]*>)\+0\.\d+', r"\g<1>+0.999"),
    "the interval of a lead": ("index.html", r'(data-minus="tiny"[^>]*>\+0\.\d+</data> <small>\[0\.)\d+', r"\g<1>999"),
    "a score among all splits": ("index.html", r'(<td class="drawn".*?<data[^>]*>0\.)\d+', r"\g<1>999"),
    "a bar among all splits": ("index.html", r'(<td class="drawn".*?--p:)\d+\.\d', r"\g<1>1.0"),
    "swapped names of rows": ("index.html", r">tiny\+lora</a>(.*?)>tiny\+ia3</a>", r">tiny+ia3</a>\g<1>>tiny+lora</a>"),
    "the leader": ("index.html", r">tiny\+lora</a> leads", ">tfidf</a> leads"),
    "a tier": ("index.html", r'<td class="tier">1</td>', '<td class="tier">2</td>'),
    "a plotted point": ("index.html", r'(<svg class="plot".*?transform="translate\()\d+', r"\g<1>7"),
    "a gate on a model's page": ("demo/tfidf.html", r'(aria-hidden="true">✓</span> )pass', r"\g<1>fail"),
    "a count of confusion": ("demo/tfidf.html", r'(data-metric="true_positive"[^>]*>)\d+', r"\g<1>7"),
    "a weight's share or citation": ("demo/tfidf.html", r"title = \{tfidf", "title = {tiny"),
    "a pair's number": ("demo/compare/index.html", r'(data-minus="tiny"[^>]*>\+0\.)\d+', r"\g<1>999"),
    "a pair's data": ("demo/data/suite.js", r'(\["tiny\+lora","tiny",0\.)\d+', r"\g<1>999"),
    "a download": ("demo/board.json", r'("against_base": 0\.)\d+', r"\g<1>999"),
}


@pytest.mark.parametrize("what", MUTATIONS)
def test_every_mutation_of_a_rendered_site_is_found(checked: Check, out: Path, what: str) -> None:
    name, pattern, replacement = MUTATIONS[what]
    file = out / name
    text, n = re.subn(pattern, replacement, file.read_text(encoding="utf-8"), count=1, flags=re.DOTALL)
    assert n == 1, "there is nothing to mutate"
    assert text != file.read_text(encoding="utf-8")
    file.write_text(text, encoding="utf-8")
    problems = checked(out).problems
    assert problems
    assert all(problem.startswith(name) for problem in problems)
