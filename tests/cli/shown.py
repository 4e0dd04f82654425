"""Results as the verbs show them: `python -m tests.cli.shown WIDTH…` prints them on this terminal, made so wide.

What takes a model's answers to have is made up; verbs that need none run on a small store and on small files. An
untrained adapter and its base lie in the folder that `SHOWN_ADAPTER` names.
"""

import fcntl
import json
import os
import shutil
import struct
import sys
import tempfile
import termios
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import chdir
from dataclasses import fields
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from harness import api
from harness.cli import main, tables
from harness.cli.check import sentence, show_verdict
from harness.cli.tables.comparison import show_comparison, show_conclusion
from harness.cli.tables.power import show_plan
from harness.cli.tables.variants import show_parities
from harness.evaluation.unadapted import Base
from harness.gates.compare import Comparison, Flip, MetricPair, RunTest, SlicePair
from harness.gates.power import PowerEstimate
from harness.gates.watch import Series, Watch
from harness.records import Expected, Metric, Parity, Verdict
from harness.stats.calibration import Bin, Calibration
from harness.stats.enrichment import Enriched, Enrichment
from harness.stats.estimates import Difference
from harness.store.connection import opened
from leaderboard.board.answers import Answer
from leaderboard.board.records import Board, Entry, Section
from tests.conftest import fill_store
from tests.fixtures import RESOURCES
from tests.interchange import written

NOON = datetime.fromisoformat("2026-03-01T12:00")
LORA, PLACE = "minilm+lora-r8", "minilm+lora-r8 on amazon-test"
LEAD = Difference(0.0701, 0.0402, 0.0985, 885, 0.0001, 0.01, 0.002)
ANSWERS = (
    Answer(LORA, "minilm", "amazon-test", Base("minilm-probe", "probed"), LEAD, 0.0003),
    Answer(
        "minilm+ia3", "minilm", "amazon-test", Base("minilm-probe", "probed"),
        Difference(0.004, -0.01, 0.018, 885, 0.6, 0.01, 0.0), 0.6,
    ),
    Answer("other+lora", "other", "amazon-test", None, None, None),
)  # fmt: skip
VERDICTS = [
    Verdict(
        "d", f"{PLACE}: accuracy >= 0.84", LORA, NOON, "pass", False, "0.888 [0.868, 0.907], n 885, limit 0.84", {},
    ),
    Verdict(
        "d", f"{PLACE}: accuracy better than tfidf by more than 0.03", LORA, NOON, "fail", True,
        "difference -0.082 [-0.115, -0.049], n 885, margin 0.03", {},
    ),
    Verdict(
        "d", f"{PLACE}: accuracy not worse than minilm-full by more than 0.03", LORA, NOON, "inconclusive", False,
        "difference -0.011 [-0.038, +0.006], n 885, margin 0.03; about 1,200 more examples would decide it", {},
    ),
]  # fmt: skip


def made_of(kind: Any, made: dict[str, Any]) -> Any:
    """A record of these fields; the others, which no table shows, are None."""
    return kind(**{field.name: made.get(field.name) for field in fields(kind)})


def metric(name: str, value: float, *, higher: bool = True) -> Metric:
    return Metric(name, value, value - 0.02, value + 0.02, 885, higher)


def calibration() -> Calibration:
    made: dict[str, Any] = {
        "bins": (Bin(0.467, 0.533, 40, 0.515, 0.55, 0.279, 0.8), Bin(0.933, 1.0, 1901, 0.977, 0.961, 0.948, 0.973)),
        "ece": metric("ece", 0.04, higher=False), "ece_by_chance": 0.018,
        "brier": metric("brier", 0.084, higher=False), "log_loss": metric("log_loss", 0.28, higher=False),
    }  # fmt: skip
    return Calibration(**{field.name: made[field.name] for field in fields(Calibration)})


