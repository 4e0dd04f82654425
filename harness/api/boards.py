"""The leaderboards of projects as records, from verified results alone."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api.project import Project, planned
from harness.errors import HarnessError, UsageError

if TYPE_CHECKING:
    from harness.evaluation.inputs import ResolvedInputs
    from harness.evaluation.scoring import Job
    from harness.store.connection import Connection
    from leaderboard.board.examples import Examples
    from leaderboard.board.records import Board


@dataclass(frozen=True, slots=True)
class Boards:
    """The boards of several projects, with what their pages show besides."""

    boards: "list[Board]"
    examples: "dict[str, Examples]"
    """By the suite's name."""
    warnings: tuple[str, ...]


def read(projects: Sequence[Project]) -> Boards:
    """The board of each project.

    Each store is copied once and the copy read, since reading takes long and evaluations must not wait for it.
    """
    from harness.store.connection import snapshot

    _check_names_differ(projects)
    plans = [(project, _planned_or_why_not(project)) for project in projects]
    found, warnings = Boards([], {}, ()), list[str]()
    with ExitStack() as stack:
        copies = {db: stack.enter_context(snapshot(db)) for db in dict.fromkeys(project.db for project in projects)}
        for project, plan in plans:
            if isinstance(plan, HarnessError):
                found.boards.append(_board_without_runs(copies[project.db], project, plan, len(projects) == 1))
                warnings.append(f"{project.path}: is not evaluated yet, and its inputs are not here: {plan}")
                continue
            inputs, jobs = plan
            warnings += inputs.warnings
            found.boards.append(_board_of(copies[project.db], project, jobs, warnings))
            found.examples[project.suite.name] = {job.split.split_id: job.split.examples for job in jobs}
    return Boards(found.boards, found.examples, tuple(warnings))


def _check_names_differ(projects: Sequence[Project]) -> None:
    first: dict[str, Path] = {}
    for project in projects:
        if (name := project.suite.name) in first:
            raise UsageError(
                f"{project.path}: its suite is named {name!r}, as that of {first[name]} is; suites of one site need "
                "different names"
            )
        first[name] = project.path


def _planned_or_why_not(project: Project) -> "tuple[ResolvedInputs, list[Job]] | HarnessError":
    """The plan of a suite, or the error that its inputs ended in, which may not concern the other suites of a site."""
    try:
        return planned(project, with_points=True)
    except HarnessError as error:
        return error


def _board_without_runs(connection: "Connection", project: Project, error: HarnessError, alone: bool) -> "Board":
    """The board of a suite that was never evaluated and whose inputs cannot be had.

    Raises:
        HarnessError: it is the only suite, or the store has runs of it, which a page must not hide.
    """
    from harness.store import reader
    from leaderboard.board import read

    if alone or reader.successes(connection, project.suite.name):
        raise error
    return read.read(connection, project.suite, [], {}, {})


def _board_of(connection: "Connection", project: Project, jobs: "Sequence[Job]", warnings: list[str]) -> "Board":
    """A board from verified results alone; its gates are judged on exactly these."""
    from harness.evaluation import results as evaluation_results
    from harness.gates import service
    from leaderboard.board import curves as board_curves
    from leaderboard.board import read

    found = evaluation_results.stored(connection, jobs)
    found.check()
    declared = [job for job in jobs if project.suite.curve_of(job.model.id) is None]
    judged = service.judge_again(connection, project.suite, project.workspace, declared, found)
    warnings += service.changed_since(connection, judged)
    runs = [*found.runs.values()]
    board = read.read(connection, project.suite, runs, found.outcomes, found.adapters, judged.verdicts, judged.expected)
    evaluation_results.check_records(connection, [run.run_id for many in board.past.values() for run in many])
    if not project.suite.curve:
        return board
    evidence = evaluation_results.evidence_from(connection, jobs, found)
    return replace(board, curves=board_curves.of_evidence(project.suite, evidence))
