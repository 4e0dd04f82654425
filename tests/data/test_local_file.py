"""Rows of local files: the same in every format, none held that is not wanted, and what is wrong is named."""

import bz2
import gzip
import io
import json
import os
import pickle
import re
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import data
from harness.data import local_file as files
from harness.data.source import Places, Row, Streamed
from harness.errors import DataError
from harness.records import Split
from harness.suite.schema import FileSplit
from harness.suite.splits import JoinedText

ROWS = [
    Row("Great CD", 'She said "play it again", and again.', 1, None),
    Row("", "no title\nbut two lines", 0, None),
    Row("Ends with a colon:", " spaces around, and a comma ", 0, None),
    Row("naïve ☕", "", 1, None),
]
MIB = 2**20


def csv_bytes(rows: Sequence[Row]) -> bytes:
    """The original shape: all quoted, quotes doubled, newlines as two characters."""
    cells = [[str(row.label + 1), *(text.replace("\n", "\\n") for text in (row.title, row.content))] for row in rows]
    return "".join(",".join('"' + cell.replace('"', '""') + '"' for cell in line) + "\n" for line in cells).encode()


def jsonl_bytes(rows: Sequence[Row], *, ascii_only: bool = True) -> bytes:
    lines = [{"label": row.label, "title": row.title, "content": row.content} for row in rows]
    return "".join(json.dumps(line, ensure_ascii=ascii_only) + "\n" for line in lines).encode()


def fasttext_bytes(rows: Sequence[Row]) -> bytes:
    return "".join(f"__label__{row.label + 1} {row.title}: {row.content}\n" for row in rows).encode()


def parquet_bytes(columns: Mapping[str, Any], **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(dict(columns)), sink, **options)
    return sink.getvalue()


def parquet_of(rows: Sequence[Row], **options: Any) -> bytes:
    columns = {name: [getattr(row, name) for row in rows] for name in ("label", "title", "content")}
    schema = [("label", pa.int64()), ("title", pa.string()), ("content", pa.string())]
    return parquet_bytes({name: pa.array(columns[name], type_) for name, type_ in schema}, **options)


JOINED = JoinedText(column="text", separator="\n\n")


