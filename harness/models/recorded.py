"""Answers that were given elsewhere, in place of a model."""

from collections.abc import Mapping, Sequence

import numpy as np

from harness.errors import RunError
from harness.models.classifier import Classifier, ModelInputs, Scores
from harness.progress import Advance
from harness.suite.schema import PredictionsModel


class Recorded:
    """Scores by example id. They are looked up: no text is read, and nothing is timed.

    Args:
        scores: probability of class 1 by example id.
    """

    def __init__(self, scores: Mapping[str, float]) -> None:
        self.scores = scores

    def recall(self, example_ids: Sequence[str], advance: Advance) -> Scores:
        """The scores of these examples."""
        found = np.array([self.scores[example_id] for example_id in example_ids], dtype=np.float64)
        advance(len(example_ids), "")
        return Scores(found, tokens=None, truncated=None)

    def predict(self, texts: Sequence[str], advance: Advance) -> Scores:
        """Refuse texts that nobody recorded an answer for.

        Raises:
            RunError: always.
        """
        raise RunError("answers from elsewhere exist for the rows of a split only; other texts cannot be scored")


def predictions(model: PredictionsModel, ingredients: ModelInputs) -> Classifier:
    """Take the answers that were matched to the scored splits."""
    return Recorded(ingredients.recorded)
