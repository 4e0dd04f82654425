"""What clears up after a Ray that a command started: a process of its own, which outlives the command by seconds.

A command that is killed cannot end its Ray, and Ray itself takes up to 90 seconds to notice. This process waits until
the command closes its end of a pipe, as any end of it does, then ends Ray's processes and removes its session.

It is started by its path and imports nothing but Python's own: `ray_guard.py SESSION FOLDER PREFIX`. Each of the first
two may be empty.
"""

import os
import shutil
import signal
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

PATIENCE_SECONDS = 8.0
_PAUSE_SECONDS = 0.1


def clear(session: str, folder: str, prefix: str, spared: Collection[int]) -> None:
    """End the processes that have files of a session open, remove it, and the command's marker in a folder.

    Args:
        session: a folder, or nothing.
        folder: where the marker is, or nothing.
        prefix: of the marker's name.
        spared: processes that are left alone.
    """
    if folder:
        for marker in Path(folder).glob(f"{prefix}*"):
            marker.unlink(missing_ok=True)
    until = time.monotonic() + PATIENCE_SECONDS
    while session and (left := set(users_of(session)) - set(spared)) and time.monotonic() < until:
        for pid in left:
            with suppress(ProcessLookupError):  # it ended by itself
                os.kill(pid, signal.SIGKILL)
        time.sleep(_PAUSE_SECONDS)
    if session:
        shutil.rmtree(session, ignore_errors=True)


def users_of(folder: str) -> Iterator[int]:
    """Processes of this user that have a file of the folder open. They are known on Linux alone."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it is gone, or another user's
            if any(_leads_into(file, folder) for file in (process / "fd").iterdir()):
                yield int(process.name)


def _leads_into(file: Path, folder: str) -> bool:
    try:
        return str(file.readlink()).startswith(f"{folder}/")
    except OSError:
        return False  # closed meanwhile


if __name__ == "__main__":
    command = os.getppid()
    sys.stdin.read()
    _, its_session, its_folder, its_prefix = sys.argv
    clear(its_session, its_folder, its_prefix, spared=(os.getpid(), command))
