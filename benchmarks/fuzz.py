"""Made-up and mutated input for every parser of untrusted input: accepted, or refused with a message.

    nox -s fuzz -- --minutes 10            # every target in turn, twenty inputs at a time
    nox -s fuzz -- --only bundle
    nox -s fuzz -- --guided                # one target after the other, steered by coverage; extra [fuzz]

An input that raises anything but a HarnessError is a bug; it is printed, as small as hypothesis can make it, its
target is skipped from then on, and the command fails at the end. An input that ends the process itself, such as by a
fault in a C++ library, stays in the folder that is printed first.
"""

import argparse
import gzip
import hashlib
import importlib.util
import io
import json
import random
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from harness import data
from harness.artifacts import digest
from harness.data.source import Places, Row
from harness.errors import DataError, HarnessError
from harness.gates import baseline_file
from harness.gates.baseline_file import BaselineFile, BaselineRun
from harness.models import adapter_files
from harness.records import Prediction, Run
from harness.store import bundle, writer
from harness.store.connection import opened
from harness.suite.load import load
from harness.suite.schema import FileSplit

ROOT = Path(__file__).parents[1]
NOW = datetime(2030, 1, 1)  # noqa: DTZ001 (UTC without a zone, as the store keeps it)
INPUTS_AT_ONCE = 20
Targets = dict[str, tuple[Callable[[Path, bytes], None], list[bytes]]]
WORDS = [
    b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"'", b'"', b'"""', b"\\", b"\\u0000", b"\\ud800", b"\n",
    b"\r", b"[", b"]" * 9, b"{" * 999, b"[" * 99999, b"}", b"=", b"1e999", b"-1", b"nan", b"null", b"true", b"../../",
    b"/etc/passwd", b"9" * 5000, b"2147483648", b"18446744073709551616", b"inf", b"PAR1", b"PK\5\6", b"PK\1\2",
    b"__label__2 ", b"\x1b[2J",
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, samples: list[bytes]) -> bytes:
    """One of the samples with some bytes flipped, removed, doubled or inserted, or truncated."""
    whole = bytearray(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, len(whole)))
        end = min(len(whole), start + draw(st.integers(0, 64)))
        what = draw(st.sampled_from(["flip", "cut", "double", "put", "end"]))
        if what == "flip" and start < len(whole):
            whole[start] ^= 1 << draw(st.integers(0, 7))
        elif what == "cut":
            del whole[start:end]
        elif what == "double":
            whole[start:start] = whole[start:end]
        elif what == "put":
            whole[start:start] = draw(st.sampled_from(WORDS) | st.binary(max_size=8))
        elif what == "end" and draw(st.booleans()):
            del whole[start:]
    return bytes(whole)


def suites() -> list[bytes]:
    """The suites of the project."""
    return [path.read_bytes() for path in sorted((ROOT / "suites").glob("*.toml"))]


def parse_suite(folder: Path, given_bytes: bytes) -> None:
    path = folder / "suite.toml"
    path.write_bytes(given_bytes)
    load(path)


TABLE = pa.table({"label": [0, 1, 1], "title": ["a", "b: c", ""], "content": ["good", "bad\n", "naïve 😀"]})


def rows_by_format() -> dict[str, bytes]:
    """The same rows in every supported format, by suffix."""
    parquet = io.BytesIO()
    pq.write_table(TABLE, parquet, compression="zstd")
    lines = "".join(json.dumps(row) + "\n" for row in TABLE.to_pylist()).encode()
    return {
        "parquet": parquet.getvalue(),
        "jsonl": lines,
        "csv": b'"1","a","good ""x"""\n"2","b","bad\\n"\n',
        "fasttext": b"__label__1 a: good\n__label__2 bad\n",
        "jsonl.gz": gzip.compress(lines, mtime=0),
    }


def parse_rows(suffix: str) -> Callable[[Path, bytes], None]:
    def parse(folder: Path, given_bytes: bytes) -> None:
        (folder / f"rows.{suffix}").write_bytes(given_bytes)
        declared = {"id": "x", "source": "file", "path": f"rows.{suffix}", "format": suffix.partition(".")[0]}
        rule = TypeAdapter(FileSplit).validate_python(declared)
        data.load_split(rule, Places(folder / "cache", folder, None))

    return parse


