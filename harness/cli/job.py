"""Several verbs on some suites in one process, since each takes seconds to import what it needs.

    python -m harness.cli.job suites/quickstart.toml     # validate, evaluate, gate, site

A model that failed and a gate that is red are on the site too: they fail the job once it is rendered. A suite that is
not valid, and Ctrl-C, end it at once.
"""

import sys
from collections.abc import Sequence

from harness.cli import app, prepare


def commands(suites: Sequence[str]) -> list[list[str]]:
    """List the verbs with their arguments, in order."""
    judged = [[verb, suite] for suite in suites for verb in ("evaluate", "gate")]
    return [["validate", *suites], *judged, ["site", *suites]]


def run(suites: Sequence[str]) -> list[str]:
    """Run the verbs, and return the ones that failed.

    Raises:
        SystemExit: a suite is not valid, or the job was interrupted.
    """
    failed = []
    for words in commands(suites):
        try:
            app(words)
        except SystemExit as end:
            if end.code == 130 or (end.code and words[0] == "validate"):
                raise
            failed += [" ".join(words)] if end.code else []
    return failed


if __name__ == "__main__":
    prepare()
    if failed := run(sys.argv[1:]):
        sys.exit(f"failed: {', '.join(failed)}")
