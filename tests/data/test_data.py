"""From rows to fixed splits: the same content gives the same ids, whatever the order, and no review on both sides."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import data
from harness.data import lock, sdist
from harness.data.source import Places, Row
from harness.errors import DataError, LeakError
from harness.records import Split
from harness.suite.schema import ClusterShare, SdistSplit

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
rows = st.lists(st.builds(Row, texts, texts, st.integers(0, 1), st.sampled_from([None, "a", "b", "c"])), max_size=12)


def rule(**changes: Any) -> SdistSplit:
    """A rule whose rows the tests give themselves."""
    fields: dict[str, Any] = {
        "id": "rows", "source": "sdist", "project": "made-up", "version": "1.0", "sha256": "0" * 64, "members": ("m",),
        "columns": ("id", "rating", "content"), "rating": "rating", "min_abs_rating": 0.5, "cluster": "id",
    }  # fmt: skip
    return SdistSplit(**fields | changes)


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Load a split from given rows, that stand in for those a distribution holds."""

    def load_rows(given_rows: list[Row], **changes: Any) -> Any:
        monkeypatch.setattr(sdist, "read", lambda rule, cache: list(given_rows))
        return data.load_split(rule(**changes), Places(tmp_path, tmp_path, None))

    return load_rows


def numbered(n: int) -> list[Row]:
    """n different rows, four a cluster."""
    return [Row("", f"text {i}", i % 2, f"c{i // 4}") for i in range(n)]


@given(rows)
def test_an_example_id_does_not_depend_on_position(given_rows: list[Row]) -> None:
    unique = list({(row.title, row.content): row for row in given_rows}.values())
    forward = {e.content + "|" + e.title: e.example_id for e in data._identified(unique)}
    backward = {e.content + "|" + e.title: e.example_id for e in data._identified(unique[::-1])}
    assert forward == backward
    assert len(set(forward.values())) == len(unique)


def test_equal_rows_have_different_ids_and_equal_text_digests() -> None:
    one, other, flipped = data._identified([Row("t", "c", 1, None), Row("t", "c", 1, None), Row("t", "c", 0, None)])
    assert other.example_id == f"{one.example_id}-2"
    assert flipped.example_id not in (one.example_id, other.example_id)
    assert one.text_digest == other.text_digest == flipped.text_digest


def test_a_title_and_a_content_are_not_the_same_when_cut_elsewhere() -> None:
    one, other = data._identified([Row("ab", "c", 1, None), Row("a", "bc", 1, None)])
    assert one.text_digest != other.text_digest


def test_the_first_of_repeated_texts_stays(load: Callable[..., Any]) -> None:
    split = load([Row("", "same", 1, "a"), Row("", "other", 0, "a"), Row("", "same", 0, "b")])
    assert [(e.content, e.label) for e in split.examples] == [("same", 1), ("other", 0)]


def test_no_cluster_stands_in_two_parts_and_none_is_lost(load: Callable[..., Any]) -> None:
    parts = [
        load(numbered(103), cluster_share=ClusterShare(seed=5, start=start, stop=stop))
        for start, stop in [(0.0, 0.3), (0.3, 0.7), (0.7, 1.0)]
    ]
    clusters = [{e.cluster for e in part.examples} for part in parts]
    assert not clusters[0] & clusters[1]
    assert not clusters[1] & clusters[2]
    assert sum(len(part.examples) for part in parts) == 103


def test_a_text_that_two_clusters_share_stands_in_one_part_only(load: Callable[..., Any]) -> None:
    shared = [*numbered(40), *[Row("", "text 0", 0, f"c{i}") for i in range(10)]]
    parts = [load(shared, cluster_share=ClusterShare(seed=1, start=a, stop=b)) for a, b in [(0.0, 0.5), (0.5, 1.0)]]
    assert sum(e.content == "text 0" for part in parts for e in part.examples) == 1


def test_shuffling_is_numpys_permutation_as_in_the_datasets_library(load: Callable[..., Any]) -> None:
    split = load(numbered(50), shuffle_seed=42, take=7)
    order = np.random.default_rng(42).permutation(50)[:7]
    assert [e.content for e in split.examples] == [f"text {i}" for i in order]


def test_the_digest_tells_rows_order_labels_and_clusters_apart(load: Callable[..., Any]) -> None:
    several = [
        numbered(6),
        numbered(6)[::-1],
        numbered(5),
        [Row(r.title, r.content, 1 - r.label, r.cluster) for r in numbered(6)],
        [Row(r.title, r.content, r.label, "one") for r in numbered(6)],
    ]
    assert len({load(given_rows).digest for given_rows in several}) == len(several)
    assert load(numbered(6)).digest == load(numbered(6)).digest


def test_taking_more_than_there_is_is_refused(load: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match="take asks for 9 rows, but there are only 8"):
        load(numbered(8), take=9)


def test_neighbours_of_an_ordered_source_can_be_clusters_wherever_they_are_drawn_to(load: Callable[..., Any]) -> None:
    rows_of_none = [Row("", f"text {i}", i % 2, None) for i in range(23)]
    split = load(rows_of_none, cluster=None, cluster_block=5, shuffle_seed=3, take=20)
    assert all(e.cluster == f"block-{int(e.content.split()[1]) // 5}" for e in split.examples)
    assert len({e.cluster for e in split.examples}) == 5


