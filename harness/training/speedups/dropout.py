"""Dropout whose random numbers cost little beside torch's own, which on a processor are felt in a training's time.

    with dropout.fast():
        network(…)                  # wherever it calls torch.nn.functional.dropout

torch draws a number of its own for every element. Here one draw of 64 bits decides about four elements: an element is
dropped with the given chance rounded to a multiple of 1/65,536, and what is kept is scaled by the inverse of exactly
that. The draws are SFC64's (Doty-Humphrey's, of PractRand), made in half the time that torch's take; its seed is drawn
of torch's generator. Elements are dropped independently, and the same seed drops the same ones.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch.nn import functional

_BITS = 16
_LEVELS = 2**_BITS
_PER_DRAW = 64 // _BITS
_torchs = functional.dropout


@contextmanager
def fast() -> Iterator[None]:
    """In place of torch's within the block, for all of this process."""
    functional.dropout = dropout
    try:
        yield
    finally:
        functional.dropout = _torchs


def dropout(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    """As `torch.nn.functional.dropout`, which does what is not worth a way of its own."""
    dropped = round(p * _LEVELS)
    if not training or inplace or not 0 < dropped < _LEVELS or input.device.type != "cpu":
        return _torchs(input, p, training, inplace)
    return input * _mask(input, dropped)


def _mask(like: torch.Tensor, dropped: int) -> torch.Tensor:
    """Of the same shape and type: 0 for about so many elements of 65,536, the same scale above 1 for the others."""
    seed = int(torch.randint(torch.iinfo(torch.int64).max, ()))
    draws = np.random.SFC64(seed).random_raw(-(-like.numel() // _PER_DRAW)).view(np.int16)
    chances = torch.from_numpy(draws)[: like.numel()].view(like.shape)
    mask = torch.empty(like.shape, dtype=like.dtype)
    torch.ge(chances, dropped - _LEVELS // 2, out=mask)
    return mask.mul_(_LEVELS / (_LEVELS - dropped))
