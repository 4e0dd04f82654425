"""Rows of local files: the same in every format."""

import gzip
import json
import os
import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data import local_file as files
from harness.data.source import Places, Row
from harness.suite.splits import JoinedText
from tests.data.local_files import (
    JOINED,
    PACKERS,
    ROWS,
    STARS,
    WRITERS,
    csv_bytes,
    fasttext_bytes,
    joined_as,
    jsonl_bytes,
    load,
    load_bytes,
    numbered,
    parquet_bytes,
    parquet_of,
    rows_of,
    rule,
    table_as,
)

# Formats


expressible = [row for row in ROWS if "\n" not in row.content]
every_file = pytest.mark.parametrize(
    ("format", "suffix"),
    [("parquet", ""), *((format, suffix) for format in WRITERS if format != "parquet" for suffix in PACKERS)],
)


@every_file
def test_every_format_gives_the_same_rows_ids_and_digest(format: str, suffix: str) -> None:
    split = load_bytes(PACKERS[suffix](WRITERS[format](expressible)), format, suffix)
    assert rows_of(split) == expressible
    assert split.digest == load_bytes(parquet_of(expressible), "parquet").digest


@pytest.mark.parametrize("format", ["parquet", "csv", "jsonl"])
def test_newlines_are_kept_by_the_formats_that_have_them(format: str) -> None:
    assert rows_of(load_bytes(WRITERS[format](ROWS), format)) == ROWS


characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
any_text = st.text(characters, max_size=30) | st.text(st.sampled_from(': \\n"\n\r,\t'), max_size=8)


def rows_with(titles: st.SearchStrategy[str], contents: st.SearchStrategy[str]) -> st.SearchStrategy[list[Row]]:
    row = st.builds(Row, titles, contents, st.integers(0, 1), st.none())
    return st.lists(row, min_size=1, max_size=8)


@given(rows_with(any_text, any_text), st.integers(1, 4))
def test_parquet_round_trips_any_text(rows: list[Row], group: int) -> None:
    assert rows_of(load_bytes(parquet_of(rows, row_group_size=group), "parquet")) == rows


@given(rows_with(any_text, any_text), st.booleans(), st.sampled_from(list(PACKERS)))
def test_json_lines_round_trip_any_text(rows: list[Row], ascii_only: bool, suffix: str) -> None:
    packed = PACKERS[suffix](jsonl_bytes(rows, ascii_only=ascii_only))
    assert rows_of(load_bytes(packed, "jsonl", suffix)) == rows


without_escapes = any_text.filter(lambda text: "\\n" not in text)


@given(rows_with(without_escapes, without_escapes), st.sampled_from(list(PACKERS)))
def test_csv_round_trips_any_text_without_a_backslash_before_n(rows: list[Row], suffix: str) -> None:
    assert rows_of(load_bytes(PACKERS[suffix](csv_bytes(rows)), "csv", suffix)) == rows


one_line = any_text.map(lambda text: text.replace("\n", " "))


@given(
    rows_with(one_line.filter(lambda t: ": " not in t), one_line.map(lambda t: t.rstrip("\r"))),
    st.sampled_from(list(PACKERS)),
)
def test_fasttext_round_trips_lines_whose_titles_hold_no_cut(rows: list[Row], suffix: str) -> None:
    assert rows_of(load_bytes(PACKERS[suffix](fasttext_bytes(rows)), "fasttext", suffix)) == rows


def test_fasttext_cuts_at_the_first_colon_so_a_title_that_holds_one_changes_the_id_and_not_the_label() -> None:
    rows = [Row("Mind: Blown", "Loved it: all", 1, None), Row("Fine", "It is: fine", 1, None)]
    cut, kept = load_bytes(fasttext_bytes(rows), "fasttext"), load_bytes(csv_bytes(rows), "csv")
    assert [(e.title, e.content) for e in cut.examples] == [("Mind", "Blown: Loved it: all"), ("Fine", "It is: fine")]
    assert [e.label for e in cut.examples] == [e.label for e in kept.examples]
    assert [a.example_id == b.example_id for a, b in zip(cut.examples, kept.examples, strict=True)] == [False, True]
    assert cut.digest != kept.digest


