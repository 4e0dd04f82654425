"""Slices, texts and names that hold what a terminal obeys, a plot cannot draw and a file cannot hold."""

import json
import os
from pathlib import Path

import pytest

from tests import processes

pytestmark = pytest.mark.slow

CHARACTERS = ("\x1b", "\u2028", "\uffff", "\u202e", "\x85")
SUITE = """
version = 1
name = "hostile"
description = "Names with DESCRIBED in them"
primary_metric = "accuracy"

[text]
template = "{title} {content}"
max_length = 64
store = true

[[split]]
id = "train"
source = "file"
path = "train.jsonl"
format = "jsonl"

[[split]]
id = "test"
source = "file"
path = "test.jsonl"
format = "jsonl"
slice_columns = ["topic"]

[[model]]
id = "majority"
backend = "majority"
train_split = "train"

[[model]]
id = "tfidf"
backend = "tfidf"
train_split = "train"
ngram_range = [1, 1]
sublinear_tf = true
C = 1.0

[[metric]]
name = "accuracy"

[[gate]]
model = "tfidf"
split = "test"
metric = "accuracy"
slice = "topic=SLICED"
min = 0.1
on_inconclusive = "warn"
"""


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A suite whose rows, slices and description hold such characters."""
    odd = "".join(CHARACTERS)
    for name, start in (("train", 0), ("test", 1000)):
        rows = [
            {
                "label": i % 2,
                "title": f"title {odd}",
                "content": f"{'good' if i % 2 else 'bad'} thing {start + i} {odd}",
                "topic": f"a{CHARACTERS[i // 2 % len(CHARACTERS)]}b",
            }
            for i in range(120)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    escaped = odd.encode("unicode_escape").decode().replace("\\x", "\\u00")
    suite = SUITE.replace("DESCRIBED", escaped).replace("SLICED", "a\\u001bb")
    path = tmp_path / "hostile.toml"
    path.write_text(suite)
    return path


@pytest.mark.parametrize("locale", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}, {}])
def test_every_verb_shows_them_by_their_codes(hostile: Path, tmp_path: Path, locale: dict[str, str]) -> None:
    """In every locale. A process of its own: some of these end the process that draws them."""
    site, db = tmp_path / "site", ["--db", tmp_path / "harness.duckdb"]
    verbs: list[list[object]] = [
        ["validate", hostile],
        ["data", hostile, *db],
        ["evaluate", hostile, "--workers", "1", *db],
        ["plan", hostile, *db],
        ["gate", hostile, "--junit", tmp_path / "gates.xml", "--summary", tmp_path / "gates.md", *db],
        ["compare", hostile, "tfidf", "majority", *db],
        ["site", hostile, "--out", site, *db],
        ["site", hostile, "--out", site, "--check", *db],
        ["ls", *db],
    ]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONIOENCODING"} | locale
    done = processes.run(verbs, environment)
    assert done.codes == [0] * len(verbs), done.err.decode("utf-8", "replace")
    for character in CHARACTERS:
        assert character.encode() not in done.out + done.err
    assert "topic=a&lt;U+001B&gt;b" in (site / "index.html").read_text(encoding="utf-8")
    written = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.html"))
    assert not set(written) & set(CHARACTERS)
