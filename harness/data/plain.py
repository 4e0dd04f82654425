"""Texts as a reader takes them in, so that a text written in another way is found to be the same.

    plain("“Great”&nbsp;phone!") == plain("great phone") == plain("Grеat phone.")      # the last with a Cyrillic е

Not kept apart: HTML entities and what they stand for, the several ways in which Unicode writes a character (NFKC),
upper and lower case, letters of other scripts that look like Latin ones, characters without width, blanks and line
breaks (`<br>` and a written-out `\\n` too), and punctuation. Symbols count (`$5` is not `5`), and so do accents.
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
"""How often entities may have been escaped: `&amp;amp;quot;` is a quotation mark."""
FINGERPRINT_DIGITS = 32
LINE_BREAK = re.compile(r"<br\s*/?>|\\[nrt]", re.IGNORECASE)

# Unicode's list of confusables (UTS #39) is of 6,000 pairs, nearly all of scripts that no English review is written in.
# These are the letters of Greek, Cyrillic and a few more that are drawn like a Latin one. They are replaced before case
# is folded, since capitals look like other letters than their small forms do: Η like H, but η like n.
LOOK_ALIKES = (
    ("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "ABEZHIKMNOPTYX"),
    ("αγεηικνορτυχϲϳ", "ayenikvoptuxcj"),
    ("АВЕЅІЈКМНОРСТУХЗԌԚԜҮҺӀ", "ABESIJKMHOPCTYX3GQWYHI"),
    ("авеѕіјкмнорстухзгԁԛԝүһӏ", "abesijkmhopctyx3rdqwyhl"),
    ("ՕՍՏօսոհցզ", "OUSouuhgq"),
    ("ıɑɡɩʏᴀᴄᴅᴇᴊᴋᴍᴏᴘᴛᴜᴠᴡᴢ", "iagiyacdejkmoptuvwz"),
)
# Not control characters, and yet nothing is drawn for them: a joiner, Hangul fillers, variation selectors. And an
# accent that NFKC composed with no letter, which an apostrophe (´) leaves.
INVISIBLE = ("\u0301", "\u034f", "\u115f", "\u1160", "\u17b4", "\u17b5", *map(chr, range(0xFE00, 0xFE10)))


def what_is_read(text: Text, example: Example) -> str:
    """An example as it is compared with others: its content, and its title where the suite's template has it.

    Not the rendered text: two short reviews in the same long prompt would look alike.
    """
    fields = {name for _, name, _, _ in Formatter().parse(text.template)}
    return f"{example.title} {example.content}".strip() if "title" in fields else example.content


def readable(text: str) -> str:
    """A text in one way of writing it, words and punctuation still apart."""
    for _ in range(MOST_ESCAPES):
        unescaped = html.unescape(text)
        if unescaped == text:
            break
        text = unescaped
    text = LINE_BREAK.sub(" ", text)
    if not text.isascii():  # seven times as fast where there is nothing to replace
        text = unicodedata.normalize("NFKC", text).translate(_DRAWN_ALIKE)
    return text.casefold()


def plain(text: str) -> str:
    """A text without blanks and punctuation; of a text of nothing else, all but the blanks (`:)` is not `:(`)."""
    written = readable(text)
    return written.translate(_WITHOUT_PUNCTUATION) or "".join(written.split())


def fingerprints(examples: Sequence[Example], text: Text) -> list[str]:
    """A digest of each example's plain text (32 hex digits): those that read the same have the same."""
    return [_fingerprint(plain(what_is_read(text, example))) for example in examples]


def _fingerprint(text: str) -> str:
    encoded = text.encode("utf-8", "surrogatepass")
    return hashlib.sha256(encoded).hexdigest()[:FINGERPRINT_DIGITS]


class _Characters(dict[int, str | int | None]):
    """For `str.translate`: what becomes of each character, found out when it is first met."""

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
"""Look-alikes become Latin letters; characters without width are left out."""
_WITHOUT_PUNCTUATION = _Characters({}, "P", "Z", "Cc", "Sk")
