"""Slices and words that are more frequent among some examples than chance explains: which ones did a change cost?

    found = enriched([lost, won], [was_right, was_wrong], patterns(examples, with_text=True), clusters)

For each pattern the test is Fisher's exact one, one-sided: with the pattern's number of examples and the number of
changed ones given, how likely are so many changed ones with the pattern, or more? Examples of a cluster are not
independent; so where a split names clusters the changed examples are taken to fall at random within each cluster only,
and the counts of all clusters are added up (the exact conditional test of Mantel & Haenszel 1959; clusters with one
example count as one together). What all examples of a cluster share is thereby never named. P-values are corrected over
all patterns and directions (Benjamini & Hochberg 1995).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from harness.records import Example, Outcomes
from harness.stats import inference, slices
from harness.stats.inference import ALPHA, Floats, Ints
from harness.stats.metrics import is_right

FEWEST = 5
"""Words in fewer of the split's examples are not tested. The number does not depend on which examples changed."""
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_NOTICED = 1.6
"""Patterns whose count is fewer standard deviations above its expectation have p-values far from any threshold; theirs
are set to 1, which can only make the others' corrected values larger."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Enriched:
    """A pattern that is more frequent among the changed examples than among the others that could have changed."""

    name: str
    """A slice, `negation=present`, or words in quotation marks, `"not worth"`."""
    changed: int
    """Changed examples with the pattern."""
    n_changed: int
    others: int
    """Examples with the pattern that could have changed and did not."""
    n_others: int
    p_adjusted: float


@dataclass(frozen=True, slots=True)
class Enrichment:
    """Patterns that the changed examples of each direction share."""

    directions: tuple[tuple[Enriched, ...], ...]
    """For each direction the patterns whose corrected p-value is below `ALPHA`, the surest first; patterns that are in
    the same changed examples as a surer one are left out."""
    n_tested: int
    """Number of tests that are corrected for: patterns in all directions."""


@dataclass(frozen=True, slots=True)
class Patterns:
    """The examples that have each pattern, as pairs of a pattern and a position."""

    names: tuple[str, ...]
    of_pair: Ints
    """Index of the pattern, in ascending order."""
    places: Ints
    """Position of the example."""

    def having(self, index: int) -> Ints:
        """Positions of the examples that have a pattern."""
        low, high = np.searchsorted(self.of_pair, [index, index + 1])
        return self.places[low:high]


def patterns(examples: Sequence[Example], *, with_text: bool) -> Patterns:
    """Find slices, and words and pairs of neighbouring words, that examples have.

    Args:
        with_text: whether words may be named; slices alone if not.
    """
    found: dict[str, Sequence[int] | Ints] = {
        name: np.flatnonzero(mask) for name, mask in slices.all_slices(examples).items()
    }
    if with_text:
        found |= {f'"{words}"': places for words, places in _words(examples).items()}
    lengths = [len(places) for places in found.values()]
    places = np.concatenate([np.empty(0, dtype=np.int64), *(np.asarray(one) for one in found.values())])
    return Patterns(tuple(found), np.repeat(np.arange(len(found)), lengths), places.astype(np.int64))


def _words(examples: Sequence[Example]) -> dict[str, list[int]]:
    places: dict[str, list[int]] = {}
    for place, example in enumerate(examples):
        for words in set(_grams(example.title)) | set(_grams(example.content)):
            places.setdefault(words, []).append(place)
    return {words: of_words for words, of_words in places.items() if len(of_words) >= FEWEST}


def _grams(text: str) -> Iterator[str]:
    """Words, and pairs of neighbouring words, in lower case."""
    words = _WORD.findall(text.lower())
    yield from words
    yield from (f"{first} {second}" for first, second in pairwise(words))


def between(a: Sequence[Outcomes], b: Sequence[Outcomes], known: Patterns) -> Enrichment:
    """Find what the examples share that most seeds of one side get right and most of the other side's wrong.

    Each are held against the others that the same side gets right: what a model is good at anyhow is not named.

    Args:
        a, b: outcomes by seed, on the same examples.
        known: patterns of these examples; found once for many pairs.
    """
    right_a, right_b = (np.mean([is_right(outcomes) for outcomes in side], axis=0) for side in (a, b))
    changed = [(right_a > 0.5) & (right_b < 0.5), (right_b > 0.5) & (right_a < 0.5)]
    return enriched(changed, [right_a > 0.5, right_b > 0.5], known, a[0].clusters)


def enriched(
    changed: Sequence[Mask], able: Sequence[Mask], known: Patterns, clusters: NDArray[np.str_] | None
) -> Enrichment:
    """Find the patterns that changed examples have more often than others that could have changed.

    Args:
        changed: the changed examples of each direction, such as lost and won ones; each of shape (n,).
        able: those that could have changed so, such as those that were right before; each includes its changed ones.
        known: from `patterns`.
        clusters: of the examples, shape (n,); None where they are independent.
    """
    found = [_tested(one, could, known, clusters) for one, could in zip(changed, able, strict=True)]
    p_values = [p for tests in found for p in tests.values()]
    adjusted = iter(inference.benjamini_hochberg(p_values))
    shown = []
    for tests, one, could in zip(found, changed, able, strict=True):
        # The iterator has the values of all directions. At equal values the longest words come first.
        pairs = ((p, index) for index, p in zip(tests, adjusted) if p < ALPHA)  # noqa: B905
        sure = sorted(pairs, key=lambda pair: (pair[0], -len(known.names[pair[1]])))
        shown.append(tuple(_distinct(sure, one, could, known)))
    return Enrichment(tuple(shown), len(p_values))


def _tested(changed: Mask, able: Mask, known: Patterns, clusters: NDArray[np.str_] | None) -> dict[int, float]:
    """The p-value of every pattern that could be enriched, by its index."""
    if not 0 < changed.sum() < able.sum():
        return {}
    strata = _strata(able, clusters)
    sizes = np.bincount(strata[able])
    of_changed = np.bincount(strata[changed], minlength=len(sizes))
    could = able[known.places]
    of_pair, places = known.of_pair[could], known.places[could]
    n_with = np.bincount(of_pair, minlength=len(known.names))
    hits = np.bincount(of_pair[changed[places]], minlength=len(known.names))
    # The pattern's examples in each stratum where it has any, and from these its expected count and the variance.
    cells, counts = np.unique(of_pair * len(sizes) + strata[places], return_counts=True)
    pattern, stratum = np.divmod(cells, len(sizes))
    n, m = sizes[stratum], of_changed[stratum]
    expected = np.bincount(pattern, m * counts / n, minlength=len(known.names))
    variances = m * counts / n * (n - counts) / n * (n - m) / np.maximum(n - 1, 1)
    spread = np.sqrt(np.bincount(pattern, variances, minlength=len(known.names)))
    tests = {}
    for index in np.flatnonzero((n_with > 0) & (n_with < able.sum())).tolist():
        tests[index] = 1.0
        if hits[index] - expected[index] > _NOTICED * spread[index]:
            low, high = np.searchsorted(pattern, [index, index + 1])
            tests[index] = tail(int(hits[index]), n[low:high], m[low:high], counts[low:high])
    return tests


def _strata(able: Mask, clusters: NDArray[np.str_] | None) -> Ints:
    """The number of each example's stratum: its cluster where that has several that could change, else 0, the rest."""
    strata = np.zeros(len(able), dtype=np.int64)
    if clusters is None:
        return strata
    _, of_able, n = np.unique(clusters[able], return_inverse=True, return_counts=True)
    several = n > 1
    number = np.where(several, np.cumsum(several), 0)
    strata[able] = number[of_able]
    return strata


