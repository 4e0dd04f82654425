"""Audit of a suite's splits: their content, and the overlap between training and scoring.

    audited = audit(suite, splits, tokenizers)
    audited.findings["test"]["near_duplicates"]        # by split and name, JSON-serializable, as stored and printed
    judge(suite.audit, audited.overlaps).forbidden     # sentences that name the rows

Pure functions over splits. Nothing depends on the order of rows: lists are sorted by example id, and texts that read
the same (`plain`) are represented by the least id. `docs/data.md` explains how to read the findings.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from harness.data import language, near_duplicates
from harness.data.plain import compared_text, fingerprints
from harness.errors import LeakError
from harness.records import Example, Split
from harness.stats.inference import Ints
from harness.suite.schema import Audit, Suite, Text

QUANTILES = (0, 0.5, 0.9, 0.99, 1)
SHOWN_CHARACTERS = 60
NAMED = 3
"""Number of pairs that a complaint names."""

CountTokens: TypeAlias = Callable[[Sequence[str]], Ints]
"""Texts to their lengths in tokens, including special ones and without truncation, shape (n,)."""
NearPair: TypeAlias = tuple[str, str, float]
"""Two example ids and the similarity of their texts."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """The overlap between a training split and a scored split."""

    trained_on: Split
    scored: Split
    exact: tuple[tuple[str, str], ...]
    """For each scored example whose title and content occur in the training split: the id there, the id here."""
    normalised: tuple[tuple[str, str], ...]
    """The same for each whose text reads the same as one there but is written differently: case, blanks, entities, …"""
    near: tuple[NearPair, ...] | None
    """Pairs of nearly equal texts that do not read the same, the training one first; None if not searched for."""
    threshold: float

    @property
    def complaints(self) -> dict[str, str]:
        """A sentence for each kind of overlap found: `exact`, `normalised`, `near`."""
        who = f"models that use split {self.trained_on.split_id!r} were trained on"
        of_all = f"of the {len(self.scored.examples)} rows of split {self.scored.split_id!r}"
        found = {}
        if self.exact:
            pairs = _first(f"{trained} = {scored}" for trained, scored in self.exact)
            found["exact"] = f"{who} {len(self.exact)} {of_all} ({pairs})"
        if self.normalised:
            pairs = _first(f"{trained} ≈ {scored}" for trained, scored in self.normalised)
            found["normalised"] = f"{who} texts that read the same as {len(self.normalised)} {of_all} ({pairs})"
        if self.near:
            rows = len({scored for _, scored, _ in self.near})
            pairs = _first(f"{trained} ~ {scored}, {similarity:.2f}" for trained, scored, similarity in self.near)
            found["near"] = f"{who} texts nearly equal to {rows} {of_all} ({pairs})"
        return found


@dataclass(frozen=True, slots=True)
class Judged:
    """Complaints about overlap, sorted by the suite's `[audit]` rules; each is a sentence that names rows."""

    forbidden: tuple[str, ...]
    reported: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Audited:
    """The result of an audit."""

    findings: dict[str, dict[str, Any]]
    """By split id and then by name, as JSON-serializable values."""
    overlaps: tuple[Overlap, ...]


@dataclass(frozen=True, slots=True)
class _Compared:
    """A split's distinct texts, each represented by one example, in the order of their ids."""

    examples: tuple[Example, ...]
    texts: tuple[str, ...]
    """The fingerprint of each."""
    sketch: near_duplicates.Sketch


def audit(suite: Suite, splits: Mapping[str, Split], tokenizers: Mapping[str, CountTokens | None]) -> Audited:
    """Run every check on a suite's splits.

    Args:
        splits: all splits of the suite, by id.
        tokenizers: of the suite's bases, by their ids; None for one that is not available.
    """
    compared = {split_id: _compared(split, suite.text) for split_id, split in splits.items()}
    findings = {
        split_id: _findings(split, compared[split_id], suite.text, suite.audit.near_threshold, tokenizers)
        for split_id, split in splits.items()
    }
    for split_id in splits.keys() - suite.train_split_ids:
        findings[split_id]["overlap"] = {}
    across = _overlaps(suite, splits, compared)
    for overlap in across:
        findings[overlap.scored.split_id]["overlap"][overlap.trained_on.split_id] = {
            "train_digest": overlap.trained_on.digest,
            "exact": [list(pair) for pair in overlap.exact],
            "normalised": [list(pair) for pair in overlap.normalised],
            "near": [list(pair) for pair in overlap.near or ()],
            "near_threshold": overlap.threshold,
        }
    return Audited(findings, tuple(across))


