"""The scoring plan: every model, seed and split of a suite, with the key under which its run is stored.

Planning needs no torch, only digests of files and declarations, so a second evaluation that has nothing to do reports
that immediately.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from harness import data, keys
from harness.artifacts import digest
from harness.errors import LeakError
from harness.evaluation import parity
from harness.evaluation import weights as evaluation_weights
from harness.evaluation.inputs import ResolvedInputs, Workspace
from harness.evaluation.parity import Check
from harness.evaluation.scoring import Job
from harness.evaluation.weights import FoundWeights, MissingWeights, Recipe, Weights
from harness.models import device
from harness.records import Parity, Split
from harness.store import reader
from harness.store.connection import opened
from harness.suite.schema import CheckpointModel, Model, PlugInModel, PredictionsModel, PromptModel, Suite
from harness.suite.text import Rendered


def plan(
    suite: Suite,
    materials: ResolvedInputs,
    workspace: Workspace,
    *,
    model_ids: Collection[str] = (),
    split_ids: Collection[str] = (),
    limit: int | None = None,
    found: FoundWeights | None = None,
) -> list[Job]:
    """List every model, seed and scored split of the suite, with the key under which its run is or will be stored.

    Args:
        model_ids: only these models; all where empty.
        split_ids: only these splits; all that nothing is trained on where empty.
        limit: score only this many examples from the start of each split.
        found: the weights of these models; looked for where None.
    """
    models = [model for model in suite.model if not model_ids or model.id in model_ids]
    found = evaluation_weights.find(suite, models, materials, workspace) if found is None else found
    scored = scored_splits(suite, materials, split_ids=split_ids, limit=limit).values()
    git = materials.git_commit, materials.git_dirty
    sample, planned = parity.sample(suite, materials.splits), []
    for model in models:
        by_seed = evaluation_weights.recipes(suite, model, materials, found)
        variants = parity.wanted(
            model,
            can_calibrate=evaluation_weights.can_calibrate(suite, model),
            kind=evaluation_weights.device_of(model, workspace.device),
        )
        planned.append((model, by_seed, variants, _checks(suite, model, by_seed, variants, sample, workspace)))
    stored = _stored([key for *_, held in planned for check in held for key in check.keys.values()], workspace)
    jobs = []
    for model, by_seed, variants, held in planned:
        answers = {variant: [stored.get(check.keys[variant]) for check in held] for variant in variants}
        decision = parity.choose_variant(
            model, variants, answers, evaluation_weights.device_of(model, workspace.device)
        )
        unanswered: Mapping[str, str] = {}
        of_model = [split for split in scored if suite.scores(model, split.split_id)]
        if isinstance(model, PredictionsModel):
            from harness.evaluation import answers as elsewhere  # reads files, for which it imports pyarrow

            whole = [materials.splits[split.split_id] for split in of_model]
            given = elsewhere.given(model, suite.text, whole, workspace.places)
            by_seed, unanswered = _with_answers(by_seed, given.scores), given.problems
        for seed, recipe in by_seed.items():
            for split in of_model:
                missing = unanswered.get(split.split_id)
                jobs.append(_job(suite, decision, seed, split, recipe, git, workspace, missing))
    return jobs


def scored_splits(
    suite: Suite, materials: ResolvedInputs, *, split_ids: Collection[str] = (), limit: int | None = None
) -> dict[str, Split]:
    """Select the splits to score by id, in the suite's order; the arguments are those of `plan`."""
    return {
        split.split_id: split if limit is None else data.first(split, limit)
        for split in materials.splits.values()
        if split.split_id not in suite.train_split_ids and (not split_ids or split.split_id in split_ids)
    }


def _with_answers(by_seed: Mapping[int | None, Recipe], scores: Mapping[str, float]) -> dict[int | None, Recipe]:
    return {
        seed: replace(recipe, ingredients=replace(recipe.ingredients, answers=scores))
        for seed, recipe in by_seed.items()
    }


def checks(
    suite: Suite,
    materials: ResolvedInputs,
    workspace: Workspace,
    *,
    model_ids: Collection[str] = (),
    variants: Sequence[str] = (),
    found: FoundWeights | None = None,
) -> list[Check]:
    """List the parity checks: each trained model and seed, in the variants in which the suite uses it.

    Args:
        model_ids: only these models; all where empty.
        variants: check these instead of the ones that the suite uses, as far as a model supports them.
        found: the weights of these models, as for `plan`.
    """
    models = [model for model in suite.model if not model_ids or model.id in model_ids]
    found = evaluation_weights.find(suite, models, materials, workspace) if found is None else found
    sample, made = parity.sample(suite, materials.splits), list[Check]()
    for model in models:
        can_calibrate = evaluation_weights.can_calibrate(suite, model)
        in_4_bits = evaluation_weights.is_quantised(suite, model)
        chosen = parity.supported(model, variants, can_calibrate=can_calibrate, in_4_bits=in_4_bits)
        chosen = (
            chosen
            if variants
            else parity.wanted(
                model, can_calibrate=can_calibrate, kind=evaluation_weights.device_of(model, workspace.device)
            )
        )
        by_seed = evaluation_weights.recipes(suite, model, materials, found)
        made += _checks(suite, model, by_seed, chosen, sample, workspace)
    return made


