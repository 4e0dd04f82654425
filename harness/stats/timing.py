"""Rates of scoring, as experienced by a user who has only the model and the texts."""

from harness.records import Run

SHORTEST_SECONDS = 0.01
"""A shorter run reflects the clock and other load on the machine more than the model."""


def device_of(run: Run) -> str | None:
    """The kind of accelerator that computed a run; None for the processor. Rates of two kinds are not compared."""
    found = run.spec.get("device")
    return None if found is None else str(found)


def examples_per_second(run: Run, n: int) -> float | None:
    """Rate of scoring a run's n examples; None if the run was not timed, or is too short.

    A run that used what another model had computed was not timed: the two parts ran under different conditions.
    """
    return n / run.seconds if run.seconds is not None and run.seconds >= SHORTEST_SECONDS else None
