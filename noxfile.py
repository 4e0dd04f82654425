"""Every job of the project, for people and for CI: `nox -s evaluate`, `nox -s tests`, `nox --list`.

All sessions share one environment, `.nox/dev`, which the `dev` session builds once and rebuilds only when what it is
made from changes. The others run its interpreter and need no network while it stands.
"""

import hashlib
import os
import sys
from pathlib import Path

import nox

nox.options.sessions = ["tests", "lint", "types", "imports"]
nox.options.error_on_external_run = False

ROOT = Path(__file__).parent
VENV = ROOT / ".nox" / "dev"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = str(BIN / ("python.exe" if os.name == "nt" else "python"))
STAMP = VENV / "inputs.sha256"
QUICKSTART = "suites/quickstart.toml"
README_PICTURE = "docs/leaderboard.png"


def inputs_digest() -> str:
    """Digest of what the environment is made from: the interpreter, the declared packages and their constraints."""
    made_from = [sys.version, str(ROOT), *((ROOT / name).read_text() for name in ("pyproject.toml", "constraints.txt"))]
    return hashlib.sha256("\0".join(made_from).encode()).hexdigest()


def stands() -> bool:
    """Whether the environment is there and made from the current inputs."""
    return STAMP.is_file() and STAMP.read_text() == inputs_digest() and Path(PYTHON).exists()


@nox.session(venv_backend="venv", reuse_venv=True)
def dev(session: nox.Session) -> None:
    """Build the environment that all sessions share, unless it stands."""
    if stands():
        session.log("the shared environment stands")
        return
    STAMP.unlink(missing_ok=True)
    # Nine of ten modules are never imported; the others are compiled once, when they are.
    session.install("--no-compile", "-c", "constraints.txt", "-e", ".[dev]", silent=False)
    STAMP.write_text(inputs_digest())


def run(session: nox.Session, *words: str, **environment: str) -> None:
    """Run a module of the shared environment, which keeps the bytecode of what it imports."""
    session.run(PYTHON, "-m", *words, env={"PYTHONDONTWRITEBYTECODE": "", **environment}, external=True)


@nox.session(venv_backend="none", requires=["dev"])
def tests(session: nox.Session) -> None:
    """Run the tests with branch coverage; what follows `--` goes to pytest."""
    # Processes run on all cores already: more threads in each would wait for one another.
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    in_order = ["-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder"]
    run(session, "pytest", *in_order, "--cov", *session.posargs, **one_thread)


@nox.session(venv_backend="none", requires=["dev"])
def evaluate(session: nox.Session) -> None:
    """The main job: train and score the quickstart suite, render the board, judge its gates."""
    run(session, "harness.cli.job", *(session.posargs or [QUICKSTART]))


@nox.session(venv_backend="none", requires=["dev"])
def gate(session: nox.Session) -> None:
    """Judge the gates on what is stored."""
    run(session, "harness", "gate", *(session.posargs or [QUICKSTART]))


@nox.session(venv_backend="none", requires=["dev"])
def site(session: nox.Session) -> None:
    """Render the leaderboard from what is stored."""
    run(session, "harness", "site", *(session.posargs or [QUICKSTART]))


@nox.session(venv_backend="none", requires=["dev"])
def pictures(session: nox.Session) -> None:
    """Take pictures of the rendered site, the README's own among them; needs a Chromium on the PATH."""
    session.run(PYTHON, "benchmarks/pictures.py", *(session.posargs or ["--readme", README_PICTURE]), external=True)


@nox.session(venv_backend="none", requires=["dev"])
def lint(session: nox.Session) -> None:
    """Check style and format with ruff."""
    run(session, "ruff", "check", ".")
    run(session, "ruff", "format", "--check", ".")


@nox.session(venv_backend="none", requires=["dev"])
def types(session: nox.Session) -> None:
    """Check types with mypy, strictly, tests included."""
    run(session, "mypy")


@nox.session(venv_backend="none", requires=["dev"])
def imports(session: nox.Session) -> None:
    """Check that the layers hold."""
    session.run(str(BIN / "lint-imports"), external=True)


@nox.session(venv_backend="none", requires=["dev"])
def bench(session: nox.Session) -> None:
    """Time scoring and training beside what others do, and many adapters on one base; prints, asserts nothing.

    What follows `--` is a suite and, with --db, its store: the quickstart's where nothing follows.
    """
    session.run(PYTHON, "benchmarks/throughput.py", external=True)
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
        session.run(PYTHON, f"benchmarks/{words[0]}", *words[1:], *session.posargs, external=True)


@nox.session(venv_backend="none", requires=["dev"])
def simulate(session: nox.Session) -> None:
    """Find out by simulation whether intervals, gates and sample sizes keep their promises; prints, asserts nothing."""
    session.run(PYTHON, "benchmarks/simulations.py", *session.posargs, external=True)


@nox.session(venv_backend="none", requires=["dev"])
def fuzz(session: nox.Session) -> None:
    """Feed made-up and mutated input to everything that parses what others wrote; fails where one is not refused."""
    session.run(PYTHON, "benchmarks/fuzz.py", *session.posargs, external=True)
