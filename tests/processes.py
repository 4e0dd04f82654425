"""Commands in processes of their own, without the seconds that the imports of each take.

A fork server imports once what commands and workers import; each is a fork of it, with an environment, a folder, an
output and signals of its own. `run` is for what has to start from nothing, such as another locale.
"""

import atexit
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path

FORKS = multiprocessing.get_context("forkserver")
IMPORTED = [
    "harness.cli",
    "harness.evaluation.evaluate",
    "harness.models.peft",
    "harness.models.probe",
    "harness.training.train",
    "sklearn.feature_extraction.text",
    "sklearn.linear_model",
    "sklearn.pipeline",
]


FORKS.set_forkserver_preload(IMPORTED)


def start_server() -> None:
    """Start the fork server of this process, of which the engine's workers are forks too, with all imports.

    Otherwise whoever needs it first, such as a suite without networks, decides for all others.
    """
    forkserver.ensure_running()


DRIVER = """if True:
    import json, sys
    from harness.cli import main
    codes = []
    for words in json.loads(sys.argv[1]):
        sys.argv = ["harness", *words]
        try:
            main()
        except SystemExit as end:
            codes.append(end.code)
    print()
    print(json.dumps(codes))
"""


@dataclass(frozen=True)
class Done:
    """Exit codes of commands, and all that they printed."""

    codes: list[int]
    out: bytes
    err: bytes


def run(commands: Sequence[Sequence[object]], environment: Mapping[str, str]) -> Done:
    """Run `harness` with each of these words, one after the other, in one new process; it must not crash."""
    words = json.dumps([[str(word) for word in command] for command in commands])
    command = [sys.executable, "-c", DRIVER, words]
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    out, _, codes = done.stdout.rstrip().rpartition(b"\n")
    return Done(json.loads(codes), out, done.stderr)


@dataclass(frozen=True)
class Result:
    """Outcome of one command."""

    returncode: int
    """Negative where a signal ended it."""
    stdout: str
    stderr: str


class Command:
    """A running `harness` in a process of its own."""

    def __init__(self, words: Sequence[object], limit: tuple[int, int] | None = None, **environment: str) -> None:
        """Start it with these arguments, at most so much of a resource, and these variables besides one's own."""
        self._folder = tempfile.TemporaryDirectory()
        self._written = Path(self._folder.name) / "out", Path(self._folder.name) / "err"
        arguments = list(map(str, words)), os.environ | environment, Path.cwd(), self._written, limit
        self._process = FORKS.Process(target=_command, args=arguments)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def poll(self) -> int | None:
        """Exit code, or None while it runs."""
        return self._process.exitcode

    def errors(self) -> str:
        """All that it has written to stderr so far."""
        return self._written[1].read_text() if self._written[1].exists() else ""

    def wait(self, timeout_seconds: float = 300) -> Result:
        """Wait for its end; one that takes longer is killed and fails the test."""
        self._process.join(timeout_seconds)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
            raise AssertionError(f"it was still running after {timeout_seconds} seconds: {self.errors()}")
        out, err = (path.read_text() if path.exists() else "" for path in self._written)
        return Result(self._process.exitcode, out, err)

    def __enter__(self) -> "Command":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()
        self._folder.cleanup()


def command(*words: object, limit: tuple[int, int] | None = None, **environment: str) -> Result:
    """Run `harness` to its end in a process of its own."""
    with Command(words, limit, **environment) as running:
        return running.wait()


def _command(
    words: list[str],
    environment: Mapping[str, str],
    folder: Path,
    written: tuple[Path, Path],
    limit: tuple[int, int] | None,
) -> None:
    """Become the command, in a fork of the server."""
    import resource

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, path in enumerate(written, start=1):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if limit is not None:
        resource.setrlimit(limit[0], (limit[1], limit[1]))
    from harness.cli import main

    sys.argv = ["harness", *words]
    try:
        main()
    finally:
        atexit._run_exitfuncs()  # a fork ends without
