"""Text from elsewhere, made fit to be shown: on a terminal, on a page, in a plot, in XML."""

import re

_UNFIT = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # control characters, but for tabs and line ends
    "\u2028\u2029"  # ends of lines to JavaScript
    "\u202a-\u202e\u2066-\u2069"  # turn the direction of the text around them, so that a line shows what it is not
    "\ud800-\udfff\ufdd0-\ufdef"  # halves of characters; no characters, as are the last two of every plane
    + "".join(f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0, 0x110000, 0x10000))
    + "]"
)


def visible(text: str) -> str:
    """The same text with each character that steers, breaks or cannot be written as its code: `<U+001B>`."""
    return _UNFIT.sub(lambda found: f"<U+{ord(found[0]):04X}>", text)
