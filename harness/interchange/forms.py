"""Result files of other harnesses, recognised by their contents and read as samples.

    log = read(Path("samples_polarity.jsonl"))
    log.tool, log.model, log.samples[0].answer        # {"negative": 0.2, "positive": 0.8}

The files are read here, within bounds, and not by the libraries that wrote them: those unpack and parse whatever a file
holds, and bring dozens of packages. Nothing of a file is extracted, imported or run.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.data import text_file
from harness.errors import DataError
from harness.interchange import eval_ever, inspect_log, lm_eval
from harness.interchange.samples import MOST_BYTES, MOST_SAMPLES, Log, mapping, parsed

_Rows = Iterator[tuple[str, Mapping[str, Any]]]
_OF_LINES: tuple[tuple[frozenset[str], Callable[[_Rows], Log]], ...] = (
    (lm_eval.KEYS, lm_eval.of_rows),
    (eval_ever.KEYS, eval_ever.of_rows),
)


def read(path: Path) -> Log:
    """Read a result file of lm-evaluation-harness, Inspect or Every Eval Ever, recognised by its contents.

    Raises:
        DataError: there is no such file, it is damaged or too large, it is in none of these forms, or a sample has no
            answer that can be read.
    """
    where = str(path)
    try:
        size = path.stat().st_size if path.is_file() else None
    except (OSError, ValueError) as problem:
        raise DataError(f"{where}: cannot be read ({problem})") from None
    if size is None:
        raise DataError(f"{where}: there is no such file; name one result file")
    if size > MOST_BYTES:
        raise DataError(f"{where}: has {size:,} bytes, more than {MOST_BYTES:,}; split it")
    try:
        if path.suffix == ".eval":
            return inspect_log.of_archive(path)
        if path.suffix == ".json":
            return inspect_log.of_object(parsed(path.read_bytes(), "it"))
        first, rows = _lines(path)
        for keys, of_rows in _OF_LINES:
            if keys <= first.keys():
                return of_rows(rows)
    except (ValueError, OSError) as problem:
        raise DataError(f"{where}: {problem}") from None
    raise DataError(
        f"{where}: is in no form that is known: it must be a samples file of lm-evaluation-harness (--log_samples) or "
        "of Every Eval Ever (.jsonl), or a log of Inspect (.eval or .json)"
    )


def _lines(path: Path) -> tuple[Mapping[str, Any], _Rows]:
    """The first object of a JSON Lines file, and all objects with their places."""

    def objects() -> _Rows:
        codec = text_file.COMPRESSIONS.get(path.suffix.lower())
        for number, line in enumerate(text_file.lines(path, codec, None, str(path)), 1):
            if number > MOST_SAMPLES:
                raise ValueError(f"has more than {MOST_SAMPLES:,} lines; split it")
            if line.strip():
                yield f"line {number}", mapping(parsed(line, f"line {number}"), f"line {number}")

    first = next(objects(), None)
    if first is None:
        raise ValueError("is empty; it needs one JSON object on each line")
    return first[1], objects()
