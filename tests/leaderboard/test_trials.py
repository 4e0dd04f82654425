"""Trials that an adapter's authors state, from the suite to the board, a model's page and the data."""

import json
from typing import TYPE_CHECKING

from leaderboard.pages import board_table
from tests.leaderboard.test_pages import Page

if TYPE_CHECKING:
    from tests.leaderboard.conftest import Bench


def state(bench: "Bench", trials: dict[str, int]) -> None:
    """Fill the store, and declare these numbers of trials."""
    bench.fill(bench.add_split("test", 60), {"tfidf": 0.7, "tiny+lora": 0.9, "tiny+ia3": 0.8})
    stated = tuple(one.model_copy(update={"trials": trials.get(one.id)}) for one in bench.suite.adapter)
    bench.suite = bench.suite.model_copy(update={"adapter": stated})


def test_the_board_the_data_and_the_page_say_how_many_trials_an_adapter_had(bench: "Bench") -> None:
    state(bench, {"lora": 12})
    board = bench.board()
    table = board_table.table(board, board.sections[0])
    place = [column.head for column in table.columns].index("Trials") - 1  # the first is the score's
    assert {row.model_id: row.cells[place].value for row in table.rows} == {
        "tiny+lora": "12", "tiny+ia3": "–", "tfidf": "–", "majority": "–", "tiny": "–",
    }  # fmt: skip
    pages = bench.pages()
    rows = json.loads(pages["demo/board.json"])["entries"]
    assert {row["trials"] for row in rows if row["model"] == "tiny+lora"} == {12}
    assert {row["trials"] for row in rows if row["model"] != "tiny+lora"} == {None}
    assert "12 settings were tried" in Page(pages["demo/tiny+lora.html"]).text
    assert "trials = 12" in pages["demo/tiny+lora.html"]
    assert "How many settings were tried before this one is not stated" in Page(pages["demo/tiny+ia3.html"]).text
    assert "settings were tried" not in Page(pages["demo/tfidf.html"]).text


def test_one_trial_is_said_to_be_the_only_one(bench: "Bench") -> None:
    state(bench, {"ia3": 1})
    assert "It is the only setting that was tried" in Page(bench.pages()["demo/tiny+ia3.html"]).text


def test_a_board_on_which_nobody_states_trials_has_no_such_column(bench: "Bench") -> None:
    state(bench, {})
    board = bench.board()
    assert "Trials" not in [column.head for column in board_table.table(board, board.sections[0]).columns]
    assert "trials" in bench.pages()["demo/board.csv"].partition("\n")[0]
