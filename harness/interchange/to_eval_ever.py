"""Results in the form of Every Eval Ever, schema 0.3.0: one file for each model and split, its instances beside it.

Paths are those of its datastore, `data/COLLECTION/DEVELOPER/MODEL/UUID.json`. A local model has no developer there, so
that part is `unpublished`; rename it before publishing. The same results have the same files: the UUID is made of their
run keys. Texts go in only where the suite says `store = true`; otherwise a row is named by its example id alone.
"""

import json
import math
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from harness.artifacts import digest
from harness.interchange.eval_ever import PROBABILITY
from harness.interchange.results import Result
from harness.records import Example, Metric
from harness.stats import inference
from harness.stats.metrics import METRICS
from harness.suite.load import by_id
from harness.suite.schema import HubSplit, PredictionsModel

SCHEMA = "0.3.0"
DEVELOPER = "unpublished"
WORDS = ("negative", "positive")


def files(results: Sequence[Result]) -> dict[str, bytes]:
    """The files of results, by relative path."""
    made: dict[str, bytes] = {}
    for result in results:
        key = digest.of_json([SCHEMA, result.digests])
        name = uuid.UUID(bytes=bytes.fromhex(key[:32]), version=4)
        folder = f"data/{result.suite.name}/{DEVELOPER}/{result.model.id}"
        instances = "".join(f"{_json(one)}\n" for one in _instances(result)).encode()
        beside = f"{folder}/{name}_samples.jsonl"
        detailed = {
            "format": "jsonl",
            "file_path": beside,
            "hash_algorithm": "sha256",
            "checksum": digest.of_bytes(instances),
            "total_rows": len(result.examples) * len(result.runs),
        }
        made[f"{folder}/{name}.json"] = (
            _json(_aggregate(result) | {"detailed_evaluation_results": detailed}, 1)
        ).encode()
        made[beside] = instances
    return made


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)


def _model_id(result: Result) -> str:
    return f"{DEVELOPER}/{result.model.id}"


def _timestamp(result: Result) -> str:
    """Seconds since 1970 at the end of the last run."""
    ended = max(run.finished_at or run.started_at for run in result.runs)
    return str(int(ended.replace(tzinfo=UTC).timestamp()))


def _evaluation_id(result: Result) -> str:
    return f"{_name(result)}/{_model_id(result)}/{_timestamp(result)}"


def _name(result: Result) -> str:
    return f"{result.suite.name}/{result.split.split_id}"


def _aggregate(result: Result) -> dict[str, Any]:
    started = min(run.started_at for run in result.runs)
    packages = result.runs[0].packages
    engine = (
        {"name": "transformers", "version": str(packages["transformers"])} if packages.get("transformers") else None
    )
    elsewhere = isinstance(result.model, PredictionsModel)
    about: dict[str, Any] = {"name": result.model.id, "id": _model_id(result), "developer": DEVELOPER}
    if engine is not None and not elsewhere and "base" in result.runs[0].spec and result.runs[0].spec["base"]:
        about["inference_engine"] = engine
    details: dict[str, str] = {"backend": result.model.backend, "seeds": _seeds(result), **result.digests}
    if isinstance(result.model, PredictionsModel):
        details["made_elsewhere"] = result.model.origin or "true"
    kind = {"deployment_type": "unknown" if elsewhere else "self_deployed", "model_availability": "unknown"}
    return {
        "schema_version": SCHEMA,
        "evaluation_id": _evaluation_id(result),
        "evaluation_timestamp": _iso(started),
        "retrieved_timestamp": _timestamp(result),
        "source_metadata": {
            "source_name": result.suite.name,
            "source_type": "evaluation_run",
            "source_organization_name": DEVELOPER,
            "evaluator_relationship": "other",
            "additional_details": {"suite_description": result.suite.description},
        },
        "eval_library": {"name": "adapter-harness", "version": metadata.version("adapter-harness")},
        "model_info": about | {"additional_details": details | kind},
        "evaluation_results": [_result(result, metric) for metric in result.metrics if metric.value is not None],
    }


