"""Foundation models as language models: loaded with their own output layer, every weight from the file."""

from pathlib import Path
from typing import Any

from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
)

from harness.errors import RunError
from harness.models import own_format, transformer

_REMEDY = "declare a base that is one, or score this one with a probe or an adapter"


def causal(folder: Path, *, attention: str = "sdpa", keeps: bool = True) -> Any:
    """The base as a causal language model, computing in float32, in evaluation mode, every weight from its file.

    Args:
        attention: the kernel, if the architecture has it; else the one that every architecture has.
        keeps: as for `own_format.load`.

    Raises:
        RunError: the architecture has no such model, is an encoder, or the checkpoint lacks the output layer.
    """
    config: Any = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise RunError(f"{folder}: the architecture {config.model_type!r} is no causal language model; {_REMEDY}")
    if hasattr(config, "is_decoder") and _is_encoder(config):
        raise RunError(
            f"{folder}: {config.model_type!r} is an encoder, which sees the whole text and cannot continue it; "
            f"{_REMEDY}"
        )
    return _loaded(AutoModelForCausalLM, folder, config, kernel(folder, attention), keeps=keeps)


def masked(folder: Path) -> Any:
    """The base as a masked language model, computing in float32, in evaluation mode, every weight from its file.

    Raises:
        RunError: the architecture has no such model, or the checkpoint lacks its head.
    """
    config: Any = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if type(config) not in MODEL_FOR_MASKED_LM_MAPPING:
        raise RunError(f"{folder}: the architecture {config.model_type!r} is no masked language model; {_REMEDY}")
    kind: Any = MODEL_FOR_MASKED_LM_MAPPING[type(config)]
    return _loaded(AutoModelForMaskedLM, folder, config, "sdpa" if kind._supports_sdpa else "eager")


def kernel(folder: Path, preferred: str = "sdpa") -> str:
    """The attention kernel of a causal language model: the preferred one, or eager if it has no other."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    kind: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    return preferred if kind._supports_sdpa else "eager"


def _loaded(auto: Any, folder: Path, config: Any, attention: str, *, keeps: bool = True) -> Any:
    model, report = own_format.load(auto, folder, keeps=keeps, attn_implementation=attention)
    is_tied = config.get_text_config().tie_word_embeddings
    tied = set(getattr(model, "all_tied_weights_keys", None) or {}) if is_tied else set()
    lost = sorted(set(report["missing_keys"]) - tied)
    if lost:
        raise RunError(
            f"{folder}: the checkpoint lacks weights of the language model ({', '.join(lost[:3])}), which would answer "
            f"at random; {_REMEDY}"
        )
    model.config.get_text_config().use_cache = False  # keys and values of every layer, unless a caller asks for them
    return model.eval()


def _is_encoder(config: Any) -> bool:
    """Report whether an architecture that could be a decoder is configured as an encoder."""
    architectures = config.architectures or ()
    names = [name for name in architectures if not name.endswith(("ForCausalLM", "LMHeadModel"))]
    return type(config) in MODEL_FOR_MASKED_LM_MAPPING and not config.is_decoder and len(names) == len(architectures)


def window(model: Any) -> int | None:
    """Most tokens of a text that a network reads, without an adapter's virtual ones; None if it states no limit."""
    learned = transformer.positions(model)
    stated = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    known = [one for one in (learned, stated) if one is not None]
    virtual = getattr(getattr(model, "active_peft_config", None), "num_virtual_tokens", None) or 0
    return min(known) - virtual if known else None
