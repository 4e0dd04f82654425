"""Test-first evaluation of sentiment classifiers and their lightweight (PEFT) adapters.

A suite file declares splits, models, adapters, metrics and gates. The modules form one pipeline, each step taking the
last one's result::

    suite.load -> data.load_split -> training.train -> models.load -> evaluation.scoring -> store -> gates ->
    leaderboard

Importing this package imports nothing heavy: torch, transformers and duckdb come in where they are used.
"""

from importlib.metadata import version

__version__ = version("adapter-harness")
