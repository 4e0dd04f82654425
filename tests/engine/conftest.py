"""Surroundings of tests with real Ray."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def important_workers() -> Iterator[None]:
    """Run Ray's workers with the priority of the tests: with Ray's own, 15, they starve beside tests on all cores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")
        yield