def _checks(
    suite: Suite,
    model: Model,
    by_seed: Mapping[int | None, Recipe],
    variants: Sequence[str],
    texts: tuple[Rendered, ...],
    workspace: Workspace,
) -> list[Check]:
    """Make one check for each seed whose weights are available."""
    if not variants or not parity.has_variants(model):
        return []
    # A prompt may use more of a review than the suite's own template.
    read = [list(text.fields) for text in texts] if isinstance(model, PromptModel) else list(texts)
    sample_digest, length = digest.of_json(read), suite.text.max_length
    return [
        Check(
            suite=suite,
            model=model,
            recipe=recipe,
            weights=weights,
            texts=texts,
            specs={
                variant: parity.spec(
                    weights, variant, sample_digest, length, recipe.prompt, device.for_key(recipe.ingredients.device)
                )
                for variant in variants
            },
            cache=workspace.cache,
        )
        for recipe in by_seed.values()
        if (weights := recipe.usable) is not None
    ]


def _stored(keys: Collection[str], workspace: Workspace) -> dict[str, Parity]:
    """Read the stored results of these checks, by key."""
    if not keys or not workspace.db.is_file():
        return {}
    with opened(workspace.db, read_only=True) as connection:
        return {one.parity_key: one for one in reader.parities(connection, parity_keys=keys)}


def current_keys(jobs: Iterable[Job]) -> list[str]:
    """Keys whose stored runs count. A job that is blocked now is left out, even if it was scored before."""
    return [job.run_key for job in jobs if job.blocked is None]


def _leak(weights: Weights | None, split: Split) -> str | None:
    """Describe the rows of a split that the weights were trained on; None if there are none.

    The weights may come from another folder than the one that the suite would train into.
    """
    if weights is None or weights.trained_on is None:
        return None
    try:
        data.check_no_leak(weights.trained_on, split, weights.label)
    except LeakError as problem:
        return str(problem)
    return None


def _unknown_training(model: Model, weights: Weights | None) -> str | None:
    if isinstance(model, PredictionsModel):
        return "its answers were given elsewhere: they cannot be reproduced here, and it may have seen these very texts"
    if isinstance(model, CheckpointModel):
        return f"what base {model.base!r} was trained on is unknown: it may have seen these very texts"
    if isinstance(model, PlugInModel) and model.train_split is None:
        return f"what backend {model.backend!r} was made from is unknown: it may have seen these very texts"
    if weights is None or weights.trained_on is not None:
        return None
    return f"what adapter {weights.adapter.id!r} was trained on is unknown: it may have seen these very texts"


def _job(
    suite: Suite,
    decision: parity.Decision,
    seed: int | None,
    split: Split,
    recipe: Recipe,
    git: tuple[str | None, bool | None],
    workspace: Workspace,
    unanswered: str | None = None,
) -> Job:
    model, declared, weights = decision.model, recipe.weights, recipe.usable
    record = weights.record if weights else None
    spec = keys.run(
        model,
        None if declared is None else declared.adapter,
        seed=seed,
        adapter_digest=None if record is None else record.adapter_digest,
        base_digest=recipe.base_digest,
        train_digest=recipe.train_digest,
        split=split,
        text=suite.text,
        prompt=recipe.prompt,
        base_origin=recipe.base_origin,
        device=device.for_key(recipe.ingredients.device),
    )
    leak, forbidden = _leak(weights, split), suite.audit.exact_overlap == "forbid"
    missing = declared.reason if isinstance(declared, MissingWeights) else unanswered
    doubts = (_unknown_training(model, weights), None if forbidden else leak, weights and weights.doubt)
    return Job(
        suite=suite,
        model=model,
        seed=seed,
        split=split,
        ingredients=parity.in_runtime(recipe, model, suite, workspace.cache),
        adapter=record,
        configuration=keys.key(keys.configuration(spec)),
        run_key=keys.key(spec),
        spec=spec,
        git_commit=git[0],
        git_dirty=git[1],
        blocked=missing or (leak if forbidden else None) or decision.blocked,
        note=decision.why,
        warning="; ".join(one for one in doubts if one) or None,
    )
