"""Hub splits and hub bases over real HTTP: the real libraries, in processes of their own, against a loopback hub.

The libraries read `HF_ENDPOINT` and `HF_HUB_OFFLINE` when they are imported, and importing them takes seconds. So the
commands of many cases run one after the other in a few processes, and each test looks at one command's outcome.
"""

import gzip
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness import data
from harness.artifacts import hub
from harness.data import lock
from harness.data.source import Places
from harness.records import Split
from harness.store.connection import opened
from harness.suite.load import load
from harness.suite.schema import FileSplit, HubSplit

pytestmark = pytest.mark.slow

SUITES = Path(__file__).parents[3] / "suites"
FIRST, SECOND, THIRD = "1" * 40, "2" * 40, "3" * 40
TOKEN = "hf_thisIsASecretOfTheTests"
CARD = b"""---
configs:
- config_name: default
  data_files:
  - {split: train, path: "data/train-*"}
  - {split: test, path: "data/test-*"}
---
# Made-up reviews
"""
DRIVER = """
import json, sys
from pathlib import Path
from typer.testing import CliRunner
from harness import data; from harness.artifacts import hub
hub.library()  # now, so that what the libraries log goes to this process's own stderr
import datasets
from harness.cli import app
from harness.data.source import Places
from harness.suite.schema import HubSplit

def columns(rule):  # of a split's examples: no verb shows them
    here = Path.cwd()
    split = data.load_split(HubSplit.model_validate_json(rule), Places(here / "runs" / "cache", here, None))
    return [0, json.dumps([[example.example_id, example.columns] for example in split.examples]), ""]

results = []
for words in json.load(sys.stdin):
    if words[0] == "columns":
        results.append(columns(words[1]))
        continue
    result = CliRunner().invoke(app, words)
    results.append([result.exit_code, result.stdout, result.stderr])
print(json.dumps(results))
"""

Rows = list[dict[str, Any]]


def reviews(n: int, seed: int, words: int = 12) -> Rows:
    """Made-up rows as the hub has them."""
    generator = np.random.default_rng(seed)
    texts = generator.integers(0, 2**32, size=(n, words))
    labels = generator.integers(0, 2, size=n).tolist()
    return [
        {"label": label, "title": f"Review {i}", "content": f"{'good' if label else 'bad'} " + " ".join(map(str, text))}
        for i, (label, text) in enumerate(zip(labels, texts, strict=True))
    ]


def parquet(rows: Rows, group: int = 100) -> bytes:
    """Rows as a Parquet file of many row groups."""
    written = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), written, row_group_size=group, compression="none")
    return written.getvalue()


