"""Words that move a score: left out one by one, scored on the production path, stored once."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness import api, models
from harness.evaluation import occlusion
from harness.evaluation.inputs import Workspace, gather
from harness.evaluation.plan import plan
from harness.models.classifier import Scores
from harness.records import Occlusion
from harness.store import reader
from harness.store.connection import opened
from harness.store.verify import verify
from harness.suite.load import load
from tests.fixtures import THINGS

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from tests.worlds import World

Command = Callable[..., Any]
EXPLAINED = "SELECT DISTINCT model_id FROM run SEMI JOIN occlusion USING (run_key)"
FILLERS = ["and", "then", "so", "here", "now", "there", "also", "again"]


def stored(db: Path) -> list[Occlusion]:
    with opened(db, read_only=True) as connection:
        keys = [key for (key,) in connection.execute("SELECT DISTINCT run_key FROM occlusion").fetchall()]
        return reader.occlusions(connection, keys)


def words_of(one: Occlusion, texts: Sequence[str]) -> list[str]:
    return [texts[piece.field][piece.start : piece.end] for piece in one.pieces]


# Division


@given(st.text(), st.text())
def test_pieces_cover_every_word_once_and_in_order(title: str, content: str) -> None:
    found = occlusion.pieces(title, content)
    assert len(found) <= occlusion.MOST_PIECES
    fields = (title, content)
    covered = [" ".join(fields[field][start:end].split()) for field, start, end in found]
    assert " ".join(covered).split() == [*title.split(), *content.split()]
    assert found == sorted(found)


def test_a_long_text_is_divided_into_a_bounded_number_of_runs() -> None:
    title, content = "one two", " ".join(map(str, range(1000)))
    found = occlusion.pieces(title, content)
    lengths = [len(content[start:end].split()) for field, start, end in found if field == 1]
    assert len(found) == occlusion.MOST_PIECES
    assert max(lengths) - min(lengths) <= 1


# The planted word


def planted(n: int, seed: int) -> list[dict[str, Any]]:
    """Rows whose label is decided by one word, `superb` or `dreadful`, at any place among words of both classes."""
    generator = np.random.default_rng(seed)
    made = []
    for i in range(n):
        words = [*generator.choice(FILLERS, 5), str(generator.choice(THINGS)), f"n{seed + i}"]
        words.insert(int(generator.integers(len(words) + 1)), "superb" if i % 2 else "dreadful")
        made.append({"label": i % 2, "content": " ".join(map(str, words))})
    return made


def planted_suite(folder: Path, *, store: bool = True) -> Path:
    for name, n, seed in (("train", 400, 0), ("test", 80, 5000)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in planted(n, seed)))
    splits = "".join(
        f'[[split]]\nid = "{name}"\nsource = "file"\npath = "{name}.jsonl"\nformat = "jsonl"\n'
        for name in ("train", "test")
    )
    path = folder / "planted.toml"
    path.write_text(
        'version = 1\nname = "planted"\ndescription = "One word decides"\nprimary_metric = "accuracy"\n'
        f'[text]\ntemplate = "{{content}}"\nmax_length = 32\nstore = {str(store).lower()}\n{splits}'
        '[[model]]\nid = "tfidf"\nbackend = "tfidf"\ntrain_split = "train"\nngram_range = [1, 1]\n'
        'sublinear_tf = true\nC = 10.0\n[[metric]]\nname = "accuracy"\n'
    )
    return path


def test_the_one_word_that_decides_is_the_one_that_moves_the_score_most(tmp_path: Path) -> None:
    project = api.open(planted_suite(tmp_path), tmp_path / "harness.duckdb")
    api.examine_data(project, update_lock=True)
    report = api.evaluate(project, explain=True, workers=1)
    assert (report.explained, report.explained_before) == (occlusion.SAMPLE, 0)
    texts = {one.example_id: one.content for one in api.plan(project)[0].split.examples}
    found = stored(project.db)
    assert len(found) == occlusion.SAMPLE
    for one in found:
        moves = [abs(one.score - piece.score) for piece in one.pieces]
        assert words_of(one, ("", texts[one.example_id]))[int(np.argmax(moves))] in ("superb", "dreadful")


def test_no_word_is_explained_where_the_site_may_not_show_it(tmp_path: Path, harness: Command) -> None:
    path = planted_suite(tmp_path, store=False)
    assert harness("data", path).code == 0
    result = harness("evaluate", path, "--explain")
    assert result.code == 2
    assert "text.store is false" in result.err
    with opened(tmp_path / "runs" / "harness.duckdb", read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM run").fetchall() == [(0,)], "nothing was scored"


# The production path


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT reads it
def test_stored_changes_are_those_of_plain_transformers(world: "World") -> None:
    result = world.evaluate("--explain", "--model", "tiny+lora")
    assert result.exit_code == 0, result.stderr
    assert f"explained {occlusion.SAMPLE} examples, already stored 0" in result.stderr
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    base_dir = world.suite.parent / "base"
    tokenizer = AutoTokenizer.from_pretrained(base_dir)
    base = AutoModelForSequenceClassification.from_pretrained(base_dir, num_labels=2)
    model = PeftModel.from_pretrained(base, world.adapter("lora", 1)).eval()

    def scored(text: str) -> float:
        with torch.no_grad():
            logits = model(**tokenizer(text, truncation=True, max_length=32, return_tensors="pt")).logits
        return float(torch.softmax(logits.double(), dim=-1)[0, 1])

    project = api.open(world.suite, world.db)
    texts = {one.example_id: one.content for one in api.plan(project, models=["tiny+lora"])[0].split.examples}
    found = stored(world.db)
    assert {one.run_key for one in found} == {api.plan(project, models=["tiny+lora"])[0].run_key}, "the first seed"
    for one in found:
        words = texts[one.example_id].split()
        assert words_of(one, ("", texts[one.example_id])) == words
        assert one.score == pytest.approx(scored(texts[one.example_id]), abs=1e-5)
        for i, piece in enumerate(one.pieces):
            assert piece.score == pytest.approx(scored(" ".join(words[:i] + words[i + 1 :])), abs=1e-5)
    assert max(abs(one.score - piece.score) for one in found for piece in one.pieces) > 0.05, "words move scores"


def test_every_backend_is_explained_once_and_the_order_of_models_does_not_matter(
    harness: Command, suite_path: Path, tmp_path: Path
) -> None:
    db = tmp_path / "runs" / "harness.duckdb"
    first = harness("evaluate", suite_path, "--workers", "1", "--explain")
    assert first.code == 0, first.err
    rows = stored(db)
    suite = load(suite_path)
    with opened(db, read_only=True) as connection:
        explained = {model_id for (model_id,) in connection.execute(EXPLAINED).fetchall()}
        assert verify(connection, rows[0].explained_at).problems == ()
    able = {model.id for model in suite.model if occlusion.has_text(model)}
    assert explained == able
    for model in suite.model:
        if model.id not in able:
            assert f"{model.id}: its words are not explained: its answers were given elsewhere" in first.err
    again = harness("evaluate", suite_path, "--workers", "1", "--explain")
    assert f"explained 0 examples, already stored {len(rows)}" in again.err
    assert stored(db) == rows
    with opened(db) as connection:  # one that was changed is explained again, alone
        connection.execute("UPDATE occlusion SET score = 0.123 WHERE key = ?", [rows[0].key])
        (problem,) = verify(connection, rows[0].explained_at).problems
        assert str(problem).startswith(f"occlusion {rows[0].key}: its scores have changed since they were stored")
    backwards = [word for model in reversed(suite.model) for word in ("--model", model.id)]
    last = harness("evaluate", suite_path, "--workers", "1", "--explain", "--json", *backwards)
    assert f"explained 1 example, already stored {len(rows) - 1}" in last.err
    assert last.json()["explained"] == {"new": 1, "stored": len(rows) - 1}
    assert [replace(one, explained_at=rows[0].explained_at) for one in stored(db)] == [
        replace(one, explained_at=rows[0].explained_at) for one in rows
    ]


def test_flips_and_confident_errors_come_first(evaluated: Path, configured: Any, tmp_path: Path) -> None:
    suite, workspace = load(evaluated), Workspace(evaluated, tmp_path / "runs" / "harness.duckdb")
    (job,) = plan(suite, gather(suite, workspace), workspace, model_ids=["tfidf"], split_ids=["test"])
    with opened(workspace.db, read_only=True) as connection:
        (run,) = reader.latest_runs(connection, [job.run_key]).values()
        found = reader.outcomes(connection, run.run_id)
    n = len(found.labels)
    scores = np.where(found.labels == 1, 0.9, 0.1)
    labels = found.labels[[3, 5, 8]]
    scores[[3, 5, 8]] = 1 - labels + np.array([0.01, 0.2, 0.3]) * np.sign(labels - 0.5)
    mine = replace(found, scores=scores, predicted=(scores > 0.5).astype(np.int64))
    base = np.where(np.arange(n) % 7 == 2, 1 - scores, scores)
    other = replace(found, scores=base, predicted=(base > 0.5).astype(np.int64))
    alone, beside = occlusion.sample(job, mine, None), occlusion.sample(job, mine, other)
    assert alone[:3] == [3, 5, 8]
    assert [i % 7 for i in beside[: occlusion.FLIPS]] == [2] * occlusion.FLIPS
    assert beside[occlusion.FLIPS : occlusion.FLIPS + 3] == [3, 5, 8]
    assert len(set(alone)) == len(set(beside)) == min(n, occlusion.SAMPLE)
    assert occlusion.sample(job, mine, other) == beside


def test_flips_are_those_against_the_model_that_the_board_holds_it_against(world: "World") -> None:
    done = world.evaluate("--explain", "--model", "tiny+lora")
    assert done.exit_code == 0, done.stderr
    project = api.open(world.suite, world.db)
    found = api.evidence(project)
    (base_id,) = {one.base.model_id for one in api.answers(project, found) if one.model_id == "tiny+lora" and one.base}
    mine, base = (found.outcomes[model, "test"][0] for model in ("tiny+lora", base_id))
    gap = np.where(mine.predicted != base.predicted, np.abs(mine.scores - base.scores), 0)
    flips = [mine.example_ids[i] for i in np.argsort(-gap, kind="stable") if gap[i]][: occlusion.FLIPS]
    assert flips
    assert set(flips) <= {one.example_id for one in stored(project.db)}


class FailsOnShortTexts:
    """A plug-in's classifier that answers whole texts alone."""

    def predict(self, texts: Sequence[str], advance: Any) -> Scores:
        if any(len(text.split()) < 8 for text in texts):
            raise ValueError("too short")
        advance(len(texts), "")
        return Scores(np.full(len(texts), 0.9), None, None)


def failing(model: Any, inputs: Any) -> FailsOnShortTexts:
    return FailsOnShortTexts()


def test_a_model_that_fails_on_shortened_texts_leaves_the_others_explained(
    harness: Command, evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(evaluated, tmp_path / "runs" / "harness.duckdb")
    monkeypatch.setitem(models.BACKENDS, "majority", f"{__name__}:failing")
    result = harness("evaluate", evaluated, "--workers", "1", "--explain", "--model", "majority", "--model", "tfidf")
    assert result.code == 0, "its scores are there"
    assert "words of majority on test are not explained: too short" in result.err
    with opened(workspace.db, read_only=True) as connection:
        assert connection.execute(EXPLAINED).fetchall() == [("tfidf",)]
