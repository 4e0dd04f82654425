"""The digest of the code that scores follows its syntax, not its words."""

import shutil
from functools import cache
from pathlib import Path

import grimp
import pytest

import harness
from harness.artifacts import digest, scoring_code
from harness.models import BACKENDS

CODE = """
def add(one: int, other: int) -> int:
    \"\"\"The sum.\"\"\"
    return one + other
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    return", "    # a comment\n    return"),
        ("The sum.", "What both come to."),
        ('    """The sum."""\n', ""),
        ("one + other", "(one\n        + other)"),
    ],
)
def test_comments_docstrings_and_layout_do_not_count(old: str, new: str) -> None:
    assert old in CODE
    assert digest.of_source(CODE.replace(old, new).encode()) == digest.of_source(CODE.encode())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("one + other", "one - other"),
        ("one + other", "other + one"),
        ("one + other", "one + other + 0"),
        ("-> int", "-> float"),
        ("add", "plus"),
        ("return", "yield"),
    ],
)
def test_anything_else_counts(old: str, new: str) -> None:
    assert digest.of_source(CODE.replace(old, new).encode()) != digest.of_source(CODE.encode())


def test_nested_code_is_not_mixed_up_with_code_beside_it() -> None:
    inside, beside = "if a:\n    b()\n    c()", "if a:\n    b()\nc()"
    assert digest.of_source(inside.encode()) != digest.of_source(beside.encode())


# Which modules count

PACKAGE = Path(harness.__file__).parent
NO_PART_OF_IT = {
    "harness.artifacts": "names content; with another way of naming it, every key is another one",
    "harness.errors": "is raised in place of a score",
    "harness.progress": "shows how far the work is",
    "harness.provenance": "describes packages and processor, which keys and parity checks spell out",
    "harness.records": "holds what was scored",
    "harness.stats": "computes metrics from stored predictions, which can be computed again at any time",
    "harness.suite": "checks declarations, which the key spells out; how a text is rendered does count",
}
"""Rooms that the scoring code imports and that decide no score, with the reason."""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package's source."""
    copy = tmp_path / "harness"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def edited(file: Path) -> None:
    file.write_text(file.read_text(encoding="utf-8") + "\nADDED = 1\n", encoding="utf-8")


def test_an_edit_of_any_module_that_decides_a_score_changes_the_digest(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digest, "of_source", cache(digest.of_source))  # most are as they were the time before
    before = scoring_code.of_package(package)
    for file in scoring_code.files(package):
        text = file.read_text(encoding="utf-8")
        edited(file)
        assert scoring_code.of_package(package) != before, file
        file.write_text(text, encoding="utf-8")
    assert scoring_code.of_package(package) == before == scoring_code.scoring_code()


def test_a_module_that_is_added_at_any_depth_changes_the_digest(package: Path) -> None:
    before = scoring_code.of_package(package)
    (package / "models" / "speedups" / "deeper").mkdir()
    (package / "models" / "speedups" / "deeper" / "new.py").write_text("A = 1\n", encoding="utf-8")
    assert scoring_code.of_package(package) != before


def test_a_module_that_moves_changes_the_digest(package: Path) -> None:
    before = scoring_code.of_package(package)
    (package / "models" / "probe.py").rename(package / "models" / "linear.py")
    assert scoring_code.of_package(package) != before


def test_an_edit_elsewhere_changes_nothing(package: Path) -> None:
    before = scoring_code.of_package(package)
    for name in ("gates/judge.py", "cli/show.py", "store/reader.py", "records.py"):
        edited(package / name)
    assert scoring_code.of_package(package) == before


def test_everything_that_the_scoring_code_imports_counts_or_is_named_with_the_reason_why_not() -> None:
    graph = grimp.build_graph("harness", cache_dir=None, exclude_type_checking_imports=True)
    counted = {_module(file) for file in scoring_code.files(PACKAGE)}
    needed = {name for module in counted for name in graph.find_upstream_modules(module)} - counted - {"harness"}
    rooms = {".".join(name.split(".")[:2]) for name in needed}
    assert rooms == set(NO_PART_OF_IT)


def test_every_backend_counts() -> None:
    counted = {_module(file) for file in scoring_code.files(PACKAGE)}
    assert {name.partition(":")[0] for name in BACKENDS.values()} <= counted


def _module(file: Path) -> str:
    return ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
