"""Parity of variants of trained models with a reference: the variants, their tolerances and the checks.

The reference is torch in fp32, nothing merged. Another variant of the same weights is used only if it assigns nearly
all texts of a fixed sample to the same class and moves no log-odds far. Labels are never read. A check is made once and
stored; planning needs no torch, but making a check does.

The reference is the slowest of all, so it reads only texts that can matter: those that the variant puts so near the
decision that the allowed move could flip them, and a quarter of the sample, which shows the moves elsewhere. Any other
text could have flipped only by a move further than allowed.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

import numpy as np

from harness import keys, models, provenance
from harness.engine import WorkerLost
from harness.engine.scheduler import Scheduler
from harness.errors import HarnessError
from harness.evaluation.inputs import Workspace
from harness.evaluation.weights import Recipe, Weights
from harness.models import device
from harness.models.classifier import Classifier, ModelInputs
from harness.progress import Advance, Progress
from harness.records import AdapterRecord, Parity, Split
from harness.stats import inference
from harness.stats.inference import Floats
from harness.store import reader, writer
from harness.store.connection import opened
from harness.suite.schema import CheckpointModel, Model, PeftModel, PromptModel, Suite, TransformerModel
from harness.suite.text import Rendered

SAMPLE = 256
"""Number of texts of the scored splits that variants classify."""
SPREAD = 64
"""The reference classifies so many of them, evenly spread, whatever a variant answers. A variant that differs by
rounding alone, whose tolerance allows no flip, is compared on these: an error in it would show on most texts."""
REFERENCE = "torch fp32"
RELOADED, MERGED = "reloaded", "torch fp32 merged"


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Largest deviation from the reference with which a variant passes."""

    flips: float
    """Largest share of the sample that gets another class."""
    move: float
    """Largest difference of a log-odds."""


TOLERANCES: Mapping[str, Tolerance] = {
    RELOADED: Tolerance(0.0, 0.01),
    MERGED: Tolerance(0.0, 0.001),
    "torch bf16": Tolerance(0.01, 0.5),
    "openvino fp32": Tolerance(0.0, 0.001),
    "openvino bf16": Tolerance(0.01, 0.5),
    "openvino int8": Tolerance(0.02, 2.0),
}
"""By variant; docs/precision.md explains the values. The keys are all variants; a model declares one as
`runtime precision`."""
AUTO = Tolerance(0.004, 0.5)
"""Additional limit for `auto`: one text of the sample. A suite that leaves the choice open wants equal answers."""
_FASTEST_FIRST = {"torch": ("bf16",), "openvino": ("int8", "bf16")}
"""Precisions that `auto` may choose besides fp32."""


Checked: TypeAlias = PeftModel | TransformerModel | PromptModel
"""Models that may have trained weights."""


def has_variants(model: Model) -> TypeGuard[Checked]:
    """Report whether a model has trained weights, so that its variants can be checked against the reference."""
    return isinstance(model, Checked) and model.adapter is not None


def as_variant(model: Model, variant: str) -> Model:
    """Declare a model in one of the declarable variants."""
    runtime, precision = variant.split()
    chosen = (
        {"precision": precision} if isinstance(model, PromptModel) else {"runtime": runtime, "precision": precision}
    )
    return model.model_copy(update=chosen)


def supported(model: Model, variants: Sequence[str], *, can_calibrate: bool, in_4_bits: bool = False) -> list[str]:
    """Select the variants that a model can be computed in. Language models are asked with torch alone.

    Args:
        can_calibrate: the rows on which its weights were trained are available.
        in_4_bits: its base is, which is neither merged nor converted.
    """
    found = [variant for variant in variants if can_calibrate or not variant.endswith("int8")]
    if in_4_bits:
        found = [variant for variant in found if variant != MERGED and not variant.startswith("openvino")]
    return [one for one in found if not (isinstance(model, PromptModel) and one.startswith("openvino"))]


def wanted(model: Model, *, can_calibrate: bool, kind: str = device.PROCESSOR) -> list[str]:
    """List the variants to check before a model is scored; with `auto`, the fastest first.

    Args:
        can_calibrate: the rows on which its weights were trained are available.
        kind: kind of device that computes it.
    """
    if not has_variants(model):
        return []
    runtime = _runtime(model)
    if model.precision != "auto":
        variant = f"{runtime} {model.precision}"
        return [] if variant == REFERENCE else [variant]
    possible = {"int8": can_calibrate and provenance.has_fast_int8(), "bf16": device.has_fast_bf16(kind)}
    variants = [f"{runtime} {precision}" for precision in _FASTEST_FIRST[runtime] if possible[precision]]
    return variants if runtime == "torch" else [*variants, f"{runtime} fp32"]


