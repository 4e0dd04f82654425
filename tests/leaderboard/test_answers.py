"""The suite's own question: is every adapter better than its base, and by how much?"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from harness.evaluation import unadapted
from harness.evaluation.unadapted import Base
from harness.gates import compare
from harness.records import Evidence
from harness.store import reader
from leaderboard.board import answers
from leaderboard.board.answers import Answer
from leaderboard.board.pairs import chosen_pairs
from leaderboard.board.records import Board
from tests.leaderboard.conftest import MODELS

if TYPE_CHECKING:
    from tests.leaderboard.conftest import Bench

PROBE = """
[[model]]
id = "tiny-probe"
backend = "probe"
base = "tiny-base"
train_split = "train"
C = 1.0
precision = "fp32"
"""


def answer(board: Board, model_id: str, place: int = 0) -> Answer:
    found = answers.of_model(board.sections[place].answers, model_id)
    assert found is not None
    return found


@pytest.fixture
def probed(bench_of: "Callable[..., Bench]") -> "Bench":
    """A suite with a probe beside the untrained head, scored on its first split."""
    bench = bench_of(models=MODELS + PROBE)
    test = bench.add_split("test", 300)
    rights = {"majority": 0.5, "tfidf": 0.7, "tiny": 0.5, "tiny-probe": 0.8, "tiny+lora": 0.9, "tiny+ia3": 0.65}
    bench.fill(test, rights)
    return bench


def test_an_adapter_is_held_against_the_probe_of_its_base(probed: "Bench") -> None:
    found = answer(probed.board(), "tiny+lora")
    assert found.base == Base("tiny-probe", "probed")
    assert found.lead is not None
    assert found.lead.value == pytest.approx(0.11, abs=0.003)
    assert found.outcome == "better"


def test_an_adapter_that_is_worse_than_its_base_is_worse_and_one_that_cannot_be_told_apart_is_undecided(
    probed: "Bench", bench_of: "Callable[..., Bench]"
) -> None:
    assert answer(probed.board(), "tiny+ia3").outcome == "worse"
    close = bench_of(name="close", models=MODELS + PROBE)
    close.fill(close.add_split("test", 60), {"tiny-probe": 0.8, "tiny+lora": 0.81})
    found = answer(close.board(), "tiny+lora")
    assert found.lead is not None
    assert found.lead.ci_low < 0 < found.lead.ci_high
    assert found.outcome == "undecided"


def test_without_a_probe_the_base_is_its_untrained_head(board: Board) -> None:
    assert answer(board, "tiny+lora").base == Base("tiny", "untrained")
    assert answer(board, "tiny+lora").outcome == "better"


def test_the_better_of_two_bases_counts_and_chance_counts_only_alone(probed: "Bench") -> None:
    suite = probed.suite
    assert [(base.model_id, base.kind) for base in unadapted.bases_of(suite, "tiny-base")] == [
        ("tiny-probe", "probed"),
        ("tiny", "untrained"),
    ]
    board = probed.board()
    sides = {
        entry.model_id: unadapted.Side(
            tuple(one.run.run_key for one in entry.runs), tuple(board.outcomes[one.run.run_id] for one in entry.runs)
        )
        for entry in board.sections[0].entries
    }
    lucky = {**sides, "tiny": sides["tiny+lora"]}
    assert unadapted.best_bases(suite, lucky) == {"tiny-base": Base("tiny-probe", "probed")}
    assert unadapted.best_bases(suite, {"tiny": sides["tiny"]}) == {"tiny-base": Base("tiny", "untrained")}
    assert unadapted.best_bases(suite, {}) == {}


def test_the_base_of_the_first_split_is_that_of_all_splits(bench_of: "Callable[..., Bench]") -> None:
    bench = bench_of(models=MODELS + PROBE)
    bench.fill(bench.add_split("test", 60), {"tiny-probe": 0.8, "tiny": 0.5, "tiny+lora": 0.9})
    bench.fill(bench.add_split("elsewhere", 60), {"tiny": 0.5, "tiny+lora": 0.9})
    there = answer(bench.board(), "tiny+lora", 1)
    assert there.base == Base("tiny-probe", "probed")
    assert there.lead is None
    assert there.outcome == "unknown"


def test_an_adapter_without_all_its_runs_has_no_answer(bench_of: "Callable[..., Bench]") -> None:
    bench = bench_of()
    test = bench.add_split("test", 60)
    bench.fill(test, {"tiny": 0.5})
    bench.add_run("tiny+lora", test, 13, right=0.9, adapter=bench.add_adapter("lora", 13))
    assert answer(bench.board(), "tiny+lora").outcome == "unknown"


@pytest.mark.parametrize("place", [0, 1])
def test_the_lead_over_a_base_is_the_difference_of_harness_compare(filled: "Bench", board: Board, place: int) -> None:
    section = board.sections[place]
    runs = [*reader.latest_runs(filled.connection, filled.run_keys).values()]
    for found in section.answers:
        assert found.base is not None
        assert found.lead is not None
        of_pair = {}
        for model_id in (found.model_id, found.base.model_id):
            here = [run for run in runs if (run.model_id, run.split_id) == (model_id, section.split.id)]
            of_pair[model_id, section.split.id] = tuple(sorted(here, key=lambda run: run.seed or 0))
        outcomes = {
            at: tuple(reader.outcomes(filled.connection, run.run_id) for run in many) for at, many in of_pair.items()
        }
        evidence = Evidence(outcomes, of_pair, {}, {}, filled.examples, {})
        a, b = (compare.side(evidence, model_id, section.split.id) for model_id, _ in of_pair)
        compared = compare.compare(section.split.id, filled.examples[section.split.id], a, b, ["accuracy"], "accuracy")
        assert found.lead == pytest.approx(compared.metrics[0].difference, abs=1e-12)


def test_where_less_is_better_a_smaller_score_is_an_advantage(bench_of: "Callable[..., Bench]") -> None:
    bench = bench_of(primary="brier", other_metrics=(), models=MODELS + PROBE)
    bench.fill(bench.add_split("test", 200), {"tiny-probe": 0.7, "tiny": 0.95, "tiny+lora": 0.9})
    found = answer(bench.board(), "tiny+lora")
    assert found.base == Base("tiny-probe", "probed")
    assert found.lead is not None
    assert found.lead.value > 0
    assert found.outcome == "better"


def test_p_values_are_corrected_over_the_answers_of_a_split(bench_of: "Callable[..., Bench]") -> None:
    bench = bench_of(name="close", models=MODELS + PROBE)
    bench.fill(bench.add_split("test", 100), {"tiny-probe": 0.8, "tiny+lora": 0.84, "tiny+ia3": 0.75})
    found = bench.board().sections[0].answers
    raw = {one.model_id: one.lead.p_value for one in found if one.lead is not None}
    small, large = sorted(raw.values())
    assert 0.0001 < small < large
    expected = {small: min(1.0, 2 * small), large: max(large, min(1.0, 2 * small))}
    for one in found:
        assert one.adjusted_p == pytest.approx(expected[raw[one.model_id]])


def test_models_that_gates_name_are_answered_first(bench_of: "Callable[..., Bench]") -> None:
    bench = bench_of(name="gated", gate=False)
    bench.fill(bench.add_split("test", 60), {"tiny": 0.5, "tiny+lora": 0.8, "tiny+ia3": 0.9})
    assert [one.model_id for one in bench.board().sections[0].answers] == ["tiny+ia3", "tiny+lora"]


def test_the_compare_page_opens_on_an_adapter_against_its_base(probed: "Bench") -> None:
    board = probed.board()
    first = chosen_pairs(board, board.sections[0])[0]
    assert (first.a, first.b, first.why) == ("tiny+lora", "tiny-probe", "its base")


# Cards


def words(html: str) -> str:
    """A page's text, with single spaces."""
    return " ".join(re.sub(r"<[^>]*>", "", html).split())