def jsonl(rows: Rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def joined(rows: Rows) -> Rows:
    """The same rows with title and content in one column, as the real Amazon Polarity has them at its pinned commit."""
    return [
        {
            "label": row["label"],
            "text": f"{row['title']}\n\n{row['content']}",
            "label_text": ("negative", "positive")[row["label"]],
        }
        for row in rows
    ]


def dataset(rows: Rows) -> dict[str, bytes]:
    """A dataset's files: the rows are its test split, in two shards."""
    half = len(rows) // 2
    return {
        "README.md": CARD,
        "data/train-00000-of-00001.parquet": parquet(reviews(40, 99)),
        "data/test-00000-of-00002.parquet": parquet(rows[:half]),
        "data/test-00001-of-00002.parquet": parquet(rows[half:]),
    }


def split(rows: Rows, folder: Path, **draw: Any) -> Split:
    """The split that a rule draws from the same rows in a local file."""
    (folder / "rows.jsonl").write_bytes(jsonl(rows))
    rule = FileSplit(id="test", source="file", path="rows.jsonl", format="jsonl", **draw)
    return data.load_split(rule, Places(folder, folder, None))


def sliced(rows: Split, *names: str) -> Split:
    """The split with a slice column that names each label so."""
    examples = tuple(replace(one, columns={"label_text": names[one.label]}) for one in rows.examples)
    return replace(rows, examples=examples)


@dataclass(frozen=True)
class Outcome:
    """What a command came to."""

    code: int
    out: str
    err: str


@dataclass
class Workplace:
    """A folder of suites, the cache they share, and the hub they ask."""

    folder: Path
    url: str

    def suite(self, name: str, repo: str, *, base: str = "", store: str = "runs", **rule: Any) -> list[str]:
        """Write a suite with one hub split beside a local one to train on, and say how its data are fetched."""
        (self.folder / "train.jsonl").write_bytes(jsonl(reviews(30, 7)))
        declared = {"dataset": repo, "split": "test"} | rule
        lines = "\n".join(f"{key} = {toml(value)}" for key, value in declared.items())
        bases = f'[[base]]\nid = "tiny"\nsource = "hub"\nname = "{base}"\nrevision = "{FIRST}"\n' if base else ""
        models = (
            '[[model]]\nid = "untrained"\nbackend = "transformer"\nbase = "tiny"\nseeds = [1]\nprecision = "fp32"\n'
        )
        (self.folder / f"{name}.toml").write_text(
            f"""version = 1
name = "{name}"
description = "Made up"
primary_metric = "accuracy"
text = {{ template = "{{title}}. {{content}}", max_length = 32 }}
[[split]]
id = "train"
source = "file"
path = "train.jsonl"
format = "jsonl"
[[split]]
id = "test"
source = "hub"
{lines}
{bases}
[[model]]
id = "tfidf"
backend = "tfidf"
train_split = "train"
ngram_range = [1, 1]
sublinear_tf = true
C = 1.0
{models if base else ""}
[[metric]]
name = "accuracy"
"""
        )
        return ["data", f"{name}.toml", "--db", f"{store}/harness.duckdb"]

    def locked(self, name: str) -> dict[str, Any]:
        """What is pinned of a suite's hub split."""
        entry: dict[str, Any] = json.loads((self.folder / f"{name}.lock").read_text())["splits"]["test"]
        return entry

    def lock(self, name: str, rows: Split) -> None:
        """Pin the hub split of a suite."""
        lock.write(self.folder / f"{name}.lock", [rows])

    def run(self, commands: Mapping[str, Sequence[str]], **environment: str) -> dict[str, Outcome]:
        """Run commands one after the other in a new process; by name, what each came to."""
        passed = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HARNESS_"))}
        settings = {
            "HF_ENDPOINT": self.url, "HF_HOME": str(self.folder / "home"), "HF_TOKEN": TOKEN,
            "NO_PROXY": "127.0.0.1,localhost", "HF_HUB_ETAG_TIMEOUT": "2", "HF_HUB_DOWNLOAD_TIMEOUT": "3",
        }  # fmt: skip
        process = subprocess.run(
            [sys.executable, "-c", DRIVER], input=json.dumps(list(commands.values())), capture_output=True, text=True,
            cwd=self.folder, env=passed | settings | environment, timeout=300, check=False,
        )  # fmt: skip
        assert (process.returncode, process.stderr) == (0, "")
        assert TOKEN not in process.stdout + process.stderr
        outcomes = json.loads(process.stdout.splitlines()[-1])
        return {name: Outcome(*outcome) for name, outcome in zip(commands, outcomes, strict=True)}


def toml(value: Any) -> str:
    """A value as a suite has it."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)


def columns(repo: str, **rule: Any) -> list[str]:
    """Tell what a hub split's examples carry besides their text."""
    return ["columns", json.dumps({"id": "test", "source": "hub", "dataset": repo, "split": "test"} | rule)]


def evaluate(fetch: list[str]) -> list[str]:
    """The evaluation of a suite, from the command that fetches its data."""
    return ["evaluate", *fetch[1:], "--workers", "1"]


ROWS, NEWER, NEWEST = reviews(300, 1), reviews(300, 2), reviews(300, 3)
LONG = reviews(14_000, 4, words=40)
DRAW: dict[str, Any] = {"shuffle_seed": 42, "take": 50}
TEXT: dict[str, Any] = {"text": {"column": "text", "separator": "\n\n"}}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, loopback: Any) -> Workplace:
    """A folder whose suites ask the loopback hub."""
    return Workplace(tmp_path_factory.mktemp("hub"), loopback.url)


@pytest.fixture(scope="module")
def model_files(tiny_base: Path) -> dict[str, bytes]:
    """The tiny base as a repository's files."""
    return {path.name: path.read_bytes() for path in tiny_base.iterdir()}


