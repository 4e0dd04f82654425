"""Weights of adapters, found once for each adapter and seed, and the inputs of the models that are made of them.

    found = find(suite, models, inputs, workspace)       # by adapter and seed: `Weights`, or why there are none
    recipes(suite, model, inputs, found)                 # by seed: everything that the model is loaded from

`Weights` is the one record of an adapter between its declaration and its run, whether the suite trains it or it comes
from elsewhere. All of it is read and verified without torch.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeAlias

from pydantic import TypeAdapter, ValidationError

from harness import keys
from harness.errors import AdapterError, FetchError
from harness.evaluation import prompts
from harness.evaluation.inputs import ResolvedInputs, Workspace
from harness.models import adapter_files, device, draws
from harness.models.bases import ResolvedBase
from harness.models.classifier import CARD, ModelInputs
from harness.records import AdapterRecord, Example, Split
from harness.suite.load import by_id
from harness.suite.schema import (
    Adapter,
    AnyAdapter,
    Base,
    CheckpointModel,
    ForeignAdapter,
    MajorityModel,
    Model,
    PeftModel,
    PlugInModel,
    ProbeModel,
    Prompt,
    PromptModel,
    Suite,
    TfidfModel,
    TransformerModel,
)
from harness.training import card, plan
from harness.training.plan import TrainingJob


@dataclass(frozen=True, slots=True)
class Weights:
    """Trained weights on this machine, verified, and their origin."""

    adapter: AnyAdapter
    seed: int | None
    """Seed with which the suite trains them; None if they come from elsewhere."""
    base: ResolvedBase
    """The base on which the suite puts them."""
    train: Split | None
    """Split on which the suite trains them; None if they come from elsewhere."""
    folder: Path
    record: AdapterRecord
    """Their card, or what their files state where there is none."""
    trained_on: frozenset[str] | None
    """Digests of the texts that they have seen, according to their own folder; None if unknown."""
    doubt: str | None = None
    """Reason why they may not fit the base."""

    @property
    def label(self) -> str:
        """Adapter and seed, for messages."""
        return f"adapter {self.adapter.id!r}" + ("" if self.seed is None else f" seed {self.seed}")


@dataclass(frozen=True, slots=True)
class MissingWeights:
    """Declared weights that cannot be used."""

    adapter: AnyAdapter
    base: ResolvedBase
    train: Split | None
    reason: str
    """Why: not trained yet, training failed, damaged, or not available from elsewhere."""


FoundWeights: TypeAlias = Mapping[tuple[str, int | None], Weights | MissingWeights]
"""By adapter id and seed."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that a model with one seed is made from, independent of the split."""

    ingredients: ModelInputs
    weights: Weights | MissingWeights | None
    """None for a model without an adapter."""
    base_digest: str | None
    train_digest: str | None
    """Digest of its training rows."""
    prompt: keys.Spec | None = None
    """Everything that it is asked with and shown; None for a model that is not asked in words."""
    base_origin: str | None = None
    """Form that the base's weights had before they were dequantised; None for plain weights."""

    @property
    def usable(self) -> Weights | None:
        """Its weights, if it has any that can be used."""
        return self.weights if isinstance(self.weights, Weights) else None


_WITH_ADAPTERS = PeftModel | TransformerModel | PromptModel
"""Models that may name an adapter."""


def find(
    suite: Suite,
    models: Iterable[Model],
    inputs: ResolvedInputs,
    workspace: Workspace,
    failures: Mapping[tuple[str, int], str] | None = None,
) -> FoundWeights:
    """Find the weights of every adapter that these models use, with each of its seeds.

    Args:
        failures: why trainings failed, by adapter id and seed.
    """
    used = {model.adapter for model in models if isinstance(model, _WITH_ADAPTERS)}
    found: dict[tuple[str, int | None], Weights | MissingWeights] = {
        key: trained_here(job, (failures or {}).get(key)) for key, job in inputs.trainings.items() if key[0] in used
    }
    for adapter in suite.adapter:
        if adapter.id in used and not isinstance(adapter, Adapter):
            base = inputs.bases[adapter.base]
            found[adapter.id, None] = from_elsewhere(adapter, by_id(suite.base, adapter.base), base, workspace)
    return found


