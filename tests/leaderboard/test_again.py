"""A model's page says how to make, load and cite it again; gates stand first."""

import re
from html import unescape
from typing import TYPE_CHECKING

from leaderboard.pages import again

if TYPE_CHECKING:
    from tests.leaderboard.conftest import Bench


def programs(page: str) -> list[str]:
    return [unescape(code) for code in re.findall(r"<pre[^>]*><code>(.*?)</code>", page, re.DOTALL)]


def test_gates_and_expectations_stand_before_scores(site: dict[str, str]) -> None:
    page = site["demo/tiny+lora.html"]
    places = [page.index(f'<section id="{part}"') for part in ("gates", "scores", "seeds", "confusion", "again")]
    assert places == sorted(places)


def test_one_confusion_table_stands_for_every_split(site: dict[str, str]) -> None:
    assert site["demo/tiny+lora.html"].count('class="confusion"') == 2


def test_commands_name_the_commit_and_the_model(site: dict[str, str]) -> None:
    commands = programs(site["demo/tiny+lora.html"])[0].splitlines()
    assert commands[0] == f"git checkout {'c' * 40}"
    assert commands[1] == "harness evaluate SUITE --model tiny+lora --fresh"


def test_an_adapter_is_loaded_in_five_lines_of_python(bench: "Bench") -> None:
    test = bench.add_split("test", 40)
    record = bench.add_adapter("ia3", 13, card={"train_key": "f" * 64})
    bench.add_run("tiny+ia3", test, 13, right=0.8, adapter=record)
    page = bench.pages()["demo/tiny+ia3.html"]
    program = programs(page)[1]
    assert len(program.strip().splitlines()) == 5
    compile(program, "program", "exec")
    assert f'"runs/adapters/ia3/seed-13-{"f" * 16}"' in program
    bench.add_run("tfidf", test, right=0.8)
    assert "PeftModel" not in bench.pages()["demo/tfidf.html"], "nothing to load"


def test_a_citation_names_score_and_digests(bench: "Bench") -> None:
    bench.add_run("tfidf", bench.add_split("test", 40), right=0.8)
    (entry,) = [one for one in bench.board().sections[0].entries if one.model_id == "tfidf"]
    found = again.citation(bench.suite, bench.suite.digest, entry)
    assert found.startswith("@misc{demo-tfidf,\n  title = {tfidf on test: accuracy 0.800 [0.")
    assert bench.suite.digest[:16] in found
    assert again.citation(bench.suite, bench.suite.digest, bench.board().sections[1].entries[0]) == ""
