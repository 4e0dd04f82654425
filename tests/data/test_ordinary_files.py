"""Files as pandas, Excel, DuckDB, the hub and people write them: read by a few keys, or refused with them."""

import csv
import gzip
import io
import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter, ValidationError

from harness import data
from harness.data import guess
from harness.data.source import Places
from harness.errors import DataError
from harness.records import Split
from harness.suite.schema import FileSplit

TEXTS = [
    ("Great sound, bad cable", 1),
    ('He said "never again"; so do I', 0),
    ("Two lines\nof praise", 1),
    ("Café déjà vu – naïve €5", 0),
    ("NA", 0),
    ("  kept as it is  ", 1),
    ("tab\tinside | and a bar", 0),
    ("007", 1),
]
PLAIN = [(text.replace("–", "-").replace("€", "EUR "), label) for text, label in TEXTS]
"""The same without characters that some encodings lack."""
STARS = [5, 1, 4, 2, 1, 5, 2, 4]
WORDS = ["negative", "positive"]


def frame(**columns: Any) -> pd.DataFrame:
    """The rows with `text` and `label`, and these columns beside them, or in place of them."""
    made = {"text": [text for text, _ in TEXTS], "label": [label for _, label in TEXTS]} | columns
    return pd.DataFrame({name: values for name, values in made.items() if values is not None})


def by_pandas(frame: pd.DataFrame, **options: Any) -> bytes:
    """A file as `DataFrame.to_csv` writes it, without the index unless it is asked for."""
    written = frame.to_csv(**{"index": False, "encoding": None} | options)
    return str(written).encode()


def by_csv(rows: Sequence[Any], *, encoding: str = "utf-8", **options: Any) -> bytes:
    """A file as Python's csv module writes it; with ends of lines as Excel's unless others are asked for."""
    sink = io.StringIO(newline="")
    csv.writer(sink, **options).writerows(rows)
    return sink.getvalue().encode(encoding)


def by_duckdb(frame: pd.DataFrame, options: str, tmp_path: Path) -> bytes:
    """A file as DuckDB's COPY writes it."""
    with duckdb.connect() as connection:
        connection.register("rows", frame)
        connection.execute(f"COPY (SELECT * FROM rows) TO '{tmp_path / 'written'}' ({options})")  # noqa: S608 (made up)
    return (tmp_path / "written").read_bytes()


def parquet(columns: Mapping[str, Any], **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(dict(columns)), sink, **options)
    return sink.getvalue()


def by_hub(names: list[str]) -> bytes:
    """Parquet as `datasets` writes it, with a ClassLabel."""
    from datasets import ClassLabel, Dataset, Features, Value

    rows = {"text": [text for text, _ in TEXTS], "label": [label for _, label in TEXTS]}
    sink = io.BytesIO()
    Dataset.from_dict(rows, features=Features({"text": Value("string"), "label": ClassLabel(names=names)})).to_parquet(
        sink
    )
    return sink.getvalue()


TABLE = [["text", "label"], *([text, label] for text, label in TEXTS)]
PLAIN_TABLE = [["text", "label"], *([text, label] for text, label in PLAIN)]
WORDED = [["text", "sentiment"], *([text, WORDS[label]] for text, label in TEXTS)]
TEXT = {"columns": {"content": "text"}}
SENTIMENT = {"columns": {"content": "text", "label": "sentiment"}}
BY_WORD = {"labels": {"negative": "negative", "positive": "positive"}}
BY_STARS = {"labels": {"negative": [1, 2], "positive": [4, 5]}}


@dataclass(frozen=True)
class File:
    """A file, and what is declared of it."""

    format: str
    written: bytes | Callable[[Path], bytes]
    keys: dict[str, Any] = field(default_factory=dict)
    rows: list[tuple[str, int]] = field(default_factory=lambda: TEXTS)
    """The rows that it holds."""


def lines(rows: list[dict[str, Any]], **options: Any) -> bytes:
    return "".join(json.dumps(row, **options) + "\n" for row in rows).encode()


