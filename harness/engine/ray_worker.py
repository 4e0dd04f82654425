"""What runs on the nodes of a cluster: a process that does tasks, and one that gathers what they report."""

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
"""With what only bars depend on."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What workers must find as the command does."""

    folder: str
    """Where the command was called: what its relative paths are relative to."""
    marker: str | None
    """A file in the folder that must be shared."""
    versions: Mapping[str, str]

    @classmethod
    def of_command(cls, marker: str | None) -> "Surroundings":
        return cls(str(Path.cwd()), marker, _versions())

    def problem(self) -> str | None:
        """In a worker: go to the command's folder, and say what is not as there."""
        if self.marker is not None and not Path(self.marker).is_file():
            return f"does not see {Path(self.marker).parent}, or not what the command sees; mount it there on all nodes"
        try:
            os.chdir(self.folder)
        except OSError as problem:
            return f"cannot enter {self.folder} ({problem.strerror}); mount it there on all nodes"
        found = _versions()
        for name in sorted({*self.versions, *found}):
            here, there = found.get(name, "not installed"), self.versions.get(name, "not installed")
            if here != there:
                return f"{name} is {here}, and where the command runs {there}; install the same on all nodes"
        return None


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), "scoring code": scoring_code()[:12], **provenance.packages()}


class News:
    """What the workers report, until it is taken. Lives where the command runs, and takes no core."""

    def __init__(self) -> None:
        self.told: list[tuple[int, Message]] = []

    def tell(self, number: int, message: Message) -> None:
        self.told.append((number, message))

    def take(self) -> list[tuple[int, Message]]:
        told, self.told = self.told, []
        return told


@dataclass(frozen=True, slots=True)
class Raised:
    """What a task raised, in place of what it would have given."""

    problem: BaseException


class Worker:
    """The process that does tasks, on whatever node."""

    def __init__(self, number: int, news: Any) -> None:
        self.number, self.news = number, news

    def look_round(self, surroundings: Surroundings) -> tuple[str, str | None]:
        """The node's name, and what is wrong there."""
        return platform.node(), surroundings.problem()

    def work(self, function: Callable[[T, Progress], R], item: T) -> R | Raised:
        """Do a task. What it raises comes back as a value, so that it comes out as itself."""
        try:
            return function(item, self.report)
        except Exception as problem:  # noqa: BLE001 (raised again where the command runs)
            return Raised(_portable(problem))

    @contextmanager
    def report(self, label: str, total: int) -> Iterator[Advance]:
        """A `Progress` that tells the command."""

        def tell(total: int | None, units: int, note: str) -> Any:
            return self.news.tell.remote(self.number, (label, total, units, note))

        tell(total, 0, "")
        yield lambda units, note: tell(total, units, note)
        with suppress(RayError):
            ray.get(tell(None, 0, ""), timeout=PATIENCE_SECONDS)  # so that it is shown before the task is done


def _portable(problem: Exception) -> Exception:
    """The exception as it can be sent: with its traceback as a note, if it was not made for people."""
    told = "".join(traceback.format_exception(problem))
    try:
        sent: Exception = cloudpickle.loads(cloudpickle.dumps(problem))
    except Exception:  # noqa: BLE001 (whatever a class does that cannot be copied)
        return RunError(told)
    if not isinstance(sent, HarnessError):
        sent.add_note(f"on {platform.node()}:\n{told}")
    return sent
