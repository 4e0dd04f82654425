"""Data with a known truth, for `simulations.py`."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from harness.records import Evidence, Example, Outcomes
from harness.stats import inference
from harness.stats.inference import Floats, Ints
from harness.suite.rules import Bound, Comparison, Flips, Kind, OtherModel, Rule

Bools = NDArray[np.bool_]
Seeds = tuple[Outcomes, ...]
ICC = 0.3


@cache
def ids(n: int) -> tuple[str, ...]:
    """Names of n examples."""
    return tuple(f"{i:x}" for i in range(n))


def alternating(n: int) -> Ints:
    """Labels of a stratified split: half of each class."""
    return np.arange(n, dtype=np.int64) % 2


def outcomes(right: Bools, clusters: NDArray[np.str_] | None = None, labels: Ints | None = None) -> Outcomes:
    """Predictions that are right where given, on alternating labels unless others are passed."""
    labels = alternating(len(right)) if labels is None else labels
    predicted = np.where(right, labels, 1 - labels)
    return Outcomes(ids(len(right)), labels, predicted, np.where(predicted == 1, 0.9, 0.1), clusters)


WORDS, LENGTH = 2000, 12


def texts(generator: np.random.Generator, n: int, planted: Bools) -> tuple[Example, ...]:
    """Texts of words as frequent as words are (Zipf); the planted ones end with a pair of words that no other has."""
    chances = 1 / np.arange(1, WORDS + 1)
    drawn = generator.choice(WORDS, (n, LENGTH), p=chances / chances.sum())
    made = []
    for i, row in enumerate(drawn):
        content = " ".join(f"w{word}" for word in row) + (" arrived late" if planted[i] else "")
        made.append(Example(f"{i:x}", "", content, i % 2, None, f"{i:x}"))
    return tuple(made)


def cells(difference: float, disagreement: float, accuracy: float) -> list[float]:
    """Probabilities of both right, only the candidate, only the reference, neither. The accuracy is the reference's."""
    gained, lost = (disagreement + difference) / 2, (disagreement - difference) / 2
    return [accuracy - lost, gained, lost, 1 - accuracy - gained]


def pair(generator: np.random.Generator, n: int, chances: list[float]) -> tuple[Bools, Bools]:
    """Candidate and reference, right or not, on n independent examples in random order."""
    kinds = generator.permutation(np.repeat(np.arange(4), generator.multinomial(n, chances)))
    return kinds <= 1, (kinds == 0) | (kinds == 2)


