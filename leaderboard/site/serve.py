"""The site on this machine's own address, rendered again whenever the store or a suite file changes."""

import logging
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import waitress
from waitress import wasyncore

from harness.errors import HarnessError, UsageError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

POLL_SECONDS = 1.0
HOST = "127.0.0.1"
CONNECTIONS = 1000
"""Largest number of open connections. Each costs a socket, and no thread until its request is complete."""
IDLE_SECONDS = 20
"""Idle time after which a connection is closed."""


def serve(
    build: Callable[[], object],
    watched: Sequence[Path],
    out: Path,
    port: int,
    say: Callable[[str], None],
    stop: threading.Event,
) -> None:
    """Serve a folder on the loopback interface alone, until `stop` is set or the process is interrupted.

    Args:
        build: brings the folder up to date; opens the store and closes it again. Where it fails, the pages stay as they
            are, and it is tried again: a writer that holds the store is waited for.
        watched: when one of these files changes, `build` is called.
        out: the folder.
        port: 0 takes any free one.
        say: receives the address, and the outcome of each new build.
        stop: ends it.

    Raises:
        UsageError: the port is taken, or needs privileges.
    """
    channels: dict[int, Any] = {}
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # it warns of every request that has to wait
    try:
        server = waitress.create_server(
            application(out),
            map=channels,
            host=HOST,
            port=port,
            ident=None,
            connection_limit=CONNECTIONS,
            channel_timeout=IDLE_SECONDS,
            cleanup_interval=5,
            max_request_header_size=16_384,
            max_request_body_size=1024,
            log_socket_errors=False,  # a client that disconnects is not worth a traceback
        )
    except OSError as problem:
        wasyncore.close_all(channels, ignore_all=True)  # waitress leaves its socket open when it cannot bind it
        raise UsageError(f"--port {port}: cannot be served on ({problem.strerror}); give another") from None
    say(f"serving {out} on http://{HOST}:{server.effective_port}/ (Ctrl+C ends it)")
    ended = threading.Event()

    def run() -> None:
        while not ended.is_set():
            wasyncore.loop(timeout=POLL_SECONDS, use_poll=True, map=channels, count=1)

    running = threading.Thread(target=run, daemon=True)
    running.start()
    try:
        follow(build, watched, say, stop)
    finally:
        ended.set()
        running.join()
        server.task_dispatcher.shutdown()
        wasyncore.close_all(channels, ignore_all=True)


def follow(
    build: Callable[[], object],
    watched: Sequence[Path],
    say: Callable[[str], None],
    stop: threading.Event,
    poll_seconds: float = POLL_SECONDS,
) -> None:
    """Call `build` whenever a watched file has changed and then been left alone for one poll."""
    built, before, told = state(watched), state(watched), ""
    while not stop.wait(poll_seconds):
        now = state(watched)
        settled, before = now == before, now
        if now == built or not settled:
            continue
        try:
            build()
        except HarnessError as error:
            if str(error) != told:  # once, not at every poll
                say(f"not rendered again yet: {error}")
            told = str(error)
        else:
            built, told = now, ""
            say("rendered again")


def state(watched: Sequence[Path]) -> tuple[tuple[int, int] | None, ...]:
    """State by which a change of a file is noticed: time and size, or None where it is absent."""
    found: list[tuple[int, int] | None] = []
    for path in watched:
        try:
            status = path.stat()
            found.append((status.st_mtime_ns, status.st_size))
        except OSError:
            found.append(None)
    return tuple(found)


def application(out: Path) -> "WSGIApplication":
    """The files of a folder, for requests that use one of this machine's own names."""

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        def refuse(status: HTTPStatus, *headers: tuple[str, str]) -> Iterable[bytes]:
            body = f"{status.value} {status.phrase}\n".encode()
            start_response(
                f"{status.value} {status.phrase}",
                [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body))), *headers],
            )
            return [body]

        if not _OWN_NAME.fullmatch(environ.get("HTTP_HOST", "")):
            return refuse(HTTPStatus.MISDIRECTED_REQUEST)
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return refuse(HTTPStatus.METHOD_NOT_ALLOWED, ("Allow", "GET, HEAD"))
        asked = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace").lstrip("/")
        path = out / asked
        try:
            if not path.resolve().is_relative_to(out.resolve()):
                return refuse(HTTPStatus.NOT_FOUND)
            if path.is_dir() and asked and not asked.endswith("/"):
                return refuse(HTTPStatus.MOVED_PERMANENTLY, ("Location", f"/{quote(asked)}/"))
            found = (path / "index.html" if path.is_dir() else path).resolve(strict=True)
            if not found.is_relative_to(out.resolve()) or not found.is_file() or asked.endswith(f"{found.name}/"):
                return refuse(HTTPStatus.NOT_FOUND)
            body = found.read_bytes()  # pages and data files have a few megabytes at most
        except (OSError, ValueError, RuntimeError):  # no such file, no such name, a ring of links
            return refuse(HTTPStatus.NOT_FOUND)
        kind = _KINDS.get(found.suffix, "application/octet-stream")
        start_response("200 OK", [("Content-Type", kind), ("Content-Length", str(len(body))), *_HEADERS])
        return [body if environ["REQUEST_METHOD"] == "GET" else b""]

    return answer


_OWN_NAME = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]+)?", re.IGNORECASE)
"""Names of this machine. A page elsewhere whose name was rebound to this address sends its own name instead."""
_HEADERS = [
    ("Cache-Control", "no-store"),  # the page after a reload is the one on disk
    ("Cross-Origin-Resource-Policy", "same-origin"),  # data files are scripts: a page elsewhere could run them
    ("X-Content-Type-Options", "nosniff"),
]
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".csv": "text/csv; charset=utf-8",
    ".svg": "image/svg+xml",
}
