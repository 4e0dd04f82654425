"""`harness compare` as people meet it: real runs, tables, JSON, and what it says where it cannot compare."""

import dataclasses
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.artifacts import digest
from harness.cli import app
from harness.cli.tables.comparison import show_comparison
from harness.gates import compare
from harness.records import Outcomes, Split
from tests.fixtures import finished_beside

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory, index: Any, tiny_base: Path) -> Path:
    """A folder with the made-up suite, a second scored split in it, and its store: untrained was not scored there."""
    folder = tmp_path_factory.mktemp("scored")
    path = folder / "suites" / "made-up.toml"
    path.parent.mkdir()
    text = (Path(__file__).parents[1] / "resources" / "made_up_suite.toml").read_text()
    base_sha256 = digest.of_file(tiny_base / "model.safetensors")
    finished_sha256 = digest.of_file(finished_beside(tiny_base) / "model.safetensors")
    pins = {"SHA256": index.sha256, "BASE_SHA256": base_sha256, "FINISHED_SHA256": finished_sha256}
    for name, value in {"BASE": str(tiny_base), **pins}.items():
        text = text.replace(f"@{name}@", value)
    test = text[text.index('[[split]]\nid = "test"') : text.index("[[base]]")]
    halves = (
        test.replace("stop = 1.0", "stop = 0.8"),
        test.replace("start = 0.6", "start = 0.8").replace("test", "more"),
    )
    path.write_text(text.replace(test, "".join(halves)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_INDEX_URL", index.url)
        patch.setenv("PIP_EXTRA_INDEX_URL", "")
        patch.setenv("HARNESS_DB", str(folder / "runs" / "harness.duckdb"))
        for words in (["--model", "tfidf", "--model", "majority"], ["--model", "untrained", "--split", "test"]):
            result = CliRunner().invoke(app, ["evaluate", str(path), *words, "--workers", "1"], catch_exceptions=False)
            assert result.exit_code == 0
    return folder


@pytest.fixture
def evaluated(scored: Path, tmp_path: Path) -> Path:
    """A copy of that suite and store, where `harness` looks."""
    shutil.copytree(scored, tmp_path, dirs_exist_ok=True)
    return tmp_path / "suites" / "made-up.toml"


def test_two_models_stand_side_by_side(harness: Command, evaluated: Path) -> None:
    result = harness("compare", evaluated, "untrained", "tfidf", "--split", "test")
    assert (result.code, result.err) == (0, "")
    assert "A = untrained (seeds 1, 2)\nB = tfidf" in "\n".join(line.rstrip() for line in result.out.splitlines())
    for words in ("accuracy", "f1", "exact McNemar; Holm over 2", "only B", "label=positive", "ece by chance alone"):
        assert words in result.out
    assert "0.93–1.00" in result.out
    without_texts = [
        line
        for line in result.out.splitlines()
        if not line.startswith(("only ", "What flips share: ", "Is ", "next: "))
    ]
    assert max(len(line.rstrip()) for line in without_texts) <= 100
    sentence, following = result.out.splitlines()[-2:]
    assert re.fullmatch(
        r"Is untrained better than tfidf on test\? (Yes|No, worse|Not shown): [+−]\d+\.\d points of accuracy "
        r"\[−?\d+\.\d, −?\d+\.\d\], p (= \d\.\d{3}|< 0\.001), n \d+\.",
        sentence,
    ), sentence
    assert following.startswith("next: harness site ")


def test_json_holds_everything_and_the_same_numbers_as_evaluate(harness: Command, evaluated: Path) -> None:
    only = ("--model", "untrained", "--model", "tfidf", "--split", "test", "--workers", "1", "--json")
    evaluation = harness("evaluate", evaluated, *only)
    stored = {row["model"]: (row["value"], row["ci_low"], row["ci_high"]) for row in evaluation.json()["results"]}
    result = harness("compare", evaluated, "untrained", "tfidf", "--split", "test", "--flips", "0", "--json").json()
    (found,) = result["comparisons"]
    accuracy = found["metrics"][0]
    for side, model in (("a", "untrained"), ("b", "tfidf")):
        assert tuple(accuracy[side][end] for end in ("value", "ci_low", "ci_high")) == stored[model]
    assert accuracy["difference"]["value"] == pytest.approx(stored["untrained"][0] - stored["tfidf"][0])
    assert [(test["seed_a"], test["seed_b"]) for test in found["tests"]] == [(1, None), (2, None)]
    flips = [*found["only_a_right"], *found["only_b_right"]]
    assert flips
    assert all(len(flip["votes_a"]) == 2 and len(flip["votes_b"]) == 1 and flip["text"] for flip in flips)
    assert {one["name"] for one in found["slices"]} >= {"label=positive", "label=negative"}
    assert sum(one["n"] for one in found["calibration_a"]["bins"]) == 2 * found["n"]
    assert 0 < found["calibration_a"]["ece_by_chance"] < 1


def test_the_other_way_round_is_the_negation(harness: Command, evaluated: Path) -> None:
    one, other = (
        harness("compare", evaluated, *models, "--split", "test", "--json").json()["comparisons"][0]["metrics"]
        for models in (("untrained", "tfidf"), ("tfidf", "untrained"))
    )
    for here, there in zip(one, other, strict=True):
        assert here["difference"]["value"] == -there["difference"]["value"]
        assert here["difference"]["ci_low"] == -there["difference"]["ci_high"]
        assert here["difference"]["p_value"] == there["difference"]["p_value"]


def test_flips_are_named_up_to_a_number_and_all_counted(harness: Command, evaluated: Path) -> None:
    words = ["compare", evaluated, "tfidf", "majority", "--split", "test"]
    (found,) = harness(*words, "--json").json()["comparisons"]
    flips = found["only_a_right"]
    assert len(flips) > 3
    for asked, shown in ((0, 0), (2, 2), (1000, len(flips))):
        result = harness(*words, "--flips", asked)
        assert sum(flip["example_id"][:12] in result.out for flip in flips) == shown
        assert re.search(rf"^only A +{len(flips)} *$", result.out, re.MULTILINE)
    assert harness(*words, "--flips", "-1").code == 2


def test_texts_are_shown_only_where_the_suite_stores_them(harness: Command, evaluated: Path) -> None:
    words = ["compare", evaluated, "tfidf", "majority", "--split", "test"]
    flip = harness(*words, "--json").json()["comparisons"][0]["only_a_right"][0]
    assert flip["text"] in harness(*words).out
    evaluated.write_text(evaluated.read_text().replace("store = true", "store = false"))
    result, as_json = harness(*words), harness(*words, "--json")
    assert result.code == as_json.code == 0
    assert flip["example_id"][:12] in result.out
    assert "number" not in result.out
    assert "number" not in as_json.out
    assert as_json.json()["comparisons"][0]["only_a_right"][0] == {k: v for k, v in flip.items() if k != "text"}


def test_every_split_that_both_were_scored_on_is_compared(harness: Command, evaluated: Path) -> None:
    both = harness("compare", evaluated, "tfidf", "majority", "--json")
    assert [one["split_id"] for one in both.json()["comparisons"]] == ["test", "more"]
    some = harness("compare", evaluated, "tfidf", "untrained", "--json")
    assert some.code == 0
    assert [one["split_id"] for one in some.json()["comparisons"]] == ["test"]
    assert some.err.startswith("not compared: untrained seed ")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tfidf", "tfidf"], "tfidf would be compared with itself"),
        (["tfidf", "gpt"], "there is no model 'gpt' (known: majority, tfidf,"),
        (["tfidf", "majority", "--split", "train"], "there is no split to score 'train' (known: test, more)"),
        (["tfidf", "untrained", "--split", "more"], " on more has no run in the store; evaluate the suite first"),
        (
            ["tfidf", "untrained", "--split", "test", "--split", "more"],
            "untrained seed 2 on more has no run in the store",
        ),
        (["probe", "tfidf"], "probe on test has no run in the store; evaluate the suite first"),
        (["tiny+lora", "tfidf"], "has not been trained yet; evaluate the suite first"),
    ],
)
def test_what_cannot_be_compared_is_told_with_its_reason(
    harness: Command, evaluated: Path, words: list[str], expected: str
) -> None:
    result = harness("compare", evaluated, *words)
    assert (result.code, result.out) == (2, "")
    assert expected in result.err
    assert "Traceback" not in result.err


