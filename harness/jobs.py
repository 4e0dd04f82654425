"""What there is to score: every model, seed and split of a suite, with the key under which its run is stored.

Made without torch: digests of files and declarations are all it takes, so a second evaluation that has nothing to do
says so at once.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness import data, digest, elsewhere, provenance, training
from harness.declarations import (
    Adapter,
    AnyAdapter,
    ForeignAdapter,
    MajorityModel,
    Model,
    PeftModel,
    ProbeModel,
    Suite,
    TfidfModel,
    TransformerModel,
)
from harness.errors import AdapterError, LeakError
from harness.gather import Materials, Workspace
from harness.models.bases import ResolvedBase
from harness.models.protocol import Ingredients
from harness.records import AdapterRecord, Split
from harness.run import Job, scoring_code
from harness.suite import by_id
from harness.training import card


def plan(
    suite: Suite,
    materials: Materials,
    workspace: Workspace,
    *,
    model_ids: Collection[str] = (),
    split_ids: Collection[str] = (),
    limit: int | None = None,
    untrainable: Mapping[tuple[str, int], str] | None = None,
) -> list[Job]:
    """Every model, seed and scored split of the suite, with the key under which its run is or will be stored.

    Args:
        model_ids: only these models; all where empty.
        split_ids: only these splits; all that nothing is trained on where empty.
        limit: only the first so many examples of each split.
        untrainable: why weights are absent, by adapter id and seed, as training said.
    """
    scored = [
        split if limit is None else data.first(split, limit)
        for split in materials.splits.values()
        if split.split_id not in suite.train_split_ids and (not split_ids or split.split_id in split_ids)
    ]
    git = provenance.git(workspace.suite_path.resolve().parent)
    jobs = []
    for model in suite.model:
        if model_ids and model.id not in model_ids:
            continue
        for seed in _seeds(suite, model):
            recipe = _recipe(suite, model, seed, materials, workspace, untrainable or {})
            jobs += [_job(suite, model, seed, split, recipe, git) for split in scored]
    return jobs


def current_keys(jobs: Iterable[Job]) -> list[str]:
    """The keys whose stored runs count: not those of jobs that are blocked now, whatever was scored before."""
    return [job.run_key for job in jobs if job.blocked is None]


@dataclass(frozen=True, slots=True)
class _Weights:
    """What is known of the weights that a model is scored with."""

    adapter: AnyAdapter
    base: ResolvedBase
    train: Split | None
    """What the suite would train them on; None where they come from elsewhere."""
    folder: Path | None
    record: AdapterRecord | None
    trained_on: frozenset[str] | None
    """Digests of the texts that they have seen, as their own folder says; None where that is unknown."""
    blocked: str | None


@dataclass(frozen=True, slots=True)
class _Recipe:
    """What one model with one seed is made from, whatever the split."""

    ingredients: Ingredients
    weights: _Weights | None
    base_digest: str | None
    train_digest: str | None
    """Digest of the rows that it learns from."""


def _adapter(suite: Suite, model: Model) -> AnyAdapter | None:
    """The adapter that a model names."""
    if isinstance(model, PeftModel | TransformerModel) and model.adapter is not None:
        adapter: AnyAdapter = by_id(suite.adapter, model.adapter)
        return adapter
    return None


def _seeds(suite: Suite, model: Model) -> tuple[int | None, ...]:
    adapter = _adapter(suite, model)
    if isinstance(adapter, Adapter):
        return adapter.train.seeds
    if isinstance(model, TransformerModel) and model.seeds is not None:
        return model.seeds
    return (None,)


def _trained_here(
    suite: Suite,
    adapter: Adapter,
    seed: int | None,
    materials: Materials,
    workspace: Workspace,
    untrainable: Mapping[tuple[str, int], str],
) -> _Weights:
    trainings = training.jobs(suite, materials.splits, materials.bases, workspace.adapters)
    job = next(job for job in trainings if (job.adapter.id, job.seed) == (adapter.id, seed))
    record, seen, blocked = None, None, untrainable.get((adapter.id, job.seed))
    if blocked is None and not job.folder.is_dir():
        blocked = f"adapter {adapter.id!r} seed {job.seed} has not been trained yet; evaluate the suite first"
    if blocked is None:
        try:
            read = card.read(job.folder)
            seen, record = card.trained_on(job.folder, read), read
            card.check_is(job, record)
        except AdapterError as problem:
            blocked = str(problem)
    return _Weights(adapter, job.base, job.split, job.folder, record, seen, blocked)


def _from_elsewhere(adapter: ForeignAdapter, materials: Materials, workspace: Workspace) -> _Weights:
    base = materials.bases[adapter.base]
    try:
        found = elsewhere.find(adapter, base, workspace.suite_path.parent, workspace.cache)
    except AdapterError as problem:
        return _Weights(adapter, base, None, None, None, None, str(problem))
    return _Weights(adapter, base, None, found.folder, found.record, found.trained_on, None)


def _recipe(
    suite: Suite,
    model: Model,
    seed: int | None,
    materials: Materials,
    workspace: Workspace,
    untrainable: Mapping[tuple[str, int], str],
) -> _Recipe:
    base = materials.bases[model.base] if isinstance(model, ProbeModel | TransformerModel) and model.base else None
    train: Split | None = None
    texts: list[str] = []
    if isinstance(model, MajorityModel | TfidfModel | ProbeModel):
        train = materials.splits[model.train_split]
        texts = [suite.text.render(example.title, example.content) for example in train.examples]
    adapter, weights = _adapter(suite, model), None
    if isinstance(adapter, Adapter):
        weights = _trained_here(suite, adapter, seed, materials, workspace, untrainable)
    elif adapter is not None:
        weights = _from_elsewhere(adapter, materials, workspace)
    if weights is not None:
        base, train = weights.base, weights.train
    ingredients = Ingredients(
        seed=seed,
        max_length=suite.text.max_length,
        base_dir=base.folder if base else None,
        adapter_dir=weights.folder if weights else None,
        train_texts=texts,
        train_labels=[example.label for example in train.examples] if texts and train else [],
    )
    return _Recipe(ingredients, weights, base.digest if base else None, train.digest if train else None)


def _leak(weights: _Weights | None, seed: int | None, split: Split) -> str | None:
    """What of a split the weights were trained on. Their folder may be another than the one the suite would train."""
    if weights is None or weights.trained_on is None:
        return None
    who = f"adapter {weights.adapter.id!r}" + ("" if seed is None else f" seed {seed}")
    try:
        data.check_no_leak(weights.trained_on, split, who)
    except LeakError as problem:
        return str(problem)
    return None


def _unknown_training(weights: _Weights | None) -> str | None:
    if weights is None or weights.record is None or weights.trained_on is not None:
        return None
    return f"what adapter {weights.adapter.id!r} was trained on is unknown: it may have seen these very texts"


def _job(
    suite: Suite, model: Model, seed: int | None, split: Split, recipe: _Recipe, git: tuple[str | None, bool | None]
) -> Job:
    weights = recipe.weights
    record = weights.record if weights else None
    configuration = {
        "model": model.model_dump(mode="json", exclude_none=True, exclude={"seeds"}),
        "adapter": weights and weights.adapter.model_dump(mode="json", exclude={"train": {"seeds"}, "path": True}),
        "base": recipe.base_digest,
        "train": recipe.train_digest,
        "text": {"template": suite.text.template, "max_length": suite.text.max_length},
    }
    spec = configuration | {
        "scoring_code": scoring_code(),
        "seed": seed,
        "adapter_digest": record and record.adapter_digest,
        "split": {"id": split.split_id, "digest": split.digest},
        "packages": {name: provenance.packages().get(name) for name in provenance.SCORING_PACKAGES},
    }
    leak, forbidden = _leak(weights, seed, split), suite.audit.exact_overlap == "forbid"
    return Job(
        suite=suite,
        model=model,
        seed=seed,
        split=split,
        ingredients=recipe.ingredients,
        adapter=record,
        configuration=digest.of_json(configuration),
        run_key=digest.of_json(spec),
        spec=spec,
        git_commit=git[0],
        git_dirty=git[1],
        blocked=(weights.blocked if weights else None) or (leak if forbidden else None),
        warning=_unknown_training(weights) or (None if forbidden else leak),
    )
