"""Variants of trained models, held to a reference: which there are, what they are allowed, and the checks themselves.

The reference is torch in fp32, nothing merged. Another variant of the same weights is used only where it gives nearly
all texts of a fixed sample the same class, and moves no log-odds far. Labels are never read. A check is made once and
stored; planning needs no torch, making a check does.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from harness import models, provenance
from harness.artifacts import digest
from harness.artifacts.scoring_code import scoring_code
from harness.engine import MapUnordered, WorkerLost
from harness.errors import AdapterError, HarnessError
from harness.evaluation.inputs import Workspace
from harness.models.classifier import Classifier, ModelInputs
from harness.progress import Advance, Progress
from harness.records import AdapterRecord, Parity, Split
from harness.stats import inference
from harness.stats.inference import Floats
from harness.store import reader, writer
from harness.store.connection import opened
from harness.suite.schema import CheckpointModel, Model, PeftModel, Suite, TransformerModel

SAMPLE = 256
"""Texts of the scored splits that a variant is asked."""
CLIP = 1e-9
"""Log-odds are of probabilities this far from 0 and 1, at least: nearer, float64 has not the digits for 1 - p."""
REFERENCE = "torch fp32"
RELOADED, MERGED = "reloaded", "torch fp32 merged"


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What a variant may do otherwise than the reference and still pass."""

    flips: float
    """Largest share of the sample of which another class is said."""
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
"""By variant; docs/precision.md says why. A table of all variants, too: what a model declares is
`runtime precision`."""
AUTO = Tolerance(0.004, 0.5)
"""What `auto` allows a variant besides: one text of the sample. Who leaves the choice open wants the same answers."""
_FASTEST_FIRST = {"torch": ("bf16",), "openvino": ("int8", "bf16")}
"""What `auto` may come to besides fp32."""


def has_variants(model: Model) -> TypeGuard[PeftModel | TransformerModel]:
    """Whether a model has trained weights, so that a variant of it could be held to its reference."""
    return isinstance(model, PeftModel) or (isinstance(model, TransformerModel) and model.adapter is not None)


def as_variant(model: Model, variant: str) -> Model:
    """A model, declared in one of the variants that can be declared."""
    runtime, precision = variant.split()
    return model.model_copy(update={"runtime": runtime, "precision": precision})


def wanted(model: Model, *, can_calibrate: bool) -> list[str]:
    """The variants that a model needs held to the reference before it is scored; with `auto`, the fastest first.

    Args:
        can_calibrate: whether there are the rows that its weights were trained on.
    """
    if not has_variants(model):
        return []
    if model.precision != "auto":
        variant = f"{model.runtime} {model.precision}"
        return [] if variant == REFERENCE else [variant]
    possible = {"int8": can_calibrate and provenance.has_fast_int8(), "bf16": provenance.has_fast_bf16()}
    variants = [f"{model.runtime} {precision}" for precision in _FASTEST_FIRST[model.runtime] if possible[precision]]
    return variants if model.runtime == "torch" else [*variants, f"{model.runtime} fp32"]


def sample(suite: Suite, splits: Mapping[str, Split]) -> tuple[str, ...]:
    """Texts of the splits that are scored, drawn by a fixed seed: where a flip would count. Labels stay unread."""
    scored = [split for split in splits.values() if split.split_id not in suite.train_split_ids]
    rows = [example for split in scored for example in split.examples]
    drawn = np.sort(np.random.default_rng(0).permutation(len(rows))[:SAMPLE])
    return tuple(suite.text.render(rows[i].title, rows[i].content) for i in drawn)


@dataclass(frozen=True, slots=True)
class Weights:
    """Trained weights whose variants are held to their reference."""

    adapter: AdapterRecord
    base_digest: str
    train: Split | None
    """What they were trained on; None where they come from elsewhere."""


