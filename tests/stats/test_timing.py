"""A rate is what somebody would wait who has nothing but the model and the texts, or it is not shown."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from harness.evaluation.scoring import Job, answer
from harness.models import transformer
from harness.models.classifier import ModelInputs, Scores
from harness.progress import Advance
from harness.stats import timing
from harness.store.connection import opened
from harness.suite import load
from tests.conftest import _run, _split
from tests.worlds import World, rows


def seconds_of(world: World) -> dict[tuple[str, int | None], float | None]:
    with opened(world.db, read_only=True) as connection:
        found = connection.execute(
            """SELECT model_id, seed, seconds FROM run WHERE status = 'success'
               QUALIFY row_number() OVER (PARTITION BY model_id, seed ORDER BY finished_at DESC) = 1"""
        ).fetchall()
    return {(model_id, seed): seconds for model_id, seed, seconds in found}


def test_a_model_that_used_what_another_had_computed_has_no_timing(world: World) -> None:
    """Two seeds of an untrained head and a probe share all layers: one of them computed these, and is timed."""
    found = seconds_of(world)
    sharing = [found["untrained", 1], found["untrained", 2], found["probe", None]]
    assert len([seconds for seconds in sharing if seconds is not None]) == 1
    assert None not in (found["tiny+lora", 1], found["tiny-full", 1], found["tfidf", None])


def test_models_whose_speed_a_gate_is_about_compute_everything_themselves(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where all of it is kept from the evaluation before."""
    monkeypatch.setattr(timing, "SHORTEST_SECONDS", 0)  # a quick machine scores 100 short texts in less than that
    assert None in seconds_of(world).values()
    world.edit("max_flips = {", 'min_throughput = { model = "untrained", ratio = 0.001 }\nmax_flips = {')
    assert world.evaluate("--fresh", "--model", "tiny-full", "--model", "untrained").exit_code == 0
    found = seconds_of(world)
    assert None not in (found["untrained", 1], found["untrained", 2], found["tiny-full", 1])
    assert world.red() == {}


def test_texts_that_were_tokenized_for_an_earlier_model_are_counted_in(tiny_base: Path) -> None:
    texts = [row["content"] for row in rows(40, 77_000)]
    untimed = ModelInputs(1, 32, tiny_base, None, [], [])
    scores = [transformer.classifier(transformer.network(untimed), untimed).predict(texts, _silent) for _ in range(2)]
    assert scores[0].tokenizing_seconds == 0
    assert scores[1].tokenizing_seconds > 0


def _silent(units: int, note: str | None) -> None:
    pass


class ScriptedClassifier:
    """A classifier that answers at once, and reports the seconds that it is given."""

    def __init__(self, *, borrowed: float, tokenizing: float) -> None:
        self.borrowed, self.tokenizing = borrowed, tokenizing

    def predict(self, texts: Sequence[str], advance: Advance) -> Scores:
        return Scores(np.full(len(texts), 0.5), 9, 0, self.borrowed, self.tokenizing)


@pytest.mark.parametrize(
    ("borrowed", "tokenizing", "least"),
    [(0.0, 0.0, 0.0), (0.0, 60.0, 60.0), (3.0, 0.0, None), (3.0, 60.0, None)],
)
def test_a_timing_covers_what_was_tokenized_before_and_is_dropped_where_layers_were_borrowed(
    borrowed: float, tokenizing: float, least: float | None
) -> None:
    declared, split = load.load(Path(__file__).parent.parent / "resources" / "good_suite.toml"), _split(4)
    job = Job(
        declared,
        declared.model[0],
        None,
        split,
        ModelInputs(None, 32, None, None, [], []),
        None,
        "c",
        "k",
        {},
        None,
        None,
    )
    seconds = answer(job, ScriptedClassifier(borrowed=borrowed, tokenizing=tokenizing), split.examples, _silent).seconds
    assert seconds is None if least is None else seconds is not None and least <= seconds < least + 10


@pytest.mark.parametrize(("seconds", "rate"), [(None, None), (5e-6, None), (0.009, None), (0.01, 4000), (2.0, 20)])
def test_a_moment_is_no_rate(seconds: float | None, rate: float | None) -> None:
    assert timing.examples_per_second(_run(_split(40), seconds=seconds), 40) == rate
