"""Content has one name, whatever the order in which it is written down."""

import hashlib
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.artifacts import digest
from harness.errors import DataError

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
    assert digest.of_file(path) == digest.of_weights(path) == hashlib.sha256(content).hexdigest()


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


# Large files, which are not read again


real = hashlib.file_digest
FALSE = "0" * 64
"""The digest that a test writes into an entry: a call that returns it has not read the file."""


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A large file, whose times tell at once whether it was changed."""
    monkeypatch.setattr(digest, "SETTLED_SECONDS", 0.0)
    path = tmp_path / "weights"
    path.write_bytes(b"w" * digest.LARGE)
    return path


def found(path: Path) -> str:
    with digest.remembering(path.parent / "digests"):
        return digest.of_weights(path)


def forge(path: Path) -> None:
    (entry,) = (path.parent / "digests").iterdir()
    entry.write_text(json.dumps(json.loads(entry.read_text()) | {"sha256": FALSE}))


def test_a_large_file_is_read_once_until_weights_are_used(large: Path) -> None:
    true = found(large)
    assert true == hashlib.sha256(large.read_bytes()).hexdigest()
    forge(large)
    assert found(large) == FALSE
    assert digest.of_weights(large) == true, "outside, every file is read"
    with digest.remembering(large.parent / "digests"):
        assert digest.of_weights(large) == digest.of_weights(large) == FALSE
        with pytest.raises(DataError, match=f"^{large}: its bytes are not those that were read before, though"):
            digest.read_remembered()
    assert found(large) == true, "and next time it is read"


def test_files_that_are_what_they_were_are_read_once_before_weights_are_used(
    large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = found(large)
    read = []

    def noted(file: Any, name: str) -> Any:
        read.append(file.name)
        return real(file, name)

    monkeypatch.setattr(hashlib, "file_digest", noted)
    with digest.remembering(large.parent / "digests"):
        assert digest.of_weights(large) == true
        assert read == []
        digest.read_remembered()
        digest.read_remembered()
        assert digest.of_files(large.parent, ["weights"]) == digest.of_json({"weights": true})
        assert read == [str(large)]
        large.write_bytes(b"v" * digest.LARGE)
        assert digest.of_weights(large) == hashlib.sha256(large.read_bytes()).hexdigest() != true
    digest.read_remembered()  # outside there is nothing to read


@pytest.mark.parametrize("change", ["the bytes, and the time set back", "another file of these times", "its length"])
def test_a_file_that_changed_is_read(large: Path, change: str) -> None:
    before = large.stat()
    assert found(large) != FALSE
    forge(large)
    if change == "another file of these times":
        other = large.with_name("other")
        other.write_bytes(b"v" * digest.LARGE)
        other.replace(large)
    else:
        large.write_bytes(b"v" * (digest.LARGE + (change == "its length")))
    os.utime(large, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert found(large) == hashlib.sha256(large.read_bytes()).hexdigest()


@pytest.mark.parametrize("is_there", [True, False])
def test_a_file_that_changed_before_weights_are_used_is_left_to_who_uses_it(large: Path, is_there: bool) -> None:
    found(large)
    with digest.remembering(large.parent / "digests"):
        digest.of_weights(large)
        large.unlink()
        if is_there:
            large.write_bytes(b"v" * digest.LARGE)
        digest.read_remembered()
        if is_there:
            assert digest.of_weights(large) == hashlib.sha256(large.read_bytes()).hexdigest()


def test_a_file_that_was_just_written_is_not_remembered(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second change within one tick of the clock would go unseen."""
    monkeypatch.setattr(digest, "SETTLED_SECONDS", 3600.0)
    found(large)
    assert not (large.parent / "digests").exists()


def test_a_small_file_is_not_remembered(large: Path) -> None:
    large.write_bytes(b"w" * (digest.LARGE - 1))
    found(large)
    assert not (large.parent / "digests").exists()


@pytest.mark.parametrize("damage", ["", "{}", "[]", "null", '{"sha256": 1}', "no JSON"])
def test_a_damaged_entry_is_no_entry(large: Path, damage: str) -> None:
    true = found(large)
    (entry,) = (large.parent / "digests").iterdir()
    entry.write_text(damage)
    assert found(large) == true


def test_where_nothing_can_be_written_files_are_read(large: Path) -> None:
    (large.parent / "digests").write_text("in the way")
    assert found(large) == hashlib.sha256(large.read_bytes()).hexdigest()


def test_a_file_that_is_not_there_is_missed_as_ever(large: Path) -> None:
    with pytest.raises(FileNotFoundError):
        found(large.with_name("other"))


def test_what_is_read_at_once_is_never_remembered(large: Path) -> None:
    found(large)
    forge(large)
    with digest.remembering(large.parent / "digests"):
        assert digest.of_file(large) == hashlib.sha256(large.read_bytes()).hexdigest()
