"""A suite with its store, and what there is to score for it."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.artifacts import digest
from harness.errors import check_known
from harness.evaluation.inputs import Workspace
from harness.models.device import PROCESSOR
from harness.suite.schema import Suite

if TYPE_CHECKING:
    from harness.evaluation.inputs import ResolvedInputs
    from harness.evaluation.scoring import Job


@dataclass(frozen=True, slots=True)
class Project:
    """A suite together with the store that its runs are kept in."""

    suite: Suite
    path: Path
    """The suite file; paths in it are relative to its folder."""
    db: Path
    """The DuckDB file. Trained weights, scored parts and the cache are kept beside it."""
    device: str = PROCESSOR
    """Kind of device on which networks are trained and scored: part of the keys of runs, but for the processor."""

    @property
    def workspace(self) -> Workspace:
        """The folders that belong to it."""
        return Workspace(self.path, self.db, self.device)

    @property
    def models(self) -> tuple[str, ...]:
        """Ids of the declared models, in the file's order."""
        return tuple(declared.id for declared in self.suite.model)

    @property
    def scored_splits(self) -> tuple[str, ...]:
        """Ids of the splits that models are scored on: those that nothing is trained on."""
        return tuple(rule.id for rule in self.suite.split if rule.id not in self.suite.train_split_ids)


def expand(
    project: Project, models: Collection[str] = (), splits: Collection[str] = (), curves: Collection[str] = ()
) -> tuple[Suite, Collection[str]]:
    """The suite with the points of the curves that are asked for, and the models that are; all where that is empty.

    Args:
        models, splits, curves: as for `evaluate`.
    """
    from harness.suite.curves import expanded, points, trained_on

    if not project.suite.curve or (models and not curves):
        return project.suite, models
    asked = [curve for curve in project.suite.curve if curve.id in curves or not curves]
    flat = [one for curve in asked for one in curve.against if trained_on(project.suite, one) is None]
    declared = [*models, *flat]
    scored = [curve.id for curve in asked if not splits or curve.split in splits]
    added = [point.model_id for point in points(project.suite, scored)] if scored else []
    return expanded(project.suite), [*dict.fromkeys(declared if curves else project.models), *added]


def planned(
    project: Project, models: Collection[str] = (), splits: Collection[str] = (), *, with_points: bool = False
) -> "tuple[ResolvedInputs, list[Job]]":
    """The verified inputs of a suite, and what is to be scored on them.

    Args:
        with_points: the points of the suite's curves too.
    """
    from harness.evaluation import plan as evaluation_plan
    from harness.evaluation.inputs import bases_of, gather
    from harness.suite.curves import expanded

    check_known("model", models, project.models)
    check_known("split to score", splits, project.scored_splits)
    suite, workspace = expanded(project.suite) if with_points else project.suite, project.workspace
    with digest.remembering(workspace.digests):
        inputs = gather(suite, workspace, bases_of(suite, model_ids=models or project.models))
        return inputs, evaluation_plan.plan(suite, inputs, workspace, model_ids=models, split_ids=splits)
