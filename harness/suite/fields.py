"""Parts shared by the tables of a suite file: strictness, ids, digests and seeds."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from harness.artifacts import plugins
from harness.suite.polarity import polarity

ID_PATTERN = r"^[a-z0-9][a-z0-9._+-]*$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"
T = TypeVar("T")


def repeated(items: Iterable[T]) -> list[T]:
    """The items that occur more than once, in order of their first occurrence."""
    return [item for item, times in Counter(items).items() if times > 1]


def _are_distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    """Reject repeated seeds, which would pass one training off as two."""
    if twice := repeated(seeds):
        raise ValueError(f"lists {twice[0]} more than once")
    return seeds


def check_not_turned(negative: Iterable[object], positive: Iterable[object]) -> None:
    """Check that no name is declared as the class whose opposite it plainly states.

    Raises:
        ValueError: one is.
    """
    for names, other in ((negative, 1), (positive, 0)):
        if turned := [name for name in names if isinstance(name, str) and polarity(name) == other]:
            raise ValueError(f"{turned[0]!r} plainly states the other class; swap negative and positive")


LONGEST_ID = 64
Id = Annotated[str, Field(pattern=ID_PATTERN, max_length=LONGEST_ID)]
Sha256 = Annotated[str, Field(pattern=SHA256_PATTERN)]
Name = Annotated[str, Field(min_length=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1, max_length=1000), AfterValidator(_are_distinct)]
Share = Annotated[float, Field(ge=0, le=1)]
Trials = Annotated[int | None, Field(ge=1, exclude_if=lambda value: value is None)]
"""Number of settings tried before one was chosen, including the chosen one. If omitted, it is in no dump."""


class Closed(BaseModel):
    """A table in which an unknown key or a value of the wrong type is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


PLUG_IN = "plug-in"
"""Tag of the tables whose kind is not built in."""


def kind_of(key: plugins.Kind, built_in: Collection[str]) -> Callable[[Any], str | None]:
    """Make a function that finds a table's kind by one of its keys: the key's value, or `PLUG_IN` for a plug-in's.

    It returns None for a table that lacks the key.
    """

    def kind(declared: Any) -> str | None:
        if not isinstance(declared, dict | BaseModel):
            return next(iter(built_in))  # of whatever kind, it must be a table
        value = declared.get(key) if isinstance(declared, dict) else getattr(declared, key, None)
        if value not in built_in and value in plugins.names(key):
            return PLUG_IN
        return value if value is None else str(value)

    return kind
