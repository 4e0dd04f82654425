"""The files that hold a base's weights: one safetensors file, or several with the index that names them.

Only files that an index names are read, and only if they hold exactly the tensors that it maps to them. So a folder's
further files change nothing, and no tensor has two values.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.artifacts import digest
from harness.errors import DataError
from harness.models.configs import json_object

if TYPE_CHECKING:
    import torch

WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
MOST_INDEX_BYTES = 10_000_000
MOST_SHARDS = 1000
_SHARD = re.compile(r"[A-Za-z0-9][\w.-]*\.safetensors")


def names(folder: Path, who: str) -> tuple[str, ...]:
    """Names of the files that hold the weights in a folder: the one file, or else the index and its shards.

    Raises:
        DataError: the index is damaged, or names files outside of the folder.
    """
    if (folder / WEIGHTS).is_file() or not (folder / INDEX).is_file():
        return (WEIGHTS,)
    return (INDEX, *dict.fromkeys(_mapped(folder, who).values()))


def check(folder: Path, who: str) -> None:
    """Check that an index and its shards fit each other; a single file has no index.

    Raises:
        DataError: a shard is missing or damaged, or holds other tensors than the index maps to it.
    """
    if names(folder, who) == (WEIGHTS,):
        return
    mapped = _mapped(folder, who)
    for shard in dict.fromkeys(mapped.values()):
        if not (folder / shard).is_file():
            raise DataError(f"{who}: {folder / INDEX} names {shard}, which is not there; get the whole base again")
        wanted, found = {name for name, file in mapped.items() if file == shard}, set(_shapes(folder / shard, who))
        if lost := sorted(wanted - found):
            raise DataError(f"{who}: {folder / INDEX} maps {lost[0]} to {shard}, which lacks it; get the base again")
        if strange := sorted(found - wanted):
            other = mapped.get(strange[0])
            where = f"maps to {other}" if other else "does not name"
            raise DataError(f"{who}: {folder / shard} holds {strange[0]}, which {INDEX} {where}; get the base again")


def pin(folder: Path, who: str) -> str:
    """The digest by which a suite pins weights: of the one file, or over the index and its shards with their names.

    Raises:
        DataError: a file is missing, or the index is damaged.
    """
    files = names(folder, who)
    for name in files:
        if not (folder / name).is_file():
            raise DataError(f"{who}: there is no file {folder / name}; get the whole base again")
    return digest.of_weights(folder / WEIGHTS) if files == (WEIGHTS,) else digest.of_files(folder, list(files))


def changed_ns(folder: Path) -> int:
    """The last change of any of the files, in nanoseconds since 1970."""
    return max((folder / name).stat().st_mtime_ns for name in names(folder, str(folder)))


def shapes(folder: Path, who: str) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors by name, from the files' headers.

    Raises:
        DataError: a file is damaged.
    """
    return {name: shape for file in _holding(folder, who) for name, shape in _shapes(file, who).items()}


def formats(folder: Path, who: str) -> set[str]:
    """Number formats of all tensors, as the files' headers name them: `F32`, `BF16`, …

    Raises:
        DataError: a file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    found = set()
    for path in _holding(folder, who):
        try:
            with safe_open(path, framework="numpy") as file:
                found |= {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 (no mapping)
        except (SafetensorError, OSError, ValueError) as problem:
            raise DataError(f"{who}: {path} is damaged: {problem}") from None
    return found


def count(folder: Path) -> int:
    """Number of numbers in all tensors, from the files' headers."""
    return sum(prod(shape) for shape in shapes(folder, str(folder)).values())


def tensors(folder: Path) -> "Iterator[tuple[str, torch.Tensor]]":
    """All tensors with their names, one at a time, so that no more than one is in memory for it."""
    from safetensors import safe_open

    for file in _holding(folder, str(folder)):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 (no mapping)
                yield name, opened.get_tensor(name)


def _holding(folder: Path, who: str) -> Sequence[Path]:
    return [folder / name for name in names(folder, who) if name != INDEX]


def _shapes(path: Path, who: str) -> dict[str, tuple[int, ...]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError, ValueError) as problem:
        raise DataError(f"{who}: {path} is damaged: {problem}") from None


def _mapped(folder: Path, who: str) -> Mapping[str, str]:
    """File by tensor, as the index states it."""
    path = folder / INDEX
    json_object(path, MOST_INDEX_BYTES, lambda message: DataError(f"{who}: {message}"))  # bounds
    try:
        found: Any = json.loads(path.read_bytes(), object_pairs_hook=_without_repeats)["weight_map"]
    except KeyError:
        raise DataError(f"{who}: {path} has no weight_map; get the base again") from None
    except ValueError as problem:
        raise DataError(f"{who}: {path} names {problem} twice; get the base again") from None
    if not isinstance(found, dict) or not found:
        raise DataError(f"{who}: {path}: weight_map is no table of tensors; get the base again")
    for tensor, file in found.items():
        if not isinstance(file, str) or not _SHARD.fullmatch(file) or file == WEIGHTS:
            raise DataError(
                f"{who}: {path} maps {tensor!r:.80} to {file!r:.80}, which is no name of a shard beside it; shards are "
                "safetensors files in the same folder"
            )
    if len(set(found.values())) > MOST_SHARDS:
        raise DataError(f"{who}: {path} names more than {MOST_SHARDS:,} shards")
    return found


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise ValueError(repr(key)[:80])
        made[key] = value
    return made