def objects(**columns: Any) -> list[dict[str, Any]]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


T, L = [text for text, _ in TEXTS], [label for _, label in TEXTS]
EXCEL = {"delimiter": ";", "lineterminator": "\r\n"}

READ: dict[str, File] = {
    # pandas
    "pandas csv": File("csv", by_pandas(frame()), TEXT),
    "pandas csv with its index": File("csv", by_pandas(frame(), index=True), TEXT),
    "pandas csv, all quoted": File("csv", by_pandas(frame(), quoting=csv.QUOTE_ALL), TEXT),
    "pandas csv, nonnumeric quoted": File("csv", by_pandas(frame(), quoting=csv.QUOTE_NONNUMERIC), TEXT),
    "pandas tsv": File("csv", by_pandas(frame(), sep="\t"), TEXT | {"delimiter": "\t"}),
    "pandas csv with bars": File("csv", by_pandas(frame(), sep="|"), TEXT | {"delimiter": "|"}),
    "pandas csv without header": File("csv", by_pandas(frame(), header=False), {"columns": {"content": 1, "label": 2}}),
    "pandas csv of words": File(
        "csv", by_pandas(frame(label=None, sentiment=[WORDS[one] for one in L])), SENTIMENT | BY_WORD
    ),
    "pandas csv of truth values": File(
        "csv",
        by_pandas(frame(label=[bool(one) for one in L])),
        TEXT | {"labels": {"negative": False, "positive": True}},
    ),
    "pandas csv of fractions": File(
        "csv", by_pandas(frame(label=[float(one) for one in L])), TEXT | {"labels": {"negative": 0, "positive": 1}}
    ),
    "pandas csv of stars": File(
        "csv", by_pandas(frame(label=None, stars=STARS)), {"columns": {"content": "text", "label": "stars"}} | BY_STARS
    ),
    "pandas csv, Windows line ends": File("csv", by_pandas(frame(), lineterminator="\r\n"), TEXT),
    "pandas jsonl": File("jsonl", str(frame().to_json(orient="records", lines=True)).encode(), TEXT),
    "pandas jsonl of fractions": File(
        "jsonl",
        lines(objects(text=T, label=[float(one) for one in L])),
        TEXT | {"labels": {"negative": 0, "positive": 1}},
    ),
    "pandas parquet": File("parquet", lambda at: _by_pandas_parquet(frame(), at), TEXT),
    "pandas parquet of categories": File(
        "parquet",
        lambda at: _by_pandas_parquet(frame(label=pd.Categorical([WORDS[one] for one in L])), at),
        TEXT | BY_WORD,
    ),
    "pandas parquet of truth values": File(
        "parquet",
        lambda at: _by_pandas_parquet(frame(label=[bool(one) for one in L]), at),
        TEXT | {"labels": {"negative": False, "positive": True}},
    ),
    "pandas parquet with gaps": File(
        "parquet",
        lambda at: _by_pandas_parquet(frame(text=[*T, "unknown"], label=[*map(float, L), None]), at),
        TEXT | {"labels": {"negative": 0, "positive": 1}},
    ),
    # Excel and its kin
    "Excel, semicolons": File("csv", by_csv(TABLE, **EXCEL), TEXT | {"delimiter": ";"}),
    "Excel, semicolons and a mark": File(
        "csv", by_csv(TABLE, encoding="utf-8-sig", **EXCEL), TEXT | {"delimiter": ";"}
    ),
    "Excel, cp1252": File(
        "csv", by_csv(TABLE, encoding="cp1252", **EXCEL), TEXT | {"delimiter": ";", "encoding": "cp1252"}
    ),
    "Excel, commas and cp1252": File("csv", by_csv(TABLE, encoding="cp1252"), TEXT | {"encoding": "cp1252"}),
    "Excel, Unicode text": File(
        "csv", by_csv(TABLE, encoding="utf-16", delimiter="\t"), TEXT | {"delimiter": "\t", "encoding": "utf-16"}
    ),
    "Excel on an old Mac": File(
        "csv", by_csv(PLAIN_TABLE, encoding="mac-roman"), TEXT | {"encoding": "mac-roman"}, PLAIN
    ),
    "Excel, truth values in capitals": File(
        "csv",
        by_csv([["text", "label"], *([t, str(bool(one)).upper()] for t, one in TEXTS)], **EXCEL),
        TEXT | {"delimiter": ";", "labels": {"negative": False, "positive": True}},
    ),
    "latin-1": File("csv", by_csv(PLAIN_TABLE, encoding="latin-1"), TEXT | {"encoding": "latin-1"}, PLAIN),
    # DuckDB
    "DuckDB csv": File("csv", lambda at: by_duckdb(frame(), "FORMAT csv", at), TEXT),
    "DuckDB csv, all quoted": File("csv", lambda at: by_duckdb(frame(), "FORMAT csv, FORCE_QUOTE *", at), TEXT),
    "DuckDB tsv": File(
        "csv", lambda at: by_duckdb(frame(), "FORMAT csv, DELIMITER '\t'", at), TEXT | {"delimiter": "\t"}
    ),
    "DuckDB csv without header": File(
        "csv", lambda at: by_duckdb(frame(), "FORMAT csv, HEADER false", at), {"columns": {"content": 1, "label": 2}}
    ),
    "DuckDB jsonl": File("jsonl", lambda at: by_duckdb(frame(), "FORMAT json", at), TEXT),
    "DuckDB parquet": File("parquet", lambda at: by_duckdb(frame(), "FORMAT parquet", at), TEXT),
    "DuckDB parquet of decimals": File(
        "parquet",
        parquet({"text": T, "label": pa.array(L).cast(pa.decimal128(21, 1))}),
        TEXT | {"labels": {"negative": 0, "positive": 1}},
    ),
    # The hub
    "hub parquet with class names": File("parquet", by_hub(["neg", "pos"]), TEXT),
    "hub parquet declared by class names": File(
        "parquet", by_hub(["neg", "pos"]), TEXT | {"labels": {"negative": "neg", "positive": "pos"}}
    ),
    "hub parquet of words": File(
        "parquet", parquet({"text": T, "sentiment": [WORDS[one] for one in L]}), SENTIMENT | BY_WORD
    ),
    "hub parquet of stars and large strings": File(
        "parquet",
        parquet({"text": pa.array(T, pa.large_string()), "stars": pa.array(STARS, pa.int8())}),
        {"columns": {"content": "text", "label": "stars"}} | BY_STARS,
    ),
    "hub parquet, stars with threes": File(
        "parquet",
        parquet({"text": [*T, "so so"], "stars": [*STARS, 3]}),
        {"columns": {"content": "text", "label": "stars"}} | BY_STARS,
    ),
    "hub jsonl of labels as texts": File(
        "jsonl",
        lines(objects(sentence=T, label=[str(one) for one in L])),
        {"columns": {"content": "sentence"}, "labels": {"negative": 0, "positive": 1}},
    ),
    "hub jsonl, gzip": File("jsonl.gz", lambda at: _packed(lines(objects(text=T, label=L))), TEXT),
    # People
    "own names": File(
        "csv",
        by_csv([["label", "content"], *([one, text] for text, one in TEXTS)]),
        {"labels": {"negative": 0, "positive": 1}},
    ),
    "own names, by columns": File(
        "csv",
        by_csv([["label", "content"], *([one, text] for text, one in TEXTS)]),
        {"columns": {"content": "content", "label": "label"}},
    ),
    "own names, semicolons": File(
        "csv", by_csv([["label", "content"], *([one, text] for text, one in TEXTS)], delimiter=";"), {"delimiter": ";"}
    ),
    "blank lines": File("csv", by_csv(TABLE).replace(b"\r\n", b"\r\n\r\n") + b"\n", TEXT),
    "no last line end": File("csv", by_csv(TABLE).rstrip(), TEXT),
    "numbers one and two": File(
        "csv",
        by_csv([["text", "label"], *([t, one + 1] for t, one in TEXTS)]),
        TEXT | {"labels": {"negative": 1, "positive": 2}},
    ),
    "minus one": File(
        "csv",
        by_csv([["text", "label"], *([t, 2 * one - 1] for t, one in TEXTS)]),
        TEXT | {"labels": {"negative": -1, "positive": 1}},
    ),
    "sentiment140": File(
        "csv",
        by_csv([[4 * one, i, "NO_QUERY", text] for i, (text, one) in enumerate(TEXTS)], quoting=csv.QUOTE_ALL),
        {"columns": {"label": 1, "content": 4}, "labels": {"negative": 0, "positive": 4}},
    ),
    "words in two spellings": File(
        "csv",
        by_csv(
            [
                ["text", "label"],
                *([t, ("Pos" if i % 2 else "pos") if one else "neg"] for i, (t, one) in enumerate(TEXTS)),
            ]
        ),
        TEXT | {"labels": {"negative": "neg", "positive": ["pos", "Pos"]}},
    ),
    "labels with blanks": File(
        "csv", by_csv([["text", "label"], *([t, f" {WORDS[one]} "] for t, one in TEXTS)]), TEXT | BY_WORD
    ),
    "jsonl with a mark and Windows line ends": File(
        "jsonl", b"\xef\xbb\xbf" + lines(objects(text=T, label=L), ensure_ascii=False).replace(b"\n", b"\r\n"), TEXT
    ),
    "jsonl in cp1252": File(
        "jsonl",
        lines(objects(text=T, label=L), ensure_ascii=False).decode().encode("cp1252"),
        TEXT | {"encoding": "cp1252"},
    ),
}


