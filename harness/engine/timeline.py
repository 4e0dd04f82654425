"""Timeline of an evaluation: when each task ran, on which worker.

    timeline.write(path, spans)            # Chrome's trace format, for chrome://tracing and https://ui.perfetto.dev
    timeline.summary(spans, 2, 31.5)       # busy share of the workers, and the longest chain, as one line

Times are those of the machines' clocks, so that spans of several machines line up as far as these do.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.artifacts import atomic


@dataclass(frozen=True, slots=True)
class Span:
    """One task."""

    name: str
    """Label of the task, as its progress bar shows it."""
    kind: str
    """Name of the function that did it."""
    chain: str
    """Name of the steps that it is one of."""
    worker: str
    """Machine and process."""
    began_seconds: float
    """Unix time."""
    ended_seconds: float
    processor_seconds: float
    """Processor time of the worker's process."""

    @property
    def seconds(self) -> float:
        """Wall time."""
        return self.ended_seconds - self.began_seconds


def busy(spans: Sequence[Span], workers: int) -> float:
    """Share of the workers' time between the first task and the last that tasks took, in [0, 1]."""
    if not spans:
        return 0.0
    whole = _from_first_to_last(spans)
    return min(1.0, sum(span.seconds for span in spans) / (workers * whole)) if whole > 0 else 1.0


def summary(spans: Sequence[Span], workers: int, wall_seconds: float) -> str:
    """Describe where the time went, in one line.

    Args:
        workers: number of workers that there were.
        wall_seconds: of the whole command.
    """
    if not spans:
        return f"{wall_seconds:.1f} s in all"
    lasted = {chain: _from_first_to_last([span for span in spans if span.chain == chain]) for chain in _chains(spans)}
    longest = max(lasted, key=lambda chain: lasted[chain])
    return (
        f"{wall_seconds:.1f} s in all, workers busy for {100 * busy(spans, workers):.0f} % of the time between first "
        f"and last task; the longest chain was {longest} ({lasted[longest]:.1f} s)"
    )


def _chains(spans: Sequence[Span]) -> list[str]:
    return list(dict.fromkeys(span.chain for span in spans))


def _from_first_to_last(spans: Sequence[Span]) -> float:
    return max(span.ended_seconds for span in spans) - min(span.began_seconds for span in spans)


def write(path: Path, spans: Sequence[Span]) -> None:
    """Write a timeline as JSON in Chrome's trace format, times in microseconds from the first span.

    Raises:
        UsageError: the file cannot be written.
    """
    start = min((span.began_seconds for span in spans), default=0.0)
    workers = list(dict.fromkeys(span.worker for span in spans))
    named = [
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": number, "args": {"name": worker}}
        for number, worker in enumerate(workers)
    ]
    events = [
        {
            "ph": "X",
            "name": span.name,
            "cat": span.kind,
            "pid": 1,
            "tid": workers.index(span.worker),
            "ts": round(1e6 * (span.began_seconds - start)),
            "dur": round(1e6 * span.seconds),
            "args": {"chain": span.chain, "processor seconds": round(span.processor_seconds, 3)},
        }
        for span in spans
    ]
    atomic.write(path, json.dumps({"traceEvents": [*named, *events], "displayTimeUnit": "ms"}).encode())