def spec(weights: Weights, variant: str, texts: Sequence[str], max_length: int) -> dict[str, Any]:
    """All that goes into a parity check, the processor included: variants round otherwise on another one."""
    tolerance, hardware = TOLERANCES[variant], provenance.hardware()
    return {
        "form": variant,
        "adapter_digest": weights.adapter.adapter_digest,
        "base": weights.base_digest,
        "calibrated_on": weights.train.digest if weights.train and variant.endswith("int8") else None,
        "texts": digest.of_json(list(texts)),
        "max_length": max_length,
        "scoring_code": scoring_code(),
        "packages": packages(variant.split()[0]),
        "hardware": {name: hardware[name] for name in ("machine", "processor", "bf16")},
        "allowed": [tolerance.flips, tolerance.move],
    }


def packages(runtime: str) -> dict[str, str | None]:
    """The packages whose releases can change what a runtime answers."""
    names = (*provenance.SCORING_PACKAGES, *(provenance.RUNTIME_PACKAGES if runtime == "openvino" else ()))
    return {name: provenance.packages().get(name) for name in names}


@dataclass(frozen=True, slots=True)
class Check:
    """A trained model, some of whose variants are to be held to its reference."""

    suite: Suite
    model: PeftModel | TransformerModel
    weights: Weights
    ingredients: ModelInputs
    texts: tuple[str, ...]
    """`sample`."""
    specs: Mapping[str, Mapping[str, Any]]
    """By variant."""
    cache: Path
    """The workspace's."""

    @property
    def keys(self) -> dict[str, str]:
        """Under which the parity of each variant is stored."""
        return {variant: digest.of_json(spec) for variant, spec in self.specs.items()}


def in_runtime(
    ingredients: ModelInputs, model: Model, base_digest: str | None, weights: Weights | None, suite: Suite, cache: Path
) -> ModelInputs:
    """What a model is made from, with the place of its converted variant and the rows that calibrate it; for torch,
    with the place of states that models on one base share, unless a rule is about its speed.

    Args:
        model: in the variant that is wanted.
        base_digest: of its base.
        weights: None for an untrained head, and for a base's own.
        cache: the workspace's.
    """
    if getattr(model, "runtime", "torch") != "openvino":
        is_timed = model.id in suite.timed_model_ids  # what others computed for it would leave it without a timing
        return ingredients if is_timed else replace(ingredients, states_dir=cache / "states")
    assert isinstance(model, PeftModel | TransformerModel | CheckpointModel)
    train = weights.train if weights is not None and model.precision == "int8" else None
    made_from = {
        "base": base_digest,
        "adapter_digest": weights and weights.adapter.adapter_digest,
        "seed": ingredients.seed if weights is None else None,
        "calibrated_on": train and [train.digest, suite.text.template, suite.text.max_length],
        "scoring_code": scoring_code(),
        "packages": packages("openvino"),
    }
    texts = [suite.text.render(example.title, example.content) for example in train.examples] if train else []
    folder = cache / "openvino" / digest.of_json(made_from)[:32]
    return replace(ingredients, train_texts=texts, converted_dir=folder)


def measured(
    weights: Weights, variant: str, described: Mapping[str, Any], n: int, answers: tuple[Floats, Floats] | str
) -> Parity:
    """What came of holding a variant to its reference.

    Args:
        described: `spec`.
        n: texts that they were to be asked.
        answers: the reference's and the variant's probabilities of class 1, each of shape (n,), or why there are none.
    """
    tolerance, flips, low, high, move = TOLERANCES[variant], None, None, None, None
    turned_positive, turned_negative, p_value = None, None, None
    if not isinstance(answers, str):
        reference, other = answers
        turned_positive = int(((other > 0.5) & ~(reference > 0.5)).sum())
        turned_negative = int(((reference > 0.5) & ~(other > 0.5)).sum())
        p_value = inference.mcnemar(turned_positive, turned_negative)
        flips, n = turned_positive + turned_negative, len(reference)
        low, high = inference.wilson(flips, n)
        move = float(np.abs(log_odds(other) - log_odds(reference)).max())
    return Parity(
        parity_key=digest.of_json(described),
        adapter_digest=weights.adapter.adapter_digest,
        adapter_id=weights.adapter.adapter_id,
        seed=weights.adapter.seed,
        form=variant,
        n=n,
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
        hardware=provenance.hardware(),
        checked_at=provenance.now(),
    )


