"""The last layer for the first token alone: the same answers and gradients, and only where nothing else is read."""

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model

from harness import models
from harness.models import encoding, transformer
from harness.models.classifier import ModelInputs
from harness.models.peft import without_known_warnings
from harness.models.speedups import first_token, shared_layers
from harness.suite.schema import PeftModel, TransformerModel

Batch = dict[str, torch.Tensor]
SIZES: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "initializer_range": 0.2,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "max_position_embeddings": 64,
}
OF_DISTILBERT = {
    "vocab_size": 100,
    "dim": 32,
    "n_layers": 3,
    "n_heads": 4,
    "hidden_dim": 64,
    "initializer_range": 0.2,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "seq_classif_dropout": 0.0,
}
KINDS = ["Bert", "Camembert", "DistilBert", "Electra", "Roberta", "XLMRoberta"]


def made(kind: str, attention: str = "sdpa") -> Any:
    """A real network of a kind with random weights and no dropout, in evaluation mode."""
    sizes = OF_DISTILBERT if kind == "DistilBert" else {**SIZES, "embedding_size": 32}
    config = getattr(transformers, f"{kind}Config")(**sizes)
    config._attn_implementation = attention
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return getattr(transformers, f"{kind}ForSequenceClassification")(config).eval()


@pytest.fixture
def batch() -> Batch:
    """Texts of several lengths, with padding."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 100, (5, 20), generator=generator)
    mask = torch.ones_like(ids)
    for text, length in enumerate([20, 3, 11, 1, 17]):
        mask[text, length:] = 0
    return {"input_ids": ids, "attention_mask": mask}


@contextmanager
def noted(network: Any) -> Iterator[list[int]]:
    """The number of tokens of each text that the norm at the end of each layer covered."""
    tokens: list[int] = []
    names = ("LayerNorm", "output_layer_norm")
    ends = [
        module
        for name, module in network.named_modules()
        if name.split(".")[-1] in names and ".attention." not in name and "embeddings" not in name
    ]
    hooks = [end.register_forward_hook(lambda _, given, __: tokens.append(given[0].shape[1])) for end in ends]
    try:
        yield tokens
    finally:
        for hook in hooks:
            hook.remove()


def answers(network: Any, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = network(**batch).logits
    return logits


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_the_same_and_all_but_keys_and_values_are_of_one_token(
    kind: str, attention: str, batch: Batch
) -> None:
    network = made(kind, attention)
    before = answers(network, batch)
    assert before.std() > 0.05
    with first_token.only(network, batch) as is_so, noted(network) as tokens:
        within = answers(network, batch)
    assert is_so
    assert tokens == [20, 20, 1]
    assert torch.allclose(within, before, rtol=0, atol=1e-6)
    assert torch.equal(answers(network, batch), before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounded_networks_are_proven_within_their_rounding(dtype: torch.dtype, batch: Batch) -> None:
    network = made("Bert").to(dtype)
    before = answers(network, batch)
    assert first_token.settle(network, batch)
    assert (answers(network, batch) - before).abs().max() <= 32 * torch.finfo(dtype).eps


def step(network: Any, batch: Batch) -> Batch:
    """The loss, and the gradients of all trainable parameters."""
    network.zero_grad()
    loss = torch.nn.functional.cross_entropy(network(**batch).logits, torch.tensor([1, 0, 1, 0, 1]))
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    gradients = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **gradients}


@pytest.mark.parametrize("kind", ["Bert", "DistilBert"])
def test_a_training_has_the_same_gradients(kind: str, batch: Batch) -> None:
    targets = {"Bert": ["query", "key", "value", "dense"], "DistilBert": ["q_lin", "k_lin", "v_lin", "lin1"]}[kind]
    with without_known_warnings(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = get_peft_model(made(kind, "eager"), LoraConfig(task_type="SEQ_CLS", r=3, target_modules=targets))
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
    network.train()
    before = step(network, batch)
    with first_token.only(network, batch) as is_so:
        assert network.training
        within = step(network, batch)
    assert is_so
    assert len(before) > 20
    for name, expected in before.items():
        assert expected.abs().sum() > 0, name
        assert torch.allclose(within[name], expected, rtol=1e-4, atol=1e-6), name


def test_a_training_drops_in_the_attention_of_the_first_token(batch: Batch) -> None:
    network = made("Bert", "eager")
    with first_token.only(network, batch):
        network.train()
        last = network.bert.encoder.layer[-1].attention.self.dropout
        assert torch.equal(network(**batch).logits, network(**batch).logits)
        last.p = 0.5
        assert not torch.equal(network(**batch).logits, network(**batch).logits)


@pytest.mark.parametrize(
    ("config", "n_tokens"),
    [
        (PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=4), 1),
        (PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=4), 20),
    ],
    ids=["prompts stand first", "prefixes go through the whole layer"],
)
def test_adapters_of_prompts_answer_the_same(config: Any, n_tokens: int, batch: Batch) -> None:
    with without_known_warnings(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network: Any = get_peft_model(made("Bert"), config)
    network.eval()
    before = answers(network, batch)
    with first_token.only(network, batch), noted(network) as tokens:
        assert torch.allclose(answers(network, batch), before, rtol=0, atol=1e-6)
    assert tokens[-1] == n_tokens


class MeanPooler(torch.nn.Module):
    """Reads all tokens."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return states.mean(1)