def audit_alone(split: Split, text: Text, near_threshold: float) -> dict[str, Any]:
    """Run the checks that need nothing but the rows of one split."""
    return _findings(split, _compared(split, text), text, near_threshold, {})


def _findings(
    split: Split, compared: _Compared, text: Text, near_threshold: float, tokenizers: Mapping[str, CountTokens | None]
) -> dict[str, Any]:
    return {
        **_rows(split, text),
        "near_duplicates": _near_duplicates(compared, near_threshold),
        "not_english": _not_english(split, text),
        "tokens": _tokens(split, text, tokenizers),
    }


def overlaps(suite: Suite, splits: Mapping[str, Split], *, look_for_near: bool) -> list[Overlap]:
    """The overlap of every training split with every scored split.

    Args:
        look_for_near: also search for nearly equal texts, which is slow; texts that read the same are found quickly.
    """
    compared = {split_id: _compared(split, suite.text) for split_id, split in splits.items()} if look_for_near else None
    return _overlaps(suite, splits, compared)


def overlaps_of(findings: Mapping[str, Mapping[str, Any]], splits: Mapping[str, Split]) -> list[Overlap] | None:
    """The overlaps from a stored audit; None where one is missing or was found on other rows.

    Args:
        findings: `overlap` by scored split.
    """
    found = []
    for scored_id, by_train in findings.items():
        for train_id, shared in by_train.items():
            if train_id not in splits or shared["train_digest"] != splits[train_id].digest:
                return None
            exact, normalised, near = (tuple(map(tuple, shared[kind])) for kind in ("exact", "normalised", "near"))
            threshold = shared["near_threshold"]
            found.append(Overlap(splits[train_id], splits[scored_id], exact, normalised, near, threshold))
    return found


def judge(rules: Audit, found: Iterable[Overlap]) -> Judged:
    """Sort complaints about overlap into those that the suite forbids and those to report."""
    complaints = [complaint for overlap in found for complaint in overlap.complaints.items()]
    no_near = rules.near_overlap == "forbid"  # nothing is nearer than a text that reads the same
    no_normalised = no_near or rules.normalised_overlap == "forbid"
    forbidden = {"exact": rules.exact_overlap == "forbid", "normalised": no_normalised, "near": no_near}
    return Judged(
        tuple(sentence for kind, sentence in complaints if forbidden[kind]),
        tuple(sentence for kind, sentence in complaints if not forbidden[kind]),
    )


def refuse(judged: Judged) -> None:
    """Stop if the suite forbids any overlap that was found.

    Raises:
        LeakError: lists every forbidden complaint.
    """
    if judged.forbidden:
        advice = 'score on rows that no model was trained on; or accept the overlap with "report" in [audit]'
        raise LeakError("\n".join([*judged.forbidden, advice]))


def beginnings(splits: Iterable[Split]) -> dict[str, str]:
    """The first characters of every example, by id, on one line and without control characters, for the terminal."""
    return {
        example.example_id: "".join(
            character if character.isprintable() else "·"
            for character in " ".join(f"{example.title} {example.content}".split())[:SHOWN_CHARACTERS]
        )
        for split in splits
        for example in split.examples
    }


def token_summary(lengths: Ints, max_length: int) -> dict[str, Any]:
    """Summary of the lengths of n ≥ 1 texts in tokens, shape (n,): linearly interpolated quantiles, and truncation."""
    truncated = int((lengths > max_length).sum())
    quantiles = np.quantile(lengths, QUANTILES)
    return {
        "quantiles": {str(q): float(value) for q, value in zip(QUANTILES, quantiles, strict=True)},
        "max_length": max_length,
        "truncated": truncated,
        "truncated_share": truncated / len(lengths),
    }


def _rows(split: Split, text: Text) -> dict[str, Any]:
    """The findings that need only the rows themselves."""
    positive = sum(example.label == 1 for example in split.examples)
    negative = sum(example.label == 0 for example in split.examples)
    by_text: dict[str, list[Example]] = defaultdict(list)
    for example in split.examples:
        by_text[example.text_digest].append(example)
    repeated = [group for group in by_text.values() if len(group) > 1]
    conflicting = [group for group in repeated if len({example.label for example in group}) > 1]
    without_content = sorted(e.example_id for e in split.examples if not e.content.strip())
    return {
        "balance": {"n": len(split.examples), "positive": positive, "negative": negative},
        "exact_duplicates": _groups(repeated),
        "normalised_duplicates": _groups(_rewritten(split, text)),
        "conflicting_labels": _groups(conflicting),
        "empty": {
            # Counted, not listed: some sources have no titles at all.
            "titles": sum(not example.title.strip() for example in split.examples),
            "contents": len(without_content),
            "content_ids": without_content,
        },
    }