def comparison() -> Comparison:
    turned = LEAD.turned
    return Comparison(
        split_id="amazon-test", n=885, n_clusters=89, model_a=LORA, model_b="minilm-probe", seeds_a=(13, 42, 87),
        seeds_b=(None,), primary_metric="accuracy",
        metrics=(
            MetricPair("accuracy", True, metric("accuracy", 0.888), metric("accuracy", 0.818), LEAD),
            MetricPair("log_loss", False, metric("log_loss", 0.28, higher=False), metric("log_loss", 0.4, higher=False),
                       turned),
        ),
        tests=(RunTest(13, None, 126, 56, 0.0001, 0.0003), RunTest(42, None, 130, 57, 0.0001, 0.0003)),
        only_a_right=(Flip("712aee3a74b0712aee3a74b0712aee3a", 0, 0.023, 0.98, (0, 0, 0), (1,)),),
        only_b_right=(), undecided=0,
        shared=Enrichment(((Enriched("negation=present", 60, 128, 187, 658, 0.0004),
                            Enriched('"a waste of"', 9, 128, 4, 658, 0.01)), ()), 5_612),
        slices=(SlicePair("negation=present", 247, 0.843, 0.753, LEAD, 0.009, True),
                SlicePair("label=positive", 589, 0.903, 0.878, turned, 0.143, False)),
        calibration_a=calibration(), calibration_b=calibration(),
    )  # fmt: skip


def evaluate() -> None:
    scored = [("film-test", LORA, 0.793), ("amazon-test", "tfidf", 0.806), ("amazon-test", LORA, 0.888)]
    rows = [
        {"split": s, "model": m, "seeds": 3, "value": v, "ci_low": v - 0.02, "ci_high": v + 0.02, "n": 885}
        for s, m, v in scored
    ]
    tables.show_results("quickstart", "accuracy", rows)
    tables.show_answers(ANSWERS, "accuracy")
    tables.show_next("harness gate suites/quickstart.toml", "judges the suite's gates")


def check() -> None:
    entry = made_of(Entry, {"model_id": LORA, "primary": metric("accuracy", 0.888)})
    board = made_of(Board, {"sections": (made_of(Section, {"entries": (entry,), "answers": ANSWERS}),)})
    show_verdict(sentence(board, LORA, passed=True, has_train=True), Path("site"), Path("minilm-lora-r8.toml"))


def gate() -> None:
    tables.show_verdicts("quickstart", VERDICTS)
    rule = f"{PLACE} where negation=present: accuracy better than tfidf by more than 0.03"
    reason = "difference +0.090 [+0.028, +0.158], n 247, margin 0.03; about 1,200 more examples would decide it"
    tables.show_expected("quickstart", [Expected(rule, LORA, "undecided", reason, {"value": 1}, NOON, True)])
    tables.show_answers(ANSWERS, "accuracy", VERDICTS)
    tables.show_judged(VERDICTS, passed=False)


def compare() -> None:
    show_comparison(comparison(), 10, {"712aee3a74b0712aee3a74b0712aee3a": "A text of some words. " * 9})
    show_conclusion([comparison()])


def parity() -> None:
    made: dict[str, Any] = {
        "adapter_id": "lora-r8", "seed": 13, "form": "openvino int8", "n": 885, "compared": 101, "flips": 3,
        "flips_low": 0.001, "flips_high": 0.01, "flips_allowed": 0.02, "turned_positive": 1, "turned_negative": 2,
        "p_value": 1.0, "largest_move": 0.01234, "move_allowed": 0.5, "passed": True, "problem": None,
    }  # fmt: skip
    show_parities("quickstart", [made_of(Parity, made)])


def plan() -> None:
    made: dict[str, Any] = {
        "rule": f"{PLACE}: accuracy not worse than minilm-full by more than 0.03", "supposed": -0.011,
        "source": "stored", "expected": "pass", "n": 885, "clusters": 89, "power": 0.52, "needed": 2_110,
        "seconds": 41.2, "units_early": 61, "units": 89,
        "decidable": "no", "note": None, "seeds_needed": None, "seeds": 3, "needed_with_seeds": None,
    }  # fmt: skip
    show_plan("quickstart", 0.8, [made_of(PowerEstimate, made)])


def train() -> None:
    folder = "runs/adapters/lora-r8/seed-13-1f0c9d2b7a64"
    row = {
        "adapter_id": "lora-r8", "method": "lora", "seed": 13, "n_trainable": 74_498, "train_seconds": 31.46,
        "size_bytes": 301_384, "folder": folder,
    }  # fmt: skip
    tables.show_adapters("quickstart", [row, row | {"adapter_id": "ia3", "method": "ia3", "n_trainable": 2_690}])


def baseline() -> None:
    row = {
        "name": "main", "created_at": NOON, "git_commit": "4f43afe0c1d2e3f4", "git_dirty": True,
        "models": [LORA, "minilm-probe"], "splits": ["amazon-test", "film-test"], "runs": 8, "n": 5_140,
        "bytes": 81_920,
    }  # fmt: skip
    absent = dict.fromkeys(("git_commit", "git_dirty", "created_at", "models", "splits", "runs", "n", "bytes"))
    tables.show_baselines("quickstart", [row, {"name": "june", **absent}])


