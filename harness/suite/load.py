"""Loading a suite file, the only place that declares models, the rows they are scored on, and rules that must hold.

`load` reads TOML and returns a frozen `Suite`, or raises one `SuiteError` that lists every problem as
`file:line: place: message`. Nothing is inherited or looked up elsewhere: unknown keys, dangling references and
impossible values are errors.

    suite = load(Path("suites/quickstart.toml"))
    suite.model[0].id, suite.digest

`python -m harness.suite` prints the JSON Schema that editors use (`suites/suite.schema.json`).
"""

import json
import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.artifacts import plugins
from harness.errors import SuiteError
from harness.suite import crosschecks, nulls
from harness.suite.lines import called, line_of, lines_of
from harness.suite.models import BACKEND_NAMES
from harness.suite.schema import (
    COMMIT_PATTERN,
    DATASET_PATTERN,
    ID_PATTERN,
    PROJECT_PATTERN,
    SHA256_PATTERN,
    SLICE_PATTERN,
    TEMPLATE_PATTERN,
    Suite,
)
from harness.suite.splits import SOURCE_NAMES


def by_id(items: Any, wanted: str) -> Any:
    """The item with this id in a table of a checked suite, so it exists."""
    return next(item for item in items if item.id == wanted)


def load(path: Path) -> Suite:
    """Read and check a suite file.

    Raises:
        SuiteError: the file has problems; lists all of them, each as `file:line: place: message`.
    """
    try:
        text = read_text(path)
        return _checked(tomllib.loads(text), path, text)
    except FileNotFoundError:
        problem = "there is no such file"
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 (byte {error.start})"
    except RecursionError:
        problem = "is nested too deeply"
    except ValueError as error:  # a TOMLDecodeError, or an integer of thousands of digits
        problem = f"is not TOML: {error}"
    raise SuiteError([f"{path}: file: {problem}"])


MOST_BYTES = 1_000_000
"""Largest size of a suite file. Ten thousand adapters fit."""
MOST_PROBLEMS = 200
"""Number of problems listed for one file."""
_STRING = re.compile(r""""(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'""")
_DEEP_KEY = re.compile(r"(?<![\w. \t-])(?:[\w-]+[ \t]*\.[ \t]*){17}")
"""A key with more parts than any key of a suite; tomllib's time grows with the square of their number."""


def read_text(path: Path) -> str:
    """The file's text without a byte order mark, if its size and depth are within bounds."""
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES:,} bytes; split it into several suites")
    text = data.decode("utf-8").removeprefix("\ufeff")
    if _DEEP_KEY.search(_STRING.sub("x", text)):
        raise RecursionError
    return text


def _checked(data: dict[str, Any], file: Path, text: str) -> Suite:
    """The suite declared by these tables; each place in the file is reported at most once."""
    data.pop("$schema", None)
    suite, problems = None, dict(_value_problems(data))
    try:
        suite = Suite.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        for place, message in _shape_problems(error, data):
            problems.setdefault(place, message)
    for place, message in crosschecks.problems(data):
        problems.setdefault(place, message)
    if problems or suite is None:
        lines = lines_of(text)
        first = islice(problems.items(), MOST_PROBLEMS)
        listed = [_listed(file, place, message, data, lines) for place, message in first]
        if (more := len(problems) - len(listed)) > 0:
            listed.append(f"{file}: file: has {more:,} more problems; fix these first")
        raise SuiteError(listed)
    return nulls.expanded(suite)


def _listed(file: Path, place: str, message: str, data: Mapping[str, Any], lines: Mapping[str, int]) -> str:
    """A problem with its line, `file:12: model 'lora'.adapter: message`; without one where it is the whole file's."""
    line = line_of(place, lines)
    where = file if line is None else f"{file}:{line}"
    return f"{where}: {called(place, data)}: {message}"


