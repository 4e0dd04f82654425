"""Guesses at the columns and labels of data that nobody has described yet: for advice, never for reading.

A refusal uses them to name the key that would make a file readable, `harness data FILE` and `harness init` to write it
down. A suite declares what is read; nothing here is applied to a declared split.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from harness.suite.splits import Labels, canonical

CONTENT = (
    "content", "text", "reviewtext", "reviewbody", "review", "sentence", "body", "comment", "tweet", "message",
    "document", "feedback", "description", "inputtext", "input",
)  # fmt: skip
TITLE = ("title", "headline", "reviewtitle", "reviewheadline", "subject", "summary")
LABEL = (
    "label", "labels", "sentiment", "class", "target", "polarity", "stars", "starrating", "rating", "overall",
    "reviewscore", "airlinesentiment", "score", "category", "y",
)  # fmt: skip
"""Usual names of columns, in lower case without punctuation, the likelier first."""
NEGATIVE = ("negative", "neg", "bad", "no", "false", "label_0", "__label__1")
POSITIVE = ("positive", "pos", "good", "yes", "true", "label_1", "__label__2")
"""Words for the two classes, pair by pair."""
PAIRS = ((0, 1), (1, 2), (-1, 1), (0, 4))
"""Numbers for the two classes, where nothing lies between that is not neutral."""
MOST_VALUES = 20
"""Largest number of different values in a column of labels."""


def labels(values: Iterable[object]) -> Labels | None:
    """The likely meaning of these values of a label column; None if they do not show it.

    Stars around a middle, such as 1 to 5, are negative below it and positive above it.
    """
    written = {canonical(value): value for value in values if canonical(value)}
    if not 2 <= len(written) <= MOST_VALUES:
        return None
    by_word = [[value for value in written.values() if _word(value) in words] for words in (NEGATIVE, POSITIVE)]
    if all(by_word):
        return _declared(*by_word)
    try:
        numbers = sorted(float(name) for name in written)
    except ValueError:
        return None
    for low, high in PAIRS:
        if {low, high} <= set(numbers) <= {low, (low + high) / 2, high}:
            return _declared([low], [high])
    if not all(0 <= number <= 10 for number in numbers):
        return None
    if len(numbers) == 2:  # the ends of a scale
        return _declared(numbers[:1], numbers[1:])
    top = next(top for top in (4, 5, 10) if numbers[-1] <= top)
    middle = 2 if top == 4 and numbers[0] == 0 else 3 if top <= 5 else 5.5
    low_ones, high_ones = [n for n in numbers if n < middle], [n for n in numbers if n > middle]
    if top == 10:
        low_ones, high_ones = [n for n in numbers if n <= 4], [n for n in numbers if n >= 7]
    return _declared(low_ones, high_ones) if low_ones and high_ones else None


def _word(value: object) -> str:
    return canonical(value).casefold()


def _declared(negative: Sequence[Any], positive: Sequence[Any]) -> Labels:
    low, high = (
        tuple(int(one) if isinstance(one, float) and one.is_integer() else one for one in side)
        for side in (negative, positive)
    )
    return Labels(negative=low[0] if len(low) == 1 else low, positive=high[0] if len(high) == 1 else high)


def columns(rows: Sequence[Mapping[Any, Any]]) -> dict[str, Any]:
    """The likely columns among rows with the same keys: `content`, `label` and `title`, as far as they can be found.

    Names decide; where none is usual, the column with the longest texts is the content, and one with few values that
    look like labels is the label.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    found: dict[str, Any] = {}
    for key, usual in (("label", LABEL), ("title", TITLE), ("content", CONTENT)):
        named = {_plain(name): name for name in reversed(names) if name not in found.values()}
        if (likely := next((named[word] for word in usual if word in named), None)) is not None:
            found[key] = likely
    if "label" not in found:
        of_labels = [n for n in names if n not in found.values() and labels(row.get(n) for row in rows) is not None]
        found |= {"label": of_labels[0]} if of_labels else {}
    if "content" not in found:
        lengths = {
            name: sum(len(row[name]) for row in rows if isinstance(row.get(name), str))
            for name in names
            if name not in found.values()
        }
        likely = max(lengths, key=lambda name: lengths[name], default=None)
        found |= {"content": likely} if likely is not None and lengths[likely] > 10 * len(rows) else {}
    return found


def _plain(name: object) -> str:
    return re.sub(r"[^a-z]", "", str(name).casefold())


def advice_on_columns(names: Collection[Any], *, omit_usual: bool = True) -> str:
    """The `columns` that would read a table with these names of columns, for a refusal.

    Args:
        omit_usual: leave out the columns that are found under their own names.
    """
    found = columns([dict.fromkeys(names)])
    stated = {key: found.get(key, "…") for key in ("content", "title", "label") if key in found or key != "title"}
    if omit_usual:
        stated = {key: name for key, name in stated.items() if name != key}
    return f"name them: columns = {toml(stated)}" if stated else "correct `columns`"


def advice_on_labels(values: Iterable[object]) -> str:
    """The `labels` that would read these values, for a refusal."""
    seen = list({canonical(value): value for value in values if canonical(value)}.values())
    likely = labels(seen)
    if likely is not None:
        return f"declare labels = {toml(likely.model_dump(mode='json'))}"
    listed = ", ".join(toml(value) for value in seen[:6]) + (", …" if len(seen) > 6 else "")
    return f"declare labels = {{ negative = …, positive = … }} over the values of the column ({listed})"


def toml(value: Any) -> str:
    """A value as TOML writes it on one line."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else str(value)
