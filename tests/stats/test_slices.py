"""Slices of a split: what is in them, and what must hold of every family."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.records import Example
from harness.stats import slices
from harness.suite.schema import SLICE_VALUES


def made(
    contents: Sequence[str], titles: Sequence[str] | None = None, columns: Sequence[Mapping[str, str]] | None = None
) -> list[Example]:
    """Examples with these contents; labels alternate."""
    return [
        Example(
            example_id=f"{i:032x}",
            title=titles[i] if titles else "",
            content=content,
            label=i % 2,
            cluster=None,
            text_digest=f"{i:032x}",
            columns=columns[i] if columns else {},
        )
        for i, content in enumerate(contents)
    ]


WORDS = st.sampled_from(["good", "bad", "not", "don't", "isn’t", "notable", "know", "the", "nothing", ""])
TEXTS = st.lists(WORDS, max_size=8).map(" ".join)
EXAMPLES = st.lists(
    st.tuples(TEXTS, st.sampled_from(["", " ", "A title"]), st.sampled_from(["", "x", "y=z"]), st.integers(0, 1)),
    min_size=1,
    max_size=25,
).map(
    lambda rows: [
        replace(example, title=title, label=label, columns={"shop": shop})
        for example, (_, title, shop, label) in zip(made([row[0] for row in rows]), rows, strict=True)
    ]
)
FAMILIES = [*slices.SLICES, "shop"]


# Every family


def test_the_suite_file_and_the_table_name_the_same_families() -> None:
    assert set(slices.SLICES) == set(SLICE_VALUES)


@pytest.mark.parametrize("family", FAMILIES)
@given(examples=EXAMPLES)
def test_a_family_parts_the_split(family: str, examples: list[Example]) -> None:
    found = slices.values(family, examples)
    assert len(found) == len(examples)
    known = SLICE_VALUES.get(family, sorted(set(found)))
    assert set(found) <= set(known)
    masks = [slices.chosen(f"{family}={value}", examples) for value in known]
    assert np.sum(masks, axis=0).tolist() == [1] * len(examples)


@pytest.mark.parametrize("family", FAMILIES)
@given(examples=EXAMPLES, data=st.data())
def test_a_family_does_not_depend_on_the_order_of_examples(
    family: str, examples: list[Example], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(examples))))
    straight = slices.values(family, examples)
    assert slices.values(family, [examples[i] for i in order]) == [straight[i] for i in order]


@given(examples=EXAMPLES)
def test_all_slices_are_those_that_are_neither_empty_nor_the_whole(examples: list[Example]) -> None:
    found = slices.all_slices(examples)
    for name, mask in found.items():
        assert 0 < mask.sum() < len(examples)
        assert mask.tolist() == slices.chosen(name, examples).tolist()
    for family in FAMILIES:
        sizes = [int(mask.sum()) for name, mask in found.items() if name.startswith(f"{family}=")]
        assert sum(sizes) in (0, len(examples))
        assert len(sizes) != 1


def test_no_example_has_no_slices() -> None:
    assert slices.all_slices([]) == {}


# What is in them


def test_labels_are_slices() -> None:
    assert slices.chosen("label=positive", made(["a", "b", "c"])).tolist() == [False, True, False]
    assert slices.chosen("label=negative", made(["a", "b", "c"])).tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([5], "m"),
        ([1, 2], "sl"),
        ([3, 1, 2], "lsm"),
        ([1, 2, 3, 4], "smml"),
        ([9, 8, 7, 6, 5, 4, 3, 2, 1], "lllmmmsss"),
        ([4, 4, 4, 4], "mmmm"),
        ([1, 1, 1, 1, 9], "mmmml"),
        ([1, 9, 9, 9, 9], "smmmm"),
        ([0, 0, 5, 5, 5, 9], "ssmmml"),
        ([0, 0, 0, 5, 9, 9], "sssmll"),
    ],
)
def test_lengths_are_thirds_of_the_split_and_equal_lengths_stay_together(lengths: list[int], expected: str) -> None:
    examples = made(["word " * n for n in lengths])
    assert "".join(value[0] for value in slices.values("length", examples)) == expected


@given(lengths=st.lists(st.integers(0, 12), min_size=1, max_size=60))
def test_an_example_is_never_in_a_longer_third_than_a_longer_one(lengths: list[int]) -> None:
    found = slices.values("length", made(["word " * n for n in lengths]))
    thirds = [SLICE_VALUES["length"].index(value) for value in found]
    in_order = sorted(zip(lengths, thirds, strict=True))
    assert [third for _, third in in_order] == sorted(thirds)
    assert len(set(in_order)) == len(set(lengths))  # equal lengths are in one third
    assert len(set(lengths)) == 1 or len(set(thirds)) > 1  # and they are told apart where they differ


def test_thirds_of_different_lengths_are_thirds() -> None:
    for n in (3, 30, 99, 300):
        found = slices.values("length", made(["word " * i for i in range(n)]))
        assert [found.count(value) for value in SLICE_VALUES["length"]] == [n // 3] * 3


def test_a_title_of_blanks_is_none() -> None:
    examples = made(["a", "b", "c"], titles=["", " \t", "A title"])
    assert slices.values("title", examples) == ["absent", "absent", "present"]


@pytest.mark.parametrize(
    "text",
    [
        "not good", "Not good", "NOT", "it is no use", "Never again", "none of it", "nothing works", "nobody",
        "nowhere", "neither this nor that", "cannot", "without a manual", "hardly", "barely", "scarcely", "don't",
        "DON'T", "don’t", "isn't it", "it isn’t", "does n't work", "won't.", "can't,", "no-name", "not.", '"no"',
    ],
)  # fmt: skip
def test_words_of_negation_are_found(text: str) -> None:
    assert slices.values("negation", made([text])) == ["present"]


@pytest.mark.parametrize(
    "text",
    [
        "", "good", "notable", "know", "known", "knot", "another", "nonetheless", "northern", "noted", "nobodys",
        "north", "nevertheless", "snow", "notice", "want", "n'thing", "note", "minor", "within", "techno",
    ],
)  # fmt: skip
def test_words_that_hold_a_negation_are_none(text: str) -> None:
    assert slices.values("negation", made([text])) == ["absent"]


def test_a_negation_in_the_title_does_not_count() -> None:
    assert slices.values("negation", made(["good"], titles=["Not bad"])) == ["absent"]


def test_a_column_is_a_family_with_its_own_values() -> None:
    examples = made(["a"] * 4, columns=[{"shop": value} for value in ("east", "west", "east", "")])
    found = slices.all_slices(examples)
    assert {name: mask.tolist() for name, mask in found.items() if name.startswith("shop")} == {
        "shop=": [False, False, False, True],
        "shop=east": [True, False, True, False],
        "shop=west": [False, True, False, False],
    }
    assert slices.chosen("shop=north", examples).sum() == 0


def test_a_value_may_hold_an_equals_sign() -> None:
    examples = made(["a"] * 2, columns=[{"kind": "x=y"}, {"kind": "x"}])
    assert slices.chosen("kind=x=y", examples).tolist() == [True, False]


def test_a_column_of_many_values_is_no_family_but_may_be_named() -> None:
    n = slices.MOST_VALUES + 1
    examples = made(["a"] * n, columns=[{"product": f"p{i}"} for i in range(n)])
    assert not any(name.startswith("product") for name in slices.all_slices(examples))
    assert slices.chosen("product=p3", examples).sum() == 1
    fewer = slices.all_slices(examples[:-1])
    assert sum(name.startswith("product") for name in fewer) == slices.MOST_VALUES
