"""Heads: an untrained one is drawn from its seed whatever a checkpoint brings, and a trained one is scored as it is."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from harness.artifacts import digest
from harness.errors import AdapterError, RunError
from harness.models import adapter_files, load
from harness.models.classifier import ModelInputs
from harness.models.transformer import check_positions, head_names, kernel, positions, untrained
from harness.progress import silent
from harness.suite.polarity import polarity
from harness.suite.schema import CheckpointModel
from harness.training import preflight
from harness.training.plan import TrainingJob
from harness.training.train import train
from tests.fixtures import finished_beside

Command = Callable[..., Any]

SMALL: dict[str, Any] = {
    "vocab_size": 260,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 66,
}
KINDS: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 16},
    "bart": {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
             "encoder_attention_heads": 2, "decoder_attention_heads": 2},
    "bert": {},
    "bloom": {"n_layer": 1, "n_head": 2, "pad_token_id": 0},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "pooler_hidden_size": 32},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "electra": {"embedding_size": 16},
    "gpt2": {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 66},
    "modernbert": {"pad_token_id": 0},
    "qwen2": {"num_key_value_heads": 2},
    "roberta": {"pad_token_id": 1},
}  # fmt: skip
"""Architectures whose heads are built in different ways, and what each needs to be tiny."""


def classifier_of(kind: str, folder: Path, n_labels: int = 2) -> None:
    """A finished classifier, its weights wide, and beside it in `bare` the same encoder without a head."""
    config = AutoConfig.for_model(kind, **SMALL | KINDS[kind], num_labels=n_labels)
    for name in ("initializer_range", "init_std"):
        if hasattr(config, name):
            setattr(config, name, 0.2)
    torch.manual_seed(3)
    model: Any = AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]
    for name in head_names(model):
        torch.nn.init.normal_(model.get_parameter(name))
    model.save_pretrained(folder)
    shutil.copytree(folder, folder / "bare")
    encoder = {name: one for name, one in load_file(folder / "model.safetensors").items() if not is_head(model, name)}
    save_file(encoder, folder / "bare" / "model.safetensors", {"format": "pt"})


def is_head(model: Any, name: str) -> bool:
    return not name.startswith(f"{model.base_model_prefix}.")


@pytest.mark.parametrize("n_labels", [2, 3])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_an_untrained_head_is_the_same_whatever_head_the_checkpoint_brings(
    kind: str, n_labels: int, tmp_path: Path
) -> None:
    classifier_of(kind, tmp_path, n_labels)
    brought = load_file(tmp_path / "model.safetensors")
    model: Any = untrained(tmp_path, 5)
    again, other = untrained(tmp_path / "bare", 5), untrained(tmp_path, 6)
    drawn, of_bare, of_other = model.state_dict(), again.state_dict(), other.state_dict()
    assert drawn.keys() == of_bare.keys()
    assert all(torch.equal(drawn[name], of_bare[name]) for name in drawn)
    for name in head_names(model):
        assert not torch.equal(drawn[name], brought[name])
    assert any(not torch.equal(drawn[name], of_other[name]) for name in head_names(model))
    assert all(torch.equal(drawn[name], one) for name, one in brought.items() if not is_head(model, name))
    assert model.config.id2label == {0: "LABEL_0", 1: "LABEL_1"}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_head_that_a_checkpoint_brings_is_refused_as_an_untrained_one(kind: str, tmp_path: Path) -> None:
    classifier_of(kind, tmp_path)
    with pytest.raises(RunError, match=r"brings a trained head \(.*backend = 'checkpoint' on this base"):
        untrained(tmp_path, 1, head="refused")
    if kind != "modernbert":
        untrained(tmp_path / "bare", 1, head="refused")


def test_what_a_pretraining_made_beside_the_encoder_is_kept(tmp_path: Path) -> None:
    """ModernBERT's head has a layer that its language model has too; its output layer is drawn."""
    config: Any = AutoConfig.for_model("modernbert", **SMALL | KINDS["modernbert"], initializer_range=0.2)
    torch.manual_seed(3)
    transformers.ModernBertForMaskedLM(config).save_pretrained(tmp_path)
    brought = load_file(tmp_path / "model.safetensors")
    drawn = untrained(tmp_path, 1, head="refused").state_dict()
    assert torch.equal(drawn["head.dense.weight"], brought["head.dense.weight"])
    assert not torch.equal(drawn["classifier.weight"], untrained(tmp_path, 2).state_dict()["classifier.weight"])


