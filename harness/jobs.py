"""What there is to score: every model, seed and split of a suite, with the key under which its run is stored.

Made without torch: digests of files and declarations are all it takes, so a second evaluation that has nothing to do
says so at once.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from harness import data, digest, provenance, training
from harness.declarations import (
    Adapter,
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
from harness.models.protocol import Ingredients
from harness.records import Split
from harness.run import VERSION, Job
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
class _Recipe:
    """What one model with one seed is made from, whatever the split."""

    ingredients: Ingredients
    adapter_digest: str | None
    adapter: Adapter | None
    base_digest: str | None
    train_digest: str | None
    """Digest of the rows that it learns from."""
    trained_on: frozenset[str]
    """Digests of the texts that its adapter has seen, as the adapter's own folder says; empty without an adapter."""
    blocked: str | None


def _seeds(suite: Suite, model: Model) -> tuple[int | None, ...]:
    if isinstance(model, PeftModel | TransformerModel) and model.adapter is not None:
        adapter: Adapter = by_id(suite.adapter, model.adapter)
        return adapter.train.seeds
    if isinstance(model, TransformerModel) and model.seeds is not None:
        return model.seeds
    return (None,)


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
    adapter, adapter_dir, adapter_digest, blocked = None, None, None, None
    seen: frozenset[str] = frozenset()
    if isinstance(model, PeftModel | TransformerModel) and model.adapter is not None and seed is not None:
        trainings = training.jobs(suite, materials.splits, materials.bases, workspace.adapters)
        job = next(job for job in trainings if (job.adapter.id, job.seed) == (model.adapter, seed))
        adapter, base, train, adapter_dir = job.adapter, job.base, job.split, job.folder
        blocked = untrainable.get((adapter.id, seed))
        if blocked is None:
            try:
                record = card.read(adapter_dir)
                seen, adapter_digest = card.trained_on(adapter_dir, record), record.adapter_digest
            except AdapterError as problem:
                blocked = str(problem)
    ingredients = Ingredients(
        seed=seed,
        max_length=suite.text.max_length,
        base_dir=base.folder if base else None,
        adapter_dir=adapter_dir,
        train_texts=texts,
        train_labels=[example.label for example in train.examples] if texts and train else [],
    )
    return _Recipe(
        ingredients=ingredients,
        adapter_digest=adapter_digest,
        adapter=adapter,
        base_digest=base.digest if base else None,
        train_digest=train.digest if train else None,
        trained_on=seen,
        blocked=blocked,
    )


def _leak(recipe: _Recipe, seed: int | None, split: Split) -> str | None:
    """What of a split the adapter was trained on. Its folder may be another than the one that the suite would train."""
    try:
        data.check_no_leak(recipe.trained_on, split, f"adapter {recipe.adapter and recipe.adapter.id!r} seed {seed}")
    except LeakError as problem:
        return str(problem)
    return None


def _job(
    suite: Suite, model: Model, seed: int | None, split: Split, recipe: _Recipe, git: tuple[str | None, bool | None]
) -> Job:
    configuration = {
        "model": model.model_dump(mode="json", exclude_none=True, exclude={"seeds"}),
        "adapter": recipe.adapter and recipe.adapter.model_dump(mode="json", exclude={"train": {"seeds"}}),
        "base": recipe.base_digest,
        "train": recipe.train_digest,
        "text": {"template": suite.text.template, "max_length": suite.text.max_length},
    }
    spec = configuration | {
        "version": VERSION,
        "seed": seed,
        "adapter_digest": recipe.adapter_digest,
        "split": {"id": split.split_id, "digest": split.digest},
        "packages": {name: provenance.packages().get(name) for name in provenance.SCORING_PACKAGES},
    }
    leak, forbidden = _leak(recipe, seed, split), suite.audit.exact_overlap == "forbid"
    return Job(
        suite=suite,
        model=model,
        seed=seed,
        split=split,
        ingredients=recipe.ingredients,
        adapter_digest=recipe.adapter_digest,
        configuration=digest.of_json(configuration),
        run_key=digest.of_json(spec),
        spec=spec,
        git_commit=git[0],
        git_dirty=git[1],
        blocked=recipe.blocked or (leak if forbidden else None),
        warning=None if forbidden else leak,
    )
