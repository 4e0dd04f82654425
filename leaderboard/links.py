"""Where pages lie in the site, and how they point at each other."""

from urllib.parse import quote

INDEX = "index.html"
STYLE = "static/style.css"


def model_file(suite: str, model_id: str) -> str:
    """A configuration's page, relative to the site."""
    return f"{suite}/{model_id}.html"


def href(file: str, fragment: str = "", *, up: bool = False) -> str:
    """A link to a file of the site, escaped for an attribute's URL.

    Args:
        file: relative to the site.
        fragment: an element's id on that page.
        up: whether the link stands on a page one folder down.
    """
    return ("../" if up else "") + quote(file) + (f"#{quote(fragment, safe=':')}" if fragment else "")


def suite_anchor(suite: str) -> str:
    """The id of a suite's part of the index page. Colons, which no declared id has, keep such ids from meeting."""
    return f"suite:{suite}"


def split_anchor(suite: str, split_id: str) -> str:
    """The id of a split's section on the index page."""
    return f"split:{suite}:{split_id}"
