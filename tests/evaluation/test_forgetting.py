"""How far adapters move a real tiny BERT: of embeddings, and under a masked-language-model head where there is one."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertForPreTraining

from harness.artifacts import digest
from harness.engine import ENGINES
from harness.engine.scheduler import complete
from harness.evaluation import evaluate, forgetting
from harness.evaluation.inputs import Workspace, gather
from harness.evaluation.plan import plan
from harness.evaluation.scoring import Job
from harness.models import encoder
from harness.progress import silent
from harness.store import reader
from harness.store.connection import opened
from harness.suite.load import load
from harness.training import plan as training_plan
from harness.training.train import train

pytestmark = pytest.mark.slow

Command = Callable[..., Any]
TEXTS = ["the phone is great", "it is broken", "the manual is awful and the cable is bad and noisy", ""]


@pytest.fixture
def base_with_head(tiny_base: Path, tmp_path: Path) -> Path:
    """The tiny BERT, saved with a masked-language-model head."""
    config = BertConfig.from_pretrained(tiny_base)
    torch.manual_seed(3)
    folder = tmp_path / "with-head"
    shutil.copytree(tiny_base, folder)
    BertForPreTraining(config).save_pretrained(folder)  # a pooler and the head, as BERT was published
    return folder


@pytest.fixture
def lora(configured: Any, suite_path: Path, tmp_path: Path) -> tuple[Workspace, list[Job]]:
    """The made-up suite's LoRA with its first seed, trained; and what there is to score with it."""
    declared, workspace = load(suite_path), Workspace(suite_path, tmp_path / "runs" / "x.duckdb")
    materials = gather(declared, workspace)
    train(training_plan.jobs(declared, materials.splits, materials.bases, workspace.adapters)[0], silent)
    jobs = plan(declared, materials, workspace, model_ids=["tiny+lora"])
    return workspace, [job for job in jobs if job.seed == 1]


def test_an_evaluation_measures_each_adapter_once_and_a_second_one_none(
    harness: Command, suite_path: Path, tmp_path: Path
) -> None:
    assert harness("evaluate", suite_path, "--workers", "1").code == 0

    def stored() -> list[Any]:
        with opened(tmp_path / "runs" / "harness.duckdb", read_only=True) as connection:
            return connection.execute("SELECT * FROM forgetting ORDER BY ALL").fetchall()

    rows = stored()
    assert len({row[1] for row in rows}) == 3  # two seeds of LoRA, one of full fine-tuning
    assert {row[3] for row in rows} == {"similarity"}  # this base has no masked-language-model head
    assert all(-1 <= row[5] < row[4] < row[6] < 1 for row in rows)
    assert harness("evaluate", suite_path, "--workers", "1").code == 0
    assert stored() == rows


def test_a_base_that_is_compared_with_itself_has_not_moved(tiny_base: Path) -> None:
    base = encoder.base(tiny_base)
    texts = encoder.encoded(tiny_base, TEXTS, 32)
    states = [encoder.mean_states(base, texts, lambda units, note: None) for _ in range(2)]
    assert states[0].shape == (4, 32)
    assert forgetting.cosines(*states) == pytest.approx(np.ones(4))
    assert forgetting.cosines(states[0], -states[1]) == pytest.approx(-np.ones(4))


def test_mean_states_do_not_depend_on_what_else_is_in_the_batch(tiny_base: Path) -> None:
    base = encoder.base(tiny_base)
    together = encoder.mean_states(base, encoder.encoded(tiny_base, TEXTS, 32), lambda units, note: None)
    for text, state in zip(TEXTS, together, strict=True):
        alone = encoder.mean_states(base, encoder.encoded(tiny_base, [text], 32), lambda units, note: None)
        assert alone[0] == pytest.approx(state, abs=1e-5)