@pytest.fixture(scope="module")
def online(place: Workplace, loopback: Any, model_files: dict[str, bytes]) -> dict[str, Outcome]:
    """Every case with a hub that answers, well or badly, in one process."""
    serve, good = loopback.serve, {FIRST: dataset(ROWS)}
    serve("datasets/own/reviews", good)
    serve("datasets/own/moving", {FIRST: dataset(ROWS), SECOND: dataset(NEWER)})
    serve(
        "datasets/own/lines",
        {FIRST: {"train.jsonl.gz": gzip.compress(b"{}"), "test.jsonl.gz": gzip.compress(jsonl(ROWS))}},
    )
    serve(
        "datasets/own/long",
        {FIRST: {"README.md": CARD, "data/train-0.parquet": parquet(ROWS), "data/test-0.parquet": parquet(LONG, 500)}},
    )
    lines_of_joined = {"train.jsonl": jsonl(joined(reviews(40, 99))), "test.jsonl": jsonl(joined(ROWS))}
    serve("datasets/own/joined", {FIRST: lines_of_joined})
    serve("datasets/own/joined-parquet", {FIRST: dataset(joined(ROWS))})
    serve("datasets/own/texts", {FIRST: dataset([{"label": 1, "text": "a", "label_text": "b"}] * 4)})
    serve("datasets/own/stars", {FIRST: dataset([*ROWS[:150], {**ROWS[150], "label": 4}, *ROWS[151:]])})
    serve(
        "datasets/own/script", {FIRST: {"script.py": b"raise SystemExit('the script was run')", "data.csv": b"a,b\n"}}
    )
    serve(
        "datasets/own/broken", {FIRST: {"README.md": CARD, "data/train-0.parquet": b"no", "data/test-0.parquet": b"no"}}
    )
    named = {"data/train-0.parquet": parquet(ROWS), "data/test-0.parquet": parquet(ROWS)}
    misnamed = {name: raw.replace(b"content", b"\xf2ontent", 1) for name, raw in named.items()}
    serve("datasets/own/misnamed", {FIRST: {"README.md": CARD, **misnamed}})
    serve("datasets/own/gated", good, refusal=(401, "GatedRepo"))
    serve("datasets/own/barred", good, refusal=(403, "GatedRepo"))
    serve("datasets/own/forbidden", good, refusal=(403, ""))
    serve("datasets/own/failing", good, refusal=(501, ""))
    serve("datasets/own/busy", good, busy=[{"Retry-After": "1"}])
    serve("datasets/own/overrun", good, busy=[{"Retry-After": "3600"}])
    serve("datasets/own/busy-later", good, busy_files=[{"Retry-After": "0"}] * 2)
    serve("datasets/own/overrun-later", good, busy_files=[{"Retry-After": "3600"}] * 9)
    serve("datasets/own/limited", good, busy=[{"RateLimit": '"api";r=0;t=299'}])
    serve("datasets/own/cut", good, cut_at=5000, cuts=1)
    serve("datasets/own/severed", good, cut_at=5000, cuts=1000)
    serve("datasets/own/falsified", good, falsified=True)
    serve("datasets/own/hanging", good, hangs=True)
    serve("models/own/tiny", {FIRST: model_files})
    serve("models/own/pickled", {FIRST: {"config.json": b"{}", "pytorch_model.bin": b"pickle"}})
    serve("models/own/gated", {FIRST: model_files}, refusal=(403, "GatedRepo"))
    serve("models/own/falsified", {FIRST: model_files}, falsified=True)
    # A folder of this name, which `datasets` would read in place of the hub.
    (place.folder / "own" / "reviews").mkdir(parents=True)
    (place.folder / "own" / "reviews" / "test.jsonl").write_bytes(jsonl(NEWEST))

    suite = place.suite
    commands = {
        "pinned": suite("pinned", "own/reviews", revision=FIRST, **DRAW),
        "newest": suite("newest", "own/moving", **DRAW),
        "stratified": suite("stratified", "own/reviews", revision=FIRST, take=50, stratify=True),
        "whole": suite("whole", "own/reviews", revision=FIRST),
        "head": suite("head", "own/long", revision=FIRST, take=600),
        "head of two": suite("head-of-two", "own/reviews", revision=FIRST, take=200),
        "head too long": suite("head-too-long", "own/reviews", revision=FIRST, take=301),
        "lines": suite("lines", "own/lines", revision=FIRST, **DRAW),
        "lines head": suite("lines-head", "own/lines", revision=FIRST, take=200),
        **{
            f"{name}{head}": suite(f"{name}{head}", f"own/{name}", revision=FIRST, **draw, **TEXT)
            for name in ("joined", "joined-parquet")
            for head, draw in (("", DRAW), ("-head", {"take": 200}))
        },
        "columns": columns("own/joined", revision=FIRST, slice_columns=["label_text", "text"], **DRAW, **TEXT),
        "columns of the head": columns("own/joined", revision=FIRST, slice_columns=["label_text"], take=200, **TEXT),
        "no joined column": suite("no-joined-column", "own/reviews", revision=FIRST, **DRAW, **TEXT),
        "no slice column": suite("no-slice-column", "own/reviews", revision=FIRST, slice_columns=["kind"], **DRAW),
        "no dataset": suite("no-dataset", "own/nothing", revision=FIRST, **DRAW),
        "no newest": suite("no-newest", "own/nothing", **DRAW),
        "no commit": suite("no-commit", "own/reviews", revision=THIRD, **DRAW),
        "no split": suite("no-split", "own/reviews", revision=FIRST, **DRAW | {"split": "validation"}),
        **{
            name: suite(name, f"own/{name}", revision=FIRST, **DRAW)
            for name in (
                "stars", "script", "broken", "gated", "barred", "forbidden", "failing", "busy", "busy-later", "overrun",
                "overrun-later", "limited", "cut", "severed", "falsified", "hanging",
            )
        },
        "misnamed head": suite("misnamed-head", "own/misnamed", revision=FIRST, take=2),
        "texts": suite("texts", "own/texts", revision=FIRST, shuffle_seed=1, take=2),
        "texts head": suite("texts-head", "own/texts", revision=FIRST, take=2),
        **{
            f"{name} model": evaluate(suite(f"model-{name}", "own/reviews", revision=FIRST, base=f"own/{name}", **DRAW))
            for name in ("nothing", "pickled", "gated", "falsified")
        },
    }  # fmt: skip
    return place.run(commands)