def _rewritten(split: Split, text: Text) -> list[list[Example]]:
    """Groups of examples whose texts read the same but are not all written the same."""
    groups: dict[str, list[Example]] = defaultdict(list)
    for example, read in zip(split.examples, fingerprints(split.examples, text), strict=True):
        groups[read].append(example)
    return [group for group in groups.values() if len({example.text_digest for example in group}) > 1]


def _groups(groups: Sequence[Sequence[Example]]) -> dict[str, Any]:
    ids = sorted(sorted(example.example_id for example in group) for group in groups)
    return {"groups": len(ids), "rows": sum(map(len, ids)), "ids": ids}


def _near_duplicates(texts: _Compared, threshold: float) -> dict[str, Any]:
    pairs = _by_id(texts, texts, near_duplicates.within(texts.sketch, threshold))
    rows = {example_id for one, other, _ in pairs for example_id in (one, other)}
    return {"pairs": len(pairs), "rows": len(rows), "threshold": threshold, "ids": [list(pair) for pair in pairs]}


def _not_english(split: Split, text: Text) -> dict[str, Any]:
    foreign = language.not_english([compared_text(text, example) for example in split.examples])
    ids = sorted([split.examples[f.position].example_id, f.language, f.probability] for f in foreign)
    return {"rows": len(ids), "ids": ids}


def _tokens(split: Split, text: Text, tokenizers: Mapping[str, CountTokens | None]) -> dict[str, Any]:
    rendered = [text.render(example.title, example.content) for example in split.examples]
    return {
        base: None if lengths is None else token_summary(lengths(rendered), text.max_length)
        for base, lengths in tokenizers.items()
    }


def _compared(split: Split, text: Text) -> _Compared:
    least: dict[str, Example] = {}
    in_order = sorted(split.examples, key=lambda example: example.example_id)
    for example, read in zip(in_order, fingerprints(in_order, text), strict=True):
        least.setdefault(read, example)
    examples = tuple(least.values())
    return _Compared(
        examples, tuple(least), near_duplicates.sketch([compared_text(text, example) for example in examples])
    )


def _overlaps(suite: Suite, splits: Mapping[str, Split], compared: Mapping[str, _Compared] | None) -> list[Overlap]:
    found = []
    read = {split_id: fingerprints(split.examples, suite.text) for split_id, split in splits.items()}
    for train_id in sorted(suite.train_split_ids):
        for scored_id in sorted(splits.keys() - suite.train_split_ids):
            train, scored, threshold = splits[train_id], splits[scored_id], suite.audit.near_threshold
            pairs = None
            if compared is not None:
                sides = compared[train_id], compared[scored_id]
                similar = near_duplicates.between(sides[0].sketch, sides[1].sketch, threshold)
                pairs = tuple(_by_id(*sides, similar))
            written = [[example.text_digest for example in split.examples] for split in (train, scored)]
            exact = _shared(train, scored, *written)
            same = {example_id for _, example_id in exact}
            normalised = _shared(train, scored, read[train_id], read[scored_id])
            others = tuple(pair for pair in normalised if pair[1] not in same)
            found.append(Overlap(train, scored, exact, others, pairs, threshold))
    return found


def _shared(
    train: Split, scored: Split, of_train: Sequence[str], of_scored: Sequence[str]
) -> tuple[tuple[str, str], ...]:
    """For each scored example with the same key as one in training: the least id there, and its own.

    Args:
        of_train: keys of the training split's texts.
        of_scored: keys of the scored split's texts.
    """
    seen: dict[str, str] = {}
    for example, text in zip(train.examples, of_train, strict=True):
        seen[text] = min(example.example_id, seen.get(text, example.example_id))
    shared = zip(scored.examples, of_scored, strict=True)
    return tuple(sorted((seen[text], example.example_id) for example, text in shared if text in seen))


def _by_id(ones: _Compared, others: _Compared, pairs: Iterable[near_duplicates.Near]) -> list[NearPair]:
    """Pairs by the ids of their examples, sorted, without those that read the same."""
    named = []
    for i, j, similarity in pairs:
        one, other = ones.examples[i], others.examples[j]
        if ones.texts[i] != others.texts[j]:
            named.append((one.example_id, other.example_id, similarity))
    return sorted(named)


def _first(pairs: Iterable[str]) -> str:
    """The first few pairs, and the number of further ones."""
    listed = list(pairs)
    more = f"; and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    return "; ".join(listed[:NAMED]) + more
