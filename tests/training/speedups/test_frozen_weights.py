"""Frozen weights that are rounded once: bit-identical to autocast's, and nothing left behind."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.profiler import ProfilerActivity, profile

from harness.models.encoding import Encoded
from harness.models.peft import without_known_warnings
from harness.models.tokens import PROBE_TEXTS
from harness.models.transformer import untrained
from harness.training.speedups import frozen_weights


@pytest.fixture
def network(tiny_base: Path) -> Iterator[Any]:
    """A LoRA without dropout, in which B is not 0 any more."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        how = LoraConfig(task_type="SEQ_CLS", r=3, target_modules=["query", "dense"], lora_dropout=0.0)
        with without_known_warnings():
            made = get_peft_model(untrained(tiny_base, seed=1, attention="eager"), how)
        for name, parameter in made.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
        yield made.eval()


def step(network: Any, batch: dict[str, torch.Tensor], *, bf16: bool) -> dict[str, torch.Tensor]:
    """The logits, and the gradients of all trainable parameters."""
    network.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        logits = network(**batch).logits.float()
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor([1, 0, 1, 0]))
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    gradients = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    return {"logits": logits.detach(), **gradients}


@pytest.fixture
def batch(tiny_base: Path) -> dict[str, torch.Tensor]:
    return Encoded(tiny_base, PROBE_TEXTS, max_length=32).for_network(untrained(tiny_base, 1)).batch(range(4))


@pytest.mark.parametrize("bf16", [True, False])
def test_answers_and_gradients_are_the_same_bits(network: Any, batch: dict[str, torch.Tensor], bf16: bool) -> None:
    before = step(network, batch, bf16=bf16)
    with frozen_weights.once(network):
        within = step(network, batch, bf16=bf16)
    after = step(network, batch, bf16=bf16)
    assert len(before) > 8
    for name, expected in before.items():
        assert expected.abs().sum() > 0, name
        assert torch.equal(within[name], expected), name
        assert torch.equal(after[name], expected), name
    assert not [module for module in network.modules() if "forward" in vars(module)]


def converted(network: Any, batch: dict[str, torch.Tensor], *, once: bool) -> list[torch.Size]:
    """Shapes of what a pass converts from one type to another."""
    with (
        frozen_weights.once(network) if once else nullcontext(),
        torch.autocast("cpu", torch.bfloat16),
        profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiled,
    ):
        network(**batch)
    return [torch.Size(event.input_shapes[0]) for event in profiled.events() if event.name == "aten::_to_copy"]


def test_no_pass_rounds_the_weights_of_the_base_or_widens_what_a_lora_is_given(
    network: Any, batch: dict[str, torch.Tensor]
) -> None:
    linears = [one for name, one in network.named_modules() if "encoder." in name and type(one) is torch.nn.Linear]
    frozen = [module.weight.shape for module in linears if not module.weight.requires_grad]
    as_it_is, once = (converted(network, batch, once=once) for once in (False, True))
    assert len([shape for shape in as_it_is if shape in frozen]) >= len(frozen) > 8
    assert not [shape for shape in once if shape in frozen]
    texts_and_tokens = batch["input_ids"].shape
    wide_before, wide_after = (sum(shape[:2] == texts_and_tokens for shape in told) for told in (as_it_is, once))
    n_lora = sum("encoder." in name and name.endswith("lora_A") for name, _ in network.named_modules())
    assert wide_before - wide_after >= n_lora > 0


def test_weights_that_train_are_left_alone(tiny_base: Path, batch: dict[str, torch.Tensor]) -> None:
    full = untrained(tiny_base, seed=1, attention="eager").eval()
    with frozen_weights.once(full):
        assert not [module for module in full.modules() if "forward" in vars(module)]
        first = step(full, batch, bf16=True)["logits"]
        with torch.no_grad():
            for parameter in full.parameters():
                parameter.add_(0.01)
        assert not torch.equal(step(full, batch, bf16=True)["logits"], first)