CONFIG = {"peft_type": "LORA", "r": 8, "target_modules": ["query"], "id2label": {"0": "NEGATIVE", "1": "POSITIVE"}}


def parse_adapter(folder: Path, given_bytes: bytes) -> None:
    (folder / "adapter_config.json").write_bytes(given_bytes)
    adapter_files.params(adapter_files.configuration(folder))
    adapter_files.check_labels(folder)
    adapter_files.check_labels(folder, of_base=True)


def made_baseline(folder: Path) -> bytes:
    """A sound baseline of one run on two reviews."""
    said = (Prediction("a", 1, 0.75), Prediction("b", 0, 0.25))
    run = BaselineRun(
        "run", "key", "lora", 0, "test", "d", "c", None, {"text": {"joined": "\n"}}, {"torch": "1"}, {"cores": 2}, said
    )
    baseline_file.write(folder / "sound.parquet", BaselineFile("demo", "d", NOW, "f" * 40, False, (run,)))
    return (folder / "sound.parquet").read_bytes()


def parse_baseline(folder: Path, given_bytes: bytes) -> None:
    path = folder / "demo.main.parquet"
    path.write_bytes(given_bytes)
    try:
        baseline_file.read(path, "demo")
    except baseline_file.Unreadable as problem:
        raise DataError(str(problem)) from None


def parse_forged(sound: bytes) -> Callable[[Path, bytes], None]:
    """A baseline with this metadata, under a matching digest."""
    columns = pq.read_table(io.BytesIO(sound))

    def parse(folder: Path, given_bytes: bytes) -> None:
        try:
            fitting = digest.of_json([json.loads(given_bytes), columns.to_pydict()])
        except (ValueError, RecursionError):
            fitting = "none"
        out = io.BytesIO()
        with pq.ParquetWriter(out, baseline_file.SCHEMA, store_schema=False) as written:
            written.write_table(columns)
            written.add_key_value_metadata({baseline_file.ABOUT: given_bytes, baseline_file.DIGEST: fitting})
        parse_baseline(folder, out.getvalue())

    return parse


def made_bundle(folder: Path) -> bytes:
    """A sound bundle of one run on six reviews."""
    split = data.as_split("test", [Row("", f"thing {i}", i % 2, None) for i in range(6)], {"source": "file"})
    configuration = {"model": {"id": "tfidf"}, "adapter": None, "base": None, "train": None, "text": {}}
    where = {"seed": None, "adapter_digest": None, "split": {"id": "test", "digest": split.digest}}
    spec = configuration | where
    run = Run(
        "run", digest.of_json(spec), "demo", "d", "test", split.digest, "tfidf", digest.of_json(configuration), None,
        None, "success", None, spec, {}, {}, None, None, NOW, NOW, 1.0, None, None, (),
    )  # fmt: skip
    with opened(folder / "sound.duckdb") as store:
        writer.write_split(store, "demo", split, with_text=True)
        writer.write_run(store, run, [Prediction(example.example_id, 1, 0.75) for example in split.examples])
        bundle.write(store, folder / "sound.bundle")
    return (folder / "sound.bundle").read_bytes()


def take_in(folder: Path, given_bytes: bytes) -> None:
    path, db = folder / "given.bundle", folder / "taken.duckdb"
    path.write_bytes(given_bytes)
    db.unlink(missing_ok=True)
    bundle.take_in(db, path, NOW)


def take_in_resealed(table: str, sound: bytes) -> Callable[[Path, bytes], None]:
    """A bundle with the input as one of its tables, under a matching manifest."""

    def take(folder: Path, given_bytes: bytes) -> None:
        with zipfile.ZipFile(io.BytesIO(sound)) as packed:
            members = {name: packed.read(name) for name in packed.namelist()}
        members[f"{table}.parquet"] = given_bytes
        manifest = json.loads(members["manifest.json"])
        manifest["files"][f"{table}.parquet"]["sha256"] = hashlib.sha256(given_bytes).hexdigest()
        members["manifest.json"] = json.dumps(manifest).encode()
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as packed:
            for name, member in members.items():
                packed.writestr(name, member)
        take_in(folder, out.getvalue())

    return take


