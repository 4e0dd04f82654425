"""Nearly equal texts: candidates by MinHash and locality-sensitive hashing, each confirmed by exact Jaccard similarity.

Two texts are compared as sets of word 3-grams (Broder 1997, "On the resemblance and containment of documents"); case,
punctuation and the different ways to write a character (`plain`) are ignored. MinHash only proposes pairs, so that not
every text has to be compared with every other; the reported similarities are exact. Nothing here is random: the
permutations come from a fixed seed, and shingles are hashed with SHA-1 rather than Python's `hash`, which differs
between processes.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from harness.data.plain import readable

SHINGLE_WORDS = 3
PERMUTATIONS = 128
SEED = 1
MAX_MISS = 1e-4
"""Largest probability that a pair just at the threshold is missed; more similar pairs are missed more rarely."""

_WORD = re.compile(r"\w+(?:['’]\w+)*")


class Near(NamedTuple):
    """Two nearly equal texts, by their positions."""

    one: int
    other: int
    similarity: float
    """Jaccard similarity of their shingles, above 0 and at most 1."""


class Sketch(NamedTuple):
    """Texts with their hashes for finding nearly equal ones."""

    texts: tuple[str, ...]
    hashes: tuple[Any, ...]
    """A `datasketch.MinHash` for each text; None for one that has nothing to compare."""


def shingles(text: str) -> frozenset[str]:
    """The word 3-grams of a text; a shorter text is one shingle, an empty text has none."""
    written = readable(text)
    words = _WORD.findall(written)
    if len(words) < SHINGLE_WORDS:
        whole = " ".join(words) or written.strip()
        return frozenset([whole] if whole else [])
    return frozenset(" ".join(words[i : i + SHINGLE_WORDS]) for i in range(len(words) - SHINGLE_WORDS + 1))


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Shared members over all members, from 0 to 1; 0 where both are empty."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared) if shared else 0.0


def sketch(texts: Sequence[str]) -> Sketch:
    """The MinHash of every text's shingles."""
    from datasketch import MinHash

    # `generator` copies one prepared MinHash, so that the permutations are drawn once, not once per text.
    encoded = ([shingle.encode("utf-8", "surrogatepass") for shingle in shingles(text)] for text in texts)
    hashes = MinHash.generator(encoded, num_perm=PERMUTATIONS, seed=SEED)
    return Sketch(tuple(texts), tuple(None if made.is_empty() else made for made in hashes))


def within(texts: Sketch, threshold: float) -> list[Near]:
    """Pairs of texts whose similarity is `threshold` or more, each once with `one < other`, in that order."""
    index = _Index(texts, threshold)
    pairs = ((i, j) for j in range(len(texts.texts)) for i in index.candidates(texts.hashes[j]) if i < j)
    return _confirmed(texts, texts, pairs, threshold)


def between(ones: Sketch, others: Sketch, threshold: float) -> list[Near]:
    """Pairs of one text from each side whose similarity is `threshold` or more, in order of positions."""
    if len(ones.texts) > len(others.texts):  # index the smaller side, query with the larger
        return sorted(Near(one, other, similarity) for other, one, similarity in between(others, ones, threshold))
    index = _Index(ones, threshold)
    pairs = ((i, j) for j in range(len(others.texts)) for i in index.candidates(others.hashes[j]))
    return _confirmed(ones, others, pairs, threshold)


def bands(threshold: float) -> tuple[int, int]:
    """The division of the permutations into bands: their number, and the number of values in each.

    Texts of similarity s agree in a band of r values with probability s^r; a pair is proposed if any band agrees.
    Longer bands propose fewer false pairs, so the longest are chosen for which a pair at the threshold is missed with
    probability at most `MAX_MISS`. Below a threshold of 0.07 no bands are short enough, and more pairs are missed.
    """
    for length in range(PERMUTATIONS // 2, 1, -1):
        number = PERMUTATIONS // length
        if (1 - threshold**length) ** number <= MAX_MISS:
            return number, length
    return PERMUTATIONS, 1


class _Index:
    """Texts by the bands of their MinHashes."""

    def __init__(self, texts: Sketch, threshold: float) -> None:
        from datasketch import MinHashLSH

        self.lsh = MinHashLSH(num_perm=PERMUTATIONS, params=bands(threshold))
        for position, made in enumerate(texts.hashes):
            if made is not None:
                self.lsh.insert(position, made, check_duplication=False)

    def candidates(self, made: Any) -> list[int]:
        """Positions of the texts that may be near the one with this MinHash."""
        return [] if made is None else self.lsh.query(made)


def _confirmed(ones: Sketch, others: Sketch, pairs: Any, threshold: float) -> list[Near]:
    """The proposed pairs whose similarity reaches the threshold, in order of positions.

    Shingles are recomputed for the few texts in question: keeping those of all texts would take a hundred times the
    memory of the MinHashes.
    """
    found = []
    for i, j in pairs:
        similarity = jaccard(shingles(ones.texts[i]), shingles(others.texts[j]))
        if similarity >= threshold:
            found.append(Near(i, j, similarity))
    return sorted(found)
