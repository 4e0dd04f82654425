"""The table of bases: made by the benchmark, whole, and within its tolerance."""

from pathlib import Path
from types import ModuleType

import pytest

from tests.scripts import script

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "bases.md"


@pytest.fixture(scope="module")
def bases() -> ModuleType:
    """The benchmark as a module."""
    return script("bases")


def test_the_page_has_every_family_and_each_cell_is_within_the_tolerance(bases: ModuleType) -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = [line[2:-2].split(" | ") for line in text.splitlines() if line.startswith("| ")][1:]
    assert [row[0] for row in rows] == list(bases.FAMILIES)
    assert f"{len(rows)} families" in text
    for row in rows:
        assert len(row) == 8
        for cell in row[1:]:
            assert cell == "yes" or float(cell) <= bases.ALLOWED, row


def test_the_benchmark_measures_what_the_page_says(bases: ModuleType) -> None:
    for family, method, *outcomes in bases.measure(["ModernBERT", "T5"]):
        trains, *differences = outcomes
        assert trains == "yes", (family, method)
        assert all(cell == "–" or float(cell) <= bases.ALLOWED for cell in differences)