def test_a_stale_run_is_told_with_what_changed(harness: Command, evaluated: Path) -> None:
    evaluated.write_text(evaluated.read_text().replace("C = 10.0", "C = 9.0"))
    result = harness("compare", evaluated, "tfidf", "majority")
    assert (result.code, result.out) == (2, "")
    assert "tfidf on test is stale: it was last scored with another model.C" in result.err


def test_without_a_store_the_reader_is_told_what_to_run(harness: Command, suite_path: Path) -> None:
    result = harness("compare", suite_path, "tfidf", "majority")
    assert result.code == 2
    assert "there is no store here yet; run `harness evaluate SUITE` first" in result.err


def test_a_text_cannot_write_to_the_terminal(
    make_split: Callable[..., Split], make_outcomes: Callable[..., Outcomes], capsys: pytest.CaptureFixture[str]
) -> None:
    examples = make_split(12).examples
    labels, ids = [example.label for example in examples], tuple(example.example_id for example in examples)
    outcomes = [dataclasses.replace(make_outcomes(labels, [i] * 12), example_ids=ids) for i in (0, 1)]
    a, b = (compare.Side(name, (None,), (name * 64,), (one,)) for name, one in zip("ab", outcomes, strict=True))
    found = compare.compare("test", examples, a, b, ["accuracy"], "accuracy")
    show_comparison(found, 10, dict.fromkeys(ids, "\x1b[31mred\x07\nand [bold]marked[/bold] " + "x" * 300))
    shown = capsys.readouterr().out
    assert "<U+001B>[31mred<U+0007> and [bold]marked[/bold] " in shown
    assert "\x1b" not in shown
    assert "…" in shown
    assert shown.count("x") < 12 * 160
