"""Samples of other harnesses' result files in one form, and the bounded reading of JSON that all of them share."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MOST_BYTES = 256 * 2**20
"""Largest size of a file, and of everything in an archive."""
MOST_SAMPLES = 1_000_000
MOST_FIELDS = 50
"""Number of values of one sample that may identify its row."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The answer of a model to one question, as another harness recorded it."""

    place: str
    """Where it is in the file, for messages."""
    fields: Mapping[str, str]
    """Values that may identify the row that was asked about, by their path in the sample."""
    answer: Mapping[str, float]
    """Probability of each possible answer; an answer without probabilities has 1."""
    target: str | None
    """The answer that is correct, in the words of `answer`; None if the file does not state it."""
    correct: bool | None
    """The other harness's own judgement of the answer; None if it has none, or several that disagree."""
    variant: str = ""
    """Filter, epoch or metric, which tells records about the same row apart."""


@dataclass(frozen=True, slots=True)
class Log:
    """The samples of one file."""

    tool: str
    """The harness that wrote it, with its release where the file states it."""
    model: str | None
    """Name of the model in that harness; None if the file does not state it."""
    samples: tuple[Sample, ...]


def parsed(data: bytes, where: str) -> Any:
    """JSON of a file, without NaN and infinity, which JSON does not have.

    Raises:
        ValueError: it is damaged or nested too deeply.
    """
    try:
        return json.loads(data, parse_constant=_refuse)
    except RecursionError:
        raise ValueError(f"{where} is nested too deeply") from None
    except _NotFiniteError as problem:
        raise ValueError(f"{where} has the number {problem}, which JSON does not have") from None
    except ValueError as problem:
        raise ValueError(f"{where} is no JSON, or cut off ({problem})") from None


class _NotFiniteError(ValueError):
    pass


def _refuse(constant: str) -> Any:
    raise _NotFiniteError(constant)


def mapping(value: Any, where: str) -> Mapping[str, Any]:
    """A JSON object.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{where} is {_kind(value)}, but must be an object")
    return value


def items(value: Any, where: str) -> list[Any]:
    """A JSON array.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, list):
        raise ValueError(f"{where} is {_kind(value)}, but must be an array")
    return value


def _kind(value: Any) -> str:
    return {type(None): "absent", dict: "an object", list: "an array"}.get(type(value), f"{value!r:.40}")


def fields_of(value: Any, path: str = "") -> dict[str, str]:
    """Texts and whole numbers in a JSON value that may identify a row, by their path; the first ones if many."""
    found: dict[str, str] = {}

    def walk(value: Any, path: str, depth: int) -> None:
        if len(found) >= MOST_FIELDS:
            return
        if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
            found[path] = str(value)
        elif isinstance(value, dict) and depth < 4:
            for key, inner in value.items():
                walk(inner, f"{path}.{key}" if path else str(key), depth + 1)

    walk(value, path, 0)
    return found


def probabilities(log_likelihoods: Mapping[str, float]) -> dict[str, float]:
    """Probabilities of answers, from log-likelihoods that are not normalised.

    Raises:
        ValueError: one is not a number, or all are minus infinity.
    """
    most = max(log_likelihoods.values(), default=-math.inf)
    if any(math.isnan(one) or one == math.inf for one in log_likelihoods.values()) or most == -math.inf:
        raise ValueError(f"has log-likelihoods that give no probability ({list(log_likelihoods.values())})")
    weights = {name: math.exp(one - most) for name, one in log_likelihoods.items()}
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def agreed(judgements: list[bool | None]) -> bool | None:
    """The judgement that all share; None if they disagree, or there is none."""
    found = set(judgements)
    return found.pop() if len(found) == 1 else None


CORRECT: Mapping[Any, bool] = {"C": True, "I": False, "N": False, 1: True, 0: False}
"""Judgements as other harnesses write them; true and false equal 1 and 0."""


def judged(value: Any) -> bool | None:
    """A judgement as another harness wrote it; None if it says neither correct nor incorrect."""
    return CORRECT.get(value) if isinstance(value, str | int | float) else None


def each(
    rows: Iterator[tuple[str, Mapping[str, Any]]], read: Callable[[str, Mapping[str, Any]], Sample]
) -> Iterator[Sample]:
    """Samples from the rows of a file; a malformed one is named by its place.

    Raises:
        ValueError: a row is malformed.
    """
    for place, row in rows:
        try:
            yield read(place, row)
        except ValueError as problem:
            raise ValueError(f"{place}: {problem}") from None
