"""Shared parts of the speed benchmarks: interleaved timings, operation counts, this machine's peak, memory."""

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness import provenance


def interleaved(runs: Mapping[str, Callable[[], Any]], rounds: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Median seconds of each candidate over interleaved rounds, and its result.

    A warm-up round before the first does not count. Every other round goes in reverse order.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    given: dict[str, Any] = {}
    for turn in range(rounds + 1):
        for name in list(runs)[:: 1 if turn % 2 else -1]:
            began = time.perf_counter()
            given[name] = runs[name]()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(all_rounds[1:]) for name, all_rounds in seconds.items()}, given


def forward_flops(config: Any, lengths: Any) -> float:
    """Operations that one forward pass over these texts needs for the answers, without padding.

    Those of the encoder's matrix products, a multiplication and an addition each counted: for n tokens, width d and
    inner width i, 2 n (4 d² + 2 d i) in each layer for the weights and 4 d n² for the attention within the text. In the
    last layer, where the head reads only the first token, 2 n 2 d² for keys and values, and the rest for one token.

    Args:
        config: of the encoder; its attribute map gives DistilBERT's sizes their usual names.
        lengths: of each text in tokens, shape (n,).
    """
    width, layers = config.hidden_size, config.num_hidden_layers
    inner = config.hidden_dim if hasattr(config, "hidden_dim") else config.intermediate_size
    tokens, squares = float(lengths.sum()), float((np.asarray(lengths, dtype=float) ** 2).sum())
    of_layer = 2 * (4 * width * width + 2 * width * inner) * tokens + 4 * width * squares
    for_all, for_first = 2 * 2 * width * width, 2 * (2 * width * width + 2 * width * inner)
    of_last = for_all * tokens + for_first * len(lengths) + 4 * width * tokens
    return (layers - 1) * of_layer + of_last


def peak_flops(dtype: torch.dtype, seconds: float = 2.0) -> float:
    """Operations per second of the fastest matrix product found here: several shapes, the best of many."""
    best = 0.0
    for rows, inner, columns in ((2048, 384, 1536), (2048, 1536, 384), (2048, 768, 3072), (2048, 2048, 2048)):
        one, other = torch.randn(rows, inner).to(dtype), torch.randn(columns, inner).to(dtype)
        until = time.perf_counter() + seconds / 4
        while time.perf_counter() < until:
            began = time.perf_counter()
            torch.nn.functional.linear(one, other)  # as in a model: torch may choose the layout of the weights
            best = max(best, 2 * rows * inner * columns / (time.perf_counter() - began))
    return best


def peaks() -> dict[str, float]:
    """Peaks of fp32 and bf16."""
    return {"fp32": peak_flops(torch.float32), "bf16": peak_flops(torch.bfloat16)}


def machine(peak: Mapping[str, float], threads: str = "one thread used") -> str:
    """The machine of a measurement, in words."""
    hardware = provenance.hardware()
    of = ", ".join(f"{name} {value / 1e9:.0f} GFLOP/s" for name, value in peak.items())
    return f"{hardware['processor']}, {hardware['cores']} cores, {threads}; fastest matrix product: {of}"


def resident_mib() -> int:
    """Largest resident set of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def alone(script: str, words: Sequence[object]) -> str:
    """Last line printed by a separate process; a dash if it fails."""
    command = [sys.executable, str(Path(script)), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = done.stdout.strip().splitlines()
    return said[-1] if done.returncode == 0 and said else "–"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
