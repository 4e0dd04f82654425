"""Forgetting: how far an adapted encoder moved from its base, besides how well it does its task.

An adapter that answers well may have unlearned the rest of what its base knew. Three measures of that:

- the similarity of embeddings: for each text, the cosine of the mean token state with the adapter and without it;
- the masked-language-model loss of the adapted encoder under the base's own head, where the base has one, beside the
  base's own loss; of a causal language model's adapter, the loss per token of the texts themselves;
- accuracy on out-of-domain splits, which are splits like any other.

    for measurement in wanted(jobs, known):     # one for each adapter, with the splits on which to measure it
        measure(measurement, progress)          # → one or three `Forgetting` for each split

It is measured on the first texts of a split in an order drawn from its digest; labels do not matter. It always runs in
float32, whatever the precision of scoring.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from harness import keys, provenance
from harness.evaluation.scoring import Job
from harness.models import device
from harness.models.classifier import ModelInputs
from harness.progress import Progress
from harness.records import AdapterRecord, Forgetting
from harness.stats import inference
from harness.stats.inference import Floats
from harness.suite.schema import PeftModel, PromptModel

SAMPLE = 50
"""Number of texts of each split."""
MASKED_SHARE = 0.15
"""Masked share of a text's tokens, special ones excepted (Devlin et al. 2019); at least one token."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Some texts of a split."""

    key: str
    """Digest of everything that determines an adapter's numbers on these texts."""
    split_digest: str
    texts: tuple[str, ...]
    units: tuple[int, ...]
    """For each text the number of its cluster, or a number of its own."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One adapter on texts of some splits."""

    label: str
    adapter_digest: str
    ingredients: ModelInputs
    is_peft: bool
    """True for the weights of an adapter, false for those of a whole model."""
    task: str | None
    """The task of a language model's adapter; None for a classifier's."""
    samples: tuple[Sample, ...]


def wanted(jobs: Iterable[Job], known: Collection[str]) -> list[Measurement]:
    """List the measurements to make: each adapter of the jobs once, on the splits where it was not measured yet.

    Args:
        known: keys of the stored measurements.
    """
    by_adapter: dict[str, dict[str, Job]] = {}
    for job in jobs:
        if job.adapter is not None and job.blocked is None and (key := key_of(job, job.adapter)) not in known:
            by_adapter.setdefault(job.adapter.adapter_digest, {})[key] = job
    return [_measurement(adapter_digest, jobs_of) for adapter_digest, jobs_of in by_adapter.items()]


def key_of(job: Job, adapter: AdapterRecord) -> str:
    """Digest everything that determines the numbers of a job's weights (64 hex digits)."""
    return keys.key(
        keys.forgetting(
            adapter_digest=adapter.adapter_digest,
            base_digest=adapter.base_digest,
            split=job.split,
            n_texts=SAMPLE,
            text=job.suite.text,
            device=device.for_key(job.ingredients.device),
        )
    )


def _measurement(adapter_digest: str, jobs: Mapping[str, Job]) -> Measurement:
    first = next(iter(jobs.values()))
    seed = "" if first.seed is None else f" seed {first.seed}"
    return Measurement(
        label=f"forgetting of {first.model.id}{seed}",
        adapter_digest=adapter_digest,
        ingredients=first.ingredients,
        is_peft=isinstance(first.model, PeftModel | PromptModel),
        task=first.model.task if isinstance(first.model, PromptModel) else None,
        samples=tuple(_sample(key, job) for key, job in jobs.items()),
    )


def _sample(key: str, job: Job) -> Sample:
    order = _generator(job.split.digest).permutation(len(job.split.examples))[:SAMPLE]
    chosen = [job.split.examples[i] for i in order]
    names = [str(i) if example.cluster is None else f"={example.cluster}" for i, example in enumerate(chosen)]
    return Sample(
        key=key,
        split_digest=job.split.digest,
        texts=tuple(job.suite.text.render(example.title, example.content) for example in chosen),
        units=tuple(np.unique(names, return_inverse=True)[1].tolist()),
    )


def measure(measurement: Measurement, progress: Progress) -> list[Forgetting]:
    """Measure one adapter on its samples.

    Returns:
        For each sample `similarity` in [-1, 1], and where the base has a masked-language-model head and the adapter
        does not use prompts, `mlm_loss` and `mlm_loss_of_base` in nats per masked token. For a causal language model
        `lm_loss` and `lm_loss_of_base` in nats per token.

    Raises:
        AdapterError: the weights cannot be loaded.
    """
    from threadpoolctl import threadpool_limits

    from harness.models import encoder

    ingredients = measurement.ingredients
    found = []
    total = 2 * sum(len(sample.texts) for sample in measurement.samples)
    with threadpool_limits(1), progress(measurement.label, total) as advance:
        base = device.place(encoder.base(ingredients.base, measurement.task), ingredients.device)
        adapted = encoder.adapted(
            ingredients.base, ingredients.adapter, is_peft=measurement.is_peft, task=measurement.task
        )
        adapted = device.place(adapted, ingredients.device)
        language_model = None if measurement.task else encoder.language_model(ingredients.base, adapted)
        if language_model is not None:
            language_model = device.place(language_model, ingredients.device)
        for sample in measurement.samples:
            texts = encoder.encoded(ingredients.base, sample.texts, ingredients.max_length)
            if measurement.task is not None:
                for one in (base, adapted):
                    encoder.settle_causal(one, ingredients.base, ingredients.max_length)
            states = [encoder.mean_states(one, texts, advance) for one in (base, adapted)]
            values = {"similarity": cosines(*states)}
            if measurement.task is not None:
                values["lm_loss_of_base"] = encoder.causal_losses(base, texts)
                values["lm_loss"] = encoder.causal_losses(adapted, texts)
            if language_model is not None:
                masked = encoder.masked(texts, MASKED_SHARE, _generator(sample.split_digest))
                values["mlm_loss_of_base"] = encoder.masked_losses(language_model, base, masked)
                values["mlm_loss"] = encoder.masked_losses(language_model, adapted, masked)
            found += [_mean(measurement.adapter_digest, sample, name, of_texts) for name, of_texts in values.items()]
    return found


def cosines(one: Floats, other: Floats) -> Floats:
    """Cosine similarities of the rows of two arrays of shape (n, width): shape (n,)."""
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.asarray((one * other).sum(axis=1) / norms)


def _mean(adapter_digest: str, sample: Sample, name: str, values: Floats) -> Forgetting:
    """Average over the texts that have a value, with an interval over clusters (or texts)."""
    there = np.isfinite(values)
    values, units = values[there], np.unique(np.array(sample.units)[there], return_inverse=True)[1]
    interval: tuple[float, float] | None = None
    if units.max() > 0:
        weights = inference.resampled_weights(units, _generator(sample.split_digest))
        interval = inference.percentile_interval(np.concatenate([w @ values / w.sum(axis=1) for w in weights]))
    return Forgetting(
        key=sample.key,
        adapter_digest=adapter_digest,
        split_digest=sample.split_digest,
        name=name,
        value=float(values.mean()),
        ci_low=interval and interval[0],
        ci_high=interval and interval[1],
        n=len(values),
        measured_at=provenance.now(),
    )


def _generator(split_digest: str) -> np.random.Generator:
    return np.random.default_rng(int(split_digest[:16], 16))
