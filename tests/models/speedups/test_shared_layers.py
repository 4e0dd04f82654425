"""Lower layers computed once: bit-identical answers, for real adapters, heads and the probe on tiny encoders."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import AutoModel, AutoModelForSequenceClassification, DistilBertConfig, DistilBertModel

from harness import models
from harness.artifacts import atomic
from harness.models import encoding, padding, transformer
from harness.models.classifier import ModelInputs
from harness.models.peft import without_known_warnings
from harness.models.speedups import shared_layers, state_cache
from harness.stats.inference import Floats
from harness.suite.schema import Model, PeftModel, ProbeModel, TransformerModel
from tests.models.test_batches import made_base, with_head

pytestmark = pytest.mark.slow

TEXTS = [
    "the phone is great",
    "it is broken",
    "the manual is awful and the cable is bad and noisy",
    "fine",
    *(f"the battery number {i} is " + "useless and " * (i % 7) + "cheap" for i in range(60)),
]
Build = Callable[[str, Path, int], Path]


def skip_note(units: int, note: str) -> None:
    """Progress without a display."""


@pytest.fixture(scope="module")
def tiny_distilbert(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """A real DistilBERT of four layers with the tiny BERT's tokenizer."""
    folder = tmp_path_factory.mktemp("tiny-distilbert")
    tokenizer = encoding.Encoded(tiny_base, ["it"], 8).tokenizer
    tokenizer.save_pretrained(folder)
    torch.manual_seed(3)
    config = DistilBertConfig(
        vocab_size=len(tokenizer),
        dim=32,
        n_layers=4,
        n_heads=2,
        hidden_dim=64,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    DistilBertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bases(tiny_base: Path, tiny_distilbert: Path) -> dict[str, Path]:
    return {"bert": tiny_base, "distilbert": tiny_distilbert}


TARGETS = {"bert": ["query", "value"], "distilbert": ["q_lin", "v_lin"]}


def adapter(kind: str, base: Path, folder: Path, layers: list[int], seed: int) -> Path:
    """A LoRA with random numbers in it, on some layers, saved as PEFT saves it."""
    torch.manual_seed(seed)
    network = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
    config = LoraConfig(task_type="SEQ_CLS", r=4, target_modules=TARGETS[kind], layers_to_transform=layers)
    with without_known_warnings():
        adapted: Any = get_peft_model(network, config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                parameter.normal_(std=0.3)
    adapted.save_pretrained(folder)
    return folder


def peft_model(precision: str) -> Model:
    return PeftModel.model_validate({"id": "m", "backend": "peft", "adapter": "a", "precision": precision})


def head_model(precision: str) -> Model:
    declared = {"id": "m", "backend": "transformer", "base": "b", "seeds": (1,), "precision": precision}
    return TransformerModel.model_validate(declared)


def scores(model: Model, ingredients: ModelInputs, texts: list[str] = TEXTS) -> Floats:
    return models.load(model, ingredients).predict(texts, skip_note).scores


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """The number of texts that each layer read, in any network, without the few of the trial and the proofs."""
    read: Counter[str] = Counter()

    def count(module: torch.nn.Module, _: object, given: Any) -> None:
        if type(module).__name__.removeprefix("First") in ("BertLayer", "TransformerBlock") and given.shape[0] > 4:
            read["texts"] += given.shape[0]

    hook = torch.nn.modules.module.register_module_forward_hook(count)
    try:
        yield read
    finally:
        hook.remove()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_shared_lower_layers_give_the_same_bits_and_are_computed_once(
    kind: str, precision: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    base, kept = bases[kind], tmp_path / "states"
    n_layers = {"bert": 2, "distilbert": 4}[kind]
    top = [adapter(kind, base, tmp_path / f"top-{i}", [n_layers - 1], i) for i in range(2)]
    everywhere = adapter(kind, base, tmp_path / "everywhere", list(range(n_layers)), 5)
    plain = ModelInputs(None, 48, base, None, [], [])
    ways: list[tuple[Model, ModelInputs]] = [
        *((peft_model(precision), replace(plain, adapter_dir=folder)) for folder in [*top, everywhere]),
        *((head_model(precision), replace(plain, seed=seed)) for seed in (1, 2, 3)),
    ]
    expected, read, layers_read = [], [], []
    for model, ingredients in ways:
        expected.append(scores(model, ingredients))
        with counted() as count:
            assert np.array_equal(scores(model, replace(ingredients, states_dir=kept)), expected[-1])
        layers_read.append(count["texts"] / len(TEXTS))
        read.append(len(list(kept.iterdir())))
    assert len({one.tobytes() for one in expected}) == len(ways)  # no two of them answer alike
    # top layer: all, then the top alone; an adapter everywhere: all; heads: all, then none twice
    assert layers_read == [n_layers, 1, n_layers, n_layers, 0, 0]
    assert read == [1, 1, 1, 2, 2, 2]
    assert not [path for path in kept.iterdir() if path.name.startswith(atomic.PARTIAL)]


def test_a_probe_shares_all_layers_with_untrained_heads(bases: dict[str, Path], tmp_path: Path) -> None:
    probe = ProbeModel.model_validate(
        {"id": "p", "backend": "probe", "base": "b", "train_split": "t", "C": 1.0, "precision": "fp32"}
    )
    labels = [i % 2 for i in range(len(TEXTS))]
    plain = ModelInputs(None, 48, bases["bert"], None, TEXTS, labels)
    kept = replace(plain, states_dir=tmp_path / "states")
    scores(head_model("fp32"), replace(kept, seed=1))
    with counted() as count:
        shared = scores(probe, kept)
        borrowed = models.load(probe, kept).predict(TEXTS, skip_note).borrowed_seconds
    assert count["texts"] == 0
    assert borrowed > 0
    assert models.load(probe, plain).predict(TEXTS, skip_note).borrowed_seconds == 0
    assert np.array_equal(shared, scores(probe, plain))


def test_other_texts_another_order_and_another_precision_are_computed_anew(
    bases: dict[str, Path], tmp_path: Path
) -> None:
    made_from = ModelInputs(1, 48, bases["bert"], None, [], [], states_dir=tmp_path / "states")
    for n_files, (precision, texts) in enumerate(
        [("fp32", TEXTS), ("bf16", TEXTS), ("fp32", TEXTS[::-1]), ("fp32", [*TEXTS[:-1], "bad"])], start=1
    ):
        expected = scores(head_model(precision), replace(made_from, states_dir=None), texts)
        assert np.array_equal(scores(head_model(precision), made_from, texts), expected)
        assert len(list((tmp_path / "states").iterdir())) == n_files


def moved(where: str, base: Path) -> Any:
    """The base with one number of one tensor changed."""
    torch.manual_seed(0)
    network = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2).eval()
    with torch.no_grad():
        network.get_parameter(where).view(-1)[-1] += 1e-3  # of the embeddings a word that no trial text has
    return network


@pytest.mark.parametrize(
    ("where", "shared"),
    [
        ("bert.embeddings.word_embeddings.weight", None),
        ("bert.encoder.layer.0.output.dense.bias", None),
        ("bert.encoder.layer.1.attention.self.query.weight", 1),
        ("classifier.weight", 2),
    ],
)
def test_a_changed_number_in_a_lower_layer_switches_sharing_off(
    where: str, shared: int | None, bases: dict[str, Path], tmp_path: Path
) -> None:
    made_from = ModelInputs(1, 48, bases["bert"], None, [], [], states_dir=tmp_path)
    found = transformer.layers_of_base(moved(where, bases["bert"]), made_from)
    assert (found and found.count) == shared


def test_a_network_of_prompts_or_of_another_build_is_left_alone(bases: dict[str, Path], tmp_path: Path) -> None:
    base = bases["bert"]
    made_from = ModelInputs(1, 48, base, None, [], [], states_dir=tmp_path)
    network = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2).eval()
    layers = network.bert.encoder.layer
    assert transformer.layers_of_base(network, made_from) is not None
    hook = layers[0].register_forward_hook(lambda _, __, given: given + 1)
    assert transformer.layers_of_base(network, made_from) is None
    hook.remove()
    layers[0], layers[1] = layers[1], layers[0]
    assert transformer.layers_of_base(network, made_from) is None
    layers[1] = layers[0]  # called twice, as in ALBERT
    assert transformer.layers_of_base(network, made_from) is None
    fresh = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
    with without_known_warnings():
        prompts: Any = get_peft_model(fresh, PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3))
    assert transformer.layers_of_base(prompts.eval(), made_from) is None
    other = AutoModel.from_pretrained(base, attn_implementation="eager").eval()
    padding.use(other, padding.Batching("right", 0, 1000))
    assert transformer.layers_of_base(other, made_from) is None


