"""Scoring speed of the quickstart's rows on this machine, by batching method: `nox -s bench`.

Timed side by side, in one process with one thread, taking turns, on the same texts and weights: texts sorted by length
and packed by several budgets of padded tokens, ours among them, against batches of 32 in file order, padded to their
longest. Prints the medians of five rounds and their ratio to ours, and asserts nothing: a busy machine is not a
failure.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import measuring
import torch

from harness import provenance
from harness.data import load_split
from harness.evaluation.inputs import Workspace
from harness.models.bases import resolve
from harness.models.encoding import TOKENS_PER_PASS, Encoded, one_thread, packed
from harness.models.transformer import untrained
from harness.suite.load import load

SUITE = Path(__file__).parents[1] / "suites" / "quickstart.toml"
BUDGETS = (512, 1024, 2048, 4096, 8192)
ROUNDS = 5
TEXTS = 400


def scoring(model: Any, encoded: Encoded, batches: list[list[int]]) -> Callable[[], None]:
    """One pass over all texts."""

    def run() -> None:
        with torch.inference_mode(), one_thread():
            for indices in batches:
                model(**encoded.batch(indices)).logits.double()

    return run


def main() -> None:
    """Time the batching methods and print a table."""
    declared = load(SUITE)
    rule = next(rule for rule in declared.split if rule.id not in declared.train_split_ids)
    split = load_split(rule, Workspace(SUITE, Path("runs/harness.duckdb")).places)
    base = resolve(declared.base[0], SUITE.parent, Path("runs/cache"))
    texts = [declared.text.render(example.title, example.content) for example in split.examples[:TEXTS]]
    encoded = Encoded(base.folder, texts, declared.text.max_length).for_network(untrained(base.folder, seed=0))
    orders = {f"packed, {budget} tokens": list(packed(encoded.lengths, budget)) for budget in BUDGETS}
    numbers = list(range(len(texts)))
    orders["in order, batches of 32"] = [numbers[start : start + 32] for start in range(0, len(texts), 32)]
    print(f"{provenance.hardware()['processor']}, one thread, {len(texts)} texts, medians of {ROUNDS}\n")
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        model = untrained(base.folder, seed=0).to(dtype).eval()
        runs = {name: scoring(model, encoded, batches) for name, batches in orders.items()}
        medians, _ = measuring.interleaved(runs, ROUNDS)
        ours = medians[f"packed, {TOKENS_PER_PASS} tokens"]
        for name, median in medians.items():
            number = str(dtype).removeprefix("torch.")
            rows.append([f"{name}, {number}", f"{len(texts) / median:.1f}", f"{median / ours:.2f}"])
    print(measuring.table(["batches", "texts/s", "times our seconds"], rows))


if __name__ == "__main__":
    main()
