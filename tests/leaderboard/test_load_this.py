"""The program on a model's page that loads it: taken from a rendered page and run, it gives the stored scores."""

import json
import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest

from tests.evaluation import test_language_adapters as languages

if TYPE_CHECKING:
    from tests.worlds import World

pytestmark = pytest.mark.slow

words_evaluated = languages.evaluated
"""A fixture: a tiny Llama with trained adapters."""
SCORED = """
import json, sys, torch

texts = json.load(sys.stdin)
with torch.no_grad():
    logits = [model(**tokenizer(text, truncation=True, max_length=32, return_tensors="pt")).logits[0] for text in texts]
print(json.dumps([torch.softmax(one.double(), -1)[1].item() for one in logits]))
"""
SCORED_BY_WORDS = """
import json, sys, torch

def likelihood(text, word):
    asked = tokenizer(text)["input_ids"]
    answer = tokenizer(word, add_special_tokens=False)["input_ids"]
    ids = torch.tensor([asked + answer])
    logs = torch.log_softmax(model(ids).logits[0].double(), -1)
    return sum(logs[len(asked) - 1 + k, token].item() for k, token in enumerate(answer))

texts = json.load(sys.stdin)
with torch.no_grad():
    found = [torch.tensor([likelihood(f"{text} :", word) for word in (" bad", " good")]) for text in texts]
print(json.dumps([torch.softmax(one.double(), -1)[1].item() for one in found]))
"""


def program_of(page: Path, base: Path) -> str:
    """The program that the page shows, with the base's folder in place of its placeholder."""
    shown = [unescape(code) for code in re.findall(r"<pre[^>]*><code>(.*?)</code>", page.read_text(), re.DOTALL)]
    (program,) = [code for code in shown if "from_pretrained" in code]
    assert 3 <= len(program.strip().splitlines()) <= 5
    return program.replace('"BASE"', json.dumps(str(base)))


def stored(db: Path, model_id: str) -> tuple[list[str], list[float]]:
    """Texts of a model's split, and the scores of its first seed."""
    with duckdb.connect(str(db), read_only=True) as store:
        rows = store.execute(
            """SELECT content, score FROM run JOIN prediction USING (run_id)
               JOIN example ON digest = split_digest AND example.example_id = prediction.example_id
               WHERE model_id = $model AND seed IS NOT DISTINCT FROM (SELECT min(seed) FROM run WHERE model_id = $model)
               ORDER BY position LIMIT 25""",
            {"model": model_id},
        ).fetchall()
    return [text for text, _ in rows], [score for _, score in rows]


def run(program: str, texts: list[str], where: Path) -> list[float]:
    """The scores that a program prints, in a process of its own that knows nothing of the harness."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", program], input=json.dumps(texts), capture_output=True, text=True, cwd=where,
        env=env | {"HF_HUB_OFFLINE": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    scores: list[float] = json.loads(done.stdout)
    return scores


@pytest.mark.parametrize(
    ("model_id", "base"), [("tiny+lora", "base"), ("tiny-full", "base"), ("finished", "base-finished")]
)
def test_the_program_of_a_classifiers_page_gives_the_stored_scores(
    evaluated_world: "World", model_id: str, base: str, tmp_path: Path
) -> None:
    world = evaluated_world
    assert world.command("site", world.suite, "--out", tmp_path / "site").exit_code == 0
    program = program_of(tmp_path / "site" / "made-up" / f"{model_id}.html", world.suite.parent / base)
    texts, scores = stored(world.db, model_id)
    assert max(scores) - min(scores) > 0.1
    assert run(program + SCORED, texts, world.root) == pytest.approx(scores, abs=1e-5)


def test_the_program_of_a_language_models_adapter_gives_the_stored_scores(
    words_evaluated: languages.World,
    tmp_path: Path,
) -> None:
    world = words_evaluated
    assert world.command("site", "--out", tmp_path / "site").exit_code == 0
    program = program_of(tmp_path / "site" / "words" / "llama+lora.html", world.here / "base")
    texts, scores = stored(world.db, "llama+lora")
    assert max(scores) - min(scores) > 0.1
    assert run(program + SCORED_BY_WORDS, texts, world.root) == pytest.approx(scores, abs=1e-5)
