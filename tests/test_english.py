"""Plain English in docstrings, errors, help texts and pages, as CONTRIBUTING.md asks for."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("harness", "leaderboard", "benchmarks", "tests/leaderboard")
NOUN_CLAUSE = re.compile(r"(What|Whether|Of|How|Who|Which|Why) ")
"""Beginnings that make a clause stand for the noun or verb that a docstring should open with."""
CHATTY = re.compile(r"\b(tells|told|said|oftener|whom)\b")
"""Words that "report", "record", "state", "more often" and a plain sentence replace."""
WORDING = {"say", "print", "echo"}
"""Functions that print their arguments to people."""


def trees(folder: str) -> Iterator[tuple[Path, ast.Module]]:
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert paths, f"{folder} has no modules"
    for path in paths:
        yield path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Lines and texts of the docstrings of modules, classes, functions and fields."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value.strip()


def messages(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Lines and texts of the strings given to a raised or made error, to a printing function, or as a help text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and node.exc is not None:
            yield from strings(node.exc)
        elif isinstance(node, ast.keyword) and node.arg == "help":
            yield from strings(node.value)
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            if name in WORDING or re.search(r"(Error|Lost|Unjudgeable)$", name):
                yield from strings(node)


def strings(node: ast.AST) -> Iterator[tuple[int, str]]:
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.lineno, part.value


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_docstring_opens_with_a_clause_in_place_of_a_noun(folder: str) -> None:
    found = [
        f"{path}:{line}: {text.splitlines()[0]}"
        for path, tree in trees(folder)
        for line, text in docstrings(tree)
        if NOUN_CLAUSE.match(text)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_error_or_help_text_is_chatty(folder: str) -> None:
    found = [
        f"{path}:{line}: {text}" for path, tree in trees(folder) for line, text in messages(tree) if CHATTY.search(text)
    ]
    assert not found, "\n".join(found)


def test_no_text_of_a_page_is_chatty() -> None:
    pages = sorted((ROOT / "leaderboard/templates").glob("*.html"))
    assert pages
    found = [
        f"{page.name}: {line.strip()}"
        for page in pages
        for line in re.sub(r"\{[{%#].*?[}%#]\}|<[^>]*>", " ", page.read_text(encoding="utf-8")).splitlines()
        if CHATTY.search(line)
    ]
    assert not found, "\n".join(found)
