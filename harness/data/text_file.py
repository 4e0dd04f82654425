"""Lines of a text file, plain or compressed, in any encoding, within bounds.

A file is read again for each request and never held in memory: a line has at most `MAX_LINE_BYTES`, and at any point a
compressed file may have unpacked to at most `FREE_BYTES` plus `MAX_RATIO` times the bytes read. A byte order mark at
the start is not part of the text.
"""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from harness.data.source import FREE_BYTES, MAX_RATIO
from harness.errors import DataError

COMPRESSIONS: Mapping[str, str] = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
"""Suffix to Arrow's name for the codec."""
MAX_LINE_BYTES = 16 * 2**20
BUFFER_BYTES = 2**16
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
"""Byte order marks of UTF-16."""


def lines(path: Path, codec: str | None, encoding: str | None, where: str) -> Iterator[bytes]:
    """The lines of a file as UTF-8 with their line ends, none longer than `MAX_LINE_BYTES`.

    Args:
        codec: its compression.
        encoding: its encoding, if it is declared; otherwise the bytes are taken to be UTF-8.
        where: prefix of error messages, which count lines from 1.

    Raises:
        DataError: it is damaged, in another encoding than declared, or exceeds the bounds.
    """
    number = 0
    try:
        with pa.OSFile(str(path)) as packed, _opened(packed, codec, encoding) as file:
            unpacked = 0
            while line := file.readline(MAX_LINE_BYTES + 1):
                number, unpacked = number + 1, unpacked + len(line)
                if len(line) > MAX_LINE_BYTES:
                    raise DataError(
                        f"{where}: line {number}: is longer than {MAX_LINE_BYTES // 2**20} MiB; no review is, so the "
                        "file was refused: check that it has one row per line"
                    )
                if codec and unpacked > FREE_BYTES + MAX_RATIO * packed.tell():
                    raise DataError(
                        f"{where}: line {number}: unpacks to more than {MAX_RATIO} times its size and was refused; if "
                        "that is correct, unpack the file yourself"
                    )
                if number == 1:
                    line = line.removeprefix(BYTE_ORDER_MARK)
                    if line.startswith(UTF_16):
                        raise DataError(f'{where}: is UTF-16; declare encoding = "utf-16", or save it as UTF-8')
                yield line
    except UnicodeError as problem:
        reason = getattr(problem, "reason", problem)
        raise DataError(
            f"{where}: is not {encoding} after line {number} ({reason}); correct `encoding`, or save the file as UTF-8"
        ) from None
    except OSError as problem:
        kind, remedy = (f" as {codec}", ", or correct its suffix") if codec else ("", "")
        raise DataError(
            f"{where}: is not readable{kind} after line {number}: {problem}; get a new copy of the file{remedy}"
        ) from None


def _opened(packed: Any, codec: str | None, encoding: str | None) -> io.BufferedReader:
    raw = packed if codec is None else pa.CompressedInputStream(packed, codec)
    if encoding not in (None, "utf-8"):
        raw = pa.transcoding_input_stream(raw, encoding, "utf-8")
    return io.BufferedReader(raw, BUFFER_BYTES)


def decoded(line: bytes) -> str:
    """A line's text.

    Raises:
        ValueError: it is not UTF-8, contains a NUL byte, or begins with a byte order mark.
    """
    if line.startswith(BYTE_ORDER_MARK):
        raise ValueError("begins with a byte order mark, as if files were joined; remove it")
    if b"\0" in line:
        raise ValueError("contains a NUL byte; remove it, or check that the file is plain UTF-8 text")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise ValueError(
            f'is not UTF-8 (byte {problem.start + 1}); declare its encoding, such as encoding = "cp1252" for files of '
            f"Excel, or, if it is compressed, give it the right suffix ({', '.join(COMPRESSIONS)})"
        ) from None


def without_end(line: bytes) -> bytes:
    """A line without its line end."""
    return line.removesuffix(b"\n").removesuffix(b"\r")
