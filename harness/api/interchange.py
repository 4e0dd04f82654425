"""Results in the formats of others: taken in as answers, and handed out."""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api.project import Project, planned
from harness.errors import check_known

if TYPE_CHECKING:
    from harness.interchange.take_in import TakenIn
    from harness.suite.schema import Labels


def import_answers(
    project: Project,
    model: str,
    files: Sequence[str | os.PathLike[str]],
    *,
    splits: Collection[str] = (),
    labels: "Labels | None" = None,
) -> "TakenIn":
    """Make the results of another harness a model of the suite; `evaluate` makes runs of it.

    The suite file gets a `[[model]]`, and a file of answers is written beside it. The project is to be opened again.

    Args:
        model: id of the new model.
        files: result files of lm-evaluation-harness, Inspect or Every Eval Ever, all of one model.
        splits: only these of the scored splits; those that the files answer where empty.
        labels: answers that mean negative and positive; guessed from the correct answers where None.

    Raises:
        UsageError: the suite declares no such split, or has a model of this id.
        DataError: a file cannot be read, answers no split, or contradicts the rows' labels. Nothing was written.
    """
    from harness.interchange.take_in import take_in

    check_known("split to score", splits, project.scored_splits)
    paths = [Path(file) for file in files]
    return take_in(project.suite, project.workspace, model, paths, split_ids=splits, labels=labels)


@dataclass(frozen=True, slots=True)
class HandedOut:
    """Results that were written in the form of others."""

    files: tuple[Path, ...]
    """Sorted."""
    results: int
    """Number of models and splits that were written."""
    missing: tuple[str, ...]
    """Reason for each that was not."""


def export_results(
    project: Project,
    form: str,
    folder: str | os.PathLike[str],
    *,
    models: Collection[str] = (),
    splits: Collection[str] = (),
) -> HandedOut:
    """Write the suite's stored results in a form of others, with intervals and digests where it has a field.

    Args:
        form: a key of `harness.interchange.hand_out.FORMS`.
        folder: where to write.
        models, splits: only these; all where empty.

    Raises:
        UsageError: there is no such form, model or split, or no results are stored.
        StoreError: there is no store.
    """
    from harness.evaluation import results as stored
    from harness.interchange import results as interchange_results
    from harness.interchange.hand_out import FORMS, hand_out
    from harness.store.connection import opened

    check_known("form", [form], FORMS)
    jobs = planned(project, models, splits)[1]
    with opened(project.db, read_only=True) as connection:
        found = stored.of(connection, jobs)
    results = interchange_results.of(project.suite, jobs, found)
    return HandedOut(tuple(hand_out(results, form, Path(folder))), len(results), tuple(found.missing.values()))
