"""Files of a Hugging Face hub repository at one commit: listed, fetched, and checked against the hub's digests.

    repo = Repo("dataset", "owner/name", commit, cache / "hub")
    folder = fetch(repo, ["README.md"], "split test")       # files in the cache need no network

`huggingface_hub` compares sizes, not digests, sends some requests without a timeout and waits as long as a server
asks it to. Here digests are verified, and every wait is limited.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from harness.artifacts import atomic, digest
from harness.errors import DataError, FetchError

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")

ENVIRONMENT = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",  # otherwise `datasets` reports to another server which dataset is loaded
    "HF_HUB_DISABLE_XET": "1",  # only plain HTTP is bounded and tested; HF_HUB_DISABLE_XET=0 enables Xet again
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "error",  # its warnings contain signed addresses, which are valid for an hour
    "DATASETS_VERBOSITY": "critical",  # everything it logs, it also raises
}
"""Defaults of the environment variables that the libraries read on import."""

PATIENCE_SECONDS = 60
"""The longest pause granted to a busy server; if it asks for more, the command ends."""

WAITS_SECONDS = (1, 2, 4)
"""Pauses before the first request to a repository is retried."""

BUSY = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Repo:
    """A repository at one commit, and the folder in which its files are cached."""

    kind: Literal["dataset", "model"]
    name: str
    """Owner/name."""
    commit: str
    """40 hex digits."""
    cache: Path

    @property
    def label(self) -> str:
        """The repository and commit, for messages."""
        return f"{self.kind} {self.name} at commit {self.commit[:12]}"

    def kept(self, what: str, suffix: str = "") -> Path:
        """Cache path for information about this commit."""
        return self.cache / what / f"{self.kind}s--{self.name.replace('/', '--')}" / f"{self.commit}{suffix}"


@dataclass(frozen=True, slots=True)
class Stated:
    """The hub's digest of a file."""

    algorithm: Literal["sha256", "git"]
    """`git` is SHA-1 over git's blob header and the bytes, which the hub states for small files."""
    digest: str


@cache
def library() -> ModuleType:
    """`huggingface_hub`, configured to be quiet and to use timeouts."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import huggingface_hub

    huggingface_hub.set_client_factory(_bounded_client)
    return huggingface_hub


def newest_commit(kind: Literal["dataset", "model"], name: str, who: str) -> str:
    """The current commit of the repository's main branch.

    Args:
        kind: of repository.
        name: owner/name.
        who: the part of the suite that needs it, for messages.

    Raises:
        FetchError: the hub gives no answer.
    """
    with explained(who, f"{kind} {name}"):
        return str(_described(kind, name, None).sha)


def listing(repo: Repo, who: str) -> Mapping[str, Stated]:
    """Every file of the repository by path, with its digest. The answer is cached.

    Raises:
        FetchError: the hub gives no answer.
    """
    path = repo.kept("listings", ".json")
    try:
        return {name: Stated(**stated) for name, stated in json.loads(path.read_bytes()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        pass  # absent or damaged: either way the hub has it
    with explained(who, repo.label):
        siblings = _described(repo.kind, repo.name, repo.commit).siblings or []
    files = {
        file.rfilename: Stated("sha256", file.lfs.sha256) if file.lfs else Stated("git", file.blob_id)
        for file in siblings
    }
    keep(path, json.dumps({name: asdict(stated) for name, stated in files.items()}).encode())
    return files


def fetch(repo: Repo, names: Sequence[str], who: str) -> Path:
    """Download files and return their folder. Each file's digest is checked against the hub's listing.

    Args:
        repo: the repository to fetch from.
        names: paths in the repository, all of them in its listing.
        who: the part of the suite that needs them, for messages.

    Raises:
        FetchError: a file could not be downloaded.
        DataError: a file's digest is not the one that the hub states; the file is removed.
    """
    stated = listing(repo, who)
    folder = repo.cache
    for name in names:
        with explained(who, f"{repo.label}, file {name}"):
            path = Path(
                library().hf_hub_download(
                    repo.name, name, repo_type=repo.kind, revision=repo.commit, cache_dir=repo.cache / "files"
                )
            )
        folder = path.parents[len(PurePosixPath(name).parts) - 1]
        found = _digest(path, stated[name].algorithm)
        if found != stated[name].digest:
            path.resolve().unlink()
            path.unlink(missing_ok=True)
            raise DataError(
                f"{who}: {repo.label}: {name} has the {stated[name].algorithm} digest {found}, but the hub states "
                f"{stated[name].digest}; it was damaged in transit or in the cache and has been removed: try again"
            )
    return folder


def keep(path: Path, data: bytes) -> None:
    """Write a file of the cache atomically."""
    atomic.write(path, data)


def _digest(path: Path, algorithm: str) -> str:
    if algorithm == "sha256":
        return digest.of_file(path)
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _described(kind: str, name: str, revision: str | None) -> Any:
    """The hub's description of a repository with its files. It is the first request, so most problems show here."""
    api = library().HfApi()
    timeout = library().constants.HF_HUB_ETAG_TIMEOUT
    return _patiently(
        lambda: api.repo_info(name, repo_type=kind, revision=revision, files_metadata=True, timeout=timeout)
    )


