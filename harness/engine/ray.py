"""Tasks on a cluster, or on this machine, over Ray: `actors.py` does the work, this starts Ray or joins it.

Ray is an optional extra, imported when the engine is opened. Nothing is sent to anybody: no usage statistics. A Ray
that is started here has no dashboard, asks whoever connects for its token, and ends with the command.
"""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path

from harness.engine.protocol import EachDone
from harness.errors import UsageError
from harness.progress import Progress
from harness.provenance import cores

ANSWER_SECONDS = 30
"""How long a cluster may take to answer."""
_OBJECT_STORE_BYTES = 256 * 2**20
"""Of a Ray that is started here. Items and results pass through it, one for each worker; what does not fit spills."""


@contextmanager
def workers(
    count: int | None, progress: Progress, *, address: str | None = None, folder: Path | None = None
) -> Iterator[EachDone]:
    """Actors of one core each, started when there is something to do.

    Args:
        count: of actors; one for each core that Ray knows of where None.
        address: of a cluster: `auto`, `host:port` or `ray://host:port`. Where it is absent RAY_ADDRESS counts. Where
            both are, or it is `local`, Ray is started here and stopped at the end.
        folder: what all workers must share. A file is made in it for as long as they work, which they must see.

    Raises:
        UsageError: Ray is not installed; there is no such cluster; it has fewer cores than workers are asked for.
    """
    _check_installed()
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    # Ray writes what it has to say about workers that died to stdout, where results go.
    with redirect_stdout(sys.stderr), _joined(address, count):
        from harness.engine import actors

        with actors.workers(count, progress, folder) as each_done:
            yield each_done


def _check_installed() -> None:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when Ray is imported
    try:
        import ray  # noqa: F401 (only to see whether it can be had)
    except ImportError:
        raise UsageError(
            "the engine 'ray' needs Ray, which is not installed: `python -m pip install 'adapter-harness[ray]'`"
        ) from None


@contextmanager
def _joined(address: str, count: int | None) -> Iterator[None]:
    """Ray, for as long as the block lasts. Workers' own output is in Ray's logs; what they raise comes back."""
    import ray

    if address != "local":
        _check_reachable(address)
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        if address == "local":
            ray.init(
                address="local",
                num_cpus=count or cores(),
                object_store_memory=_OBJECT_STORE_BYTES,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        else:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        with suppress(ValueError):  # in another thread than the main one, where Ray sets no handler either
            signal.signal(signal.SIGTERM, on_sigterm)  # Ray's ends with 1, which would mean that a gate failed
        yield
    finally:
        ray.shutdown()


_JOIN = """
import logging, sys
import ray
try:
    ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.CRITICAL)
except Exception as problem:
    print("\\n" + " ".join(str(problem).split()))
    sys.exit(1)
"""


def _check_reachable(address: str) -> None:
    """Join once in another process, which can be ended: where nobody answers, Ray tries for minutes.

    Raises:
        UsageError: there is no such cluster, or one that this Ray cannot join.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", _JOIN, address], capture_output=True, text=True, check=False, timeout=ANSWER_SECONDS
        )
    except subprocess.TimeoutExpired:
        reason = f"no answer within {ANSWER_SECONDS} s"
    else:
        if done.returncode == 0:
            return
        reason = (done.stdout.splitlines() or [f"Ray ended with {done.returncode}"])[-1]
    raise UsageError(
        f"{address}: no Ray cluster could be joined there ({reason}); see that it is up and that this is its address; "
        "if it asks for a token, set RAY_AUTH_MODE=token"
    )
