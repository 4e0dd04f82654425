"""What forms of a model are held to, and what `auto` comes to: rules over plain numbers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import provenance
from harness.evaluation import parity
from harness.evaluation.parity import TOLERANCES, choose_variant, describe, measured, to_compare, wanted
from harness.records import AdapterRecord, Parity, Split
from harness.stats import inference
from harness.store import reader, writer
from harness.store.connection import opened
from harness.suite.load import load
from harness.suite.schema import PeftModel, PromptModel

WEIGHTS = AdapterRecord("a" * 64, "lora", "lora", {}, "b" * 64, "c", 1, 13, 1.0, 1, 1, {})
FORM = "openvino int8"


def beside(move: float, flipped: int, n: int = 256, form: str = FORM) -> Parity:
    """A form that moves every log-odds so far and says another class of so many texts, which were undecided."""
    reference = np.full(n, 0.9)
    reference[:flipped] = 0.5 + 1e-6
    odds = inference.log_odds(reference) + move
    odds[:flipped] = -1e-6
    return measured(WEIGHTS, form, {"form": form}, n, (reference, 1 / (1 + np.exp(-odds))))


def test_flips_are_texts_of_which_another_class_is_said() -> None:
    found = beside(0.1, 3)
    assert (found.n, found.flips) == (256, 3)
    assert found.flips_low is not None
    assert found.flips_high is not None
    assert 0 < found.flips_low < 3 / 256 < found.flips_high
    assert found.largest_move == pytest.approx(0.1, abs=1e-6)


def test_the_reference_reads_texts_near_the_decision_and_a_quarter_of_the_others() -> None:
    scores = np.full(256, 0.9)  # a log-odds of 2.2
    scores[[1, 2, 3]] = 0.6, 0.38, np.nan  # 0.4 and -0.49: a move of 0.5 flips them
    scores[5] = 0.63  # 0.53
    read = to_compare({"torch bf16": scores, "torch fp32 merged": np.full(64, 0.5), "reloaded": np.zeros(4)}, 256)
    assert read == sorted({*range(0, 256, 4), 1, 2, 3})
    assert 5 in to_compare({"openvino int8": scores, "torch bf16": "no memory"}, 256), "a move of 2 is allowed"
    assert to_compare({"torch bf16": "no memory", "reloaded": np.zeros(4)}, 256) == []
    assert to_compare({"torch bf16": np.full(40, 0.99)}, 40) == list(range(40)), "of few texts, all"


def test_texts_that_are_not_compared_count_as_not_flipped() -> None:
    found = measured(WEIGHTS, FORM, {}, 256, (np.array([0.4, 0.9]), np.array([0.6, 0.9])))
    assert (found.n, found.compared, found.flips) == (256, 2, 1)
    assert found.passed
    assert found.flips_high == pytest.approx(inference.wilson(1, 256)[1])


def turned(positive: int, negative: int, same: int = 100) -> Parity:
    """A form that turns so many texts positive and so many negative."""
    reference = np.array([0.4] * positive + [0.6] * negative + [0.4, 0.6] * (same // 2))
    other = np.array([0.6] * positive + [0.4] * negative + [0.4, 0.6] * (same // 2))
    return measured(WEIGHTS, FORM, {"form": FORM}, len(reference), (reference, other))


@pytest.mark.parametrize(
    ("positive", "negative", "p_value"),
    [(0, 0, 1.0), (3, 3, 1.0), (5, 0, 2 / 2**5), (0, 6, 2 / 2**6), (8, 1, 20 / 2**9)],
)
def test_turned_texts_are_counted_by_direction_and_tested_exactly_for_a_lean(
    positive: int, negative: int, p_value: float
) -> None:
    found = turned(positive, negative)
    assert (found.turned_positive, found.turned_negative) == (positive, negative)
    assert found.flips == positive + negative
    assert found.p_value == pytest.approx(p_value)


def test_no_form_that_passes_on_a_whole_sample_can_have_a_p_value_below_five_percent() -> None:
    """As docs/precision.md says: so many flips as are allowed are too few to show a lean."""
    most = max(int(allowed.flips * parity.SAMPLE) for allowed in TOLERANCES.values())
    assert most == 5
    assert turned(most, 0, parity.SAMPLE - most).p_value == pytest.approx(0.0625)


@pytest.mark.parametrize("form", TOLERANCES)
def test_a_form_passes_up_to_its_tolerance_and_not_beyond(form: str) -> None:
    allowed = TOLERANCES[form]
    most = int(allowed.flips * 256)
    assert beside(0.99 * allowed.move, most, form=form).passed
    assert not beside(1.01 * allowed.move, most, form=form).passed
    assert not beside(0.5 * allowed.move, most + 1, form=form).passed


def test_a_form_that_answers_nothing_has_no_numbers_and_does_not_pass() -> None:
    found = measured(WEIGHTS, FORM, {}, 256, "no such operation")
    assert not found.passed
    assert (found.flips, found.flips_low, found.flips_high, found.largest_move) == (None, None, None, None)
    assert (found.turned_positive, found.turned_negative, found.p_value) == (None, None, None)
    assert describe(found, TOLERANCES[FORM]) == "openvino int8 cannot be compared with torch fp32: no such operation"


def test_scores_that_are_no_numbers_do_not_pass() -> None:
    answers = np.full(8, 0.5), np.full(8, np.nan)
    assert not measured(WEIGHTS, "torch bf16", {}, 8, answers).passed


def model(precision: str, runtime: str = "openvino") -> PeftModel:
    return PeftModel.model_validate(
        {"id": "m", "backend": "peft", "adapter": "lora", "precision": precision, "runtime": runtime}
    )


GOOD, BAD = beside(0.1, 0), beside(0.1, 200)
FORMS = ["openvino int8", "openvino bf16", "openvino fp32"]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([[GOOD, GOOD], [GOOD, GOOD], [GOOD, GOOD]], "int8"),
        ([[GOOD, BAD], [GOOD, GOOD], [GOOD, GOOD]], "bf16"),
        ([[BAD, BAD], [BAD, GOOD], [GOOD, GOOD]], "fp32"),
    ],
)
def test_auto_is_the_fastest_form_in_which_every_seed_passes(found: list[list[Parity | None]], expected: str) -> None:
    decision = choose_variant(model("auto"), FORMS, dict(zip(FORMS, found, strict=True)))
    assert (decision.model.precision, decision.blocked) == (expected, None)  # type: ignore[union-attr]  # a peft model
    assert decision.why is not None
    assert decision.why.startswith(f"precision = 'auto' is openvino {expected}")
    assert ("200 of 256 texts another class than torch fp32 (2 % allowed)" in decision.why) == (expected != "int8")


@pytest.mark.parametrize("found", [beside(0.1, 2), beside(0.6, 0)])
def test_auto_allows_less_than_whoever_asks_for_a_form_by_name(found: Parity) -> None:
    assert found.passed
    decision = choose_variant(model("auto"), FORMS, {FORMS[0]: [found], FORMS[1]: [beside(0.1, 1)], FORMS[2]: [GOOD]})
    assert decision.model.precision == "bf16"  # type: ignore[union-attr]  # a peft model
    assert "(0.4 % allowed)" in str(decision.why)


def test_auto_without_a_check_on_this_processor_is_not_scored() -> None:
    decision = choose_variant(model("auto"), FORMS, {FORMS[0]: [None], FORMS[1]: [GOOD], FORMS[2]: [GOOD]})
    assert decision.blocked is not None
    assert "evaluate the suite first" in decision.blocked


def test_a_runtime_whose_fp32_does_not_pass_either_is_not_scored() -> None:
    decision = choose_variant(model("auto"), FORMS, {form: [BAD] for form in FORMS})
    assert decision.blocked == f"{describe(BAD, TOLERANCES[FORM])}; choose another precision or runtime"


def test_a_declared_form_beyond_its_tolerance_is_not_scored_and_its_numbers_are_told() -> None:
    bad = beside(3.0, 9)
    decision = choose_variant(model("int8"), [FORM], {FORM: [GOOD, bad]})
    assert decision.blocked == (
        "openvino int8 of seed 13 gives 9 of 256 texts another class than torch fp32 (2 % allowed) and moves a "
        "log-odds by up to 3 (2 allowed); choose another precision or runtime"
    )
    assert choose_variant(model("int8"), [FORM], {FORM: [GOOD, GOOD]}).blocked is None


def test_a_declared_form_that_was_checked_elsewhere_may_be_looked_at_here() -> None:
    assert choose_variant(model("int8"), [FORM], {FORM: [None]}).blocked is None


def test_the_reference_is_held_to_nothing() -> None:
    assert wanted(model("fp32", "torch"), can_calibrate=True) == []


@pytest.mark.parametrize("has_int8", [False, True])
@pytest.mark.parametrize("has_bf16", [False, True])
def test_auto_tries_only_what_the_processor_has_and_int8_only_with_training_rows(
    monkeypatch: pytest.MonkeyPatch, has_bf16: bool, has_int8: bool
) -> None:
    monkeypatch.setattr(provenance, "has_fast_bf16", lambda: has_bf16)
    monkeypatch.setattr(provenance, "has_fast_int8", lambda: has_int8)
    int8, bf16 = ["openvino int8"] * has_int8, ["openvino bf16"] * has_bf16
    assert wanted(model("auto"), can_calibrate=True) == [*int8, *bf16, "openvino fp32"]
    assert wanted(model("auto"), can_calibrate=False) == [*bf16, "openvino fp32"]
    assert wanted(model("auto", "torch"), can_calibrate=True) == [form.replace("openvino", "torch") for form in bf16]
    assert wanted(model("int8"), can_calibrate=True) == ["openvino int8"], "asked for by name"
    why = str(choose_variant(model("auto"), FORMS, {form: [GOOD] for form in FORMS}).why)
    assert ("does not multiply int8 in hardware" in why) == (not has_int8)
    assert ("does not multiply bf16 in hardware" in why) == (not has_bf16)


def prompted(adapter: str | None, task: str = "causal_lm") -> PromptModel:
    over = {"base": "b"} if adapter is None else {"adapter": adapter}
    return PromptModel.model_validate(
        {"id": "m", "backend": "prompt", "task": task, "prompts": ("p",), "precision": "auto", **over}
    )


@pytest.mark.parametrize("task", ["causal_lm", "masked_lm"])
@pytest.mark.parametrize(("has_bf16", "precision"), [(True, "bf16"), (False, "fp32")])
def test_auto_of_a_prompted_base_is_bf16_where_the_processor_multiplies_that(
    monkeypatch: pytest.MonkeyPatch, has_bf16: bool, precision: str, task: str
) -> None:
    monkeypatch.setattr(provenance, "has_fast_bf16", lambda: has_bf16)
    declared = prompted(None, task)
    assert wanted(declared, can_calibrate=False) == []
    decision = choose_variant(declared, [], {})
    assert decision.model == declared.model_copy(update={"precision": precision})
    assert decision.blocked is None
    assert f"precision = 'auto' is torch {precision}" in str(decision.why)


def test_auto_of_a_prompted_adapter_is_bf16_if_it_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "has_fast_bf16", lambda: True)
    declared = prompted("lora")
    (form,) = wanted(declared, can_calibrate=False)
    assert form == "torch bf16"
    for found, precision in ((GOOD, "bf16"), (BAD, "fp32")):
        decision = choose_variant(declared, [form], {form: [found]})
        assert (decision.model, decision.blocked) == (declared.model_copy(update={"precision": precision}), None)
    monkeypatch.setattr(provenance, "has_fast_bf16", lambda: False)
    assert wanted(declared, can_calibrate=False) == []


def test_the_sample_is_of_scored_splits_alone_and_does_not_know_their_labels(
    make_split: Callable[..., Split],
) -> None:
    suite = load(Path(__file__).parents[1] / "resources" / "good_suite.toml")
    train, test = make_split(300, split_id="train"), make_split(400, split_id="test")
    train = replace(train, examples=tuple(replace(e, content=f"seen {e.content}") for e in train.examples))
    texts = parity.sample(suite, {"train": train, "test": test})
    assert len(texts) == len(set(texts)) == parity.SAMPLE
    assert not any("seen" in text for text in texts)
    turned = replace(test, examples=tuple(replace(e, label=1) for e in test.examples))
    assert parity.sample(suite, {"train": train, "test": turned}) == texts


def test_a_parity_comes_out_of_the_store_as_it_went_in_by_key_and_by_weights(tmp_path: Path) -> None:
    other = replace(measured(WEIGHTS, "torch bf16", {"x": 1}, 256, "no"), adapter_digest="d" * 64)
    with opened(tmp_path / "store.duckdb") as connection:
        writer.write_parities(connection, [GOOD, other])
        assert reader.parities(connection, parity_keys=[GOOD.parity_key]) == [GOOD]
        assert reader.parities(connection, adapter_digests=["d" * 64]) == [other]
        assert [GOOD.turned_positive, GOOD.turned_negative, GOOD.p_value] == [0, 0, 1.0]
        again: Any = replace(other, problem=None, flips=0)
        writer.write_parities(connection, [again])
        assert reader.parities(connection, adapter_digests=["d" * 64]) == [again]
