"""Every PEFT type that the installed PEFT has, on a real tiny BERT: it trains and comes back as it was, or not at all.

A new PEFT type is tested the moment it exists: with the params of `PARAMS`, or none.
"""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from safetensors.torch import load_file

from harness.errors import TrainingError
from harness.evaluation.inputs import Workspace, gather
from harness.models.encoding import Encoded, forward_all
from harness.models.peft import prove_loaded, with_adapter, without_known_warnings
from harness.models.tokens import PROBE_TEXTS
from harness.models.transformer import trained, untrained
from harness.progress import silent
from harness.suite.load import load
from harness.suite.schema import WITHOUT_PEFT, Adapter
from harness.training import batching, card, loop, methods, plan, preflight, saving
from harness.training.checkpoint import Pace
from harness.training.determinism import deterministic
from harness.training.plan import TrainingJob
from harness.training.speedups import frozen_layers
from harness.training.train import train as train_loop

ROOT = Path(__file__).parents[2]
TUNED = json.loads((ROOT / "benchmarks" / "tuned.json").read_text())
TRIALS: dict[str, list[dict[str, float | None]]] = TUNED["trials"]
DIVERGED = {(name, trial["learning_rate"]) for name, trials in TUNED["diverged"].items() for trial in trials}
LINEAR = {"target_modules": ["query", "value"]}
PARAMS: dict[str, dict[str, Any]] = {
    "adalora": {"init_r": 6, "target_r": 4, "tinit": 2, "tfinal": 4},
    "adamss": {"r": 8, "num_subspaces": 2},
    "adaption_prompt": {"adapter_len": 4, "adapter_layers": 1},
    "bitfit": {},
    "boft": {"boft_block_size": 4},
    "c3a": {"block_size": 8},
    "cartridge": {"num_virtual_tokens": 4},
    "cpt": {"cpt_token_ids": [1, 2], "cpt_mask": [1, 1], "cpt_tokens_type_mask": [1, 2]},
    "fourierft": {"n_frequency": 64},
    "frod": {"progressbar": False},
    "full": {},
    "glora": {"config_D_E": "none"},  # which scale biases; this base's are all zero
    "gralora": {"r": 4, "gralora_k": 2},
    "head": {},
    "ia3": {"feedforward_modules": []},
    "lily": {"r": 4, "stride_A": 1, "num_B": 2},
    "ln_tuning": {"target_modules": ["LayerNorm"]},
    "miss": {"r": 4},
    "multitask_prompt_tuning": {"num_virtual_tokens": 4},
    "oft": {"oft_block_size": 8},
    "p_tuning": {"num_virtual_tokens": 4, "encoder_hidden_size": 16},
    "prefix_tuning": {"num_virtual_tokens": 4},
    "prompt_tuning": {"num_virtual_tokens": 4},
    "road": {"group_size": 8},
    "shira": {"r": 2},
    "trainable_tokens": {"token_indices": [5, 6]},
    "unilora": {"theta_d_length": 64},
    "vblora": {"vector_length": 8, "num_vectors": 16},
    "waveft": {"n_frequency": 64},
    "xlora": {"hidden_size": 32, "adapters": {}},
}
"""Params that a method needs on a base this small, besides `LINEAR` if it adds layers beside the linear ones."""
NO_LINEAR = {
    *WITHOUT_PEFT, "adaption_prompt", "cartridge", "cpt", "multitask_prompt_tuning", "p_tuning", "prefix_tuning",
    "prompt_tuning", "trainable_tokens", "xlora",
}  # fmt: skip
DO_NOT_FIT = {
    "adaption_prompt": "Unsupported model type for adaption prompt: 'bert'",
    "cpt": "CPTConfig only supports task_type = CAUSAL_LM",
    "multitask_prompt_tuning": "task_ids cannot be None",
    "poly": "task_ids should not be None",
    "shadow": "'ShadowCarrier' object has no attribute 'view'",
    "trainable_tokens": "does not train the head",
    "xlora": "params.adapters refers to code, files or models from elsewhere",
}
"""Reasons, in PEFT's words."""
TYPES = {kind.value.lower() for kind in PeftType if kind in PEFT_TYPE_TO_CONFIG_MAPPING}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "rslora": ("lora", {"r": 4, "use_rslora": True}),
    "dora": ("lora", {"r": 4, "use_dora": True}),
    "pissa": ("lora", {"r": 4, "init_lora_weights": "pissa"}),
    "pissa, rslora": ("lora", {"r": 4, "init_lora_weights": "pissa", "use_rslora": True}),
    "pissa, fast": ("lora", {"r": 4, "init_lora_weights": "pissa_niter_2"}),
    "olora": ("lora", {"r": 4, "init_lora_weights": "olora"}),
    "prefix, projected": (
        "prefix_tuning",
        {"num_virtual_tokens": 4, "prefix_projection": True, "encoder_hidden_size": 16},
    ),
}
FIT = sorted({*TYPES, *WITHOUT_PEFT} - {*DO_NOT_FIT, "lily"}) + list(VARIANTS)


