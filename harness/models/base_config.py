"""Bounds on a base's configuration: it names no other files and no code, and asks for no more than its weights hold.

transformers follows several keys of `config.json` and `tokenizer_config.json` to other files, packages and hubs. Keys
that would change the network or the tokenizer are refused by name, so that nobody believes they were followed.
"""

import json
import math
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.errors import DataError
from harness.models import weight_files
from harness.models.configs import json_object
from harness.models.weight_files import WEIGHTS

transformers_alone = threading.Lock()
"""Held by a thread that imports transformers or builds a network with it. Two at once would find half of the package,
and leave each other's default number format to the whole process."""
CONFIG, TOKENIZER_CONFIG = "config.json", "tokenizer_config.json"
LARGEST_BYTES = 10_000_000
"""A tokenizer's configuration may list thousands of tokens."""

_FILES = ("transformers_weights", "configuration_files", "fast_tokenizer_files", "gguf_file")
_CODE = ("auto_map", "custom_pipelines", "fusion_config", "kernel_config", "quantization_config", "use_kernels")
_ATTENTION = re.compile(r"(_?attn|_?experts)_implementation(_internal)?")
_TOKENIZER_INPUTS = ("init_inputs", "merges", "tokenizer_object", "vocab")
"""Arguments of tokenizers that accept the name of a file in place of its contents."""
_COUNTS = re.compile(r"(num|n)_.*|.*(layers?|blocks?|depths?|groups|experts)(_.*)?|.*_sizes|pruned_heads")
_NO_COUNTS = re.compile(
    r"n_(embd|embed|inner|positions|ctx|vocab|words)|num_(.*_)?(buckets|embeddings|positions|words)"
)
_MOST_OF_ANYTHING, _MOST_BUFFERS, _SLACK = 10_000_000, 250_000_000, 1_000_000
_MOST_COUNTED = 1000


def check(folder: Path, who: str) -> None:
    """Check the configurations in a base's folder: allowed keys, and numbers within its weights where it has weights.

    Raises:
        DataError: a configuration is missing or damaged, names other files or code, or asks for more than the weights
            hold.
    """
    config = _read(folder / CONFIG, who)
    _check_keys(config, f"{who}: {folder / CONFIG}")
    path = folder / TOKENIZER_CONFIG
    if path.is_file():
        of_tokenizer = _read(path, who)
        _check_keys(of_tokenizer, f"{who}: {path}")
        for key, value in of_tokenizer.items():
            if (key in _TOKENIZER_INPUTS and value) or (key.endswith("_kwargs") and _has_text(value)):
                raise DataError(f"{who}: {path}: {key} could name other files; they are never read: remove it")
    if (folder / weight_files.names(folder, who)[0]).is_file():
        _check_numbers(config, folder, who)


def _read(path: Path, who: str) -> dict[str, Any]:
    return json_object(path, LARGEST_BYTES, lambda message: DataError(f"{who}: {message}"))


def _check_keys(config: Mapping[str, Any], where: str) -> None:
    for key, value in _walked(config):
        if isinstance(value, float) and not math.isfinite(value):
            raise DataError(f"{where}: {key} is not a finite number")
        if key in _FILES and value is not None:
            raise DataError(f"{where}: {key} names other files, which no digest covers; remove it")
        if key in _CODE and value:
            raise DataError(f"{where}: {key} asks for code that is not run here, or for other weights; remove it")
        if _ATTENTION.fullmatch(key) and value not in (None, "eager", "sdpa", "grouped_mm", "batched_mm"):
            raise DataError(f"{where}: {key} = {str(value)[:80]!r} asks for code from elsewhere; remove it")


def _check_numbers(config: Mapping[str, Any], folder: Path, who: str) -> None:
    """Refuse numbers that ask for more than the weights could hold: transformers would allocate it before comparing."""
    shapes = weight_files.shapes(folder, who)
    most = max(_MOST_OF_ANYTHING, sum(map(math.prod, shapes.values())))
    for key, value in _walked(config):
        if isinstance(value, bool) or not isinstance(value, int) or key in ("id2label", "label2id"):
            continue
        is_count = _COUNTS.fullmatch(key) and not _NO_COUNTS.fullmatch(key)
        limit = max(_MOST_COUNTED, len(shapes)) if is_count else most
        if abs(value) > limit and not key.endswith(("_id", "_ids", "seed")):
            raise DataError(
                f"{who}: {folder / CONFIG}: {key} = {f'{value:,}'[:40]} is more than {WEIGHTS} can hold with its "
                f"{len(shapes):,} tensors"
            )


def _walked(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a configuration, at any depth, with its key; the items of a list under the list's key."""
    yield key, value
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _walked(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _walked(item, key)


def _has_text(value: Any) -> bool:
    return any(isinstance(item, str) for _, item in _walked(value))


def check_size(folder: Path, who: str) -> None:
    """Compare the network that a configuration describes with its weights, before memory is allocated for it.

    Raises:
        DataError: transformers cannot build the network, or it is larger than its weights.
    """
    try:
        with transformers_alone:
            network = _described(folder)
    except Exception as problem:  # noqa: BLE001 (the configuration may make transformers raise anything)
        reason = " ".join(str(problem).split()) or type(problem).__name__
        raise DataError(f"{who}: no network can be built from its {CONFIG} ({reason[:500]})") from None
    held = sum(map(math.prod, weight_files.shapes(folder, who).values()))
    asked = sum(parameter.numel() for parameter in network.parameters())
    beside = sum(buffer.numel() for buffer in network.buffers())
    if asked > 2 * held + _SLACK or beside > max(held, _MOST_BUFFERS):
        raise DataError(
            f"{who}: its {CONFIG} describes a network of {asked + beside:,} numbers, but its {WEIGHTS} holds {held:,}"
        )


def _described(folder: Path) -> Any:
    """The network that a configuration describes, without memory for its numbers."""
    import torch
    from transformers import AutoConfig, AutoModel

    described: Any = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    auto: Any = AutoModel  # untyped there
    with torch.device("meta"):
        return auto.from_config(described, trust_remote_code=False)


def without_file_names(path: Path, who: str) -> bytes | None:
    """A tokenizer's configuration without names of files on its author's machine; None if it contains none.

    transformers finds a tokenizer's files by their fixed names, but some classes would open the files named here.
    """
    config = _read(path, who)
    kept = {key: value for key, value in config.items() if not key.endswith("_file")}
    return None if kept == config else json.dumps(kept).encode()
