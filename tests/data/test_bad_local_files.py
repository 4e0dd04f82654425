"""Errors in local files are named, with their rows."""

import bz2
import gzip
import io
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness import data
from harness.data.source import Places, Row
from harness.errors import DataError
from tests.data.local_files import (
    JOINED,
    MIB,
    ROWS,
    STARS,
    WRITERS,
    csv_bytes,
    jsonl_bytes,
    load_bytes,
    numbered,
    parquet_bytes,
    parquet_of,
    rows_of,
    rule,
    table_as,
    zstd,
)

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
    ("change", "difference"),
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
    difference: str,
) -> None:
    rows, suite = numbered(9), write_suite(tmp_path, "rows", format)
    (suite.parent / "rows").write_bytes(WRITERS[format](rows))
    assert [harness("data", suite).code for _ in range(2)] == [0, 0]
    (suite.parent / "rows").write_bytes(WRITERS[format](change(rows)))
    message = refused("rows", format)
    assert re.search(rf"split 'test' does not have the pinned rows: .*{difference}.* pinned .*n 9, 4 positive", message)
    assert "`harness data SUITE --update-lock`" in message
    assert "split 'train'" not in message