@pytest.fixture
def lora(configured: Any, suite_path: Path, tmp_path: Path) -> TrainingJob:
    """The made-up suite's LoRA with seed 1."""
    suite, workspace = load(suite_path), Workspace(suite_path, tmp_path / "runs" / "x.duckdb")
    materials = gather(suite, workspace)
    return plan.jobs(suite, materials.splits, materials.bases, workspace.adapters)[0]


@pytest.fixture
def job(lora: TrainingJob, tmp_path: Path) -> Callable[[str], TrainingJob]:
    """A training by another method, for two epochs."""

    def made(name: str) -> TrainingJob:
        method, own = VARIANTS.get(name, (name, PARAMS.get(name, {})))
        params = own if method in NO_LINEAR else LINEAR | own
        train = lora.adapter.train.model_copy(update={"epochs": 2, "learning_rate": 2e-2})
        adapter = lora.adapter.model_copy(update={"method": method, "params": params, "train": train})
        return replace(lora, adapter=adapter, folder=tmp_path / "made", key=name)

    return made


def logits(network: Any, job: TrainingJob) -> torch.Tensor:
    """A network's scores for the probe texts and the training texts."""
    encoded = Encoded(job.base.folder, [*PROBE_TEXTS, *job.texts], job.max_length).for_network(network)
    return forward_all(encoded, lambda batch: network(**batch).logits, lambda units, note: None)


@pytest.mark.slow
@pytest.mark.parametrize("name", FIT)
def test_a_method_trains_saves_and_comes_back_to_the_bit(
    job: Callable[[str], TrainingJob], name: str, tmp_path: Path
) -> None:
    one = job(name)
    assert preflight.misfit(one) is None
    rows = batching.hold_out(one.split.examples, one.adapter.train, one.seed)
    with deterministic(one.seed):
        base = untrained(one.base.folder, one.seed)
        network = methods.apply(one.adapter, base, batching.steps(one.adapter.train, len(rows.trained))).train()
        drawn = methods.initial(network)
        encoded = Encoded(one.base.folder, one.texts, one.max_length)
        with without_known_warnings(), frozen_layers.run_once(network, encoded, tmp_path, "fp32") as below:
            loop.run(network, below, rows, one, tmp_path, silent, Pace())
        as_trained = logits(network.eval(), one)
        network = methods.settled(network, drawn, lambda: untrained(one.base.folder, 5)).eval()
    in_memory = logits(network, one)
    saving.save(network, tmp_path / "saved")
    if one.adapter.method in WITHOUT_PEFT:
        reloaded = trained(tmp_path / "saved").eval()
    else:
        reloaded = with_adapter(one.base.folder, tmp_path / "saved")
        prove_loaded(reloaded, tmp_path / "saved", one.base.folder)
    assert torch.equal(logits(reloaded, one), in_memory)
    # Converted, PiSSA and OLoRA sum the same products in another order, and AdaLoRA without its zeros.
    assert torch.allclose(as_trained, in_memory, rtol=0, atol=1e-4 if drawn or name == "adalora" else 0)
    assert not torch.equal(in_memory, logits(untrained(one.base.folder, one.seed).eval(), one))


