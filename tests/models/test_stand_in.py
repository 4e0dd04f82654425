"""Networks on an accelerator: the same numbers as on the processor, and nothing left behind there."""

import itertools
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertForMaskedLM, LlamaConfig, LlamaForCausalLM

from harness import models
from harness.errors import TrainingError
from harness.models import device, language_model, own_format, speedups, transformer
from harness.models.classifier import ModelInputs, PromptInputs, Solved
from harness.progress import silent
from harness.suite.prompts import LabelWords, Prompt, PromptModel
from harness.suite.schema import CheckpointModel, PeftModel, ProbeModel, TransformerModel
from harness.suite.text import Text
from harness.training import card
from harness.training.checkpoint import Pace
from harness.training.plan import TrainingJob
from harness.training.train import train
from tests import language_models, stand_in
from tests.fixtures import BAD, GOOD, THINGS, finished_beside, without_dropout
from tests.models.test_own_format import in_format
from tests.stand_in import KINDS, isolated

CLOSE = 1e-5
ALLOWED = {"fp32": CLOSE, "bf16": 0.15}  # the attention kernel of a device rounds to bf16 in other places
WORDS = {
    "one token": LabelWords(negative=("bad",), positive=("good",)),
    "longer": LabelWords(negative=("very bad",), positive=("really good",)),
}


def texts(n: int = 24) -> list[str]:
    """Reviews of very different lengths."""
    generator = np.random.default_rng(1)
    words = [*GOOD, *BAD, *THINGS, "is", "the"]
    return [" ".join(generator.choice(words, size=generator.integers(1, 25))) for _ in range(n)]


def scores(model: Any, inputs: ModelInputs, kind: str) -> Any:
    """Scores of some texts by a model that is loaded onto a device as a suite would load it."""
    with speedups.without("first_token", "shared_layers"):  # an accelerator has none of them
        classifier = models.load(model, replace(inputs, device=kind))
    given: list[Any] = [Text(template="{content}", max_length=32).render("", text) for text in texts()]
    found = classifier.predict(given, lambda units, note: None).scores
    network = next((n for n in (getattr(classifier, a, None) for a in ("model", "encoder")) if n is not None), None)
    network = network if network is not None else classifier.asked.network  # type: ignore[attr-defined]
    assert device.of(network).type == kind
    return found


def check_alike(model: Any, inputs: ModelInputs, kind: str, allowed: float = CLOSE) -> None:
    """Check that a device gives the processor's scores, which differ from text to text."""
    expected = scores(model, inputs, device.PROCESSOR)
    assert np.ptp(expected) > 1e-3
    difference = np.abs(scores(model, inputs, kind) - expected).max()
    assert difference <= allowed, difference


def inputs_on(base: Path, **more: Any) -> ModelInputs:
    fields: dict[str, Any] = {"seed": 1, "max_length": 32, "base_dir": base, "adapter_dir": None}
    return ModelInputs(**{**fields, "train_texts": (), "train_labels": (), **more})


def untrained(precision: Any = "fp32") -> TransformerModel:
    return TransformerModel(id="m", backend="transformer", base="b", seeds=(1,), precision=precision)


def plain(job: TrainingJob, tmp_path: Path) -> TrainingJob:
    """A short training without anything random but its order."""
    how = job.adapter.train.model_copy(update={"epochs": 2})
    job = replace(job, adapter=job.adapter.model_copy(update={"train": how}))
    return without_dropout(job, tmp_path / "without-dropout")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@isolated
