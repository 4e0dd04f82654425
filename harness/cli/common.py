"""The command, its common options, and the way errors become exit codes."""

import functools
import os
import sys
import tomllib
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, ParamSpec

import typer

from harness.errors import HarnessError, UsageError, for_user

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
P = ParamSpec("P")

SuitePath = Annotated[Path, typer.Argument(metavar="SUITE", help="A suite file, such as suites/quickstart.toml.")]
SuitePaths = Annotated[list[Path], typer.Argument(metavar="SUITE...", help="One or more suite files.")]
Db = Annotated[Path, typer.Option("--db", envvar="HARNESS_DB", help="The store.")]
Engine = Annotated[str, typer.Option("--engine", help="Where the work is done: local, ray.")]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="How many at once; one per core if unset.")]
Address = Annotated[
    str | None,
    typer.Option("--address", metavar="ADDRESS", help="Ray cluster to join: auto, HOST:PORT. Started here if unset."),
]
GpusPerWorker = Annotated[
    int,
    typer.Option("--gpus-per-worker", min=0, help="Accelerators that Ray reserves for each worker."),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device", envvar="HARNESS_DEVICE", metavar="KIND", help="Where networks compute: auto, cpu, cuda, mps."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
DEFAULT_DB = Path("runs/harness.duckdb")


def command(verb: str, suite_path: Path, db: Path, device: str | None = None) -> str:
    """A call of another verb on the same suite, store and device."""
    stored = "" if db == DEFAULT_DB or str(db) == os.environ.get("HARNESS_DB") else f" --db {db}"
    on = "" if device is None or device == os.environ.get("HARNESS_DEVICE") else f" --device {device}"
    return f"harness {verb} {suite_path}{on}{stored}"


def keys_of(option: str, text: str | None) -> dict[str, Any] | None:
    """The keys of an option that is written as in a suite, with braces or without."""
    if text is None:
        return None
    bare = text.strip().removeprefix("{").removesuffix("}")
    try:
        keys: dict[str, Any] = tomllib.loads(f"it = {{{bare}}}")["it"]
    except tomllib.TOMLDecodeError as problem:
        raise UsageError(
            f"{option}: {text!r} is not written as in a suite ({problem}): key = value, key = value"
        ) from None
    return keys


def announce(work: str) -> None:
    """Say on a terminal what is about to be done, before anything slow is imported or read."""
    from harness.output.terminal import say, stderr

    if stderr.is_terminal:
        say(f"{work} …")


def reporting(verb: Callable[P, int]) -> Callable[P, None]:
    """A verb's exit code as the process's, and errors made for users printed as such, without a traceback."""

    @functools.wraps(verb)
    def command(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = verb(*args, **kwargs)
            sys.stdout.flush()
        except HarnessError as error:
            _report(str(error))
            code = error.exit_code
        except Exception as error:  # noqa: BLE001 (a bug is printed whole, and not with the exit code of a failed gate)
            code = _unforeseen(error)
        except KeyboardInterrupt:
            _report("interrupted; what was finished is stored, and the same command goes on from there")
            code = 130
        raise typer.Exit(code)

    return command


def _report(message: str) -> None:
    """On stderr, if anybody reads it: that nobody does must not change the exit code."""
    from harness.output.terminal import say

    with suppress(OSError):
        say(message)


def _unforeseen(error: Exception) -> int:
    """Report an error that nobody raised on purpose, and what it ends the process with."""
    message = for_user(error)
    if message is None:
        traceback.print_exc()
        return 3
    try:
        sys.stdout.flush()
    except OSError:  # Python would try again at the end, and end with a traceback
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    _report(message)
    return 2


def version(asked: bool) -> None:
    """Print the release and end."""
    if asked:
        typer.echo(f"adapter-harness {metadata.version('adapter-harness')}")
        raise typer.Exit


@app.callback()
def options(
    asked_version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print the release and end.")
    ] = False,
) -> None:
    """Is the adapter really better than its base? Score, compare and gate PEFT sentiment classifiers."""
