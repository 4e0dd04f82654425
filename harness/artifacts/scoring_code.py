"""The digest of the code that turns a text into a score; part of every run key.

Folders are walked, so a new module counts as soon as it is added. Files are read, not imported, so that engines can
compare their workers' code without loading the models' libraries.
"""

from functools import cache
from pathlib import Path

from harness.artifacts import digest

DECIDES = ("evaluation/scoring.py", "models", "suite/polarity.py", "suite/text.py")
"""Files and folders of the package that decide a score."""


@cache
def scoring_code() -> str:
    """Digest of this installation's scoring code (64 hex digits).

    It covers syntax trees: comments, docstrings and layout do not count.
    """
    return of_package(Path(__file__).parents[1])


def of_package(package: Path) -> str:
    """Digest of the scoring code in a folder laid out like `harness/` (64 hex digits)."""
    named = [[file.relative_to(package).as_posix(), digest.of_source(file.read_bytes())] for file in files(package)]
    return digest.of_json(named)


def files(package: Path) -> list[Path]:
    """The modules that decide a score, at any depth, sorted."""
    chosen = [package / name for name in DECIDES]
    return sorted({file for one in chosen for file in ([one] if one.is_file() else one.rglob("*.py"))})
