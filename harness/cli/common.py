"""What the verbs share: the command, its common options, and how errors become exit codes."""

import functools
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ParamSpec

import typer

from harness.errors import HarnessError, UsageError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Is the adapter really better than its base? Score, compare and gate PEFT sentiment classifiers.",
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
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
DEFAULT_DB = Path("runs/harness.duckdb")


def reporting(verb: Callable[P, int]) -> Callable[P, None]:
    """A verb's exit code as the process's, and errors made for users printed as such, without a traceback."""

    @functools.wraps(verb)
    def command(*args: P.args, **kwargs: P.kwargs) -> None:
        from harness.terminal import say

        try:
            code = verb(*args, **kwargs)
        except HarnessError as error:
            say(str(error))
            code = error.exit_code
        except Exception:  # noqa: BLE001 (a bug: told whole, and not with the exit code of a failed gate)
            traceback.print_exc()
            code = 3
        except KeyboardInterrupt:
            say("interrupted; what was finished is stored, and the same command goes on from there")
            code = 130
        raise typer.Exit(code)

    return command


def check_known(what: str, asked: list[str] | None, known: list[str]) -> None:
    """Raise UsageError where a name was asked for that is not known."""
    strange = [name for name in asked or () if name not in known]
    if strange:
        raise UsageError(f"there is no {what} {strange[0]!r} (known: {', '.join(known) or 'none'})")
