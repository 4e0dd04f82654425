"""Untrusted text made safe to display: on a terminal, on a page, in a plot, in XML."""

import re

_UNFIT = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # control characters, except tabs and line ends
    "\u2028\u2029"  # line ends in JavaScript
    "\u202a-\u202e\u2066-\u2069"  # change the direction of surrounding text, so that a line misleads its reader
    "\ud800-\udfff\ufdd0-\ufdef"  # surrogates; noncharacters, like the last two of every plane
    + "".join(f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0, 0x110000, 0x10000))
    + "]"
)


def visible(text: str) -> str:
    """The text with each unsafe or unencodable character replaced by its code: `<U+001B>`."""
    return _UNFIT.sub(lambda found: f"<U+{ord(found[0]):04X}>", text)
