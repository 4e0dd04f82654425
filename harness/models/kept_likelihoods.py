"""Log-likelihoods kept in files, for models that ask one network the same and differ in what follows.

A calibrated model is its uncalibrated twin with the decision moved; both ask the same network the same prompts. The
first of them keeps the log-likelihoods of each list of prompts, and the other reads them in place of a forward pass::

    found, seconds = kept(folder, rows, answers, lambda: asked.log_likelihoods(rows, answers, advance))

The folder is named by all that goes into the network's answers (`harness.keys.likelihoods`), a file in it by the token
ids. A list of prompts is batched the same whoever asks, so what is read is what would be computed, to the last bit.
"""

import time
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from harness.artifacts import atomic, digest
from harness.models.padding import Row


def kept(
    folder: Path | None, rows: Sequence[Row], answers: Sequence[Row], compute: Callable[[], torch.Tensor]
) -> tuple[torch.Tensor, float]:
    """Log-likelihoods of answers after prompts, shape (prompts, answers), float64: read, or computed and kept.

    Args:
        folder: for the files of one network; None to keep nothing.
        rows: token ids of the prompts, in the order in which they are asked.

    Returns:
        The log-likelihoods, and the seconds that another model spent on them; 0 if they were computed now.
    """
    if folder is None:
        return compute(), 0.0
    path = folder / f"{digest.of_json([list(map(list, rows)), list(map(list, answers))])}.npz"
    if (found := _read(path, (len(rows), len(answers)))) is not None:
        return found
    began = time.perf_counter()
    computed = compute()
    with suppress(OSError), atomic.whole(path, durable=False) as fresh, fresh.open("wb") as file:
        np.savez(file, likelihoods=computed.numpy(), seconds=time.perf_counter() - began)
    return computed, 0.0


def _read(path: Path, shape: tuple[int, int]) -> tuple[torch.Tensor, float] | None:
    """Read a file; None if there is none or it is damaged (the parts of an archive have checksums)."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            likelihoods, seconds = archive["likelihoods"], float(archive["seconds"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    is_whole = likelihoods.shape == shape and likelihoods.dtype == np.float64 and seconds > 0
    return (torch.from_numpy(likelihoods), seconds) if is_whole else None
