"""`--serve`: pages over the loopback interface, rendered again when their sources change."""

import http.client
import os
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.errors import StoreError, UsageError
from leaderboard.site import serve

PATIENCE_SECONDS = 30.0


class Site:
    """A folder that is built from one file, and the messages printed meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.out, self.store = folder / "site", folder / "store"
        self.out.mkdir()
        self.store.write_text("first")
        self.said: list[str] = []
        self.held = False
        self.stop = threading.Event()
        self.build()

    def build(self) -> None:
        if self.held:
            raise StoreError(f"{self.store}: process 7 holds this store")
        (self.out / "index.html").write_text(self.store.read_text())

    def change(self, text: str) -> None:
        self.store.write_text(text)
        later = time.time_ns() + 10**9 * (1 + len(self.said))
        os.utime(self.store, ns=(later, later))

    def wait_for(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            assert time.monotonic() < deadline, self.said
            time.sleep(0.01)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.stop.set()


def start(site: Site, target: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread


def follow(site: Site) -> threading.Thread:
    return start(site, lambda: serve.follow(site.build, [site.store], site.said.append, site.stop, poll_seconds=0.02))


def test_a_changed_store_is_rendered_again(site: Site) -> None:
    follow(site)
    time.sleep(0.1)
    site.change("second")
    site.wait_for(lambda: (site.out / "index.html").read_text() == "second")
    site.wait_for(lambda: site.said == ["rendered again"])


def test_a_writer_that_holds_the_store_is_waited_for_and_told_of_once(site: Site) -> None:
    follow(site)
    time.sleep(0.1)
    site.held = True
    site.change("second")
    site.wait_for(lambda: bool(site.said))
    time.sleep(0.2)
    assert site.said == [f"not rendered again yet: {site.store}: process 7 holds this store"]
    assert (site.out / "index.html").read_text() == "first"
    site.held = False
    site.wait_for(lambda: site.said[1:] == ["rendered again"])
    assert (site.out / "index.html").read_text() == "second"


def test_nothing_is_rendered_while_nothing_changes(site: Site) -> None:
    follow(site)
    (site.out / "index.html").write_text("as it was left")
    time.sleep(0.2)
    assert (site.out / "index.html").read_text() == "as it was left"


def test_the_server_listens_on_the_loopback_interface_alone_and_shows_what_is_on_disk(site: Site) -> None:
    thread = start(site, lambda: serve.serve(site.build, [site.store], site.out, 0, site.said.append, site.stop))
    site.wait_for(lambda: bool(site.said))
    address = site.said[0].split(" on ")[1].split()[0]
    assert address.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(address) as answer:
        assert answer.read() == b"first"
        assert answer.headers["Cache-Control"] == "no-store"
    with pytest.raises(urllib.error.HTTPError, match="404") as failure:
        urllib.request.urlopen(f"{address}../store")
    failure.value.close()
    site.stop.set()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(address)


@pytest.fixture
def served(site: Site) -> Iterator[tuple[str, int]]:
    """Host and port of a site that is being served."""
    thread = start(site, lambda: serve.serve(site.build, [site.store], site.out, 0, site.said.append, site.stop))
    site.wait_for(lambda: bool(site.said))
    port = int(site.said[0].split("http://127.0.0.1:")[1].split("/")[0])
    yield "127.0.0.1", port
    site.stop.set()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()


def ask(served: tuple[str, int], path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body."""
    connection = http.client.HTTPConnection(*served, timeout=PATIENCE_SECONDS)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def test_only_this_machines_own_names_are_answered(served: tuple[str, int]) -> None:
    """Another name that leads here is a page elsewhere that wants to read the site through its reader's browser."""
    for host in (f"127.0.0.1:{served[1]}", f"localhost:{served[1]}", "localhost", "LOCALHOST:80", "[::1]:8000"):
        assert ask(served, "/", Host=host)[0] == 200, host
    for host in (f"evil.example:{served[1]}", "localhost.evil.example", "127.0.0.1.evil.example", "", "127.0.0.1@evil"):
        status, _, body = ask(served, "/", Host=host)
        assert (status, body.startswith(b"first")) == (421, False), host


def test_pages_elsewhere_cannot_load_the_data_and_nothing_guesses_types(served: tuple[str, int]) -> None:
    _, headers, _ = ask(served, "/")
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert "Server" not in headers


def test_nothing_outside_the_folder_is_served(site: Site, served: tuple[str, int], tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "index.html").write_text("secret")
    (site.out / "folder").symlink_to(tmp_path / "secret")
    (site.out / "file.html").symlink_to(site.store)
    (site.out / "inner").mkdir()
    (site.out / "inner" / "index.html").symlink_to(site.store)
    (site.out / "ring").symlink_to(site.out / "ring")
    os.mkfifo(site.out / "pipe")
    ways = [
        "/folder/",
        "/folder",
        "/folder/index.html",
        "/file.html",
        "/inner/",
        "/ring",
        "/pipe",
        "/../store",
        "/%2e%2e/store",
    ]
    ways += [f"/{tmp_path}/store", f"//{tmp_path}/store", "/..%2fstore", "/%00", "/%ff", "/a%00b", f"/{'a' * 5000}"]
    for path in [*ways, "/absent", "/index.html/"]:
        assert ask(served, path)[0] == 404, path


def test_a_folder_is_its_page_and_other_methods_are_refused(site: Site, served: tuple[str, int]) -> None:
    (site.out / "compare ü").mkdir()
    (site.out / "compare ü" / "index.html").write_text("pairs")
    address = "/compare%20%C3%BC"
    status, headers, _ = ask(served, address)
    assert (status, headers["Location"]) == (301, f"{address}/")
    assert ask(served, f"//{address[1:]}")[1]["Location"] == f"{address}/", "on this server, not on one of that name"
    assert ask(served, f"{address}/?pair=1")[2] == b"pairs"
    assert ask(served, "/", "HEAD")[1]["Content-Length"] == "5"
    assert ask(served, "/", "POST")[0] == 405


def test_slow_and_broken_connections_cost_no_thread_and_nobody_waits_for_them(
    served: tuple[str, int], capfd: pytest.CaptureFixture[str]
) -> None:
    before = threading.active_count()
    slow = []
    for _ in range(300):
        slow.append(socket.create_connection(served))
        slow[-1].sendall(b"GET / HTTP/1.1\r\nHost: local")
    assert ask(served, "/")[0] == 200
    assert threading.active_count() <= before
    for connection in slow:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed by a reset
        connection.close()
    with ThreadPoolExecutor(50) as clients:
        assert set(clients.map(lambda _: ask(served, "/")[0], range(400))) == {200}
    assert ask(served, "/%00")[0] == 404
    assert capfd.readouterr().err == ""


def test_a_port_that_is_taken_is_named(site: Site, served: tuple[str, int]) -> None:
    with pytest.raises(UsageError, match=f"--port {served[1]}: .*in use.*; give another"):
        serve.serve(site.build, [site.store], site.out, served[1], site.said.append, site.stop)


def test_a_file_that_is_gone_is_a_change(tmp_path: Path) -> None:
    file = tmp_path / "store"
    absent = serve.state([file])
    file.write_text("")
    assert serve.state([file]) != absent
