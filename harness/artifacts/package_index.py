"""Distributions on the package index that pip is configured to use: fetched, verified, and read without installing.

    archive = fetch(Distribution("sdist", "vaderSentiment", "0.5", sha256), cache, "split test")
    data = member(archive.read_bytes(), "vaderSentiment-0.5/README.rst", archive.name, "members")

The index is read directly, so no code of a project runs. A file's digest is verified every time before it is opened;
its members are read in memory, within bounds.
"""

import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from harness.artifacts import digest
from harness.errors import DataError, FetchError

MAX_MEMBER_BYTES = 256 * 2**20
TIMEOUT_SECONDS = 60.0
_WORDS = {"sdist": "source distribution", "wheel": "wheel"}


@dataclass(frozen=True, slots=True)
class Distribution:
    """One release of a project, as one kind of file."""

    kind: Literal["sdist", "wheel"]
    project: str
    version: str
    sha256: str
    """Digest of the file as the index serves it."""


def fetch(wanted: Distribution, cache: Path, who: str) -> Path:
    """The cached file of a distribution, downloaded if necessary.

    Args:
        who: the declaration that names it, for messages.

    Raises:
        FetchError: no configured index served it.
        DataError: the file is not the one that the suite pins.
    """
    folder = cache / wanted.kind / wanted.sha256
    cached = sorted(folder.glob("*")) if folder.is_dir() else []
    if cached:
        _verify(cached[0], wanted, who, f"delete {cached[0]} if it was damaged here; otherwise do not use the file")
        return cached[0]
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as fresh:
        downloaded = _download(wanted, Path(fresh), who)
        _verify(downloaded, wanted, who, "do not use it, unless you know why it changed, and correct `sha256` then")
        folder.mkdir(parents=True, exist_ok=True)
        return downloaded.replace(folder / downloaded.name)


def pin(kind: Literal["sdist", "wheel"], project: str, version: str, cache: Path, who: str) -> str:
    """The digest of a distribution that nobody has pinned yet. It is downloaded, and kept for `fetch`.

    Raises:
        FetchError: no configured index served it.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as fresh:
        downloaded = _download(Distribution(kind, project, version, ""), Path(fresh), who)
        found = digest.of_file(downloaded)
        (cache / kind / found).mkdir(parents=True, exist_ok=True)
        downloaded.replace(cache / kind / found / downloaded.name)
    return found


def _verify(path: Path, wanted: Distribution, who: str, remedy: str) -> None:
    found = digest.of_file(path)
    if found != wanted.sha256:
        raise DataError(f"{who}: {path.name} has sha256 {found}, but the suite pins {wanted.sha256}; {remedy}")


def _download(wanted: Distribution, folder: Path, who: str) -> Path:
    import requests
    from pypi_simple import PyPISimple
    from pypi_simple.errors import NoSuchProjectError

    tried = []
    for index in configured_indexes():
        name = _without_credentials(index)
        if urlsplit(index).scheme not in ("http", "https"):
            tried.append(f"{name}: only http and https indexes are supported")
            continue
        try:
            with PyPISimple(index) as client:
                project = client.get_project_page(wanted.project, timeout=TIMEOUT_SECONDS)
                found = [
                    package
                    for package in project.packages
                    if package.package_type == wanted.kind and package.version == wanted.version
                ]
                if not found:
                    tried.append(f"{name}: serves no {_WORDS[wanted.kind]} of that version")
                    continue
                # The suite's own digest is checked afterwards, so that the message can name a wrong one.
                path = folder / Path(found[0].filename).name
                client.download_package(found[0], path, verify=False, timeout=TIMEOUT_SECONDS)
                return path
        except NoSuchProjectError:
            tried.append(f"{name}: does not know the project")
        except (requests.RequestException, OSError, ValueError) as problem:
            tried.append(f"{name}: {_cause(problem)}")
    raise FetchError(
        f"{who}: could not fetch the {_WORDS[wanted.kind]} {wanted.project}=={wanted.version}.\n"
        + "\n".join(f"  {line}" for line in tried)
        + "\nCheck the network and the index that pip uses (`pip config list`), then try again; "
        "files in the cache need no network."
    )


def configured_indexes() -> list[str]:
    """The addresses of pip's indexes, the main one first. The environment overrides configuration files.

    pip is asked, in a process, unless the environment names both kinds of index and so leaves nothing to its files.
    """
    from pypi_simple import PYPI_SIMPLE_ENDPOINT  # pip's own default

    main, others = os.environ.get("PIP_INDEX_URL"), os.environ.get("PIP_EXTRA_INDEX_URL")
    if main is not None and others is not None:
        return [main or PYPI_SIMPLE_ENDPOINT, *others.split()]
    command = [sys.executable, "-P", "-m", "pip", "config", "list"]  # -P: ignore a pip.py in this folder
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        return [PYPI_SIMPLE_ENDPOINT]
    found = dict(re.findall(r"^(\S+)='(.*)'$", listed.stdout, re.MULTILINE))

    def setting(name: str) -> str:
        return next((found[key] for key in (f":env:.{name}", f"install.{name}", f"global.{name}") if key in found), "")

    extra = setting("extra-index-url").replace("\\n", " ").split()
    return [setting("index-url") or PYPI_SIMPLE_ENDPOINT, *extra]


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _cause(problem: BaseException) -> str:
    """The innermost reason, without addresses, which may contain credentials."""
    while problem.__context__ is not None:
        problem = problem.__context__
    text = re.sub(r"https?://\S+", "…", str(problem))
    return f"{type(problem).__name__}: {text}"[:200]


def member(archive: bytes, name: str, where: str, key: str) -> bytes:
    """One file of a zip or tar archive, by its exact name.

    Args:
        where: name of the archive, for messages.
        key: key of the suite that names the file.

    Raises:
        DataError: there is no such file, it is too large, or the archive is damaged.
    """
    try:
        if zipfile.is_zipfile(io.BytesIO(archive)):
            with zipfile.ZipFile(io.BytesIO(archive)) as opened:
                size = opened.getinfo(name).file_size
                with opened.open(name) as file:
                    return _bounded(file.read(MAX_MEMBER_BYTES + 1), size, f"{where}/{name}")
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:  # read once, from its beginning to the file
            for info in tar:
                if info.name == name:
                    extracted = tar.extractfile(info) if info.isfile() else None
                    if extracted is None:
                        raise DataError(f"{where}: {name} is not a regular file")
                    return _bounded(extracted.read(MAX_MEMBER_BYTES + 1), info.size, f"{where}/{name}")
        raise KeyError(name)
    except KeyError:
        raise DataError(f"{where}: has no file {name}; correct `{key}`") from None
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, RuntimeError) as problem:
        raise DataError(f"{where}: is not a readable archive ({problem})") from None


def _bounded(data: bytes, declared: int, where: str) -> bytes:
    if max(declared, len(data)) > MAX_MEMBER_BYTES:
        raise DataError(f"{where}: is larger than {MAX_MEMBER_BYTES // 2**20} MiB unpacked and was refused")
    return data
