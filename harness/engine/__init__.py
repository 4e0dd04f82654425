"""How many tasks at once, and where. An engine is a row of `ENGINES`.

    with ENGINES["local"](2, progress) as map_unordered:
        for item, result in map_unordered(function, items):
            ...

An engine opens with a number of workers and a `Progress`, and gives a function that applies a module-level function of
(item, progress) to items and yields (item, result) as they are done, in any order. What the function raises comes out;
an interruption comes out as `Interrupted`, naming the items that were under way.

Where a worker dies, the local engine ends with a RunError. The Ray engine gives the item to another worker, so
functions must bear to be done twice, and `WorkerLost` is what an item comes to that killed every worker that took it.
"""

from collections.abc import Mapping

from harness.engine import local, ray
from harness.engine.protocol import Engine, Interrupted, MapUnordered, WorkerLost

ENGINES: Mapping[str, Engine] = {"local": local.workers, "ray": ray.workers}

__all__ = ["ENGINES", "Engine", "Interrupted", "MapUnordered", "WorkerLost"]
