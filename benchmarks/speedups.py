"""Gain of each speed-up: the same work with it and without it, taking turns. Part of `nox -s bench`.

    python benchmarks/speedups.py suites/mine.toml
    python benchmarks/speedups.py suites/mine.toml --only first_token --texts 240 --rounds 5

One process with one thread; the allocator, which is a setting of a process, is measured in processes of its own. Prints
wall time and the process's CPU time as Markdown. On a machine with other work only the CPU time means something; the
gain is the share of it that is saved. Medians of rounds, after one that does not count.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import measuring
import torch

from harness.models import speedups

if TYPE_CHECKING:
    from harness.training.plan import TrainingJob

QUICKSTART = Path(__file__).parents[1] / "suites" / "quickstart.toml"


class Seconds(NamedTuple):
    """Wall time and CPU time of some work."""

    wall: float
    cpu: float


class Measured(NamedTuple):
    """Some work with a speed-up and without it."""

    work: str
    with_it: Seconds
    without_it: Seconds

    @property
    def row(self) -> list[str]:
        """As a row of the table."""
        numbers = [self.without_it.wall, self.with_it.wall, self.without_it.cpu, self.with_it.cpu]
        saved = 1 - self.with_it.cpu / self.without_it.cpu
        return [self.work, *(f"{one:.2f}" for one in numbers), f"{100 * saved:.0f} %"]


def timed(work: Callable[[], Any]) -> Seconds:
    """Wall time and CPU time of some work in this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def compared(work: str, with_it: Callable[[], Seconds], without_it: Callable[[], Seconds], rounds: int) -> Measured:
    """Medians of both, which take turns, in one order and then in the reverse."""
    found: list[list[Seconds]] = [[], []]
    for turn in range(rounds + 1):
        for index in (0, 1) if turn % 2 else (1, 0):
            found[index].append((with_it, without_it)[index]())
    medians = [Seconds(*(statistics.median(column) for column in zip(*one[1:], strict=True))) for one in found]
    return Measured(work, *medians)


def first_token(asked: argparse.Namespace) -> list[Measured]:
    """Scoring with an adapter on all layers, and training one."""
    import adapters

    from harness import models

    inputs, texts = adapters.real(asked.suite, asked.db, asked.texts, asked.max_length)
    ready = replace(inputs, adapter_dir=adapters.made(inputs.base_dir, 1, None)[0])
    found = []
    for precision in ("fp32", "bf16"):
        model = adapters.MODEL.model_copy(update={"precision": precision})
        fast = models.load(model, ready)
        with speedups.without("first_token"):
            plain = models.load(model, ready)
        ways = [lambda one=one: timed(lambda: one.predict(texts, lambda units, note: None)) for one in (fast, plain)]
        found.append(compared(f"scoring, {precision}", *ways, asked.rounds))
    return [*found, *training("first_token")(asked)]


def shared_layers(asked: argparse.Namespace) -> list[Measured]:
    """Four adapters on the two top layers, loaded and scored one after the other."""
    import adapters

    inputs, texts = adapters.real(asked.suite, asked.db, asked.texts, asked.max_length)
    folders = adapters.made(inputs.base_dir, 4, 2)

    def score_all() -> None:
        kept = replace(inputs, states_dir=Path(tempfile.mkdtemp()))
        for folder in folders:
            adapters.scored(replace(kept, adapter_dir=folder), texts)

    return [_on_and_off("shared_layers", f"4 adapters, {adapters.PRECISION}", score_all, asked.rounds)]


def training(name: str, top: int | None = None, epochs: int = 1) -> Callable[[argparse.Namespace], list[Measured]]:
    """Fitting a LoRA, on all layers or on the top ones; loading and saving are not timed."""

    def measured(asked: argparse.Namespace) -> list[Measured]:
        import training as benchmark

        from harness.models.transformer import untrained

        job = benchmark.shortened(asked.suite, asked.db, asked.rows, asked.max_length)
        params = dict(job.adapter.params)
        if top is not None:
            count = untrained(job.base.folder, 0).config.num_hidden_layers
            params["layers_to_transform"] = list(range(count - top, count))
        how = job.adapter.train.model_copy(update={"epochs": epochs})
        job = replace(job, adapter=job.adapter.model_copy(update={"params": params, "train": how}))
        words = f"training, {job.precision}" + ("" if top is None else f", the {top} top layers, {epochs} epochs")

        def plain() -> Seconds:
            with speedups.without(name):
                return fitted(job)

        return [compared(words, lambda: fitted(job), plain, asked.rounds)]

    return measured