def _patiently(ask: Callable[[], T]) -> T:
    """Retry while the server is busy, after the pause that it asks for; `HfApi` itself does not retry."""
    for pause in WAITS_SECONDS:
        try:
            return ask()
        except library().errors.HfHubHTTPError as problem:
            if problem.response.status_code not in BUSY:
                raise
            asked = asked_seconds(problem.response.headers)
            time.sleep(pause if asked is None else asked)
    return ask()


class _TooBusyError(OSError):
    """A server asks for a longer pause than `PATIENCE_SECONDS`."""


def _bounded_client() -> "httpx2.Client":
    """A client for the hub, with limits on every wait; redirects lead to the servers that hold the files."""
    import httpx2

    hooks: dict[str, list[Callable[..., Any]]] = {
        "request": [_refuse_offline, _bound],
        "response": [_refuse_long_pause],
    }
    return httpx2.Client(event_hooks=hooks, follow_redirects=True, timeout=None)


def _refuse_offline(request: "httpx2.Request") -> None:
    """Keep HF_HUB_OFFLINE, as the library's own client does."""
    if library().is_offline_mode():
        raise library().errors.OfflineModeIsEnabled(f"{request.url.host} is not asked: HF_HUB_OFFLINE is set")


def _bound(request: "httpx2.Request") -> None:
    """Give a request without a timeout the one that downloads have."""
    limit = max(library().constants.HF_HUB_DOWNLOAD_TIMEOUT, library().constants.HF_HUB_ETAG_TIMEOUT)
    phases = {"connect": None, "read": None, "write": None, "pool": None} | request.extensions.get("timeout", {})
    request.extensions["timeout"] = {phase: min(seconds or limit, limit) for phase, seconds in phases.items()}


def _refuse_long_pause(response: "httpx2.Response") -> None:
    asked = asked_seconds(response.headers) if response.status_code in BUSY else None
    if asked is not None and asked > PATIENCE_SECONDS:
        raise _TooBusyError(f"it is busy ({response.status_code}) and asks to wait {asked} seconds")


def asked_seconds(headers: Mapping[str, str]) -> int | None:
    """Seconds a busy server asks to wait, from `Retry-After` or `RateLimit`; None where it states none."""
    if (asked := headers.get("retry-after", "")).strip().isdigit():
        return int(asked)
    limited = re.search(r"r=0\s*;\s*t=(\d+)", headers.get("ratelimit", ""))
    return int(limited[1]) if limited else None


@contextmanager
def explained(who: str, what: str) -> Iterator[None]:
    """Turn errors of the hub's libraries and of the network into a `FetchError` that names the remedy.

    Args:
        who: the part of the suite that needs it.
        what: the repository or file.
    """
    import httpx2

    try:
        yield
    except (httpx2.HTTPError, OSError) as problem:
        raise FetchError(without_secrets(f"{who}: {what}: {_reason(problem)}")) from None


def _reason(problem: BaseException) -> str:
    """The fault and the remedy, from the most specific of an error and its causes."""
    import httpx2

    errors = library().errors
    chain = list(_causes(problem))

    def first(*kinds: type[BaseException]) -> Any:
        return next((one for one in chain if isinstance(one, kinds)), None)

    if found := first(_TooBusyError):
        return f"{found}; try again after that. With HF_TOKEN set, the hub allows more requests"
    if first(errors.GatedRepoError):
        return "is gated: accept its terms on its page at the hub, then set HF_TOKEN to a token of that account"
    if first(errors.RevisionNotFoundError):
        return "the hub has no such commit; look up its commits on its page and correct `revision`"
    if first(errors.RepositoryNotFoundError):
        return "does not exist on the hub, or is private: check the name, or set HF_TOKEN to a token that may read it"
    if found := first(errors.HfHubHTTPError):
        return _refusal(found.response.status_code)
    if first(errors.OfflineModeIsEnabled):
        return "is not in the cache, and HF_HUB_OFFLINE is set; unset it and run once with network access"
    again = "check the network and HF_ENDPOINT, then try again; files in the cache need no network"
    if first(httpx2.TimeoutException):
        return f"the hub did not answer in time (HF_HUB_DOWNLOAD_TIMEOUT, HF_HUB_ETAG_TIMEOUT); {again}"
    if found := first(httpx2.ConnectError):
        return f"the hub cannot be reached ({found}); {again}"
    if found := first(httpx2.TransportError):
        return f"the connection broke ({found}); {again}"
    return f"{type(chain[-1]).__name__}: {chain[-1]}"


def _refusal(status: int) -> str:
    if status in (401, 403):
        return f"the hub refuses access ({status}): check that HF_TOKEN is valid and may read it"
    if status == 429:
        return "the hub is still busy (429); try again later. With HF_TOKEN set, it allows more requests"
    return f"the hub answers {status}; try again later"


def _causes(problem: BaseException | None) -> Iterator[BaseException]:
    """An error and its causes, the innermost last."""
    while problem is not None:
        yield problem
        problem = problem.__cause__ or problem.__context__


def without_secrets(text: str) -> str:
    """A message without the user's token and without credentials in addresses."""
    token = library().get_token()
    text = text.replace(token, "…") if token else text
    return re.sub(r"(\w+://)[^/\s@]+@", r"\1", text)
