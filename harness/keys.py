"""Keys of everything that is computed: which inputs each key covers, in one place.

A key is the SHA-256 of a spec, and a spec holds every input that can change the result. Two results with the same key
are interchangeable, so nothing is computed twice, and nothing stale is shown. Identities of content, such as an
example's or a split's, are in `harness.data`.

| key | of | spec |
|---|---|---|
| configuration | a model with everything but its seed | `configuration` |
| run key | one model, one seed, one split | `run` |
| shard key | the answers to some examples, whatever split they are in | `shard` |
| training key | the weights of one adapter with one seed | `training` |
| parity key | the comparison of a variant with its reference | `parity` |
| conversion key | a model in another runtime's format | `conversion` |
| likelihoods key | a language model's answers to given token ids | `likelihoods` |
| forgetting key | how far an adapter moved its base on a split | `forgetting` |
| occlusion key | the words of an example that moved a run's answer | `occlusion` |
| expectation key | what the suite's authors expect of a split | `expectation` |
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

from harness import provenance
from harness.artifacts import digest, plugins
from harness.artifacts.scoring_code import scoring_code
from harness.records import Split
from harness.suite.schema import Adapter, AnyAdapter, Model, PlugInModel, Prompt
from harness.suite.text import Text

Spec: TypeAlias = dict[str, Any]

TRAINING_VERSION = 4
"""Incremented when a change to the training loop changes weights."""
FORGETTING_VERSION = 1
"""Incremented when the definition of a number changes."""
OCCLUSION_VERSION = 1
"""Incremented when texts are divided or shortened in another way."""

_OF_CONFIGURATION = ("model", "adapter", "base", "train", "text")
"""The parts of a run's spec that its configuration is the digest of."""


def packages(runtime: str = "torch") -> dict[str, str | None]:
    """Versions of the packages whose releases can change the answers of a runtime."""
    names = (*provenance.SCORING_PACKAGES, *(provenance.RUNTIME_PACKAGES if runtime == "openvino" else ()))
    return {name: provenance.packages().get(name) for name in names}


def run(
    model: Model,
    adapter: AnyAdapter | None,
    *,
    seed: int | None,
    adapter_digest: str | None,
    base_digest: str | None,
    train_digest: str | None,
    split: Split,
    text: Text,
    prompt: Spec | None = None,
    base_origin: str | None = None,
    device: str | None = None,
) -> Spec:
    """Collect the inputs of a run.

    Args:
        model: in the variant in which it is scored.
        adapter_digest: of the weights; None without weights.
        base_digest: of the base's files.
        train_digest: of the rows that the model or its adapter is trained on.
        prompt: what `prompted` collected for a model that is asked in words; it counts as part of the seed.
        base_origin: form that the base's weights had before they were dequantised.
        device: kind of accelerator that computes the answers; None for the processor.
    """
    # The number of trials describes how the adapter was chosen; it is no input of its predictions.
    left_out: Mapping[str, bool | set[str]] = {"train": {"seeds", "null_seeds"}, "path": True, "trials": True}
    seeded: Mapping[str, bool | set[str]] = {"seeds": True, "prompts": True, "shots": {"seeds"}, "repeats": {"draws"}}
    return {
        "model": model.model_dump(mode="json", exclude_none=True, exclude=seeded),
        "adapter": adapter and adapter.model_dump(mode="json", exclude=left_out),
        "base": base_digest,
        "train": train_digest,
        "text": {"template": text.template, "max_length": text.max_length},
        "scoring_code": scoring_code(),
        "seed": seed,
        "adapter_digest": adapter_digest,
        "split": {"id": split.split_id, "digest": split.digest},
        "packages": packages(getattr(model, "runtime", "torch")),
        **({} if prompt is None else {"prompt": prompt}),
        **({} if base_origin is None else {"base_origin": base_origin}),
        **({"plugin": asdict(plugins.origin("backend", model.backend))} if isinstance(model, PlugInModel) else {}),
        **_on(device),
    }


def prompted(prompt: Prompt, *, shots: Sequence[str], rows: Sequence[str], draw: int | None) -> Spec:
    """Collect everything that a language model is asked with and shown.

    Args:
        shots: ids of the examples that it is shown, in their order.
        rows: ids of the examples on which a threshold is fitted.
        draw: seed of the shots, for display.
    """
    return {**prompt.model_dump(mode="json"), "shots": list(shots), "calibrated_on": list(rows), "draw": draw}


def configuration(run_spec: Mapping[str, Any]) -> Spec:
    """Select the inputs of a run that its model shares over seeds, splits, code and packages.

    Raises:
        KeyError: the spec lacks one.
    """
    return {name: run_spec[name] for name in _OF_CONFIGURATION}


def model_of(run_spec: Mapping[str, Any]) -> Spec:
    """Select the inputs that determine a run's answers, except the examples."""
    return {name: value for name, value in run_spec.items() if name != "split"}


def apart_from_environment(run_spec: Mapping[str, Any]) -> Spec:
    """Select the inputs of a run that stay when code and packages change."""
    return {name: value for name, value in run_spec.items() if name not in ("packages", "scoring_code", "plugin")}