def clustered_pair(
    generator: np.random.Generator, clusters: int, chances: list[float], icc: float = ICC, size: int = 10
) -> tuple[Bools, Bools, NDArray[np.str_]]:
    """The same in clusters of half to one and a half times this size.

    Probabilities are drawn from a Dirichlet distribution with this intraclass correlation.
    """
    sizes = generator.integers(size // 2, size + size // 2 + 1, clusters)
    own = generator.dirichlet(np.maximum(chances, 1e-9) * (1 / icc - 1), clusters)
    counts = [generator.multinomial(size, p / p.sum()) for size, p in zip(sizes, own, strict=True)]
    kinds = np.concatenate([np.repeat(np.arange(4), count) for count in counts])
    names = np.repeat(np.arange(clusters), sizes).astype(np.str_)
    return kinds <= 1, (kinds == 0) | (kinds == 2), names


def seeds_of(
    generator: np.random.Generator, reference: Bools, disagreement: float, accuracy: float, differences: list[float]
) -> Seeds:
    """One candidate for each of these true differences, each disagreeing with the reference on its own examples."""
    made = []
    for difference in differences:
        lost = (disagreement - difference) / 2 / accuracy
        gained = (disagreement + difference) / 2 / (1 - accuracy)
        draw = generator.random(len(reference))
        made.append(outcomes(np.where(reference, draw >= lost, draw < gained)))
    return tuple(made)


def rule(kind: Kind, limit: float, repeat: int = 0) -> Rule:
    """A rule of accuracy; its bootstrap is seeded by the repeat."""
    at, old = (f"{kind} {limit} #{repeat}", kind, "new", "test", limit, True), OtherModel("old")
    if kind == "max_flips":
        return Flips(*at, old)
    return Comparison(*at, old, "accuracy") if kind in ("non_inferior_to", "superior_to") else Bound(*at, "accuracy")


def evidence(new: Seeds = (), old: Seeds = ()) -> Evidence:
    """Evidence as if these had been scored."""
    found = {(name, "test"): seeds for name, seeds in (("new", new), ("old", old)) if seeds}
    return Evidence(found, {}, {}, {}, {"test": examples(100)}, {})


@cache
def examples(n: int) -> tuple[Example, ...]:
    """Rows of a split of which only the number matters."""
    return tuple(Example(name, "", "", 0, None, name) for name in ids(n))


def exact_pairs(n: int, difference: float, disagreement: float, holds: Callable[[float, float], bool]) -> float:
    """Probability that a paired interval has a property; outcomes rarer than one in 10⁹ are left out."""
    total = 0.0
    for disagree in range(n + 1):
        of_total = float(scipy_stats.binom.pmf(disagree, n, disagreement))
        if of_total < 1e-9:
            continue
        first = np.arange(disagree + 1)
        chances = scipy_stats.binom.pmf(first, disagree, (1 + difference / disagreement) / 2)
        for only_first, chance in zip(first, chances * of_total, strict=True):
            if chance > 1e-9:
                total += float(chance) * holds(*inference.tango(int(only_first), disagree - int(only_first), n))
    return total


def other_proportion(n: int, accuracy: float) -> float:
    """Coverage of another interval for comparison: Clopper & Pearson's (1934), never below 95 %."""
    k = np.arange(n + 1)
    low = np.nan_to_num(scipy_stats.beta.ppf(0.025, k, n - k + 1), nan=0.0)
    high = np.nan_to_num(scipy_stats.beta.ppf(0.975, k + 1, n - k), nan=1.0)
    return float(scipy_stats.binom.pmf(k, n, accuracy) @ ((low <= accuracy) & (accuracy <= high)))


def truth_about(kind: str, limit: float, gap: float) -> list[float]:
    """Cells of a truth at this distance from the limit."""
    return cells(0.0, 0.0, limit + gap) if kind == "min" else cells(gap - limit, 0.2, 0.8)


class LearningCurves(NamedTuple):
    """Two models whose true accuracies by number of training rows cross once."""

    crossover: float
    """Number of rows at which both are equally accurate; it may lie outside those that are tried."""
    slope: float
    """Points that the first one's accuracy gains there with ten times as many rows, beyond those of the other."""
    of_other: float
    """Points that the other's accuracy gains; 0 for a model that is not trained."""

    def accuracies(self, rows: Sequence[int]) -> tuple[Floats, Floats]:
        """True accuracies of both, shape (len(rows),): their difference levels off as a power law of the rows."""
        ahead = np.log10(np.asarray(rows) / self.crossover)
        other = 0.8 + self.of_other * ahead / 100
        return other + self.slope * (1 - np.exp(-ahead)) / 100, other


def learned(
    generator: np.random.Generator, curves: LearningCurves, rows: Sequence[int], n_seeds: int, n: int, size: int
) -> list[list[list[Seeds]]]:
    """Outcomes of both models by number of rows and seed, on n examples in clusters of this size.

    Both are wrong on the same hard examples more often than not, examples of a cluster are alike, and a seed moves an
    accuracy by some points, fewer with more rows, in part the same ones for all its subsets and for both models.
    """
    names = (np.arange(n) // size).astype(np.str_) if size > 1 else None
    hard = generator.normal(size=n)
    if size > 1:
        hard = np.sqrt(ICC) * generator.normal(size=n // size + 1)[np.arange(n) // size] + np.sqrt(1 - ICC) * hard
    spread = 0.02 * (np.asarray(rows) / rows[-1]) ** -0.25
    of_seed = generator.normal(size=(1, n_seeds))
    made = []
    for accuracies in curves.accuracies(rows):
        trained = accuracies[0] != accuracies[-1]
        effects = (of_seed + generator.normal(size=(len(rows), n_seeds))) / np.sqrt(2)
        chances = accuracies[:, np.newaxis] + spread[:, np.newaxis] * effects if trained else accuracies[:1, np.newaxis]
        limits = scipy_stats.norm.ppf(np.clip(chances, 0.01, 0.99))[..., np.newaxis]
        right = np.sqrt(0.6) * hard + np.sqrt(0.4) * generator.normal(size=(*chances.shape, n)) < limits
        made.append([[(outcomes(seed, names),) for seed in of_rows] for of_rows in right])
    return made
