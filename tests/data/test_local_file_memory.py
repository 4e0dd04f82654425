"""Memory that local files take: no row is held that is not wanted, and bombs are refused."""

import gzip
import json
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from harness.data import local_file as files
from harness.data.source import Places, Streamed
from harness.errors import DataError
from harness.suite.splits import JoinedText
from tests.data.local_files import MIB, PACKERS, load, numbered, parquet_of, rule, zstd

pytestmark = pytest.mark.slow


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