def joined_as(format: str, rows: Sequence[Row], separator: str = "\n\n") -> bytes:
    """The same rows with title and content in one column, beside one that nothing reads."""
    lines = [
        {"label": row.label, "text": row.title + separator + row.content, "label_text": "positive" * row.label}
        for row in rows
    ]
    if format == "parquet":
        return parquet_bytes({name: [line[name] for line in lines] for name in lines[0]}, row_group_size=3)
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def zstd(plain: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(plain)
    return bytes(sink.getvalue().to_pybytes())


WRITERS: Mapping[str, Callable[[Sequence[Row]], bytes]] = {
    "parquet": parquet_of,
    "csv": csv_bytes,
    "jsonl": jsonl_bytes,
    "fasttext": fasttext_bytes,
}
PACKERS: Mapping[str, Callable[[bytes], bytes]] = {
    "": lambda plain: plain,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": zstd,
}


def rule(path: str, format: str, **changes: Any) -> FileSplit:
    fields: dict[str, Any] = {"id": "rows", "source": "file", "path": path, "format": format}
    return FileSplit(**fields | changes)


def load(folder: Path, path: str, format: str, **changes: Any) -> Split:
    """Load a file of a folder as a split."""
    return data.load_split(rule(path, format, **changes), Places(folder, folder, None))


def load_bytes(content: bytes, format: str, suffix: str = "", **changes: Any) -> Split:
    """Load these bytes as a split, from a file of their own."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"rows.{format}{suffix}").write_bytes(content)
        return load(Path(folder), f"rows.{format}{suffix}", format, **changes)


def table_as(format: str, lines: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows with columns of any name, in the format; those that a row lacks are null in Parquet."""
    if format == "parquet":
        names = dict.fromkeys(name for line in lines for name in line)
        return parquet_bytes({name: [line.get(name) for line in lines] for name in names})
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def rows_of(split: Split) -> list[Row]:
    return [Row(e.title, e.content, e.label, e.cluster) for e in split.examples]


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


@pytest.mark.no_cover
@given(rows_with(any_text, any_text), st.integers(1, 4))
def test_parquet_round_trips_any_text(rows: list[Row], group: int) -> None:
    assert rows_of(load_bytes(parquet_of(rows, row_group_size=group), "parquet")) == rows


@pytest.mark.no_cover
@given(rows_with(any_text, any_text), st.booleans(), st.sampled_from(list(PACKERS)))
def test_json_lines_round_trip_any_text(rows: list[Row], ascii_only: bool, suffix: str) -> None:
    packed = PACKERS[suffix](jsonl_bytes(rows, ascii_only=ascii_only))
    assert rows_of(load_bytes(packed, "jsonl", suffix)) == rows


without_escapes = any_text.filter(lambda text: "\\n" not in text)


@pytest.mark.no_cover
@given(rows_with(without_escapes, without_escapes), st.sampled_from(list(PACKERS)))
def test_csv_round_trips_any_text_without_a_backslash_before_n(rows: list[Row], suffix: str) -> None:
    assert rows_of(load_bytes(PACKERS[suffix](csv_bytes(rows)), "csv", suffix)) == rows


one_line = any_text.map(lambda text: text.replace("\n", " "))


@pytest.mark.no_cover
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


@pytest.mark.no_cover
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


STARS: list[dict[str, Any]] = [
    {"label": 1, "title": "a", "content": "b", "stars": 5, "kind": "toys", "price": 2.5, "verified": True},
    {"label": 0, "title": "c", "content": "d", "stars": 1, "kind": None, "price": 3.0, "verified": False},
    {"label": 0, "title": "e", "content": "f", "stars": 2, "kind": "toys"},
]


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


def numbered(n: int, labels: Sequence[int] | None = None) -> list[Row]:
    return [Row(f"title {i}", f"text {i}", labels[i] if labels else i % 2, None) for i in range(n)]


@pytest.mark.alike
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


@pytest.mark.no_cover
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


# Memory


@pytest.fixture(scope="module", params=["36 row groups", "one row group"])
def huge_parquet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """3.6 M rows of about 160 characters. Titles name positions; contents repeat every 100,000, to be made fast."""
    n, step = 3_600_000, 100_000
    number = pa.array(np.random.default_rng(0).integers(0, 2**60, step)).cast(pa.string())
    sentence = "was rather good in many ways, although it broke after a week and nobody wrote back; its number is"
    content = pc.binary_join_element_wise(number, sentence, number, number, " ")

    def part(start: int) -> pa.Table:
        positions = np.arange(start, start + step)
        title = pc.binary_join_element_wise("review", pa.array(positions).cast(pa.string()), " ")
        return pa.table({"label": positions % 2, "title": title, "content": content})

    path = tmp_path_factory.mktemp("huge") / "rows.parquet"
    table = pa.concat_tables([part(start) for start in range(0, n, step)])
    if request.param == "one row group":  # as large on disk as in memory, so that holding it would show
        pq.write_table(table, path, row_group_size=n, compression="none")
    else:
        pq.write_table(table, path, row_group_size=step)
    assert pq.ParquetFile(path).num_row_groups == (1 if request.param == "one row group" else 36)
    yield path
    path.unlink()


MEASURED = """
import json, re, resource, sys, time
from pathlib import Path
from harness import data
from harness.data.source import Places
from harness.suite.schema import FileSplit

folder, path, more = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
began = time.process_time()
draw = {"shuffle_seed": 42, "take": 2000, "stratify": True}
declared = {"id": "rows", "source": "file", "path": path, "format": "parquet"} | draw | more
rule = FileSplit.model_validate_json(json.dumps(declared))
split = data.load_split(rule, Places(folder, folder, None))
seconds = time.process_time() - began
# ru_maxrss of a process may count what its parent held when it was started; VmHWM, where there is one, does not.
status = Path("/proc/self/status")
unit = 1 if sys.platform == "darwin" else 1024
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
if status.exists():
    peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", status.read_text())[1]) * 1024
titles = [f"{e.title} {e.content}" if more else e.title for e in split.examples]
print(json.dumps({"seconds": seconds, "peak_bytes": peak, "titles": titles}))
"""


@pytest.mark.parametrize(
    "more",
    [{}, {"text": {"column": "title", "separator": " "}, "slice_columns": ["content"]}],
    ids=["title and content", "joined, and a column to slice by"],
)
def test_taking_2000_of_3_6_million_rows_stays_under_1_gib_and_20_seconds(
    huge_parquet: Path, more: dict[str, Any]
) -> None:
    command = [sys.executable, "-c", MEASURED, str(huge_parquet.parent), huge_parquet.name, json.dumps(more)]
    measured = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    order = np.random.default_rng(42).permutation(3_600_000)
    chosen = np.sort(np.concatenate([np.flatnonzero(order % 2 == label)[:1000] for label in (0, 1)]))
    assert measured["titles"] == [f"review {position}" for position in order[chosen]]
    assert measured["peak_bytes"] < 768 * MIB  # 1 GiB is what is promised
    assert measured["seconds"] < 20


@pytest.mark.alike
@pytest.mark.parametrize("more", [{}, {"text": JoinedText(column="content", separator=" "), "slice_columns": ("n",)}])
@pytest.mark.parametrize("suffix", list(PACKERS))
def test_text_files_are_streamed(tmp_path: Path, suffix: str, more: dict[str, Any]) -> None:
    line = '{{"label": {0}, "n": {0}, "content": "{1} {2}"}}\n'
    plain = "".join(line.format(i % 2, i, "words " * 600) for i in range(2_000)).encode()
    assert len(plain) > 6 * MIB
    (tmp_path / f"rows{suffix}").write_bytes(PACKERS[suffix](plain))
    tracemalloc.start()
    try:
        split = load(tmp_path, f"rows{suffix}", "jsonl", shuffle_seed=1, take=50, **more)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(split.examples) == 50
    assert peak < 3 * MIB


def test_a_file_that_shrinks_while_it_is_read_is_named() -> None:
    passes = iter([numbered(5), numbered(3)])
    rows = Streamed(lambda: iter(next(passes)))
    assert len(rows) == 5
    with pytest.raises(DataError, match="lost rows while it was read"):
        rows.at(np.array([4, 1]))


@pytest.mark.parametrize("filler", [b" ", b"\0", b'"'])
def test_a_bomb_of_one_line_is_refused_before_it_fills_the_memory(tmp_path: Path, filler: bytes) -> None:
    (tmp_path / "rows.zst").write_bytes(zstd(filler * (128 * MIB)))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"rows\.zst: line 1: is longer than 16 MiB"):
            load(tmp_path, "rows.zst", "csv")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * MIB


