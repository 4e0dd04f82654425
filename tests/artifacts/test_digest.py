"""Content has one name, whatever the order in which it is written down."""

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.artifacts import digest

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


def shuffled(value: Any, generator: random.Random) -> Any:
    if isinstance(value, dict):
        keys = list(value)
        generator.shuffle(keys)
        return {key: shuffled(value[key], generator) for key in keys}
    return [shuffled(item, generator) for item in value] if isinstance(value, list) else value


@given(value=values, seed=st.integers(0, 1000))
def test_the_digest_of_json_does_not_depend_on_the_order_of_keys(value: Any, seed: int) -> None:
    assert digest.of_json(shuffled(value, random.Random(seed))) == digest.of_json(value)


@given(value=values, other=values)
def test_different_json_has_different_digests(value: Any, other: Any) -> None:
    same_text = json.dumps(value, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (digest.of_json(value) == digest.of_json(other)) == same_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": [1, 2.5, None], "a": True}, '{"a":true,"b":[1,2.5,null]}'),
        (["ü", ("x",)], '["\\u00fc",["x"]]'),
        ({}, "{}"),
    ],
)
def test_the_digest_of_json_is_that_of_its_canonical_text(value: Any, text: str) -> None:
    assert digest.of_json(value) == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"deep": [float("-inf")]}])
def test_what_json_cannot_say_has_no_digest(value: Any) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        digest.of_json(value)


@given(content=st.binary(max_size=200))
def test_the_digest_of_a_file_is_that_of_its_bytes(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("digest") / "file"
    path.write_bytes(content)
    assert digest.of_file(path) == hashlib.sha256(content).hexdigest()


def test_the_digest_of_files_covers_names_and_contents_but_not_order_or_other_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    (tmp_path / "b").write_text("two")
    first = digest.of_files(tmp_path, ["a", "b"])
    (tmp_path / "c").write_text("not named")
    assert digest.of_files(tmp_path, ["b", "a", "absent"]) == first
    assert digest.of_files(tmp_path, ["a"]) != first
    (tmp_path / "a").write_text("two")
    (tmp_path / "b").write_text("one")
    assert digest.of_files(tmp_path, ["a", "b"]) != first
