"""Factories that several test modules share: small, real records, with every field open to change."""

import gc
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from harness import data
from harness.artifacts import digest
from harness.data.source import Row
from harness.records import AdapterRecord, Example, Metric, Outcomes, Prediction, Run, Split
from harness.stats import estimates
from harness.stats.metrics import METRICS
from harness.store import writer
from harness.store.connection import Connection, opened
from tests import processes

pytest_plugins = ["tests.fixtures"]
PLACE = len(Path(__file__).parent.parts)


LONG = ("engine", "evaluation", "cli", "gates", "models", "training", "data", "pytest_plugin")
"""Folders whose files take longest, and so come first: at the end no process works on one while the others idle."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long files first."""
    items.sort(key=lambda item: LONG.index(folder) if (folder := item.path.parts[PLACE]) in LONG else len(LONG))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Leave what the tests import out of every later garbage collection: a million objects that stay.

    Others are collected more rarely than by default, which takes a fourteenth less time.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    if hasattr(session.config, "workerinput"):
        processes.start_server()


settings.register_profile("patient", settings.default, deadline=None)  # a busy machine is no failure
settings.load_profile("patient")

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would the commands that they interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


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


def _rows(n: int) -> Split:
    """A split as `harness.data` makes it; some of its texts are the same."""
    texts = [Row("", f"The {i % (n - 2)}th thing.", i % (n - 2) % 2, f"cluster {i // 3}") for i in range(n)]
    return data.as_split("test", texts, {"source": "file"})


def _sound_run(split: Split, scores: Any, run_id: str, **changes: Any) -> Run:
    """A run whose keys, metrics and spec are what the harness would have made of them."""
    configuration = {"model": {"id": "tfidf"}, "adapter": None, "base": None, "train": "t", "text": {"template": "x"}}
    adapter = changes.get("adapter_digest")
    where = {"seed": None, "adapter_digest": adapter, "split": {"id": split.split_id, "digest": split.digest}}
    spec = {**configuration, **where, **changes.pop("spec", {})}
    found: tuple[Metric, ...] = ()
    if changes.get("status", "success") == "success":
        outcomes = _outcomes([example.label for example in split.examples], scores)
        generator = np.random.default_rng(0)
        found = tuple(
            estimates.summarise(name, [outcomes], generator) for name in METRICS if not METRICS[name].of_pairs
        )
    keys = {"configuration": digest.of_json(configuration), "run_key": digest.of_json(spec), "spec": spec}
    return _run(split, **{"run_id": run_id, "metrics": found, **keys, **changes})


def fill_store(store: Connection, seed: int, prefix: str) -> None:
    """Two splits under three names, an adapter, and three runs: two sound ones, and one that failed."""
    generator = np.random.default_rng(seed)
    for split, with_text in ((_rows(40), True), (replace(_rows(40), split_id="again"), True), (_rows(7), False)):
        writer.write_split(store, "demo", split, with_text=with_text)
    adapter = AdapterRecord("a" * 64, "lora", "lora", {"r": 4}, "b" * 64, None, 10, 1, 1.0, 100, 100, {})
    writer.write_adapter(store, adapter)
    for i, n in enumerate((40, 7)):
        scores = generator.uniform(size=n).round(1)  # some are the same
        of_adapter = adapter.adapter_digest if i else None
        run = _sound_run(_rows(n), scores, f"{prefix}-{i}", adapter_digest=of_adapter)
        writer.write_run(store, run, _predictions(_rows(n), list(scores)))
    writer.write_run(store, _sound_run(_rows(7), None, f"{prefix}-2", status="error", error="it broke"), [])


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


@pytest.fixture(scope="session")
def make_sound_run() -> Callable[..., Run]:
    return _sound_run


@pytest.fixture(scope="session")
def make_store(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """A maker of filled stores, each filled once and then copied."""
    folder = tmp_path_factory.mktemp("stores")

    def make(path: Path, seed: int = 5, prefix: str = "run") -> None:
        filled = folder / f"{prefix}-{seed}.duckdb"
        if not filled.exists():
            with opened(filled) as store:
                fill_store(store, seed, prefix)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(filled, path)

    return make
