"""Results as `model-index`, the metadata in the YAML header of a model card, which the hub shows: one card a model.

The header is written and read by the library huggingface_hub. It has no field for intervals, so they are arguments of
the metric, with their method, and a table in the card's text. An adapter's own card can take the header over with
`huggingface_hub.metadata_update`.
"""

from collections.abc import Sequence
from typing import Any

from harness.interchange.results import Result
from harness.output.visible import visible
from harness.records import Metric
from harness.stats import inference
from harness.suite.load import by_id
from harness.suite.schema import HubSplit


def files(results: Sequence[Result]) -> dict[str, bytes]:
    """A model card for each model, by relative path."""
    by_model: dict[str, list[Result]] = {}
    for result in results:
        by_model.setdefault(result.model.id, []).append(result)
    return {f"{model_id}/README.md": _card(model_id, many).encode() for model_id, many in by_model.items()}


def _card(model_id: str, results: Sequence[Result]) -> str:
    from huggingface_hub import ModelCardData

    measured = [_of_metric(one, metric) for one in results for metric in one.metrics if metric.value is not None]
    header = ModelCardData(model_name=model_id, eval_results=measured).to_yaml()
    return f"---\n{header}\n---\n\n# {model_id}\n\n{_table(results)}"


def _of_metric(result: Result, metric: Metric) -> Any:
    from huggingface_hub import EvalResult

    rule = by_id(result.suite.split, result.split.split_id)
    method, draws = result.method_of(metric)
    uncertainty: dict[str, Any] = {
        "ci_low": metric.ci_low, "ci_high": metric.ci_high, "confidence": inference.CONFIDENCE, "method": method,
        "resamples": draws,
    }  # fmt: skip
    if metric.ci_low is None:
        uncertainty = {}
    return EvalResult(
        task_type="text-classification",
        task_name="Sentiment",
        dataset_type=rule.dataset if isinstance(rule, HubSplit) else f"{result.suite.name}/{result.split.split_id}",
        dataset_name=f"{result.suite.name}: {result.split.split_id}",
        dataset_split=rule.split if isinstance(rule, HubSplit) else None,
        dataset_revision=(result.split.source.get("revision") or rule.revision) if isinstance(rule, HubSplit) else None,
        dataset_args={"split_digest": result.split.digest, "n": len(result.examples)},
        metric_type=metric.name,
        metric_name=metric.name,
        metric_value=metric.value,
        metric_args={
            **{name: value for name, value in uncertainty.items() if value is not None},
            "n": metric.n,
            "n_seeds": len(result.runs),
            **result.digests,
        },
    )


def _table(results: Sequence[Result]) -> str:
    rows = ["| split | metric | value | 95 % interval | n | seeds |", "|---|---|---|---|---|---|"]
    for one in results:
        for metric in one.metrics:
            ends = "–" if metric.ci_low is None else f"[{metric.ci_low:.3f}, {metric.ci_high:.3f}]"
            value = "–" if metric.value is None else f"{metric.value:.3f}"
            cells = (visible(one.split.split_id), metric.name, value, ends, f"{metric.n:,}", str(len(one.runs)))
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"
