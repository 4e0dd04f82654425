"""The digest of the code that turns a text into a score; part of every run key.

Folders are walked, so a module that is added to one counts from its first day on. It reads files and imports none of
them, so that engines can compare the code of their workers without what scores.
"""

from functools import cache
from pathlib import Path

from harness.artifacts import digest

DECIDES = ("evaluation/scoring.py", "models", "suite/text.py")
"""Files and folders of the package that decide a score."""


@cache
def scoring_code() -> str:
    """Digest of this installation's scoring code (64 hex digits).

    It is over syntax trees: comments, docstrings and layout do not count.
    """
    return of_package(Path(__file__).parents[1])


def of_package(package: Path) -> str:
    """Digest of the scoring code below a folder laid out as `harness/` is (64 hex digits)."""
    named = [[file.relative_to(package).as_posix(), digest.of_source(file.read_bytes())] for file in files(package)]
    return digest.of_json(named)


def files(package: Path) -> list[Path]:
    """The modules that decide a score, in folders of any depth, sorted."""
    chosen = [package / name for name in DECIDES]
    return sorted({file for one in chosen for file in ([one] if one.is_file() else one.rglob("*.py"))})
