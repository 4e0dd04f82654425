"""Saving a trained network, with proof that it reloads unchanged."""

import json
import resource
import sys
from pathlib import Path
from typing import Any

from harness import provenance
from harness.errors import AdapterError, RunError, TrainingError
from harness.models import device
from harness.models.peft import without_known_warnings
from harness.training import card
from harness.training.objective import Classifying, Objective
from harness.training.plan import TrainingJob

RELOAD_TOLERANCE = 1e-5
"""Largest difference of a probability between the network in memory and the reloaded one, both in float32. Most methods
reload bit-identically; prompts that a network generates are saved as generated, one at a time instead of in batches."""


def save(network: Any, folder: Path) -> None:
    """Save weights in safetensors, and the configuration: the same bytes for the same network."""
    # By default, save_embedding_layers looks the base up on a hub; no method here changes the vocabulary.
    extra = {"save_embedding_layers": False} if hasattr(network, "peft_config") else {}
    with without_known_warnings():
        network.save_pretrained(folder, safe_serialization=True, **extra)
    (folder / "README.md").unlink(missing_ok=True)  # a mostly blank template; the harness card replaces it
    if not extra:
        _state_labels(network.config, folder / "config.json")
    config = folder / "adapter_config.json"
    if config.is_file():
        # PEFT writes sets in hash order, which differs between processes; the digest must not.
        values = json.loads(config.read_text(encoding="utf-8"))
        for key in ("target_modules", "feedforward_modules", "modules_to_save", "exclude_modules"):
            if isinstance(values.get(key), list):
                values[key] = sorted(values[key])
        config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _state_labels(config: Any, path: Path) -> None:
    """Write the labels into a configuration that leaves them out as the usual two, though its own default is another
    number: a BART's is three."""
    values = json.loads(path.read_text(encoding="utf-8"))
    if "id2label" not in values and type(config)().num_labels != config.num_labels:
        values |= {"id2label": {str(number): name for number, name in config.id2label.items()}}
        values |= {"label2id": dict(config.label2id)}
        path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def check_reloads(folder: Path, job: TrainingJob, before: list[float], objective: Objective | None = None) -> None:
    """Load saved weights in the same way as scoring, and compare their answers with the trained network's.

    Args:
        before: probabilities of the network in memory for the probe texts.
        objective: that of the training; may be omitted for a classifier.

    Raises:
        TrainingError: the weights do not load, or answer differently.
    """
    objective = objective or Classifying(job)
    try:
        network = objective.reloaded(folder)
    except (AdapterError, RunError) as problem:
        raise TrainingError(f"adapter {job.adapter.id}: the saved weights do not load: {problem}") from None
    after = objective.probe(network)
    largest = max(abs(one - other) for one, other in zip(before, after, strict=True))
    if not largest <= RELOAD_TOLERANCE:
        raise TrainingError(
            f"adapter {job.adapter.id}: the saved weights do not answer as the trained ones: probabilities differ by "
            f"{largest:.2g}; {job.adapter.method} with these params cannot be saved and loaded"
        )


def card_of(job: TrainingJob, folder: Path) -> dict[str, Any]:
    """A card's entries about a job and the files in its folder."""
    commit, dirty = provenance.git(Path.cwd())
    return {
        "adapter_id": job.adapter.id,
        "adapter_digest": card.adapter_digest(folder),
        "train_key": job.key,
        "method": job.adapter.method,
        "params": job.adapter.params,
        "train": job.adapter.train.model_dump(mode="json", exclude={"seeds", "null_seeds"}),
        "precision": job.precision,
        "seed": job.seed,
        "base": {"id": job.base.base_id, "digest": job.base.digest},
        "trained_on": {"split": job.split.split_id, "digest": job.split.digest, "n": len(job.texts)},
        "text": {"template": job.template, "max_length": job.max_length},
        **({"prompts": [prompt.model_dump(mode="json") for prompt in job.prompts]} if job.prompts else {}),
        "packages": provenance.packages(),
        "hardware": {**provenance.hardware(), **device.described(job.device)},
        "git": {"commit": commit, "dirty": dirty},
        "trained_at": provenance.now().isoformat(timespec="seconds"),
        "size_bytes": card.size_bytes(folder),
    }


def peak_bytes() -> int:
    """Largest resident set of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
