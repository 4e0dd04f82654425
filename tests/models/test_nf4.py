"""Bases in 4 bits: what is quantised, the numbers of bitsandbytes, adapters beside them, and refusals."""

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bitsandbytes import functional
from peft import LoraConfig, TaskType, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from harness import models
from harness.errors import AdapterError, RunError, UsageError
from harness.models import device, language_model, nf4, own_format, peft, transformer, variants, weight_files
from harness.models.classifier import ModelInputs
from harness.progress import silent
from harness.suite.schema import PeftModel, ProbeModel
from harness.training import card, preflight
from harness.training.plan import TrainingJob
from harness.training.train import train
from tests import language_models
from tests.models.test_own_format import in_format
from tests.models.test_prompt import LONGER, asked, likelihoods, texts

pytestmark = pytest.mark.slow

UNEVEN = {"hidden_size": 40, "intermediate_size": 50, "head_dim": 10}
"""Layers whose weights are no multiple of a block: 40 x 50 is 31 blocks and 16 weights."""


def noted(folder: Path) -> Path:
    """Declare a base in a folder as quantised, as a suite does."""
    (folder / nf4.NOTE).write_bytes(nf4.CONTENT)
    return folder


def a_base(folder: Path, **shape: Any) -> Path:
    """A tiny language model in float32."""
    language_models.save(folder, "llama")
    if shape:
        torch.manual_seed(5)
        config: Any = LlamaConfig(**{**language_models.WIDE, **shape})
        network: Any = LlamaForCausalLM(config)
        network.save_pretrained(folder)
    return folder


def by_hand(folder: Path) -> Any:
    """The base in float32, its layers quantised and dequantised by bitsandbytes alone."""
    auto: Any = AutoModelForCausalLM
    network = auto.from_pretrained(folder, dtype=torch.float32)
    for layer in network.model.layers.modules():
        if isinstance(layer, torch.nn.Linear):
            packed, state = functional.quantize_4bit(layer.weight.data, blocksize=64, quant_type="nf4")
            layer.weight.data = functional.dequantize_4bit(packed, state)
    return network.eval()


@pytest.mark.parametrize("in_bf16", [False, True], ids=["from-fp32", "from-bf16"])
@pytest.mark.parametrize("shape", [{}, UNEVEN], ids=["blocks", "parts of blocks"])
def test_answers_are_those_of_weights_that_bitsandbytes_dequantised(
    shape: dict[str, Any], in_bf16: bool, tmp_path: Path
) -> None:
    folder, some = a_base(tmp_path / "base", **shape), texts(12)
    if in_bf16:
        in_format(folder, torch.bfloat16)
    reference, plain = by_hand(folder), asked(folder, 4, LONGER)
    mine = asked(noted(folder), 4, LONGER)
    network = mine.asked.network
    kinds = {name: type(module) for name, module in network.named_modules() if not list(module.children())}
    packed = {name for name, kind in kinds.items() if kind is own_format.Packed}
    assert packed == {name for name in kinds if "_proj" in name}
    assert not isinstance(network.lm_head, own_format.Packed)
    assert not isinstance(network.get_input_embeddings(), own_format.Packed)
    for name in packed:
        assert torch.equal(network.get_submodule(name).weight, reference.get_submodule(name).weight)
    found = likelihoods(mine, some)
    mine.asked.network = reference
    mine.asked.kept.clear()
    assert (likelihoods(mine, some) - found).abs().max() <= 1e-5
    assert (likelihoods(plain, some) - found).abs().max() > 0.01


def test_one_row_and_a_batch_give_the_same_answers(tmp_path: Path) -> None:
    network = language_model.causal(
        noted(a_base(tmp_path / "base", hidden_size=256, num_attention_heads=4, head_dim=64))
    )
    ids = torch.randint(3, 300, (5, 20))
    with torch.inference_mode():
        alone = torch.cat([network(input_ids=row[None, :1]).logits for row in ids])
        assert (network(input_ids=ids[:, :1]).logits - alone).abs().max() <= 1e-5


