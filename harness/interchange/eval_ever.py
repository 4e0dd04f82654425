"""Instances of Every Eval Ever: one JSON object for each question, with the answer that was extracted from the output.

The form has no field for probabilities. `harness export` writes that of positive into the instance's metadata, and it
is read from there; without it an answer counts as certain.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from harness.interchange.samples import Log, Sample, each, fields_of, items, judged, mapping

KEYS = frozenset({"evaluation_id", "sample_id", "input", "evaluation"})
"""Keys that tell its lines from those of other harnesses."""
PROBABILITY = "probability_of_positive"
"""Key of the metadata with the probability of positive."""


def of_rows(rows: Iterator[tuple[str, Mapping[str, Any]]]) -> Log:
    """The samples of a file.

    Raises:
        ValueError: a line is malformed, or the lines are about several models.
    """
    models: set[str] = set()

    def read(place: str, row: Mapping[str, Any]) -> Sample:
        models.add(str(row.get("model_id")))
        if len(models) > 1:
            raise ValueError(f"is about another model than the lines before it ({', '.join(sorted(models))!r:.200})")
        return _sample(place, row)

    samples = tuple(each(rows, read))
    return Log("Every Eval Ever", next(iter(models), None), samples)


def _sample(place: str, row: Mapping[str, Any]) -> Sample:
    if absent := sorted(KEYS - row.keys()):
        raise ValueError(f"has no {absent[0]!r}, unlike the lines before it")
    asked, metadata = mapping(row["input"], "input"), row.get("metadata")
    seed = metadata.get("seed") if isinstance(metadata, dict) else None
    fields = fields_of({"sample_id": row["sample_id"], "input": {"raw": asked.get("raw")}, "metadata": metadata})
    reference = asked.get("reference")
    references = [reference] if isinstance(reference, str) else items(reference, "input.reference")
    evaluation = mapping(row["evaluation"], "evaluation")
    variant = str(row.get("evaluation_result_id") or row.get("evaluation_name") or "")
    variant += "" if seed is None else f" seed {seed}"
    target = str(references[0]) if references else None
    return Sample(place, fields, _answer(row), target, judged(evaluation.get("is_correct")), variant)


def _answer(row: Mapping[str, Any]) -> dict[str, float]:
    metadata = row.get("metadata")
    stated = metadata.get(PROBABILITY) if isinstance(metadata, dict) else None
    if stated is not None:
        try:
            score = float(stated)
        except (TypeError, ValueError):
            score = -1.0
        if not 0 <= score <= 1:
            raise ValueError(f"metadata.{PROBABILITY} is {stated!r:.40}, not a probability from 0 to 1")
        return {"negative": 1 - score, "positive": score}
    return {_text(row): 1.0}


def _text(row: Mapping[str, Any]) -> str:
    """The answer: the last one extracted from the output, or else the whole output."""
    extracted: list[Any] = []
    for one in items(row.get("answer_attribution") or [], "answer_attribution"):
        attribution = mapping(one, "answer_attribution[]")
        if attribution.get("is_terminal", True):
            extracted.append(attribution.get("extracted_value"))
    output = row.get("output")
    raw = items(output.get("raw"), "output.raw") if isinstance(output, dict) else []
    texts = [one for one in (*extracted[-1:], *raw[:1]) if isinstance(one, str)]
    if not texts:
        raise ValueError("has no answer: neither answer_attribution nor output.raw states one")
    return texts[0]
