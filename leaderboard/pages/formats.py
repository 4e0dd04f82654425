"""Numbers and times as text. An absent number is an en dash, never a zero."""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

ABSENT = "–"
MINUS = "−"

METRIC_NAMES = {
    "accuracy": "Accuracy",
    "f1": "F1",
    "precision": "Precision",
    "recall": "Recall",
    "mcc": "MCC",
    "roc_auc": "ROC AUC",
    "log_loss": "Log loss",
    "brier": "Brier score",
    "ece": "ECE",
    "pair_accuracy": "Pairs right",
    "invariance": "Invariance",
    "direction": "Direction",
}
SHARES = ("accuracy", "f1", "precision", "recall", "pair_accuracy", "invariance", "direction")
"""Metrics whose differences are stated in points: hundredths."""
METHOD_NAMES = {
    "lora": "LoRA",
    "ia3": "IA³",
    "full": "full fine-tuning",
    "majority": "majority class",
    "tfidf": "TF-IDF + logistic regression",
    "probe": "logistic regression",
    "transformer": "untrained head",
    "checkpoint": "trained checkpoint",
    "prompt": "prompts",
    "predictions": "answers from elsewhere",
}


def metric_name(name: str) -> str:
    """A metric's name as a column's head."""
    return METRIC_NAMES.get(name, name)


def metric_phrase(name: str) -> str:
    """A metric's name inside a sentence: abbreviations stay as they are."""
    text = metric_name(name)
    return text if text[:2].isupper() or text[1:2].isdigit() else text[0].lower() + text[1:]


def method_phrase(method: str, base_id: str | None) -> str:
    """`LoRA on minilm`; a method without a known name is shown by its id."""
    text = METHOD_NAMES.get(method, method)
    joined = {"probe": "over frozen", "full": "of"}.get(method, "on")
    return f"{text} {joined} {base_id}" if base_id is not None else text


def score(value: float | None) -> str:
    """Three decimals: `0.887`, `−0.012`."""
    return ABSENT if value is None else _signed(f"{value:.3f}")


def interval(low: float | None, high: float | None) -> str:
    """`[0.868, 0.905]`, or an empty string without one: the score beside it has the dash."""
    return "" if low is None or high is None else f"[{score(low)}, {score(high)}]"


def difference(value: float) -> str:
    """Three decimals, always with a sign: `+0.012`, `−0.012`."""
    text = score(value)
    return text if text.startswith(MINUS) or float(text) == 0 else f"+{text}"


def lead(name: str, value: float) -> str:
    """An advantage, positive where it is better: `+7.0 points` of a share, `+0.154` of another metric."""
    return f"{_points(value, sign=True)} points" if name in SHARES else difference(value)


def lead_interval(name: str, low: float, high: float) -> str:
    """An advantage's interval in the same unit: `[4.0, 9.9]`."""
    return f"[{_points(low)}, {_points(high)}]" if name in SHARES else interval(low, high)


def _points(value: float, *, sign: bool = False) -> str:
    text = _signed(f"{100 * value:.1f}")
    return f"+{text}" if sign and float(text.replace(MINUS, "-")) > 0 else text


def minus(text: str) -> str:
    """A sentence whose negative numbers have a typographic minus."""
    return re.sub(r"(?<![\w.+-])-(?=\d)", MINUS, text)


def p_value(value: float | None) -> str:
    """Three decimals, or an upper bound: `0.043`, `< 0.001`."""
    if value is None:
        return ABSENT
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def percent(share: float | None) -> str:
    """A share with one decimal: `66.6 %`; a small share never rounds to zero: `< 0.1 %`."""
    if share is None:
        return ABSENT
    return "< 0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def count(value: int | None) -> str:
    """Thousands separated by commas: `1,346`."""
    return ABSENT if value is None else f"{value:,}"


def seconds(value: float | None) -> str:
    """`0.42 s`, `42.1 s`, `1,234 s`."""
    return ABSENT if value is None else f"{_three_digits(value)} s"


def rate(value: float | None) -> str:
    """Things per second, without the unit that stands in the column's head: `48.2`, `1,234`."""
    return ABSENT if value is None else _three_digits(value)


def size(n_bytes: int | None) -> str:
    """Decimal units: `312 B`, `590 kB`, `2.4 MB`."""
    if n_bytes is None:
        return ABSENT
    value, units = float(n_bytes), ["B", "kB", "MB", "GB", "TB"]
    while round(value) >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    whole = units[0] == "B" or value >= 99.95
    return f"{value:,.0f} {units[0]}" if whole else f"{value:.1f} {units[0]}"


def time(value: datetime) -> str:
    """A UTC time to the minute: `2026-03-01 14:05 UTC`."""
    return f"{value:%Y-%m-%d %H:%M} UTC"


def seed(value: int | None) -> str:
    """A seed's number, or a dash for a model without randomness."""
    return ABSENT if value is None else str(value)


def definitions(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """A declaration as dotted keys and TOML-like values: `train.epochs`, `3`. Keys that were left out stay out."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from definitions(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", json.dumps(value, ensure_ascii=False)


def _three_digits(value: float) -> str:
    if value < 9.995:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 99.95 else f"{value:,.0f}"


def _signed(text: str) -> str:
    """A typographic minus, and no negative zero."""
    if not text.startswith("-"):
        return text
    return text[1:] if not float(text) else MINUS + text[1:]