@pytest.fixture(scope="module")
def again(place: Workplace, loopback: Any, online: dict[str, Outcome]) -> dict[str, Outcome]:
    """The hub's main branch has moved; local copies lie about; a whole evaluation runs."""
    loopback.repos["datasets/own/moving"].commits[THIRD] = dataset(NEWEST)
    copies = place.folder / "copies" / "reviews"
    (copies / "deeper").mkdir(parents=True)
    (copies / "a.parquet").write_bytes(b"damaged")
    (copies / "b.csv").write_text('"2","one","row"\n')
    (copies / "deeper" / "head.jsonl").write_bytes(jsonl(ROWS[:20]))
    (copies / "whole.parquet").write_bytes(parquet(NEWER))
    drawn = split(NEWEST, place.folder, **DRAW)
    as_drawn: Rows = [{"label": e.label, "title": e.title, "content": e.content} for e in drawn.examples]
    (copies / "drawn.jsonl.gz").write_bytes(gzip.compress(jsonl(as_drawn)))
    (place.folder / "copies" / "theirs").mkdir()
    (place.folder / "copies" / "theirs" / "test.jsonl").write_bytes(jsonl(joined(NEWEST)))
    suite = place.suite
    commands = {
        "newest, elsewhere": suite("newest", "own/moving", store="elsewhere", **DRAW),
        "copied head": suite("copied-head", "absent/reviews", revision=FIRST, take=20),
        "copied as drawn": suite("copied-as-drawn", "absent/reviews", **DRAW),
        "copied rule": suite("copied-rule", "absent/reviews", **DRAW),
        "copied apart": suite("copied-apart", "absent/reviews", **DRAW, **TEXT),
        "copied joined": suite("copied-joined", "absent/theirs", **DRAW, **TEXT),
        "copied slices": suite("copied-slices", "absent/theirs", slice_columns=["label_text"], **DRAW, **TEXT),
        "copies of other slices": suite(
            "copies-of-other-slices", "absent/theirs", slice_columns=["label_text"], **DRAW, **TEXT
        ),
        "copies without slices": suite("copies-without-slices", "absent/reviews", slice_columns=["kind"], **DRAW),
        "copies disagree": suite("copies-disagree", "own/reviews", revision=FIRST, store="elsewhere", **DRAW),
        "copies disagree, no hub": suite("copies-disagree-no-hub", "absent/reviews", revision=FIRST, **DRAW),
        "unlocked": suite("unlocked", "absent/reviews", revision=FIRST, take=20),
        "evaluation": evaluate(suite("evaluation", "own/reviews", base="own/tiny", revision=FIRST, take=20)),
        "fresh lock": [*suite("fresh", "own/moving", **DRAW), "--update-lock"],
    }  # fmt: skip
    place.lock("copied-head", split(ROWS, place.folder, take=20))
    place.lock("copied-as-drawn", drawn)
    place.lock("copied-rule", split(NEWER, place.folder, **DRAW))
    for name in ("copied-apart", "copied-joined", "copies-without-slices"):
        place.lock(name, drawn)
    place.lock("copied-slices", sliced(drawn, "negative", "positive"))
    place.lock("copies-of-other-slices", sliced(drawn, "positive", "negative"))
    place.lock("copies-disagree", split(ROWS, place.folder, **DRAW))
    place.lock("copies-disagree-no-hub", split(ROWS, place.folder, **DRAW))
    place.lock("evaluation", split(ROWS, place.folder, take=20))
    place.lock("fresh", split(ROWS, place.folder, **DRAW))
    return place.run(commands, HARNESS_DATA=str(place.folder / "copies"))


