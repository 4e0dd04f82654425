"""How many tasks at once, and where. An engine is a row of `ENGINES`.

    with ENGINES["local"](2, progress) as each_done:
        for item, result in each_done(function, items):
            ...

An engine opens with a number of workers and a `Progress`, and gives a function that applies a module-level function of
(item, progress) to items and yields (item, result) as they are done, in any order. What the function raises comes out;
an interruption comes out as `Interrupted`, naming the items that were under way. An engine that goes on when workers
die gives `Lost` for an item that killed every one that took it.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TypeAlias

from harness.engine import local
from harness.engine.local import EachDone, Interrupted, Lost
from harness.progress import Progress

Engine: TypeAlias = Callable[[int, Progress], AbstractContextManager[EachDone]]

ENGINES: Mapping[str, Engine] = {"local": local.workers}

__all__ = ["ENGINES", "EachDone", "Engine", "Interrupted", "Lost"]