def test_weights_of_another_vocabulary_than_the_configuration_says_are_refused(tiny_base: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_base, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"vocab_size": config["vocab_size"] + 3}))
    with pytest.raises(RunError, match=r"word_embeddings.weight has the shape .* if embeddings were resized, save"):
        untrained(tmp_path, 1)


def on_finished(job: TrainingJob, tiny_base: Path) -> TrainingJob:
    """A training on the finished classifier."""
    return replace(job, base=replace(job.base, folder=finished_beside(tiny_base)))


def test_a_training_on_a_finished_classifier_begins_with_a_head_from_its_seed(
    jobs: list[TrainingJob], tiny_base: Path
) -> None:
    for job in (jobs[0], jobs[2]):
        one = on_finished(job, tiny_base)
        assert preflight.misfit(one) is None
        folder = train(one, silent)
        found = load_file(next(folder.glob("*model.safetensors")))
        brought = load_file(one.base.folder / "model.safetensors")["classifier.weight"]
        (head,) = (tensor for name, tensor in found.items() if name.endswith("classifier.weight"))
        assert (head - brought).abs().max() > 0.3, "weights as wide as these move less in so few steps"
        if job is jobs[2]:
            assert "positive" not in (folder / "config.json").read_text()


def scored(folder: Path, **changes: Any) -> list[float]:
    declared = {"id": "c", "backend": "checkpoint", "base": "b", "precision": "fp32", **changes}
    model = CheckpointModel.model_validate(declared, strict=False)
    made = load(model, ModelInputs(None, 32, folder, None, (), (), converted_dir=folder.with_name("converted")))
    return [float(score) for score in made.predict(TEXTS, lambda units, note: None).scores]


TEXTS = ["the phone is great", "it is broken", "the manual is awful and the cable is bad and noisy", "fine"]