def test_a_fasttext_line_without_a_cut_is_a_content() -> None:
    assert rows_of(load_bytes(b"__label__1 no title here\n", "fasttext")) == [Row("", "no title here", 0, None)]


def test_csv_reads_the_two_characters_as_a_newline_where_parquet_keeps_them() -> None:
    row = [Row("", "C:\\new", 1, None)]
    assert load_bytes(csv_bytes(row), "csv").examples[0].content == "C:\new"
    assert load_bytes(parquet_of(row), "parquet").examples[0].content == "C:\\new"


@pytest.mark.parametrize(
    ("format", "content"),
    [
        ("csv", b'\xef\xbb\xbf"2","a","b"\r\n"1","c","d"'),
        ("csv", b"2,a,b\n1,c,d\n"),
        (
            "jsonl",
            b'\xef\xbb\xbf{"label": 1, "title": "a", "content": "b"}\r\n {"content":"d","x":[],"title":"c","label":0}',
        ),
        ("fasttext", b"\xef\xbb\xbf__label__2 a: b\r\n__label__1 c: d"),
    ],
)
def test_a_mark_at_the_start_foreign_line_ends_and_a_missing_last_one_are_no_part_of_the_text(
    format: str, content: bytes
) -> None:
    assert rows_of(load_bytes(content, format)) == [Row("a", "b", 1, None), Row("c", "d", 0, None)]


def test_a_title_that_is_null_or_absent_is_empty() -> None:
    lines = b'{"label": 1, "title": null, "content": "a"}\n{"label": 0, "content": "b"}\n'
    expected = [Row("", "a", 1, None), Row("", "b", 0, None)]
    assert rows_of(load_bytes(lines, "jsonl")) == expected
    null = parquet_bytes({"label": [1, 0], "title": pa.array([None, ""], pa.string()), "content": ["a", "b"]})
    assert rows_of(load_bytes(null, "parquet")) == expected
    assert rows_of(load_bytes(parquet_bytes({"label": [1, 0], "content": ["a", "b"]}), "parquet")) == expected


@pytest.mark.parametrize("cluster", ["product", "number", "title", "label", "content"])
def test_any_column_can_name_clusters_and_numbers_are_read_as_text(cluster: str) -> None:
    lines: list[dict[str, Any]] = [
        {"label": 1, "title": "a", "content": "c", "product": "p", "number": 7},
        {"label": 0, "title": "b", "content": "d", "product": "q", "number": 8},
    ]
    expected = [str(line[cluster]) for line in lines]
    for content, format in [
        (parquet_bytes({name: [line[name] for line in lines] for name in lines[0]}), "parquet"),
        ("\n".join(map(json.dumps, lines)).encode(), "jsonl"),
    ]:
        split = load_bytes(content, format, cluster=cluster)
        assert [e.cluster for e in split.examples] == expected
        assert [(e.title, e.content, e.label) for e in split.examples] == [("a", "c", 1), ("b", "d", 0)]


@pytest.mark.parametrize("type_", [pa.int8(), pa.uint64(), pa.int32()])
def test_parquet_reads_any_whole_number_and_any_kind_of_string(type_: pa.DataType) -> None:
    texts = pa.array(["b", "d", "b"])
    for content in (texts, texts.cast(pa.large_string()), texts.dictionary_encode()):
        split = load_bytes(parquet_bytes({"label": pa.array([1, 0, 1], type_), "content": content}), "parquet")
        assert [(e.content, e.label) for e in split.examples] == [("b", 1), ("d", 0), ("b", 1)]


def test_the_order_of_a_file_changes_the_digest_and_no_id() -> None:
    forward, backward = load_bytes(csv_bytes(ROWS), "csv"), load_bytes(csv_bytes(ROWS[::-1]), "csv")
    assert [e.example_id for e in forward.examples] == [e.example_id for e in backward.examples[::-1]]
    assert forward.digest != backward.digest


# Title and content in one column


joined_files = pytest.mark.parametrize(
    ("format", "suffix"), [("parquet", ""), *(("jsonl", suffix) for suffix in PACKERS)]
)


@joined_files
def test_joined_titles_and_contents_are_the_same_examples_as_those_apart(format: str, suffix: str) -> None:
    joined = load_bytes(PACKERS[suffix](joined_as(format, ROWS)), format, suffix, text=JOINED)
    apart = load_bytes(parquet_of(ROWS), "parquet")
    assert joined.examples == apart.examples
    assert joined.digest == apart.digest
    assert joined.source["text"] == {"column": "text", "separator": "\n\n"}