def watch() -> None:
    made: dict[str, Any] = {
        "model": LORA, "split": "amazon-test", "metric": "accuracy", "commits": 31, "value": -0.012,
        "evidence": 64_201.0,
        "alarm_at": 2_000.0, "is_new": True, "falling_since": "0c1d2e3f44f43afe", "falling_for": 12,
    }  # fmt: skip
    calm = made | {"model": "minilm-probe", "value": 0.001, "evidence": 0.4, "is_new": False, "falling_since": None}
    tables.show_watch("quickstart", Watch("main", None, (made_of(Series, made), made_of(Series, calm)), ()))


REVIEWS = [
    ("It broke within a week and nobody answered.", 0),
    ("Does what it says, and looks good on the shelf.", 1),
    ("Does what it says, and looks good on the shelf.", 1),
    ("I would not buy this again: the sound is thin, and the cable is too short for any desk that I know of.", 0),
]


def as_lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


@cache
def evaluated() -> tempfile.TemporaryDirectory[str]:
    """A folder with an evaluated suite and the results of another harness. Not to be changed."""
    made = tempfile.TemporaryDirectory()
    with chdir(made.name):
        shutil.copy(RESOURCES / "counted_suite.toml", "counted.toml")
        for name, n in (("train", 6), ("test", 9)):
            rows = [{"label": i % 2, "content": f"{name} {i} is {('bad', 'good')[i % 2]}"} for i in range(n)]
            Path(f"{name}.jsonl").write_text(as_lines(rows), encoding="utf-8")
            asked = [{"label": row["label"], "text": row["content"]} for row in rows]
            answered = written.lm_eval(asked, [(-1.5, -0.5)] * n)
            Path(f"samples_of_{name}.jsonl").write_text(as_lines(answered), encoding="utf-8")
        project = api.open("counted.toml")
        api.examine_data(project)
        api.evaluate(project, workers=1)
    return made


@cache
def small_world() -> tempfile.TemporaryDirectory[str]:
    """A folder with a store, a suite, a file of reviews, and an adapter on its base. Not to be changed."""
    made = tempfile.TemporaryDirectory()
    with chdir(made.name):
        with opened(Path("runs/harness.duckdb")) as store:
            fill_store(store, 5, "run")
        rows = "".join(f'"{text}",{label}\n' for text, label in REVIEWS * 4)
        Path("reviews.csv").write_text(f"text,label\n{rows}", encoding="utf-8")
        shutil.copy(RESOURCES / "good_suite.toml", "suite.toml")
        shutil.copytree(os.environ["SHOWN_ADAPTER"], "mine")
    return made


def within(world: Callable[[], tempfile.TemporaryDirectory[str]], *commands: str) -> Callable[[], None]:
    """Make a function that runs commands in a copy of a folder."""

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder, chdir(folder):
            shutil.copytree(world().name, folder, dirs_exist_ok=True)
            _call(commands)

    return run


def _call(commands: Sequence[str]) -> None:
    for command in commands:
        sys.argv = ["harness", *command.split()]
        with pytest.raises(SystemExit, match=r"^0$"):
            main()


VERBS: dict[str, Callable[[], None]] = {
    verb.__name__: verb for verb in (evaluate, check, gate, compare, parity, plan, train, baseline, watch)
} | {
    "ls": within(small_world, "ls"),
    "show": within(small_world, "show run-0"),
    "data": within(small_world, "data reviews.csv"),
    "init": within(small_world, "init mine/adapter --base mine/base --data reviews.csv"),
    "validate": within(small_world, "validate suite.toml"),
    "site": within(
        evaluated,
        "site counted.toml",
        "site counted.toml",
        "site counted.toml --check",
        "export counted.toml --to model-index --out cards",
    ),
    "import": within(evaluated, "import counted.toml samples_of_test.jsonl --model minilm-elsewhere"),
    "store": within(
        small_world,
        "store verify",
        "store gc --dry-run",
        "store export runs.bundle",
        "store import runs.bundle --db other/harness.duckdb",
    ),
}

END = "\f"
"""Printed after each verb."""


def show_all(widths: Sequence[int]) -> None:
    """Run every verb on this terminal, once for each number of columns."""
    for width in widths:
        fcntl.ioctl(sys.stdout, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
        for show in VERBS.values():
            show()
            sys.stdout.write(END)
            sys.stdout.flush()


if __name__ == "__main__":
    show_all(list(map(int, sys.argv[1:])))