def test_an_encoder_with_a_head_scores_as_on_the_processor(kind: str, precision: str, tiny_base: Path) -> None:
    check_alike(untrained(precision), inputs_on(tiny_base), kind, ALLOWED[precision])


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_a_decoder_with_a_head_scores_as_on_the_processor(kind: str, tmp_path: Path) -> None:
    check_alike(untrained(), inputs_on(language_models.save(tmp_path / "base", "llama")), kind)


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_a_probe_scores_as_on_the_processor(kind: str, tiny_base: Path) -> None:
    rows = texts(40)
    labels = [i % 2 for i in range(40)]
    model = ProbeModel(id="m", backend="probe", base="b", train_split="t", C=1.0, precision="fp32")
    check_alike(model, inputs_on(tiny_base, seed=None, train_texts=rows, train_labels=labels), kind)


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_a_checkpoint_scores_as_on_the_processor(kind: str, tiny_base: Path) -> None:
    model = CheckpointModel(id="m", backend="checkpoint", base="b", precision="fp32")
    check_alike(model, inputs_on(finished_beside(tiny_base), seed=None), kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
@isolated
def test_a_prompt_with_a_shared_beginning_scores_as_on_the_processor(
    kind: str, words: str, family: str, tmp_path: Path
) -> None:
    model, inputs = prompted(language_models.save(tmp_path / "base", family), WORDS[words])
    expected = scores(model, inputs, device.PROCESSOR)
    classifier: Any = models.load(model, replace(inputs, device=kind))
    assert len(classifier.asked.prefix) >= 24
    assert classifier.asked.shares
    assert np.abs(scores(model, inputs, kind) - expected).max() <= CLOSE


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("config", [{}, {"attention_bias": True, "mlp_bias": True}], ids=["plain", "biased"])
@isolated
def test_a_base_in_bfloat16_is_asked_as_it_is(kind: str, config: dict[str, Any], tmp_path: Path) -> None:
    folder = language_models.save(tmp_path / "base", "llama")
    described: Any = LlamaConfig
    network: Any = LlamaForCausalLM(described.from_pretrained(folder, **config))
    network.save_pretrained(folder)
    language_model.causal(folder).to(torch.bfloat16).save_pretrained(folder)
    model, inputs = prompted(folder, WORDS["longer"])
    check_alike(model.model_copy(update={"precision": "bf16"}), inputs, kind, ALLOWED["bf16"])


def prompted(base: Path, words: LabelWords) -> tuple[PromptModel, ModelInputs]:
    shots = tuple(Solved("", f"the {THINGS[i]} is {(BAD, GOOD)[i % 2][i % 6]}", i % 2) for i in range(4))
    asked = Prompt(id="p", template="the review : {{ content }} the answer :", label_words=words)
    model = PromptModel(id="m", backend="prompt", base="b", task="causal_lm", prompts=("p",), precision="fp32")
    return model, inputs_on(base, max_length=64, prompt=PromptInputs(asked, shots, ()))


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_a_masked_language_model_scores_as_on_the_processor(kind: str, tiny_base: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    folder = tmp_path / "base"
    shutil.copytree(tiny_base, folder)
    network: Any = BertForMaskedLM
    network(network.config_class.from_pretrained(tiny_base)).save_pretrained(folder)
    words = LabelWords(negative=("bad",), positive=("solid",))
    asked = Prompt(id="p", template="{{ content }} is", label_words=words, after_word=" .")
    model = PromptModel(id="m", backend="prompt", base="b", task="masked_lm", prompts=("p",), precision="fp32")
    check_alike(model, inputs_on(folder, prompt=PromptInputs(asked, (), ())), kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["lora", "full"])
@isolated
def test_training_gives_the_weights_of_the_processor(
    kind: str, method: str, jobs: list[TrainingJob], tmp_path: Path
) -> None:
    job = plain(jobs[{"lora": 0, "full": 2}[method]], tmp_path)
    folders = [train(replace(job, device=one, folder=tmp_path / one), silent) for one in (device.PROCESSOR, kind)]
    before, after = (card.read(folder).card["probe_scores"] for folder in folders)
    assert np.abs(np.array(before) - np.array(after)).max() <= CLOSE
    assert np.ptp(before) > 1e-3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@isolated
def test_a_trained_adapter_scores_merged_and_rounded(
    kind: str, precision: Any, jobs: list[TrainingJob], tmp_path: Path
) -> None:
    job = plain(jobs[0], tmp_path)
    folder = train(replace(job, device=kind, folder=tmp_path / "adapter"), silent)
    model = PeftModel(id="m", backend="peft", adapter="lora", precision=precision)
    check_alike(model, inputs_on(job.base.folder, adapter_dir=folder), kind, ALLOWED[precision])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@isolated
def test_weights_that_are_kept_in_bfloat16_score_and_train_as_on_the_processor(
    kind: str, precision: Any, jobs: list[TrainingJob], tmp_path: Path
) -> None:
    job = plain(jobs[0], tmp_path)
    in_format(job.base.folder, torch.bfloat16)
    assert own_format.is_kept(transformer.untrained(job.base.folder, seed=1))
    check_alike(untrained(precision), inputs_on(job.base.folder), kind, ALLOWED[precision])
    folders = [train(replace(job, device=one, folder=tmp_path / one), silent) for one in (device.PROCESSOR, kind)]
    before, after = (card.read(folder).card["probe_scores"] for folder in folders)
    assert np.abs(np.array(before) - np.array(after)).max() <= CLOSE
    assert np.ptp(before) > 1e-3
    model = PeftModel(id="m", backend="peft", adapter="lora", precision=precision)
    check_alike(model, inputs_on(job.base.folder, adapter_dir=folders[1]), kind, ALLOWED[precision])


ADALORA = {"init_r": 6, "target_r": 4, "tinit": 2, "tfinal": 4, "target_modules": ["query", "value"]}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("method", "params"), [("lora", None), ("adalora", ADALORA)], ids=["lora", "adalora"])
@isolated
def test_a_training_goes_on_from_its_checkpoint(
    kind: str, method: str, params: dict[str, Any] | None, jobs: list[TrainingJob], tmp_path: Path
) -> None:
    job = replace(plain(jobs[0], tmp_path), device=kind)
    if params is not None:
        adapter = job.adapter.model_copy(update={"method": method, "params": params})
        job = replace(job, adapter=adapter)
    whole = train(replace(job, folder=tmp_path / "whole"), silent)
    halfway = replace(job, folder=tmp_path / "halfway")
    with pytest.raises(KeyboardInterrupt):
        train(halfway, after_a_step(interrupted, 7), Pace(seconds=0.0, share=1.0))
    resumed = card.read(train(halfway, silent)).card
    assert resumed["resumed"] == 1
    expected = card.read(whole).card["probe_scores"]
    assert np.abs(np.array(resumed["probe_scores"]) - np.array(expected)).max() <= CLOSE


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@isolated
def test_a_training_does_not_wait_for_the_device_in_each_step(
    precision: str, jobs: list[TrainingJob], tmp_path: Path
) -> None:
    job = replace(plain(jobs[0], tmp_path), device=stand_in.NAME, precision=precision)
    reads: list[int] = []

    @contextmanager
    def progress(label: str, total: int) -> Any:
        yield lambda units, note: reads.append(stand_in.reads())

    made = card.read(train(replace(job, folder=tmp_path / "unread"), progress, Pace(seconds=3600))).card
    steps, epochs = len(made["curve"]), job.adapter.train.epochs
    assert [row[0] for row in made["curve"]] == list(range(1, steps + 1))
    waited = sum(later > earlier for earlier, later in itertools.pairwise(reads))
    assert reads[-1] > 0
    assert waited <= steps // device.STEPS_UNREAD + epochs < steps // 2, (waited, steps, epochs)


def after_a_step(happens: Callable[[], None], steps: int = 1) -> Any:
    """Progress during which something happens."""

    @contextmanager
    def progress(label: str, total: int) -> Any:
        seen = 0

        def advance(units: int, note: str) -> None:
            nonlocal seen
            seen += units
            if seen == steps:
                happens()

        yield advance

    return progress


def interrupted() -> None:
    raise KeyboardInterrupt


@isolated
def test_where_memory_does_not_suffice_a_step_is_taken_again_with_smaller_passes(
    jobs: list[TrainingJob], tmp_path: Path
) -> None:
    job = replace(plain(jobs[0], tmp_path), device=stand_in.NAME)
    whole = card.read(train(replace(job, folder=tmp_path / "whole"), silent)).card
    stand_in.limit(9000)  # of the batches, 16 texts of about 10 tokens, the feed-forward layer's output is larger
    halved = card.read(train(replace(job, folder=tmp_path / "halved"), silent)).card
    assert 0 < stand_in.refused() < 10
    assert np.abs(np.array(whole["probe_scores"]) - np.array(halved["probe_scores"])).max() <= CLOSE
    assert [row[0] for row in whole["curve"]] == [row[0] for row in halved["curve"]]


@isolated
def test_a_training_whose_text_does_not_fit_into_memory_says_what_helps(
    jobs: list[TrainingJob], tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=r"suffice for one text of \d+ tokens at step 2 of \d+; set gradient_check"):
        train(replace(jobs[0], device=stand_in.NAME, folder=tmp_path / "lora"), after_a_step(full))


def full() -> None:
    stand_in.limit(10)


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_training_in_fp16_scales_its_losses_and_goes_on_from_a_checkpoint(
    kind: str, jobs: list[TrainingJob], tmp_path: Path
) -> None:
    job = replace(plain(jobs[0], tmp_path), device=kind, precision="fp16")
    whole = card.read(train(replace(job, folder=tmp_path / "whole"), silent)).card
    halfway = replace(job, folder=tmp_path / "halfway")
    with pytest.raises(KeyboardInterrupt):
        train(halfway, after_a_step(interrupted, 7), Pace(seconds=0.0, share=1.0))
    resumed = card.read(train(halfway, silent)).card
    assert np.abs(np.array(resumed["probe_scores"]) - np.array(whole["probe_scores"])).max() <= CLOSE
    in_fp32 = card.read(train(replace(job, precision="fp32", folder=tmp_path / "fp32"), silent)).card
    assert np.abs(np.array(in_fp32["probe_scores"]) - np.array(whole["probe_scores"])).max() <= 0.05


@pytest.mark.parametrize("kind", [device.PROCESSOR, *KINDS])
@isolated
def test_activations_that_are_computed_again_give_the_same_weights(
    kind: str, jobs: list[TrainingJob], tmp_path: Path
) -> None:
    job = replace(plain(jobs[0], tmp_path), device=kind)
    how = job.adapter.train.model_copy(update={"gradient_checkpointing": True})
    again = replace(job, adapter=job.adapter.model_copy(update={"train": how}), folder=tmp_path / "again")
    found = [card.read(train(one, silent)).card for one in (replace(job, folder=tmp_path / "kept"), again)]
    assert np.abs(np.array(found[0]["probe_scores"]) - np.array(found[1]["probe_scores"])).max() <= CLOSE
    assert [one["train"].get("gradient_checkpointing") for one in found] == [None, True]


@isolated
def test_where_memory_does_not_suffice_batches_are_halved_and_the_scores_stay(tiny_base: Path) -> None:
    inputs = replace(inputs_on(tiny_base), device=stand_in.NAME)
    classifier = models.load(untrained(), inputs)
    whole = classifier.predict(texts(), lambda units, note: None).scores
    stand_in.limit(64 * 64)
    halved = classifier.predict(texts(), lambda units, note: None).scores
    assert stand_in.refused() > 0
    assert np.abs(whole - halved).max() <= CLOSE


@isolated
def test_a_text_that_does_not_fit_into_memory_is_refused_by_its_length(tiny_base: Path) -> None:
    classifier = models.load(untrained(), replace(inputs_on(tiny_base), device=stand_in.NAME))
    stand_in.limit(10)
    with pytest.raises(Exception, match=r"does not suffice for one text of \d+ tokens; lower text\.max_length"):
        classifier.predict(texts(), lambda units, note: None)