class LastPooler(torch.nn.Module):
    """Reads another token."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return states[:, -1]


class OtherLayer(transformers.models.bert.modeling_bert.BertLayer):  # type: ignore[no-untyped-call]  # untyped there
    """A class outside transformers."""


class OtherAttention(transformers.models.bert.modeling_bert.BertSelfAttention):
    """A class outside transformers."""


def of_other_layer(network: Any) -> None:
    network.bert.encoder.layer[-1].__class__ = OtherLayer


def of_other_attention(network: Any) -> None:
    network.bert.encoder.layer[-1].attention.self.__class__ = OtherAttention


def of_other_scale(network: Any) -> None:
    """Its attention does not use the scale that it declares."""
    own = network.bert.encoder.layer[-1].attention.self
    whole = own.forward
    own.scaling = 3.0

    def forward(*given: Any, **named: Any) -> Any:
        own.scaling = 0.1
        try:
            return whole(*given, **named)
        finally:
            own.scaling = 3.0

    own.forward = forward


def of_width(network: Any) -> None:
    """A module in it takes batches of one width alone."""
    network.bert.encoder.layer[-1].intermediate.dense = torch.nn.Sequential(
        torch.nn.Unflatten(1, (10, 2)), torch.nn.Flatten(1, 2), network.bert.encoder.layer[-1].intermediate.dense
    )


def of_mean(network: Any) -> None:
    network.bert.pooler = MeanPooler()


def of_last(network: Any) -> None:
    network.bert.pooler = LastPooler()


@pytest.mark.parametrize(
    "change", [of_mean, of_last, of_other_layer, of_other_attention, of_other_scale, of_width], ids=lambda f: f.__name__
)
def test_networks_built_otherwise_are_left_as_they_are(change: Callable[[Any], None], batch: Batch) -> None:
    network = made("Bert")
    change(network)
    kind = type(network.bert.encoder.layer[-1])
    before = answers(network, batch)
    network.train()
    assert not first_token.settle(network, batch)
    assert network.training
    assert type(network.bert.encoder.layer[-1]) is kind
    with noted(network.eval()) as tokens:
        assert torch.equal(answers(network, batch), before)
    assert tokens == [20, 20, 20]


def test_a_trial_of_one_token_proves_nothing(batch: Batch) -> None:
    network = made("Bert")
    of_mean(network)
    assert not first_token.settle(network, {name: tensor[:, :1] for name, tensor in batch.items()})


def test_layers_of_kinds_that_are_not_known_are_left_as_they_are(batch: Batch) -> None:
    config = transformers.MPNetConfig(**SIZES)
    config._attn_implementation = "eager"
    network: Any = transformers.MPNetForSequenceClassification(config)
    before = answers(network.eval(), batch)
    with first_token.only(network, batch) as is_so:
        assert not is_so
        assert torch.equal(answers(network, batch), before)


@pytest.fixture
def adapter(tiny_base: Path, tmp_path: Path) -> Path:
    """A LoRA with random numbers on all layers, saved as PEFT saves it."""
    with torch.random.fork_rng(devices=[]), without_known_warnings():
        torch.manual_seed(5)
        network: Any = get_peft_model(
            transformer.untrained(tiny_base, seed=1), LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query"])
        )
        for name, parameter in network.named_parameters():
            if "lora_B" in name or "modules_to_save" in name:
                torch.nn.init.normal_(parameter, std=0.3)
    network.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_scoring_computes_one_token_where_the_last_layer_is_the_models_own(
    precision: str, tiny_base: Path, adapter: Path, tmp_path: Path
) -> None:
    declared = {"id": "m", "precision": precision}
    texts = [f"the phone number {i} is " + "very " * (i % 5) + "bad" for i in range(30)]
    adapted = PeftModel.model_validate({**declared, "backend": "peft", "adapter": "a"})
    head = TransformerModel.model_validate({**declared, "backend": "transformer", "base": "b", "seeds": (1,)})
    for states_dir in (None, tmp_path / "states"):
        plain = ModelInputs(1, 48, tiny_base, None, [], [], states_dir=states_dir)
        own = ModelInputs(None, 48, tiny_base, adapter, [], [], states_dir=states_dir)
        for model, ingredients, expected in ((adapted, own, True), (head, plain, False)):
            classifier: Any = models.load(model, ingredients)
            scores = classifier.predict(texts, lambda units, note: None).scores
            layers = shared_layers.layers_of(classifier.model)
            assert layers is not None
            assert (type(layers[-1]) is not type(layers[0])) is expected
            layers[-1].__class__ = type(layers[0])
            whole = classifier.predict(texts, lambda units, note: None).scores
            assert scores == pytest.approx(whole, abs={"fp32": 1e-6, "bf16": 1e-2}[precision])


def test_a_converted_network_has_one_token_in_its_last_layer(tiny_base: Path) -> None:
    openvino = pytest.importorskip("openvino")
    from harness.models.openvino import _converted

    network: Any = transformer.untrained(tiny_base, seed=1).eval()
    whole = answers(network, encoding.trial(tiny_base, network))
    converted = _converted(network, tiny_base)
    assert torch.equal(answers(network, encoding.trial(tiny_base, network)), whole)
    inner = network.config.intermediate_size
    shapes = [one.output(0).partial_shape for one in converted.get_ops() if one.get_type_name() == "MatMul"]
    most = [shape[1].max_length for shape in shapes if len(shape) == 3 and shape[2] == inner]
    assert most == [*[-1] * (network.config.num_hidden_layers - 1), 1]  # -1: any number of tokens
    given = openvino.Core().compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(
        [tensor.numpy() for tensor in encoding.trial(tiny_base, network).values()]
    )[0]
    assert torch.allclose(torch.from_numpy(given), whole, rtol=0, atol=1e-5)


def test_nothing_is_left_behind_where_the_block_fails(batch: Batch) -> None:
    network = made("Bert")
    with pytest.raises(KeyError), first_token.only(network, batch):
        raise KeyError
    assert type(network.bert.encoder.layer[-1]) is type(network.bert.encoder.layer[0])


def test_a_network_is_gone_as_soon_as_nobody_has_it(batch: Batch) -> None:
    network = made("Bert")
    assert first_token.settle(network, batch)
    layer = weakref.ref(network.bert.encoder.layer[-1])
    gc.disable()
    try:
        del network
        assert layer() is None
    finally:
        gc.enable()