@pytest.fixture(scope="module")
def offline(place: Workplace, loopback: Any, again: dict[str, Outcome]) -> dict[str, Outcome]:
    """Twice without a network, after all else: first by the user's wish, then since nobody listens any more."""
    suite, outcomes = place.suite, {}
    commands = {
        "warm": suite("pinned", "own/reviews", revision=FIRST, **DRAW),
        "warm, newest": suite("newest", "own/moving", **DRAW),
        "warm head": suite("head", "own/long", revision=FIRST, take=600),
        "warm model": evaluate(suite("evaluation", "own/reviews", base="own/tiny", revision=FIRST, take=20)),
        "cold": suite("cold", "own/reviews", revision=FIRST, store="cold", **DRAW),
        "cold, newest": suite("cold-newest", "own/moving", store="cold", **DRAW),
        "cold head": suite("cold-head", "own/long", revision=FIRST, take=600, store="cold"),
        "cold model": evaluate(suite("cold-model", "own/reviews", revision=FIRST, base="own/other", **DRAW)),
    }
    asked = len(loopback.requests)
    wished = place.run(commands, HF_HUB_OFFLINE="1", HARNESS_DATA=str(place.folder / "copies"))
    assert len(loopback.requests) == asked
    loopback.close()
    refused = place.run(commands, HARNESS_DATA=str(place.folder / "copies"))
    for name, outcome in wished.items():
        outcomes[f"wished: {name}"] = outcome
        outcomes[f"refused: {name}"] = refused[name]
    return outcomes


def assert_refused(outcome: Outcome, *said: str) -> None:
    """Exit code 2, and a message without a traceback that says all this."""
    assert outcome.code == 2, outcome
    assert "Traceback" not in outcome.err
    assert TOKEN not in outcome.err + outcome.out
    for part in said:
        assert part in outcome.err


# Rows


def test_hub_rows_are_those_of_the_pinned_commit_drawn_as_from_a_file(
    online: dict[str, Outcome], place: Workplace, tmp_path: Path
) -> None:
    assert online["pinned"].code == 0, online["pinned"]
    expected = split(ROWS, tmp_path, **DRAW)
    assert place.locked("pinned") == {
        "commit": FIRST, "digest": expected.digest, "n": 50, "positives": sum(e.label for e in expected.examples)
    }  # fmt: skip


def test_a_split_without_a_commit_is_resolved_and_locked(
    online: dict[str, Outcome], place: Workplace, tmp_path: Path
) -> None:
    assert online["newest"].code == 0, online["newest"]
    assert place.locked("newest")["commit"] == SECOND
    assert place.locked("newest")["digest"] == split(NEWER, tmp_path, **DRAW).digest


