"""Ingredients of a model with a seed, independent of the split: base, trained weights and training rows.

Weights are trained by the suite or come from elsewhere; both are described by the same record.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from harness.errors import AdapterError, FetchError
from harness.evaluation import parity
from harness.evaluation.inputs import ResolvedInputs, Workspace
from harness.models import adapter_files
from harness.models.bases import ResolvedBase
from harness.models.classifier import CARD, ModelInputs
from harness.records import AdapterRecord, Split
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
    ProbeModel,
    Suite,
    TfidfModel,
    TransformerModel,
)
from harness.training import card, plan


@dataclass(frozen=True, slots=True)
class ForeignWeights:
    """An adapter from elsewhere, on this machine."""

    folder: Path
    record: AdapterRecord
    trained_on: frozenset[str] | None
    """Digests of the texts that it has seen, according to its own folder; None if unknown."""
    made_on: str | None
    """The base that its configuration names, if any."""


def find_foreign(declared: ForeignAdapter, base: ResolvedBase, suite_dir: Path, cache: Path) -> ForeignWeights:
    """Find a declared adapter, and verify all of it that can be verified without torch.

    Args:
        base: the base on which the suite puts it.
        suite_dir: the folder to which paths are relative.
        cache: the folder for files from the hub.

    Raises:
        FetchError: the hub does not serve it.
        AdapterError: it cannot be used, or its card names another base.
    """
    folder = adapter_files.find(declared, suite_dir, cache, also=(card.TRAINED_ON,))
    config = adapter_files.configuration(folder)
    adapter_files.check_labels(folder)
    named = config.get("base_model_name_or_path")
    made_on = named if isinstance(named, str) else None
    if (folder / CARD).is_file():
        record = _record(folder)
        if record.base_digest != base.digest:
            raise AdapterError(
                f"adapter {declared.id}: {folder / CARD} records training on another base (digest "
                f"{record.base_digest[:12]}) than {declared.base!r} (digest {base.digest[:12]})"
            )
        return ForeignWeights(folder, record, card.trained_on(folder, record), made_on)
    adapter_files.check_labels(base.folder, of_base=True)
    record = AdapterRecord(
        adapter_digest=adapter_files.identity(folder),
        adapter_id=declared.id,
        method=config["peft_type"].lower(),
        params=adapter_files.params(config),
        base_digest=base.digest,
        trained_on=None,
        n_trainable=None,
        seed=None,
        train_seconds=None,
        peak_bytes=None,
        size_bytes=card.size_bytes(folder),
        card={},
    )
    return ForeignWeights(folder, record, None, made_on)


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


@dataclass(frozen=True, slots=True)
class TrainedWeights:
    """The weights with which a model is scored, and their provenance."""

    adapter: AnyAdapter
    base: ResolvedBase
    train: Split | None
    """Split on which the suite trains them; None if they come from elsewhere."""
    folder: Path | None
    record: AdapterRecord | None
    trained_on: frozenset[str] | None
    """Digests of the texts that they have seen, according to their own folder; None if unknown."""
    blocked: str | None
    doubt: str | None = None
    """Reason why they may not fit the base on which the suite puts them."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Ingredients of one model with one seed, independent of the split."""

    ingredients: ModelInputs
    weights: TrainedWeights | None
    base_digest: str | None
    train_digest: str | None
    """Digest of its training rows."""

    @property
    def parity_weights(self) -> parity.Weights | None:
        """Its trained weights in the form that parity checks take; None if it has none."""
        if self.weights is None or self.weights.record is None or self.weights.blocked is not None:
            return None
        return parity.Weights(self.weights.record, self.weights.base.digest, self.weights.train)


def adapter_of(suite: Suite, model: Model) -> AnyAdapter | None:
    """Look up the adapter that a model names, if any."""
    if isinstance(model, PeftModel | TransformerModel) and model.adapter is not None:
        adapter: AnyAdapter = by_id(suite.adapter, model.adapter)
        return adapter
    return None


