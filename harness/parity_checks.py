"""Holding forms of trained models to their reference, once for each, and storing what came of it."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness import models, parity
from harness.declarations import PeftModel
from harness.engine import EachDone, Lost
from harness.errors import AdapterError, HarnessError
from harness.gather import Workspace
from harness.models.protocol import Classifier
from harness.parity import MERGED, REFERENCE, RELOADED, Check
from harness.progress import Advance, Progress
from harness.records import Parity
from harness.stats import Floats
from harness.store import reader, writer
from harness.store.connection import opened


def bring_up_to_date(checks: Sequence[Check], workspace: Workspace, each_done: EachDone) -> list[Parity]:
    """Make the checks that are not stored, or had no numbers; each is stored as soon as it is made.

    Args:
        each_done: an opened engine.

    Returns:
        All of them, in the order of the checks and their forms.
    """
    if not checks:
        return []
    keys = list(dict.fromkeys(key for check in checks for key in check.keys.values()))
    with opened(workspace.db) as connection:
        stored = {one.parity_key: one for one in reader.parities(connection, parity_keys=keys) if one.problem is None}
    for check, made in each_done(_made, _missing(checks, stored)):
        found = _unanswered(check, made.reason) if isinstance(made, Lost) else made
        with opened(workspace.db) as connection:
            writer.write_parities(connection, found)
        stored |= {one.parity_key: one for one in found}
    return [stored[key] for key in keys]


def _missing(checks: Iterable[Check], stored: Iterable[str]) -> list[Check]:
    """The checks without the forms that are stored, and without those that an earlier one has too."""
    todo, known = [], set(stored)
    for check in checks:
        specs = {form: spec for form, spec in check.specs.items() if check.keys[form] not in known}
        if specs:
            todo.append(replace(check, specs=specs))
            known |= set(check.keys.values())
    return todo


def _unanswered(check: Check, reason: str) -> list[Parity]:
    return [parity.measured(check.weights, form, spec, len(check.texts), reason) for form, spec in check.specs.items()]


def _made(check: Check, progress: Progress) -> list[Parity]:
    """In a worker: ask the reference and every form the same texts. A form that fails is an outcome, no exception."""
    from threadpoolctl import threadpool_limits

    seed = "" if check.weights.adapter.seed is None else f" seed {check.weights.adapter.seed}"
    label = f"parity of {check.weights.adapter.adapter_id}{seed}"
    n, asked = len(check.texts), [form for form in check.specs if form != RELOADED]
    reference: Floats | None = None
    made = []
    with threadpool_limits(1), progress(label, n * (len(asked) + bool(asked))) as advance:
        for form, spec in check.specs.items():
            answers: tuple[Floats, Floats] | str
            try:
                if form == RELOADED:
                    answers = _reloaded(check)
                else:
                    reference = _answers(check, REFERENCE, advance) if reference is None else reference
                    answers = reference, _answers(check, form, advance)
            except HarnessError as problem:
                answers = str(problem)
            except Exception as problem:  # noqa: BLE001 (whatever a runtime does: this form is not used)
                answers = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
            made.append(parity.measured(check.weights, form, spec, n, answers))
    return made


def _answers(check: Check, form: str, advance: Advance) -> Floats:
    """A form's probabilities of class 1, by the way on which it is scored; shape (n,)."""
    if form == MERGED:
        from harness.models.forms import merged
        from harness.models.transformer import SequenceClassifier

        assert check.ingredients.base_dir is not None
        whole = merged(_network(check))
        classifier: Classifier = SequenceClassifier(whole, check.ingredients.base_dir, check.ingredients.max_length)
    else:
        model = parity.as_form(check.model, form)
        of_base = check.weights.base_digest
        made_from = parity.in_runtime(check.ingredients, model, of_base, check.weights, check.suite, check.cache)
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