def _by_pandas_parquet(made: pd.DataFrame, at: Path) -> bytes:
    made.to_parquet(at / "written")
    return (at / "written").read_bytes()


def _packed(plain: bytes) -> bytes:
    return gzip.compress(plain)


def load(folder: Path, file: File) -> Split:
    written = file.written if isinstance(file.written, bytes) else file.written(folder)
    name = f"rows.{file.format}"
    (folder / name).write_bytes(written)
    declared = {"id": "rows", "source": "file", "path": name, "format": file.format.split(".")[0]} | file.keys
    rule = TypeAdapter(FileSplit).validate_json(json.dumps(declared))
    return data.load_split(rule, Places(folder, folder, None))


def ids(rows: list[tuple[str, int]], folder: Path) -> tuple[str, ...]:
    """The example ids of rows, from JSON Lines that need no key."""
    written = lines([{"label": label, "content": text} for text, label in rows])
    return tuple(example.example_id for example in load(folder, File("jsonl", written)).examples)


@pytest.mark.parametrize("name", READ)
def test_an_ordinary_file_is_read_by_a_few_keys_and_its_rows_have_the_same_ids_as_in_any_other(
    tmp_path: Path, name: str
) -> None:
    file = READ[name]
    split = load(tmp_path, file)
    assert [(example.content, example.label) for example in split.examples] == file.rows
    assert tuple(example.example_id for example in split.examples) == ids(file.rows, tmp_path)