def test_a_locked_commit_counts_after_the_branch_has_moved(again: dict[str, Outcome], place: Workplace) -> None:
    assert again["newest, elsewhere"].code == 0, again["newest, elsewhere"]
    assert place.locked("newest")["commit"] == SECOND


def test_update_lock_looks_for_the_newest_commit_again(
    again: dict[str, Outcome], place: Workplace, tmp_path: Path
) -> None:
    assert again["fresh lock"].code == 0, again["fresh lock"]
    assert place.locked("fresh")["commit"] == THIRD
    assert place.locked("fresh")["digest"] == split(NEWEST, tmp_path, **DRAW).digest


@pytest.mark.parametrize(
    ("name", "draw"), [("stratified", {"take": 50, "stratify": True}), ("whole", {}), ("head-of-two", {"take": 200})]
)
def test_every_way_to_draw_gives_what_it_gives_from_a_file(
    online: dict[str, Outcome], place: Workplace, tmp_path: Path, name: str, draw: dict[str, Any]
) -> None:
    assert online[name.replace("-", " ")].code == 0, online[name.replace("-", " ")]
    assert place.locked(name)["digest"] == split(ROWS, tmp_path, **draw).digest


def test_compressed_lines_give_the_same_rows_as_parquet(
    online: dict[str, Outcome], place: Workplace, tmp_path: Path
) -> None:
    assert (online["lines"].code, online["lines head"].code) == (0, 0), (online["lines"], online["lines head"])
    assert place.locked("lines")["digest"] == place.locked("pinned")["digest"]
    assert place.locked("lines-head")["digest"] == split(ROWS, tmp_path, take=200).digest


@pytest.mark.parametrize(
    ("name", "draw"),
    [
        ("joined", DRAW),
        ("joined-parquet", DRAW),
        ("joined-head", {"take": 200}),
        ("joined-parquet-head", {"take": 200}),
    ],
)
def test_joined_titles_and_contents_are_the_same_rows_as_those_apart(
    online: dict[str, Outcome], place: Workplace, tmp_path: Path, name: str, draw: dict[str, Any]
) -> None:
    assert online[name].code == 0, online[name]
    assert place.locked(name)["digest"] == split(ROWS, tmp_path, **draw).digest


@pytest.mark.parametrize("name", ["amazon-polarity", "notebook"])
def test_the_projects_own_suites_part_the_column_that_amazon_polarity_has(name: str) -> None:
    splits = [rule for rule in load(SUITES / f"{name}.toml").split if isinstance(rule, HubSplit)]
    assert len(splits) >= 2
    for rule in splits:
        assert rule.dataset == "mteb/amazon_polarity"
        assert rule.model_dump(include={"text"}) == TEXT


def test_columns_to_slice_by_come_with_the_examples_and_change_no_id(
    online: dict[str, Outcome], tmp_path: Path
) -> None:
    drawn = split(ROWS, tmp_path, **DRAW)
    assert json.loads(online["columns"].out) == [
        [e.example_id, {"label_text": ("negative", "positive")[e.label], "text": f"{e.title}\n\n{e.content}"}]
        for e in drawn.examples
    ]
    head = split(ROWS, tmp_path, take=200)
    assert json.loads(online["columns of the head"].out) == [
        [e.example_id, {"label_text": ("negative", "positive")[e.label]}] for e in head.examples
    ]


def test_the_head_of_a_split_does_not_fetch_the_rest(
    online: dict[str, Outcome], place: Workplace, loopback: Any, tmp_path: Path
) -> None:
    assert online["head"].code == 0, online["head"]
    assert place.locked("head")["digest"] == split(LONG, tmp_path, take=600).digest
    assert sum(request.sent for request in loopback.asked("own/long")) < len(parquet(LONG, 500)) / 3


def test_a_head_that_is_longer_than_the_split_is_refused(online: dict[str, Outcome]) -> None:
    assert_refused(online["head too long"], "take asks for 301 rows, but there are only 300")


# What the hub does wrong, or does not have


