"""Normalisation of texts, so that one written in different ways is recognised as the same.

    plain("“Great”&nbsp;phone!") == plain("great phone") == plain("Grеat phone.")      # the last with a Cyrillic е

Differences ignored: HTML entities and their characters, Unicode's different encodings of a character (NFKC), upper and
lower case, letters of other scripts that look like Latin ones, zero-width characters, blanks and line breaks (also
`<br>` and a literal `\\n`), and punctuation. Symbols count (`$5` is not `5`), and so do accents.
"""

import hashlib
import html
import re
import unicodedata
from collections.abc import Mapping, Sequence
from string import Formatter

from harness.records import Example
from harness.suite.schema import Text

MOST_ESCAPES = 3
"""Largest number of times that entities may have been escaped: `&amp;amp;quot;` is a quotation mark."""
FINGERPRINT_DIGITS = 32
LINE_BREAK = re.compile(r"<br\s*/?>|\\[nrt]", re.IGNORECASE)

# Unicode's list of confusables (UTS #39) has 6,000 pairs, nearly all from scripts that never occur in English reviews.
# These are the letters of Greek, Cyrillic and a few more that look like a Latin one. They are replaced before case
# folding, since capitals resemble other letters than their small forms do: Η looks like H, but η like n.
LOOK_ALIKES = (
    ("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "ABEZHIKMNOPTYX"),
    ("αγεηικνορτυχϲϳ", "ayenikvoptuxcj"),
    ("АВЕЅІЈКМНОРСТУХЗԌԚԜҮҺӀ", "ABESIJKMHOPCTYX3GQWYHI"),
    ("авеѕіјкмнорстухзгԁԛԝүһӏ", "abesijkmhopctyx3rdqwyhl"),
    ("ՕՍՏօսոհցզ", "OUSouuhgq"),
    ("ıɑɡɩʏᴀᴄᴅᴇᴊᴋᴍᴏᴘᴛᴜᴠᴡᴢ", "iagiyacdejkmoptuvwz"),
)
# Invisible, but not control characters: a joiner, Hangul fillers, variation selectors. Also the combining accent that
# NFKC leaves of an acute accent used as an apostrophe (´).
INVISIBLE = ("\u0301", "\u034f", "\u115f", "\u1160", "\u17b4", "\u17b5", *map(chr, range(0xFE00, 0xFE10)))


def compared_text(text: Text, example: Example) -> str:
    """The text by which an example is compared: its content, and its title if the suite's template uses it.

    Not the rendered text, since two short reviews in the same long prompt would look alike.
    """
    fields = {name for _, name, _, _ in Formatter().parse(text.template)}
    return f"{example.title} {example.content}".strip() if "title" in fields else example.content


def readable(text: str) -> str:
    """A text in a canonical spelling, with words and punctuation kept."""
    for _ in range(MOST_ESCAPES):
        unescaped = html.unescape(text)
        if unescaped == text:
            break
        text = unescaped
    text = LINE_BREAK.sub(" ", text)
    if not text.isascii():  # seven times faster if there is nothing to replace
        text = unicodedata.normalize("NFKC", text).translate(_DRAWN_ALIKE)
    return text.casefold()


def plain(text: str) -> str:
    """A text without blanks and punctuation. If nothing else is in it, only blanks are removed (`:)` is not `:(`)."""
    written = readable(text)
    return written.translate(_WITHOUT_PUNCTUATION) or "".join(written.split())


def fingerprints(examples: Sequence[Example], text: Text) -> list[str]:
    """A digest of each example's plain text (32 hex digits); equal for texts that read the same."""
    return [fingerprint(compared_text(text, example)) for example in examples]


def fingerprint(text: str) -> str:
    """A digest of a text as it reads (32 hex digits)."""
    encoded = plain(text).encode("utf-8", "surrogatepass")
    return hashlib.sha256(encoded).hexdigest()[:FINGERPRINT_DIGITS]


class _Characters(dict[int, str | int | None]):
    """A table for `str.translate` that computes each character's replacement on first use."""

    def __init__(self, replaced: Mapping[int, str | None], *left_out: str) -> None:
        super().__init__(replaced)
        self.left_out = left_out

    def __missing__(self, code: int) -> int | None:
        self[code] = found = None if unicodedata.category(chr(code)).startswith(self.left_out) else code
        return found


_DRAWN_ALIKE = _Characters(
    {ord(a): b for others, latin in LOOK_ALIKES for a, b in zip(others, latin, strict=True)}
    | dict.fromkeys(map(ord, INVISIBLE)),
    "Cf",
)
"""Look-alikes become Latin letters; zero-width characters are removed."""
_WITHOUT_PUNCTUATION = _Characters({}, "P", "Z", "Cc", "Sk")
