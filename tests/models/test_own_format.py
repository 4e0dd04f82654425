"""Bases in bfloat16 that are loaded as they are: the same answers to the bit, in little more memory than their file."""

import json
import os
import shutil
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, TaskType, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from harness.errors import RunError
from harness.models import device, encoding, language_model, own_format, peft, transformer, variants, weight_files
from harness.progress import silent
from harness.training import card
from harness.training.plan import TrainingJob
from harness.training.train import train
from tests import language_models
from tests.models.test_prompt import LONGER, ONE_TOKEN, asked, likelihoods, texts
from tests.scripts import script

FAMILIES = ["llama", "gpt2", "mistral", "qwen3"]


def narrowed(folder: Path, family: str) -> Path:
    """A tiny language model whose file has its weights in bfloat16."""
    language_models.save(folder, family)
    network = language_model.causal(folder).to(torch.bfloat16)
    network.save_pretrained(folder)
    assert own_format.is_bf16(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("words", [ONE_TOKEN, LONGER], ids=["one-token", "longer"])
def test_answers_are_those_of_a_base_that_was_loaded_in_float32_and_rounded(
    family: str, words: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, some = narrowed(tmp_path / "base", family), texts(12)
    mine = asked(folder, 4, words, precision_of_model="bf16")
    whole = language_model.causal(folder, keeps=False)
    as_before = asked(folder, 4, words)  # proven in float32
    as_before.asked.network = whole.to(variants.DTYPES["bf16"])
    as_before.asked.kept.clear()
    assert mine.asked.batching == as_before.asked.batching
    assert (mine.asked.prefix, mine.asked.shares) == (as_before.asked.prefix, as_before.asked.shares)
    tensors = {**mine.asked.network.state_dict(), **dict(mine.asked.network.named_buffers())}
    for name, one in {**whole.state_dict(), **dict(whole.named_buffers())}.items():
        assert torch.equal(tensors[name], one), name
    assert torch.equal(likelihoods(mine, some), likelihoods(as_before, some))


ROOT = Path(__file__).parents[2]
WEIGHTS = weight_files.WEIGHTS


BASES = script("bases")


def in_format(folder: Path, dtype: torch.dtype) -> Path:
    """Rewrite a base's weights, rounded to bfloat16, in a format."""
    tensors = load_file(folder / WEIGHTS)
    made = {
        name: tensor.bfloat16().to(dtype) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()
    }
    save_file(made, folder / WEIGHTS, {"format": "pt"})
    return folder


def read(network: Any, *, in_bf16: bool = False) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """A classifier's answers to two texts, and the gradients of everything that trains."""
    ids = torch.tensor([[7, 8, 9, 30, 31, 32, 1], [9, 30, 12, 13, 14, 15, 1]])
    with torch.autocast("cpu", torch.bfloat16, enabled=in_bf16):
        logits = network(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    logits.float().square().sum().backward()
    return logits.detach(), {name: one.grad for name, one in network.named_parameters() if one.grad is not None}


@pytest.mark.slow
@pytest.mark.parametrize("in_bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("family", BASES.FAMILIES)
def test_answers_and_gradients_beneath_a_lora_are_those_of_weights_in_float32(
    family: str, in_bf16: bool, tmp_path: Path
) -> None:
    described, found = BASES.FAMILIES[family], {}
    folder = in_format(BASES.make_base(tmp_path / "base", described), torch.bfloat16)
    for keeps in (True, False):
        base = transformer.untrained(folder, seed=3, keeps=keeps)
        assert own_format.is_kept(base) is keeps
        assert {one.dtype for one in base.parameters()} <= {torch.float32, torch.int16}
        torch.manual_seed(0)
        shape: dict[str, Any] = {"r": 4, "target_modules": list(described.targets), "fan_in_fan_out": family == "GPT-2"}
        lora = LoraConfig(TaskType.SEQ_CLS, init_lora_weights=False, **shape)
        with peft.without_known_warnings():
            network: Any = get_peft_model(base, lora)
        network.config.get_text_config().pad_token_id = 2
        begun = {name: one.detach().clone() for name, one in network.named_parameters() if one.requires_grad}
        found[keeps] = begun, *read(network, in_bf16=in_bf16), own_format.n_numbers(network)
    kept, whole = found[True], found[False]
    assert torch.equal(kept[1], whole[1])
    assert (kept[1][0] - kept[1][1]).abs().max() > 1e-3
    assert kept[3] == whole[3]
    assert len(whole[2]) > 2
    for mine, its in ((kept[0], whole[0]), (kept[2], whole[2])):
        assert mine.keys() == its.keys()
        assert all(torch.equal(mine[name], its[name]) for name in its)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_that_keeps_its_weights_computes_in_float32_until_it_is_rounded(family: str, tmp_path: Path) -> None:
    folder, ids = narrowed(tmp_path / "base", family), torch.tensor([[1, 5, 9, 30, 31, 32]])
    kept, whole = language_model.causal(folder), language_model.causal(folder, keeps=False)
    assert own_format.is_kept(kept)
    n_bytes = [sum(one.numel() * one.element_size() for one in of.parameters()) for of in (kept, whole)]
    assert n_bytes[0] < 0.55 * n_bytes[1]
    with torch.inference_mode():
        assert torch.equal(kept(input_ids=ids).logits, whole(input_ids=ids).logits)
        rounded = own_format.rounded(kept, torch.bfloat16)
        assert torch.equal(rounded(input_ids=ids).logits, whole.to(torch.bfloat16)(input_ids=ids).logits)
    assert not own_format.is_kept(rounded)
    assert {one.dtype for one in rounded.parameters()} == {torch.bfloat16}


def test_weights_read_as_numbers_in_float32_and_become_them_before_a_merge(tmp_path: Path) -> None:
    folder = narrowed(tmp_path / "base", "llama")
    kept, whole = language_model.causal(folder), language_model.causal(folder, keeps=False)
    assert torch.equal(kept.lm_head.weight, whole.lm_head.weight)
    assert torch.equal(kept.get_input_embeddings().weight, whole.get_input_embeddings().weight)
    plain = own_format.widened(kept).state_dict()
    assert plain.keys() == whole.state_dict().keys()
    assert all(torch.equal(plain[name], one) for name, one in whole.state_dict().items())


def a_layer(n_inputs: int, n_outputs: int, has_bias: bool) -> tuple[Any, torch.nn.Linear]:
    """A layer that keeps its weights in bfloat16, and the same one in float32."""
    whole = torch.nn.Linear(n_inputs, n_outputs, bias=has_bias).bfloat16().float().requires_grad_(False)
    kept: Any = torch.nn.Linear(n_inputs, n_outputs, bias=has_bias).requires_grad_(False)
    kept.load_state_dict(whole.state_dict())
    kept.weight = torch.nn.Parameter(kept.weight.bfloat16(), requires_grad=False)
    return own_format._keeping(kept), whole


@pytest.mark.parametrize("shape", [(1,), (1, 7), (3, 33)], ids=str)
@pytest.mark.parametrize("size", [(1000, 5000), (5000, 1000), (70_001, 48)], ids=str)
def test_large_layers_are_widened_in_parts_to_the_same_bits(size: tuple[int, int], shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    n_outputs, n_inputs = size
    kept, whole = a_layer(n_inputs, n_outputs, n_outputs > n_inputs)
    given, weights = torch.randn(*shape, n_inputs), torch.randn(*shape, n_outputs)
    inputs = [given.clone().requires_grad_(), given.clone().requires_grad_()]
    answers = [layer(one) for layer, one in zip((kept, whole), inputs, strict=True)]
    for answer in answers:
        (answer * weights).sum().backward()
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(inputs[0].grad, inputs[1].grad)  # type: ignore[arg-type]  # both have one


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("n_texts", [1, 4, 9])
@pytest.mark.parametrize("n_tokens", [1, 2, 7])
def test_gradients_of_rows_that_torch_multiplies_text_by_text_are_the_same_bits(
    n_tokens: int, n_texts: int, has_bias: bool
) -> None:
    torch.manual_seed(0)
    kept, whole = a_layer(32, 24, has_bias)
    states = torch.randn(n_texts, 20, 32)
    for given in (states[:, :n_tokens], torch.randn(n_tokens, n_texts, 32).transpose(0, 1)):
        inputs = [given.detach().requires_grad_(), given.detach().requires_grad_()]
        weights = torch.randn(n_texts, n_tokens, 24)
        for layer, one in zip((kept, whole), inputs, strict=True):
            (layer(one) * weights).sum().backward()
        assert torch.equal(inputs[0].grad, inputs[1].grad)  # type: ignore[arg-type]  # both have one


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", ["lora", "ia3", "full"])
def test_a_base_in_bfloat16_trains_the_weights_of_the_same_base_in_float32(
    method: str, precision: str, jobs: list[TrainingJob], tmp_path: Path
) -> None:
    job, made = jobs[2 if method == "full" else 0], []
    adapter = job.adapter.model_copy(update={"method": method, **({"params": IA3} if method == "ia3" else {})})
    for dtype in (torch.bfloat16, torch.float32):
        folder = tmp_path / str(dtype)
        shutil.copytree(job.base.folder, folder / "base")
        in_format(folder / "base", dtype)
        base = replace(job.base, folder=folder / "base")
        made.append(
            train(replace(job, adapter=adapter, base=base, precision=precision, folder=folder / "made"), silent)
        )
    assert own_format.is_bf16(tmp_path / "torch.bfloat16" / "base")
    assert card.adapter_digest(made[0]) == card.adapter_digest(made[1])
    facts = [card.read(one).card for one in made]
    for name in ("probe_scores", "curve", "n_parameters", "n_trainable"):
        assert facts[0][name] == facts[1][name]


IA3 = {"target_modules": ["query", "value", "output.dense"], "feedforward_modules": ["output.dense"]}


def test_a_lora_on_kept_weights_merges_and_rounds_as_on_weights_in_float32(
    jobs: list[TrainingJob], tmp_path: Path
) -> None:
    shutil.copytree(jobs[0].base.folder, tmp_path / "base")
    folder, found = in_format(tmp_path / "base", torch.bfloat16), {}
    adapter = train(replace(jobs[0], base=replace(jobs[0].base, folder=folder), folder=tmp_path / "made"), silent)
    wide = in_format(Path(shutil.copytree(folder, tmp_path / "wide")), torch.float32)
    for base in (folder, wide):
        network = peft.with_adapter(base, adapter)
        assert own_format.is_kept(network) is (base == folder)
        batch = {**encoding.trial(base, network)}
        merged = variants.merged(network)
        assert not own_format.is_kept(merged)
        rounded = variants.made("torch", "bf16", lambda base=base: peft.with_adapter(base, adapter), None)  # type: ignore[arg-type,misc]
        with torch.inference_mode():
            found[base] = [one(**batch).logits for one in (network, merged, rounded)]
    assert all(torch.equal(one, other) for one, other in zip(found[folder], found[wide], strict=True))


@pytest.mark.parametrize(
    ("params", "part"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["classifier", "query"]}, "modules_to_save"),
        ({"modules_to_save": ["classifier"], "init_lora_weights": "gaussian"}, None),
    ],
    ids=str,
)
def test_weights_that_an_adapter_changes_or_reads_are_not_kept(params: dict[str, Any], part: str | None) -> None:
    reason = peft.changes_base(LoraConfig(TaskType.SEQ_CLS, target_modules=["query"], **params))
    assert (reason or "").partition(" ")[0] == (part or "")


MEASURE = """if True:
    import ctypes, resource, sys
    from pathlib import Path
    import torch
    from harness import models
    from harness.models.classifier import ModelInputs
    from harness.suite.schema import PeftModel, TransformerModel
    from tests.models.test_prompt import ONE_TOKEN, asked, likelihoods, texts
    torch.set_num_threads(1)

    def answer(kind, folder, adapter):
        if kind.endswith("shots"):
            model = asked(Path(folder), int(kind[0]), ONE_TOKEN, precision_of_model="bf16")
            likelihoods(model, texts(1))
            return
        inputs = ModelInputs(1, 64, Path(folder), Path(adapter) if kind == "adapter" else None, (), ())
        if kind == "adapter":
            model = models.load(PeftModel(id="m", backend="peft", adapter="a", precision="fp32"), inputs)
        else:
            fields = {"id": "m", "backend": "transformer", "base": "b", "seeds": (1,), "precision": "fp32"}
            model = models.load(TransformerModel(**fields), inputs)
        model.predict(texts(1), lambda units, note: None)

    kind, small, large = sys.argv[1:]
    answer(kind, small, small + "-adapter")  # imports
    # Pages of libraries that the system takes away would count when they come back: where that is allowed, they stay.
    ctypes.CDLL(None).mlockall(1)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    answer(kind, large, large + "-adapter")
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(int(peak.split()[1]) * 1024 - before)
"""


@pytest.fixture(scope="module")
def sizes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny base in bfloat16, and one of 394 MiB; beside each a LoRA with a head."""
    folder = tmp_path_factory.mktemp("sizes")
    small, large = narrowed(folder / "small", "llama"), folder / "large"
    language_models.save(large, "llama")
    shape: dict[str, Any] = {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 16}
    shape |= {"num_attention_heads": 16, "initializer_range": 0.02}
    config: Any = LlamaConfig(**{**language_models.SHAPE, **shape})
    network: Any = LlamaForCausalLM(config)
    network.to(torch.bfloat16).save_pretrained(large)
    for base in (small, large):
        lora = LoraConfig(TaskType.SEQ_CLS, target_modules=["q_proj", "v_proj"], r=8, init_lora_weights=False)
        with peft.without_known_warnings():
            classifier: Any = get_peft_model(transformer.untrained(base, seed=1), lora)
        classifier.save_pretrained(f"{base}-adapter")
    return small, large


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
@pytest.mark.parametrize("kind", ["4 shots", "head", "adapter"])
def test_a_base_in_bfloat16_answers_in_little_more_memory_than_its_file(kind: str, sizes: tuple[Path, Path]) -> None:
    size = (sizes[1] / WEIGHTS).stat().st_size
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, kind, *sizes],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= 1.15 * size, int(done.stdout) / size


def test_prompts_share_the_keys_and_values_of_their_beginning_without_a_copy(tmp_path: Path) -> None:
    model = asked(language_models.save(tmp_path / "base", "llama"), 4)
    assert model.asked.prefix
    for mine, kept in zip(model.asked._cache(5).layers, model.asked.kept, strict=True):
        assert mine.keys.shape[0] == 5
        assert mine.keys.data_ptr() == kept.keys.data_ptr()
        assert mine.values.data_ptr() == kept.values.data_ptr()


def test_a_base_that_is_larger_than_memory_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    folder = language_models.save(tmp_path / "base", "llama")
    has = device.memory_bytes()
    assert has is not None
    numbers = has // 4 + 1
    header = {"lm_head.weight": {"dtype": "F32", "shape": [numbers], "data_offsets": [0, 4 * numbers]}}
    encoded = json.dumps(header).encode()
    with (folder / WEIGHTS).open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        file.truncate(8 + len(encoded) + 4 * numbers)  # a hole, which takes no room on disk
    message = rf"its {numbers:,} weights take [\d.]+ GiB in 32 bits each, but this machine has [\d.]+ GiB of memory"
    with pytest.raises(RunError, match=message):
        language_model.causal(folder)
