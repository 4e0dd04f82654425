"""Made-up results as the verbs show them: `python -m tests.cli.shown VERB` prints one on this terminal."""

import sys
from dataclasses import fields
from datetime import datetime
from typing import Any

from harness.cli import tables
from harness.cli.tables.comparison import show_comparison, show_conclusion
from harness.cli.tables.power import show_plan
from harness.cli.tables.variants import show_parities
from harness.gates.compare import Comparison, Flip, MetricPair, RunTest, SlicePair
from harness.gates.power import PowerEstimate
from harness.records import Expected, Metric, Parity, Verdict
from harness.stats.calibration import Bin, Calibration
from harness.stats.enrichment import Enriched, Enrichment
from harness.stats.estimates import Difference
from leaderboard.board.answers import Answer, Base

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


VERBS = {verb.__name__: verb for verb in (evaluate, gate, compare, parity, plan)}

if __name__ == "__main__":
    VERBS[sys.argv[1]]()
