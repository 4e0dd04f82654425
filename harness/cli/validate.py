"""The verb that checks suite files."""

from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.common import Json, SuitePaths, app, reporting

if TYPE_CHECKING:
    from harness.suite.schema import Suite


@app.command()
@reporting
def validate(suites: SuitePaths, as_json: Json = False) -> int:
    """Check suite files and list every problem."""
    from harness.errors import SuiteError
    from harness.output.terminal import print_json, say, show
    from harness.suite.load import load

    results = []
    for path in suites:
        try:
            suite = load(path)
            _check_curves(path, suite)
            results.append({"suite": str(path), "ok": True, "digest": suite.digest, "problems": []})
        except SuiteError as error:
            results.append({"suite": str(path), "ok": False, "digest": None, "problems": list(error.problems)})
            for problem in error.problems:
                say(problem)
    if as_json:
        print_json(results)
    else:
        for result in results:
            if result["ok"]:
                show(f"{result['suite']}: ok")
    return 0 if all(result["ok"] for result in results) else 2


def _check_curves(path: Path, suite: "Suite") -> None:
    """Refuse curves of more rows than their pinned splits have.

    Raises:
        SuiteError: lists them.
    """
    if not suite.curve:
        return
    from harness.data import lock, subsets  # numpy: not for suites without a curve
    from harness.errors import SuiteError

    if problems := subsets.problems(suite, lock.read(lock.path_for(path)) or {}):
        raise SuiteError([f"{path}: {problem}" for problem in problems])
