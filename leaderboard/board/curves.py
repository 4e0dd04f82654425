"""Learning curves: stored runs at the points of a suite's curves as lines, and the crossover of each pair. Pure.

Draws are seeded by examples and runs, so a number depends on these alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.records import Evidence, Metric, Outcomes, Run
from harness.stats import estimates
from harness.stats.curves import Crossover, crossover
from harness.suite.curves import points
from harness.suite.schema import Curve, Suite

SEEDS = "seeds of a learning curve"


@dataclass(frozen=True, slots=True)
class Place:
    """A model at one number of training rows, over its seeds."""

    label: str
    """Name under which its numbers are marked: a point's id without the seed, or the id of a model without training."""
    rows: int | None
    """None for a model that is not trained."""
    metric: Metric
    """The mean over seeds with its 95 % interval."""
    runs: tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A model of a curve."""

    model_id: str
    places: tuple[Place, ...]
    """By number of rows, where the runs of all seeds are there; a single one for a model that is not trained."""

    @property
    def flat(self) -> bool:
        """True for a model that is not trained."""
        return [place.rows for place in self.places] == [None]


@dataclass(frozen=True, slots=True)
class Pair:
    """The model of a curve against one of the others."""

    other_id: str
    crossover: Crossover | None
    """None where fewer than two numbers of rows are scored for both, or the metric has no interval."""


@dataclass(frozen=True, slots=True)
class CurveResult:
    """A learning curve with its results."""

    curve: Curve
    metric: str
    n: int | None
    """Examples; None where nothing is scored."""
    lines: tuple[Line, ...]
    """The model, then those that it is compared with; without those that have no results."""
    pairs: tuple[Pair, ...]
    """In the file's order."""
    runs: int
    """Number of points, seeds counted, whose runs are there."""
    expected: int
    """Number of all points."""


@dataclass(frozen=True, slots=True)
class _Scored:
    """The runs of a model on the curve's split, and their outcomes."""

    runs: tuple[Run, ...]
    outcomes: tuple[Outcomes, ...]


def of_evidence(suite: Suite, found: Evidence) -> tuple[CurveResult, ...]:
    """The results of a suite's curves.

    Args:
        found: stored results of the suite with the points of its curves.
    """
    by_place = {place: _Scored(found.runs[place], found.outcomes[place]) for place in found.outcomes}
    return tuple(_result(suite, curve, by_place) for curve in suite.curve)


def _result(suite: Suite, curve: Curve, scored: Mapping[tuple[str, str], _Scored]) -> CurveResult:
    sides = {model_id: _side(suite, curve, model_id, scored) for model_id in (curve.model, *curve.against)}
    lines = tuple(
        Line(model_id, tuple(_place(suite, curve, model_id, rows, of_seeds) for rows, of_seeds in side.items()))
        for model_id, side in sides.items()
        if side
    )
    declared, name = points(suite, [curve.id]), suite.primary_metric
    return CurveResult(
        curve,
        name,
        lines[0].places[0].metric.n if lines else None,
        lines,
        tuple(Pair(other, _crossover(name, sides[curve.model], sides[other])) for other in curve.against),
        sum((point.model_id, curve.split) in scored for point in declared),
        len(declared),
    )


_Side = dict[int | None, tuple[_Scored, ...]]
"""A model's results by number of rows, one for each seed; by None, and as one, for a model that is not trained."""


def _side(suite: Suite, curve: Curve, model_id: str, scored: Mapping[tuple[str, str], _Scored]) -> _Side:
    found: dict[int | None, list[_Scored | None]] = {}
    for point in points(suite, [curve.id]):
        if point.of == model_id:
            found.setdefault(point.subset.rows, []).append(scored.get((point.model_id, curve.split)))
    if not found:
        found = {None: [scored.get((model_id, curve.split))]}
    whole = {rows: [one for one in of_seeds if one is not None] for rows, of_seeds in found.items()}
    return {rows: tuple(of_seeds) for rows, of_seeds in whole.items() if len(of_seeds) == len(found[rows])}


def _place(suite: Suite, curve: Curve, model_id: str, rows: int | None, of_seeds: Sequence[_Scored]) -> Place:
    name = suite.primary_metric
    runs = tuple(run for one in of_seeds for run in one.runs)
    outcomes = [outcomes for one in of_seeds for outcomes in one.outcomes]
    metric = estimates.summarise(name, outcomes, estimates.generator_for([run.run_key for run in runs]))
    return Place(model_id if rows is None else f"{model_id}.{curve.id}-{rows}", rows, metric, runs)


def _crossover(name: str, model: _Side, other: _Side) -> Crossover | None:
    flat = None in other
    rows = [size for size in model if size is not None and (flat or size in other)]
    if len(rows) < 2:
        return None
    mine = [[one.outcomes for one in model[size]] for size in rows]
    if flat:  # the runs of a model that is not trained here are its seeds
        others: Sequence[Sequence[Sequence[Outcomes]]] = [[(one,) for one in other[None][0].outcomes]]
    else:
        others = [[one.outcomes for one in other[size]] for size in rows]
    keys = _keys([*(model[size] for size in rows), *other.values()])
    examples = estimates.examples_generator(mine[0][0][0])
    return crossover(name, rows, mine, others, examples, estimates.generator_for([SEEDS, *keys]))


def _keys(many: Iterable[Sequence[_Scored]]) -> list[str]:
    return [run.run_key for of_seeds in many for one in of_seeds for run in one.runs]
