"""What a store can have wrong with it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a store that contradicts something else in it."""

    what: str
    where: str
    """The run, split, adapter or table, by id."""
    detail: str
    """The numbers; empty where there are none."""
    to_do: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}{f' ({self.detail})' if self.detail else ''}; {self.to_do}"
