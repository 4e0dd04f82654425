"""OpenVINO as a runtime: a torch network converted once, kept, and compiled for one thread of this processor.

    network = compiled("bf16", load, ingredients)
    network(input_ids=…, attention_mask=…).logits    # torch tensors in and out, shape (batch, 2)

int8 is post-training quantisation of weights and activations by NNCF, calibrated on rows of the training split. A text
that it leaves nearly undecided is scored again by the network before quantisation: a cascade, after Viola & Jones 2001.
"""

import contextlib
import io
import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import peft
import torch
import transformers
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask

from harness import provenance
from harness.artifacts import atomic, digest
from harness.errors import RunError
from harness.models import padding
from harness.models.classifier import ModelInputs
from harness.models.encoding import Encoded, encode, of_all_lengths, trial
from harness.models.speedups import first_token

# Both packages report their use to their makers through this one, and work without it.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None makes its import an ImportError

import openvino  # noqa: E402 (not before the line above)

CALIBRATION_ROWS = 300
"""Rows for calibration, as NNCF recommends; fewer if the training split has fewer."""
NEAR = 0.5
"""int8 counts as nearly undecided where its log-odds are this close to 0; quantisation moves few by more."""
SAME = 1e-3
"""Largest relative difference between logits of a network and its conversion to float32; the rest is rounding."""
SUMS = "sha256.txt"
MODEL, UNQUANTISED, BATCHING = "model.xml", "unquantised.xml", "batching.json"
_LIBRARIES = tuple(str(Path(str(library.__file__)).parent) for library in (torch, transformers, peft))
_REMEDY = "use runtime = 'torch', which gives the same answers"


class Answer(NamedTuple):
    """Output in the form of transformers' models."""

    logits: torch.Tensor
    """Shape (batch, 2), float32."""