@pytest.mark.parametrize(
    ("case", "said"),
    [
        (
            "no dataset",
            "split test: dataset own/nothing at commit 111111111111: does not exist on the hub, or is private",
        ),
        ("no newest", "split test: dataset own/nothing: does not exist on the hub, or is private"),
        ("no commit", "dataset own/reviews at commit 333333333333: the hub has no such commit; look up its commits"),
        ("no split", "has no split 'validation' (found: train, test); correct `split`"),
        ("texts", "has no column 'content' (found: label, text, label_text)"),
        ("texts head", "has no column 'content' (found: label, text, label_text)"),
        ("no joined column", "has no column 'text' (found: label, title, content)"),
        ("no slice column", "has no column 'kind' (found: label, title, content)"),
        ("stars", "row 151: label 4 is neither 0 (negative) nor 1 (positive)"),
        ("script", "requires running a script (script.py), which is never done"),
        ("broken", "cannot be read by `datasets`: "),
        ("misnamed head", "cannot be read by `datasets`: 'utf-8' codec can't decode byte 0xf2"),
        ("gated", "is gated: accept its terms on its page at the hub, then set HF_TOKEN"),
        ("barred", "is gated: accept its terms on its page at the hub, then set HF_TOKEN"),
        ("forbidden", "the hub refuses access (403): check that HF_TOKEN is valid"),
        ("failing", "the hub answers 501; try again later"),
        ("overrun", "it is busy (429) and asks to wait 3600 seconds; try again after that"),
        ("overrun-later", "it is busy (429) and asks to wait 3600 seconds; try again after that"),
        ("limited", "it is busy (429) and asks to wait 299 seconds; try again after that"),
        ("severed", "test-00000-of-00002.parquet: the connection broke ("),
        ("falsified", "test-00000-of-00002.parquet has the sha256 digest "),
        ("hanging", "the hub did not answer in time (HF_HUB_DOWNLOAD_TIMEOUT, HF_HUB_ETAG_TIMEOUT)"),
        ("nothing model", "base tiny: model own/nothing at commit 111111111111: does not exist on the hub"),
        (
            "pickled model",
            "has neither model.safetensors nor model.safetensors.index.json "
            "(weights found: pytorch_model.bin); pickled weights are never read",
        ),
        ("gated model", "base tiny: model own/gated at commit 111111111111: is gated: accept its terms"),
        ("falsified model", "model.safetensors has the sha256 digest "),
    ],
)
def test_what_cannot_be_had_is_refused_with_what_to_do(online: dict[str, Outcome], case: str, said: str) -> None:
    assert_refused(online[case], said)


def test_a_refused_split_leaves_no_lock_and_no_store(online: dict[str, Outcome], place: Workplace) -> None:
    refused = {"gated", "severed", "falsified", "stars", "script"}
    assert not [name for name in refused if (place.folder / f"{name}.lock").exists()]


def test_a_file_of_another_digest_and_a_part_of_one_are_not_kept(online: dict[str, Outcome], place: Workplace) -> None:
    files = place.folder / "runs" / "cache" / "hub" / "files"
    assert list(files.glob("datasets--own--reviews/snapshots/*/data/test-*"))
    for name in ("datasets--own--falsified", "datasets--own--severed"):
        assert not [path for path in (files / name).rglob("*test-*") if path.exists()]
        assert not [path for path in (files / name).rglob("*") if path.is_file() and path.stat().st_size > 4000]


def test_a_busy_hub_is_asked_again_after_the_pause_it_asks_for(online: dict[str, Outcome], place: Workplace) -> None:
    for case in ("busy", "busy-later"):
        assert online[case].code == 0, online[case]
        assert place.locked(case)["digest"] == place.locked("pinned")["digest"]


def test_the_token_is_shown_to_the_hub_and_not_to_where_files_lie(online: dict[str, Outcome], loopback: Any) -> None:
    to_store = [request for request in loopback.asked("own/reviews") if request.path.startswith("/cdn/")]
    assert {request.token for request in to_store} == {None}
    assert {request.token for request in loopback.asked("own/gated")} == {f"Bearer {TOKEN}"}


def test_a_request_without_a_time_limit_is_given_one() -> None:
    request = httpx2.Request("GET", "http://127.0.0.1", extensions={"timeout": {"read": None, "connect": 600}})
    hub._bound(request)
    limits = request.extensions["timeout"]
    assert limits.keys() == {"connect", "read", "write", "pool"}
    assert all(0 < seconds <= 60 for seconds in limits.values())


