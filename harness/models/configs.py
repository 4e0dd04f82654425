"""Configurations that somebody else wrote, read as bounded JSON."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

DEEPEST = 50
"""Levels of nesting; real ones have a few."""


def json_object(path: Path, most_bytes: int, refusal: Callable[[str], Exception]) -> dict[str, Any]:
    """The JSON object in a file: of a bounded size and depth, without NaN and infinity, which JSON does not have.

    Args:
        refusal: makes the error of a message.

    Raises:
        Exception: the file is missing, too large or no such object; `refusal` makes it.
    """
    if not path.is_file():
        raise refusal(f"there is no {path}")
    with path.open("rb") as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise refusal(f"{path} has more than {most_bytes:,} bytes; it is no configuration")
    try:
        value = json.loads(data, parse_constant=_refuse_constant)
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()  # the store takes no 1e999, no lone surrogate
    except _ConstantError as problem:
        raise refusal(f"{path} is not JSON: {problem} is not a finite number") from None
    except (ValueError, RecursionError) as problem:
        reason = str(problem) if "JSON compliant" in str(problem) else type(problem).__name__
        raise refusal(f"{path} is not JSON ({reason})") from None
    if not isinstance(value, dict):
        raise refusal(f"{path} is not a JSON object")
    if _is_deep(value):
        raise refusal(f"{path} is nested more than {DEEPEST} levels deep")
    return value


class _ConstantError(ValueError):
    """A number that Python reads and JSON does not have."""


def _refuse_constant(name: str) -> None:
    raise _ConstantError(name)


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            item
            for outer in level
            if isinstance(outer, dict | list)
            for item in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return bool(level)
