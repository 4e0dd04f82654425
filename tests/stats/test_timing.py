"""A rate is what somebody would wait who has nothing but the model and the texts, or it is not shown."""

from pathlib import Path

import pytest

from harness.models import transformer
from harness.models.classifier import ModelInputs
from harness.stats import timing
from harness.store.connection import opened
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
    scores = [
        transformer.classifier(transformer.network(untimed), untimed).predict(texts, lambda units, note: None)
        for _ in range(2)
    ]
    assert scores[0].tokenizing_seconds == 0
    assert scores[1].tokenizing_seconds > 0


@pytest.mark.parametrize(("seconds", "rate"), [(None, None), (5e-6, None), (0.009, None), (0.01, 4000), (2.0, 20)])
def test_a_moment_is_no_rate(seconds: float | None, rate: float | None) -> None:
    assert timing.examples_per_second(_run(_split(40), seconds=seconds), 40) == rate
