"""What counts as a change of the code that scores: its syntax, not its words."""

import pytest

from harness import digest

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
