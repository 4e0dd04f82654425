"""Boards → pages → a folder. `render` is pure: no clock, no randomness, no query; only `write` touches the disk."""

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path, PurePosixPath
from types import MappingProxyType

import jinja2

from harness.artifacts import atomic
from harness.errors import UsageError
from harness.output.visible import visible
from harness.stats.inference import ALPHA, RESAMPLES
from leaderboard.board import examples as board_examples
from leaderboard.board.examples import Examples
from leaderboard.board.pairs import chosen_pairs
from leaderboard.board.records import Board
from leaderboard.pages import badges, links
from leaderboard.pages.board_table import choices
from leaderboard.pages.compare import compare_rows
from leaderboard.pages.examples import examples_rows
from leaderboard.pages.index import suite_rows
from leaderboard.pages.model import model_rows
from leaderboard.pages.overview import suite_summary
from leaderboard.pages.share import Share, share
from leaderboard.plots.svg import png
from leaderboard.site import data_files, downloads
from leaderboard.site.unchanged import MANIFEST as MANIFEST

NO_EXAMPLES: Mapping[str, Examples] = MappingProxyType({})
TOOL_FILES = ("static/tool.css", "static/stats.js", "static/data.js", "static/compare.js", "static/examples.js")


def render(
    boards: Sequence[Board], examples: Mapping[str, Examples] = NO_EXAMPLES, url: str | None = None
) -> dict[str, str | bytes]:
    """The whole site by relative path: text, except for Parquet files, which are bytes.

    The board of a single suite is the index page. Several suites have one in each one's folder, and an index of all.

    Args:
        boards: one per suite.
        examples: by suite name; a suite without them has no compare page and no example browser.
        url: where the site will be; without it, pages name no picture for links to them, since that needs an address.

    Raises:
        UsageError: two suites have the same name, one has a name that the site reserves, or a model that of a page.
    """
    _check_names(boards)
    environment = _environment()
    pictures = {board.suite.name: share(board) for board in boards}
    environment.globals["share_of"] = lambda suite: _shared(pictures.get(suite), url)
    tools = {
        board.suite.name
        for board in boards
        if board_examples.shown_sections(board, examples.get(board.suite.name, {}))
    }  # fmt: skip
    static = {name: _static(name) for name in (links.STYLE, links.SCRIPT, links.ICON, links.THEME, links.DRAWER)}
    index, template = environment.get_template("index.html"), environment.get_template("model.html")
    files: dict[str, str | bytes] = {**static}
    if len(boards) != 1:
        overview = environment.get_template("overview.html")
        files[links.INDEX] = _page(overview, suites=[suite_summary(board) for board in boards], root="")
    for board in boards:
        place = _board_file(board, boards)
        rows = suite_rows(board, examples.get(board.suite.name, {}))
        root = "../" * place.count("/")
        files[place] = _page(index, suite=rows, choices=choices([board]), tools=tools, root=root)
        files |= downloads.files(board) | _badges(environment, board)
        if (picture := pictures[board.suite.name]) is not None:
            files[picture.file] = png(_page(environment.get_template("card.svg"), card=picture))
        suite_digest = board.suite.digest
        for model in board.suite.model:
            page = model_rows(board, model, suite_digest, examples.get(board.suite.name, {}), place)
            files[links.model_file(board.suite.name, model.id)] = _page(
                template, page=page, tools=tools, root="../", board_href=links.href(place)
            )
        if board.suite.name in tools:
            files |= _tools(environment, board, examples[board.suite.name], place)
    return files


def _shared(picture: Share | None, url: str | None) -> tuple[str, str] | None:
    """Absolute address of a suite's picture, and the words that stand for it; None where either is missing."""
    return None if picture is None or url is None else (f"{url.rstrip('/')}/{links.href(picture.file)}", picture.alt)


def _board_file(board: Board, boards: Sequence[Board]) -> str:
    return links.INDEX if len(boards) == 1 else links.board_file(board.suite.name)


