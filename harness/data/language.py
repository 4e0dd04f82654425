"""Detection of texts that are probably not English, with py3langid: byte n-grams and naive Bayes over 140 languages.

It needs no network. The result is a guess, and presented as one. The model is rarely confident about texts of a few
words, which are therefore not reported.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

MIN_PROBABILITY = 0.5
"""Smallest probability at which a language other than English is reported: likelier than all others together."""


class Foreign(NamedTuple):
    """A text that is probably not English, by its position."""

    position: int
    language: str
    """ISO 639 code of the most likely language."""
    probability: float
    """The model's probability of that language, above one half, rounded to 3 digits."""


def not_english(texts: Sequence[str]) -> list[Foreign]:
    """The texts for which a language other than English has a probability of one half or more."""
    found = []
    for position, text in enumerate(texts):
        language, probability = _identifier().classify(text)
        if language != "en" and probability >= MIN_PROBABILITY:
            found.append(Foreign(position, language, round(float(probability), 3)))
    return found


@cache
def _identifier() -> Any:
    """The model that comes with the package; it takes half a second to load."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
