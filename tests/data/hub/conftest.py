"""A hub on the loopback interface, in whose protocol the real `datasets` and `huggingface_hub` are answered."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

REVISION = r"(?P<revision>[^/]+)"
NAME = r"(?P<name>[^/]+/[^/]+)"
INFO = re.compile(rf"/api/(?P<kind>datasets|models)/{NAME}(/revision/{REVISION})?$")
TREE = re.compile(rf"/api/(?P<kind>datasets|models)/{NAME}/tree/{REVISION}(/(?P<path>.*))?$")
PATHS_INFO = re.compile(rf"/api/(?P<kind>datasets|models)/{NAME}/paths-info/{REVISION}$")
RESOLVE = re.compile(rf"/(?P<kind>datasets/)?{NAME}/resolve/{REVISION}/(?P<path>.+)$")
LARGE = (".parquet", ".safetensors", ".gz")


@dataclass
class Repo:
    """A repository and how it misbehaves."""

    commits: dict[str, dict[str, bytes]]
    """Files by commit; the last commit is the main branch."""
    refusal: tuple[int, str] | None = None
    """Status and error code of every answer."""
    busy: list[dict[str, str]] = field(default_factory=list)
    """Headers of the next answers, each a 429, before the first that is served."""
    busy_files: list[dict[str, str]] = field(default_factory=list)
    """The same for answers about files."""
    cut_at: int | None = None
    """Bytes of a large file after which the connection ends."""
    cuts: int = 0
    """How often that happens."""
    falsified: bool = False
    """Whether large files come with another last byte than the listing's digest is of."""
    hangs: bool = False
    """Whether it never answers."""

    def revision(self, name: str) -> str | None:
        """The commit that a name means."""
        commit = list(self.commits)[-1] if name == "main" else name
        return commit if commit in self.commits else None


@dataclass
class Request:
    """What was asked, and how many bytes of a body were sent."""

    method: str
    path: str
    status: int = 0
    sent: int = 0
    token: str | None = None