def by_transformers(folder: Path, positive: int = 1) -> list[float]:
    """One text at a time."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        logits = [model(**tokenizer(text, return_tensors="pt")).logits[0].double() for text in TEXTS]
    return [float(torch.softmax(one, 0)[positive]) for one in logits]


@pytest.fixture
def finished(tiny_base: Path, tmp_path: Path) -> Path:
    """A copy of the finished classifier, to be changed."""
    return Path(shutil.copytree(finished_beside(tiny_base), tmp_path / "changed"))


def config(folder: Path, **changes: Any) -> None:
    values = json.loads((folder / "config.json").read_text())
    values |= changes
    (folder / "config.json").write_text(json.dumps({name: one for name, one in values.items() if one is not None}))


def test_a_finished_classifier_answers_as_in_transformers(finished: Path) -> None:
    expected = by_transformers(finished)
    assert len(set(np.round(expected, 6))) == len(TEXTS)
    np.testing.assert_allclose(scored(finished), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("names", "positive"),
    [(("POS", "NEG"), 0), (("non-positive", "positive"), 1), (("negative", "not_negative"), 1), (("pos", "unpos"), 0)],
)
def test_outputs_are_read_by_their_plain_names(finished: Path, names: tuple[str, str], positive: int) -> None:
    config(finished, id2label=dict(enumerate(names)), label2id=None)
    np.testing.assert_allclose(scored(finished), by_transformers(finished, positive), atol=1e-5)


def test_outputs_without_plain_names_are_scored_as_declared_and_not_guessed(finished: Path) -> None:
    config(finished, id2label=None, label2id=None)
    with pytest.raises(RunError, match=r"does not plainly say .* 'LABEL_0', 'LABEL_1' .*; declare labels = "):
        scored(finished)
    for positive in (0, 1):
        labels = {"negative": [f"LABEL_{1 - positive}"], "positive": [f"LABEL_{positive}"]}
        np.testing.assert_allclose(scored(finished, labels=labels), by_transformers(finished, positive), atol=1e-5)
    with pytest.raises(
        RunError, match="has the outputs 'LABEL_0', 'LABEL_1', but labels of model 'c' names 'no', 'yes'; name each"
    ):
        scored(finished, labels={"negative": ["no"], "positive": ["yes"]})


def test_other_classifiers_are_refused_by_what_they_are(finished: Path, tiny_base: Path) -> None:
    with pytest.raises(RunError, match=r"weights on disk differ from .* classifier.bias, .*; the checkpoint has no"):
        scored(tiny_base, labels={"negative": ["LABEL_0"], "positive": ["LABEL_1"]})
    config(finished, problem_type="multi_label_classification")
    with pytest.raises(AdapterError, match="problem_type is 'multi_label_classification'"):
        scored(finished)
    config(finished, problem_type=None, id2label={"0": "bad", "1": "fair", "2": "good"}, label2id=None)
    with pytest.raises(
        RunError, match=r"outputs 'bad', 'fair', 'good' .* negative = \[\"bad\"\], positive = \[\"good\"\]"
    ):
        scored(finished)


def classifier_with(tiny_base: Path, folder: Path, outputs: int, **changes: Any) -> Path:
    """A finished classifier with so many outputs on the tiny base."""
    shutil.copytree(tiny_base, folder)
    torch.manual_seed(outputs)
    made: Any = AutoModelForSequenceClassification.from_pretrained(tiny_base, num_labels=outputs)
    with torch.no_grad():
        made.classifier.weight.normal_(0, 0.4)
    made.save_pretrained(folder)
    config(folder, **changes)
    return folder


def logits_of(folder: Path) -> torch.Tensor:
    """Logits by transformers, one text at a time, shape (texts, outputs)."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        return torch.cat([model(**tokenizer(text, return_tensors="pt")).logits.double() for text in TEXTS])


STARS = ["1 star", "2 stars", "3 stars", "4 stars", "5 stars"]


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_stars_are_read_as_the_probability_of_positive_given_that_a_text_is_not_neutral(
    tiny_base: Path, tmp_path: Path, runtime: str
) -> None:
    folder = classifier_with(tiny_base, tmp_path / "stars", 5, id2label=dict(enumerate(STARS)), label2id=None)
    p = torch.softmax(logits_of(folder), dim=1)
    expected = (p[:, 3] + p[:, 4]) / (1 - p[:, 2])
    found = scored(folder, labels={"negative": STARS[:2], "positive": STARS[3:]}, runtime=runtime)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    turned = scored(folder, labels={"negative": STARS[3:], "positive": STARS[:2]}, runtime=runtime)
    np.testing.assert_allclose(turned, 1 - expected.numpy(), atol=1e-5)


def test_of_three_outputs_the_one_that_no_class_names_is_left_out(tiny_base: Path, tmp_path: Path) -> None:
    folder = classifier_with(tiny_base, tmp_path / "three", 3)
    p = torch.softmax(logits_of(folder), dim=1)
    found = scored(folder, labels={"negative": ["LABEL_0"], "positive": ["LABEL_2"]})
    np.testing.assert_allclose(found, (p[:, 2] / (p[:, 0] + p[:, 2])).numpy(), atol=1e-5)