_PLAIN_MESSAGES = {
    "bool_type": "must be true or false",
    "dict_type": "must be a table",
    "extra_forbidden": "unknown key",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "int_type": "must be a whole number",
    "json_invalid": "is nested too deeply",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "missing": "is required",
    "model_type": "must be a table",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must not be empty",
    "string_type": "must be a string",
    "too_long": "has too many items; at most {max_length} allowed",
    "too_short": "has too few items; at least {min_length} required",
    "tuple_type": "must be a list",
    "union_tag_invalid": "must be one of {expected_tags}",
    "union_tag_not_found": "is required",
    "value_error": "{error}",
}
"""Messages in terms of the suite file, by pydantic's error type; other types keep pydantic's message."""

_PATTERNS = {
    ID_PATTERN: "must be lower-case letters, digits and . _ + - only, beginning with a letter or digit",
    DATASET_PATTERN: "must be a dataset's name on the hub: owner/name",
    COMMIT_PATTERN: "must be a full commit: 40 hex digits in lower case",
    PROJECT_PATTERN: "must be a project's name: letters, digits and . _ - only, beginning with a letter or digit",
    SHA256_PATTERN: "must be a SHA-256 digest: 64 hex digits in lower case",
    SLICE_PATTERN: "must be a family and a value, such as negation=present",
    TEMPLATE_PATTERN: "must contain {content}, which stands for the review",
}


def _place(steps: Sequence[str | int]) -> str:
    """The place in the file, such as `split[0].take`; keys that need quotes in TOML are quoted."""
    place = ""
    for step in steps:
        if isinstance(step, int):
            place += f"[{step}]"
        else:
            key = step if re.fullmatch(r"[A-Za-z0-9_-]+", step) else json.dumps(step)
            place += f".{key}" if place else key
    return place or "file"


def _value_problems(value: Any, steps: tuple[str | int, ...] = ()) -> Iterator[tuple[str, str]]:
    """Problems of values that TOML allows but a suite does not, wherever they occur: dates and times, nan, inf."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _value_problems(item, (*steps, key))
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from _value_problems(item, (*steps, position))
    elif isinstance(value, float) and not math.isfinite(value):
        yield _place(steps), f"must be a finite number, not {value}"
    elif not isinstance(value, str | int | float):
        yield _place(steps), f"must not be a date or time; if it is meant as text, quote it: {str(value)!r}"


def _shape_problems(error: ValidationError, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Unknown keys, missing keys and impossible values, in terms of the suite file."""
    problems = error.errors(include_url=False)
    with_problems_inside = {problem["loc"][:n] for problem in problems for n in range(len(problem["loc"]))}
    for problem in problems:
        kind, context, steps = problem["type"], problem.get("ctx", {}), list(problem["loc"])
        if kind == "too_short" and problem["loc"] in with_problems_inside:
            continue  # wrong items, not too few of them
        if steps[:1] in (["split"], ["base"], ["adapter"], ["model"]):
            del steps[2:3]  # the table's kind, which is not a key
        if kind.startswith("union_tag"):
            steps.append("backend" if steps[0] == "model" else "source")
        if kind == "unknown_source":
            steps.append("source")
        if kind == "union_tag_invalid" and steps[0] == "model":
            message = plugins.unknown("backend", context["tag"], BACKEND_NAMES)
        elif kind == "union_tag_invalid" and steps[0] == "split":
            message = plugins.unknown("source", context["tag"], SOURCE_NAMES)
        elif kind == "string_pattern_mismatch":
            message = _PATTERNS[context["pattern"]]
        else:
            words = _PLAIN_MESSAGES.get(kind, problem["msg"].replace("{", "{{").replace("}", "}}"))
            message = words.format(**{name: _plain(value) for name, value in context.items()})
        if kind == "missing" and steps[-1] in ("sha256", "revision"):
            message += "; `harness data --pin SUITE` computes it"
        if len(steps) == 1 and kind == "tuple_type":
            message = f"must be a list of tables: write [[{steps[0]}]] above each"
        yield _place(steps), message


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