def log_odds(probabilities: Floats) -> Floats:
    """Shape as given; at most about 20.7 in size."""
    inside = np.clip(probabilities, CLIP, 1 - CLIP)
    return np.asarray(np.log(inside / (1 - inside)), dtype=np.float64)


def describe(parity: Parity, allowed: Tolerance) -> str:
    """One sentence with the numbers."""
    if parity.problem is not None:
        return f"{parity.form} cannot be held to {REFERENCE}: {parity.problem}"
    seed = "" if parity.seed is None else f" of seed {parity.seed}"
    return (
        f"{parity.form}{seed} says another class than {REFERENCE} of {parity.flips} of {parity.n} texts "
        f"({100 * allowed.flips:g} % allowed) and moves a log-odds by up to {parity.largest_move:.2g} "
        f"({allowed.move:g} allowed)"
    )


@dataclass(frozen=True, slots=True)
class Decision:
    """The variant in which a model is scored, whatever the seed."""

    model: Model
    """Its precision is no longer `auto`."""
    blocked: str | None = None
    """Why it cannot be scored in it."""
    why: str | None = None
    """What `auto` came to, and why not to something faster."""


def choose_variant(model: Model, variants: Sequence[str], found: Mapping[str, Sequence[Parity | None]]) -> Decision:
    """The variant of a model: the declared one, or for `auto` the fastest in which all of its seeds pass.

    Args:
        variants: `wanted`.
        found: by variant, what is stored of each seed; None where nothing is.
    """
    if not has_variants(model):
        return Decision(model)
    if model.precision != "auto":
        return Decision(model, _failing(one for variant in variants for one in found[variant]))
    fp32 = f"{model.runtime} fp32"
    unfit: list[str] = []
    for variant in variants:
        if None in found[variant]:
            reason = "what precision = 'auto' comes to on this processor is not decided yet; evaluate the suite first"
            return Decision(as_variant(model, fp32), reason)
        failing = _failing(found[variant], AUTO if variant != fp32 else None)
        if failing is None:
            return Decision(as_variant(model, variant), None, _why(variant, unfit))
        unfit.append(failing)
    return Decision(as_variant(model, fp32), unfit[-1] if fp32 in variants else None, _why(fp32, unfit))


def _failing(found: Iterable[Parity | None], besides: Tolerance | None = None) -> str | None:
    """The first that does not pass, or does more than is allowed besides, in words."""
    for one in found:
        if one is not None and not one.passed:
            return (
                f"{describe(one, Tolerance(one.flips_allowed, one.move_allowed))}; choose another precision or runtime"
            )
        if one is not None and besides is not None and not _is_within(one, besides):
            return describe(one, besides)
    return None


def _is_within(one: Parity, allowed: Tolerance) -> bool:
    assert one.flips is not None  # it passed
    assert one.largest_move is not None
    return one.flips <= allowed.flips * one.n and one.largest_move <= allowed.move


def _why(variant: str, unfit: Sequence[str]) -> str:
    has = {"bf16": provenance.has_fast_bf16(), "int8": provenance.has_fast_int8()}
    slower = "".join(f"; this processor does not multiply {name} in hardware" for name in has if not has[name])
    reasons = (reason.removesuffix("; choose another precision or runtime") for reason in unfit)
    return f"precision = 'auto' is {variant}" + "".join(f"; {reason}" for reason in reasons) + slower