def trained_here(job: TrainingJob, failure: str | None = None) -> Weights | MissingWeights:
    """Read the weights that a training made, and check that they are the ones that the suite would train.

    Args:
        failure: why the training failed, if it just did.
    """
    if failure is None and not job.folder.is_dir():
        failure = plan.why_missing(job)
    if failure is not None:
        return MissingWeights(job.adapter, job.base, job.split, failure)
    try:
        record = card.read(job.folder)
        card.check_is(job, record)
        seen = card.trained_on(job.folder, record)
    except AdapterError as problem:
        return MissingWeights(job.adapter, job.base, job.split, str(problem))
    if seen is None:  # the key names the split, which is just as good
        seen = frozenset(example.text_digest for example in job.split.examples)
    return Weights(job.adapter, job.seed, job.base, job.split, job.folder, record, seen)


def from_elsewhere(
    declared: ForeignAdapter, base: Base, resolved: ResolvedBase, workspace: Workspace
) -> Weights | MissingWeights:
    """Find a declared adapter, and verify all of it that can be verified without torch.

    Args:
        base: the base on which the suite puts it.
        resolved: the same base on this machine.
    """
    try:
        return _from_elsewhere(declared, base, resolved, workspace)
    except (AdapterError, FetchError, OSError) as problem:
        return MissingWeights(declared, resolved, None, str(problem))


def _from_elsewhere(declared: ForeignAdapter, base: Base, resolved: ResolvedBase, workspace: Workspace) -> Weights:
    folder = adapter_files.find(declared, workspace.suite_path.parent, workspace.cache, also=(card.TRAINED_ON,))
    config = adapter_files.configuration(folder)
    adapter_files.check_task(folder, config, declared.task)
    if declared.task is None:  # a language model answers in words, whatever its map of labels says
        adapter_files.check_labels(folder)
    named, seen = config.get("base_model_name_or_path"), None
    if (folder / CARD).is_file():
        record = _record(folder)
        if record.base_digest != resolved.digest:
            raise AdapterError(
                f"adapter {declared.id}: {folder / CARD} records training on another base (digest "
                f"{record.base_digest[:12]}) than {declared.base!r} (digest {resolved.digest[:12]})"
            )
        seen = card.trained_on(folder, record)
    else:
        if declared.task is None:
            adapter_files.check_labels(resolved.folder, of_base=True)
        record = AdapterRecord(
            adapter_digest=adapter_files.identity(folder),
            adapter_id=declared.id,
            method=config["peft_type"].lower(),
            params=adapter_files.params(config),
            base_digest=resolved.digest,
            trained_on=None,
            n_trainable=None,
            seed=None,
            train_seconds=None,
            peak_bytes=None,
            size_bytes=card.size_bytes(folder),
            card={},
        )
    doubt = doubt_of(declared, named if isinstance(named, str) else None, base)
    return Weights(declared, None, resolved, None, folder, record, seen, doubt)


def doubt_of(declared: ForeignAdapter, made_on: str | None, base: Base) -> str | None:
    """Warn of an adapter whose configuration names another base than the suite's, which may have good reasons."""
    names = (base.id, *(getattr(base, key, None) for key in ("name", "package", "path")))
    if not made_on or _last(made_on) in {_last(name) for name in names if name}:
        return None
    return (
        f"adapter {declared.id!r} names {made_on!r} as its base, and the suite puts it on {base.id!r}: unless both are "
        "the same weights, its scores mean nothing"
    )


def _last(name: str) -> str:
    """Last part of a path or a repository name, in lower case."""
    return name.rstrip("/").rpartition("/")[2].lower()


def _record(folder: Path) -> AdapterRecord:
    """Read a card that somebody else may have written."""
    try:
        return TypeAdapter(AdapterRecord).validate_python(asdict(card.read(folder)))
    except ValidationError as problem:
        first = problem.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise AdapterError(f"{folder / CARD}: {place}: {first['msg']}") from None
    except RecursionError:
        raise AdapterError(f"{folder / CARD} is nested too deeply") from None


def _train_split_id(model: Model) -> str | None:
    """The split on which a model is fitted when it is loaded; None for a model that is not."""
    return model.train_split if isinstance(model, MajorityModel | TfidfModel | ProbeModel | PlugInModel) else None


def _fitted_on(model: Model, inputs: ResolvedInputs, draw: int | None) -> Sequence[Example]:
    """The rows on which a model is fitted when it is loaded; none for a model that is not."""
    split_id = _train_split_id(model)
    if split_id is None:
        return ()
    rows = inputs.splits[split_id].examples
    if not isinstance(model, TfidfModel | ProbeModel) or model.repeats is None or draw is None:
        return rows
    labels = [example.label for example in rows]
    return [rows[position] for position in draws.positions(labels, model.repeats, draw, f"model {model.id}")]