def test_a_single_output_is_log_odds_or_a_number_with_a_midpoint(tiny_base: Path, tmp_path: Path) -> None:
    folder, alone = classifier_with(tiny_base, tmp_path / "one", 1), {"negative": [], "positive": ["LABEL_0"]}
    value = logits_of(folder)[:, 0]
    np.testing.assert_allclose(scored(folder, labels=alone), torch.sigmoid(value).numpy(), atol=1e-5)
    with pytest.raises(RunError, match=r"does not plainly say .* negative = \[\], positive = \[\"LABEL_0\"\]"):
        scored(folder)
    config(folder, problem_type="regression")
    with pytest.raises(RunError, match=r"gives a number .* midpoint = 3.0"):
        scored(folder, labels=alone)
    found = scored(folder, labels=alone | {"midpoint": 0.25})
    np.testing.assert_allclose(found, torch.sigmoid(value - 0.25).numpy(), atol=1e-5)


def test_labels_that_do_not_fit_the_number_of_outputs_are_refused(tiny_base: Path, tmp_path: Path) -> None:
    one = classifier_with(tiny_base, tmp_path / "one", 1)
    three = classifier_with(tiny_base, tmp_path / "three", 3)
    for folder, labels in (
        (one, {"negative": ["LABEL_0"], "positive": ["LABEL_1"]}),
        (three, {"negative": [], "positive": ["LABEL_2"]}),
        (three, {"negative": ["LABEL_0"], "positive": ["LABEL_3"]}),
    ):
        with pytest.raises(RunError, match="but labels of model 'c' names"):
            scored(folder, labels=labels)


def test_a_checkpoint_with_a_tensor_that_is_not_live_is_never_scored(finished: Path) -> None:
    tensors = load_file(finished / "model.safetensors")
    save_file(tensors | {"stray": torch.ones(2)}, finished / "model.safetensors", {"format": "pt"})
    with pytest.raises(RunError, match="weights on disk differ from the loaded model's: stray"):
        scored(finished)


def test_the_base_and_the_labels_are_part_of_the_key_and_the_board_calls_it_trained(
    harness: Command, suite_path: Path, tmp_path: Path
) -> None:
    only = ("evaluate", suite_path, "--workers", "1", "--model", "finished")
    first = harness(*only)
    assert first.code == 0, first.err
    assert "finished on test: what base 'finished' was trained on is unknown" in first.err
    assert "scored 0, already stored 1" in harness(*only).err
    text = suite_path.read_text()
    with_labels = 'base = "finished"\nlabels = { negative = ["negative"], positive = ["positive"] }\nprecision'
    suite_path.write_text(text.replace('base = "finished"\nprecision', with_labels))
    assert "scored 1, already stored 0" in harness(*only).err
    assert harness("site", suite_path, "--out", tmp_path / "site").code == 0
    page = (tmp_path / "site" / "made-up" / "finished.html").read_text()
    assert "trained checkpoint" in page
    assert "untrained" not in page.partition("<main")[2].partition("</main")[0]


def test_a_finished_classifier_declared_as_an_untrained_head_fails_and_the_others_go_on(
    harness: Command, suite_path: Path
) -> None:
    text = suite_path.read_text()
    suite_path.write_text(text.replace('base = "tiny"\nseeds = [1, 2]', 'base = "finished"\nseeds = [1, 2]'))
    result = harness("evaluate", suite_path, "--workers", "1", "--model", "untrained", "--model", "majority")
    assert result.code == 3
    assert "scored 1, already stored 0, failed 2" in result.err
    assert "brings a trained head (classifier.weight, classifier.bias)" in result.err


PLAIN = [
    ("positive", 1), ("POS", 1), ("Negative", 0), ("neg", 0), ("LABEL_positive", 1), ("very negative", 0),
    ("non-positive", 0), ("not_negative", 1), ("unpositive", 0), ("NonNegative", 1), ("not positive", 0),
    ("not unpositive", 1), ("LABEL_0", None), ("1 star", None), ("deposit", None), ("opposite", None),
    ("negotiable", None), ("positive or neutral", None), ("", None), ("positif", None), ("no", None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "expected"), PLAIN)
def test_a_labels_name_says_a_class_only_where_it_does_so_plainly(name: str, expected: int | None) -> None:
    assert polarity(name) == expected


