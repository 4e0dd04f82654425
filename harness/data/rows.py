"""A labelled text as a source reads it, before anything was drawn from it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a source."""

    title: str
    """Empty where the source has none."""
    content: str
    label: int
    """0 negative, 1 positive."""
    cluster: str | None
    """What it has in common with other rows, or None."""
