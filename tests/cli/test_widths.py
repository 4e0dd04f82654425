"""Results on terminals of 80, 100 and 200 columns: whole, without a broken word, as the golden files have them.

`HARNESS_GOLDEN=write pytest tests/cli/test_widths.py` writes these files anew.
"""

import os
import pty
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from tests.cli.shown import END, VERBS

GOLDEN = Path(__file__).parents[1] / "resources" / "terminal"
WIDTHS = (80, 100, 200)
ROOMY = 400
"""Columns in which no word of a table has to be broken."""
COLOUR = re.compile(r"\x1b\[[\d;]*m")
SIZE = re.compile(r"(?<= )[\d,]+(?= bytes$)", re.MULTILINE)
"""Size of a written file, which every release of pyarrow may change."""


@pytest.fixture(scope="module")
def adapter(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base and an untrained adapter."""
    from peft import LoraConfig, get_peft_model

    from harness.models import peft, transformer

    folder = tmp_path_factory.mktemp("shown")
    shutil.copytree(tiny_base, folder / "base")
    network: Any = transformer.untrained(tiny_base, seed=1)
    config = LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"])
    with peft.without_known_warnings():
        get_peft_model(network, config).save_pretrained(str(folder / "adapter"))
    return folder


@cache
def on_terminals(adapter: Path) -> dict[int, dict[str, str]]:
    """Run every verb on terminals of several widths; returns what each printed."""
    ours, theirs = pty.openpty()
    surroundings = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.cli.shown", *map(str, (*WIDTHS, ROOMY))],
        stdin=theirs, stdout=theirs, stderr=theirs,
        env=surroundings | {"TERM": "xterm", "PYTHONPATH": str(Path.cwd()), "SHOWN_ADAPTER": str(adapter)},
    )  # fmt: skip
    os.close(theirs)
    parts = []
    while True:
        try:
            data = os.read(ours, 65_536)
        except OSError:  # Linux reports the end of a terminal so
            break
        if not data:
            break
        parts.append(data)
    os.close(ours)
    printed = b"".join(parts).decode().replace("\r\n", "\n")
    assert process.wait() == 0, printed
    found = iter(printed.split(END)[:-1])
    shown = {width: {verb: next(found) for verb in VERBS} for width in (*WIDTHS, ROOMY)}
    assert next(found, None) is None
    return shown


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("verb", VERBS)
def test_results_are_whole_on_terminals_of_every_width(verb: str, width: int, adapter: Path) -> None:
    shown = SIZE.sub("N", COLOUR.sub("", on_terminals(adapter)[width][verb]))
    lines = [line.rstrip() for line in shown.splitlines()]
    assert max(cell_len(line) for line in lines) <= width
    broken = set(shown.split()) - {*COLOUR.sub("", on_terminals(adapter)[ROOMY][verb]).split(), "N"}
    heads = {word for word in broken if re.fullmatch(r"[\w’':−/+–%?.=-]+", word) and "…" not in word}
    assert not heads, "words of records and tables are those of a table that has room"
    file = GOLDEN / f"{verb}-{width}.txt"
    if os.environ.get("HARNESS_GOLDEN") == "write":
        file.parent.mkdir(exist_ok=True)
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert "\n".join(lines) + "\n" == file.read_text(encoding="utf-8")


def test_outcomes_are_words_and_colours(adapter: Path) -> None:
    shown = on_terminals(adapter)[80]["gate"]
    assert "\x1b[32mpass\x1b[0m" in shown
    assert "\x1b[1;31mfail\x1b[0m" in shown
    assert "\x1b[33minconclusive" in shown
    assert "\x1b[33mundecided\x1b[0m" in shown