def adapter_of(suite: Suite, model: Model) -> AnyAdapter | None:
    """Look up the adapter that a model names, if any."""
    if isinstance(model, _WITH_ADAPTERS) and model.adapter is not None:
        adapter: AnyAdapter = by_id(suite.adapter, model.adapter)
        return adapter
    return None


def device_of(model: Model, kind: str) -> str:
    """The kind of device that computes a model: the chosen one if it is a network in torch, else the processor."""
    networks = ProbeModel | TransformerModel | PeftModel | CheckpointModel | PromptModel
    in_torch = isinstance(model, networks) and getattr(model, "runtime", "torch") == "torch"
    return kind if in_torch else device.PROCESSOR


def can_calibrate(suite: Suite, model: Model) -> bool:
    """Report whether the rows on which a model's weights were trained are available."""
    return isinstance(adapter_of(suite, model), Adapter)


def is_quantised(suite: Suite, model: Model) -> bool:
    """Report whether the base of a model's adapter is declared in 4 bits."""
    adapter = adapter_of(suite, model)
    return adapter is not None and by_id(suite.base, adapter.base).quantisation is not None


def recipes(suite: Suite, model: Model, inputs: ResolvedInputs, found: FoundWeights) -> dict[int | None, Recipe]:
    """Make the recipe of a model for each of its seeds.

    Args:
        found: the weights of its adapter, if it has one.
    """
    adapter = adapter_of(suite, model)
    fitted_on_split = _train_split_id(model)
    train = None if fitted_on_split is None else inputs.splits[fitted_on_split]
    of_base = ProbeModel | TransformerModel | CheckpointModel | PromptModel | PlugInModel
    named = model.base if isinstance(model, of_base) else None
    base = inputs.bases[named] if named else None
    made = {}
    for seed in suite.seeds_of(model):
        trained_with = seed
        if isinstance(model, PromptModel) and seed is not None:
            trained_with = suite.asked_of(model)[seed].training_seed
        weights = found[adapter.id, trained_with] if adapter is not None else None
        if weights is not None:
            base, train = weights.base, weights.train
        fitted_on = _fitted_on(model, inputs, seed)
        ingredients = ModelInputs(
            seed=seed,
            max_length=suite.text.max_length,
            base_dir=base.folder if base else None,
            adapter_dir=weights.folder if isinstance(weights, Weights) else None,
            train_texts=[suite.text.render(example.title, example.content) for example in fitted_on],
            train_labels=[example.label for example in fitted_on],
            device=device_of(model, inputs.device),
        )
        described = None
        if isinstance(model, PromptModel):
            asked, described = prompts.inputs(suite, model, ingredients.head_seed, inputs.splits)
            ingredients = replace(ingredients, prompt=asked)
            if isinstance(weights, Weights) and (other := _asked_otherwise(weights, asked.prompt)) is not None:
                weights = MissingWeights(weights.adapter, weights.base, weights.train, other)
                ingredients = replace(ingredients, adapter_dir=None)
        made[seed] = Recipe(
            ingredients,
            weights,
            base.digest if base else None,
            train.digest if train else None,
            described,
            base.origin if base else None,
        )
    return made


def _asked_otherwise(weights: Weights, prompt: Prompt) -> str | None:
    """Compare a prompt with those that the card of a language model's adapter records; None without a card.

    Returns:
        The reason for refusing to ask the adapter like that, or None.
    """
    trained = weights.record.card.get("prompts")
    if not weights.record.card:
        return None
    if not isinstance(trained, list) or not all(isinstance(one, dict) for one in trained):
        return f"{weights.folder}: its card does not state the prompts that it was trained on; restore it"
    mine = prompt.model_dump(mode="json", exclude={"id"})
    its = [{name: value for name, value in one.items() if name != "id"} for one in trained]
    if mine in its:
        return None
    nearest = min(its, key=lambda one: sum(mine[name] != one.get(name) for name in mine), default={})
    differing = [name for name in mine if mine[name] != nearest.get(name)]
    return (
        f"{weights.label} was trained on other prompts than {prompt.id!r}, according to its card: they differ in "
        f"{', '.join(differing)}; declare the prompt as it was trained"
    )
