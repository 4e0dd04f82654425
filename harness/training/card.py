"""The training card: a record of an adapter's identity, origin and cost, kept beside its weights."""

import json
from pathlib import Path
from typing import Any

from harness.artifacts import atomic, digest
from harness.errors import AdapterError
from harness.models.classifier import CARD
from harness.models.configs import json_object
from harness.records import AdapterRecord
from harness.training.plan import TrainingJob

TRAINED_ON = "trained-on.txt"
LARGEST_BYTES = 1_000_000
"""Limit on a card, which usually has a few kilobytes."""
_REMEDY = "delete the folder to train anew"
_WEIGHTS = ["adapter_model.safetensors", "adapter_config.json", "model.safetensors", "config.json"]


def adapter_digest(folder: Path) -> str:
    """SHA-256 over an adapter's weights and configuration; the card, which holds timings, does not count."""
    return digest.of_files(folder, _WEIGHTS)


def size_bytes(folder: Path) -> int:
    """Bytes on disk of weights and configuration."""
    return sum((folder / name).stat().st_size for name in _WEIGHTS if (folder / name).is_file())


def write(folder: Path, card: dict[str, Any], text_digests: list[str]) -> None:
    """Write a card and the digests of the training texts into an adapter's folder; the card pins their list."""
    (folder / TRAINED_ON).write_text("".join(f"{line}\n" for line in sorted(text_digests)), encoding="utf-8")
    card["trained_on"] |= {"sha256": digest.of_file(folder / TRAINED_ON)}
    # Last and atomically: a folder with a card is complete.
    with atomic.whole(folder / CARD) as fresh:
        fresh.write_text(json.dumps(card, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read(folder: Path) -> AdapterRecord:
    """The record of a trained adapter, after checking that the weights are still the ones that the card describes.

    Raises:
        AdapterError: the card is missing or damaged, or the weights have changed since.
    """
    try:
        card = json_object(folder / CARD, LARGEST_BYTES, ValueError)
        record = AdapterRecord(
            adapter_digest=card["adapter_digest"],
            adapter_id=card["adapter_id"],
            method=card["method"],
            params=card["params"],
            base_digest=card["base"]["digest"],
            trained_on=card["trained_on"]["digest"],
            n_trainable=card["n_trainable"],
            seed=card["seed"],
            train_seconds=card["train_seconds"],
            peak_bytes=card["peak_bytes"],
            size_bytes=card["size_bytes"],
            card=card,
        )
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise AdapterError(f"{folder}: has no readable {CARD} ({problem}); {_REMEDY}") from None
    if adapter_digest(folder) != record.adapter_digest:
        raise AdapterError(f"{folder}: the weights are not the ones its card describes; {_REMEDY}")
    return record


def check_is(job: TrainingJob, record: AdapterRecord) -> None:
    """Check that these weights are what the suite would train: weights that were swapped carry their own card.

    Raises:
        AdapterError: they belong to another adapter, seed or recipe.
    """
    if record.card.get("train_key") != job.key:
        raise AdapterError(
            f"{job.folder}: holds weights that were not trained as the suite declares: adapter "
            f"{record.adapter_id!r} seed {record.seed}, key {str(record.card.get('train_key'))[:16]}; {_REMEDY}"
        )


def trained_on(folder: Path, record: AdapterRecord) -> frozenset[str] | None:
    """Digests of the texts that an adapter was trained on, according to its own folder; None if its card, from an
    earlier release, does not pin their list.

    Raises:
        AdapterError: the list is missing, or is not the one that the card pins.
    """
    try:
        count, pinned = record.card["trained_on"]["n"], record.card["trained_on"].get("sha256")
        digests = (folder / TRAINED_ON).read_text(encoding="utf-8").split()
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as problem:
        raise AdapterError(f"{folder}: has no record of its training texts ({problem}); {_REMEDY}") from None
    if len(digests) != count:
        raise AdapterError(f"{folder}: {TRAINED_ON} lists {len(digests)} texts, but its card has {count}; {_REMEDY}")
    if pinned is None:
        return None
    if digest.of_file(folder / TRAINED_ON) != pinned:
        raise AdapterError(f"{folder}: {TRAINED_ON} is not the list of texts that its card pins; {_REMEDY}")
    return frozenset(digests)
