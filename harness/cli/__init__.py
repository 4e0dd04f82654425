"""The `harness` command: each verb parses its words, makes one call and returns an exit code.

0 fine · 1 a gate failed · 2 bad usage or bad suite · 3 a run errored · 130 interrupted. Results go to stdout, progress
and warnings to stderr. What is slow to import is imported by the verbs that need it, when they need it.
"""

import gc
import os

# In the order in which one works, which is the order of `harness --help`.
# isort: off
from harness.cli import check
from harness.cli import validate
from harness.cli import data
from harness.cli import take_in
from harness.cli import train
from harness.cli import evaluate
from harness.cli import parity
from harness.cli import plan
from harness.cli import judge
from harness.cli import baseline
from harness.cli import compare
from harness.cli import show
from harness.cli import site
from harness.cli import hand_out
from harness.cli import store

# isort: on
from harness.cli.common import app
from harness.output.terminal import write_in_any_encoding

__all__ = [
    "app", "baseline", "check", "compare", "data", "evaluate", "hand_out", "judge", "main", "parity", "plan", "prepare",
    "show", "site", "store", "take_in", "train", "validate",
]  # fmt: skip


def prepare() -> None:
    """Prepare a process for verbs."""
    # Python looks for the modules of a process that it starts in the folder of the call first: `logging.py` of an
    # unpacked archive would be run.
    os.environ["PYTHONSAFEPATH"] = "1"
    write_in_any_encoding()
    # Imports leave a million objects that stay. Python's own thresholds look through them again and again: an eighth of
    # the time of `harness gate`.
    gc.set_threshold(50_000, 20, 10)


def main() -> None:
    """Entry point of the `harness` command."""
    prepare()
    app()