class Compiled:
    """A converted network on this processor, with one thread, so that it does not depend on the number of cores.

    Args:
        model: a converted model, or its file.
        batching: batching of the network that was converted.
        again: network to ask about texts whose log-odds are closer to 0 than `near`.
    """

    near = NEAR

    def __init__(self, model: Any, precision: str, batching: padding.Batching, again: "Compiled | None" = None) -> None:
        core = openvino.Core()
        path = model if isinstance(model, Path) else "the network"
        in_bf16 = precision != "fp32" and provenance.has_fast_bf16()
        config = {
            "INFERENCE_NUM_THREADS": 1,
            "NUM_STREAMS": 1,
            # Every worker process would be pinned to the same core.
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": "bf16" if in_bf16 else "f32",
        }
        try:
            read = core.read_model(model) if isinstance(model, Path) else model
            self.request = core.compile_model(read, "CPU", config).create_infer_request()
        except RuntimeError as problem:
            raise RunError(
                f"{path}: OpenVINO {openvino.get_version()} cannot compile the converted model for this processor "
                f"({_first_line(problem)}); {_REMEDY}"
            ) from problem
        self.batching, self.again = batching, again

    def __call__(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Answer:
        found = self.request.infer([input_ids.numpy(), attention_mask.numpy()], share_inputs=True)
        return Answer(torch.from_numpy(np.array(found[0], dtype=np.float32)))


def compiled(precision: str, network: Callable[[], Any], ingredients: ModelInputs) -> Compiled:
    """A network in OpenVINO, converted unless an earlier conversion is kept.

    Args:
        precision: fp32, bf16 or int8. int8 multiplies the rest in bf16 where the processor has it.
        network: loads the network to convert.
        ingredients: the conversion is kept in `converted_dir`; `train_texts` calibrate int8.

    Raises:
        RunError: OpenVINO cannot convert it, or bf16 is requested and this processor has none.
    """
    folder = ingredients.converted
    if precision == "bf16" and not provenance.has_fast_bf16():  # it would silently compute fp32
        raise RunError(
            "OpenVINO computes bf16 only where the processor multiplies it in hardware, and would compute fp32 here; "
            "use precision = 'fp32' or 'auto', or runtime = 'torch'"
        )
    if not _is_whole(folder):
        whole = network()
        batching = padding.settled(whole)
        model = _converted(whole, ingredients.base)
        _check_same(whole, Compiled(model, "fp32", batching), of_all_lengths(ingredients.base, ingredients.max_length))
        _keep(model, batching, precision, ingredients, folder)
    batching = padding.Batching(**json.loads((folder / BATCHING).read_text(encoding="utf-8")))
    again = Compiled(folder / UNQUANTISED, precision, batching) if precision == "int8" else None
    return Compiled(folder / MODEL, precision, batching, again)


def _is_whole(folder: Path) -> bool:
    """Check that a converted model is complete and unchanged since it was written."""
    sums = folder / SUMS
    return sums.is_file() and sums.read_text(encoding="utf-8") == _sums(folder)


def _sums(folder: Path) -> str:
    both = [folder / MODEL, folder / UNQUANTISED]
    return digest.of_files(
        folder, [BATCHING, *(path.with_suffix(suffix).name for path in both for suffix in (".xml", ".bin"))]
    )


def _keep(model: Any, batching: padding.Batching, precision: str, ingredients: ModelInputs, folder: Path) -> None:
    """Put a model in its folder, whole or not at all; an int8 model beside the one that it was made from."""
    with atomic.whole_folder(folder, _is_whole) as fresh:
        if precision == "int8":
            openvino.save_model(model, fresh / UNQUANTISED, compress_to_fp16=False)
            model = _quantised(model, ingredients)
        openvino.save_model(model, fresh / MODEL, compress_to_fp16=False)
        (fresh / BATCHING).write_text(json.dumps(asdict(batching)), encoding="utf-8")
        (fresh / SUMS).write_text(_sums(fresh), encoding="utf-8")


class Logits(torch.nn.Module):
    """A network with two inputs and one output, as the conversion requires."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits


def _converted(network: Any, base_dir: Path) -> Any:
    """The network as an OpenVINO model of float32."""
    example = {"input_ids": torch.ones(2, 8, dtype=torch.int64), "attention_mask": torch.ones(2, 8, dtype=torch.int64)}
    # Decoders keep states for a next token, which are of no use here and cannot be converted.
    for config in {id(part.config): part.config for part in network.modules() if hasattr(part, "config")}.values():
        if hasattr(config, "use_cache"):
            config.use_cache = False
    try:
        with (
            torch.no_grad(),
            warnings.catch_warnings(record=True) as warned,
            first_token.only(network, trial(base_dir, network)),
            _nothing_is_shut_out(),
        ):
            warnings.simplefilter("always")
            converted = openvino.convert_model(Logits(network), example_input=example)
        _check_for_choices(warned)
        return converted
    except Exception as problem:
        raise RunError(
            f"{_kind(network)} cannot be converted to OpenVINO ({_first_line(problem)}); {_REMEDY}"
        ) from problem


def _check_for_choices(warned: Sequence[warnings.WarningMessage]) -> None:
    """Refuse a network that chooses its way by what it reads: a trace has only the way that the example took.

    torch, transformers and PEFT choose by shapes nearly always; `_check_same` finds where that leads elsewhere.
    """
    for one in warned:
        is_of_the_trace = one.category is torch.jit.TracerWarning  # type: ignore[attr-defined]  # public, but not listed
        if is_of_the_trace and not one.filename.startswith(_LIBRARIES):
            raise ValueError(f"{one.filename}, line {one.lineno}, chooses by the texts that it reads")


def _check_same(network: Any, converted: Compiled, texts: Encoded) -> None:
    """Check that a conversion answers as its network does on texts of all lengths, alone and in a batch.

    Raises:
        RunError: it does not, as where a network takes another way for longer texts than the traced ones.
    """
    texts = texts.for_network(network)
    batches = [[i] for i, length in enumerate(texts.lengths) if length]
    if texts.batching.side is not None:
        batches.append(list(range(len(texts.ids))))
    for batch in map(texts.batch, batches):
        with torch.inference_mode():
            expected = network(**batch).logits.float()
        found = converted(**batch).logits
        if not torch.allclose(found, expected, rtol=SAME, atol=SAME):
            n, longest = batch["input_ids"].shape
            raise RunError(
                f"{_kind(network)} cannot be converted to OpenVINO (it would answer otherwise on "
                f"{'a text' if n == 1 else f'{n} texts'} of {'' if n == 1 else 'up to '}{longest} tokens); {_REMEDY}"
            )


@contextlib.contextmanager
def _nothing_is_shut_out() -> Iterator[None]:
    """Within the block, let tokens that may attend to none attend to all, in transformers' mask for `sdpa`.

    They are padding whose window holds nothing but padding. For them torch's attention gives zeros, and OpenVINO's NaN,
    which later layers would spread to the whole text. Nothing reads what they attend to.
    """

    def mask(*arguments: Any, **more: Any) -> torch.Tensor | None:
        allowed = sdpa_mask(*arguments, **more)
        return None if allowed is None else allowed | ~allowed.any(-1, keepdim=True)

    ALL_MASK_ATTENTION_FUNCTIONS["sdpa"] = mask
    try:
        yield
    finally:
        ALL_MASK_ATTENTION_FUNCTIONS.pop("sdpa")  # transformers' own again


def _kind(network: Any) -> str:
    """A network's description for messages: its class, and the method of an adapter that could not be merged."""
    if not hasattr(network, "peft_config"):
        return type(network).__name__
    method = network.active_peft_config.peft_type.value.lower()
    return f"{type(network.get_base_model()).__name__} with a {method} adapter beside it"


def _first_line(problem: Exception) -> str:
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0][:300]


def _quantised(model: Any, ingredients: ModelInputs) -> Any:
    """Quantise weights and activations to int8, calibrated on training rows drawn with a fixed seed."""
    import nncf

    encoded = encode(ingredients.base, ingredients.train_texts, ingredients.max_length)

    def batch(index: int) -> Sequence[Any]:
        return [tensor.numpy() for tensor in encoded.batch([index]).values()]

    rows = np.random.default_rng(0).permutation(len(encoded.ids))[:CALIBRATION_ROWS].tolist()
    nncf.set_log_level(logging.ERROR)
    kind = nncf.ModelType.TRANSFORMER
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints progress bars to stdout
            return nncf.quantize(model, nncf.Dataset(rows, batch), model_type=kind, subset_size=len(rows))
    except Exception as problem:
        raise RunError(
            f"NNCF cannot quantise the converted model to int8 ({_first_line(problem)}); use precision = 'fp32'"
        ) from problem