def _seeds(suite: Suite, model: Model) -> tuple[int | None, ...]:
    adapter = adapter_of(suite, model)
    if isinstance(adapter, Adapter):
        return adapter.train.seeds
    if isinstance(model, TransformerModel) and model.seeds is not None:
        return model.seeds
    return (None,)


def of(
    suite: Suite,
    model: Model,
    materials: ResolvedInputs,
    workspace: Workspace,
    untrainable: Mapping[tuple[str, int], str] | None,
) -> dict[int | None, Recipe]:
    """Make the recipe of a model for each of its seeds.

    Args:
        untrainable: why weights are absent, by adapter id and seed, as training reported it.
    """
    return {seed: _recipe(suite, model, seed, materials, workspace, untrainable or {}) for seed in _seeds(suite, model)}


def can_calibrate(suite: Suite, model: Model) -> bool:
    """Report whether the rows on which a model's weights were trained are available."""
    return isinstance(adapter_of(suite, model), Adapter)


def _trained_here(
    suite: Suite,
    adapter: Adapter,
    seed: int | None,
    materials: ResolvedInputs,
    workspace: Workspace,
    untrainable: Mapping[tuple[str, int], str],
) -> TrainedWeights:
    trainings = plan.jobs(suite, materials.splits, materials.bases, workspace.adapters)
    job = next(job for job in trainings if (job.adapter.id, job.seed) == (adapter.id, seed))
    record, seen, blocked = None, None, untrainable.get((adapter.id, job.seed))
    if blocked is None and not job.folder.is_dir():
        blocked = plan.why_missing(job)
    if blocked is None:
        try:
            read = card.read(job.folder)
            card.check_is(job, read)
            seen, record = card.trained_on(job.folder, read), read
            if seen is None:  # the key names the split, which is just as good
                seen = frozenset(example.text_digest for example in job.split.examples)
        except AdapterError as problem:
            blocked = str(problem)
    return TrainedWeights(adapter, job.base, job.split, job.folder, record, seen, blocked)


def _from_elsewhere(
    suite: Suite, adapter: ForeignAdapter, materials: ResolvedInputs, workspace: Workspace
) -> TrainedWeights:
    base = materials.bases[adapter.base]
    try:
        found = find_foreign(adapter, base, workspace.suite_path.parent, workspace.cache)
    except (AdapterError, FetchError, OSError) as problem:
        return TrainedWeights(adapter, base, None, None, None, None, str(problem))
    doubt = doubt_of(adapter, found.made_on, by_id(suite.base, adapter.base))
    return TrainedWeights(adapter, base, None, found.folder, found.record, found.trained_on, None, doubt)


def _recipe(
    suite: Suite,
    model: Model,
    seed: int | None,
    materials: ResolvedInputs,
    workspace: Workspace,
    untrainable: Mapping[tuple[str, int], str],
) -> Recipe:
    named = model.base if isinstance(model, ProbeModel | TransformerModel | CheckpointModel) else None
    base = materials.bases[named] if named else None
    train: Split | None = None
    texts: list[str] = []
    if isinstance(model, MajorityModel | TfidfModel | ProbeModel):
        train = materials.splits[model.train_split]
        texts = [suite.text.render(example.title, example.content) for example in train.examples]
    adapter, weights = adapter_of(suite, model), None
    if isinstance(adapter, Adapter):
        weights = _trained_here(suite, adapter, seed, materials, workspace, untrainable)
    elif adapter is not None:
        weights = _from_elsewhere(suite, adapter, materials, workspace)
    if weights is not None:
        base, train = weights.base, weights.train
    ingredients = ModelInputs(
        seed=seed,
        max_length=suite.text.max_length,
        base_dir=base.folder if base else None,
        adapter_dir=weights.folder if weights else None,
        train_texts=texts,
        train_labels=[example.label for example in train.examples] if texts and train else [],
    )
    return Recipe(ingredients, weights, base.digest if base else None, train.digest if train else None)
