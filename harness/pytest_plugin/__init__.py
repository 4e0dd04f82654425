"""`pytest suites/quickstart.toml`: a suite's rules as tests. pytest loads this in every project, so it is small.

Only TOML files that are named on pytest's command line are treated as suites. The work is in
`harness.pytest_plugin.items`.
"""

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option for the store."""
    parser.getgroup("adapter-harness").addoption(
        "--harness-db", metavar="FILE", help="Store of the suites' results; HARNESS_DB or runs/harness.duckdb if unset."
    )


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the rules of a suite that was named on the command line."""
    if file_path.suffix != ".toml" or not parent.session.isinitpath(file_path):
        return None
    from harness.pytest_plugin.items import SuiteFile

    return SuiteFile.from_parent(parent, path=file_path)
