"""Time and memory to build a big board, and the size of its first page.

    python benchmarks/board.py --configurations 1000 --examples 10000 --folder /tmp/board

The store is made through the harness's own writer. Its scores are made up (seeded), as are its intervals and training
cards: nothing was trained, nothing was scored. It is kept in the folder and reused.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from harness.artifacts import digest
from harness.records import AdapterRecord, Example, Metric, Outcomes, Prediction, Run, Split
from harness.stats import metrics
from harness.store import reader, writer
from harness.store.connection import opened
from harness.suite.load import load
from harness.suite.schema import Suite

NOON = datetime.fromisoformat("2026-03-01T12:00")
METRICS = ("accuracy", "f1", "mcc", "roc_auc", "log_loss", "ece")
SEEDS = {1: [13], 3: [13, 42, 87]}

HEAD = f"""version = 1
name = "made-up"
description = "Made-up scores of configurations that do not exist, to measure how a big board is built."
primary_metric = "accuracy"
[text]
template = "{{content}}"
max_length = 64
[[split]]
id = "train"
source = "file"
path = "train.csv"
format = "csv"
[[split]]
id = "test"
source = "file"
path = "test.csv"
format = "csv"
[[base]]
id = "base"
source = "path"
path = "base"
sha256 = "{"2" * 64}"
"""


def suite_text(n: int, n_seeds: int) -> str:
    """A suite file of one base and n adapters on it."""
    tables = [HEAD, *(f'[[metric]]\nname = "{name}"\n' for name in METRICS)]
    for i in range(n):
        method = ("lora", "ia3")[i % 2]
        tables.append(
            f'[[adapter]]\nid = "a{i}"\nbase = "base"\nmethod = "{method}"\nparams = {{}}\n'
            'train = { split = "train", epochs = 3, learning_rate = 1e-3, batch_size = 32, warmup_share = 0.1, '
            f'weight_decay = 0.0, max_grad_norm = 1.0, precision = "fp32", seeds = {SEEDS[n_seeds]} }}\n'
            f'[[model]]\nid = "base+{method}-{i}"\nbackend = "peft"\nadapter = "a{i}"\nprecision = "fp32"\n'
        )
    return "\n".join(tables)


def runs(declared: Suite, split: Split) -> Iterator[tuple[AdapterRecord, Run, list[Prediction]]]:
    """A made-up adapter, run and predictions for every model and seed."""
    ids = tuple(example.example_id for example in split.examples)
    labels = np.array([example.label for example in split.examples])
    hardness = np.random.default_rng(0).random(len(ids))
    for place, adapter in enumerate(declared.trained_adapters):
        skill = 0.75 + 0.2 * np.random.default_rng(place).random()
        for seed in adapter.train.seeds:
            chance = np.random.default_rng([place, seed])
            right = 0.5 * hardness + 0.5 * chance.random(len(ids)) < skill - 0.12
            confidence = 0.5 + 0.5 * chance.random(len(ids))
            scores = np.where(labels == right, confidence, 1 - confidence)
            outcomes = Outcomes(ids, labels, (scores > 0.5).astype(np.int64), scores, None)
            record = _adapter(adapter.id, adapter.method, place, seed)
            run = _run(declared, split, place, seed, record, outcomes)
            rows = zip(ids, outcomes.predicted.tolist(), scores.tolist(), strict=True)
            yield record, run, [Prediction(*row) for row in rows]


def _adapter(adapter_id: str, method: str, place: int, seed: int) -> AdapterRecord:
    curve = [[step, 0.001, 0.7 * 0.99**step] for step in range(200)]
    return AdapterRecord(
        digest.of_json([adapter_id, seed]), adapter_id, method, {}, "2" * 64, "3" * 64, 1000 + 37 * place, seed,
        40.0 + place % 97, 2_000_000_000, 4000 + 148 * place, {"curve": curve},
    )  # fmt: skip


def _run(declared: Suite, split: Split, place: int, seed: int, record: AdapterRecord, outcomes: Outcomes) -> Run:
    n = len(outcomes.labels)
    values = {name: metrics.value(name, outcomes) for name in METRICS}
    found = tuple(
        Metric(name, value, value - 0.98 / n**0.5, value + 0.98 / n**0.5, n, metrics.METRICS[name].higher_is_better)
        for name, value in values.items()
    )
    key = digest.of_json([place, seed])
    return Run(
        run_id=key[:32], run_key=key, suite=declared.name, suite_digest=declared.digest, split_id=split.split_id,
        split_digest=split.digest, model_id=declared.model[place].id, configuration=digest.of_json(place), seed=seed,
        adapter_digest=record.adapter_digest, status="success", error=None, spec={}, packages={"numpy": "2"},
        hardware={"processor": "made up"}, git_commit="c" * 40, git_dirty=False, started_at=NOON,
        finished_at=NOON + timedelta(seconds=place), seconds=20.0, tokens=30 * n, truncated=0, metrics=found,
    )  # fmt: skip


def make(folder: Path, n: int, n_examples: int, n_seeds: int) -> None:
    """Make the suite file and the store, unless they exist."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "suite.toml").write_text(suite_text(n, n_seeds), encoding="utf-8")
    declared = load(folder / "suite.toml")
    examples = tuple(
        Example(digest.of_json(i)[:32], "", "", i % 2, None, digest.of_json(["text", i])[:32])
        for i in range(n_examples)
    )
    split = Split("test", examples, digest.of_json([n_examples]), {})
    with opened(folder / "made-up.duckdb") as connection:
        writer.write_split(connection, declared.name, split, with_text=False)
        present = {run.run_id for run in reader.all_runs(connection)}
        for record, run, predictions in runs(declared, split):
            if run.run_id not in present:
                writer.write_adapter(connection, record)
                writer.write_run(connection, run, predictions)