def test_a_method_that_mixes_the_texts_of_a_batch_is_refused(job: Callable[[str], TrainingJob]) -> None:
    """Lily chooses its experts by a mean over all texts of a batch, and is refused before it is trained."""
    reason = preflight.misfit(job("lily"))
    assert reason is not None
    assert "a text's answer depends on the texts beside it in a batch" in reason


@pytest.mark.parametrize("name", sorted(DO_NOT_FIT))
def test_a_type_that_does_not_fit_is_refused_in_pefts_words(job: Callable[[str], TrainingJob], name: str) -> None:
    assert DO_NOT_FIT[name] in (preflight.misfit(job(name)) or "it fits now: take it off the list")


def test_every_listed_name_is_one_of_pefts_types() -> None:
    assert set(PARAMS) | NO_LINEAR | set(DO_NOT_FIT) <= TYPES | set(WITHOUT_PEFT)


@pytest.mark.parametrize(
    ("name", "params", "reason"),
    [
        ("lora", {"init_lora_weights": "eva"}, "'eva' needs a pass over data before training"),
        ("lora", {"init_lora_weights": "corda"}, "'corda' needs a pass over data before training"),
        ("lora", {"init_lora_weights": "pissa", "use_dora": True}, "'pissa' cannot be combined with use_dora"),
        ("lora", {"target_modules": ["q_lin"]}, "lora does not fit base 'tiny': No modules were targeted"),
        ("lora", {"rank": 8}, "rank"),
        ("adamss", {"use_asa": True}, "use_asa keeps importances outside the parameters"),
        ("prompt_tuning", {"num_virtual_tokens": 33}, "text.max_length 32 and 33 virtual tokens together exceed"),
        ("oft", {"oft_block_size": 7}, "oft does not fit base 'tiny'"),
        ("head", {"r": 8}, "method 'head' takes no params"),
        ("telepathy", {}, "there is no method 'telepathy'"),
    ],
)
@pytest.mark.filterwarnings("ignore:`init_lora_weights` is")  # PEFT's advice on configurations that are refused here
def test_what_cannot_work_is_refused_with_its_reason(
    job: Callable[[str], TrainingJob], name: str, params: dict[str, Any], reason: str
) -> None:
    one = job(name)
    adapter = one.adapter.model_copy(update={"params": {**one.adapter.params, **params}})
    assert reason in (preflight.misfit(replace(one, adapter=adapter)) or "")


def test_prompts_that_just_fit_the_positions_train(job: Callable[[str], TrainingJob]) -> None:
    one = job("prompt_tuning")
    adapter = one.adapter.model_copy(update={"params": {"num_virtual_tokens": 32}})
    assert preflight.misfit(replace(one, adapter=adapter)) is None


def test_the_command_refuses_all_that_cannot_work_at_once_and_trains_nothing(
    harness: Callable[..., Any], suite_path: Path, tmp_path: Path
) -> None:
    text = suite_path.read_text()
    text = text.replace('target_modules = ["query", "value"]', 'target_modules = ["q_lin"]')
    text = text.replace('method = "full"', 'method = "poly"').replace(
        "params = {}", 'params = { target_modules = ["query"] }'
    )
    text = text.replace('backend = "transformer"\nadapter', 'backend = "peft"\nadapter')
    suite_path.write_text(text)
    result = harness("train", suite_path)
    assert result.code == 2
    lines = result.err.strip().splitlines()
    assert [line.split(": ")[1] for line in lines] == ["adapter[0]", "adapter[1]"]
    assert "No modules were targeted" in lines[0]
    assert "task_ids" in lines[1]
    assert list((tmp_path / "runs").rglob("harness-card.json")) == []


def test_bitfit_trains_biases_and_head_and_the_head_alone_trains_alone(job: Callable[[str], TrainingJob]) -> None:
    base = untrained(job("head").base.folder, 1)
    names = {
        name: {n for n, p in methods.apply(job(name).adapter, base, 1).named_parameters() if p.requires_grad}
        for name in ("head", "bitfit", "full")
    }
    everything = {name for name, _ in base.named_parameters()}
    assert names["head"] == {"classifier.weight", "classifier.bias"}
    assert names["bitfit"] == {name for name in everything if name.endswith(".bias")} | names["head"]
    assert names["full"] == everything