def test_a_layer_takes_half_a_byte_a_weight_and_its_scales(tmp_path: Path) -> None:
    network = language_model.causal(noted(a_base(tmp_path / "base", **UNEVEN)))
    layer = network.model.layers[0].mlp.gate_proj
    assert layer.bits.numel() == 1000
    assert layer.scales.numel() == 4 * 32
    assert layer.bits.numel() + layer.scales.numel() == nf4.n_bytes(40 * 50)
    whole = sum(one.numel() for one in by_hand(tmp_path / "base").parameters())
    assert own_format.n_numbers(network) == whole


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_lora_trains_beside_a_base_in_4_bits_and_is_proven_to_be_loaded(
    precision: Any, jobs: list[TrainingJob], tmp_path: Path
) -> None:
    noted(jobs[0].base.folder)
    job = replace(jobs[0], precision=precision)
    assert preflight.misfit(job) is None
    made = [train(replace(job, folder=tmp_path / name), silent) for name in ("one", "again")]
    assert card.adapter_digest(made[0]) == card.adapter_digest(made[1])
    network = peft.with_adapter(job.base.folder, made[0])
    assert own_format.is_packed(network)
    assert {one.dtype for one in network.parameters() if one.is_floating_point()} == {torch.float32}
    peft.prove_loaded(network, made[0], job.base.folder)
    inputs = ModelInputs(1, 32, job.base.folder, made[0], (), ())
    model = PeftModel(id="m", backend="peft", adapter="lora", precision="fp32")
    classifier: Any = models.load(model, inputs)
    assert np.ptp(classifier.predict(["good", "bad", "the"], lambda units, note: None).scores) > 1e-3
    assert own_format.is_packed(classifier.model)


def test_switched_off_an_adapter_leaves_the_answers_of_the_base_to_the_bit(
    jobs: list[TrainingJob], tmp_path: Path
) -> None:
    folder = noted(jobs[0].base.folder)
    adapter = train(replace(jobs[0], folder=tmp_path / "made"), silent)
    network, base = peft.with_adapter(folder, adapter), transformer.untrained(folder, seed=0).eval()
    ids = torch.tensor([[2, 7, 8, 9, 3]])
    with torch.inference_mode(), peft.without_known_warnings():
        on = network(input_ids=ids, output_hidden_states=True).hidden_states[-1]
        with network.disable_adapter():
            off = network(input_ids=ids, output_hidden_states=True).hidden_states[-1]
        alone = base(input_ids=ids, output_hidden_states=True).hidden_states[-1]
    assert torch.equal(off, alone)
    assert (on - off).abs().max() > 1e-3


def test_an_adapter_stays_beside_its_base_and_may_be_rounded(jobs: list[TrainingJob], tmp_path: Path) -> None:
    folder = noted(jobs[0].base.folder)
    adapter = train(replace(jobs[0], folder=tmp_path / "made"), silent)
    load: Callable[[], Any] = lambda: peft.with_adapter(folder, adapter)  # noqa: E731
    network = load()
    assert variants.merged(network).peft_config
    rounded: Any = variants.made("torch", "bf16", load, ModelInputs(1, 32, folder, adapter, (), ()))
    assert own_format.is_packed(rounded)
    ids = torch.tensor([[2, 7, 8, 9, 3]])
    with torch.inference_mode():
        difference = (rounded(input_ids=ids).logits - network(input_ids=ids).logits).abs().max()
    assert 0 < difference < 0.2


def test_a_language_models_lora_and_a_probe_compute_in_4_bits(tmp_path: Path) -> None:
    folder = noted(a_base(tmp_path / "base"))
    lora = LoraConfig(TaskType.CAUSAL_LM, target_modules=["q_proj", "v_proj"], r=4, init_lora_weights=False)
    with peft.without_known_warnings():
        network: Any = get_peft_model(language_model.causal(folder), lora)
    network.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    loaded = peft.with_adapter(folder, tmp_path / "adapter", task="causal_lm")
    peft.prove_loaded(loaded, tmp_path / "adapter", folder, task="causal_lm")
    assert own_format.is_packed(loaded)
    rows = ["good", "bad"] * 8
    inputs = ModelInputs(None, 32, folder, None, rows, [1, 0] * 8)
    model = ProbeModel(id="m", backend="probe", base="b", train_split="t", C=1.0, precision="fp32")
    probe: Any = models.load(model, inputs)
    assert own_format.is_packed(probe.encoder)
    scores = probe.predict(["good", "bad"], lambda units, note: None).scores
    assert scores[0] > scores[1]


