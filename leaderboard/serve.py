"""The site on this machine's own address, made anew whenever the store or a suite file changes."""

import functools
import threading
from collections.abc import Callable, Sequence
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from harness.errors import HarnessError

POLL_SECONDS = 1.0
HOST = "127.0.0.1"


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
        say: is told the address, and what came of building again.
        stop: ends it.
    """
    with ThreadingHTTPServer((HOST, port), functools.partial(_Quiet, directory=str(out))) as server:
        say(f"serving {out} on http://{HOST}:{server.server_port}/ (Ctrl+C ends it)")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            follow(build, watched, say, stop)
        finally:
            server.shutdown()


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
    """What tells that a file has changed: time and size, or None where it is absent."""
    found: list[tuple[int, int] | None] = []
    for path in watched:
        try:
            status = path.stat()
            found.append((status.st_mtime_ns, status.st_size))
        except OSError:
            found.append(None)
    return tuple(found)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")  # the page after a reload is the one on disk
        super().end_headers()