def _badges(environment: jinja2.Environment, board: Board) -> dict[str, str]:
    """Every badge of a suite, as a picture and as the JSON of an endpoint."""
    template = environment.get_template("badge.svg")
    made: dict[str, str] = {}
    for one in badges.badges(board):
        made[f"{one.file}.svg"] = _page(template, badge=one, pad=badges.PADDING_PX)
        made[f"{one.file}.json"] = visible(one.endpoint) + "\n"
    return made


def _tools(environment: jinja2.Environment, board: Board, examples: Examples, place: str) -> dict[str, str]:
    """The interactive pages of a suite, with their data, scripts and style."""
    pairs = {
        section.split.id: chosen_pairs(board, section) if board_examples.is_labelled(examples[section.split.id]) else ()
        for section in board_examples.shown_sections(board, examples)
    }
    common = {"root": "../../", "board_href": links.href(place)}
    compare = _page(
        environment.get_template("compare.html"), page=compare_rows(board, examples, pairs, place), **common
    )
    browser = _page(environment.get_template("examples.html"), page=examples_rows(board, examples, place), **common)
    static = {name: resources.files("leaderboard").joinpath(name).read_text(encoding="utf-8") for name in TOOL_FILES}
    pages = {links.compare_file(board.suite.name): compare, links.examples_file(board.suite.name): browser}
    return static | pages | data_files.files(board, examples, pairs)


def _page(template: jinja2.Template, **values: object) -> str:
    """A page in which every character can be encoded and displayed."""
    return visible(template.render(**values))


def _static(name: str) -> str:
    return resources.files("leaderboard").joinpath(name).read_text(encoding="utf-8")


def write(files: Mapping[str, str | bytes], out: Path) -> int:
    """Update a folder to the rendered files. Files that no earlier call made are neither changed nor removed.

    Args:
        files: text or bytes by relative path, as from `render`.
        out: the site's folder; made where it is absent.

    Returns:
        Number of files written or removed.

    Raises:
        UsageError: a path leaves the folder, or a file in the way was not made here, and nothing is written then; or
            a file cannot be written, and each is as it was or as rendered.
    """
    earlier = _manifest(out)
    targets = {_inside(out, name): text.encode() if isinstance(text, str) else text for name, text in files.items()}
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
        atomic.write(path, data, durable=False)
    removed = [path for path in owned - set(targets) if path.is_file()]
    for path in removed:
        _remove(path, out)
    _write_manifest(out, set(files))
    return len(changed) + len(removed)


def _check_names(boards: Sequence[Board]) -> None:
    names = [board.suite.name for board in boards]
    for position, name in enumerate(names):
        if name in names[:position]:
            raise UsageError(f"suite {name!r}: is given twice; suites of one site need different names")
        if name in (links.INDEX, PurePosixPath(links.STYLE).parts[0]):
            raise UsageError(f"suite {name!r}: the site reserves this name; give the suite another one")
    for board in boards if len(boards) > 1 else ():
        taken = links.board_file(board.suite.name)
        if any(links.model_file(board.suite.name, model.id) == taken for model in board.suite.model):
            raise UsageError(
                f"suite {board.suite.name!r}: its board and its model 'index' would be the same file {taken!r}; give "
                "the model another id, or render the suite alone"
            )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("leaderboard"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["choice"] = links.choice
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
    """Names of files that earlier calls made; none where the manifest is missing or damaged."""
    try:
        listed = json.loads((out / MANIFEST).read_bytes())["files"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return set()
    return {name for name in listed if isinstance(name, str)} if isinstance(listed, list) else set()


def _write_manifest(out: Path, names: set[str]) -> None:
    data = (json.dumps({"files": sorted(names)}, indent=2) + "\n").encode()
    path = out / MANIFEST
    if not path.is_file() or path.read_bytes() != data:
        atomic.write(path, data, durable=False)


def _remove(path: Path, out: Path) -> None:
    """A file, and the folders that it leaves empty."""
    path.unlink()
    folder = path.parent
    while folder != out and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
