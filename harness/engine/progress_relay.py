"""Progress reported by workers from their own processes, shown by the parent's `Progress`."""

from contextlib import ExitStack, suppress
from typing import TypeAlias

from harness.progress import Advance, Progress

Message: TypeAlias = tuple[str, int | None, int, str]
"""Label, total (None: the task is done), units advanced, note."""


class Shown:
    """The tasks in progress."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.open: dict[str, tuple[ExitStack, Advance]] = {}

    def show(self, message: Message) -> None:
        """Open, advance or end a task. A late message about the end of a task that is no longer shown is ignored."""
        label, total, units, note = message
        if total is None:
            if label in self.open:
                self.open.pop(label)[0].close()
            return
        if label not in self.open:
            stack = ExitStack()
            self.open[label] = stack, stack.enter_context(self.progress(label, total))
        self.open[label][1](units, note)

    def close(self) -> None:
        """End the tasks that are still shown, as unfinished."""
        for stack, _ in self.open.values():
            with suppress(_Unfinished), stack:
                raise _Unfinished
        self.open.clear()


class _Unfinished(Exception):
    pass
