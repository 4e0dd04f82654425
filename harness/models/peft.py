"""A base with a PEFT adapter on it, scored only after proof that the adapter is loaded."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file

from harness.declarations import PeftModel as PeftDeclaration
from harness.errors import AdapterError
from harness.models.protocol import Classifier, Ingredients
from harness.models.transformer import PROBE_TEXTS, Encoded, SequenceClassifier, check_reloaded, untrained

WEIGHTS = "adapter_model.safetensors"


@contextmanager
def without_known_warnings() -> Iterator[None]:
    """Two warnings of PEFT's are left out, on which a user could not act.

    One is about a property of transformers that was renamed. The other, about tensors missing from an adapter's file,
    is an error here: `prove_loaded` raises it.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        warnings.filterwarnings("ignore", "Found missing adapter keys", UserWarning)
        yield


def peft(model: PeftDeclaration, ingredients: Ingredients) -> Classifier:
    """Load base and adapter, prove the loading, and make a classifier of them."""
    assert ingredients.base_dir is not None
    assert ingredients.adapter_dir is not None
    network = with_adapter(ingredients.base_dir, ingredients.adapter_dir)
    prove_loaded(network, ingredients.adapter_dir, ingredients.base_dir)
    check_reloaded(network, ingredients.adapter_dir, ingredients.base_dir)
    return SequenceClassifier(network, ingredients.base_dir, ingredients.max_length, model.precision)


def with_adapter(base_dir: Path, adapter_dir: Path) -> Any:
    """The base with the adapter of a folder on it, in float32. Only safetensors are read.

    Raises:
        AdapterError: the folder's weights are missing or cannot be read.
    """
    if not (adapter_dir / WEIGHTS).is_file():
        raise AdapterError(f"{adapter_dir}: has no {WEIGHTS}; other weight formats are not read")
    # The fresh head is overwritten by the adapter's own; its seed cannot show in a score, and the proof sees to that.
    base = untrained(base_dir, seed=0)
    try:
        with without_known_warnings():
            return PeftModel.from_pretrained(base, str(adapter_dir), low_cpu_mem_usage=False).eval()
    except KeyError as problem:
        raise AdapterError(f"{adapter_dir}: {WEIGHTS} lacks {problem}") from None
    except (SafetensorError, RuntimeError, ValueError, TypeError) as problem:
        raise AdapterError(f"{adapter_dir}: cannot be put on its base ({problem})") from problem


def prove_loaded(network: Any, adapter_dir: Path, base_dir: Path) -> None:
    """Hold the live model against the adapter's file.

    Raises:
        AdapterError: a tensor of the file is not live or differs, a live one is not in the file, or switching the
            adapter off changes nothing in the encoder.
    """
    on_disk, live = load_file(adapter_dir / WEIGHTS), get_peft_model_state_dict(network, save_embedding_layers=False)
    strange = sorted(set(on_disk) ^ set(live))
    if strange:
        raise AdapterError(f"{adapter_dir}: tensors only in the file or only in the model: {', '.join(strange[:5])}")
    changed = [name for name in on_disk if not torch.equal(on_disk[name], live[name].to(on_disk[name].dtype))]
    if changed:
        raise AdapterError(f"{adapter_dir}: live values are not the file's: {', '.join(changed[:5])}")
    batch = Encoded(base_dir, PROBE_TEXTS, max_length=64).batch(range(len(PROBE_TEXTS)))
    # The encoder's states, not the answers: a head that was trained beside an adapter that does nothing changes those.
    with torch.inference_mode():
        switched_on = network(**batch, output_hidden_states=True).hidden_states[-1]
        with network.disable_adapter():
            switched_off = network(**batch, output_hidden_states=True).hidden_states[-1]
    if torch.equal(switched_on, switched_off):
        raise AdapterError(f"{adapter_dir}: the encoder does the same with the adapter switched off")
