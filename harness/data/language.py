"""Texts that are probably not English, by py3langid: byte n-grams and naive Bayes over 140 languages, with no network.

A guess, and named so. Of a text of a few words it is rarely sure of anything, and such texts are left alone.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

MIN_PROBABILITY = 0.5
"""From which another language than English is reported: then it is likelier than all the others together."""


class Foreign(NamedTuple):
    """A text that is probably not English, by its position."""

    position: int
    language: str
    """ISO 639 code of the likeliest language."""
    probability: float
    """Of that language, above one half; the model's own, rounded to 3 digits."""


def not_english(texts: Sequence[str]) -> list[Foreign]:
    """The texts for which another language than English has a probability of one half or more."""
    found = []
    for position, text in enumerate(texts):
        language, probability = _identifier().classify(text)
        if language != "en" and probability >= MIN_PROBABILITY:
            found.append(Foreign(position, language, round(float(probability), 3)))
    return found


@cache
def _identifier() -> Any:
    """The model that the package carries: half a second to load."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
