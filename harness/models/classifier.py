"""What every scored model looks like from outside, and what it is made from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.progress import Advance
from harness.stats.inference import Floats

CARD = "harness-card.json"
"""Name of the training card, beside trained weights."""


@dataclass(frozen=True, slots=True)
class Scores:
    """What a classifier says of n texts."""

    scores: Floats
    """Shape (n,), probability of class 1, in the order of the texts."""
    tokens: int | None
    """Tokens read, special ones included and padding excluded; None without a tokenizer."""
    truncated: int | None
    """Texts that were cut; None without a tokenizer."""
    borrowed_seconds: float = 0.0
    """That another model spent on what this one used of its work, at another time: then this one has no timing."""
    tokenizing_seconds: float = 0.0
    """That it took to tokenize the texts, where that was done for an earlier model: counted in."""


class Classifier(Protocol):
    """Something that tells positive from negative texts."""

    def predict(self, texts: Sequence[str], advance: Advance) -> Scores:
        """Score texts, advancing by as many as were scored."""
        ...


@dataclass(frozen=True, slots=True)
class ModelInputs:
    """What a backend may use to make a model. Each takes what its declaration asks for."""

    seed: int | None
    max_length: int
    """Tokens, special ones included."""
    base_dir: Path | None
    """Folder of the foundation model."""
    adapter_dir: Path | None
    """Folder of trained weights."""
    train_texts: Sequence[str]
    """Rendered texts of the training split, for what is fitted or calibrated when it is loaded; empty otherwise."""
    train_labels: Sequence[int]
    converted_dir: Path | None = None
    """Where the model is kept in another runtime's format: a folder that a digest of all that goes into it names."""
    states_dir: Path | None = None
    """Where states of a base's lower layers are kept for its other models; None: nowhere."""