def test_adalora_spends_its_ranks_as_its_schedule_says(job: Callable[[str], TrainingJob]) -> None:
    folder = train_loop(job("adalora"), silent)
    kept = [tensor for name, tensor in load_file(folder / "adapter_model.safetensors").items() if "lora_E" in name]
    assert len(kept) == 4  # query and value of two layers
    assert sum(int((tensor != 0).sum()) for tensor in kept) == 4 * 4  # target_r of each, on average


def test_a_converted_pissa_adapter_leaves_the_base_as_it_is(job: Callable[[str], TrainingJob]) -> None:
    one = job("pissa")
    record = card.read(train_loop(one, silent))
    network = with_adapter(one.base.folder, one.folder)
    plain = untrained(one.base.folder, 0).eval()
    batch = Encoded(one.base.folder, PROBE_TEXTS, 32).for_network(network).batch(range(4))
    with torch.inference_mode(), network.disable_adapter():
        switched_off = network(**batch, output_hidden_states=True).hidden_states[-1]
        assert torch.equal(switched_off, plain(**batch, output_hidden_states=True).hidden_states[-1])
    assert record.params["init_lora_weights"] == "pissa"  # the declaration, on the card
    assert network.active_peft_config.init_lora_weights is True  # the file's own configuration


@pytest.mark.filterwarnings("ignore:`path_initial_model_for_weight_conversion`")
def test_what_does_not_come_back_is_refused_after_training(job: Callable[[str], TrainingJob], tmp_path: Path) -> None:
    one = job("lora")
    folder = train_loop(one, silent)
    with pytest.raises(TrainingError, match="the saved weights do not answer as the trained ones"):
        saving.check_reloads(folder, one, [0.5] * len(PROBE_TEXTS))


def test_the_suite_of_methods_takes_the_best_of_the_tried_learning_rates() -> None:
    rates = {adapter.id: adapter.train.learning_rate for adapter in declared_methods()}
    tried = {
        adapter_id: {
            trial["loss"]: trial["learning_rate"]
            for trial in trials
            if trial["loss"] is not None and (adapter_id, trial["learning_rate"]) not in DIVERGED
        }
        for adapter_id, trials in TRIALS.items()
    }
    best = {adapter_id: by_loss[min(by_loss)] for adapter_id, by_loss in tried.items() if by_loss}
    assert best == {adapter_id: rates[adapter_id] for adapter_id in best}


def test_the_docs_have_every_method_of_the_suite_with_its_rate_and_trials() -> None:
    rows = re.findall(
        r"^\| `(\S+)` \| `(\w+)` \| (\S+) \| (\d+) \| ([\d,]+) \|$", (ROOT / "docs/adapters.md").read_text(), re.M
    )
    assert [(row[0], row[1], float(row[2]), int(row[3])) for row in rows] == [
        (adapter.id, adapter.method, adapter.train.learning_rate, len(TRIALS.get(adapter.id, [])))
        for adapter in declared_methods()
    ]


def test_every_adapter_whose_rate_is_from_the_sweep_states_its_trials_and_no_other_does() -> None:
    assert {adapter.id: adapter.trials for adapter in declared_methods()} == {
        adapter.id: len(TRIALS[adapter.id]) if adapter.id in TRIALS else None for adapter in declared_methods()
    }
    best = {adapter.id: (adapter.train.learning_rate, adapter.trials) for adapter in declared_methods()}
    elsewhere = load(ROOT / "suites" / "amazon-polarity-local.toml").trained_adapters
    assert {adapter.id: (adapter.train.learning_rate, adapter.trials) for adapter in elsewhere} == {
        adapter.id: best[adapter.id.removesuffix("-r8")] for adapter in elsewhere
    }


def declared_methods() -> list[Adapter]:
    """The adapters of suites/methods.toml."""
    return [adapter for adapter in load(ROOT / "suites" / "methods.toml").adapter if isinstance(adapter, Adapter)]