def test_a_damaged_file_of_states_is_made_anew(bases: dict[str, Path], tmp_path: Path) -> None:
    made_from = ModelInputs(1, 48, bases["bert"], None, [], [], states_dir=tmp_path)
    expected = scores(head_model("fp32"), made_from)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for damaged in (whole[:-1], b"", whole[:100] + b"\0\1\2" + whole[103:], whole[:-1] + b"\0\0"):
        file.write_bytes(damaged)
        with counted() as count:
            assert np.array_equal(scores(head_model("fp32"), made_from), expected)
        assert count["texts"] == 2 * len(TEXTS)
        assert file.read_bytes()[:-40] == whole[:-40]  # after it the seconds, and a checksum of all


def test_states_take_bounded_room_and_the_ones_used_longest_ago_go_first(tmp_path: Path) -> None:
    dtype, shapes = torch.bfloat16, [(2, 3, 4), (1, 2, 4)]
    given = [torch.randn(shape).to(dtype) for shape in shapes]
    size = 2 * (2 * 3 * 4 + 1 * 2 * 4)

    def keep(name: str, most_bytes: int) -> bool:
        with state_cache.writing(tmp_path / name, size, most_bytes) as add:
            for part in given:
                add(part, 0.25)
        return (tmp_path / name).is_file()

    room = 2 * (size + 40)
    assert keep("one", room)
    assert keep("two", room)
    for age, name in enumerate(("two", "one")):
        os.utime(tmp_path / name, (1000 + age, 1000 + age))
    read = state_cache.read(tmp_path / "two", shapes, dtype)  # and so it was used last
    assert read is not None
    assert all(torch.equal(one, other) for one, other in zip(read.parts, given, strict=True))
    assert read.seconds == 0.5
    assert keep("three", room)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["three", "two"]
    assert not keep("four", size)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["three", "two"]
    with suppress(KeyboardInterrupt), state_cache.writing(tmp_path / "five", size) as add:
        add(given[0], 0.25)
        raise KeyboardInterrupt
    assert not (tmp_path / "five").exists()
    assert len(list(tmp_path.iterdir())) == 2


def test_states_are_not_kept_where_nothing_may_be_written(bases: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    made_from = ModelInputs(1, 48, bases["bert"], None, [], [], states_dir=tmp_path / "file" / "states")
    assert len(scores(head_model("fp32"), made_from)) == len(TEXTS)


@pytest.mark.parametrize("family", ["modernbert", "qwen2", "gemma", "bert"])
def test_a_network_that_looks_up_its_layers_settings_finds_them_without_the_layers(family: str, tmp_path: Path) -> None:
    network = with_head(made_base(tmp_path, family)).eval()
    batch = {"input_ids": torch.tensor([[5, 6, 7, 1]]), "attention_mask": torch.ones(1, 4, dtype=torch.int64)}
    layers = shared_layers.layers_of(network)
    assert layers is not None
    with torch.inference_mode():
        given = shared_layers.given_by(layers, network, batch)
        assert given is not None
        whole = network(**batch).logits
        with shared_layers.without(layers, 2, iter([given[1]])):
            assert torch.equal(network(**batch).logits, whole)
