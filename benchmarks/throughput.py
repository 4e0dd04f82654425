"""How fast this machine scores and trains on the quickstart's rows: `nox -s bench`.

Scoring is timed side by side, in one process, interleaved, on the same texts and weights: our batches (sorted by
length, packed by padded tokens) against batches of 32 in the order of the file, padded to their longest. Prints the
medians of five rounds and their ratio, and asserts nothing: a busy machine is no failure.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from harness import provenance, suite
from harness.data import load_split
from harness.gather import Workspace
from harness.models.bases import resolve
from harness.models.transformer import Encoded, forward_all, one_thread, untrained

SUITE = Path(__file__).parents[1] / "suites" / "quickstart.toml"
ROUNDS = 5
TEXTS = 400


def main() -> None:
    """Time both ways of batching, interleaved, and print a table."""
    declared = suite.load(SUITE)
    rule = next(rule for rule in declared.split if rule.id not in declared.train_split_ids)
    split = load_split(rule, Workspace(SUITE, Path("runs/harness.duckdb")).places)
    base = resolve(declared.base[0], SUITE.parent, Path("runs/cache"))
    model = untrained(base.folder, seed=0).eval()
    texts = [declared.text.render(example.title, example.content) for example in split.examples[:TEXTS]]
    encoded = Encoded(base.folder, texts, declared.text.max_length)

    def packed() -> None:
        forward_all(encoded, lambda batch: model(**batch).logits, lambda units, note: None)

    def in_order() -> None:
        with torch.inference_mode(), one_thread():
            for start in range(0, len(texts), 32):
                model(**encoded.batch(range(start, min(start + 32, len(texts))))).logits.double()

    ways: dict[str, Callable[[], None]] = {"sorted, packed by tokens": packed, "in order, batches of 32": in_order}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS + 1):
        for name, run in ways.items():
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(rounds[1:]) for name, rounds in seconds.items()}  # the first warms up
    slowest = max(medians.values())
    print(f"{provenance.hardware()['processor']}, one thread, fp32, {len(texts)} texts, medians of {ROUNDS}")
    for name, median in medians.items():
        print(f"{name:26} {len(texts) / median:7.1f} texts/s   ratio {slowest / median:.2f}")


if __name__ == "__main__":
    main()
