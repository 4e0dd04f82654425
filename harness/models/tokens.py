"""A base's tokenizer: loaded once, held to a few texts, and used to count tokens. No weights and no torch model."""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from harness.artifacts import digest
from harness.errors import RunError
from harness.models import bases
from harness.stats.inference import Ints

PROBE_TEXTS = [
    "It works, and it was worth the money.",
    "It broke on the first day and I sent it back.",
    "Not bad at all, though the manual is useless.",
    "I wanted to like this. I could not.",
]
LEAST_TEXTS = 8
"""Different texts of which a tokenizer must tell most apart; of fewer, all may be alike to it."""
_REMEDY = "its files are incomplete or damaged, or it is for another language: take the base's own"


def tokenizer(folder: Path) -> Any:
    """A base's tokenizer, read anew where its files have changed.

    Raises:
        DataError: there are no files of one.
        RunError: they make none, or one that does not tell texts apart.
    """
    return _loaded(folder, digest.of_files(folder, ["config.json", *bases.TOKENIZER]))


@lru_cache(maxsize=4)
def _loaded(folder: Path, _files: str) -> Any:
    from transformers import AutoTokenizer

    bases.check_has_tokenizer((file.name for file in folder.iterdir()), str(folder))
    try:
        made: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        rows = made(PROBE_TEXTS, verbose=False)["input_ids"]
    except Exception as problem:
        reason = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
        raise RunError(f"{folder}: its tokenizer cannot be loaded ({reason[:300]})") from problem
    if len({tuple(row) for row in rows}) <= len(rows) // 2:
        raise RunError(f"{folder}: the tokenizer gives most of {len(rows)} probe texts the same token ids; {_REMEDY}")
    return made


def check_tells_apart(texts: Sequence[str], rows: Iterable[Sequence[int]], folder: Path) -> None:
    """Make sure that most of different texts have different token ids, before anything is cut.

    Raises:
        RunError: most are the same to the tokenizer.
    """
    different = dict(zip(texts, rows, strict=True))
    n_rows = len({bytes(np.array(row, dtype=np.int64)) for row in different.values()})
    if len(different) >= LEAST_TEXTS and n_rows <= len(different) // 2:
        raise RunError(
            f"{folder}: to the tokenizer, only {n_rows} of {len(different)} different texts are different; {_REMEDY}"
        )


def stand_in(made: Any, folder: Path) -> int:
    """The token that stands for an empty text where a tokenizer gives it none: a network cannot read nothing.

    Raises:
        RunError: the tokenizer has no special token.
    """
    for name in ("bos", "cls", "eos", "sep", "pad", "unk"):
        found: int | None = getattr(made, f"{name}_token_id")
        if found is not None:
            return found
    raise RunError(
        f"{folder}: a text is empty, and the tokenizer has no special token to stand for it; drop such texts"
    )


def counter(folder: Path) -> Callable[[Sequence[str]], Ints]:
    """A function from texts to their lengths in tokens, special ones included, nothing cut, shape (n,).

    Args:
        folder: a base's; its tokenizer is loaded once, the same way as for scoring.
    """
    made = tokenizer(folder)

    def lengths(texts: Sequence[str]) -> Ints:
        ids = made(list(texts), verbose=False)["input_ids"]
        return np.array([len(one) for one in ids], dtype=np.int64)

    return lengths
