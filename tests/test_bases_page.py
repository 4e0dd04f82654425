"""The table of bases: made by the benchmark, whole, and within its tolerance."""

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.fixtures import Result
from tests.scripts import script

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "bases.md"


@pytest.fixture(scope="module")
def bases() -> ModuleType:
    """The benchmark as a module."""
    return script("bases")


def test_the_page_has_every_family_and_each_cell_is_within_the_tolerance_or_refused_by_name(bases: ModuleType) -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = [line[2:-2].split(" | ") for line in text.splitlines() if line.startswith("| ")][1:]
    assert [row[0] for row in rows] == list(bases.FAMILIES)
    assert f"{len(rows)} families" in text
    reasons = dict(re.findall(r"^- ([a-z]): (.+)$", text, re.MULTILINE))
    assert not any("Traceback" in reason or "Error" in reason for reason in reasons.values())
    for row in rows:
        for cell in row[1:]:
            assert cell in ("yes", "–", *reasons) or float(cell) <= bases.ALLOWED, row


@pytest.mark.no_cover
def test_the_benchmark_measures_what_the_page_says(bases: ModuleType) -> None:
    for family, method, *outcomes in bases.measure(["ModernBERT", "BART"]):
        trains, *differences = outcomes
        assert trains == "yes", (family, method)
        assert all(cell == "–" or float(cell) <= bases.ALLOWED for cell in differences)


@pytest.mark.parametrize(
    ("family", "reason"),
    [("T5", "OpenVINO cannot convert a t5"), ("Mistral", "longer than the base's sliding window, 16 tokens")],
)
def test_what_cannot_be_converted_is_refused_before_anything_is_trained(
    family: str, reason: str, bases: ModuleType, tmp_path: Path, harness: Callable[..., Result]
) -> None:
    bases.make_base(tmp_path / "base", bases.FAMILIES[family])
    suite = bases.write_suite(tmp_path, bases.FAMILIES[family], "head")
    refused = harness("evaluate", suite, "--workers", 1)
    assert refused.code == 2
    assert refused.err.startswith("model 'head-openvino': OpenVINO ")
    assert reason in refused.err
    assert "use runtime = 'torch'" in refused.err
    assert not (tmp_path / "runs" / "adapters").exists()
