"""A store with made-up splits and runs, written through the harness's own writer and read back by its own reader."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.artifacts import digest
from harness.evaluation import occlusion
from harness.records import (
    AdapterRecord,
    Evidence,
    Example,
    Expected,
    Finding,
    Occlusion,
    Outcome,
    Outcomes,
    Piece,
    Place,
    Prediction,
    Run,
    Split,
    Verdict,
)
from harness.stats import estimates
from harness.store import reader, writer
from harness.store.connection import Connection, opened
from harness.suite.load import by_id, load
from harness.suite.schema import Suite
from leaderboard.board import curves, read
from leaderboard.board.records import Board
from leaderboard.site import render
from tests.scripts import script

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NOON = datetime.fromisoformat("2026-03-01T12:00")

MODELS = """
[[model]]
id = "majority"
backend = "majority"
train_split = "train"

[[model]]
id = "tfidf"
backend = "tfidf"
train_split = "train"
ngram_range = [1, 2]
sublinear_tf = true
C = 1.0

[[model]]
id = "tiny"
backend = "transformer"
base = "tiny-base"
seeds = [13, 42, 87]
precision = "fp32"

[[model]]
id = "tiny+lora"
backend = "peft"
adapter = "lora"
precision = "fp32"

[[model]]
id = "tiny+ia3"
backend = "peft"
adapter = "ia3"
precision = "fp32"
"""


def suite_toml(
    *,
    name: str = "demo",
    primary: str = "accuracy",
    other_metrics: Sequence[str] = ("f1", "log_loss"),
    splits: Sequence[str] = ("test", "elsewhere"),
    models: str = MODELS,
    description: str = "Made-up reviews.",
    gate: bool = True,
    store: bool = False,
    curves: str = "",
) -> str:
    """A suite file with a split to train on, the given ones to score, and five competitors."""
    tables = [f'version = 1\nname = "{name}"\ndescription = "{description}"\nprimary_metric = "{primary}"']
    tables.append(f'[text]\ntemplate = "{{title}} {{content}}"\nmax_length = 64\nstore = {str(store).lower()}')
    for split_id in ("train", *splits):
        tables.append(
            f'[[split]]\nid = "{split_id}"\nsource = "sdist"\nproject = "reviews"\nversion = "1.0"\n'
            f'sha256 = "{"a" * 64}"\nmembers = ["{split_id}.tsv"]\ncolumns = ["content", "rating"]\n'
            'rating = "rating"\nmin_abs_rating = 1.0'
        )
    tables.append(
        '[[base]]\nid = "tiny-base"\nsource = "package"\npackage = "tiny"\nversion = "1"\npath = "tiny"\n'
        f'sha256 = "{"b" * 64}"'
    )
    for adapter_id, method, seeds in (("lora", "lora", [13, 42, 87]), ("ia3", "ia3", [13])):
        tables.append(
            f'[[adapter]]\nid = "{adapter_id}"\nbase = "tiny-base"\nmethod = "{method}"\nparams = {{ r = 8 }}\n'
            'train = { split = "train", epochs = 3, learning_rate = 1e-3, batch_size = 32, warmup_share = 0.1,'
            f' weight_decay = 0.0, max_grad_norm = 1.0, precision = "auto", seeds = {seeds} }}'
        )
    tables.append(models)
    tables += [f'[[metric]]\nname = "{name}"' for name in dict.fromkeys([primary, *other_metrics])]
    if gate:
        tables.append(
            f'[[gate]]\nmodel = "tfidf"\nsplit = "{splits[0]}"\nmetric = "{primary}"\nmin = 0.5\n'
            'on_inconclusive = "fail"'
        )
    tables.append(curves)
    return "\n\n".join(tables) + "\n"


@dataclass
class Bench:
    """A suite and a store to put made-up results into."""

    suite: Suite
    connection: Connection
    run_keys: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    expected: list[Expected] = field(default_factory=list)
    examples: dict[str, tuple[Example, ...]] = field(default_factory=dict)

    def add_split(
        self,
        split_id: str,
        n: int,
        *,
        clusters: int | None = None,
        digest_of: str = "",
        texts: Sequence[tuple[str, str]] = (),
    ) -> Split:
        """n examples, every second one positive, dealt out to clusters in turn; the first ones have these texts."""
        examples = tuple(
            Example(
                example_id=digest.of_json([split_id, i])[:32],
                title=texts[i][0] if i < len(texts) else "",
                content=texts[i][1] if i < len(texts) else "",
                label=i % 2,
                cluster=f"c{i % clusters}" if clusters else None,
                text_digest=digest.of_json(["text", split_id, i])[:32],
            )
            for i in range(n)
        )
        split = Split(split_id, examples, digest.of_json([split_id, n, digest_of]), {"source": "made up"})
        writer.write_split(self.connection, self.suite.name, split, with_text=self.suite.text.store)
        self.examples[split_id] = examples
        return split

    def add_adapter(self, adapter_id: str, seed: int, **changes: Any) -> AdapterRecord:
        """The record of made-up weights, as if they had been trained."""
        declared = by_id(self.suite.adapter, adapter_id)
        record = AdapterRecord(
            adapter_digest=digest.of_json([adapter_id, seed]),
            adapter_id=adapter_id,
            method=declared.method,
            params=declared.params,
            base_digest="b" * 64,
            trained_on="d" * 64,
            n_trainable=12_345,
            seed=seed,
            train_seconds=40.0 + seed / 100,
            peak_bytes=1_234_567_890,
            size_bytes=590_400,
            card={},
        )
        record = replace(record, **changes)
        writer.write_adapter(self.connection, record)
        return record

    def add_run(
        self,
        model_id: str,
        split: Split,
        seed: int | None = None,
        *,
        right: float,
        noise: float = 0.1,
        adapter: AdapterRecord | None = None,
        metric_names: Sequence[str] | None = None,
        **changes: Any,
    ) -> Run:
        """A run that has exactly this share of the examples right.

        Args:
            model_id: the model.
            split: the scored split.
            seed: None for a model without randomness.
            right: share of correct predictions.
            noise: how much the errors of two runs differ; at 0 the same examples are hard for all.
            adapter: the weights, for a trained model.
            metric_names: which metrics are stored; those of the suite by default.
            changes: fields of the run to set otherwise.
        """
        n = len(split.examples)
        chance = np.random.default_rng(int(digest.of_json([model_id, split.split_id, seed])[:8], 16))
        hardness = np.random.default_rng(7).random(n) + noise * chance.random(n)
        correct = hardness.argsort().argsort() < round(right * n)
        labels = np.array([example.label for example in split.examples])
        confidence = 0.51 + 0.48 * chance.random(n)
        scores = np.where(labels == correct, confidence, 1 - confidence)
        return self._write(model_id, split, seed, scores, adapter, metric_names, changes)

    def add_answers(self, model_id: str, split: Split, scores: Sequence[float]) -> Run:
        """A run with these scores."""
        return self._write(model_id, split, None, np.array(scores), None, None, {})

    def _write(
        self,
        model_id: str,
        split: Split,
        seed: int | None,
        scores: NDArray[np.float64],
        adapter: AdapterRecord | None,
        metric_names: Sequence[str] | None,
        changes: Mapping[str, Any],
    ) -> Run:
        n, labels = len(split.examples), np.array([example.label for example in split.examples])
        predicted = (scores > 0.5).astype(np.int64)
        ids = tuple(example.example_id for example in split.examples)
        clusters = None if split.examples[0].cluster is None else np.array([str(e.cluster) for e in split.examples])
        outcomes = Outcomes(ids, labels, predicted, scores, clusters)
        names = [spec.name for spec in self.suite.metric] if metric_names is None else metric_names
        run_key = digest.of_json([self.suite.name, model_id, split.digest, seed])
        run = Run(
            run_id=f"{model_id}-{split.split_id}-{seed}-{len(self.run_keys)}",
            run_key=run_key,
            suite=self.suite.name,
            suite_digest=self.suite.digest,
            split_id=split.split_id,
            split_digest=split.digest,
            model_id=model_id,
            configuration=digest.of_json(model_id),
            seed=seed,
            adapter_digest=adapter.adapter_digest if adapter else None,
            status="success",
            error=None,
            spec={},
            packages={"numpy": "2.1.0", "torch": "2.9.1"},
            hardware={"processor": "Imaginary 9000", "cores": 2},
            git_commit="c" * 40,
            git_dirty=False,
            started_at=NOON,
            finished_at=NOON + timedelta(seconds=len(self.run_keys)),
            seconds=2.0,
            tokens=n * 30,
            truncated=0,
            metrics=tuple(estimates.summarise(name, [outcomes], np.random.default_rng(0)) for name in names),
        )
        run = replace(run, **changes)
        predictions = [Prediction(*row) for row in zip(ids, predicted.tolist(), scores.tolist(), strict=True)]
        writer.write_run(self.connection, run, predictions)
        self.run_keys.append(run.run_key)
        return run

    def add_verdict(self, gate_id: str, outcome: Outcome, reason: str, *, blocking: bool = False) -> None:
        """The outcome of a rule, all judged at the same time."""
        verdict = Verdict(
            self.suite.digest, gate_id, gate_id.partition(" on ")[0], NOON, outcome, blocking, reason, {"value": 0.9}
        )
        self.verdicts.append(verdict)

    def add_finding(self, split: Split, name: str, value: Mapping[str, Any]) -> Finding:
        """A finding of the audit, all at the same time."""
        finding = Finding(self.suite.digest, split.split_id, split.digest, name, value, NOON)
        self.findings.append(finding)
        writer.write_audit(self.connection, self.findings)
        return finding

    def audit(self, split: Split, **found: Mapping[str, Any]) -> None:
        """Findings of every kind that a board shows; nothing is wrong but what is given."""
        positive = sum(example.label for example in split.examples)
        nothing: dict[str, Mapping[str, Any]] = {
            "balance": {"n": len(split.examples), "positive": positive, "negative": len(split.examples) - positive},
            "exact_duplicates": {"groups": 0, "rows": 0, "ids": []},
            "normalised_duplicates": {"groups": 0, "rows": 0, "ids": []},
            "conflicting_labels": {"groups": 0, "rows": 0, "ids": []},
            "near_duplicates": {"pairs": 0, "rows": 0, "threshold": 0.8, "ids": []},
            "overlap": {"train": {"exact": [], "normalised": [], "near": []}},
            "tokens": {"tiny-base": None},
        }
        for name, value in (nothing | found).items():
            self.add_finding(split, name, value)

    def fill(self, split: Split, rights: Mapping[str, float]) -> None:
        """Every declared seed of the named models on a split, seeds a little apart from each other."""
        for model_id, right in rights.items():
            model = by_id(self.suite.model, model_id)
            adapter_id = getattr(model, "adapter", None)
            declared = (
                by_id(self.suite.adapter, adapter_id).train.seeds if adapter_id else getattr(model, "seeds", None)
            )
            for i, seed in enumerate(declared or (None,)):
                adapter = self.add_adapter(adapter_id, seed) if adapter_id and seed is not None else None
                self.add_run(model_id, split, seed, right=right + 0.01 * i, adapter=adapter)

    def explain(self, model_id: str, split: Split, seed: int | None, positions: Sequence[int]) -> None:
        """Made-up scores of examples without each word: the first moves it most, each in turn the other way."""
        run_key = digest.of_json([self.suite.name, model_id, split.digest, seed])
        for example in (split.examples[i] for i in positions):
            whole, places = 0.8, occlusion.pieces(example.title, example.content)
            pieces = tuple(
                Piece(*place, whole - 0.7 / (1 + i) if i % 2 == 0 else whole + 0.19 / i)
                for i, place in enumerate(places)
            )
            key = digest.of_json([run_key, example.example_id])
            made = Occlusion(key, run_key, split.digest, example.example_id, whole, pieces, NOON)
            writer.write_occlusions(self.connection, [made])

    def board(self) -> Board:
        """The board that the leaderboard reads from the store."""
        runs = [*reader.latest_runs(self.connection, self.run_keys).values()]
        outcomes = reader.outcomes_of_runs(self.connection, [run.run_id for run in runs])
        adapters = reader.adapters(self.connection, [run.adapter_digest for run in runs if run.adapter_digest])
        board = read.read(self.connection, self.suite, runs, outcomes, adapters, self.verdicts, self.expected)
        places: dict[Place, list[Run]] = {}
        for run in sorted(runs, key=lambda run: (run.seed or 0, run.model_id)):
            places.setdefault((run.model_id, run.split_id), []).append(run)
        found = {place: tuple(outcomes[run.run_id] for run in many) for place, many in places.items()}
        evidence = Evidence(found, {place: tuple(many) for place, many in places.items()}, {}, {}, {}, {})
        return replace(board, curves=curves.of_evidence(self.suite, evidence))

    def pages(self) -> dict[str, str]:
        """The pages that the leaderboard renders from the store."""
        return texts_of(render.render([self.board()]))

    def whole_site(self) -> dict[str, str | bytes]:
        """The same with compare page and example browser, as `harness site` renders it."""
        return render.render([self.board()], {self.suite.name: self.examples})


def texts_of(files: Mapping[str, str | bytes]) -> dict[str, str]:
    """The files of a site that are text."""
    return {name: data for name, data in files.items() if isinstance(data, str)}


def open_bench(folder: Path, stores: ExitStack, arguments: dict[str, Any]) -> Bench:
    """A bench in a folder; its store stays open as long as the stack."""
    name = arguments.get("name", "demo")
    file = folder / f"{name}.toml"
    file.write_text(suite_toml(**arguments), encoding="utf-8")
    return Bench(load(file), stores.enter_context(opened(folder / f"{name}.duckdb")))


@pytest.fixture
def bench_of(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """A maker of benches; the arguments are those of the suite file."""
    with ExitStack() as stores:
        yield lambda **arguments: open_bench(tmp_path, stores, arguments)


@pytest.fixture
def bench(bench_of: Callable[..., Bench]) -> Bench:
    """An empty store beside the usual suite."""
    return bench_of()


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A complete store: five models on two splits, one of them in clusters, and two verdicts. Read only."""
    with ExitStack() as stores:
        bench = open_bench(tmp_path_factory.mktemp("filled"), stores, {})
        test, elsewhere = bench.add_split("test", 120), bench.add_split("elsewhere", 90, clusters=30)
        bench.fill(test, {"majority": 0.5, "tfidf": 0.7, "tiny": 0.5, "tiny+lora": 0.9, "tiny+ia3": 0.89})
        bench.fill(elsewhere, {"majority": 0.5, "tfidf": 0.6, "tiny": 0.5, "tiny+lora": 0.8, "tiny+ia3": 0.7})
        bench.add_verdict("tfidf on test: accuracy >= 0.5", "pass", "0.700 [0.612, 0.775] is above 0.5.")
        bench.add_verdict("tiny+lora on test: accuracy >= 0.95", "fail", "0.910 is below 0.95.", blocking=True)
        yield bench


