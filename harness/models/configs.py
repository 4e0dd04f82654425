"""Configurations from untrusted sources, read as bounded JSON."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

DEEPEST = 50
"""Most levels of nesting; real configurations have a few."""


def json_object(path: Path, most_bytes: int, refusal: Callable[[str], Exception]) -> dict[str, Any]:
    """Read a JSON object of bounded size and depth, without NaN and infinity, which JSON does not have.

    Args:
        refusal: makes an error from a message.

    Raises:
        Exception: the file is missing, too large or not such an object; `refusal` makes the error.
    """
    if not path.is_file():
        raise refusal(f"there is no {path}")
    with path.open("rb") as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise refusal(f"{path} has more than {most_bytes:,} bytes, too many for a configuration")
    try:
        value = json.loads(data)
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()  # the store takes no NaN and no lone surrogate
    except (ValueError, RecursionError) as problem:
        is_number = "JSON compliant" in str(problem)
        reason = ": it has a number that is not finite" if is_number else f" ({type(problem).__name__})"
        raise refusal(f"{path} is not JSON{reason}") from None
    if not isinstance(value, dict):
        raise refusal(f"{path} is not a JSON object")
    if _is_deep(value):
        raise refusal(f"{path} is nested more than {DEEPEST} levels deep")
    return value


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