def _runtime(model: Checked) -> str:
    return "torch" if isinstance(model, PromptModel) else model.runtime


def installed() -> tuple[list[str], list[str]]:
    """List the variants whose runtimes are installed, and warn of the others."""
    runtimes = [name for name in ("torch", "openvino") if models.is_installed(name)]
    variants = [variant for variant in TOLERANCES if variant == RELOADED or variant.split()[0] in runtimes]
    if "openvino" in runtimes:
        return variants, []
    return variants, [
        "OpenVINO is not installed, so it is left out: `python -m pip install 'adapter-harness[openvino]'`"
    ]


def sample(suite: Suite, splits: Mapping[str, Split]) -> tuple[Rendered, ...]:
    """Draw texts from the scored splits, where a flip would count, with a fixed seed. Labels stay unread."""
    scored = [split for split in splits.values() if split.split_id not in suite.train_split_ids]
    rows = [example for split in scored for example in split.examples]
    drawn = np.sort(np.random.default_rng(0).permutation(len(rows))[:SAMPLE])
    return tuple(suite.text.render(rows[i].title, rows[i].content) for i in drawn)


def spec(
    weights: Weights,
    variant: str,
    sample_digest: str,
    max_length: int,
    prompt: keys.Spec | None = None,
    accelerator: str | None = None,
) -> dict[str, Any]:
    """Collect the inputs of the parity check of a variant of these weights.

    Args:
        sample_digest: digest of the texts that `sample` drew.
        prompt: what a language model is asked with.
        accelerator: kind of the device that computes them; None for the processor.
    """
    tolerance = TOLERANCES[variant]
    return keys.parity(
        variant,
        adapter_digest=weights.record.adapter_digest,
        base_digest=weights.base.digest,
        calibrated_on=weights.train.digest if weights.train and variant.endswith("int8") else None,
        sample_digest=sample_digest,
        max_length=max_length,
        allowed=(tolerance.flips, tolerance.move),
        prompt=prompt,
        device=accelerator,
    )


@dataclass(frozen=True, slots=True)
class Check:
    """A trained model, and the variants to check against its reference."""

    suite: Suite
    model: Checked
    recipe: Recipe
    weights: Weights
    """The weights of the recipe."""
    texts: tuple[Rendered, ...]
    """The texts that `sample` drew."""
    specs: Mapping[str, Mapping[str, Any]]
    """Inputs of the check, by variant."""
    cache: Path
    """Cache folder of the workspace."""

    @property
    def keys(self) -> dict[str, str]:
        """Keys under which the parity of each variant is stored."""
        return {variant: keys.key(spec) for variant, spec in self.specs.items()}


def in_runtime(recipe: Recipe, model: Model, suite: Suite, cache: Path) -> ModelInputs:
    """Complete the inputs of a model for its runtime.

    OpenVINO gets the folder of the converted variant and the rows that calibrate it. Torch gets the folder of states
    that models on one base share, and a language model that of its answers, unless a rule is about the model's speed.

    Args:
        recipe: the model's; without weights for an untrained head, and for a head that the base brings.
        model: the model in the variant to be scored.
        cache: cache folder of the workspace.
    """
    ingredients, weights = recipe.ingredients, recipe.usable
    if not isinstance(model, PeftModel | TransformerModel | CheckpointModel) or model.runtime != "openvino":
        if model.id in suite.timed_model_ids:  # work shared with other models would leave it without a timing
            return ingredients
        if isinstance(model, PromptModel):
            asked = keys.likelihoods(
                task=model.task,
                precision=model.precision,
                base_digest=recipe.base_digest,
                adapter_digest=None if weights is None else weights.record.adapter_digest,
                device=device.for_key(ingredients.device),
            )
            return replace(ingredients, likelihoods_dir=cache / "likelihoods" / keys.key(asked)[:32])
        return replace(ingredients, states_dir=cache / "states")
    train = weights.train if weights is not None and model.precision == "int8" else None
    made_from = keys.conversion(
        base_digest=recipe.base_digest,
        adapter_digest=None if weights is None else weights.record.adapter_digest,
        seed=ingredients.seed if weights is None else None,
        calibrated_on=train,
        text=suite.text,
    )
    texts = [suite.text.render(example.title, example.content) for example in train.examples] if train else []
    folder = cache / "openvino" / keys.key(made_from)[:32]
    return replace(ingredients, train_texts=texts, converted_dir=folder, device=device.PROCESSOR)