def tail(hits: int, sizes: Ints, changed: Ints, counts: Ints) -> float:
    """Probability of at least `hits` changed examples with a pattern, if they fall at random within each stratum.

    Args:
        sizes: examples of each stratum, shape (strata,).
        changed: of them, those that changed.
        counts: of them, those with the pattern.
    """
    total = np.ones(1)
    for one in zip(sizes.tolist(), changed.tolist(), counts.tolist(), strict=True):
        total = np.convolve(total, _hypergeometric(*one))
    return min(1.0, float(total[hits:].sum()))


def _hypergeometric(n: int, changed: int, counts: int) -> Floats:
    """Probabilities of 0, 1, …, min(changed, counts) examples in both of two random sets of n."""
    both = np.arange(max(0, changed + counts - n), min(changed, counts) + 1)
    log = _log_factorials(n)
    logs = log[changed] + log[n - changed] + log[counts] + log[n - counts] - log[n] - log[both]
    logs -= log[changed - both] + log[counts - both] + log[n - changed - counts + both]
    return np.concatenate([np.zeros(both[0]), np.exp(logs)])


@lru_cache(maxsize=64)
def _log_factorials(n: int) -> Floats:
    """The logarithms of 0!, 1!, …, n!."""
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])


def _distinct(sure: Sequence[tuple[float, int]], changed: Mask, able: Mask, known: Patterns) -> Iterator[Enriched]:
    """Patterns in the given order, without those of the same changed examples as an earlier one."""
    seen: set[bytes] = set()
    for p_adjusted, index in sure:
        places = known.having(index)
        hit = places[changed[places]]
        if hit.tobytes() not in seen:
            seen.add(hit.tobytes())
            others = int(able[places].sum()) - len(hit)
            n_changed = int(changed.sum())
            yield Enriched(known.names[index], len(hit), n_changed, others, int(able.sum()) - n_changed, p_adjusted)
