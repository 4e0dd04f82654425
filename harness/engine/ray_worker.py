"""The processes on the nodes of a cluster: workers that do tasks, and one that collects their progress messages."""

import os
import platform
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray import cloudpickle
from ray.exceptions import RayError

from harness import provenance
from harness.artifacts.scoring_code import scoring_code
from harness.engine.progress_relay import Message
from harness.errors import HarnessError, RunError
from harness.progress import Advance, Progress

T = TypeVar("T")
R = TypeVar("R")
PATIENCE_SECONDS = 5.0
"""Time limit for calls that only progress bars depend on."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The environment that workers must share with the command."""

    folder: str
    """The command's working directory, to which its relative paths refer."""
    marker: str | None
    """A file in the folder that must be shared."""
    versions: Mapping[str, str]

    @classmethod
    def of_command(cls, marker: str | None) -> "Surroundings":
        return cls(str(Path.cwd()), marker, _versions())

    def problem(self) -> str | None:
        """In a worker: change to the command's folder, and report the first difference from its environment."""
        if self.marker is not None and not Path(self.marker).is_file():
            return f"does not see the command's {Path(self.marker).parent}; mount the same folder there on all nodes"
        try:
            os.chdir(self.folder)
        except OSError as problem:
            return f"cannot enter {self.folder} ({problem.strerror}); mount it there on all nodes"
        found = _versions()
        for name in sorted({*self.versions, *found}):
            here, there = found.get(name, "not installed"), self.versions.get(name, "not installed")
            if here != there:
                return f"{name} is {here}, but {there} where the command runs; install the same version on all nodes"
        return None


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), "scoring code": scoring_code()[:12], **provenance.packages()}


class News:
    """Progress messages of the workers, until they are taken. Runs beside the command, and occupies no core."""

    def __init__(self) -> None:
        self.messages: list[tuple[int, Message]] = []

    def add(self, number: int, message: Message) -> None:
        self.messages.append((number, message))

    def take(self) -> list[tuple[int, Message]]:
        taken, self.messages = self.messages, []
        return taken


@dataclass(frozen=True, slots=True)
class Raised:
    """An exception of a task, in place of its result."""

    problem: BaseException


class Worker:
    """A process that does tasks, on any node."""

    def __init__(self, number: int, news: Any) -> None:
        self.number, self.news = number, news

    def look_round(self, surroundings: Surroundings) -> tuple[str, str | None, Mapping[str, str]]:
        """The node's name, the problem found there, if any, and its accelerators with their driver."""
        return platform.node(), surroundings.problem(), provenance.accelerators()

    def work(self, function: Callable[[T, Progress], R], item: T) -> R | Raised:
        """Do a task. An exception is returned as a value, so that it can be raised unchanged."""
        try:
            return function(item, self.report)
        except Exception as problem:  # noqa: BLE001 (raised again where the command runs)
            return Raised(_portable(problem))

    @contextmanager
    def report(self, label: str, total: int) -> Iterator[Advance]:
        """A `Progress` that reports to the command."""

        def send(total: int | None, units: int, note: str) -> Any:
            return self.news.add.remote(self.number, (label, total, units, note))

        send(total, 0, "")
        yield lambda units, note: send(total, units, note)
        with suppress(RayError):
            ray.get(send(None, 0, ""), timeout=PATIENCE_SECONDS)  # so that it is shown before the task is done


def _portable(problem: Exception) -> Exception:
    """The exception in a form that can be sent, with its traceback as a note unless it is a `HarnessError`."""
    trace = "".join(traceback.format_exception(problem))
    try:
        sent: Exception = cloudpickle.loads(cloudpickle.dumps(problem))
    except Exception:  # noqa: BLE001 (a class that cannot be pickled may raise anything)
        return RunError(trace)
    if not isinstance(sent, HarnessError):
        sent.add_note(f"on {platform.node()}:\n{trace}")
    return sent
