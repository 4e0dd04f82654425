"""What a run's predictions are the same by."""

import hashlib

import numpy as np
from numpy.typing import NDArray


def of_predictions(predicted: NDArray[np.integer], scores: NDArray[np.float64]) -> str:
    """Hex SHA-256 of a run's answers in the order of its split (64 characters).

    Over the predicted labels, a byte each, and then the scores as float64, little-endian. Which examples they are of is
    in the split's own digest.

    Args:
        predicted: shape (n,), 0 or 1.
        scores: shape (n,), in [0, 1].
    """
    whole = hashlib.sha256(np.asarray(predicted, dtype="<i1").tobytes())
    whole.update(np.asarray(scores + 0.0, dtype="<f8").tobytes())  # + 0.0: a negative zero is a zero
    return whole.hexdigest()
