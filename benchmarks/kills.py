"""SIGKILL at random moments of an evaluation, with alternating engines, until it completes; over many rounds.

    python benchmarks/kills.py --kills 50 --engines local,ray

Each round begins with an empty store: train, score and store a made-up suite on a tiny BERT with random weights (two
seeds of LoRA, an untrained head, TF-IDF; 8,000 rows), with each engine in turn, and kill the command with its
workers at a moment drawn uniformly from the time that the rest takes undisturbed. After each kill `harness store
verify` must find nothing. When an evaluation completes, its predictions must be those of an undisturbed one, with
equal digests of weights, none lost and none duplicated. Prints one JSON object a line; asserts.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

ROWS = 8_000
SUITE = """version = 1
name = "made-up"
description = "Made-up reviews on a tiny BERT"
primary_metric = "accuracy"

[text]
template = "{{content}}"
max_length = 16

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
id = "tiny"
source = "path"
path = "base"
sha256 = "{sha256}"

[[adapter]]
id = "lora"
base = "tiny"
method = "lora"
params = {{ r = 4, lora_alpha = 8, target_modules = ["query", "value"] }}

[adapter.train]
split = "train"
epochs = 4
learning_rate = 1e-2
batch_size = 16
warmup_share = 0.1
weight_decay = 0.0
max_grad_norm = 1.0
precision = "fp32"
seeds = [1, 2]

[[model]]
id = "tfidf"
backend = "tfidf"
train_split = "train"
ngram_range = [1, 2]
sublinear_tf = true
C = 10.0

[[model]]
id = "untrained"
backend = "transformer"
base = "tiny"
seeds = [1]
precision = "fp32"

[[model]]
id = "tiny+lora"
backend = "peft"
adapter = "lora"
precision = "fp32"

[[metric]]
name = "accuracy"
"""


def made_suite(folder: Path) -> Path:
    """Rows, base and suite."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    from harness.artifacts import digest

    words = ["the", "phone", "is", "it", "works", "great", "awful", "solid", "broken", *map(str, range(100))]
    base = folder / "base"
    base.mkdir(parents=True)
    (base / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]) + "\n")
    BertTokenizer(vocab=str(base / "vocab.txt")).save_pretrained(base)
    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=5 + len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=32, initializer_range=0.2,
    )  # fmt: skip
    BertModel(config).save_pretrained(base)
    for name, first, count in (("train", 100_000, 400), ("test", 0, ROWS)):
        (folder / f"{name}.csv").write_text(
            "".join(
                f'"{1 + i % 2}","","the phone {i % 100} is {words[5 + i % 4]} {"it works " * (i % 3)}{i}"\n'
                for i in range(first, first + count)
            )
        )
    path = folder / "made-up.toml"
    path.write_text(SUITE.format(sha256=digest.of_file(base / "model.safetensors")))
    return path


def started(suite: Path, db: Path, engine: str) -> subprocess.Popen[bytes]:
    """An evaluation in a process group of its own."""
    words = [sys.executable, "-m", "harness", "evaluate", suite, "--db", db, "--engine", engine, "--workers", "2"]
    return subprocess.Popen(list(map(str, words)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def answers(db: Path) -> list[tuple[Any, ...]]:
    """All predictions of the store's successful runs."""
    from harness.store.connection import opened

    with opened(db, read_only=True) as store:
        return store.execute(
            """SELECT model_id, seed, adapter_digest, example_id, predicted, score
               FROM prediction JOIN run USING (run_id) ORDER BY ALL"""
        ).fetchall()


def check_whole(db: Path) -> None:
    """Assert that `harness store verify` finds nothing."""
    if db.is_file():
        words = [sys.executable, "-m", "harness", "store", "verify", "--db", str(db), "--json"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--engines", default="local,ray")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    engines, generator = given.engines.split(","), np.random.default_rng(given.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        suite = made_suite(folder / "suite")
        took, expected = {}, None
        for engine in engines:
            db, began = folder / f"undisturbed-{engine}" / "harness.duckdb", time.monotonic()
            _, err = (process := started(suite, db, engine)).communicate()
            assert process.returncode == 0, err.decode()
            took[engine] = time.monotonic() - began
            assert expected in (None, answers(db)), "the engines differ"
            expected = answers(db)
        print(json.dumps({"undisturbed_seconds": took, "predictions": len(expected or [])}), flush=True)
        killed, rounds, found = 0, 0, Counter[str]()
        while killed < given.kills:
            rounds += 1
            db, through = folder / f"round-{rounds}" / "harness.duckdb", False
            while not through:
                engine = engines[killed % len(engines)]
                process = started(suite, db, engine)
                try:
                    # Once all requested kills are done, the last round completes.
                    limit = generator.uniform(0, took[engine]) if killed < given.kills else None
                    _, err = process.communicate(timeout=limit)
                    assert process.returncode == 0, err.decode()
                    through = True
                except subprocess.TimeoutExpired:
                    os.kill(process.pid, signal.SIGKILL)
                    process.communicate()
                    killed += 1
                    found[_how_far(db)] += 1
                check_whole(db)
            assert answers(db) == expected, f"round {rounds} differs"
            print(json.dumps({"round": rounds, "killed": killed, "came to": "the same"}), flush=True)
        print(json.dumps({"kills": killed, "rounds": rounds, "found after a kill": dict(found)}))


def _how_far(db: Path) -> str:
    """State left by a killed command."""
    kept = len(list((db.parent / "shards").glob("*/*.parquet")))
    return f"{kept} parts kept" if kept else "store, nothing scored" if db.is_file() else "nothing"


if __name__ == "__main__":
    main()
