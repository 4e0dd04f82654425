"""Bases in bfloat16 that are loaded as they are: the same answers to the bit, in little more memory than their file."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from harness.errors import RunError
from harness.models import device, language_model, own_format, variants, weight_files
from tests import language_models
from tests.models.test_prompt import LONGER, ONE_TOKEN, asked, likelihoods, texts

FAMILIES = ["llama", "gpt2", "mistral", "qwen3"]


def narrowed(folder: Path, family: str) -> Path:
    """A tiny language model whose file has its weights in bfloat16."""
    language_models.save(folder, family)
    network = language_model.causal(folder).to(torch.bfloat16)
    network.save_pretrained(folder)
    assert own_format.is_bf16(folder)
    return folder


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("words", [ONE_TOKEN, LONGER], ids=["one-token", "longer"])
def test_answers_are_those_of_a_base_that_was_loaded_in_float32_and_rounded(
    family: str, words: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, some = narrowed(tmp_path / "base", family), texts(12)
    mine = asked(folder, 4, words, precision_of_model="bf16")
    whole = language_model.causal(folder)
    as_before = asked(folder, 4, words)  # proven in float32
    as_before.asked.network = whole.to(variants.DTYPES["bf16"])
    as_before.asked.kept.clear()
    assert mine.asked.batching == as_before.asked.batching
    assert (mine.asked.prefix, mine.asked.shares) == (as_before.asked.prefix, as_before.asked.shares)
    tensors = {**mine.asked.network.state_dict(), **dict(mine.asked.network.named_buffers())}
    for name, one in {**whole.state_dict(), **dict(whole.named_buffers())}.items():
        assert torch.equal(tensors[name], one), name
    assert torch.equal(likelihoods(mine, some), likelihoods(as_before, some))


@pytest.mark.parametrize("family", FAMILIES)
def test_within_the_block_a_narrow_network_computes_in_float32(family: str, tmp_path: Path) -> None:
    folder, ids = narrowed(tmp_path / "base", family), torch.tensor([[1, 5, 9, 30, 31, 32]])
    narrow, whole = language_model.causal(folder, dtype=torch.bfloat16), language_model.causal(folder)
    assert own_format.has_wide_buffers(narrow)
    with torch.inference_mode():
        with own_format.in_float32(narrow):
            assert torch.equal(narrow(input_ids=ids).logits, whole(input_ids=ids).logits)
        assert narrow(input_ids=ids).logits.dtype == torch.bfloat16
    assert {one.dtype for one in narrow.parameters()} == {torch.bfloat16}


def test_a_large_output_layer_is_widened_in_parts() -> None:
    layer, given = torch.nn.Linear(64, 3 * own_format.AT_ONCE // 64 + 5, dtype=torch.bfloat16), torch.randn(3, 64)
    expected = torch.nn.functional.linear(given, layer.weight.float(), layer.bias.float())
    with torch.inference_mode(), own_format.in_float32(layer):
        assert (layer(given) - expected).abs().max() <= 1e-5
    assert layer(given.bfloat16()).dtype == torch.bfloat16


MEASURE = """if True:
    import resource, sys
    from pathlib import Path
    import torch
    from tests.models.test_prompt import ONE_TOKEN, asked, likelihoods, texts
    torch.set_num_threads(1)

    def answer(folder):
        model = asked(Path(folder), 0, ONE_TOKEN, precision_of_model="bf16")  # loaded, and proven in float32
        likelihoods(model, texts(1))

    answer(sys.argv[1])  # imports
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    answer(sys.argv[2])
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(int(peak.split()[1]) * 1024 - before)
"""


@pytest.mark.no_cover
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_a_base_in_bfloat16_answers_in_little_more_memory_than_its_file(tmp_path: Path) -> None:
    small, large = narrowed(tmp_path / "small", "llama"), tmp_path / "large"
    language_models.save(large, "llama")
    shape = {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 16, "num_attention_heads": 16}
    config: Any = LlamaConfig(**{**language_models.SHAPE, **shape})
    network: Any = LlamaForCausalLM(config)
    network.to(torch.bfloat16).save_pretrained(large)
    size = (large / "model.safetensors").stat().st_size
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, small, large],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
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
    with (folder / weight_files.WEIGHTS).open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        file.truncate(8 + len(encoded) + 4 * numbers)  # a hole, which takes no room on disk
    message = rf"its {numbers:,} weights take [\d.]+ GiB in 32 bits each, but this machine has [\d.]+ GiB of memory"
    with pytest.raises(RunError, match=message):
        language_model.causal(folder)