def _iso(time: datetime) -> str:
    return time.replace(tzinfo=UTC).isoformat()


def _seeds(result: Result) -> str:
    return " ".join(str(run.seed) for run in result.runs if run.seed is not None) or "none"


def _result(result: Result, metric: Metric) -> dict[str, Any]:
    definition = METRICS[metric.name]
    details: dict[str, Any] = {"score": metric.value, "details": {"n": str(metric.n), "n_seeds": str(len(result.runs))}}
    if metric.ci_low is not None and metric.ci_high is not None:
        method, draws = result.method_of(metric)
        details["uncertainty"] = {
            "confidence_interval": {
                "lower": metric.ci_low,
                "upper": metric.ci_high,
                "confidence_level": inference.CONFIDENCE,
                "method": method,
            },
            "num_samples": metric.n,
        } | ({} if draws is None else {"num_bootstrap_samples": draws})
    return {
        "evaluation_result_id": f"{_name(result)}/{metric.name}",
        "evaluation_name": _name(result),
        "source_data": _source(result),
        "metric_config": {
            "metric_id": metric.name,
            "metric_name": metric.name,
            "lower_is_better": not definition.higher_is_better,
            "score_type": "continuous",
            "min_score": _bound(definition.lowest),
            "max_score": _bound(definition.highest),
        },
        "score_details": details,
    }


def _bound(value: float) -> float | str:
    return value if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"


def _source(result: Result) -> dict[str, Any]:
    """The split: a dataset of the hub with its commit, or rows from elsewhere."""
    rule = by_id(result.suite.split, result.split.split_id)
    details: dict[str, str] = {"split_digest": result.split.digest, "rows": str(len(result.examples))}
    if isinstance(rule, HubSplit):
        revision = str(result.split.source.get("revision") or rule.revision or "")
        return {
            "dataset_name": rule.dataset,
            "source_type": "hf_dataset",
            "hf_repo": rule.dataset,
            "hf_split": rule.split,
            "samples_number": len(result.examples),
            "additional_details": {**details, **({"revision": revision} if revision else {})},
        }
    return {
        "dataset_name": _name(result),
        "source_type": "other",
        "additional_details": {**details, "source": str(rule.source)},
    }


def _instances(result: Result) -> list[dict[str, Any]]:
    made = []
    for run, outcomes in zip(result.runs, result.outcomes, strict=True):
        for i, example in enumerate(result.examples):
            answer, label = WORDS[int(outcomes.predicted[i])], WORDS[int(outcomes.labels[i])]
            raw = _text(result, example)
            kept: dict[str, str] = {PROBABILITY: repr(float(outcomes.scores[i]))}
            if run.seed is not None:
                kept["seed"] = str(run.seed)
            made.append(
                {
                    "schema_version": SCHEMA,
                    "evaluation_id": _evaluation_id(result),
                    "model_id": _model_id(result),
                    "evaluation_name": _name(result),
                    "evaluation_result_id": f"{_name(result)}/{result.suite.primary_metric}",
                    "sample_id": example.example_id,
                    "sample_hash": digest.of_bytes(f"{raw}{label}".encode()),
                    "interaction_type": "single_turn",
                    "input": {"raw": raw, "reference": [label]},
                    "output": {"raw": [answer]},
                    "answer_attribution": [
                        {
                            "turn_idx": 0,
                            "source": "output.raw",
                            "extracted_value": answer,
                            "extraction_method": "threshold at one half",
                            "is_terminal": True,
                        }
                    ],
                    "evaluation": {"score": float(answer == label), "is_correct": answer == label},
                    "metadata": kept,
                }
            )
    return made


def _text(result: Result, example: Example) -> str:
    if result.suite.text.store:
        return result.suite.text.render(example.title, example.content)
    return f"(text not stored: example {example.example_id})"
