"""Division of texts into batches and held-out rows, decided by the seed alone."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.records import Example
from harness.stats.inference import Ints
from harness.suite.schema import Adapter, Training

WINDOW_BATCHES = 16
"""Batches whose texts are sorted by length together, for little padding and still a new mixture every epoch."""


def steps(how: Training, n: int) -> int:
    """Steps of the optimizer over all epochs on n texts."""
    return how.epochs * math.ceil(math.ceil(n / how.batch_size) / (how.accumulate or 1))


def epochs(lengths: np.ndarray[Any, Any], batch_size: int, count: int, seed: int) -> Iterator[list[list[int]]]:
    """Batches of indices per epoch: every text once, texts of similar length together, in a new order every epoch."""
    generator = np.random.default_rng(seed)
    window = batch_size * WINDOW_BATCHES
    for _ in range(count):
        shuffled = generator.permutation(len(lengths))
        batches: list[list[int]] = []
        for start in range(0, len(shuffled), window):
            part = shuffled[start : start + window]
            by_length = part[np.argsort(lengths[part], kind="stable")]
            batches += [by_length[i : i + batch_size].tolist() for i in range(0, len(by_length), batch_size)]
        yield [batches[i] for i in generator.permutation(len(batches))]


def groups(batches: Sequence[list[int]], size: int) -> Iterator[Sequence[list[int]]]:
    """Groups of `size` batches, one per step of the optimizer; the last may be smaller."""
    for start in range(0, len(batches), size):
        yield batches[start : start + size]


def labels(examples: Sequence[Example], adapter: Adapter, seed: int) -> list[int]:
    """The labels to train on: the examples' own, or for a null adapter the same in an order drawn from the seed."""
    own = [example.label for example in examples]
    if adapter.labels is None:
        return own
    order = np.random.default_rng([seed, 3]).permutation(len(own))
    return [own[i] for i in order]


@dataclass(frozen=True, slots=True)
class Rows:
    """Positions of a split's examples, in ascending order."""

    trained: Ints
    held_out: Ints


def hold_out(examples: Sequence[Example], how: Training, seed: int) -> Rows:
    """Divide examples into those to train on and those to hold out, without splitting a cluster.

    Without early stopping nothing is held out. With it, at least one cluster is held out and at least one is not.
    """
    if how.early_stopping is None:
        return Rows(np.arange(len(examples)), np.arange(0))
    names = [example.example_id if example.cluster is None else example.cluster for example in examples]
    distinct = sorted(set(names))
    # A separate random stream: the order of the batches depends on the seed alone.
    drawn = np.random.default_rng([seed, 1]).permutation(len(distinct))
    count = min(max(1, round(how.early_stopping.share * len(distinct))), len(distinct) - 1)
    out = {distinct[i] for i in drawn[:count]}
    is_out = np.array([name in out for name in names])
    return Rows(np.flatnonzero(~is_out), np.flatnonzero(is_out))
