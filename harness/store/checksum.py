"""Digests that a run is checked against whenever it is read: of its predictions, its whole record, its explanations."""

import hashlib
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from harness.artifacts import digest
from harness.records import Occlusion, Run


def of_predictions(predicted: NDArray[np.integer], scores: NDArray[np.float64]) -> str:
    """Hex SHA-256 of a run's answers in the order of its split (64 characters).

    It covers the predicted labels, a byte each, and then the scores as float64, little-endian. The split's own digest
    covers the examples.

    Args:
        predicted: shape (n,), 0 or 1.
        scores: shape (n,), in [0, 1].
    """
    whole = hashlib.sha256(np.asarray(predicted, dtype="<i1").tobytes())
    whole.update(np.asarray(scores + 0.0, dtype="<f8").tobytes())  # + 0.0: a negative zero is a zero
    return whole.hexdigest()


def of_record(run: Run, predictions: str) -> str:
    """Hex SHA-256 of everything the store records about a run: columns, metrics and predictions (64 characters).

    Args:
        predictions: `of_predictions` of its answers.
    """
    fields = asdict(run) | {"started_at": run.started_at.isoformat(), "finished_at": run.finished_at.isoformat()}
    # A built-in metric has no origin, and earlier releases had no such field.
    metrics = [{k: v for k, v in metric.items() if k != "origin" or v is not None} for metric in fields["metrics"]]
    fields["metrics"] = sorted(metrics, key=lambda metric: str(metric["name"]))
    return digest.of_json([fields, predictions])


def of_occlusion(found: Occlusion) -> str:
    """Hex SHA-256 of everything that the store records about an explained example, except the time (64 characters)."""
    pieces = [[piece.field, piece.start, piece.end, piece.score] for piece in found.pieces]
    return digest.of_json([found.key, found.run_key, found.split_digest, found.example_id, float(found.score), pieces])
