"""From the cells of a row to its text, label, cluster and slices, for formats whose columns have names."""

import json
import re
from collections.abc import Mapping
from typing import Any

from harness.data.source import DROPPED, Row
from harness.suite.splits import NamedColumns, canonical

SURROGATE = re.compile("[\ud800-\udfff]")


class UnknownLabelError(ValueError):
    """A value of the label column that means nothing here."""


def row_of(cells: Mapping[Any, Any], rule: NamedColumns) -> Row:
    """The row with these cells by column. One whose label the rule drops has that value in place of a text.

    Raises:
        ValueError: a column is missing, or a value is not what its column needs; `UnknownLabelError` for a label.
    """
    cluster, title_column = rule.group, rule.title_column
    label_column = None if rule.unlabelled else rule.label_column
    needed = [label_column, rule.content_column, title_column if rule.title_is_declared else None, cluster]
    absent = [repr(name) for name in dict.fromkeys(needed) if name is not None and name not in cells]
    if absent:
        raise MissingColumnError(f"has no {' and no '.join(absent)}", cells)
    label = 0 if rule.unlabelled else label_of(cells[rule.label_column], rule)
    columns = {name: slice_of(cells, name) for name in rule.kept_columns if name in cells}
    if label == DROPPED:
        return Row("", canonical(cells[rule.label_column]), DROPPED, None, columns)
    content = text_of(cells, rule.content_column)
    title = "" if title_column is None or cells.get(title_column) is None else text_of(cells, title_column)
    if rule.text:
        title, content = rule.text.cut(content)
    return Row(title, content, label, cluster_of(cells, cluster) if cluster else None, columns)


class MissingColumnError(ValueError):
    """A row lacks columns; `names` are those that it has."""

    def __init__(self, problem: str, cells: Mapping[Any, Any]) -> None:
        self.names = tuple(cells)
        super().__init__(f"{problem} (found: {', '.join(map(repr, self.names)) or 'nothing':.200})")


def label_of(value: Any, rule: NamedColumns) -> int:
    """The label that a value means, or `DROPPED`.

    Raises:
        UnknownLabelError: the rule declares no labels, and it is neither 0 nor 1.
    """
    if rule.labels is not None:
        return rule.labels.classes.get(canonical(value), DROPPED)
    if type(value) is not int or value not in (0, 1):  # True equals 1 but is not a label
        raise UnknownLabelError(
            f"{rule.label_column} {json.dumps(value, default=str):.40} is neither 0 (negative) nor 1 (positive)"
        )
    return value


def text_of(cells: Mapping[Any, Any], name: Any) -> str:
    """A text as it is written."""
    value = cells[name]
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a string, not {kind(value)}")
    if "\0" in value:
        raise ValueError(f"{name} contains a NUL character; remove it")
    if SURROGATE.search(value):
        raise ValueError(f"{name} contains half of a surrogate pair, which is not a character; remove it")
    return value


def cluster_of(cells: Mapping[Any, Any], name: str) -> str:
    """The cluster as text. Never None: one row without a cluster would make all rows count as independent."""
    return str(cells[name]) if type(cells[name]) is int else text_of(cells, name)


def slice_of(cells: Mapping[Any, Any], name: str) -> str:
    """A slice value as text, as Python writes it."""
    value = cells[name]
    if isinstance(value, dict | list):
        raise ValueError(f"{name} must be a string, a number, true, false or null, not {kind(value)}")
    if isinstance(value, str):
        return text_of(cells, name)
    return "" if value is None else str(value)


def kind(value: object) -> str:
    """The JSON name of a value's type, for messages."""
    names = {dict: "an object", list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