def fitted(job: "TrainingJob") -> Seconds:
    """Time of fitting, frozen layers included."""
    from harness.errors import TrainingError
    from harness.models.encoding import Encoded, settle
    from harness.models.peft import without_known_warnings
    from harness.models.speedups import first_token
    from harness.models.transformer import untrained
    from harness.progress import silent
    from harness.training import batching, loop, methods
    from harness.training.checkpoint import Pace
    from harness.training.determinism import deterministic
    from harness.training.speedups import dropout, frozen_layers

    folder = Path(tempfile.mkdtemp())
    rows = batching.hold_out(job.split.examples, job.adapter.train, job.seed)
    with deterministic(job.seed), without_known_warnings():
        base = untrained(job.base.folder, job.seed, attention="eager")
        network = methods.apply(job.adapter, base, batching.steps(job.adapter.train, len(rows.trained))).train()
        settle(network, job.base.folder, job.max_length)
        encoded = Encoded(job.base.folder, job.texts, job.max_length).for_network(network)

        def fit() -> None:
            with (
                dropout.fast(),
                frozen_layers.run_once(network, encoded, folder, job.precision) as below,
                first_token.only(network, below.trial()),
                suppress(TrainingError),  # after so few steps it may answer the same to all rows, which takes as long
            ):
                loop.run(network, below, rows, job, folder, silent, Pace())

        return timed(fit)


def allocator(asked: argparse.Namespace) -> list[Measured]:
    """Scoring in a process of its own, which sets its memory policy when it imports torch."""
    words = [asked.suite, "--db", asked.db, "--texts", asked.texts, "--max-length", asked.max_length, "--alone"]

    def alone(way: str) -> Seconds:
        command = [sys.executable, __file__, *map(str, words), way]
        plain = {name: value for name, value in os.environ.items() if not name.endswith("_CACHE_CAPACITY")}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=plain)
        return Seconds(*map(float, done.stdout.split()[-2:]))

    return [compared("scoring, a process each", lambda: alone("on"), lambda: alone("off"), asked.rounds)]


def score_alone(asked: argparse.Namespace) -> Seconds:
    """Score with an adapter on all layers, with or without the memory policy."""
    with speedups.without(*(["allocator"] if asked.alone == "off" else [])):
        import adapters
    from harness import models

    inputs, texts = adapters.real(asked.suite, asked.db, asked.texts, asked.max_length)
    classifier = models.load(adapters.MODEL, replace(inputs, adapter_dir=adapters.made(inputs.base_dir, 1, None)[0]))
    classifier.predict(texts[:20], lambda units, note: None)
    return timed(lambda: classifier.predict(texts, lambda units, note: None))


def _on_and_off(name: str, words: str, work: Callable[[], object], rounds: int) -> Measured:
    def plain() -> Seconds:
        with speedups.without(name):
            return timed(work)

    return compared(words, lambda: timed(work), plain, rounds)


PARTS: dict[str, Callable[[argparse.Namespace], list[Measured]]] = {
    "allocator": allocator,
    "dropout": training("dropout"),
    "first_token": first_token,
    "frozen_layers": training("frozen_layers", top=2, epochs=3),
    "shared_layers": shared_layers,
}


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", type=Path, nargs="?", default=QUICKSTART)
    parser.add_argument("--db", type=Path, default=Path("runs/harness.duckdb"))
    parser.add_argument("--texts", type=int, default=120)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--alone", choices=("on", "off"), help=argparse.SUPPRESS)
    asked = parser.parse_args(words)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if asked.alone is not None:
        print(*score_alone(asked))
        return
    head = ["speed-up", "work", "without, s", "with, s", "without, CPU s", "with, CPU s", "saved"]
    rows = []
    for name in asked.only or PARTS:
        rows += [[f"`{name}`", *one.row] for one in PARTS[name](asked)]
        print(*rows, sep="\n", file=sys.stderr, flush=True)
    print(measuring.table(head, rows))


if __name__ == "__main__":
    main()
