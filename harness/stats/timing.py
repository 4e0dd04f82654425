"""Rates of scoring: what somebody would wait who has nothing but the model and the texts."""

from harness.records import Run

SHORTEST_SECONDS = 0.01
"""A shorter run says more of the clock and of what else the machine did than of the model."""


def examples_per_second(run: Run, n: int) -> float | None:
    """How many of a run's n examples were scored in a second; None where it was not timed, or is too short to tell.

    A run that used what another model had computed was not timed: the two were not computed under the same conditions.
    """
    return n / run.seconds if run.seconds is not None and run.seconds >= SHORTEST_SECONDS else None
