"""What changed examples share: against scipy and brute force, on planted patterns and on none."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
from scipy.stats import fisher_exact

from harness.records import Example, Split
from harness.stats.enrichment import Enrichment, Mask, Patterns, enriched, patterns, tail
from harness.stats.inference import Ints

WORDS = [
    *("the", "a", "it", "was", "is", "of", "and", "not", "very", "good", "bad", "works", "broke", "after", "week"),
    *("battery", "screen", "price", "sound", "box", "cable"),
]


def mask(n: int, places: Sequence[int] | Ints) -> Mask:
    made = np.zeros(n, dtype=bool)
    made[np.asarray(places, dtype=np.int64)] = True
    return made


def single(places: Ints) -> Patterns:
    """One pattern that these examples have."""
    return Patterns(("x",), np.zeros(len(places), dtype=np.int64), places)


@pytest.fixture(scope="module")
def reviews(make_split: Callable[..., Split]) -> tuple[Example, ...]:
    """600 made-up texts of 12 words."""
    generator = np.random.default_rng(0)
    return tuple(
        replace(example, title="", content=" ".join(generator.choice(WORDS, size=12)))
        for example in make_split(600).examples
    )


@pytest.mark.parametrize("seed", range(20))
def test_without_clusters_the_p_value_is_fishers(seed: int) -> None:
    generator = np.random.default_rng(seed)
    n = int(generator.integers(20, 300))
    able = generator.uniform(size=n) < 0.8
    changed = able & (generator.uniform(size=n) < 0.2)
    has = (generator.uniform(size=n) < 0.1) | (changed & (generator.uniform(size=n) < 0.6))
    (named,) = enriched([changed], [able], single(np.flatnonzero(has)), None).directions
    rest = able & ~changed
    table = [[(side & has).sum(), (side & ~has).sum()] for side in (changed, rest)]
    expected = fisher_exact(np.array(table), alternative="greater").pvalue
    assert [one.p_adjusted for one in named] == ([pytest.approx(expected, rel=1e-9)] if expected < 0.05 else [])
    assert [(one.changed, one.n_changed, one.others, one.n_others) for one in named] == [
        (table[0][0], changed.sum(), table[1][0], rest.sum()) for _ in named
    ]


@pytest.mark.parametrize("hits", [(2, 1, 1), (2, 1, 0), (1, 0, 0)])
def test_with_clusters_it_is_the_share_of_all_ways_in_which_changes_can_fall_within_them(
    hits: tuple[int, int, int],
) -> None:
    sizes, n_changed, counts = [4, 5, 3], [2, 1, 1], [2, 3, 1]
    starts = [0, 4, 9]
    having = {
        place
        for start, changed, count, hit in zip(starts, n_changed, counts, hits, strict=True)
        for place in [*range(start, start + hit), *range(start + changed, start + changed + count - hit)]
    }
    ways = [
        sum(place in having for chosen in way for place in chosen)
        for way in product(
            *(
                combinations(range(start, start + size), changed)
                for start, size, changed in zip(starts, sizes, n_changed, strict=True)
            )
        )
    ]
    found = tail(sum(hits), np.array(sizes), np.array(n_changed), np.array(counts))
    assert found == pytest.approx(np.mean([way >= sum(hits) for way in ways]), rel=1e-12)


def lost(examples: Sequence[Example], chosen: Mask, clusters: Sequence[str] | None = None) -> Enrichment:
    """What these examples share, of all that were right."""
    right = np.ones(len(examples), dtype=bool)
    known = patterns(examples, with_text=True)
    return enriched([chosen, ~right], [right, ~right], known, None if clusters is None else np.array(clusters))


def ending(example: Example, words: str) -> str:
    """A text that ends with these words and is as long as before."""
    return " ".join([*example.content.split()[: -len(words.split())], words])


@pytest.mark.parametrize("n_clusters", [None, 60])
def test_a_planted_word_is_named_first_and_so_is_a_planted_pair(
    reviews: tuple[Example, ...], n_clusters: int | None
) -> None:
    clusters = None if n_clusters is None else [f"c{i % n_clusters}" for i in range(len(reviews))]
    generator = np.random.default_rng(1)
    chosen = mask(len(reviews), generator.choice(len(reviews), 20, replace=False))
    planted = mask(len(reviews), generator.choice(np.flatnonzero(~chosen), 20, replace=False))
    texts = [replace(one, content=ending(one, "arrived late")) if planted[i] else one for i, one in enumerate(reviews)]
    found = lost(texts, chosen | (planted & (generator.uniform(size=len(reviews)) < 0.8)), clusters)
    (first, *_), none = found.directions
    assert first.name == '"arrived late"'  # of patterns of the same examples, the longest
    assert first.changed > 10
    assert none == ()
    assert all(one.name != '"arrived"' for one in found.directions[0])


def test_what_a_whole_cluster_shares_is_not_named(reviews: tuple[Example, ...]) -> None:
    """All changes fall into one of six clusters, all of whose texts have a word: its topic, or what else it shares."""
    clusters = [f"c{i // 100}" for i in range(600)]
    texts = [replace(one, content=ending(one, "camera")) if i < 100 else one for i, one in enumerate(reviews)]
    chosen = mask(600, np.random.default_rng(2).choice(100, 30, replace=False))
    assert next(one.name for one in lost(texts, chosen).directions[0]) == '"camera"'
    assert '"camera"' not in {one.name for one in lost(texts, chosen, clusters).directions[0]}


@pytest.mark.parametrize("n_clusters", [None, 24])
def test_nothing_is_named_where_changes_fall_by_chance(reviews: tuple[Example, ...], n_clusters: int | None) -> None:
    """At most 5 % of draws may name anything; of 40 draws fewer than 6, which chance exceeds in 0.3 % at that."""
    generator = np.random.default_rng(3)
    clusters = None if n_clusters is None else np.array([f"c{i // (600 // n_clusters)}" for i in range(600)])
    known = patterns(reviews, with_text=True)
    named = 0
    for _ in range(40):
        uneven = 1.0 if n_clusters is None else np.repeat(generator.exponential(size=n_clusters), 600 // n_clusters)
        right = generator.uniform(size=600) < 0.9
        flipped = generator.uniform(size=600) < 0.05 * uneven
        named += any(enriched([right & flipped, ~right & flipped], [right, ~right], known, clusters).directions)
    assert named < 6


def test_slices_are_named_and_words_only_where_texts_may_be_shown(reviews: tuple[Example, ...]) -> None:
    assert {name for name in patterns(reviews, with_text=False).names if name.startswith('"')} == set()
    chosen = mask(600, range(0, 600, 14))  # even ones, which are negative
    right = np.ones(600, dtype=bool)
    (named,) = enriched([chosen], [right], patterns(reviews, with_text=False), None).directions
    assert [one.name for one in named] == ["label=negative"]
    assert (named[0].changed, named[0].n_changed, named[0].others, named[0].n_others) == (43, 43, 257, 557)


@pytest.mark.parametrize("chosen", [[], range(600)])
def test_where_none_or_all_changed_nothing_is_tested(reviews: tuple[Example, ...], chosen: Sequence[int]) -> None:
    assert lost(reviews, mask(600, [*chosen])) == Enrichment(((), ()), 0)