def test_a_bomb_of_many_lines_is_refused_by_what_it_unpacks_to(tmp_path: Path) -> None:
    fine = b'{"label": 1, "content": "' + b"a" * MIB + b'"}\n'
    (tmp_path / "rows.zst").write_bytes(zstd(fine * 66))
    with pytest.raises(DataError, match=r"rows\.zst: line 1\d: unpacks to more than 20 times its size"):
        load(tmp_path, "rows.zst", "jsonl")
    (tmp_path / "rows").write_bytes(fine * 66)
    assert len(load(tmp_path, "rows", "jsonl").examples) == 66


@pytest.mark.parametrize(
    ("rows", "text", "problem"),
    [
        (20_000_000, "abc", r"claims 20,000,000 rows in [\d,]+ bytes"),
        (100_000, "a" * MIB, r"row \d+: unpacks to more than 20 times its size"),
        (1_000, "a" * (48 * MIB), r"row \d: unpacks to more than 20 times its size"),
    ],
    ids=["rows", "texts", "long texts"],
)
def test_a_dictionary_that_names_one_text_in_every_row_is_refused_before_it_fills_the_memory(
    tmp_path: Path, rows: int, text: str, problem: str
) -> None:
    numbers = pa.array(np.zeros(rows, dtype=np.int32))
    table = pa.table(
        {
            "label": pa.array(np.zeros(rows, dtype=np.int8)),
            "content": pa.DictionaryArray.from_arrays(numbers, pa.array([text])),
        }
    )
    pq.write_table(table, tmp_path / "rows", compression="zstd", store_schema=False, row_group_size=rows)
    assert (tmp_path / "rows").stat().st_size < 200_000
    before = pa.total_allocated_bytes()
    began = time.process_time()
    with pytest.raises(DataError, match=problem):
        load(tmp_path, "rows", "parquet")
    assert time.process_time() - began < 5
    assert pa.total_allocated_bytes() - before < 256 * MIB


def test_repeated_texts_of_an_ordinary_size_are_read_from_a_dictionary(tmp_path: Path) -> None:
    table = pa.table({"label": [i % 2 for i in range(5_000)], "content": [f"text {i % 3}" for i in range(5_000)]})
    pq.write_table(table, tmp_path / "rows")
    assert [e.content for e in load(tmp_path, "rows", "parquet").examples[:4]] == [
        "text 0",
        "text 1",
        "text 2",
        "text 0",
    ]


def test_a_bomb_is_refused_by_what_was_read_of_it_however_long_it_goes_on(tmp_path: Path) -> None:
    """Half a gigabyte in 1.6 MB of gzip, and random bytes after it that would pay for all of it."""
    line = b"__label__2 a: " + b"b" * 2_000 + b"\n"
    part = gzip.compress(line * 16_000)
    (tmp_path / "rows.gz").write_bytes(part * 16 + gzip.compress(np.random.default_rng(1).bytes(60 * MIB), 1))
    began = time.process_time()
    with pytest.raises(DataError, match=r"rows\.gz: line \d,?\d+: unpacks to more than 20 times its size"):
        load(tmp_path, "rows.gz", "fasttext")
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    ("damaged", "group", "fine", "reaching"), [(3, 1000, 1001, 4), (1999, 1000, 999, 1998), (1999, 2000, 0, 1998)]
)
def test_texts_are_read_only_where_they_are_wanted(
    tmp_path: Path, damaged: int, group: int, fine: int, reaching: int
) -> None:
    """By whole row groups, and within one up to the last wanted row: a damaged page elsewhere is never met."""
    content = parquet_of(
        numbered(2000),
        row_group_size=group,
        data_page_size=100,
        write_batch_size=10,
        write_page_checksum=True,
        write_statistics=False,
        compression="none",
        use_dictionary=False,
    )
    text = b"text %d" % damaged
    (tmp_path / "rows").write_bytes(content.replace(text, text[:-1] + b"~", 1))
    rows = files.rows(rule("rows", "parquet"), Places(tmp_path, tmp_path, None))
    assert rows.at(np.array([fine])) == [numbered(2000)[fine]]
    with pytest.raises(DataError, match=r"not readable as Parquet .*CRC"):
        rows.at(np.array([reaching]))


def test_a_row_of_nothing_but_quotes_takes_no_more_memory_than_its_line(tmp_path: Path) -> None:
    (tmp_path / "rows").write_bytes(b'"1","","' + b'""' * (7 * MIB) + b'"')
    tracemalloc.start()
    try:
        split = load(tmp_path, "rows", "csv")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert split.examples[0].content == '"' * (7 * MIB)
    assert peak < 160 * MIB


