"""Engines, which decide where tasks run and how many at a time. Each is a row of `ENGINES`.

    with ENGINES["local"](2, progress) as map_unordered:
        for item, result in map_unordered(function, items):
            ...

An engine opens with a number of workers and a `Progress`, and yields a function that applies a module-level function of
(item, progress) to items and yields (item, result) as they finish, in any order. Exceptions of the function propagate;
an interruption is raised as `Interrupted`, naming the items in progress.

If a worker dies, the local engine ends with a RunError. The Ray engine gives the item to another worker, so functions
must be safe to run twice; an item that killed every worker that took it yields `WorkerLost`.
"""

from collections.abc import Mapping

from harness.engine import local, ray
from harness.engine.protocol import Engine, Interrupted, MapUnordered, WorkerLost

ENGINES: Mapping[str, Engine] = {"local": local.workers, "ray": ray.workers}

__all__ = ["ENGINES", "Engine", "Interrupted", "MapUnordered", "WorkerLost"]