def measured(
    record: AdapterRecord, variant: str, described: Mapping[str, Any], n: int, answers: tuple[Floats, Floats] | str
) -> Parity:
    """Compare the answers of a variant with those of the reference.

    Args:
        described: the check's inputs, from `spec`.
        n: number of texts that the variant classified.
        answers: probabilities of class 1 by reference and variant for the texts that are compared, each of shape
            (compared,), or why there are none. The others are taken as not flipped.
    """
    tolerance, flips, low, high, move, compared = TOLERANCES[variant], None, None, None, None, None
    turned_positive, turned_negative, p_value = None, None, None
    if not isinstance(answers, str):
        reference, other = answers
        turned_positive = int(((other > 0.5) & ~(reference > 0.5)).sum())
        turned_negative = int(((reference > 0.5) & ~(other > 0.5)).sum())
        p_value = inference.mcnemar(turned_positive, turned_negative)
        flips, compared = turned_positive + turned_negative, len(reference)
        low, high = inference.wilson(flips, n)
        move = float(np.abs(inference.log_odds(other) - inference.log_odds(reference)).max())
    return Parity(
        parity_key=keys.key(described),
        adapter_digest=record.adapter_digest,
        adapter_id=record.adapter_id,
        seed=record.seed,
        form=variant,
        n=n,
        compared=compared,
        flips=flips,
        flips_low=low,
        flips_high=high,
        turned_positive=turned_positive,
        turned_negative=turned_negative,
        p_value=p_value,
        largest_move=move,
        flips_allowed=tolerance.flips,
        move_allowed=tolerance.move,
        passed=flips is not None and move is not None and flips <= tolerance.flips * n and move <= tolerance.move,
        problem=answers if isinstance(answers, str) else None,
        spec=described,
        hardware={**provenance.hardware(), **device.described(described.get("device", device.PROCESSOR))},
        checked_at=provenance.now(),
    )


def describe(parity: Parity, allowed: Tolerance) -> str:
    """Describe the numbers of a check in one sentence."""
    if parity.problem is not None:
        return f"{parity.form} cannot be compared with {REFERENCE}: {parity.problem}"
    seed = "" if parity.seed is None else f" of seed {parity.seed}"
    return (
        f"{parity.form}{seed} gives {parity.flips} of {parity.n} texts another class than {REFERENCE} "
        f"({100 * allowed.flips:g} % allowed) and moves a log-odds by up to {parity.largest_move:.2g} "
        f"({allowed.move:g} allowed)"
    )


@dataclass(frozen=True, slots=True)
class Decision:
    """The variant in which all seeds of a model are scored."""

    model: Model
    """The model in that variant; its precision is no longer `auto`."""
    blocked: str | None = None
    """Reason why it cannot be scored in that variant."""
    why: str | None = None
    """The variant that `auto` chose, and why it chose none that is faster."""


def choose_variant(
    model: Model,
    variants: Sequence[str],
    found: Mapping[str, Sequence[Parity | None]],
    kind: str = device.PROCESSOR,
) -> Decision:
    """Choose the variant of a model: the declared one, or for `auto` the fastest in which all of its seeds pass.

    Args:
        variants: the variants to choose from, as `wanted` lists them.
        found: by variant, the stored check of each seed; None if it is not stored.
        kind: kind of device that computes the model.
    """
    if isinstance(model, PromptModel) and model.adapter is None and model.precision == "auto":
        chosen = "torch bf16" if device.has_fast_bf16(kind) else REFERENCE  # a base has no weights of its own to check
        return Decision(as_variant(model, chosen), None, _why(chosen, [], kind))
    if not has_variants(model):
        return Decision(model)
    if model.precision != "auto":
        return Decision(model, _failing(one for variant in variants for one in found[variant]))
    fp32 = f"{_runtime(model)} fp32"
    unfit: list[str] = []
    for variant in variants:
        if None in found[variant]:
            reason = "precision = 'auto' is not resolved for this processor yet; evaluate the suite first"
            return Decision(as_variant(model, fp32), reason)
        failing = _failing(found[variant], AUTO if variant != fp32 else None)
        if failing is None:
            return Decision(as_variant(model, variant), None, _why(variant, unfit, kind))
        unfit.append(failing)
    return Decision(as_variant(model, fp32), unfit[-1] if fp32 in variants else None, _why(fp32, unfit, kind))


