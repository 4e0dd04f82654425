"""Tasks on a cluster, or on this machine, with Ray: `ray_pool.py` does the work, this module starts or joins Ray.

Ray is an optional extra, imported when the engine is opened. No usage statistics are sent. A Ray started here listens
on the loopback interface only, has no dashboard, requires a token to connect, keeps its files in a folder that only
their owner can enter, and ends with the command, however that ends.
"""

import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager, nullcontext, redirect_stdout, suppress
from pathlib import Path

from harness.engine import ray_guard
from harness.engine.protocol import MARKER, MapUnordered
from harness.errors import UsageError
from harness.progress import Progress
from harness.provenance import cores

ANSWER_SECONDS = 30
"""Time limit for a cluster's answer."""
_OBJECT_STORE_BYTES = 256 * 2**20
"""Object store size of a Ray started here. Items and results pass through it, one per worker; the rest spills."""


@contextmanager
def workers(
    count: int | None,
    progress: Progress,
    *,
    address: str | None = None,
    folder: Path | None = None,
    imports: Sequence[str] = (),
    gpus_per_worker: int = 0,
) -> Iterator[MapUnordered]:
    """Open actors of one core each, started when there is work.

    Args:
        count: number of actors; None for one per core that Ray knows of.
        address: of a cluster: `auto`, `host:port` or `ray://host:port`; RAY_ADDRESS by default. If neither is set, or
            it is `local`, Ray is started here and stopped at the end.
        folder: a folder that all workers must share. While they work it holds a file that they must see.
        gpus_per_worker: accelerators that Ray reserves for each actor, which sees no others.

    Raises:
        UsageError: Ray is not installed; there is no such cluster; it has fewer cores or accelerators than the workers
            need, or accelerators of several kinds.
    """
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    # Ray reports dead workers on stdout, which is for results.
    with _only_here(address == "local"), redirect_stdout(sys.stderr):
        _check_installed()
        with _session(address == "local", folder) as session, _joined(address, count, session):
            from harness.engine import ray_pool

            with ray_pool.workers(count, progress, folder, gpus_per_worker) as map_unordered:
                yield map_unordered


@contextmanager
def _only_here(local: bool) -> Iterator[None]:
    """Make Ray listen on the loopback interface only, as on platforms without clusters. Read when Ray is imported."""
    name = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
    before = os.environ.get(name)
    if local:
        os.environ[name] = "0"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


@contextmanager
def _session(local: bool, folder: Path | None) -> Iterator[Path | None]:
    """A folder for a Ray started here, which only its owner can enter: Ray makes its own files readable by everybody.

    However the command ends, another process (`ray_guard.py`) ends the rest of Ray and removes this folder and the
    marker in the folder that workers share.
    """
    # It holds sockets, whose paths may have at most 107 characters.
    place = "/tmp" if Path("/tmp").is_dir() else None
    made = Path(tempfile.mkdtemp(prefix="hr-", dir=place)) if local else None
    words = [str(made or ""), str(folder.absolute() if folder else ""), f"{MARKER}{os.getpid()}-"]
    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", ray_guard.__file__, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C must not end it
    )
    try:
        yield made
    finally:
        guard.communicate()  # closes its stdin, for which it waits


def _check_installed() -> None:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when Ray is imported
    try:
        import ray  # noqa: F401 (only to see whether it is installed)
    except ImportError:
        raise UsageError(
            "the engine 'ray' needs Ray, which is not installed: `python -m pip install 'adapter-harness[ray]'`"
        ) from None


@contextmanager
def _joined(address: str, count: int | None, session: Path | None) -> Iterator[None]:
    """Ray, for as long as the block lasts. Workers' own output goes to Ray's logs; their exceptions come back."""
    import ray
    from ray._private import ray_constants

    if address != "local":
        _check_reachable(address)
    ray_constants.ENABLE_RAY_CLUSTER = address != "local"  # in case Ray was imported before
    on_sigterm = signal.getsignal(signal.SIGTERM)
    # Workers look for modules where Ray is started: not in the folder of the call, unless the command does so itself.
    called_in = str(Path.cwd())
    elsewhere = nullcontext() if called_in in sys.path or "" in sys.path else chdir(session or Path(sys.prefix))
    try:
        with elsewhere:
            if address == "local":
                ray.init(
                    address="local",
                    num_cpus=count or cores(),
                    object_store_memory=_OBJECT_STORE_BYTES,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    _temp_dir=str(session / "ray") if session else None,
                )
            else:
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        with suppress(ValueError):  # not in the main thread, where Ray sets no handler either
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
    """Join once in another process, which can be stopped: if nobody answers, Ray tries for minutes.

    Raises:
        UsageError: there is no such cluster, or one that this Ray cannot join.
    """
    try:
        command = [sys.executable, "-P", "-c", _JOIN, address]  # -P: not the logging.py of this folder
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        reason = f"no answer within {ANSWER_SECONDS} s"
    else:
        if done.returncode == 0:
            return
        reason = (done.stdout.splitlines() or [f"Ray ended with {done.returncode}"])[-1]
    raise UsageError(
        f"{address}: cannot join a Ray cluster there ({reason}); check that it is running and that this is its "
        "address; if it requires a token, set RAY_AUTH_MODE=token"
    )