@pytest.mark.parametrize(
    ("names", "turned"),
    [
        (("negative", "positive"), False),
        (("non-positive", "positive"), False),
        (("negative", "non_negative"), False),
        (("positive", "negative"), True),
        (("positive", "not positive"), True),
        (("other", "negative"), True),
        (("positive", "positive"), False),
        (("deposit", "other"), False),
        (("5 stars", "1 star"), False),
    ],
)
def test_labels_are_called_turned_only_where_their_names_say_so(
    tmp_path: Path, names: tuple[str, str], turned: bool
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"id2label": dict(enumerate(names))}))
    if turned:
        with pytest.raises(AdapterError, match="the labels the other way round"):
            adapter_files.check_labels(tmp_path)
    else:
        adapter_files.check_labels(tmp_path)


@pytest.mark.parametrize(
    ("kind", "room"),
    [("bert", 66), ("roberta", 64), ("distilbert", 66), ("gpt2", 66), ("bart", 66), ("bloom", None), ("qwen2", None)],
)
def test_texts_that_are_longer_than_a_networks_positions_are_refused_with_the_number_that_fits(
    kind: str, room: int | None, tmp_path: Path
) -> None:
    classifier_of(kind, tmp_path)
    network: Any = untrained(tmp_path, 1).eval()
    network.config.pad_token_id = network.config.pad_token_id or 0
    assert positions(network) == room
    check_positions(network, room or 10_000)
    ids = torch.full((1, room or 80), 5)
    if kind == "bart":
        ids[:, -1] = network.config.eos_token_id  # it answers at its place
    network(input_ids=ids, attention_mask=torch.ones_like(ids))
    if room is not None:
        with pytest.raises(RunError, match=f"text.max_length {room + 1} exceeds .*; set text.max_length to {room}"):
            check_positions(network, room + 1)
        ids = torch.cat([torch.full((1, 1), 5), ids], dim=1)
        with pytest.raises((IndexError, RuntimeError)):
            network(input_ids=ids, attention_mask=torch.ones_like(ids))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["deberta-v2", "bloom", "roberta"])
def test_bases_of_other_kinds_train_and_are_scored(
    harness: Command, suite_path: Path, tiny_base: Path, tmp_path: Path, kind: str
) -> None:
    """DeBERTa-v2 has no sdpa kernel; BLOOM has no number of positions; RoBERTa's are two fewer than its configuration
    says."""
    classifier_of(kind, tmp_path / "made")
    folder = suite_path.parent / "another"
    shutil.copytree(tiny_base, folder, ignore=shutil.ignore_patterns("config.json", "model.safetensors"))
    for name in ("config.json", "model.safetensors"):
        shutil.copy(tmp_path / "made" / "bare" / name, folder / name)
    text = suite_path.read_text()
    targets = {"deberta-v2": "query_proj", "bloom": "query_key_value", "roberta": "query"}[kind]
    text = text.replace('"query", "value"', f'"{targets}"').replace("seeds = [1, 2]", "seeds = [1]")
    text = text.replace(str(tiny_base) + '"', 'another"')
    text = text.replace(digest.of_file(tiny_base / "model.safetensors"), digest.of_file(folder / "model.safetensors"))
    suite_path.write_text(text)
    models = [word for name in ("tiny+lora", "untrained", "probe") for word in ("--model", name)]
    result = harness("evaluate", suite_path, "--workers", "1", *models)
    assert result.code == 0, result.err
    assert "scored 3" in result.err


def test_the_attention_kernel_is_one_that_the_architecture_has(tmp_path: Path) -> None:
    for kind, expected in (("bert", "sdpa"), ("deberta-v2", "eager")):
        classifier_of(kind, tmp_path / kind)
        assert kernel(tmp_path / kind) == expected
        assert untrained(tmp_path / kind, 1).config._attn_implementation == expected  # type: ignore[union-attr]
        assert kernel(tmp_path / kind, "eager") == "eager"