def cards_of(index: str) -> list[str]:
    return [words(one) for one in re.findall(r'<li class="card.*?</li>', index, re.DOTALL)]


def test_the_first_thing_on_a_board_is_a_card_per_adapter_that_answers_by_how_much(probed: "Bench") -> None:
    probed.add_verdict("tiny+lora on test: accuracy >= 0.5", "pass", "it is")
    probed.add_verdict("tiny+lora on test: accuracy >= 0.99", "fail", "it is not")
    index = probed.pages()["index.html"]
    good, bad = cards_of(index)
    assert re.fullmatch(
        r"Is LoRA better than tiny-base\? ✓ Yes \+11\.0 points \[\d+\.\d, \d+\.\d\] 0better → "
        r"tiny\+lora over a linear probe \(tiny-probe\) accuracy on test, n 300 · 1 of 2 gates",
        good,
    ), good
    assert bad.startswith("Is IA³ better than tiny-base? ✗ No −15.0 points [−"), bad
    places = [index.index(part) for part in ('class="cards"', ">Gates</h2>", " leads: ", '<table class="board"')]
    assert places == sorted(places), "answers, gates, the leader, tables"


def test_a_card_says_why_it_has_no_answer(bench: "Bench", bench_of: "Callable[..., Bench]") -> None:
    assert "? Not known" in cards_of(bench.pages()["index.html"])[0]
    assert "nothing shows tiny-base without it" in cards_of(bench.pages()["index.html"])[0]
    started = bench_of(name="started")
    test = started.add_split("test", 60)
    started.fill(test, {"tiny": 0.5})
    started.add_run("tiny+lora", test, 13, right=0.9, adapter=started.add_adapter("lora", 13))
    (card,) = [one for one in cards_of(started.pages()["index.html"]) if "LoRA" in one]
    assert "not all its runs are there" in card