def _failing(found: Iterable[Parity | None], extra: Tolerance | None = None) -> str | None:
    """Describe the first check that does not pass, or exceeds the additional tolerance."""
    for one in found:
        if one is not None and not one.passed:
            return (
                f"{describe(one, Tolerance(one.flips_allowed, one.move_allowed))}; choose another precision or runtime"
            )
        if one is not None and extra is not None and not _is_within(one, extra):
            return describe(one, extra)
    return None


def _is_within(one: Parity, allowed: Tolerance) -> bool:
    if one.flips is None or one.largest_move is None:
        return False
    return one.flips <= allowed.flips * one.n and one.largest_move <= allowed.move


def _why(variant: str, unfit: Sequence[str], kind: str) -> str:
    has = {"bf16": device.has_fast_bf16(kind), "int8": provenance.has_fast_int8()}
    this = "this processor" if kind == device.PROCESSOR else "this device"
    slower = "".join(f"; {this} does not multiply {name} in hardware" for name in has if not has[name])
    reasons = (reason.removesuffix("; choose another precision or runtime") for reason in unfit)
    return f"precision = 'auto' is {variant}" + "".join(f"; {reason}" for reason in reasons) + slower


async def bring_up_to_date(
    checks: Sequence[Check], workspace: Workspace, scheduler: Scheduler, rank: int = 0
) -> list[Parity]:
    """Make the checks that are not stored or have no numbers, and store each as soon as it is made.

    Returns:
        All of them, in the order of the checks and their variants.
    """
    await scheduler.gather_all(_make(check, workspace, scheduler, rank) for check in unmade(checks, workspace))
    stored = _stored(checks, workspace)
    return [stored[key] for key in dict.fromkeys(key for check in checks for key in check.keys.values())]


def _stored(checks: Iterable[Check], workspace: Workspace) -> dict[str, Parity]:
    """Read the stored results of these checks, by key."""
    keys = {key for check in checks for key in check.keys.values()}
    if not keys or not workspace.db.is_file():
        return {}
    with opened(workspace.db, read_only=True) as connection:
        return {one.parity_key: one for one in reader.parities(connection, parity_keys=keys)}


def unmade(checks: Sequence[Check], workspace: Workspace) -> list[Check]:
    """Select the checks that are not stored or have no numbers; a variant of the same weights is named once."""
    todo, known = [], {key for key, one in _stored(checks, workspace).items() if one.problem is None}
    for check in checks:
        specs = {variant: spec for variant, spec in check.specs.items() if check.keys[variant] not in known}
        if specs:
            todo.append(replace(check, specs=specs))
            known |= set(check.keys.values())
    return todo


async def _make(check: Check, workspace: Workspace, scheduler: Scheduler, rank: int) -> None:
    """Classify the texts with every variant, those that matter with the reference, and store the comparisons."""
    parts = [Part(check, variant, tuple(_read_by(variant, len(check.texts)))) for variant in check.specs]
    scored = {part.variant: answers async for part, answers in _scored(parts, scheduler, rank)}
    places = to_compare(scored, len(check.texts))
    reference = [Part(check, REFERENCE, tuple(places))] if places else []
    scored |= {part.variant: answers async for part, answers in _scored(reference, scheduler, rank)}
    with opened(workspace.db) as connection:
        writer.write_parities(connection, _compared(check, scored, places))


async def _scored(
    parts: Sequence["Part"], scheduler: Scheduler, rank: int
) -> AsyncIterator[tuple["Part", Floats | str]]:
    async for part, answers in scheduler.map_unordered(_score, parts, rank):
        yield part, answers.reason if isinstance(answers, WorkerLost) else answers


def _read_by(variant: str, n: int) -> range:
    """The places of the texts that a variant classifies, of n."""
    return _spread(n) if TOLERANCES[variant].flips == 0 else range(n)


