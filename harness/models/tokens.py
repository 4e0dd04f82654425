"""A base's tokenizer: loaded once, checked on a few texts, and used to count tokens. No weights and no torch model."""

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
"""Number of different texts from which on a tokenizer must distinguish most of them."""
_REMEDY = "its files are incomplete or damaged, or it is for another language: use the base's own"


def tokenizer(folder: Path) -> Any:
    """A base's tokenizer, read again if its files have changed.

    Raises:
        DataError: the folder has no tokenizer files.
        RunError: the tokenizer cannot be loaded, or does not distinguish texts.
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
    """Check that most different texts have different token ids, before anything is cut.

    Raises:
        RunError: the tokenizer gives most of them the same ids as another text.
    """
    different = dict(zip(texts, rows, strict=True))
    n_rows = len({bytes(np.array(row, dtype=np.int64)) for row in different.values()})
    if len(different) >= LEAST_TEXTS and n_rows <= len(different) // 2:
        raise RunError(
            f"{folder}: the tokenizer distinguishes only {n_rows} of {len(different)} different texts; {_REMEDY}"
        )


def stand_in(made: Any, folder: Path) -> int:
    """The token that stands for an empty text if a tokenizer yields none for it: a network cannot read nothing.

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
    """A function from texts to their uncut lengths in tokens, special ones included, shape (n,).

    Args:
        folder: folder of a base, whose tokenizer is loaded once, the same way as for scoring.
    """
    made = tokenizer(folder)

    def lengths(texts: Sequence[str]) -> Ints:
        ids = made(list(texts), verbose=False)["input_ids"]
        return np.array([len(one) for one in ids], dtype=np.int64)

    return lengths