def targets(folder: Path) -> Targets:
    """Parsers under test, each with the samples that are mutated, by name."""
    sound, kept = made_bundle(folder), made_baseline(folder)
    found: Targets = {
        "suite": (parse_suite, suites()),
        "adapter": (parse_adapter, [json.dumps(CONFIG).encode()]),
        "baseline": (parse_baseline, [kept]),
        "baseline forged": (parse_forged(kept), [pq.read_metadata(io.BytesIO(kept)).metadata[baseline_file.ABOUT]]),
        "bundle": (take_in, [sound]),
    }
    found |= {f"rows {suffix}": (parse_rows(suffix), [sample]) for suffix, sample in rows_by_format().items()}
    with zipfile.ZipFile(io.BytesIO(sound)) as packed:
        for table in bundle.TABLES:
            found[f"bundle {table}"] = take_in_resealed(table, sound), [packed.read(f"{table}.parquet")]
    return found


def feed(parse: Callable[[Path, bytes], None], samples: list[bytes], folder: Path, number: int) -> dict[str, int]:
    """Feed this many inputs; re-raise any exception that a parser must not raise."""
    counts = {"taken": 0, "refused": 0}

    @seed(number)
    @settings(
        max_examples=INPUTS_AT_ONCE, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )  # fmt: skip
    @given(mutated(samples))
    def one(given_bytes: bytes) -> None:
        (folder / "last_input").write_bytes(given_bytes)
        try:
            parse(folder, given_bytes)
            counts["taken"] += 1
        except HarnessError:
            counts["refused"] += 1

    one()
    return counts


def in_turn(chosen: Targets, folder: Path, first_seed: int, seconds: float) -> set[str]:
    """Feed the targets a few inputs each, again and again; return the names of those that broke."""
    counts = {name: {"taken": 0, "refused": 0} for name in chosen}
    end, turn, broken = time.monotonic() + seconds, 0, set[str]()
    while time.monotonic() < end and len(broken) < len(chosen):
        for name, (parse, samples) in chosen.items():
            if time.monotonic() > end or name in broken:
                continue
            try:
                found = feed(parse, samples, folder, first_seed + turn)
            except Exception:  # noqa: BLE001 (any exception that a parser lets through is a finding)
                traceback.print_exc()
                broken.add(name)
                continue
            for outcome, count in found.items():
                counts[name][outcome] += count
            print(f"{name}: {counts[name]['taken']:,} taken, {counts[name]['refused']:,} refused", flush=True)
        turn += 1
    return broken


def guided(names: Iterable[str], first_seed: int, seconds: int) -> set[str]:
    """Give each target its share of the time in a coverage-guided process; return the names of those that broke."""
    script = str(Path(__file__).with_name("guided.py"))
    words = [f"--seconds={seconds}", f"--seed={first_seed}"]
    return {name for name in names if subprocess.run([sys.executable, script, name, *words]).returncode}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--only", help="only targets whose name begins with this")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--guided", action="store_true", help="coverage-guided, one target after the other")
    given = parser.parse_args()
    if given.guided and importlib.util.find_spec("atheris") is None:
        sys.exit("--guided needs atheris, which is for Linux: pip install 'adapter-harness[fuzz]'")
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    print(f"inputs in {folder}, seed {given.seed}", flush=True)
    chosen = {name: one for name, one in targets(folder).items() if name.startswith(given.only or "")}
    if not chosen:
        sys.exit(f"no target's name begins with {given.only}")
    seconds = 60 * given.minutes
    if given.guided:
        broken = guided(chosen, given.seed, max(1, round(seconds / len(chosen))))
    else:
        broken = in_turn(chosen, folder, given.seed, seconds)
    if broken:
        sys.exit(f"neither accepted nor refused: inputs for {', '.join(sorted(broken))}")


if __name__ == "__main__":
    main()
