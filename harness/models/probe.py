"""A linear probe on a frozen encoder."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import AutoModel

from harness.models import device, encoding, own_format, transformer, variants
from harness.models.classifier import Classifier, ModelInputs, Scores
from harness.progress import Advance
from harness.stats.inference import Floats
from harness.suite.schema import ProbeModel


class Probe:
    """Logistic regression on the mean token state of a frozen encoder (Alain & Bengio 2016), fitted on construction."""

    def __init__(self, model: ProbeModel, ingredients: ModelInputs) -> None:
        from sklearn.linear_model import LogisticRegression

        self.folder, self.max_length = ingredients.base, ingredients.max_length
        loaded, _ = own_format.load(AutoModel, self.folder)
        self.encoder: Any = device.place(loaded, ingredients.device)
        encoding.settle(self.encoder, self.folder, self.max_length, _mean_state)
        self.encoder = own_format.rounded(self.encoder, variants.DTYPES[model.precision]).eval()
        self.shared = transformer.layers_of_base(self.encoder, ingredients)
        self.normalise = model.normalise
        self.head = LogisticRegression(C=model.C, max_iter=1000)
        states, _, _ = self._states(ingredients.train_texts, lambda done, note: None)
        self.head.fit(states, ingredients.train_labels)

    def _states(self, texts: Sequence[str], advance: Advance) -> tuple[Floats, encoding.Encoded, float]:
        encoded = encoding.encode(self.folder, texts, self.max_length).for_network(self.encoder)
        with transformer.reused(self.shared, encoded) as borrowed:
            states = encoding.forward_all(encoded, lambda batch: _mean_state(self.encoder, batch), advance)
            found: Floats = states.numpy()
            return _of_length_one(found) if self.normalise else found, encoded, borrowed

    def predict(self, texts: Sequence[str], advance: Advance) -> Scores:
        """Probabilities of class 1."""
        states, encoded, borrowed = self._states(texts, advance)
        scores = np.asarray(self.head.predict_proba(states)[:, 1], dtype=np.float64)
        tokens = int(encoded.lengths.sum())
        return Scores(scores, tokens, encoded.truncated, borrowed, encoded.spared_seconds)


def _of_length_one(states: Floats) -> Floats:
    """States divided by their lengths; one of length zero stays."""
    lengths = np.linalg.norm(states, axis=1, keepdims=True)
    return np.asarray(states / np.where(lengths == 0, 1, lengths), dtype=states.dtype)


def _mean_state(encoder: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The mean of each text's last states, padding excluded: shape (batch, width)."""
    mask = batch["attention_mask"].unsqueeze(-1)
    summed: torch.Tensor = (encoder(**batch).last_hidden_state * mask).sum(1)
    return summed / mask.sum(1)


def probe(model: ProbeModel, ingredients: ModelInputs) -> Classifier:
    """Fit the linear probe."""
    return Probe(model, ingredients)
