"""Boards → pages → a folder. `render` is pure: no clock, no randomness, no query; only `write` touches the disk."""

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path, PurePosixPath

import jinja2

from harness.errors import UsageError
from harness.stats import RESAMPLES
from leaderboard import links
from leaderboard.board import ALPHA, Board
from leaderboard.index_page import suite_rows
from leaderboard.model_page import model_rows

MANIFEST = ".manifest.json"
"""Beside the pages: which files an earlier call made, and so may be changed or removed."""


def render(boards: Sequence[Board]) -> dict[str, str]:
    """The whole site as text by relative path.

    Raises:
        UsageError: two suites have the same name, or one has a name that the site needs itself.
    """
    _check_names([board.suite.name for board in boards])
    environment = _environment()
    suites = [suite_rows(board) for board in boards]
    files = {
        links.STYLE: resources.files("leaderboard").joinpath(links.STYLE).read_text(encoding="utf-8"),
        links.INDEX: environment.get_template("index.html").render(suites=suites, root=""),
    }
    template = environment.get_template("model.html")
    for board in boards:
        for model in board.suite.model:
            page = template.render(page=model_rows(board, model), root="../")
            files[links.model_file(board.suite.name, model.id)] = page
    return files


def write(files: Mapping[str, str], out: Path) -> int:
    """Bring a folder to what was rendered. Files that no earlier call made are neither changed nor removed.

    Args:
        files: text by relative path, as from `render`.
        out: the site's folder; made where it is absent.

    Returns:
        How many files were written or removed.

    Raises:
        UsageError: a path leaves the folder, or a file in the way was not made here. Nothing is written then.
    """
    earlier = _manifest(out)
    targets = {_inside(out, name): text.encode() for name, text in files.items()}
    changed = {path: data for path, data in targets.items() if not path.is_file() or path.read_bytes() != data}
    owned = {_inside(out, name) for name in earlier}
    for path in changed:
        if path.exists() and path not in owned:
            raise UsageError(
                f"{path}: is in the way and was not made by `harness site`; move it, or give another --out"
            )
    # Both old and new names until the end: after an interruption every file that was made here is still known as such.
    _write_manifest(out, earlier | set(files))
    for path, data in changed.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    removed = [path for path in owned - set(targets) if path.is_file()]
    for path in removed:
        _remove(path, out)
    _write_manifest(out, set(files))
    return len(changed) + len(removed)


def _check_names(names: Sequence[str]) -> None:
    for position, name in enumerate(names):
        if name in names[:position]:
            raise UsageError(f"suite {name!r}: is given twice; suites of one site need different names")
        if name in (links.INDEX, PurePosixPath(links.STYLE).parts[0]):
            raise UsageError(f"suite {name!r}: the site needs this name itself; give the suite another one")


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("leaderboard"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["resamples"] = f"{RESAMPLES:,}"
    environment.globals["alpha"] = ALPHA
    environment.globals["alpha_percent"] = f"{100 * ALPHA:g} %"
    return environment


def _inside(out: Path, name: str) -> Path:
    """The file of a relative path, which must stay in the folder even through symbolic links."""
    path = PurePosixPath(name)
    plain = (
        name and not path.is_absolute() and ".." not in path.parts and "\\" not in name and path.parts != (MANIFEST,)
    )
    target = out / path
    if not plain or not target.resolve().is_relative_to(out.resolve()):
        raise UsageError(f"{name!r}: is not a path inside {out}; nothing was written")
    return target


def _manifest(out: Path) -> set[str]:
    """Names of files that earlier calls made; none where there is no manifest or it is not one."""
    try:
        listed = json.loads((out / MANIFEST).read_bytes())["files"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return set()
    return {name for name in listed if isinstance(name, str)} if isinstance(listed, list) else set()


def _write_manifest(out: Path, names: set[str]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    data = (json.dumps({"files": sorted(names)}, indent=2) + "\n").encode()
    path = out / MANIFEST
    if not path.is_file() or path.read_bytes() != data:
        path.write_bytes(data)


def _remove(path: Path, out: Path) -> None:
    """A file, and the folders that it leaves empty."""
    path.unlink()
    folder = path.parent
    while folder != out and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