def shard(run_spec: Mapping[str, Any], example_ids: Sequence[str]) -> Spec:
    """Collect the inputs of a model's answers to some examples, whatever split they are in."""
    return {"model": key(model_of(run_spec)), "examples": list(example_ids)}


def training(
    adapter: Adapter,
    *,
    seed: int,
    precision: str,
    base_digest: str,
    split: Split,
    text: Text,
    prompts: Sequence[Prompt] = (),
    device: str | None = None,
) -> Spec:
    """Collect the inputs of a training.

    Args:
        precision: fp32 or bf16, with `auto` resolved for this machine.
        prompts: the prompts of a language model's adapter; empty for a classifier's.
        device: kind of accelerator; None for the processor.
    """
    return {
        "version": TRAINING_VERSION,
        "method": adapter.method,
        "params": adapter.params,
        "train": adapter.train.model_dump(mode="json", exclude={"seeds", "precision", "null_seeds"}),
        "precision": precision,
        "seed": seed,
        "base": base_digest,
        "split": split.digest,
        "template": text.template,
        "max_length": text.max_length,
        "packages": packages(),
        **({"prompts": [prompt.model_dump(mode="json") for prompt in prompts]} if prompts else {}),
        **({} if adapter.labels is None else {"labels": adapter.labels}),
        **_on(device),
    }


def parity(
    variant: str,
    *,
    adapter_digest: str,
    base_digest: str,
    calibrated_on: str | None,
    sample_digest: str,
    max_length: int,
    allowed: Sequence[float],
    prompt: Spec | None = None,
    device: str | None = None,
) -> Spec:
    """Collect the inputs of a parity check, including the processor: variants round differently on another one.

    Args:
        calibrated_on: digest of the rows that calibrate the variant; None if it needs none.
        sample_digest: digest of the texts that are compared.
        allowed: its tolerances.
        prompt: what a model that is asked in words is asked with; None for others.
        device: kind of accelerator; None for the processor.
    """
    return {
        "form": variant,
        "adapter_digest": adapter_digest,
        "base": base_digest,
        "calibrated_on": calibrated_on,
        "texts": sample_digest,
        "max_length": max_length,
        "scoring_code": scoring_code(),
        "packages": packages(variant.split()[0]),
        "hardware": _hardware(),
        "allowed": list(allowed),
        **({} if prompt is None else {"prompt": key(prompt)}),
        **_on(device),
    }


def conversion(
    *, base_digest: str | None, adapter_digest: str | None, seed: int | None, calibrated_on: Split | None, text: Text
) -> Spec:
    """Collect the inputs of a model in OpenVINO's format.

    Args:
        seed: of an untrained head; None for trained weights.
        calibrated_on: the split whose rows calibrate it; None if it needs none.
    """
    return {
        "base": base_digest,
        "adapter_digest": adapter_digest,
        "seed": seed,
        "calibrated_on": calibrated_on and [calibrated_on.digest, text.template, text.max_length],
        "scoring_code": scoring_code(),
        "packages": packages("openvino"),
    }


def likelihoods(
    *, task: str, precision: str, base_digest: str | None, adapter_digest: str | None, device: str | None
) -> Spec:
    """Collect the inputs of a language model's answers to given token ids, including the processor.

    Args:
        device: kind of accelerator; None for the processor.
    """
    return {
        "task": task,
        "precision": precision,
        "base": base_digest,
        "adapter_digest": adapter_digest,
        "scoring_code": scoring_code(),
        "packages": packages(),
        "hardware": _hardware(),
        **_on(device),
    }


def forgetting(
    *, adapter_digest: str, base_digest: str, split: Split, n_texts: int, text: Text, device: str | None = None
) -> Spec:
    """Collect the inputs of the numbers about an adapted encoder on a split.

    Args:
        device: kind of accelerator; None for the processor.
    """
    return {
        "version": FORGETTING_VERSION,
        "adapter": adapter_digest,
        "base": base_digest,
        "split": split.digest,
        "sample": n_texts,
        "template": text.template,
        "max_length": text.max_length,
        "packages": packages(),
        **_on(device),
    }


def occlusion(run_key: str, example_id: str, *, most_pieces: int) -> Spec:
    """Collect the inputs of a run's scores of an example without each of its pieces.

    Args:
        most_pieces: number of pieces from which words are left out in runs.
    """
    return {"version": OCCLUSION_VERSION, "run": run_key, "example": example_id, "most_pieces": most_pieces}


def expectation(rule: str, split_digest: str) -> list[str]:
    """Collect what identifies an expectation: its wording, and the rows of its split."""
    return [rule, split_digest]


def _hardware() -> Spec:
    """The processor, for what rounds differently on another one."""
    hardware = provenance.hardware()
    return {name: hardware[name] for name in ("machine", "processor", "bf16")}


def _on(device: str | None) -> Spec:
    """The entry of a device; the processor has none, so its keys are the same in every release."""
    return {} if device is None else {"device": device}


def key(spec: Any) -> str:
    """Digest of a spec (64 hex digits)."""
    return digest.of_json(spec)
