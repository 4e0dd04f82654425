"""Nearly equal texts: candidates by MinHash and locality-sensitive hashing, each confirmed by exact Jaccard similarity.

Two texts are compared as sets of word 3-grams (Broder 1997, "On the resemblance and containment of documents"); case,
punctuation and the several ways to write a character (`plain`) do not count. MinHash only proposes pairs, so that not
every text is held against every other; what is reported has been computed exactly. Nothing here is random: the
permutations come from a fixed seed, and shingles are hashed by their SHA-1, not by Python's `hash`, which differs
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
"""Probability, at most, that a pair just at the threshold is not proposed; more similar ones are missed more rarely."""

_WORD = re.compile(r"\w+(?:['’]\w+)*")


class Near(NamedTuple):
    """Two nearly equal texts, by their positions."""

    one: int
    other: int
    similarity: float
    """Jaccard similarity of their shingles, above 0 and at most 1."""


class Sketch(NamedTuple):
    """Texts with what is needed to find those that are nearly equal."""

    texts: tuple[str, ...]
    hashes: tuple[Any, ...]
    """A `datasketch.MinHash` for each text; None for one that has nothing to compare."""


def shingles(text: str) -> frozenset[str]:
    """The word 3-grams of a text; of a text of fewer words, the whole of it; of an empty text, none."""
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

    # `generator` copies one prepared MinHash, so that the permutations are drawn once and not once a text.
    encoded = ([shingle.encode("utf-8", "surrogatepass") for shingle in shingles(text)] for text in texts)
    hashes = MinHash.generator(encoded, num_perm=PERMUTATIONS, seed=SEED)
    return Sketch(tuple(texts), tuple(None if made.is_empty() else made for made in hashes))


def within(texts: Sketch, threshold: float) -> list[Near]:
    """Pairs of texts whose similarity is `threshold` or more, each once with `one < other`, in that order."""
    index = _Index(texts, threshold)
    pairs = ((i, j) for j in range(len(texts.texts)) for i in index.candidates(texts.hashes[j]) if i < j)
    return _confirmed(texts, texts, pairs, threshold)


def between(ones: Sketch, others: Sketch, threshold: float) -> list[Near]:
    """Pairs of one text of each side whose similarity is `threshold` or more, in order of positions."""
    if len(ones.texts) > len(others.texts):  # the index of the smaller side is asked by the larger one
        return sorted(Near(one, other, similarity) for other, one, similarity in between(others, ones, threshold))
    index = _Index(ones, threshold)
    pairs = ((i, j) for j in range(len(others.texts)) for i in index.candidates(others.hashes[j]))
    return _confirmed(ones, others, pairs, threshold)


def bands(threshold: float) -> tuple[int, int]:
    """How the permutations are cut into bands: their number, and the values in each.

    Texts of similarity s agree in a band of r values with probability s^r; a pair is proposed if any band agrees. The
    longest bands are taken, which propose the fewest pairs in vain, with which a pair at the threshold is missed with
    probability `MAX_MISS` at most. Below a threshold of 0.07 no bands are short enough, and more are missed.
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
    """The proposed pairs that are as similar as asked, in order of positions.

    Shingles are computed anew for the few texts in question: those of all texts would take a hundred times the memory
    of the MinHashes.
    """
    found = []
    for i, j in pairs:
        similarity = jaccard(shingles(ones.texts[i]), shingles(others.texts[j]))
        if similarity >= threshold:
            found.append(Near(i, j, similarity))
    return sorted(found)
