"""Stored results in the forms of others: one row of `FORMS` for each.

files = FORMS["model-index"](results)       # contents by relative path
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness.artifacts import atomic
from harness.errors import UsageError
from harness.interchange import to_eval_ever, to_model_index
from harness.interchange.results import Result

FORMS: Mapping[str, Callable[[Sequence[Result]], Mapping[str, bytes]]] = {
    "every-eval-ever": to_eval_ever.files,
    "model-index": to_model_index.files,
}
"""Name of a form to a function from results to files: contents by relative path."""


def hand_out(results: Sequence[Result], form: str, folder: Path) -> list[Path]:
    """Write results in a form; files of earlier results that have the same names are replaced.

    Returns:
        The files, sorted.

    Raises:
        UsageError: there are no results, or a file cannot be written.
    """
    if not results:
        raise UsageError("no results are stored; evaluate the suite first")
    made = {folder / name: data for name, data in FORMS[form](results).items()}
    for path, data in made.items():
        atomic.write(path, data)
    return sorted(made)
