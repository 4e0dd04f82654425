"""The class that a word or a label's name plainly states."""

import re

_POLARITY = {"negative": 0, "neg": 0, "positive": 1, "pos": 1}
_NEGATIONS = ("not", "non", "no", "un")
_BESIDE = frozenset({"class", "is", "label", "review", "sentiment", "very"})
"""Words that leave the meaning of a label's name unchanged."""


def polarity(name: str) -> int | None:
    """The class that a label's name plainly states, 0 negative or 1 positive; None for any other name.

    A negated name, such as `non-positive` or `not_negative`, states the opposite class.
    """
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word and word not in _BESIDE]
    negated = False
    while len(words) > 1 and words[0] in _NEGATIONS:
        words, negated = words[1:], not negated
    if len(words) != 1:
        return None
    for prefix in ("", *_NEGATIONS):
        stated = _POLARITY.get(words[0].removeprefix(prefix))
        if words[0].startswith(prefix) and stated is not None:
            return stated if negated == bool(prefix) else 1 - stated
    return None
