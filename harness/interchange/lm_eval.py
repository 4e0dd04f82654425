"""Samples of lm-evaluation-harness, as `--log_samples` writes them: one JSON object for each document and filter.

A task with choices has the log-likelihood of each; as in that harness, the likeliest is the answer, and the lengths of
choices do not count. A task that generates has a text.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from harness.interchange.samples import Log, Sample, agreed, each, fields_of, items, judged, probabilities

KEYS = frozenset({"doc_id", "doc", "arguments", "filtered_resps"})
"""Keys that tell its lines from those of other harnesses."""


def of_rows(rows: Iterator[tuple[str, Mapping[str, Any]]]) -> Log:
    """The samples of a file.

    Raises:
        ValueError: a line is malformed, or of a task that neither chooses nor generates an answer.
    """
    return Log("lm-evaluation-harness", None, tuple(each(rows, _sample)))


def _sample(place: str, row: Mapping[str, Any]) -> Sample:
    if absent := sorted(KEYS - row.keys()):
        raise ValueError(f"has no {absent[0]!r}, unlike the lines before it")
    fields = fields_of({"doc": row["doc"], "doc_id": row["doc_id"]})
    requests = _requests(row["arguments"])
    responses = items(row["filtered_resps"], "filtered_resps")
    fields |= {"prompt": requests[0][0]}
    target = None if row.get("target") is None else str(row["target"])
    names = row.get("metrics")
    correct = agreed([judged(row.get(name)) for name in names]) if isinstance(names, list) and names else None
    variant = str(row.get("filter", ""))
    if len(responses) != len(requests):
        raise ValueError(f"has {len(responses)} responses to {len(requests)} requests")
    if all(isinstance(one, str) for one in responses):
        if len(responses) > 1:
            raise ValueError("has several generated texts; keep one filter that takes one of them")
        return Sample(place, fields, {responses[0]: 1.0}, target, correct, variant)
    choices = [continuation.strip() for _, continuation in requests if continuation is not None]
    if len(choices) < 2 or len(set(choices)) < len(requests):
        raise ValueError("has no two choices with different texts; only tasks that choose or generate are understood")
    answer = probabilities(dict(zip(choices, map(_log_likelihood, responses), strict=True)))
    return Sample(place, fields, answer, _choice(target, choices), correct, variant)


def _requests(arguments: Any) -> list[tuple[str, str | None]]:
    """Context and continuation of each request; no continuation where an answer is generated."""
    named = list(arguments.values()) if isinstance(arguments, dict) else items(arguments, "arguments")
    if not named:
        raise ValueError("arguments are empty")
    found = []
    for one in named:
        pair = list(one.values()) if isinstance(one, dict) else items(one, "arguments")
        if not pair or not isinstance(pair[0], str):
            raise ValueError("arguments do not begin with a prompt")
        found.append((pair[0], pair[1] if len(pair) > 1 and isinstance(pair[1], str) else None))
    return found


def _log_likelihood(response: Any) -> float:
    pair = items(response, "a response")
    try:
        return float(pair[0])
    except (IndexError, TypeError, ValueError):
        raise ValueError(f"response {response!r:.60} has no log-likelihood") from None


def _choice(target: str | None, choices: list[str]) -> str | None:
    """The choice that a target means: its text, or its position."""
    if target is None or target.strip() in choices:
        return target and target.strip()
    return choices[int(target)] if target.isdecimal() and int(target) < len(choices) else target
