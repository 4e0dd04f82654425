"""The leaderboard as a static site: rendered, and checked against the store."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api import boards
from harness.api.project import Project
from harness.errors import UsageError

if TYPE_CHECKING:
    from leaderboard.site.check import Checked


@dataclass(frozen=True, slots=True)
class Site:
    """A rendered leaderboard."""

    folder: Path
    files: tuple[str, ...]
    """Relative paths, sorted."""
    changed: int
    """Files that were written or removed by this call."""
    warnings: tuple[str, ...]
    """Verdicts in the store that these runs do not give."""


def render(
    project: Project | Sequence[Project], folder: str | os.PathLike[str] = "site", *, url: str | None = None
) -> Site:
    """Render the leaderboard of one or more projects as a static site; one that stands as it would be is left alone.

    Args:
        project: or several, whose suites' names differ.
        folder: where the site is written; made where it is absent.
        url: where it will be published, so that its pages can name the picture that others show beside a link to them.

    Raises:
        UsageError: the url is no address of a website; something that `render` did not make is in the way.
        StoreError: there is no store, or something in it is not what was stored.
    """
    from leaderboard.site import unchanged

    _check_url(url)
    projects = [project] if isinstance(project, Project) else project
    out, read = Path(folder), boards.read(projects)
    kept = projects[0].workspace.cache
    inputs = unchanged.made_from(read.boards, read.examples, url)
    if (names := unchanged.standing(kept, inputs, out)) is not None:
        return Site(out, names, 0, read.warnings)
    from leaderboard.site import render as rendering  # draws plots: a second of imports

    files = rendering.render(read.boards, read.examples, url)
    changed = rendering.write(files, out)
    unchanged.keep(kept, inputs, out, files)
    return Site(out, tuple(sorted(files)), changed, read.warnings)


def _check_url(url: str | None) -> None:
    from urllib.parse import urlsplit

    parts = urlsplit(url or "")
    if url is not None and (
        parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment
    ):
        raise UsageError(f"{url!r}: is no address of a website; give one such as https://example.org/board")


def check_site(
    project: Project | Sequence[Project], folder: str | os.PathLike[str] = "site", *, url: str | None = None
) -> "Checked":
    """Recompute every number that a rendered site shows from the store, and compare its files with a new rendering.

    Args:
        project, folder, url: as it was rendered.

    Raises:
        UsageError: the folder is not there, or the projects have different stores.
        StoreError: there is no store, or something in it is not what was stored.
    """
    from harness.store import sql_metrics
    from harness.store.connection import opened
    from leaderboard.site import check
    from leaderboard.site import render as rendering

    projects = [project] if isinstance(project, Project) else project
    out = Path(folder)
    if not out.is_dir():
        raise UsageError(f"{out}: there is no site to check; render it first, without --check")
    if len({one.db for one in projects}) > 1:
        raise UsageError("a site is checked against one store; these projects have several")
    read = boards.read(projects)
    with opened(projects[0].db, read_only=True) as connection:
        known = sql_metrics.metrics_of(connection, check.run_ids(read.boards))
    return check.check(rendering.render(read.boards, read.examples, url), read.boards, out, known)