UNDECIDED = ("pandas csv without header", "DuckDB csv without header", "sentiment140")
"""Files without a header: the refusal says that columns are declared by number, but not which."""


@pytest.mark.parametrize("name", [name for name in READ if name != "Excel on an old Mac"])  # cp1252 reads it, wrongly
def test_without_its_keys_a_file_is_refused_with_the_keys_to_add_until_it_is_read(tmp_path: Path, name: str) -> None:
    file = READ[name]
    keys: dict[str, Any] = {}
    for _ in range(8):
        try:
            split = load(tmp_path, File(file.format, file.written, keys))
        except DataError as problem:
            stated = re.findall(r"(\w+) = (\{[^{}]*\}|\"(?:[^\"\\]|\\.)*\")", str(problem))
            if name in UNDECIDED and "by number" in str(problem):
                return
            key, value = stated[0] if stated else ("nothing", f'"{problem}"')
            keys |= tomllib.loads(f"{key} = {value}")
        else:
            assert sorted(e.content for e in split.examples) == sorted(text for text, _ in file.rows), keys
            return
    pytest.fail(f"still refused with {keys}")


REFUSED: dict[str, tuple[File, str]] = {
    "semicolons": (
        File("csv", by_csv(TABLE, delimiter=";"), TEXT),
        r"line 1: is separated by semicolons; declare delimiter = \";",
    ),
    "commas where tabs are declared": (
        File("csv", by_csv(TABLE), TEXT | {"delimiter": "\t"}),
        r"separated by commas; declare delimiter = \",\"",
    ),
    "cp1252": (File("csv", by_csv(TABLE, encoding="cp1252"), TEXT), r"line 6: is not UTF-8 .*encoding = \"cp1252\""),
    "cp1252 declared as utf-16": (
        File("csv", by_csv(TABLE, encoding="cp1252"), TEXT | {"encoding": "utf-16"}),
        "is not utf-16 after line 0",
    ),
    "other names": (
        File("csv", by_csv([["review_text", "stars", "n"], ["a", 1, 2]]), {"labels": {"negative": 1, "positive": 2}}),
        r"line 1: has no 'content' and no 'label' .*columns = { content = \"review_text\", label = \"stars\" }",
    ),
    "words": (
        File("csv", by_csv(WORDED), SENTIMENT),
        r"line 2: sentiment \"positive\" is neither 0.*labels = { negative = \"negative\", positive = \"positive\" }",
    ),
    "stars": (
        File("csv", by_csv([["text", "label"], *([t, s] for t, s in zip(T, STARS, strict=True))]), TEXT),
        r"line 2: label \"5\" is .*labels = { negative = \[1, 2\], positive = \[4, 5\] }",
    ),
    "stars in parquet": (
        File("parquet", parquet({"text": T, "label": STARS}), TEXT),
        r"row 1: label 5 is .*labels = { negative = \[1, 2\], positive = \[4, 5\] }",
    ),
    "strings in parquet": (
        File("parquet", parquet({"text": T, "label": [WORDS[one] for one in L]}), TEXT),
        r"'label' is string, .*labels = { negative = \"negative\", positive = \"positive\" }",
    ),
    "names in parquet": (
        File("parquet", parquet({"text": T, "sentiment": L})),
        r"{ content = \"text\", label = \"sentiment\" }",
    ),
    "topics": (
        File("csv", by_csv([["text", "label"], ["a", "sport"], ["b", "politics"]]), TEXT),
        r"labels = { negative = …, positive = … } over the values of the column \(\"sport\", \"politics\"\)",
    ),
    "no label at all": (File("jsonl", lines([{"text": "a"}]), TEXT), "line 1: has no 'label'"),
    "labels that nothing has": (
        File("csv", by_csv(TABLE), TEXT | BY_WORD),
        r"no row has a declared label \(dropped: '0' 4, '1' 4\)",
    ),
    "backslashes before quotes": (
        File("csv", b'text,label\n"a \\"b\\" c",1\n', TEXT),
        r"line 2: has a quote .*read_csv\('FILE', escape=",
    ),
    "a text cut by an unquoted comma": (
        File("csv", b"text,label\nfine, really,1\n", TEXT),
        "line 2: has 3 columns, but the first line has 2; quote",
    ),
    "a quote that is never closed": (
        File("csv", b'text,label\nfine,1\n"open,1\nnext,0\n', TEXT),
        "line 3: has a quote that is not closed",
    ),
    "an instruction to Excel": (File("csv", b"sep=;\ntext;label\na;1\n", TEXT | {"delimiter": ";"}), "remove it"),
    "a JSON array": (
        File("jsonl", json.dumps(objects(text=T, label=L)).encode(), TEXT),
        "jq -c '.\\[\\]' FILE > rows.jsonl",
    ),
    "pandas to_json": (File("jsonl", str(frame().to_json()).encode(), TEXT), r"orient='records', lines=True"),
    "a name twice": (File("csv", b"text,label,text\na,1,b\n", TEXT), "line 1: names 1 columns twice"),
    "a header alone": (File("csv", b"text,label\n", TEXT), "has no rows"),
    "number columns beyond the last": (
        File("csv", by_csv(TABLE[1:]), {"columns": {"content": 1, "label": 3}}),
        "line 1: has no 3",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_names_the_line_and_the_key_or_command_that_helps(tmp_path: Path, name: str) -> None:
    file, expected = REFUSED[name]
    with pytest.raises(DataError) as refusal:
        load(tmp_path, file)
    message = str(refusal.value)
    assert message.startswith("split rows")
    assert re.search(expected, message), message


def test_there_are_sixty_files() -> None:
    assert len(READ) + len(REFUSED) >= 60


# What is dropped, divided and skipped


def numbered(n: int) -> list[dict[str, Any]]:
    return [{"label": i % 2, "content": f"text number {i}", "who": f"w{i // 4}"} for i in range(n)]


def contents(folder: Path, rows: list[dict[str, Any]], **keys: Any) -> list[str]:
    return [example.content for example in load(folder, File("jsonl", lines(rows), keys)).examples]


def test_rows_with_other_values_are_dropped_and_counted_by_value(tmp_path: Path) -> None:
    rows = [{"label": value, "content": f"text {i}"} for i, value in enumerate([1, 5, 3, 3, None, 4, 3.0, "3", 2])]
    for format, written in (("jsonl", lines(rows)), ("parquet", b"")):
        if format == "parquet":
            values = [None if row["label"] is None else float(row["label"]) for row in rows]
            written = parquet({"content": [row["content"] for row in rows], "label": values})
        split = load(tmp_path, File(format, written, BY_STARS))
        assert [(e.content, e.label) for e in split.examples] == [
            ("text 0", 0), ("text 1", 1), ("text 5", 1), ("text 8", 0),
        ]  # fmt: skip
        assert split.source["dropped"] == {"3": 4, "": 1}


@pytest.mark.parametrize("format", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("keys", [{}, {"shuffle_seed": 3}, {"shuffle_seed": 3, "stratify": True}])
def test_skip_and_take_divide_a_file_without_overlap(tmp_path: Path, format: str, keys: dict[str, Any]) -> None:
    rows = numbered(30)
    table = {name: [row[name] for row in rows] for name in rows[0]}
    written = {
        "jsonl": lines(rows), "csv": by_pandas(pd.DataFrame(table)), "parquet": parquet(table)
    }[format]  # fmt: skip
    parts = [{"take": 10}, {"skip": 10, "take": 15}, {"skip": 25}]
    found = [
        [
            e.content
            for e in load(tmp_path, File(format, written, {"columns": {"label": "label"}} | keys | part)).examples
        ]
        for part in parts
    ]
    assert [len(one) for one in found] == [10, 15, 5]
    assert sorted(text for one in found for text in one) == sorted(row["content"] for row in rows)


def test_shares_with_one_seed_divide_texts_that_read_the_same_to_one_side(tmp_path: Path) -> None:
    rows = [*numbered(40), *({"label": 0, "content": f"  Text number {i}! "} for i in range(40))]
    train = contents(tmp_path, rows, share={"seed": 7, "start": 0, "stop": 0.75})
    test = contents(tmp_path, rows, share={"seed": 7, "start": 0.75, "stop": 1})
    assert len(train) == 60
    assert len(test) == 20
    assert not {re.sub(r"\W", "", text).lower() for text in train} & {re.sub(r"\W", "", text).lower() for text in test}
    assert contents(tmp_path, rows, share={"seed": 8, "start": 0.75, "stop": 1}) != test


@pytest.mark.parametrize("keys", [{"cluster": "who"}, {"cluster_block": 4}])
def test_shares_divide_clusters_where_there_are_some(tmp_path: Path, keys: dict[str, Any]) -> None:
    rows = numbered(40)
    shares = [{"seed": 7, "start": 0, "stop": 0.3}, {"seed": 7, "start": 0.3, "stop": 1}]
    first, second = (contents(tmp_path, rows, share=share, **keys) for share in shares)
    assert (len(first), len(second)) == (12, 28)
    who = {row["content"]: row["who"] for row in rows}
    assert not {who[text] for text in first} & {who[text] for text in second}


def test_a_share_by_text_is_the_same_in_every_format(tmp_path: Path) -> None:
    rows, share = numbered(25), {"share": {"seed": 1, "start": 0.2, "stop": 0.6}}
    table = {name: [row[name] for row in rows] for name in rows[0]}
    of_lines = load(tmp_path, File("jsonl", lines(rows), share))
    assert load(tmp_path, File("parquet", parquet(table), share)).digest == of_lines.digest
    by_table = {"columns": {"content": "content"}} | share
    assert load(tmp_path, File("csv", by_pandas(pd.DataFrame(table)), by_table)).digest == of_lines.digest


def test_skipping_everything_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="skip asks for 4 rows, but there are only 4"):
        contents(tmp_path, numbered(4), skip=4)
    with pytest.raises(DataError, match="skip and take ask for 5 rows, but there are only 4"):
        contents(tmp_path, numbered(4), skip=2, take=3)


# What may be declared


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"labels": {"negative": 1, "positive": ["1.0", 2]}}, "'1' cannot be both"),
        ({"labels": {"negative": [], "positive": 1}}, "must be a string, a number"),
        ({"labels": {"negative": "", "positive": 1}}, "a row without a label is dropped"),
        ({"columns": {}}, "names no column"),
        ({"columns": {"content": "a", "label": "a"}}, "names 'a' more than once"),
        ({"columns": {"content": 1}}, "give content and label"),
        ({"columns": {"content": 0, "label": 1}}, "must be a column's name, or its number"),
        ({"columns": {"content": True, "label": 1}}, "must be a column's name"),
        ({"columns": {"content": 1, "label": "x"}}, "by number"),
        ({"columns": {"content": 1, "label": 2}, "cluster": "who"}, "columns by number have no names; remove cluster"),
        ({"columns": {"content": "a"}, "text": {"column": "b", "separator": ": "}}, "text already names"),
        ({"delimiter": ";;"}, "must be one character"),
        ({"format": "jsonl", "delimiter": ";"}, "format 'jsonl' has no delimiter"),
        ({"format": "parquet", "encoding": "cp1252"}, "format 'parquet' has no encoding"),
        ({"format": "parquet", "columns": {"content": 1, "label": 2}}, "for format 'csv' only"),
        ({"format": "fasttext", "columns": {"content": "a"}, "cluster": "b"}, "has no columns and cluster"),
    ],
)  # fmt: skip
def test_a_declaration_that_no_file_could_fit_is_refused(keys: dict[str, Any], expected: str) -> None:
    declared = {"id": "rows", "source": "file", "path": "rows.csv", "format": "csv"} | keys
    with pytest.raises(ValidationError, match=re.escape(expected)):
        TypeAdapter(FileSplit).validate_json(json.dumps(declared))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 1], (0, 1)),
        (["1", "2"], (1, 2)),
        ([-1, 0, 1], (-1, 1)),
        (["1", "5"], (1, 5)),
        ([203, 999], None),
        ([0, 2, 4], (0, 4)),
        ([1, 2, 3, 4, 5], ((1, 2), (4, 5))),
        ([0, 1, 2, 3, 4], ((0, 1), (3, 4))),
        ([1.0, 2.5, 4.5, 5.0], ((1, 2.5), (4.5, 5))),
        (list(range(1, 11)), ((1, 2, 3, 4), (7, 8, 9, 10))),
        (["Negative", "Neutral", "Positive"], ("Negative", "Positive")),
        ([True, False], (False, True)),
        (["LABEL_0", "LABEL_1"], ("LABEL_0", "LABEL_1")),
        (["sport", "politics"], None),
        ([1], None),
        ([], None),
        ([17, 203, 999], None),
    ],
)
def test_the_meaning_of_usual_labels_is_guessed_and_of_others_not(values: list[Any], expected: Any) -> None:
    found = guess.labels(values)
    assert (found and (found.negative, found.positive)) == expected
