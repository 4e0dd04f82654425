"""Splits held to their digests, and examples to their texts where these are stored."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator

from harness import digest
from harness.store.connection import Connection
from harness.store.problems import Problem

ID_DIGITS = 32
_ROWS_AT_ONCE = 100_000
_WHOLE = "take a whole copy of the store"


def check_examples(connection: Connection) -> Iterator[Problem]:
    """What is wrong with the splits: their number of examples, their order, their digest, their examples' ids.

    The id of an example is derived from its label and text, and the split's digest from ids and clusters. Where texts
    are not stored, ids and so labels cannot be recomputed.
    """
    splits = connection.execute("SELECT split_id, digest, n FROM split ORDER BY ALL").fetchall()
    for split_id, split_digest, n in splits:
        ((found,),) = connection.execute("SELECT count(*) FROM example WHERE digest = ?", [split_digest]).fetchall()
        if found != n:
            where = f"split {split_id} {split_digest}"
            yield Problem("has not as many examples as it says", where, f"{found:,}, not {n:,}", _WHOLE)
    known = {split_digest for _, split_digest, _ in splits}
    for (split_digest,) in connection.execute("SELECT DISTINCT digest FROM example ORDER BY ALL").fetchall():
        if split_digest not in known:
            yield Problem("examples without their split", f"split {split_digest}", "", _WHOLE)
        yield from _check_split(connection, split_digest)


def _check_split(connection: Connection, split_digest: str) -> Iterator[Problem]:
    cursor = connection.execute(
        "SELECT example_id, cluster, position, label, text_digest, title, content FROM example WHERE digest = ? "
        "ORDER BY position",
        [split_digest],
    )
    whole, seen, number, misplaced, mislabelled = hashlib.sha256(b"["), Counter[str](), 0, 0, 0
    while rows := cursor.fetchmany(_ROWS_AT_ONCE):
        for example_id, cluster, position, label, text_digest, title, content in rows:
            # As `digest.of_json` of the whole list, without holding it.
            whole.update(b"," * (number > 0) + json.dumps([example_id, cluster], separators=(",", ":")).encode())
            misplaced += position != number
            number += 1
            if content is not None:
                derived = digest.of_json([label, title or "", content])[:ID_DIGITS]
                seen[derived] += 1
                times = f"-{seen[derived]}" if seen[derived] > 1 else ""
                of_text = digest.of_json([title or "", content])[:ID_DIGITS]
                mislabelled += (example_id, text_digest) != (derived + times, of_text)
    whole.update(b"]")
    where = f"split {split_digest}"
    if misplaced:
        yield Problem("examples do not stand in a row", where, f"{misplaced:,} of {number:,}", _WHOLE)
    if whole.hexdigest() != split_digest:
        yield Problem("its digest is not that of its examples", where, "", _WHOLE)
    if mislabelled:
        detail = f"{mislabelled:,} of {number:,}"
        yield Problem("ids of examples are not those of their labels and texts", where, detail, _WHOLE)