class Hub:
    """Repositories by `datasets/owner/name` or `models/owner/name`, served until closed."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"hub": self}))
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.store_url = f"http://localhost:{self.server.server_port}"  # large files come from another host

    def close(self) -> None:
        """Stop answering: from now on connections are refused."""
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()

    def serve(self, name: str, commits: dict[str, dict[str, bytes]], **behaviour: Any) -> None:
        """Serve a repository from now on."""
        self.repos[name] = Repo(commits, **behaviour)

    def asked(self, name: str) -> list[Request]:
        """The requests about one repository."""
        return [request for request in self.requests if f"/{name}/" in f"{request.path}/"]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    hub: Hub
    protocol_version = "HTTP/1.1"
    request_: Request

    def log_message(self, format: str, *args: object) -> None:
        """Requests are kept, not printed."""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def answer(self) -> None:
        """Find the repository, misbehave as it says, or serve what is asked for."""
        path = unquote(urlsplit(self.path).path)
        self.request_ = Request(self.command, path, token=self.headers.get("Authorization"))
        self.hub.requests.append(self.request_)
        if path.startswith("/cdn/"):
            return self.send_large(*path.removeprefix("/cdn/").rsplit("/", 1))
        found = INFO.match(path) or TREE.match(path) or PATHS_INFO.match(path) or RESOLVE.match(path)
        if found is None:
            return self.refuse(404, "")
        kind = (found["kind"] or "models").strip("/")
        repo = self.hub.repos.get(f"{kind}/{found['name']}")
        if repo is None:
            return self.refuse(404 if self.headers.get("Authorization") else 401, "RepoNotFound")
        if repo.hangs:
            self.hub.closing.wait(30)
            self.close_connection = True
            return None
        if repo.busy:
            return self.send(429, b"", repo.busy.pop(0))
        if repo.busy_files and found.re is RESOLVE:
            return self.send(429, b"", repo.busy_files.pop(0))
        if repo.refusal:
            return self.refuse(*repo.refusal)
        commit = repo.revision(found.groupdict().get("revision") or "main")
        if commit is None:
            return self.refuse(404, "RevisionNotFound")
        files = repo.commits[commit]
        if found.re is INFO:
            siblings = [described(name, data) for name, data in files.items()]
            return self.send_json({"id": found["name"], "sha": commit, "siblings": siblings})
        if found.re is TREE:
            return self.send_json(tree(files, found["path"] or "", "recursive=True" in self.path))
        if found.re is PATHS_INFO:
            body = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            entries = tree(files, "", True)
            return self.send_json([entry for entry in entries if entry["path"] in body["paths"]])
        return self.resolve(f"{kind}/{found['name']}", commit, files, found["path"])

    def resolve(self, repo: str, commit: str, files: dict[str, bytes], path: str) -> None:
        """A small file itself; a large one as a redirect to the content store, as the hub does."""
        if path not in files:
            return self.refuse(404, "EntryNotFound", {"X-Repo-Commit": commit})
        data, stated = files[path], described(path, files[path])
        headers = {"X-Repo-Commit": commit, "ETag": f'"{stated["blobId"]}"'}
        if "lfs" not in stated:
            return self.send(200, data, headers)
        sha256 = stated["lfs"]["sha256"]
        linked = {"X-Linked-Size": str(len(data)), "X-Linked-ETag": f'"{sha256}"'}
        return self.send(302, b"", {**headers, **linked, "Location": f"{self.hub.store_url}/cdn/{repo}/{sha256}"})

    def send_large(self, repo_name: str, sha256: str) -> None:
        """A large file or a range of it, possibly cut or falsified."""
        repo = self.hub.repos[repo_name]
        contents = [data for files in repo.commits.values() for data in files.values()]
        data = next(one for one in contents if hashlib.sha256(one).hexdigest() == sha256)
        if repo.falsified:
            data = data[:-1] + bytes([data[-1] ^ 1])
        start, stop, status = 0, len(data), 200
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, stop, status = int(wanted[1]), min(int(wanted[2] or len(data) - 1) + 1, len(data)), 206
        headers = {"ETag": f'"{sha256}"', "Accept-Ranges": "bytes"}
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
        cut = repo.cut_at if repo.cuts > 0 and self.command == "GET" else None
        if cut is not None:
            repo.cuts -= 1
        self.send(status, data[start:stop], headers, cut=None if cut is None else max(cut - start, 0))

    def refuse(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        """An error as the hub puts it."""
        self.send(status, b"", {"X-Error-Code": code, "X-Error-Message": "as the test wants it", **(headers or {})})

    def send_json(self, value: Any) -> None:
        """An answer of the API."""
        self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def send(self, status: int, body: bytes, headers: dict[str, str], *, cut: int | None = None) -> None:
        """A whole answer, or one that ends after `cut` bytes of its body."""
        self.request_.status = status
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        try:
            for at in range(0, len(body[:cut]), 2**16):
                self.wfile.write(body[:cut][at : at + 2**16])
                self.request_.sent += len(body[:cut][at : at + 2**16])
        except OSError:
            self.close_connection = True  # the reader has what it wanted
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True


def described(name: str, data: bytes) -> dict[str, Any]:
    """A file as the API describes it."""
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    file: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": blob}
    if name.endswith(LARGE):
        file["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return file


def tree(files: dict[str, bytes], under: str, recursive: bool) -> list[dict[str, Any]]:
    """Files and folders below a folder, as the API lists them."""
    prefix = f"{under}/" if under else ""
    entries: dict[str, dict[str, Any]] = {}
    for name, data in files.items():
        if not name.startswith(prefix):
            continue
        parts = name.removeprefix(prefix).split("/")
        for depth in range(1, len(parts)):
            folder = prefix + "/".join(parts[:depth])
            if depth == 1 or recursive:
                entries[folder] = {"type": "directory", "oid": "0" * 40, "size": 0, "path": folder}
        if len(parts) == 1 or recursive:
            file = described(name, data)
            entries[name] = {"type": "file", "oid": file["blobId"], "size": len(data), "path": name}
            if "lfs" in file:
                entries[name]["lfs"] = {"oid": file["lfs"]["sha256"], "size": len(data), "pointerSize": 134}
    return list(entries.values())


@pytest.fixture(scope="module")
def loopback() -> Iterator[Hub]:
    """A hub without repositories."""
    hub = Hub()
    yield hub
    hub.close()