def joined_clearly(row: Row, separator: str) -> bool:
    """Whether the first separator is the one between title and content."""
    return (row.title + separator).index(separator) == len(row.title)


@given(rows_with(any_text, any_text), st.sampled_from(["\n\n", ": ", " "]), st.sampled_from(["parquet", "jsonl"]))
def test_any_title_that_holds_no_separator_is_cut_off_rightly(rows: list[Row], separator: str, format: str) -> None:
    rows = [row if joined_clearly(row, separator) else Row("", row.content, row.label, None) for row in rows]
    split = load_bytes(joined_as(format, rows, separator), format, text=JoinedText(column="text", separator=separator))
    assert rows_of(split) == rows


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
@pytest.mark.parametrize(
    ("text", "title", "content"),
    [
        ("a\n\nb\n\nc", "a", "b\n\nc"),
        ("all\nof it", "", "all\nof it"),
        ("\n\nb", "", "b"),
        ("a\n\n", "a", ""),
        ("", "", ""),
        ("a\n\n\nb", "a", "\nb"),
        ("a\r\n\r\nb", "", "a\r\n\r\nb"),
    ],
)
def test_the_first_separator_cuts_and_a_text_without_one_is_all_content(
    format: str, text: str, title: str, content: str
) -> None:
    lines = [{"label": 1, "text": text}, {"label": 0, "text": "other\n\nrow"}]
    split = load_bytes(table_as(format, lines), format, text=JOINED)
    assert rows_of(split) == [Row(title, content, 1, None), Row("other", "row", 0, None)]


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_where_a_joined_column_is_declared_no_other_is_read_as_title_or_content(format: str) -> None:
    lines = [{"label": 1, "text": "a\n\nb", "title": "x", "content": "y"}, {"label": 0, "text": "c", "content": "d"}]
    split = load_bytes(table_as(format, lines), format, text=JOINED, cluster="text")
    assert rows_of(split) == [Row("a", "b", 1, "a\n\nb"), Row("", "c", 0, "c")]


# Columns to slice by


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_columns_to_slice_by_come_as_text_and_empty_where_a_row_has_no_value(format: str) -> None:
    split = load_bytes(table_as(format, STARS), format, slice_columns=("stars", "kind", "price", "verified"))
    assert [dict(example.columns) for example in split.examples] == [
        {"stars": "5", "kind": "toys", "price": "2.5", "verified": "True"},
        {"stars": "1", "kind": "", "price": "3.0", "verified": "False"},
        {"stars": "2", "kind": "toys", "price": "", "verified": ""},
    ]


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_columns_to_slice_by_change_neither_ids_nor_the_digest(format: str) -> None:
    plain = load_bytes(table_as(format, STARS), format)
    sliced = load_bytes(table_as(format, STARS), format, slice_columns=("kind", "stars"))
    other = load_bytes(table_as(format, [{**row, "stars": 3} for row in STARS]), format, slice_columns=("stars",))
    assert [dict(example.columns) for example in plain.examples] == [{}] * 3
    assert plain.digest == sliced.digest == other.digest
    ids = [[example.example_id for example in split.examples] for split in (plain, sliced, other)]
    assert ids[0] == ids[1] == ids[2]


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_a_column_may_be_text_cluster_and_slice_at_once(format: str) -> None:
    lines = [{"label": 1, "text": "a\n\nb", "kind": "toys"}, {"label": 0, "text": "c\n\nd", "kind": "books"}]
    split = load_bytes(
        table_as(format, lines), format, text=JOINED, cluster="kind", slice_columns=("kind", "text"), shuffle_seed=1
    )
    by_title = sorted(split.examples, key=lambda example: example.title)
    assert [(e.title, e.cluster, dict(e.columns)) for e in by_title] == [
        ("a", "toys", {"kind": "toys", "text": "a\n\nb"}),
        ("c", "books", {"kind": "books", "text": "c\n\nd"}),
    ]


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_a_column_of_nulls_is_a_column(format: str) -> None:
    lines = [{"label": 1, "content": "a", "kind": None}, {"label": 0, "content": "b", "kind": None}]
    split = load_bytes(table_as(format, lines), format, slice_columns=("kind",))
    assert [example.columns["kind"] for example in split.examples] == ["", ""]