def test_a_share_of_the_tokens_is_hidden_and_never_a_special_one(tiny_base: Path) -> None:
    texts = encoder.encoded(tiny_base, TEXTS, 32)
    before = [ids[:] for ids in texts.ids]
    masked = encoder.masked(texts, 0.3, np.random.default_rng(1))
    assert texts.ids == before
    assert [len(places) for places in masked.places] == [1, 1, 3, 0]  # 30 % of 4, 3, 10 and no words
    for ids, covered, places, hidden in zip(before, masked.encoded.ids, masked.places, masked.hidden, strict=True):
        assert all(0 < place < len(ids) - 1 for place in places)
        assert [ids[place] for place in places] == list(hidden)
        assert [i for i, token in enumerate(covered) if token == texts.tokenizer.mask_token_id] == list(places)
    again = encoder.masked(texts, 0.3, np.random.default_rng(1))
    assert again.places == masked.places


def test_the_masked_loss_is_the_one_that_transformers_computes(base_with_head: Path) -> None:
    base = encoder.base(base_with_head)
    model = encoder.language_model(base_with_head, base)
    masked = encoder.masked(encoder.encoded(base_with_head, TEXTS, 32), 0.3, np.random.default_rng(1))
    found = encoder.masked_losses(model, base, masked)
    assert np.isnan(found[3])
    whole: Any = BertForMaskedLM.from_pretrained(base_with_head)
    for i in range(3):
        labels = torch.full((1, len(masked.encoded.ids[i])), -100)
        labels[0, list(masked.places[i])] = torch.tensor(masked.hidden[i])
        with torch.inference_mode():
            expected = whole(input_ids=torch.tensor([list(masked.encoded.ids[i])]), labels=labels).loss
        assert found[i] == pytest.approx(float(expected), abs=1e-5)


def test_an_adapter_changes_the_masked_loss_of_a_base_that_has_the_head(
    tiny_base: Path, base_with_head: Path, suite_path: Path, configured: Any, tmp_path: Path
) -> None:
    text = suite_path.read_text()
    for old, new in (
        (f'"{tiny_base}"', f'"{base_with_head}"'),  # not the finished classifier beside it
        *(tuple(digest.of_file(base / "model.safetensors") for base in (tiny_base, base_with_head)),),
    ):
        text = text.replace(old, new)
    suite_path.write_text(text)
    declared, workspace = load(suite_path), Workspace(suite_path, tmp_path / "runs" / "x.duckdb")
    materials = gather(declared, workspace)
    train(training_plan.jobs(declared, materials.splits, materials.bases, workspace.adapters)[0], silent)
    jobs = [job for job in plan(declared, materials, workspace, model_ids=["tiny+lora"]) if job.seed == 1]
    (measurement,) = forgetting.wanted(jobs, set())
    found = {moved.name: moved for moved in forgetting.measure(measurement, silent)}
    assert list(found) == ["similarity", "mlm_loss_of_base", "mlm_loss"]
    assert found["mlm_loss"].value != found["mlm_loss_of_base"].value
    assert all(moved.ci_low is not None and moved.ci_low < moved.value for moved in found.values())


def test_what_is_known_is_not_measured_again_and_other_weights_are(lora: tuple[Workspace, list[Job]]) -> None:
    _, jobs = lora
    (measurement,) = forgetting.wanted([*jobs, *jobs], set())
    keys = [forgetting.key_of(job, job.adapter) for job in jobs if job.adapter is not None]
    assert [sample.key for sample in measurement.samples] == keys
    assert forgetting.wanted(jobs, set(keys)) == []


def test_an_adapter_that_cannot_be_loaded_is_said_and_nothing_is_stored(lora: tuple[Workspace, list[Job]]) -> None:
    workspace, jobs = lora
    assert jobs[0].ingredients.adapter_dir is not None
    (jobs[0].ingredients.adapter_dir / "adapter_model.safetensors").write_bytes(b"not tensors")
    with opened(workspace.db):
        pass
    with ENGINES["local"](1, silent) as map_unordered:
        measured = complete(map_unordered, lambda scheduler: evaluate.measure_forgetting(jobs, workspace, scheduler))
    ((adapter_digest, problem),) = measured
    assert jobs[0].adapter is not None
    assert adapter_digest == jobs[0].adapter.adapter_digest
    assert "forgetting of tiny+lora seed 1 is not known" in problem
    assert "damaged" in problem
    with opened(workspace.db, read_only=True) as connection:
        keys = [forgetting.key_of(job, job.adapter) for job in jobs if job.adapter is not None]
        assert keys
        assert reader.forgetting(connection, keys) == []
