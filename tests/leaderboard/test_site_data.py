"""Data files: they agree with the store, and no text of a review ends a script."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from harness.gates.compare import Side, compare
from harness.stats.estimates import Difference
from harness.stats.slices import all_slices
from leaderboard.board.examples import consensus
from leaderboard.board.pairs import chosen_pairs
from leaderboard.site import render
from leaderboard.site.data_files import SCORE_STEPS, TEXTS_PER_FILE
from tests.leaderboard.conftest import TEXTS

if TYPE_CHECKING:
    from tests.leaderboard.conftest import Bench


@pytest.fixture(scope="module")
def files(whole: dict[str, str | bytes]) -> dict[str, str]:
    return {name: text for name, text in whole.items() if isinstance(text, str)}


def value(files: dict[str, str], name: str) -> Any:
    """The value that a data file passes on."""
    text = files[f"demo/data/{name}.js"]
    start = f'harnessData("{name}",'
    assert text.startswith(start)
    assert text.endswith(");\n")
    return json.loads(text[len(start) : -3])


def bits(text: str, n: int) -> list[int]:
    return [int(bit) for bit in np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), bitorder="little")[:n]]


def test_there_is_a_data_file_for_every_model_with_runs_and_for_every_page_of_texts(files: dict[str, str]) -> None:
    names = {name.removeprefix("demo/data/").removesuffix(".js") for name in files if name.startswith("demo/data/")}
    models = ["majority", "tfidf", "tiny", "tiny+lora", "tiny+ia3"]
    assert names == {
        "suite",
        *(f"{split}/{kind}" for split in ("test", "elsewhere") for kind in ("examples", "texts-0")),
        "test/texts-1",
        *(f"{split}/predictions/{model}" for split in ("test", "elsewhere") for model in models),
        "test/words/tiny+lora",
        "test/words/tfidf",
    }
    assert TEXTS_PER_FILE < 300


def test_explained_words_are_places_scores_and_changes_of_log_odds(with_texts: "Bench", files: dict[str, str]) -> None:
    found = value(files, "test/words/tiny+lora")
    assert found["seed"] == 13
    assert [position for position, *_ in found["examples"]] == [1, 3, 4, 5]
    position, score, pieces = found["examples"][2]
    assert (position, score) == (4, 0.8)
    field, start, end, without, change = pieces[0]
    assert with_texts.examples["test"][4].title[start:end] == "Review"
    assert (field, without) == (0, 0.1)
    assert change == pytest.approx(np.log(0.8 / 0.2) - np.log(0.1 / 0.9), abs=0.0005)
    (split, _) = value(files, "suite")["splits"]
    assert sorted(split["words"]) == ["tfidf", "tiny+lora"]


def test_no_explained_word_reaches_a_site_without_texts(bench: "Bench") -> None:
    test = bench.add_split("test", 20, texts=[("", f"word number {i}") for i in range(20)])
    bench.fill(test, {"tfidf": 0.7})
    bench.explain("tfidf", test, None, [1, 2])
    made = bench.whole_site()
    assert not [name for name in made if "/words/" in name]
    assert b"Mark words" not in str(made["demo/examples/index.html"]).encode()


def test_predictions_come_back_from_a_data_file_with_scores_to_four_decimals(
    with_texts: "Bench", files: dict[str, str]
) -> None:
    board = with_texts.board()
    for section in board.sections:
        for entry in section.entries:
            runs = value(files, f"{section.split.id}/predictions/{entry.model_id}")["runs"]
            assert [(run_id, seed) for run_id, seed, _ in runs] == [(s.run.run_id, s.run.seed) for s in entry.runs]
            for run_id, _, answers in runs:
                packed = np.frombuffer(base64.b64decode(answers), dtype="<u2")
                outcomes = board.outcomes[run_id]
                assert (packed >> 15).tolist() == outcomes.predicted.tolist()
                np.testing.assert_allclose((packed & 0x7FFF) / SCORE_STEPS, outcomes.scores, atol=0.5001 / SCORE_STEPS)


def test_labels_clusters_lengths_and_slices_are_those_of_the_examples(
    with_texts: "Bench", files: dict[str, str]
) -> None:
    for split_id, rows in with_texts.examples.items():
        data = value(files, f"{split_id}/examples")
        assert data["ids"] == [one.example_id for one in rows]
        assert bits(data["labels"], len(rows)) == [one.label for one in rows]
        words = np.frombuffer(base64.b64decode(data["words"]), dtype="<u2").tolist()
        assert words == [len(one.content.split()) for one in rows]
        expected = all_slices(rows)
        assert [name for name, _ in data["slices"]] == list(expected)
        for name, mask in data["slices"]:
            assert bits(mask, len(rows)) == expected[name].tolist()
    numbers = np.frombuffer(base64.b64decode(value(files, "elsewhere/examples")["clusters"]), dtype="<u4")
    names = np.array([one.cluster for one in with_texts.examples["elsewhere"]])
    assert len(set(zip(names.tolist(), numbers.tolist(), strict=True))) == 30 == len(set(numbers.tolist()))
    assert value(files, "test/examples")["clusters"] is None


def test_hostile_texts_come_back_whole_and_end_neither_script_nor_line(files: dict[str, str]) -> None:
    assert [tuple(text) for text in value(files, "test/texts-0")[: len(TEXTS)]] == list(TEXTS)
    for name, text in files.items():
        if "/data/" in name:
            assert text.isascii()
            assert "<" not in text
            assert text.count("\n") == 1


def test_texts_are_nowhere_where_the_suite_does_not_store_them(filled: "Bench") -> None:
    secret = "a sentence that nobody may publish"
    rows = {
        split_id: tuple(
            type(one)(one.example_id, secret, secret, one.label, one.cluster, one.text_digest) for one in many
        )
        for split_id, many in filled.examples.items()
    }
    site = render.render([filled.board()], {"demo": rows})
    assert not [name for name in site if "/texts-" in name]
    assert not [
        name for name, text in site.items() if secret.encode() in (text.encode() if isinstance(text, str) else text)
    ]
    assert "so only ids and scores are shown" in str(site["demo/examples/index.html"])


def test_pairs_compared_beforehand_have_the_numbers_of_harness_compare(with_texts: "Bench") -> None:
    board = with_texts.board()
    for section in board.sections:
        sides = {
            entry.model_id: Side(
                entry.model_id,
                tuple(scored.run.seed for scored in entry.runs),
                tuple(scored.run.run_key for scored in entry.runs),
                tuple(board.outcomes[scored.run.run_id] for scored in entry.runs),
            )
            for entry in section.entries
        }
        pairs = chosen_pairs(board, section)
        assert {(pair.a, pair.b) for pair in pairs} >= {("tiny+lora", "tiny"), ("tiny+ia3", "tiny")}
        assert {pair.why for pair in pairs} == {"its base", "the next below", "against the best"}
        assert len({frozenset((pair.a, pair.b)) for pair in pairs}) == len(pairs)
        for pair in pairs[::3]:  # each takes as long as the command
            rows = with_texts.examples[section.split.id]
            found = compare(section.split.id, rows, sides[pair.a], sides[pair.b], ["accuracy"], "accuracy")
            expected = found.metrics[0].difference
            assert isinstance(expected, Difference)
            assert tuple(pair.difference) == pytest.approx(tuple(expected), abs=1e-12)


def test_after_adapters_and_their_bases_come_the_pairs_of_the_suites_rules(with_texts: "Bench") -> None:
    board = with_texts.board()
    (gate,) = board.suite.gate
    against = type(gate).model_validate(
        {**gate.model_dump(exclude_none=True), "superior_to": {"model": "majority", "margin": 0.0}}
    )
    suite = board.suite.model_copy(update={"gate": (against,)})
    first = [(pair.a, pair.b, pair.why) for pair in chosen_pairs(replace(board, suite=suite), board.sections[0])[:3]]
    assert first[:2] == [("tiny+lora", "tiny", "its base"), ("tiny+ia3", "tiny", "its base")]
    assert first[2] == ("tfidf", "majority", "in a rule")


def test_the_consensus_is_of_trained_models_alone_and_the_surest_come_first(with_texts: "Bench") -> None:
    board = with_texts.board()
    section = board.sections[0]
    found = consensus(section, board.outcomes)
    trained = ["tfidf", "tiny+lora", "tiny+ia3"]
    worst = []
    for i, label in enumerate(board.outcomes[section.entries[0].runs[0].run.run_id].labels.tolist()):
        chances = []
        for entry in section.entries:
            if entry.model_id in trained:
                score = np.mean([board.outcomes[scored.run.run_id].scores[i] for scored in entry.runs])
                chances.append(1 - score if label else score)
        worst.append(min(chances))
    assert found
    assert [one.position for one in found] == sorted(
        (i for i, p in enumerate(worst) if p > 0.5), key=lambda i: -worst[i]
    )
    assert [one.least for one in found] == pytest.approx(sorted((p for p in worst if p > 0.5), reverse=True))


def test_runs_of_other_examples_are_refused(with_texts: "Bench") -> None:
    rows = {"demo": {"test": with_texts.examples["test"][::-1]}}
    with pytest.raises(ValueError, match="was not scored on these examples of test"):
        render.render([with_texts.board()], rows)


def test_a_model_may_have_the_name_of_a_page(bench_of: Callable[..., "Bench"], tmp_path: Path) -> None:
    models = "".join(
        f'\n[[model]]\nid = "{name}"\nbackend = "majority"\ntrain_split = "train"\n'
        for name in ("compare", "data", "examples")
    )
    bench = bench_of(models=models, gate=False, splits=["test"])
    test = bench.add_split("test", 20)
    bench.fill(test, {"compare": 0.5, "data": 0.6, "examples": 0.7})
    site = bench.whole_site()
    pages = ["demo/compare.html", "demo/compare/index.html", "demo/data.html", "demo/examples.html"]
    assert set(pages) < set(site)
    assert render.write(site, tmp_path / "site") == len(site)