@pytest.mark.parametrize(
    ("method", "params", "part"),
    [
        ("full", {}, "the method full may change"),
        ("lora", {"r": 4, "target_modules": ["query"], "use_dora": True}, "use_dora = True changes or reads"),
        ("lora", {"r": 4, "target_modules": ["query"], "init_lora_weights": "pissa"}, "init_lora_weights = 'pissa'"),
    ],
    ids=["full", "dora", "pissa"],
)
def test_methods_that_change_the_base_are_refused_before_anything_is_trained(
    method: str, params: dict[str, Any], part: str, jobs: list[TrainingJob]
) -> None:
    noted(jobs[0].base.folder)
    adapter = jobs[0].adapter.model_copy(update={"method": method, "params": params})
    reason = preflight.misfit(replace(jobs[0], adapter=adapter)) or ""
    assert reason.startswith(part)
    assert reason.endswith(f", {peft.NOT_IN_NF4}")


def test_an_adapter_from_elsewhere_that_changes_its_base_is_refused(tmp_path: Path) -> None:
    folder = a_base(tmp_path / "base")
    dora = LoraConfig(TaskType.CAUSAL_LM, target_modules=["q_proj"], use_dora=True, init_lora_weights=False)
    with peft.without_known_warnings():
        network: Any = get_peft_model(language_model.causal(folder), dora)
    network.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    with pytest.raises(
        AdapterError, match="use_dora = True changes or reads weights of the base, which a base with qua"
    ):
        peft.with_adapter(noted(folder), tmp_path / "adapter", task="causal_lm")


def test_a_base_without_linear_layers_is_refused(tmp_path: Path) -> None:
    folder = noted(language_models.save(tmp_path / "base", "gpt2"))
    with pytest.raises(RunError, match="a gpt2 has no linear layers that could be in nf4; declare the base without qu"):
        language_model.causal(folder)


def test_weights_in_4_bits_are_neither_trained_nor_widened(tmp_path: Path) -> None:
    folder = noted(a_base(tmp_path / "base"))
    with pytest.raises(RunError, match="weights in 4 bits cannot be changed or trained"):
        language_model.causal(folder, keeps=False)
    with pytest.raises(RunError, match=r"a base in 4 bits \(nf4\) cannot be merged or converted"):
        own_format.widened(language_model.causal(folder))


def test_a_base_is_refused_by_its_size_in_4_bits_and_no_sooner(tmp_path: Path) -> None:
    """Layers of 32,768 x 32,768, as many as fit, and one more: their file is a header and a hole."""
    has = device.memory_bytes()
    assert has is not None
    width = 32_768
    of_layer = 4 * nf4.n_bytes(width * width) + nf4.n_bytes(width * 64) * 3 + 4 * 2 * width
    assert nf4.n_bytes(width * width) == width * width // 2 + 4 * width * width // 64
    folder = language_models.save(tmp_path / "base", "llama")
    shape = {"hidden_size": width, "intermediate_size": 64, "num_attention_heads": 256, "num_key_value_heads": 256}
    asked_for: dict[str, Any] = {"keeps": True, "is_packed": True}
    for n_layers, fits in ((has // of_layer - 1, True), (has // of_layer + 1, False)):
        config: Any = LlamaConfig(**{**language_models.SHAPE, **shape, "num_hidden_layers": n_layers})
        config.save_pretrained(folder)
        numbers = n_layers * (4 * width * width + 3 * 64 * width + 2 * width)
        header = {"lm_head.weight": {"dtype": "F32", "shape": [numbers], "data_offsets": [0, 4 * numbers]}}
        encoded = json.dumps(header).encode()
        with (folder / weight_files.WEIGHTS).open("wb") as file:
            file.write(struct.pack("<Q", len(encoded)) + encoded)
            file.truncate(8 + len(encoded) + 4 * numbers)  # a hole, which takes no room on disk
        noted(folder)
        check: Callable[[], None] = lambda: own_format._check_memory(AutoModelForCausalLM, folder, **asked_for)  # noqa: E731
        if fits:
            check()
            continue
        message = rf"its {numbers:,} weights take [\d.]+ GiB with [\d,]+ of them in nf4 and the others in 32 bits each"
        with pytest.raises(RunError, match=message):
            check()


def test_a_device_that_bitsandbytes_does_not_support_is_refused() -> None:
    nf4.check_device("cpu")
    with pytest.raises(UsageError, match=r"--device standin: bitsandbytes [\d.]+ does not compute there \(cpu, "):
        nf4.check_device("standin")
