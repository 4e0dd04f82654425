"""Factories that several test modules share: small, real records, with every field open to change."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from harness import digest
from harness.records import Example, Outcomes, Prediction, Run, Split

settings.register_profile("patient", settings.default, deadline=None)  # a busy machine is no failure
settings.load_profile("patient")


def _split(
    n: int = 6,
    *,
    split_id: str = "test",
    labels: Sequence[int] | None = None,
    clusters: Sequence[str | None] | None = None,
) -> Split:
    """A split of n different reviews; labels alternate unless they are given."""
    examples = []
    for i in range(n):
        title, content = f"Review {i}", f"The {i}th thing was {'good' if i % 2 else 'bad'}."
        label = labels[i] if labels else i % 2
        example_id, text_digest = digest.of_json([label, title, content])[:32], digest.of_json([title, content])[:32]
        examples.append(Example(example_id, title, content, label, clusters[i] if clusters else None, text_digest))
    ids = [[example.example_id, example.cluster] for example in examples]
    return Split(split_id, tuple(examples), digest.of_json(ids), {"source": "sdist", "take": n})


def _run(split: Split, **changes: Any) -> Run:
    """A successful run on this split, without metrics."""
    run = Run(
        run_id="run-1",
        run_key="key-1",
        suite="demo",
        suite_digest="5" * 64,
        split_id=split.split_id,
        split_digest=split.digest,
        model_id="tfidf",
        configuration="c" * 64,
        seed=None,
        adapter_digest=None,
        status="success",
        error=None,
        spec={"model": {"id": "tfidf"}},
        packages={"numpy": "2.0"},
        hardware={"cores": 2},
        git_commit=None,
        git_dirty=None,
        started_at=datetime(2025, 1, 1, 12, 0, 0),  # noqa: DTZ001 (the store keeps UTC without a zone)
        finished_at=datetime(2025, 1, 1, 12, 0, 1),  # noqa: DTZ001 (the store keeps UTC without a zone)
        seconds=0.5,
        tokens=None,
        truncated=None,
        metrics=(),
    )
    return replace(run, **changes)


def _predictions(split: Split, scores: Sequence[float] | None = None) -> list[Prediction]:
    """One prediction per example, in order; without scores all are right with 0.9."""
    chosen = scores if scores is not None else [0.9 if example.label else 0.1 for example in split.examples]
    return [
        Prediction(example.example_id, int(score > 0.5), score)
        for example, score in zip(split.examples, chosen, strict=True)
    ]


def _outcomes(labels: Sequence[int], scores: Sequence[float], clusters: Sequence[str] | None = None) -> Outcomes:
    """Outcomes of examples that are numbered in order."""
    score = np.asarray(scores, dtype=np.float64)
    return Outcomes(
        example_ids=tuple(f"{i:032x}" for i in range(len(labels))),
        labels=np.asarray(labels, dtype=np.int64),
        predicted=(score > 0.5).astype(np.int64),
        scores=score,
        clusters=None if clusters is None else np.asarray(clusters, dtype=np.str_),
    )


@pytest.fixture(scope="session")
def make_split() -> Callable[..., Split]:
    return _split


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Run]:
    return _run


@pytest.fixture(scope="session")
def make_predictions() -> Callable[..., list[Prediction]]:
    return _predictions


@pytest.fixture(scope="session")
def make_outcomes() -> Callable[..., Outcomes]:
    return _outcomes
