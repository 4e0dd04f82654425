"""Paths of the site's pages, and links between them."""

from urllib.parse import quote, urlencode

INDEX = "index.html"
STYLE = "static/style.css"
SCRIPT = "static/board.js"
ICON = "static/icon.svg"
THEME = "static/theme.js"
DRAWER = "static/drawer.js"


def model_file(suite: str, model_id: str) -> str:
    """A configuration's page, relative to the site."""
    return f"{suite}/{model_id}.html"


def board_file(suite: str) -> str:
    """A suite's board on a site of several; a site of one suite has it as its index."""
    return f"{suite}/index.html"


def downloads(suite: str) -> dict[str, str]:
    """A suite's board as data: files by the name of their format. No page's name ends like them."""
    return {name: f"{suite}/board.{name.lower()}" for name in ("CSV", "JSON", "Parquet")}


def badge(suite: str, subject: str, model_id: str) -> str:
    """Path of a model's badge without its ending.

    Args:
        subject: `lead` or `gates`, which has a folder of its own, since any id may be a model's.
    """
    return f"{suite}/badges/{subject}/{model_id}"


def suite_badge(suite: str) -> str:
    """Path of the badge of all of a suite's gates without its ending."""
    return f"{suite}/badges/gates"


def compare_file(suite: str) -> str:
    """Path of the page that compares any two models of a suite. In its own folder, since any id may be a model's."""
    return f"{suite}/compare/index.html"


def examples_file(suite: str) -> str:
    """Path of a suite's example browser."""
    return f"{suite}/examples/index.html"


def share_file(suite: str) -> str:
    """Path of the picture of a suite's first answer, for links to the board."""
    return f"{suite}/badges/card.png"


def choice(a: str, b: str | None = None, split_id: str | None = None) -> str:
    """Fragment of the address that makes the compare page or the example browser show these models."""
    chosen = {"split": split_id, "a": a, "b": b}
    return "#" + urlencode({name: value for name, value in chosen.items() if value is not None})


def data_file(suite: str, name: str) -> str:
    """A script file with data of a suite, for the two pages above."""
    return f"{suite}/data/{name}.js"


def href(file: str, fragment: str = "", *, up: bool = False) -> str:
    """A link to a file of the site, escaped for an attribute's URL.

    Args:
        file: relative to the site.
        fragment: an element's id on that page.
        up: whether the link stands on a page one folder down.
    """
    return ("../" if up else "") + quote(file) + (f"#{quote(fragment, safe=':')}" if fragment else "")


def suite_anchor(suite: str) -> str:
    """The id of a suite's part of the index page. Colons, which no declared id has, keep such ids from colliding."""
    return f"suite:{suite}"


def split_anchor(suite: str, split_id: str) -> str:
    """The id of a split's section on the index page."""
    return f"split:{suite}:{split_id}"
