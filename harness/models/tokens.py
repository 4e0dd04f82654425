"""How long texts are in a base's tokens: no weights and no torch model, only its tokenizer."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.stats import Ints


def counter(folder: Path) -> Callable[[Sequence[str]], Ints]:
    """A function from texts to their lengths in tokens, special ones included, nothing cut, shape (n,).

    Args:
        folder: a base's; its tokenizer is loaded once, the same way as for scoring.
    """
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)

    def lengths(texts: Sequence[str]) -> Ints:
        ids = tokenizer(list(texts), verbose=False)["input_ids"]
        return np.array([len(one) for one in ids], dtype=np.int64)

    return lengths