@pytest.fixture(scope="session")
def board(filled: Bench) -> Board:
    """The filled store's board."""
    return filled.board()


@pytest.fixture(scope="session")
def site(board: Board) -> dict[str, str]:
    """The filled store's pages."""
    return texts_of(render.render([board]))


TEXTS = (
    ("Title", "A plain text that is not good."),
    (
        "</script><script>alert(1)</script>",
        "<img src=x onerror=alert(2)> {{ 7 * 7 }} {% raw %} \" ' ` \\ \u2028 \u2029 &lt;",
    ),
    ("\u202edesrever\u202c", "\u2066bidirectional\u2069 and 🙂🏳️‍🌈 and \u0000 and ü"),
    ("Long", "word " * 4000),
)
"""Texts of the first examples of `test`, which no page may take for markup, direction or a script's end."""


@pytest.fixture(scope="session")
def with_texts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Like `filled`, with texts that the suite stores, some of them hostile. Only to be read."""
    with ExitStack() as stores:
        bench = open_bench(tmp_path_factory.mktemp("with-texts"), stores, {"store": True})
        many = [
            *TEXTS,
            *((f"Review {i}", f"The thing number {i} is " + "not " * (i % 3) + "good.") for i in range(4, 300)),
        ]
        test = bench.add_split("test", 300, texts=many)
        elsewhere = bench.add_split("elsewhere", 90, clusters=30)
        bench.fill(test, {"majority": 0.5, "tfidf": 0.7, "tiny": 0.5, "tiny+lora": 0.9, "tiny+ia3": 0.89})
        bench.fill(elsewhere, {"majority": 0.5, "tfidf": 0.6, "tiny": 0.5, "tiny+lora": 0.8, "tiny+ia3": 0.7})
        bench.add_verdict("tfidf on test: accuracy >= 0.5", "pass", "0.700 [0.612, 0.775] is above 0.5.")
        bench.explain("tiny+lora", test, 13, [1, 3, 4, 5])
        bench.explain("tfidf", test, None, [5])
        yield bench


@pytest.fixture(scope="session")
def whole(with_texts: Bench) -> dict[str, str | bytes]:
    """Its whole site, with compare page and example browser."""
    return with_texts.whole_site()


# A real browser


@pytest.fixture(scope="module")
def pictures() -> ModuleType:
    """benchmarks/pictures.py as a module: how the browser is found, launched and waited for."""
    return script("pictures")


@pytest.fixture(scope="module")
def browser(pictures: ModuleType) -> "Iterator[Browser]":
    if pictures.chromium() is None:
        pytest.skip(f"needs one of {', '.join(pictures.NAMES)} on the PATH, such as from `apt-get install chromium`")
    with pictures.launched() as launched:
        yield launched


@pytest.fixture(scope="module")
def folder(whole: dict[str, str | bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole site of the store with texts, on disk."""
    out = tmp_path_factory.mktemp("browser") / "site"
    render.write(whole, out)
    return out


@pytest.fixture(name="opened")
def opened_page(browser: "Browser", pictures: ModuleType, folder: Path) -> Callable[..., Any]:
    """Opens a page as a context; at the end there was no console error, no dialog, and no request but for files."""

    @contextmanager
    def page_of(
        name: str, *, width: int = 1440, scheme: str = "light", folder: Path = folder, **options: Any
    ) -> "Iterator[Page]":
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,  # type: ignore[arg-type]
            **options,
        )
        page = context.new_page()
        complaints: list[str] = []
        requested: list[str] = []
        page.add_init_script("window.alert = (text) => console.error(`alert: ${text}`);")
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(f"failed: {request.url}"))
        page.on("request", lambda request: requested.append(request.url))
        if options.get("java_script_enabled", True):
            pictures.show(page, folder, name)
        else:
            page.goto((folder / name).as_uri())
        yield page
        context.close()
        assert complaints == []
        assert [url for url in requested if not url.startswith(("file:", "data:"))] == []

    return page_of
