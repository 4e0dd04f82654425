"""Two workers of the Ray engine against one, one thread each, and the hours of a large job.

    python benchmarks/cluster.py --db runs/harness.duckdb

Scores 1,200 texts of the quickstart with MiniLM and its LoRA adapter, which must be trained, as `harness evaluate`
does: parts are written as files, and each free worker gets one task at a time, of 100 texts here, of 2,000 there.
Rounds are interleaved; workers are started, and have imported what they need, before the first round that counts.
Prints medians, their ratio, the time to start Ray, and a table of hours for 400,000 reviews and 100 adapters; asserts
only that nothing failed.
"""

import argparse
import logging
import os
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from measuring import interleaved, table

from harness import provenance
from harness.engine import MapUnordered, WorkerLost
from harness.evaluation import shards
from harness.evaluation.inputs import Workspace, gather
from harness.evaluation.plan import plan
from harness.evaluation.scoring import Job
from harness.evaluation.shards import Piece, Shard, Task
from harness.progress import silent
from harness.suite.load import load

SUITE = Path(__file__).parents[1] / "suites" / "quickstart.toml"
MODEL, SEED = "minilm+lora-r8", 13
TEXTS_PER_SPLIT, TEXTS_PER_TASK = 300, 100
ROUNDS = 4
REVIEWS, ADAPTERS = 400_000, 100


def main() -> None:
    """Time both numbers of workers and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--db", type=Path, default=Path("runs/harness.duckdb"), help="a store of the quickstart")
    workspace = Workspace(SUITE, parser.parse_args().db)
    declared = load(SUITE)
    planned = plan(declared, gather(declared, workspace), workspace, model_ids=[MODEL], limit=TEXTS_PER_SPLIT)
    jobs = [job for job in planned if job.seed == SEED]
    n = sum(len(job.split.examples) for job in jobs)

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    began = time.perf_counter()
    import ray

    from harness.engine import ray_pool

    # One core more than is used at a time, since both pools are open together.
    ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    started = time.perf_counter() - began
    with (
        tempfile.TemporaryDirectory() as folder,
        ray_pool.workers(1, silent, None) as one,
        ray_pool.workers(2, silent, None) as two,
    ):
        runs = {
            "1 worker": lambda: score(jobs, Path(folder), one),
            "2 workers": lambda: score(jobs, Path(folder), two),
        }
        seconds, _ = interleaved(runs, ROUNDS)
    ray.shutdown()

    hardware = provenance.hardware()
    print(
        f"{hardware['processor']}, {hardware['cores']} cores, {MODEL}, {jobs[0].model.precision}, one thread per worker"
    )
    print(f"{n} texts in tasks of {TEXTS_PER_TASK}, medians of {ROUNDS} interleaved rounds")
    for name, median in seconds.items():
        print(f"{name:10} {median:6.2f} s  {n / median:7.1f} texts/s")
    print(f"ratio {seconds['1 worker'] / seconds['2 workers']:.2f}; importing and starting Ray took {started:.1f} s")
    print()
    print(cost(n / seconds["2 workers"] / 2))


def score(jobs: Sequence[Job], folder: Path, map_unordered: MapUnordered) -> None:
    """Score everything anew."""
    evaluation_id = uuid.uuid4().hex
    tasks = []
    for job in jobs:
        without = replace(job, split=replace(job.split, examples=()))
        for start in range(0, len(job.split.examples), TEXTS_PER_TASK):
            key = f"{evaluation_id}-{job.split.split_id}-{start}"
            part = Shard(key, job.split.examples[start : start + TEXTS_PER_TASK], folder / f"{key}.parquet")
            tasks.append(Task((Piece(without, (part,), False),), evaluation_id, True))
    for _, done in map_unordered(shards.score, tasks):
        assert not isinstance(done, WorkerLost), done.reason
        failed = [scored.run.error for scored in done.scored]
        assert not failed, failed


def cost(per_second: float) -> str:
    """Hours of a large job if every worker scores this many examples per second, whatever their number."""
    worker_hours = REVIEWS * ADAPTERS / per_second / 3600
    rows = [[str(count), f"{worker_hours / count:,.1f}", f"{worker_hours:,.0f}"] for count in (1, 8, 64)]
    head = f"{REVIEWS:,} reviews x {ADAPTERS} adapters at {per_second:.0f} texts/s for each worker\n\n"
    return head + table(["workers", "hours", "worker-hours"], rows)


if __name__ == "__main__":
    main()
