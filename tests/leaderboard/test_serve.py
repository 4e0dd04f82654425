"""`--serve`: pages over the loopback interface, made anew when what they are from has changed."""

import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.errors import StoreError
from leaderboard import serve

PATIENCE_SECONDS = 30.0


class Site:
    """A folder that is built from one file, and what was said meanwhile."""

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


def test_a_file_that_is_gone_is_a_change(tmp_path: Path) -> None:
    file = tmp_path / "store"
    absent = serve.state([file])
    file.write_text("")
    assert serve.state([file]) != absent
