"""Logs of Inspect: `.eval`, a zip archive with a JSON file for each sample, or one `.json` file."""

import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from harness.interchange.samples import (
    MOST_BYTES,
    MOST_SAMPLES,
    Log,
    Sample,
    agreed,
    each,
    fields_of,
    items,
    judged,
    mapping,
    parsed,
)

_SAMPLE = re.compile(r"samples/[^/]+\.json")
_HEADER = "header.json"
_ZSTD = 93
"""Number of the compression that Inspect chooses, which Python's zipfile reads from 3.14 on."""
_LOCAL_HEADER_BYTES = 30


def of_object(value: Any) -> Log:
    """The samples of a log in one JSON file.

    Raises:
        ValueError: it is no log, did not end well, or a sample is malformed.
    """
    log = mapping(value, "it")
    if not {"eval", "status", "samples"} <= log.keys():
        raise ValueError("is no log of Inspect: it has no eval, status and samples")
    samples = items(log["samples"], "samples")
    return _log(log, ((f"samples[{i}]", mapping(one, f"samples[{i}]")) for i, one in enumerate(samples)), len(samples))


def of_archive(path: Path) -> Log:
    """The samples of a log in an archive. Members are read in memory, within bounds; nothing is extracted.

    Raises:
        ValueError: it is damaged, unpacks to too much, is no log, did not end well, or a sample is malformed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.filename: member for member in archive.infolist()}
            if len(members) < len(archive.infolist()):
                raise ValueError("names a member twice; get a new copy")
            names = sorted(name for name in members if _SAMPLE.fullmatch(name))
            if len(names) > MOST_SAMPLES:
                raise ValueError(f"has more than {MOST_SAMPLES:,} samples; split it")
            if _HEADER not in members:
                raise ValueError(f"is no finished log of Inspect: it has no {_HEADER}")
            size = sum(members[name].file_size for name in (_HEADER, *names))
            if size > MOST_BYTES:
                raise ValueError(f"unpacks to {size:,} bytes, more than {MOST_BYTES:,}; split it")
            header = mapping(parsed(_member(archive, members[_HEADER]), _HEADER), _HEADER)
            rows = ((name, mapping(parsed(_member(archive, members[name]), "it"), "it")) for name in names)
            return _log(header, rows, len(names))
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as problem:
        raise ValueError(f"is no archive that can be read ({problem}); get a new copy") from None


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """The bytes of a member, at most as many as its entry states."""
    if member.compress_type != _ZSTD:
        with archive.open(member) as file:
            return file.read(member.file_size)
    if archive.fp is None:
        raise ValueError("was closed while it was read")
    archive.fp.seek(member.header_offset)
    header = archive.fp.read(_LOCAL_HEADER_BYTES)
    if len(header) < _LOCAL_HEADER_BYTES or not header.startswith(b"PK\3\4"):
        raise zipfile.BadZipFile(f"no entry at the place of {member.filename!r:.60}")
    beside = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    archive.fp.seek(beside, 1)
    packed = archive.fp.read(member.compress_size)
    try:
        with pa.CompressedInputStream(pa.BufferReader(packed), "zstd") as stream:
            data = bytes(stream.read(member.file_size + 1))
    except OSError as problem:
        raise ValueError(f"{member.filename!r:.60} is damaged ({problem})") from None
    if len(data) != member.file_size or zlib.crc32(data) != member.CRC:
        raise ValueError(f"{member.filename!r:.60} is damaged: it does not unpack to what its entry states")
    return data


def _log(header: Mapping[str, Any], rows: Iterator[tuple[str, Mapping[str, Any]]], n: int) -> Log:
    about = mapping(header.get("eval"), "eval")
    if header.get("status") != "success":
        raise ValueError(f"is of an evaluation with status {header.get('status')!r:.40}; run it again to its end")
    packages = about.get("packages")
    release = packages.get("inspect_ai") if isinstance(packages, dict) else None
    if not n:
        raise ValueError("has no samples; Inspect must log them (log_samples)")
    model = about.get("model")
    tool = f"Inspect {release}" if isinstance(release, str) else "Inspect"
    return Log(tool, model if isinstance(model, str) else None, tuple(each(rows, _sample)))


def _sample(place: str, row: Mapping[str, Any]) -> Sample:
    if row.get("error") is not None:
        raise ValueError("ended with an error, so it has no answer; run it again")
    fields = fields_of({"id": row.get("id"), "input": _input(row), "metadata": row.get("metadata")})
    scores = [mapping(one, "a score") for one in mapping(row.get("scores") or {}, "scores").values()]
    choices = row.get("choices")
    letters = (
        dict(zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", map(str, choices), strict=False)) if isinstance(choices, list) else {}
    )
    target = row.get("target")
    if isinstance(target, list):
        target = target[0] if len(target) == 1 else None
    answer = _answer(row, scores, letters)
    return Sample(
        place,
        fields,
        {answer: 1.0},
        None if target is None else letters.get(str(target), str(target)),
        agreed([judged(one.get("value")) for one in scores]),
        f"epoch {row.get('epoch', 1)}",
    )


def _input(row: Mapping[str, Any]) -> str:
    """The question as text: what the user's messages say, where it is a list of messages."""
    asked = row.get("input")
    if isinstance(asked, list):
        users = [one for one in asked if isinstance(one, dict) and one.get("role") == "user"]
        asked = "\n".join(str(one.get("content", "")) for one in users)
    attachments = row.get("attachments")
    if isinstance(asked, str) and asked.startswith("attachment://") and isinstance(attachments, dict):
        asked = attachments.get(asked.removeprefix("attachment://"))
    if not isinstance(asked, str):
        raise ValueError("has no input")
    return asked


def _answer(row: Mapping[str, Any], scores: list[Mapping[str, Any]], letters: Mapping[str, str]) -> str:
    """The answer: the choice that a scorer took, or else all that the model wrote."""
    chosen = {
        letters[one["answer"]] for one in scores if isinstance(one.get("answer"), str) and one["answer"] in letters
    }
    if len(chosen) == 1:
        return chosen.pop()
    output = mapping(row.get("output"), "output")
    written = output.get("completion")
    if not isinstance(written, str):
        raise ValueError("has no output.completion")
    return written
