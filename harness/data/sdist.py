"""Rows of a file in a source distribution from the package index that pip is configured to use.

The index is read directly, so the project's setup.py never runs. The archive's digest is verified every time before the
archive is opened; its members are read in memory, within bounds, and nothing is unpacked to disk.
"""

import io
import math
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import numpy as np

from harness.artifacts import digest
from harness.data.source import Listed, Places, Row, Rows
from harness.errors import DataError, FetchError
from harness.suite.schema import ClusterShare, SdistSplit

MAX_MEMBER_BYTES = 256 * 2**20
TIMEOUT_SECONDS = 60.0


def rows(rule: SdistSplit, places: Places) -> Rows:
    """The rule's rows. Repeated texts are dropped before clusters are divided, so that no text is on both sides."""
    unique: dict[tuple[str, str], Row] = {}
    for row in read(rule, places.cache):
        unique.setdefault((row.title, row.content), row)
    kept = list(unique.values())
    return Listed(_of_clusters(kept, rule.cluster_share) if rule.cluster_share is not None else kept)


def _of_clusters(rows: Sequence[Row], share: ClusterShare) -> list[Row]:
    clusters = sorted({row.cluster for row in rows if row.cluster is not None})
    order = np.random.default_rng(share.seed).permutation(len(clusters))
    start, stop = round(share.start * len(clusters)), round(share.stop * len(clusters))
    wanted = {clusters[i] for i in order[start:stop]}
    return [row for row in rows if row.cluster in wanted]


def read(rule: SdistSplit, cache_dir: Path) -> list[Row]:
    """All rows of the rule's file whose raters agreed on a sign, in file order."""
    archive = fetch(rule, cache_dir)
    where = f"split {rule.id}: {archive.name}"
    data = archive.read_bytes()
    for member in rule.members:
        data = _member(data, member, where)
        where = f"{where}/{member}"
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise DataError(f"{where}: is not UTF-8 (byte {problem.start}); choose another file") from None
    return _rows(rule, text, where)


def fetch(rule: SdistSplit, cache_dir: Path) -> Path:
    """The cached source distribution, downloaded if necessary.

    Raises:
        FetchError: no configured index served it.
        DataError: the file is not the one that the suite pins.
    """
    folder = cache_dir / "sdist" / rule.sha256
    cached = sorted(folder.glob("*")) if folder.is_dir() else []
    if cached:
        _verify(cached[0], rule)
        return cached[0]
    cache_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_dir) as fresh:
        downloaded = _download(rule, Path(fresh))
        _verify(downloaded, rule)
        folder.mkdir(parents=True, exist_ok=True)
        return downloaded.replace(folder / downloaded.name)


def _verify(path: Path, rule: SdistSplit) -> None:
    found = digest.of_file(path)
    if found != rule.sha256:
        raise DataError(
            f"split {rule.id}: {path.name} has sha256 {found}, but the suite pins {rule.sha256}; "
            f"delete {path.parent} if it was damaged here; otherwise do not use the file"
        )


def _download(rule: SdistSplit, folder: Path) -> Path:
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
                project = client.get_project_page(rule.project, timeout=TIMEOUT_SECONDS)
                found = [
                    package
                    for package in project.packages
                    if package.package_type == "sdist" and package.version == rule.version
                ]
                if not found:
                    tried.append(f"{name}: serves no source distribution of that version")
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
        f"split {rule.id}: could not fetch the source distribution {rule.project}=={rule.version}.\n"
        + "\n".join(f"  {line}" for line in tried)
        + "\nCheck the network and the index that pip uses (`pip config list`), then try again; "
        "files in the cache need no network."
    )


def configured_indexes() -> list[str]:
    """The addresses of pip's indexes, the main one first. The environment overrides configuration files."""
    from pypi_simple import PYPI_SIMPLE_ENDPOINT  # pip's own default

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


def _member(archive: bytes, name: str, where: str) -> bytes:
    """One file of a zip or tar archive, by its exact name."""
    try:
        if zipfile.is_zipfile(io.BytesIO(archive)):
            with zipfile.ZipFile(io.BytesIO(archive)) as opened:
                size = opened.getinfo(name).file_size
                with opened.open(name) as file:
                    return _bounded(file.read(MAX_MEMBER_BYTES + 1), size, f"{where}/{name}")
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            info = tar.getmember(name)
            extracted = tar.extractfile(info) if info.isfile() else None
            if extracted is None:
                raise DataError(f"{where}: {name} is not a regular file")
            return _bounded(extracted.read(MAX_MEMBER_BYTES + 1), info.size, f"{where}/{name}")
    except KeyError:
        raise DataError(f"{where}: has no file {name}; correct `members`") from None
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, RuntimeError) as problem:
        raise DataError(f"{where}: is not a readable archive ({problem})") from None


def _bounded(data: bytes, declared: int, where: str) -> bytes:
    if max(declared, len(data)) > MAX_MEMBER_BYTES:
        raise DataError(f"{where}: is larger than {MAX_MEMBER_BYTES // 2**20} MiB unpacked and was refused")
    return data


def _rows(rule: SdistSplit, text: str, where: str) -> list[Row]:
    rows = []
    # Not splitlines(): it would also split at rarer separators that occur in texts.
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        if not line:
            continue
        cells = line.split("\t")
        if len(cells) != len(rule.columns):
            raise DataError(
                f"{where}: line {number}: {len(cells)} columns, expected {len(rule.columns)}; correct `columns`"
            )
        named = dict(zip(rule.columns, cells, strict=True))
        try:
            rating = float(named[rule.rating])
        except ValueError:
            raise DataError(f"{where}: line {number}: rating {named[rule.rating]!r} is not a number") from None
        if not math.isfinite(rating):
            raise DataError(f"{where}: line {number}: rating {named[rule.rating]!r} is not a number")
        if "\0" in line:
            raise DataError(f"{where}: line {number}: contains a NUL byte")
        content = named["content"].strip()
        if not content or rating == 0 or abs(rating) < rule.min_abs_rating:
            continue
        cluster = named[rule.cluster].partition("_")[0] if rule.cluster else None
        columns = {name: named[name] for name in rule.slice_columns}
        rows.append(Row(named.get("title", "").strip(), content, int(rating > 0), cluster, columns))
    return rows
