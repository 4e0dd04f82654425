"""A store of many made-up predictions: storing, queries, verification and export, with time and memory.

    python benchmarks/store.py                              # 1,000 runs of 10,000 examples
    python benchmarks/store.py --runs 100 --examples 1000

The scores are drawn at random and say nothing about any model. Each step is a separate process, so that its peak memory
is its own. Prints one JSON object per line, and asserts only that the stored data is intact.
"""

import argparse
import dataclasses
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

NOW = datetime(2030, 1, 1)  # noqa: DTZ001 (UTC without a zone, as the store keeps it)


def ingest(db: Path, runs: int, examples: int) -> dict[str, Any]:
    """Have an evaluation's ingester store runs as fast as they are generated, right three times out of four."""
    from harness import data
    from harness.artifacts import digest
    from harness.data.source import Row
    from harness.evaluation.ingest import Ingester, Report
    from harness.evaluation.inputs import Workspace
    from harness.evaluation.scoring import Job, Scored
    from harness.evaluation.shards import Done, Piece, Task
    from harness.records import Metric, Outcomes, Prediction, Run
    from harness.stats.metrics import METRICS, value
    from harness.store import writer
    from harness.store.connection import opened

    rows = [Row("", f"made-up review {i}", i % 2, None) for i in range(examples)]
    split = data.as_split("test", rows, {"source": "file"})
    labels, ids = np.arange(examples) % 2, tuple(example.example_id for example in split.examples)
    with opened(db) as store:
        writer.write_split(store, "made-up", split, with_text=False)

    def as_task(run_key: str) -> Task:
        """A task whose job has only a run key, which is all that the ingester reads."""
        nothing = dict.fromkeys(field.name for field in dataclasses.fields(Job))
        return Task((Piece(Job(**nothing | {"run_key": run_key}), (), is_all=True),), "e", fresh=False)

    where = {"seed": None, "adapter_digest": None, "split": {"id": "test", "digest": split.digest}}
    nowhere = {"adapter": None, "base": None, "train": None, "text": {}}
    configurations = [{"model": {"id": f"m{number}"}} | nowhere for number in range(runs)]
    specs = [configuration | where for configuration in configurations]
    tasks = [as_task(digest.of_json(spec)) for spec in specs]
    report = Report()
    ingester = Ingester([task.pieces[0].job for task in tasks], tasks, Workspace(Path(), db), "e", report)
    storing = 0.0
    for number, (spec, task) in enumerate(zip(specs, tasks, strict=True)):
        generator = np.random.default_rng(number)
        scores = np.where(generator.uniform(size=examples) < 0.75, labels, 1 - labels) * 0.5
        scores += generator.uniform(size=examples) / 2
        outcomes = Outcomes(ids, labels, (scores > 0.5).astype(np.int64), scores, None)
        found = tuple(
            Metric(name, value(name, outcomes), None, None, examples, definition.higher_is_better)
            for name, definition in METRICS.items()
        )
        ended = NOW + timedelta(seconds=number)
        run = Run(
            digest.of_json(number)[:32], digest.of_json(spec), "made-up", "d", "test", split.digest, f"m{number}",
            digest.of_json(configurations[number]), None, None, "success", None, spec, {}, {}, None, None, ended, ended,
            1.0, None, None, found,
        )  # fmt: skip
        answers = tuple(Prediction(*row) for row in zip(ids, outcomes.predicted.tolist(), scores.tolist(), strict=True))
        began = time.perf_counter()
        ingester.take(task, Done([Scored(run, answers)]))
        storing += time.perf_counter() - began
    began = time.perf_counter()
    ingester.store()
    storing += time.perf_counter() - began
    assert len(report.scored) == runs
    return {"storing_seconds": storing, "file_bytes": db.stat().st_size}


def board(db: Path, runs: int, examples: int) -> dict[str, Any]:
    """A board's queries: the latest run of every key with its metrics, and the outcomes of the best twenty."""
    from harness.store import reader
    from harness.store.connection import snapshot

    with snapshot(db) as store:
        keys = [key for (key,) in store.execute("SELECT run_key FROM run").fetchall()]
        latest = reader.latest_runs(store, keys)
        ids = [run.run_id for run in latest.values()][:20]
        found = reader.outcomes_of_runs(store, ids)
    return {"found": len(latest), "outcomes": len(found)}


def verified(db: Path, runs: int, examples: int) -> dict[str, Any]:
    """`harness store verify`."""
    from harness.store.connection import snapshot
    from harness.store.verify import verify

    with snapshot(db) as store:
        began = time.perf_counter()
        report = verify(store, NOW + timedelta(days=1))
        seconds = time.perf_counter() - began
    assert not report.problems, report.problems[:3]
    assert report.counts["prediction"] == runs * examples
    return {"verifying_seconds": seconds}


def passed_on(db: Path, runs: int, examples: int) -> dict[str, Any]:
    """`harness store export`, and `import` into a new store."""
    from harness.store import bundle
    from harness.store.connection import snapshot

    began = time.perf_counter()
    with snapshot(db) as store:
        told = bundle.write(store, db.with_name("runs.bundle"))
    exported = time.perf_counter()
    taken = bundle.take_in(db.with_name("other.duckdb"), db.with_name("runs.bundle"), NOW + timedelta(days=1))
    assert taken.rows["run"] == runs
    return {
        "export_seconds": exported - began,
        "import_seconds": time.perf_counter() - exported,
        "bundle_bytes": told.bytes,
    }


STEPS: dict[str, Callable[[Path, int, int], dict[str, Any]]] = {
    "ingest": ingest,
    "board": board,
    "verify": verified,
    "pass on": passed_on,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--db", type=Path, help="keep the store here")
    parser.add_argument("--steps", default=",".join(STEPS), help="steps, by name")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        began = time.perf_counter()
        told = STEPS[given.step](given.db, given.runs, given.examples)
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        rounded = {key: round(one, 2) if isinstance(one, float) else one for key, one in told.items()}
        print(json.dumps({"step": given.step, "seconds": round(seconds, 2), "peak_gib": round(peak, 2), **rounded}))
        return
    with tempfile.TemporaryDirectory() as folder:
        db = given.db or Path(folder) / "harness.duckdb"
        print(json.dumps({"predictions": given.runs * given.examples, "runs": given.runs}))
        for step in given.steps.split(","):
            counts = ["--runs", given.runs, "--examples", given.examples]
            words = [*counts, "--db", db, "--step", step]
            subprocess.run([sys.executable, __file__, *map(str, words)], check=True)


if __name__ == "__main__":
    main()
