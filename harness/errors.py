"""The tree of errors. Each message names the fault, the place and the remedy; each class carries the exit code.

::

    HarnessError                  everything the harness raises on purpose
    ├── UsageError         2      the call or its inputs are wrong; nothing was stored
    │   ├── SuiteError     2      the suite file: all its problems together, `file:line: place: message`
    │   ├── DataError      2      a split's rows: missing, malformed, or not the pinned ones
    │   │   ├── FetchError 2      a file could not be downloaded
    │   │   └── LeakError  2      a model would be scored on rows that it was trained on
    │   └── StoreError     2      the DuckDB file: unreadable, of another version, or held by another process
    └── RunError           3      one model could not be trained or scored; the others go on
        ├── TrainingError  3      training diverged or could not start
        └── AdapterError   3      an adapter is damaged, or cannot be proved to be loaded

The command line prints the message without a traceback. Anything else that escapes is a bug and keeps its traceback.
"""

import errno
from collections.abc import Collection, Sequence
from difflib import get_close_matches


class HarnessError(Exception):
    """Base of all errors that the harness raises on purpose."""

    exit_code = 3


class UsageError(HarnessError):
    """The call or its inputs are wrong. Nothing was stored."""

    exit_code = 2


class SuiteError(UsageError):
    """A suite file has problems; `problems` lists them all, each as `file:line: place: message`."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class DataError(UsageError):
    """A split's rows are missing, malformed, or not the pinned ones."""


class FetchError(DataError):
    """A file could not be downloaded."""


class LeakError(DataError):
    """A model would be scored on rows that it was trained on."""


class StoreError(UsageError):
    """The DuckDB file cannot be read, has another version, or is held by another process."""


class RunError(HarnessError):
    """One model could not be trained or scored; the others go on."""


class TrainingError(RunError):
    """Training diverged or could not start."""


class AdapterError(RunError):
    """An adapter is damaged, or cannot be proved to be loaded."""


_EXTRAS = {"ray": "ray", "openvino": "openvino", "nncf": "openvino"}
_OF_THE_MACHINE = frozenset(
    {
        errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EISDIR, errno.ELOOP, errno.EMFILE, errno.ENAMETOOLONG,
        errno.ENFILE, errno.ENOSPC, errno.ENOTDIR, errno.EPERM, errno.EROFS,
    }
)  # fmt: skip
"""Errors of disks, permissions and paths."""


def for_user(error: Exception) -> str | None:
    """Advice for the user about an error that the harness did not raise on purpose; None if the error is a bug."""
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        package = error.name.partition(".")[0]
        if package in ("harness", "leaderboard"):
            return None
        extra = _EXTRAS.get(package, "models")
        return f"{package} is not installed, and this needs it: `python -m pip install 'adapter-harness[{extra}]'`"
    if isinstance(error, BrokenPipeError):
        return "the reader of the output closed it before everything was written"
    if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
        where = "output" if error.filename is None else error.filename
        return f"{where}: cannot be read or written ({error.strerror}); make room, or choose another location"
    return None


def check_known(what: str, asked: Collection[str] | None, known: Collection[str]) -> None:
    """Raise UsageError, with the known names, where one is asked for that is not among them."""
    strange = [name for name in asked or () if name not in known]
    if strange:
        named = f"{strange[0]!r}{closest(strange[0], known)}"
        raise UsageError(f"there is no {what} {named} (known: {', '.join(known) or 'none'})")


def closest(name: str, known: Collection[str]) -> str:
    """A suggestion to put after a name that is not known: `; did you mean 'x'?`, or nothing where none is close."""
    found = get_close_matches(name, [*known], n=1)
    return f"; did you mean {found[0]!r}?" if found else ""