def test_stratified_rows_keep_the_share_and_the_order(load: Callable[..., Any]) -> None:
    uneven = [Row("", f"text {i}", int(i % 4 == 0), None) for i in range(100)]
    whole = load(uneven, cluster=None, shuffle_seed=9)
    split = load(uneven, cluster=None, shuffle_seed=9, take=40, stratify=True)
    assert sum(e.label for e in split.examples) == 10
    order = [e.example_id for e in whole.examples]
    positions = [order.index(e.example_id) for e in split.examples]
    assert positions == sorted(positions)


def test_columns_to_slice_by_are_those_of_the_rows_and_count_in_no_digest(load: Callable[..., Any]) -> None:
    stars = [Row("", f"text {i}", i % 2, f"c{i // 4}", {"id": f"c{i // 4}_{i}"}) for i in range(8)]
    plain, sliced = load(numbered(8)), load(stars, slice_columns=("id",), shuffle_seed=3)
    assert {e.content: dict(e.columns) for e in sliced.examples} == {row.content: row.columns for row in stars}
    assert [dict(e.columns) for e in plain.examples] == [{}] * 8
    assert load(stars, slice_columns=("id",)).digest == plain.digest
    assert data.first(sliced, 2).examples == sliced.examples[:2]


def test_the_columns_of_a_distribution_are_read_as_they_are_written(configured: Any, tmp_path: Path) -> None:
    fetched = {"sha256": configured.sha256, "members": ("made-up-1.0/rows.tar.gz", "rows/reviews.txt")}
    split = data.load_split(rule(**fetched, slice_columns=("rating", "id")), Places(tmp_path, tmp_path, None))
    assert split.digest == data.load_split(rule(**fetched), Places(tmp_path, tmp_path, None)).digest
    for example in split.examples:
        assert example.columns["id"].partition("_")[0] == example.cluster
        assert (float(example.columns["rating"]) > 0) == (example.label == 1)


def test_examples_without_columns_share_one_mapping(load: Callable[..., Any]) -> None:
    """Of millions, each would take 64 bytes."""
    assert len({id(example.columns) for example in load(numbered(8)).examples}) == 1


def test_a_split_without_rows_is_refused(load: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match="its source has no rows that match the rule"):
        load([])


def test_a_limited_split_has_its_own_digest(load: Callable[..., Any]) -> None:
    split = load(numbered(8))
    limited = data.first(split, 3)
    assert limited.examples == split.examples[:3]
    assert limited.digest != split.digest


def test_scoring_a_row_that_was_trained_on_is_refused_by_name(load: Callable[..., Any]) -> None:
    split = load(numbered(8))
    with pytest.raises(
        LeakError, match=f"trained on 1 of the 8 rows of split 'rows' .first: {split.examples[2].example_id}"
    ):
        data.check_no_leak([split.examples[2].text_digest], split, "lora")
    data.check_no_leak(["0" * 32], split, "lora")


def test_a_lock_round_trips_and_names_what_differs(load: Callable[..., Any], tmp_path: Path) -> None:
    split, path = load(numbered(8)), tmp_path / "x.lock"
    assert lock.read(path) is None
    lock.write(path, [split])
    pinned = lock.read(path)
    assert pinned == {"rows": lock.Locked(split.digest, 8, 4)}
    lock.check(path, pinned, [split])
    with pytest.raises(
        DataError, match=r"split 'rows' does not have the pinned rows: .*n 7, 3 positive.*n 8, 4 positive"
    ):
        lock.check(path, pinned, [data.first(split, 7)])
    lock.check(path, {}, [split])
    assert lock.unpinned({}, ["rows"]) == lock.unpinned(None, ["rows"]) == ("rows",)
    assert lock.unpinned(pinned, ["rows"]) == ()


def test_a_lock_pins_the_values_of_slice_columns(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"

    def with_stars(*stars: str, names: tuple[str, ...] = ("stars",)) -> Split:
        rows = [Row("", f"text {i}", i % 2, None, dict.fromkeys(names, value)) for i, value in enumerate(stars)]
        return data.as_split("rows", rows, {"source": "file"}, names)

    split, without = with_stars("1", "5", ""), with_stars("1", "5", "", names=())
    assert split.digest == without.digest  # no prediction depends on them
    lock.write(path, [split])
    pinned = lock.read(path)
    assert pinned is not None
    lock.check(path, pinned, [split])
    renamed = with_stars("1", "5", "", names=("rating",))
    for other in (with_stars("1", "4", ""), with_stars("5", "1", ""), renamed, without):
        with pytest.raises(DataError, match=r"split 'rows' does not have the pinned values of its slice columns"):
            lock.check(path, pinned, [other])
    lock.write(path, [without])
    unsliced = lock.read(path)
    assert unsliced is not None
    lock.check(path, unsliced, [without])
    with pytest.raises(DataError, match=r"its slice columns \(stars\): digest \w{12}…, pinned none\n.*--update-lock"):
        lock.check(path, unsliced, [split])


@pytest.mark.parametrize("text", ["", "[]", '{"splits": {"a": {}}}', json.dumps({"splits": 3}), "\x00"])
def test_a_damaged_lock_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.lock"
    path.write_text(text)
    with pytest.raises(DataError, match=r"x\.lock: is not a lock"):
        lock.read(path)
