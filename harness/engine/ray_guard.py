"""Cleanup after a Ray that a command started, in a process that outlives the command by seconds.

A command that is killed cannot end its Ray, and Ray itself takes up to 90 seconds to notice. This process waits until
the command's end of a pipe is closed, which happens however the command ends, then ends Ray's processes and removes its
session.

It is started by its path and imports only the standard library: `ray_guard.py SESSION FOLDER PREFIX`. Each of the
first two may be empty.
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
    """End the processes that have files of a session open, and remove the session and the command's marker.

    Args:
        session: a folder, or empty.
        folder: the folder of the marker, or empty.
        prefix: of the marker's name.
        spared: processes to leave alone.
    """
    if folder:
        for marker in Path(folder).glob(f"{prefix}*"):
            marker.unlink(missing_ok=True)
    until = time.monotonic() + PATIENCE_SECONDS
    while session and (left := set(users_of(session)) - set(spared)) and time.monotonic() < until:
        for pid in left:
            with suppress(ProcessLookupError):  # it has ended already
                os.kill(pid, signal.SIGKILL)
        time.sleep(_PAUSE_SECONDS)
    if session:
        shutil.rmtree(session, ignore_errors=True)


def users_of(folder: str) -> Iterator[int]:
    """Processes of this user that have a file of the folder open. Known on Linux only."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is another user's
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