def build(folder: Path) -> dict[str, float | int]:
    """Read the store, render, write, as `harness site` does once its run keys are known."""
    from leaderboard.board import read as board_read
    from leaderboard.site import render

    declared = load(folder / "suite.toml")
    keys = [
        digest.of_json([place, seed]) for place, a in enumerate(declared.trained_adapters) for seed in a.train.seeds
    ]
    with opened(folder / "made-up.duckdb"):
        pass  # a store of an earlier release is upgraded
    start, cpu = time.perf_counter(), time.process_time()
    with opened(folder / "made-up.duckdb", read_only=True) as connection:
        found = [*reader.latest_runs(connection, keys).values()]
        outcomes = reader.outcomes_of_runs(connection, [run.run_id for run in found])
        adapters = reader.adapters(connection, [run.adapter_digest for run in found if run.adapter_digest])
        board = board_read.read(connection, declared, found, outcomes, adapters)
        (section,) = board.sections
        examples = {"test": reader.examples(connection, section.split_digest or "")}
    read = time.perf_counter()
    files = render.render([board], {declared.name: examples})
    rendered = time.perf_counter()
    render.write(files, folder / "site")
    done = time.perf_counter()
    first = ["index.html", *(name for name in files if name.startswith("static/") and not name.endswith("examples.js"))]
    return {
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "read_seconds": round(read - start, 2),
        "render_seconds": round(rendered - read, 2),
        "write_seconds": round(done - rendered, 2),
        "build_seconds": round(done - start, 2),
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "first_page_bytes": sum((folder / "site" / name).stat().st_size for name in first),
        "files": len(files),
        "tiers": len(board.sections[0].tiers),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configurations", type=int, default=1000)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, choices=sorted(SEEDS), default=1, help="of each configuration")
    parser.add_argument("--folder", type=Path, required=True, help="folder of the store and the site")
    parser.add_argument("--build-only", action="store_true", help="measure in this process; the store exists")
    given = parser.parse_args()
    if given.build_only:
        print(json.dumps(build(given.folder)))
        return
    make(given.folder, given.configurations, given.examples, given.seeds)
    # In its own process: the peak must not include making the store.
    again = [sys.executable, __file__, "--folder", str(given.folder), "--build-only"]
    print(subprocess.run(again, check=True, stdout=subprocess.PIPE, text=True).stdout, end="")


if __name__ == "__main__":
    main()