def test_a_message_holds_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert hub.without_secrets(f"https://me:{TOKEN}@hub/x said Bearer {TOKEN}") == "https://hub/x said Bearer …"


def test_a_cut_download_goes_on_where_it_ended(online: dict[str, Outcome], place: Workplace) -> None:
    assert online["cut"].code == 0, online["cut"]
    assert place.locked("cut")["digest"] == place.locked("pinned")["digest"]


# Copies that stand in


def test_a_copy_that_holds_the_locked_rows_stands_in(again: dict[str, Outcome], loopback: Any) -> None:
    for case in ("copied head", "copied as drawn", "copied rule"):
        assert again[case].code == 0, again[case]
    assert len(loopback.asked("absent/reviews")) == 3  # of those below that are refused


def test_a_copy_may_have_title_and_content_apart_or_joined_as_the_hub_has_them(again: dict[str, Outcome]) -> None:
    for case in ("copied apart", "copied joined", "copied slices"):
        assert again[case].code == 0, again[case]


def test_a_copy_without_the_columns_to_slice_by_is_passed_over(again: dict[str, Outcome]) -> None:
    assert_refused(again["copies without slices"], "absent/reviews: does not exist on the hub")
    assert_refused(again["copies of other slices"], "absent/theirs: does not exist on the hub")


def test_copies_of_other_rows_are_passed_over_and_the_hub_is_asked(again: dict[str, Outcome], place: Workplace) -> None:
    assert again["copies disagree"].code == 0, again["copies disagree"]
    assert (place.folder / "elsewhere" / "cache" / "hub" / "files" / "datasets--own--reviews").is_dir()
    assert_refused(again["copies disagree, no hub"], "absent/reviews at commit 111111111111: does not exist on the hub")


def test_without_a_lock_no_copy_stands_in(again: dict[str, Outcome]) -> None:
    assert_refused(again["unlocked"], "absent/reviews at commit 111111111111: does not exist on the hub")


def test_a_lock_of_some_splits_is_completed_and_not_changed(
    again: dict[str, Outcome], place: Workplace, tmp_path: Path
) -> None:
    assert "pinned 1 splits in copied-head.lock" in again["copied head"].err
    splits = json.loads((place.folder / "copied-head.lock").read_text())["splits"]
    assert splits.keys() == {"train", "test"}
    assert splits["test"] == {
        "digest": split(ROWS, tmp_path, take=20).digest, "n": 20, "positives": sum(r["label"] for r in ROWS[:20])
    }  # fmt: skip


def test_a_suite_of_hub_splits_and_hub_bases_is_evaluated(again: dict[str, Outcome], place: Workplace) -> None:
    outcome = again["evaluation"]
    assert outcome.code == 0, outcome
    assert "warning: evaluation.toml: no lock pins train;" in outcome.err
    assert "scored 2, already stored 0, failed 0" in outcome.err
    with opened(place.folder / "runs" / "harness.duckdb", read_only=True) as connection:
        stored = connection.execute(
            "SELECT source FROM split WHERE suite = 'evaluation' AND split_id = 'test'"
        ).fetchone()
        dumped = str(connection.execute("SELECT * FROM run").fetchall())
    assert stored is not None
    assert json.loads(stored[0])["stand_in"] == "reviews/deeper/head.jsonl"
    assert TOKEN not in dumped


# Without a network


@pytest.mark.parametrize("why", ["wished", "refused"])
def test_a_warm_cache_needs_no_network(offline: dict[str, Outcome], why: str) -> None:
    for case in ("warm", "warm, newest", "warm head", "warm model"):
        assert offline[f"{why}: {case}"].code == 0, offline[f"{why}: {case}"]
    assert "scored 0, already stored 2, failed 0" in offline[f"{why}: warm model"].err


@pytest.mark.parametrize("case", ["cold", "cold, newest", "cold head", "cold model"])
def test_a_cold_cache_without_a_network_says_what_to_do(offline: dict[str, Outcome], case: str) -> None:
    assert_refused(offline[f"wished: {case}"], "is not in the cache, and HF_HUB_OFFLINE is set")
    assert_refused(offline[f"refused: {case}"], "the hub cannot be reached (", "Connection refused", "HF_ENDPOINT")
    if case != "cold model":
        assert_refused(offline[f"refused: {case}"], "HARNESS_DATA", "lock")