# What is wrong

GOOD_CSV = csv_bytes(numbered(3))
GOOD_PARQUET = parquet_of(numbered(3))
LONG = csv_bytes([Row(f"{i * i}", f"text {i * i * i}", 1, None) for i in range(40_000)])


def columns(**changes: Any) -> bytes:
    """Two good rows as Parquet, with columns changed, or left out where None."""
    good: dict[str, Any] = {"label": [1, 0], "title": ["a", "b"], "content": ["c", "d"]}
    return parquet_bytes({name: values for name, values in (good | changes).items() if values is not None})


def grouped(labels: list[int | None]) -> bytes:
    """Rows with these labels, two in a row group."""
    return parquet_bytes({"label": labels, "content": ["c"] * len(labels)}, row_group_size=2)


def json_lines(*lines: str) -> bytes:
    """A good line, then these."""
    return "\n".join(['{"label": 1, "title": "a", "content": "b"}', *lines]).encode()


def twice_named() -> bytes:
    sink = io.BytesIO()
    table = pa.Table.from_arrays([pa.array([1]), pa.array(["a"]), pa.array(["b"])], ["label", "content", "content"])
    pq.write_table(table, sink)
    return sink.getvalue()


def flipped(content: bytes) -> bytes:
    """With a byte changed in the middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]


def overstated() -> bytes:
    """Parquet whose footer declares 101 rows of the 100 that its pages hold (numbers there are twice as large)."""
    content = parquet_of(numbered(100), compression="none")
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    return content[:footer] + content[footer:].replace(b"\xc8\x01", b"\xca\x01")


BAD: dict[str, tuple[str, bytes, str]] = {
    # Bytes that are no file of the declared format.
    "a footer that counts more rows than its row groups": (
        "x.parquet",
        GOOD_PARQUET.replace(b"\x16\x06\x19\x1c", b"\x16\x08\x19\x1c"),
        "its row groups have 3 rows, but its footer states 4",
    ),
    "a footer that counts fewer rows than its row groups": (
        "x.parquet",
        GOOD_PARQUET.replace(b"\x16\x06\x19\x1c", b"\x16\x04\x19\x1c"),
        "its row groups have 3 rows, but its footer states 2",
    ),
    "a column name that is not UTF-8": (
        "x.parquet",
        GOOD_PARQUET.replace(b"content", b"\xf2ontent", 1),
        "not readable as Parquet",
    ),
    "truncated parquet": ("x.parquet", GOOD_PARQUET[:-20], "not readable as Parquet"),
    "parquet cut in front": ("x.parquet", b"PAR1" + GOOD_PARQUET[200:], "not readable as Parquet"),
    "damaged page": (
        "x.parquet",
        parquet_of(numbered(9), compression="none", write_page_checksum=True).replace(b"text 7", b"text 8"),
        "not readable as Parquet .*CRC",
    ),
    "overstated rows": ("x.parquet", overstated(), r"100 of 101|not readable as Parquet"),
    "csv as parquet": ("x.parquet", GOOD_CSV, "not readable as Parquet"),
    "parquet as csv": ("x.csv", GOOD_PARQUET, "line 1: contains a NUL byte"),
    "truncated gz": ("x.csv.gz", gzip.compress(LONG)[:-9], r"not readable as gzip after line [1-9]\d+: Truncated"),
    "truncated bz2": ("x.csv.bz2", bz2.compress(LONG)[:-9], r"not readable as bz2 after line [1-9]\d+: Truncated"),
    "truncated zst": ("x.csv.zst", zstd(LONG)[:-9], r"not readable as zstd after line [1-9]\d+: Truncated"),
    "damaged gz": ("x.csv.gz", flipped(gzip.compress(LONG)), "not readable as gzip"),
    "plain text named gz": ("x.csv.gz", GOOD_CSV, "not readable as gzip after line 0: .* or correct its suffix"),
    "gz named zst": (
        "x.csv.zst",
        gzip.compress(GOOD_CSV),
        "not readable as zstd after line 0",
    ),
    "gz without suffix": ("x.csv", gzip.compress(GOOD_CSV), "line 1: (contains a NUL byte|is not UTF-8)"),
    "packed parquet": ("x.parquet.gz", gzip.compress(GOOD_PARQUET), r"is compressed internally .* unpack the file"),
    "one endless line": ("x.jsonl.gz", gzip.compress(b" " * (40 * MIB), 1), "line 1: is longer than 16 MiB"),
    "endless nul": ("x.csv.zst", zstd(bytes(40 * MIB)), "line 1: is longer than 16 MiB"),
    "latin-1": ("x.csv", GOOD_CSV + '"1","café","déjà"\n'.encode("latin-1"), r"line 4: is not UTF-8 \(byte 9\)"),
    "utf-16": ("x.csv", GOOD_CSV.decode().encode("utf-16"), r'x.csv: is UTF-16; declare encoding = "utf-16"'),
    "nul": ("x.csv", GOOD_CSV + b'"1","a","b\0"\n', "line 4: contains a NUL byte"),
    "empty text file": ("x.csv", b"", "is empty"),
    "empty gz": ("x.csv.gz", gzip.compress(b""), "is empty"),
    "empty parquet file": ("x.parquet", b"", "not readable as Parquet"),
    "no rows": ("x.parquet", parquet_of([]), "has no rows"),
    "empty line": ("x.jsonl", json_lines("", '{"label": 1, "content": ""}'), "line 2: is empty"),
    # Parquet whose columns or rows do not fit.
    "no label column": (
        "x.parquet",
        columns(label=None, stars=[1, 2]),
        r"has no column 'label' \(found: title, content, stars\)",
    ),
    "no content column": ("x.parquet", columns(content=None), "has no column 'content'"),
    "content twice": ("x.parquet", twice_named(), "has 2 columns 'content'"),
    "text labels": ("x.parquet", columns(label=["1", "0"]), "column 'label' is string, but must be whole numbers"),
    "float labels": ("x.parquet", columns(label=[1.0, 0.5]), "column 'label' is double, but must be whole numbers"),
    "bool labels": ("x.parquet", columns(label=[True, False]), "column 'label' is bool, but must be whole numbers"),
    "binary contents": ("x.parquet", columns(content=[b"c", b"d"]), "column 'content' is binary, but must be strings"),
    "number titles": ("x.parquet", columns(title=[1, 2]), "column 'title' is int64, but must be strings"),
    "label 3 in parquet": ("x.parquet", columns(label=[1, 3]), "row 2: label 3 is neither 0"),
    "label -1 in parquet": ("x.parquet", columns(label=[-1, 1]), "row 1: label -1 is neither 0"),
    "label 3 in a later group": ("x.parquet", grouped([1, 0, 1, 0, 3, 1]), "row 5: label 3 is neither 0"),
    "null label in a later group": ("x.parquet", grouped([1, 0, 1, None, 3, 1]), "row 4: label is null"),
    "null label": ("x.parquet", columns(label=[1, None]), "row 2: label is null"),
    "null content": ("x.parquet", columns(content=["c", None]), "row 2: content is null"),
    "nul in parquet": ("x.parquet", columns(content=["c", "d\0"]), "row 2: content contains a NUL character"),
    "parquet not utf-8": (
        "x.parquet",
        parquet_of(numbered(3), compression="none").replace(b"text 2", b"text \xff"),
        r"row 3: content is not UTF-8 \(byte 6\)",
    ),
    # CSV.
    "class 3": ("x.csv", GOOD_CSV + b'"3","a","b"\n', "line 4: class '3' is neither 1 "),
    "class 0": ("x.csv", b'"0","a","b"\n', "line 1: class '0' is neither 1 "),
    "class x": ("x.csv", GOOD_CSV + b'"x","a","b"\n', "line 4: class 'x' is neither 1 "),
    "class missing": ("x.csv", b'"","a","b"\n', "line 1: class '' is neither 1 "),
    "header": (
        "x.csv",
        b'"label","title","content"\n' + GOOD_CSV,
        'line 1: seems to be a header.* = { content = "content", title',
    ),
    "semicolons": ("x.csv", b"2;a;b\n", 'line 1: is separated by semicolons; declare delimiter = ";"'),
    "quotes and semicolons": ("x.csv", b'"2";"a, b";"c"\n', "line 1: is separated by semicolons"),
    "a header of semicolons": ("x.csv", b"label;title;content\n2;a;b\n", "line 1: is separated by semicolons"),
    "tabs": ("x.csv", b"2\ta\tb, c, d\n", "line 1: is separated by tabs"),
    "a semicolon in a text": ("x.csv", GOOD_CSV + b'"1","a; b"\n', "line 4: 2 columns, expected 3"),
    "2 columns": ("x.csv", GOOD_CSV + b'"1","a"\n', "line 4: 2 columns, expected 3"),
    "4 columns": (
        "x.csv",
        GOOD_CSV + b'"1","a","b",""\n',
        "line 4: 4 columns, expected 3: .* has no header line: .* declare",
    ),
    "open quote": ("x.csv", b'"1","a","b\n' + GOOD_CSV, "line 1: has a quote that is not closed"),
    "single quote inside": ("x.csv", GOOD_CSV + b'"1","a "great" thing","b"\n', "line 4: has a quote"),
    "backslash quote": ("x.csv", GOOD_CSV + b'"1","a","b \\" c"\n', "line 4: has a quote"),
    "raw newline": ("x.csv", GOOD_CSV + b'"1","a","b\nc"\n', "line 4: has a quote that is not closed"),
    "mark inside": ("x.csv", GOOD_CSV + b"\xef\xbb\xbf" + GOOD_CSV, "line 4: begins with a byte order mark"),
    # JSON Lines.
    "not json": ("x.jsonl", json_lines("{label: 1}"), r"line 2: is not one JSON object \(.*, column 2\)"),
    "array": ("x.jsonl", json_lines('[1, "a", "b"]'), "line 2: must be a JSON object .*, not an array"),
    "no label": ("x.jsonl", json_lines('{"content": "b"}'), "line 2: has no 'label'"),
    "no content": (
        "x.jsonl",
        json_lines('{"label": 1, "text": "b"}'),
        r"line 2: has no 'content' \(found: 'label', 'text'\)",
    ),
    "nothing": ("x.jsonl", json_lines("{}"), r"line 2: has no 'label' and no 'content' \(found: nothing\)"),
    "keys that cannot be printed": (
        "x.jsonl",
        json_lines('{"\\ud83d": 1, "\\u001b[2J": 2}'),
        r"found: '\\ud83d', '\\x1b\[2J'",
    ),
    "number as content": (
        "x.jsonl",
        json_lines('{"label": 1, "content": 5}'),
        "line 2: content must be a string, not a number",
    ),
    "null as content": (
        "x.jsonl",
        json_lines('{"label": 1, "content": null}'),
        "line 2: content must be a string, not null",
    ),
    "list as title": (
        "x.jsonl",
        json_lines('{"label": 1, "title": [], "content": ""}'),
        "line 2: title must be a string, not an array",
    ),
    "label 2 in json": ("x.jsonl", json_lines('{"label": 2, "content": "b"}'), "line 2: label 2 is neither 0 "),
    "label text": ("x.jsonl", json_lines('{"label": "1", "content": "b"}'), 'line 2: label "1" is neither 0 '),
    "label true": ("x.jsonl", json_lines('{"label": true, "content": "b"}'), "line 2: label true is neither 0 "),
    "label 1.0": ("x.jsonl", json_lines('{"label": 1.0, "content": "b"}'), "line 2: label 1.0 is neither 0 "),
    "label null": ("x.jsonl", json_lines('{"label": null, "content": "b"}'), "line 2: label null is neither 0 "),
    "label nan": ("x.jsonl", json_lines('{"label": NaN, "content": "b"}'), "line 2: NaN is not JSON"),
    "label of many digits": (
        "x.jsonl",
        json_lines('{"label": ' + "9" * 5000 + ', "content": ""}'),
        "line 2: has a number of 5,000 digits",
    ),
    "key twice": ("x.jsonl", json_lines('{"label": 1, "content": "b", "label": 0}'), "line 2: names 'label' twice"),
    "trailing garbage": ("x.jsonl", json_lines('{"label": 1, "content": "b"} {}'), "line 2: is not one JSON object"),
    "nested deep": ("x.jsonl", json_lines("[" * 100_000), "line 2: is nested too deep"),
    "escaped nul": ("x.jsonl", json_lines('{"label": 1, "content": "\\u0000"}'), "line 2: content contains a NUL"),
    "half a pair": (
        "x.jsonl",
        json_lines('{"label": 1, "content": "\\ud83d"}'),
        "line 2: content contains half of a surr",
    ),
    # fastText.
    "no fasttext label": ("x.fasttext", b"__label__1 a: b\na: b\n", "line 2: does not begin with a label"),
    "fasttext label 3": ("x.fasttext", b"__label__1 a: b\n__label__3 a: b\n", "line 2: label '__label__3' is neither"),
    "fasttext without text": ("x.fasttext", b"__label__1 a: b\n__label__2 \n", "line 2: has no text after __label__2"),
    "fasttext label alone": ("x.fasttext", b"__label__2\n", "line 1: has no text after __label__2"),
}

SUITE = """
version = 1
name = "files"
description = "Rows of files"
primary_metric = "accuracy"
[text]
template = "{{content}}"
max_length = 32
[[split]]
id = "train"
source = "file"
path = "good.csv"
format = "csv"
[[split]]
id = "test"
source = "file"
path = {path}
format = "{format}"
{more}
[[model]]
id = "majority"
backend = "majority"
train_split = "train"
[[metric]]
name = "accuracy"
"""


def write_suite(folder: Path, path: str, format: str, more: str = "") -> Path:
    """A suite whose test split is at a path, beside good rows to train on."""
    suite = folder / "suites" / "files.toml"
    suite.parent.mkdir(exist_ok=True)
    suite.write_text(SUITE.format(path=json.dumps(path), format=format, more=more))
    trained_on = [Row("", f"{word} is what they trained on", i % 2, None) for i, word in enumerate(("this", "that"))]
    (suite.parent / "good.csv").write_bytes(csv_bytes(trained_on))
    return suite


@pytest.fixture
def refused(
    harness: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, str, str], str]:
    """Give `harness data` a suite whose test split is at a path; it must exit with 2 and store nothing."""
    monkeypatch.delenv("HARNESS_DATA", raising=False)

    def stored() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def command(path: str, format: str, more: str = "") -> str:
        suite = write_suite(tmp_path, path, format, more)
        before = stored()
        result = harness("data", suite)
        assert result.code == 2, result.err
        assert result.out == ""
        assert "Traceback" not in result.err
        assert stored() == before
        return " ".join(result.err.split())

    return command


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_with_its_name_and_row(
    refused: Callable[[str, str], str], tmp_path: Path, name: str
) -> None:
    path, content, expected = BAD[name]
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / path).write_bytes(content)
    message = refused(path, path.split(".")[1])
    assert message.startswith(f"split test: {path}: "), message
    assert re.search(expected, message), message


@dataclass(frozen=True)
class Elsewhere:
    """A path that must not be read, in a folder with `suites`, `local` (what HARNESS_DATA names) and `outside`."""

    path: str
    expected: str
    link: tuple[str, str] | None = None
    """A link to make, and what it names."""
    local_copies: str | None = "local"


ELSEWHERE = {
    "absolute": Elsewhere("@/outside/rows.csv", "is absolute, so it would differ between machines"),
    "absolute inside": Elsewhere("@/suites/good.csv", "is absolute"),
    "above the suite": Elsewhere("../outside/rows.csv", "leads out of the suite's folder"),
    "above and absent": Elsewhere("../nothing.csv", "leads out of the suite's folder"),
    "down and up": Elsewhere("sub/../../outside/rows.csv", "leads out of the suite's folder"),
    "above local copies": Elsewhere("$HARNESS_DATA/../outside/rows.csv", r"leads out of the folder of \$HARNESS_DATA"),
    "absolute local copy": Elsewhere("$HARNESS_DATA//etc/passwd", "is absolute"),
    "a link to a file outside": Elsewhere("rows.csv", "leads out", ("suites/rows.csv", "outside/rows.csv")),
    "a link to a folder outside": Elsewhere("sub/rows.csv", "leads out", ("suites/sub", "outside")),
    "a link out of local copies": Elsewhere(
        "$HARNESS_DATA/rows.csv", "leads out", ("local/rows.csv", "outside/rows.csv")
    ),
    "a link back in": Elsewhere("sub/../rows.csv", "leads out", ("suites/sub", "outside/deep")),
    "a loop of links": Elsewhere(
        "loop.csv", "is not a path|there is no such file", ("suites/loop.csv", "suites/loop.csv")
    ),
    "a link to nothing": Elsewhere("rows.csv", "there is no such file", ("suites/rows.csv", "suites/nothing.csv")),
    "a folder": Elsewhere("sub", "is a folder; `path` must name one file"),
    "the suite's folder": Elsewhere(".", "is a folder"),
    "all local copies": Elsewhere("$HARNESS_DATA", "is a folder"),
    "no such file": Elsewhere("absent.csv", "there is no such file"),
    "a name too long": Elsewhere("a" * 300 + ".csv", "cannot be read .File name too long.|there is no such file"),
    "a nul in the path": Elsewhere("a\0b.csv", "is not a path .*null byte|control character"),
    "a pipe": Elsewhere("pipe.csv", "is not a regular file"),
    "unset": Elsewhere("$HARNESS_DATA/rows.csv", "HARNESS_DATA is not set; set it to the folder", None, None),
    "empty variable": Elsewhere("$HARNESS_DATA/rows.csv", "HARNESS_DATA is not set; set it to the folder", None, ""),
    "local copies absent": Elsewhere(
        "$HARNESS_DATA/rows.csv", "HARNESS_DATA is .*gone, which is not a folder", None, "gone"
    ),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_path_that_leads_nowhere_or_out_of_its_folder_is_refused(
    refused: Callable[[str, str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    case = ELSEWHERE[name]
    for folder in ("suites/sub", "local", "outside/deep"):
        if case.link is None or case.link[0] != folder:
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / "suites").mkdir(exist_ok=True)
    (tmp_path / "outside" / "rows.csv").write_bytes(GOOD_CSV)
    os.mkfifo(tmp_path / "suites" / "pipe.csv")
    if case.link is not None:
        (tmp_path / case.link[0]).symlink_to(tmp_path / case.link[1])
    if case.local_copies is not None:
        monkeypatch.setenv("HARNESS_DATA", str(tmp_path / case.local_copies) if case.local_copies else "")
    message = refused(case.path.replace("@", str(tmp_path)), "csv")
    assert re.search(case.expected, message), message


def test_a_path_is_relative_to_the_suite_or_to_local_copies_and_links_within_are_followed(tmp_path: Path) -> None:
    suites, local = tmp_path / "suites", tmp_path / "local"
    for folder in (suites / "sub", local):
        folder.mkdir(parents=True)
    (suites / "sub" / "rows.csv").write_bytes(csv_bytes(ROWS[:1]))
    (suites / "link.csv").symlink_to(suites / "sub" / "rows.csv")
    (suites / "sub" / "blob").write_bytes(gzip.compress(csv_bytes(ROWS[:1])))
    (suites / "link.csv.GZ").symlink_to(suites / "sub" / "blob")  # as caches keep files: the link has the name
    (local / "rows.csv").write_bytes(csv_bytes(ROWS[1:]))
    (tmp_path / "other").symlink_to(local)
    places = Places(tmp_path, suites, tmp_path / "other")
    for path, expected in {
        "sub/rows.csv": ROWS[:1],
        "./sub/../link.csv": ROWS[:1],
        "link.csv.GZ": ROWS[:1],
        "$HARNESS_DATA/rows.csv": ROWS[1:],
    }.items():
        split = data.load_split(rule(path, "csv"), places)
        assert rows_of(split) == expected
        assert split.source["path"] == path


@pytest.mark.parametrize("format", list(WRITERS))
def test_a_suite_that_takes_more_rows_than_there_are_is_refused(
    refused: Callable[[str, str, str], str], tmp_path: Path, format: str
) -> None:
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "rows").write_bytes(WRITERS[format](numbered(3)))
    assert "split test: take asks for 4 rows, but there are only 3" in refused("rows", format, "take = 4")


@pytest.mark.parametrize(
    ("cluster", "in_parquet", "in_json"),
    [
        ("holed", "row 2: holed is null", "line 2: holed must be a string, not null"),
        (
            "price",
            "column 'price' is double, but must be strings or whole",
            "line 1: price must be a string, not a number",
        ),
        ("absent", "has no column 'absent'", "line 1: has no 'absent'"),
    ],
)
def test_a_row_without_a_cluster_is_refused(cluster: str, in_parquet: str, in_json: str) -> None:
    lines = [{"label": 1, "content": "c", "holed": "p", "price": 2.5}, {"label": 0, "content": "d", "holed": None}]
    with pytest.raises(DataError, match=in_json):
        load_bytes("\n".join(map(json.dumps, lines)).encode(), "jsonl", cluster=cluster)
    with pytest.raises(DataError, match=in_parquet):
        load_bytes(columns(holed=["p", None], price=[2.5, 3.5]), "parquet", cluster=cluster)


NO_TEXT = [{"label": 1, "text": "a\n\nb"}, {"label": 0, "text": None}]
SLICED = [{"label": 1, "content": "a", "tags": ["x"], "bad": "\0"}, {"label": 0, "content": "b", "tags": [], "bad": ""}]


@pytest.mark.parametrize(
    ("lines", "more", "in_parquet", "in_json"),
    [
        (
            STARS,
            {"text": JOINED},
            r"has no column 'text' \(found: label, title, content, stars, kind, price, verified\)",
            r"line 1: has no 'text' \(found: 'label', 'title', 'content', 'stars', 'kind', 'price', 'verified'\)",
        ),
        (NO_TEXT, {"text": JOINED}, "row 2: text is null", "line 2: text must be a string, not null"),
        (
            [{"label": 1, "text": 5}],
            {"text": JOINED},
            "column 'text' is int64, but must be strings",
            "line 1: text must be a string, not a number",
        ),
        ([{"label": 1, "text": "a\0"}], {"text": JOINED}, "row 1: text contains a NUL", "line 1: text contains a NUL"),
        (
            STARS,
            {"slice_columns": ("stars", "colour", "size")},
            r"has no column 'colour' \(found: label, .*\)",
            "no row has 'colour' or 'size'; correct slice_columns",
        ),
        (
            SLICED,
            {"slice_columns": ("tags",)},
            "column 'tags' is list<.*>, but must be strings, whole numbers, fractions, truth values or nulls",
            "line 1: tags must be a string, a number, true, false or null, not an array",
        ),
        (SLICED, {"slice_columns": ("bad",)}, "row 1: bad contains a NUL", "line 1: bad contains a NUL"),
        (STARS, {"slice_columns": ("kind",), "cluster": "kind"}, "row 2: kind is null", "line 2: kind must be a str"),
    ],
)
def test_a_column_that_is_declared_and_does_not_fit_is_refused(
    lines: list[dict[str, Any]], more: dict[str, Any], in_parquet: str, in_json: str
) -> None:
    with pytest.raises(DataError, match=in_parquet):
        load_bytes(table_as("parquet", lines), "parquet", **more)
    with pytest.raises(DataError, match=in_json):
        load_bytes(table_as("jsonl", lines), "jsonl", **more)


def test_a_missing_column_is_refused_on_the_command_line_with_the_columns_that_are_there(
    refused: Callable[[str, str, str], str], tmp_path: Path
) -> None:
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "rows").write_bytes(jsonl_bytes(numbered(3)))
    message = refused("rows", "jsonl", r'text = { column = "text", separator = "\n\n" }')
    assert message.startswith("split test: rows: line 1: has no 'text' (found: 'label', 'title', 'content')")


@pytest.mark.parametrize("format", list(WRITERS))
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda rows: rows[:-1], "n 8, 4 positive"),
        (lambda rows: [*rows, rows[0]], "n 10, 4 positive"),
        (lambda rows: [*rows[:-1], Row("title 8", "text 8!", 0, None)], "n 9, 4 positive"),
        (lambda rows: [rows[1], rows[0], *rows[2:]], "n 9, 4 positive"),
    ],
)
def test_a_file_that_is_off_by_one_row_is_held_against_the_lock(
    harness: Callable[..., Any],
    refused: Callable[[str, str], str],
    tmp_path: Path,
    format: str,
    change: Callable[[list[Row]], list[Row]],
    told: str,
) -> None:
    rows, suite = numbered(9), write_suite(tmp_path, "rows", format)
    (suite.parent / "rows").write_bytes(WRITERS[format](rows))
    assert [harness("data", suite).code for _ in range(2)] == [0, 0]
    (suite.parent / "rows").write_bytes(WRITERS[format](change(rows)))
    message = refused("rows", format)
    assert re.search(rf"split 'test' does not have the pinned rows: .*{told}.* pinned .*n 9, 4 positive", message)
    assert "`harness data SUITE --update-lock`" in message
    assert "split 'train'" not in message


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