def _spread(n: int) -> range:
    """Evenly spread places of n: SPREAD of them, or up to twice as many."""
    return range(0, n, max(n // SPREAD, 1))


def to_compare(scored: Mapping[str, Floats | str], n: int) -> list[int]:
    """The places of the texts that the reference classifies, of n, given the scores of the variants."""
    answered = {variant: scores for variant, scores in scored.items() if variant != RELOADED}
    places: set[int] = set()
    for variant, scores in answered.items():
        if isinstance(scores, str):
            continue
        places |= set(_spread(n))
        is_far = np.abs(inference.log_odds(scores)) > TOLERANCES[variant].move  # False where a score is not a number
        places |= {place for place, far in zip(_read_by(variant, n), is_far, strict=True) if not far}
    return sorted(places)


@dataclass(frozen=True, slots=True)
class Part:
    """Some texts of a check, to be classified by its reference or one of its variants."""

    check: Check
    variant: str
    places: tuple[int, ...]
    """Places of these texts among those of the check."""

    @property
    def label(self) -> str:
        """Adapter, seed and variant, for display."""
        record = self.check.weights.record
        seed = "" if record.seed is None else f" seed {record.seed}"
        return f"parity of {record.adapter_id}{seed}: {self.variant}"

    @property
    def texts(self) -> list[Rendered]:
        """The texts."""
        return [self.check.texts[place] for place in self.places]


def _score(part: Part, progress: Progress) -> Floats | str:
    """Classify texts of a check as one of its variants, in a worker: shape (n,), or the reason why there are none."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), progress(part.label, len(part.places)) as advance:
        try:
            if part.variant == RELOADED:
                return _reloaded(part.check)
            return _answers(part.check, part.variant, part.texts, advance)
        except HarnessError as problem:
            return str(problem)
        except Exception as problem:  # noqa: BLE001 (whatever a runtime does: this variant is not used)
            return (str(problem).strip().splitlines() or [type(problem).__name__])[0]


def _compared(check: Check, scored: Mapping[str, Floats | str], places: Sequence[int]) -> list[Parity]:
    """Compare every variant with the reference. A variant that failed is an outcome, not an exception.

    Args:
        places: of the texts that the reference classified.
    """
    found = []
    for variant, spec in check.specs.items():
        one, other = _scores_in_training(check) if variant == RELOADED else scored.get(REFERENCE), scored[variant]
        n = len(check.texts) if isinstance(other, str) else len(other)
        if isinstance(other, str):
            answers: tuple[Floats, Floats] | str = other
        elif one is None or isinstance(one, str):
            answers = one or "the reference was not computed"
        elif variant == RELOADED:
            answers = one, other
        else:
            answers = _of_both(
                dict(zip(places, one, strict=True)), zip(_read_by(variant, len(check.texts)), other, strict=True)
            )
        found.append(measured(check.weights.record, variant, spec, n, answers))
    return found


def _of_both(reference: Mapping[int, float], variant: Iterable[tuple[int, float]]) -> tuple[Floats, Floats]:
    """The scores of the texts that both classified, each by the text's place: shape (compared,) both."""
    pairs = [(reference[place], score) for place, score in variant if place in reference]
    one, other = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return one, other


def _answers(check: Check, variant: str, texts: Sequence[Rendered], advance: Advance) -> Floats:
    """Classify texts with a variant as an evaluation would: probabilities of class 1, shape (n,)."""
    if variant == MERGED and isinstance(check.model, PromptModel):
        from harness.models import prompt

        classifier: Classifier = prompt.merged(check.model, check.recipe.ingredients)
    elif variant == MERGED:
        from harness.models.transformer import SequenceClassifier
        from harness.models.variants import merged

        whole, length = merged(_network(check)), check.suite.text.max_length
        classifier = SequenceClassifier(whole, check.weights.base.folder, length)
    else:
        model = as_variant(check.model, variant)
        made_from = in_runtime(check.recipe, model, check.suite, check.cache)
        classifier = models.load(model, made_from)
    return classifier.predict(texts, advance).scores


def _network(check: Check) -> Any:
    from harness.models import peft, transformer

    module = peft if isinstance(check.model, PeftModel) else transformer
    return module.network(check.recipe.ingredients)


def _scores_in_training(check: Check) -> Floats | str:
    """Scores of the probe texts by the network in training, before it was saved; or the reason why there are none."""
    before = check.weights.record.card.get("probe_scores")
    if before is None:
        return "its card records no probe scores from training, so the loaded weights cannot be checked"
    return np.array(before)


def _reloaded(check: Check) -> Floats:
    """Scores of the probe texts by the loaded network."""
    if isinstance(check.model, PromptModel):
        from harness.models import prompt

        return np.array(prompt.reloaded_scores(check.recipe.ingredients))
    from harness.models.transformer import probe_scores

    return np.array(probe_scores(_network(check), check.weights.base.folder))