@pytest.mark.parametrize("slice_columns", [(), ("stars",)])
def test_a_split_with_and_without_columns_travels_to_other_processes(slice_columns: tuple[str, ...]) -> None:
    split = load_bytes(table_as("jsonl", STARS), "jsonl", slice_columns=slice_columns)
    again = pickle.loads(pickle.dumps(split))  # noqa: S301 (made here)
    assert again == split
    assert [set(example.columns) for example in again.examples] == [set(slice_columns)] * 3
    assert len(set(split.examples)) == 3


# What is drawn


@pytest.mark.filterwarnings("default")  # what the datasets library warns of when it is imported is not ours
@pytest.mark.parametrize("format", ["parquet", "csv"])
@pytest.mark.parametrize(("n", "seed", "take"), [(5000, 42, 2000), (5000, 42, 400), (1, 42, 1), (97, 0, 97)])
def test_shuffling_equals_the_datasets_library_row_for_row(format: str, n: int, seed: int, take: int) -> None:
    from datasets import Dataset

    rows = numbered(n)
    columns = {name: [getattr(row, name) for row in rows] for name in ("label", "title", "content")}
    theirs = Dataset.from_dict(columns).shuffle(seed=seed).select(range(take))
    ours = load_bytes(WRITERS[format](rows), format, shuffle_seed=seed, take=take)
    assert [(e.label, e.title, e.content) for e in ours.examples] == [
        (row["label"], row["title"], row["content"]) for row in theirs
    ]


@pytest.mark.parametrize("format", list(WRITERS))
def test_stratifying_keeps_the_share_of_each_label(format: str) -> None:
    rows = numbered(1000, [int(i >= 700) for i in range(1000)])
    split = load_bytes(WRITERS[format](rows), format, shuffle_seed=1, take=50, stratify=True)
    assert sum(e.label for e in split.examples) == 15
    assert len({e.example_id for e in split.examples}) == len(split.examples) == 50


@given(st.data())
def test_rows_are_given_in_the_order_in_which_they_are_asked_for(drawn: st.DataObject) -> None:
    n, group = drawn.draw(st.integers(1, 40)), drawn.draw(st.integers(1, 40))
    positions = np.array(drawn.draw(st.lists(st.integers(0, n - 1), unique=True)), dtype=np.int64)
    with tempfile.TemporaryDirectory() as folder:
        for format, content in [
            ("parquet", parquet_of(numbered(n), row_group_size=group)),
            ("csv", csv_bytes(numbered(n))),
        ]:
            (Path(folder) / "rows").write_bytes(content)
            rows = files.rows(rule("rows", format), Places(Path(folder), Path(folder), None))
            assert rows.at(positions) == [numbered(n)[i] for i in positions]
            assert (len(rows), rows.labels().tolist()) == (n, [i % 2 for i in range(n)])


# The genuine rows


def test_the_genuine_rows_are_the_same_in_parquet_csv_and_fasttext() -> None:
    folder = Path(os.environ.get("HARNESS_DATA", "")) / "amazon_polarity"
    if "HARNESS_DATA" not in os.environ or not (folder / "test-head-1000.csv").is_file():
        pytest.skip("HARNESS_DATA names no folder with amazon_polarity/test-head-1000.csv and its likes")
    parquet = load(folder, "test-head-5000.parquet", "parquet", take=1000)
    csv = load(folder, "test-head-1000.csv", "csv")
    fasttext = load(folder, "test-head-1000.ft.txt.bz2", "fasttext")
    for other in (csv, fasttext):
        assert [e.label for e in other.examples] == [e.label for e in parquet.examples]
    assert csv.digest == parquet.digest
    joined = joined_as("jsonl", rows_of(parquet))
    assert load_bytes(gzip.compress(joined), "jsonl", ".gz", text=JOINED).digest == parquet.digest
    clear = [": " not in e.title for e in parquet.examples]
    same = [a.example_id == b.example_id for a, b in zip(parquet.examples, fasttext.examples, strict=True)]
    assert same == clear
    assert (fasttext.digest == parquet.digest) == all(clear)