def bring_up_to_date(checks: Sequence[Check], workspace: Workspace, map_unordered: MapUnordered) -> list[Parity]:
    """Make the checks that are not stored, or had no numbers; each is stored as soon as it is made.

    Args:
        map_unordered: an opened engine.

    Returns:
        All of them, in the order of the checks and their variants.
    """
    if not checks:
        return []
    keys = list(dict.fromkeys(key for check in checks for key in check.keys.values()))
    with opened(workspace.db) as connection:
        stored = {one.parity_key: one for one in reader.parities(connection, parity_keys=keys) if one.problem is None}
    for check, made in map_unordered(_made, _missing(checks, stored)):
        found = _unanswered(check, made.reason) if isinstance(made, WorkerLost) else made
        with opened(workspace.db) as connection:
            writer.write_parities(connection, found)
        stored |= {one.parity_key: one for one in found}
    return [stored[key] for key in keys]


def _missing(checks: Iterable[Check], stored: Iterable[str]) -> list[Check]:
    """The checks without the variants that are stored, and without those that an earlier one has too."""
    todo, known = [], set(stored)
    for check in checks:
        specs = {variant: spec for variant, spec in check.specs.items() if check.keys[variant] not in known}
        if specs:
            todo.append(replace(check, specs=specs))
            known |= set(check.keys.values())
    return todo


def _unanswered(check: Check, reason: str) -> list[Parity]:
    return [measured(check.weights, variant, spec, len(check.texts), reason) for variant, spec in check.specs.items()]


def _made(check: Check, progress: Progress) -> list[Parity]:
    """In a worker: ask the reference and every variant the same texts. A variant that fails is an outcome, no
    exception."""
    from threadpoolctl import threadpool_limits

    seed = "" if check.weights.adapter.seed is None else f" seed {check.weights.adapter.seed}"
    label = f"parity of {check.weights.adapter.adapter_id}{seed}"
    n, asked = len(check.texts), [variant for variant in check.specs if variant != RELOADED]
    reference: Floats | None = None
    made = []
    with threadpool_limits(1), progress(label, n * (len(asked) + bool(asked))) as advance:
        for variant, spec in check.specs.items():
            answers: tuple[Floats, Floats] | str
            try:
                if variant == RELOADED:
                    answers = _reloaded(check)
                else:
                    reference = _answers(check, REFERENCE, advance) if reference is None else reference
                    answers = reference, _answers(check, variant, advance)
            except HarnessError as problem:
                answers = str(problem)
            except Exception as problem:  # noqa: BLE001 (whatever a runtime does: this variant is not used)
                answers = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
            made.append(measured(check.weights, variant, spec, n, answers))
    return made


def _answers(check: Check, variant: str, advance: Advance) -> Floats:
    """A variant's probabilities of class 1, by the way on which it is scored; shape (n,)."""
    if variant == MERGED:
        from harness.models.transformer import SequenceClassifier
        from harness.models.variants import merged

        assert check.ingredients.base_dir is not None
        whole = merged(_network(check))
        classifier: Classifier = SequenceClassifier(whole, check.ingredients.base_dir, check.ingredients.max_length)
    else:
        model = as_variant(check.model, variant)
        of_base = check.weights.base_digest
        made_from = in_runtime(check.ingredients, model, of_base, check.weights, check.suite, check.cache)
        classifier = models.load(model, made_from)
    return classifier.predict(check.texts, advance).scores


def _network(check: Check) -> Any:
    from harness.models import peft, transformer

    module = peft if isinstance(check.model, PeftModel) else transformer
    return module.network(check.ingredients)


def _reloaded(check: Check) -> tuple[Floats, Floats]:
    """What training's network said of the probe texts before it was saved, and what the loaded one says."""
    from harness.models.transformer import probe_scores

    before = check.weights.adapter.card.get("probe_scores")
    if before is None:
        raise AdapterError("it has no card that tells what it answered in memory")
    assert check.ingredients.base_dir is not None
    return np.array(before), np.array(probe_scores(_network(check), check.ingredients.base_dir))
