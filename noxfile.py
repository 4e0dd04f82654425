"""Every job of the project, for people and for CI: `nox -s evaluate`, `nox -s tests`, `nox --list`.

Two environments, built once and rebuilt only when what they are made from changes; while they stand, no session needs a
network. `.nox/run` has what evaluates, judges and renders; `.nox/dev` has the tests' tools, browsers' driver, OpenVINO
and Ray besides. Where `.nox/dev` stands, it serves for both.
"""

import hashlib
import os
import sys
from pathlib import Path

import nox

nox.options.sessions = ["tests", "lint", "types", "imports"]
nox.options.error_on_external_run = False

ROOT = Path(__file__).parent
QUICKSTART = "suites/quickstart.toml"
README_PICTURE = "docs/leaderboard.png"
COVERAGE = ".coverage.json"
LEAST_COVERAGE = "90"  # per cent of lines and branches


class Environment:
    """A virtual environment with the project and some of its extras."""

    def __init__(self, name: str, extras: str) -> None:
        self.folder, self.extras = ROOT / ".nox" / name, extras
        self.bin = self.folder / ("Scripts" if os.name == "nt" else "bin")
        self.python = str(self.bin / ("python.exe" if os.name == "nt" else "python"))
        self.stamp = self.folder / "inputs.sha256"

    def digest(self) -> str:
        """Digest of what it is made from: the interpreter, the declared packages and their constraints."""
        files = [(ROOT / name).read_text() for name in ("pyproject.toml", "constraints.txt")]
        return hashlib.sha256("\0".join([sys.version, str(ROOT), self.extras, *files]).encode()).hexdigest()

    def stands(self) -> bool:
        """True if it is there and made from the current inputs."""
        return self.stamp.is_file() and self.stamp.read_text() == self.digest() and Path(self.python).exists()

    def build(self, session: nox.Session) -> None:
        """Install into the session's environment, which is this one, unless it stands."""
        if self.stands():
            session.log(f"{self.folder.relative_to(ROOT)} stands")
            return
        self.stamp.unlink(missing_ok=True)
        # Nine of ten modules are never imported; the others are compiled once, when they are.
        session.install("--no-compile", "-c", "constraints.txt", "-e", f".[{self.extras}]", silent=False)
        self.stamp.write_text(self.digest())


DEV, RUN = Environment("dev", "dev"), Environment("run", "models,quickstart")


@nox.session(venv_backend="venv", reuse_venv=True)
def dev(session: nox.Session) -> None:
    """Build the environment of every session, unless it stands."""
    DEV.build(session)


@nox.session(venv_backend="none" if DEV.stands() else "venv", reuse_venv=True)
def run(session: nox.Session) -> None:
    """Build the smaller environment of `evaluate`, `gate` and `site`, unless it or the whole one stands."""
    if not DEV.stands():
        RUN.build(session)


def module(session: nox.Session, environment: Environment, *words: str, **variables: str) -> None:
    """Run a module in an environment, which keeps the bytecode of what it imports."""
    session.run(environment.python, "-m", *words, env={"PYTHONDONTWRITEBYTECODE": "", **variables}, external=True)


def harness(session: nox.Session, *words: str) -> None:
    """Run a module of the project in the environment that stands."""
    module(session, DEV if DEV.stands() else RUN, *words)


def pytest(session: nox.Session, *words: str, **variables: str) -> None:
    """Run a module's pytest on all cores; what follows `--` goes to it."""
    # Processes run on all cores already: more threads in each would wait for one another. There is one more process
    # than cores, since tests wait for commands, servers and browsers.
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    in_order = ["-n", str((os.cpu_count() or 1) + 1), "--dist", "loadfile", "--no-loadscope-reorder"]
    module(session, DEV, *words, *in_order, *session.posargs, **one_thread, **variables)


