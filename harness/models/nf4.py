"""Bases in 4 bits: linear layers in nf4 (Dettmers et al. 2023, "QLoRA"), as bitsandbytes computes it.

    [[base]]
    …
    quantisation = "nf4"

A base that is declared so has a note in its folder, so everything that loads the folder loads it in 4 bits. Weights
are quantised one after the other while they are loaded, in blocks of 64 that share a scale in float32, and are
dequantised whenever a layer multiplies. bitsandbytes has a kernel of its own for a single row, whose sums differ from
those of a batch by more than the proof of batching allows. It is never used here: all rows are multiplied by the same
dequantised weights.
"""

import json
from importlib import metadata, util
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.artifacts import digest
from harness.errors import UsageError

if TYPE_CHECKING:
    import torch

NOTE = "quantisation.json"
"""Name of the file in a base's folder that says that its linear layers are quantised."""
CONTENT = json.dumps({"quantisation": "nf4"}).encode()
BLOCK = 64
"""Weights that share a scale."""
_PACKAGE = "bitsandbytes"


def is_asked(folder: Path) -> bool:
    """Report whether the base in a folder is loaded in nf4."""
    return (folder / NOTE).is_file()


def check_installed(who: str) -> None:
    """Check that the package that quantises is installed.

    Raises:
        UsageError: it is not.
    """
    if util.find_spec(_PACKAGE) is None:
        raise UsageError(
            f"{who}: quantisation = 'nf4' needs the package {_PACKAGE}, which is not installed: "
            "`python -m pip install 'adapter-harness[nf4]'`"
        )


def identity(of_base: str) -> str:
    """Digest of a quantised base: its files, and the release that quantises them."""
    return digest.of_json({"base": of_base, "quantisation": "nf4", _PACKAGE: metadata.version(_PACKAGE)})


def origin(before: str | None) -> str:
    """Describe a quantised base, for display.

    Args:
        before: form that its weights had before they were dequantised; None for plain weights.
    """
    quantised = f"linear layers in 4 bits (nf4, {_PACKAGE} {metadata.version(_PACKAGE)})"
    return quantised if before is None else f"{before}; {quantised}"


def check_device(kind: str) -> None:
    """Check that the installed bitsandbytes computes on a kind of device.

    Raises:
        UsageError: it does not.
    """
    import bitsandbytes

    known = sorted(bitsandbytes.supported_torch_devices)
    if kind not in known:
        raise UsageError(
            f"--device {kind}: {_PACKAGE} {bitsandbytes.__version__} does not compute there ({', '.join(known)}); "
            "choose one of these, or remove quantisation = 'nf4' from the bases"
        )


def n_bytes(n_weights: int) -> int:
    """Bytes of a layer's weights: half a byte each, and a scale in float32 for each block."""
    return ceil(n_weights / 2) + 4 * ceil(n_weights / BLOCK)


def quantised(weight: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
    """Pack a layer's weights: two to a byte, uint8 of shape (bytes, 1), and scales of shape (blocks,) in float32."""
    functional = _functional()
    packed, state = functional.quantize_4bit(weight.contiguous(), blocksize=BLOCK, quant_type="nf4")
    return packed, state.absmax


def dequantised(
    packed: "torch.Tensor", scales: "torch.Tensor", shape: tuple[int, int], dtype: "torch.dtype"
) -> "torch.Tensor":
    """A layer's weights as numbers, of any floating dtype."""
    import torch

    functional = _functional()
    state = functional.QuantState(
        absmax=scales, shape=torch.Size(shape), dtype=dtype, blocksize=BLOCK, quant_type="nf4"
    )
    found: torch.Tensor = functional.dequantize_4bit(packed, state)
    return found


def _functional() -> Any:
    from bitsandbytes import functional

    return functional