def test_a_card_states_the_share_of_the_weights(bench: "Bench") -> None:
    test = bench.add_split("test", 60)
    bench.fill(test, {"tiny": 0.5})
    record = bench.add_adapter("ia3", 13, n_trainable=3_000, card={"n_parameters": 1_000_000})
    bench.add_run("tiny+ia3", test, 13, right=0.9, adapter=record)
    card = next(one for one in cards_of(bench.pages()["index.html"]) if "IA³" in one)
    assert "over an untrained head, which is chance (tiny) accuracy on test, n 60 · 0.3 % of the weights" in card


def test_cards_where_less_is_better_are_better_with_a_plus(bench_of: "Callable[..., Bench]") -> None:
    bench = bench_of(primary="brier", other_metrics=(), models=MODELS + PROBE)
    bench.fill(bench.add_split("test", 200), {"tiny-probe": 0.7, "tiny": 0.95, "tiny+lora": 0.9})
    card = cards_of(bench.pages()["index.html"])[0]
    assert re.search(r"✓ Yes \+0\.\d{3} \[0\.\d{3}, 0\.\d{3}\]", card), card


def test_a_suite_without_adapters_has_no_cards_and_no_column(bench_of: "Callable[..., Bench]") -> None:
    bench = bench_of(name="plain", models=MODELS.split('[[model]]\nid = "tiny+lora"')[0])
    bench.fill(bench.add_split("test", 40), {"majority": 0.5, "tfidf": 0.7})
    index = bench.pages()["index.html"]
    assert "Every adapter" not in index
    assert "Against base" not in index


def test_at_most_twelve_cards_stand_on_a_board_and_the_table_has_the_others(bench_of: "Callable[..., Bench]") -> None:
    many = "".join(
        f'[[model]]\nid = "copy{i}"\nbackend = "peft"\nadapter = "ia3"\nprecision = "fp32"\n\n' for i in range(14)
    )
    bench = bench_of(name="many", gate=False, models=many + PROBE)
    test = bench.add_split("test", 60)
    bench.fill(test, {"tiny-probe": 0.5, **{f"copy{i}": 0.9 for i in range(14)}})
    index = bench.pages()["index.html"]
    assert len(cards_of(index)) == 12
    assert "2 more stand in the table" in index
    assert len(re.findall(r'<data value="[^"]*" data-suite="many" data-metric="accuracy"[^>]*data-minus', index)) == 26


def test_the_column_against_base_has_every_adapters_lead_with_its_interval(probed: "Bench") -> None:
    board = probed.board()
    index = probed.pages()["index.html"]
    assert "Against base</th>" in index
    found = answer(board, "tiny+lora").lead
    assert found is not None
    row = next(words(one) for one in re.findall(r"<tr.*?</tr>", index, re.DOTALL) if "adapter loaded" in one)
    assert f"+{found.value:.3f} [{found.ci_low:.3f}, {found.ci_high:.3f}]" in row