@nox.session(venv_backend="none", requires=["dev"])
def tests(session: nox.Session) -> None:
    """Run the tests with branch coverage; what follows `--` goes to pytest."""
    # pytest rewrites the modules of packages that have a plugin for it, as this one has, before slipcover can count
    # their branches; so the plugins are named.
    plugins = "slipcover.pytest_plugin,xdist.plugin,_hypothesis_pytestplugin,harness.pytest_plugin"
    named = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": plugins}
    counting = ["slipcover", "--json", "--out", COVERAGE, "-m", "pytest"]
    pytest(session, *counting, **named)
    # Where it judges at once, slipcover 1.1 prints a table without what the processes of pytest counted.
    module(session, DEV, "slipcover", "--merge", COVERAGE, "--out", COVERAGE, "--fail-under", LEAST_COVERAGE)


@nox.session(venv_backend="none", requires=["dev"])
def quick(session: nox.Session) -> None:
    """Run the tests that are not marked as slow, for every few minutes of work; what follows `--` goes to pytest."""
    pytest(session, "pytest", "-m", "not slow")


@nox.session(venv_backend="none", requires=["run"])
def evaluate(session: nox.Session) -> None:
    """The main job: train and score the quickstart suite, render the board, judge its gates."""
    harness(session, "harness.cli.job", *(session.posargs or [QUICKSTART]))


@nox.session(venv_backend="none", requires=["run"])
def gate(session: nox.Session) -> None:
    """Judge the gates on what is stored."""
    harness(session, "harness", "gate", *(session.posargs or [QUICKSTART]))


@nox.session(venv_backend="none", requires=["run"])
def site(session: nox.Session) -> None:
    """Render the leaderboard from what is stored."""
    harness(session, "harness", "site", *(session.posargs or [QUICKSTART]))


@nox.session(venv_backend="none", requires=["dev"])
def pictures(session: nox.Session) -> None:
    """Take pictures of the rendered site, the README's own among them; needs a Chromium on the PATH."""
    session.run(DEV.python, "benchmarks/pictures.py", *(session.posargs or ["--readme", README_PICTURE]), external=True)


@nox.session(venv_backend="none", requires=["dev"])
def lint(session: nox.Session) -> None:
    """Check style and format with ruff."""
    module(session, DEV, "ruff", "check", ".")
    module(session, DEV, "ruff", "format", "--check", ".")


@nox.session(venv_backend="none", requires=["dev"])
def types(session: nox.Session) -> None:
    """Check types with mypy, strictly, tests included."""
    module(session, DEV, "mypy")


@nox.session(venv_backend="none", requires=["dev"])
def imports(session: nox.Session) -> None:
    """Check that the layers hold."""
    session.run(str(DEV.bin / "lint-imports"), external=True)


@nox.session(venv_backend="none", requires=["dev"])
def bench(session: nox.Session) -> None:
    """Time scoring and training beside what others do, and many adapters on one base; prints, asserts nothing.

    What follows `--` is a suite and, with --db, its store: the quickstart's where nothing follows.
    """
    session.run(DEV.python, "benchmarks/throughput.py", external=True)
    for words in (
        ["inference.py"],
        ["inference.py", "--base", "distilbert"],
        ["inference.py", "--flips", "1000"],
        ["inference.py", "--memory"],
        ["adapters.py", "--part", "adapters"],
        ["adapters.py", "--part", "memory"],
        ["adapters.py", "--part", "texts"],
        ["training.py"],
        ["speedups.py"],
    ):
        session.run(DEV.python, f"benchmarks/{words[0]}", *words[1:], *session.posargs, external=True)


@nox.session(venv_backend="none", requires=["dev"])
def simulate(session: nox.Session) -> None:
    """Find out by simulation whether intervals, gates and sample sizes keep their promises; prints, asserts nothing."""
    session.run(DEV.python, "benchmarks/simulations.py", *session.posargs, external=True)


@nox.session(venv_backend="none", requires=["dev"])
def fuzz(session: nox.Session) -> None:
    """Feed made-up and mutated input to everything that parses what others wrote; fails where one is not refused."""
    session.run(DEV.python, "benchmarks/fuzz.py", *session.posargs, external=True)
