"""Data files of the compare page and the example browser: predictions, examples and texts as small script files.

Pages opened from disk may not fetch, so each file is a script of one call, `harnessData(name, value)`. It is
plain ASCII: whatever a text holds, no character of it ends the script or the page.

    SUITE/data/suite.js                       models, splits, and the precomputed pairs
    SUITE/data/SPLIT/examples.js              ids, labels, clusters, lengths, slices
    SUITE/data/SPLIT/texts-0.js, …            titles and contents, `TEXTS_PER_FILE` each, where the suite stores texts
    SUITE/data/SPLIT/predictions/MODEL.js     labels and scores of every seed, and the metrics
    SUITE/data/SPLIT/words/MODEL.js           scores of some examples without each of their words, if they are stored
"""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.records import Example, Occlusion, Outcomes
from harness.stats import enrichment, inference, slices
from harness.stats.enrichment import Enrichment
from harness.stats.inference import ALPHA
from harness.stats.slices import FEWEST
from leaderboard.board.examples import Examples, consensus, is_labelled, pair_numbers, pairs_hold, shown_sections
from leaderboard.board.pairs import ChosenPair
from leaderboard.board.records import Board, Entry, Section
from leaderboard.pages import formats, links

TEXTS_PER_FILE = 250
MOST_SHARED = 10
"""Patterns that are named of each side's flips."""
SCORE_STEPS = 10_000
"""Resolution of the scores: four decimals."""


def files(board: Board, examples: Examples, pairs: Mapping[str, Sequence[ChosenPair]]) -> dict[str, str]:
    """The data files of a suite as text by relative path; none for splits without runs or examples.

    Args:
        board: of the suite.
        examples: its examples.
        pairs: the precomputed ones, by split id.

    Raises:
        ValueError: runs were not scored on these examples.
    """
    suite = board.suite.name
    sections = shown_sections(board, examples)
    found = {links.data_file(suite, "suite"): script("suite", _suite(board, sections, examples, pairs))}
    for section in sections:
        split_id, rows = section.split.id, examples[section.split.id]
        name = f"{split_id}/examples"
        found[links.data_file(suite, name)] = script(name, _examples(board, section, rows))
        if board.suite.text.store:
            for page, start in enumerate(range(0, len(rows), TEXTS_PER_FILE)):
                name = f"{split_id}/texts-{page}"
                texts = [[one.title, one.content] for one in rows[start : start + TEXTS_PER_FILE]]
                found[links.data_file(suite, name)] = script(name, texts)
        for entry in section.entries:
            if entry.runs:
                name = f"{split_id}/predictions/{entry.model_id}"
                found[links.data_file(suite, name)] = script(name, _predictions(entry, board.outcomes, rows))
            if explained := explained_of(board, entry):
                name = f"{split_id}/words/{entry.model_id}"
                found[links.data_file(suite, name)] = script(name, _words(entry, explained, rows))
    return found


def explained_of(board: Board, entry: Entry) -> tuple[Occlusion, ...]:
    """The explained examples of an entry's first run."""
    return board.explained.get(entry.runs[0].run.run_id, ()) if entry.runs else ()


def script(name: str, value: Any) -> str:
    """A script of one call. Everything but ASCII is escaped, and so is `<`: it may stand in a page as well."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return f"harnessData({json.dumps(name)},{text});\n".replace("<", "\\u003c")


def packed(outcomes: Outcomes) -> str:
    """Predictions as base64 of n little-endian 16-bit numbers: the predicted label in the highest bit, the score in
    `SCORE_STEPS`ths in the others.
    """
    steps = np.rint(outcomes.scores * SCORE_STEPS).astype("<u2")
    return _base64(steps | (outcomes.predicted.astype("<u2") << 15).astype("<u2"))


def _suite(
    board: Board, sections: Sequence[Section], examples: Examples, pairs: Mapping[str, Sequence[ChosenPair]]
) -> dict[str, Any]:
    return {
        "suite": board.suite.name,
        "primary": board.suite.primary_metric,
        "metrics": [[spec.name, formats.metric_name(spec.name)] for spec in board.suite.metric],
        "resamples": inference.RESAMPLES,
        "fewest": FEWEST,
        "alpha": ALPHA,
        "steps": SCORE_STEPS,
        "texts": TEXTS_PER_FILE if board.suite.text.store else None,
        "splits": [_split(board, section, pairs[section.split.id], examples[section.split.id]) for section in sections],
    }


def _split(board: Board, section: Section, pairs: Sequence[ChosenPair], rows: Sequence[Example]) -> dict[str, Any]:
    sides = {entry.model_id: [board.outcomes[scored.run.run_id] for scored in entry.runs] for entry in section.entries}
    known = enrichment.patterns(rows, with_text=board.suite.text.store) if pairs else None
    return {
        "id": section.split.id,
        "labelled": is_labelled(rows),
        "n": section.n,
        "clusters": section.n_clusters,
        "models": [
            [entry.model_id, formats.method_phrase(entry.method, entry.base_id), *entry.badges]
            for entry in section.entries
            if entry.runs
        ],
        "words": [entry.model_id for entry in section.entries if explained_of(board, entry)],
        "pairs": [
            [pair.a, pair.b, pair.difference.value, pair.difference.ci_low, pair.difference.ci_high,
             pair.difference.p_value, pair.adjusted_p, _shared(enrichment.between(sides[pair.a], sides[pair.b], known))]
            for pair in pairs
            if known is not None
        ],
    }  # fmt: skip


def _shared(found: Enrichment) -> list[Any]:
    """The surest patterns of the examples that only A and only B gets right, and the number of tests."""
    directions = [
        [
            [one.name, one.changed, one.n_changed, one.others, one.n_others, one.p_adjusted]
            for one in direction[:MOST_SHARED]
        ]
        for direction in found.directions
    ]
    return [*directions, found.n_tested]


def _examples(board: Board, section: Section, rows: Sequence[Example]) -> dict[str, Any]:
    clusters = next(board.outcomes[scored.run.run_id].clusters for entry in section.entries for scored in entry.runs)
    numbered = None if clusters is None else np.unique(clusters, return_inverse=True)[1]
    labelled = is_labelled(rows)
    lengths = np.minimum([len(one.content.split()) for one in rows], 65_535)
    return {
        "ids": [one.example_id for one in rows],
        "labels": _bits(np.array([one.label == 1 for one in rows])),
        "clusters": None if numbered is None else _base64(numbered.astype("<u4")),
        "words": _base64(lengths.astype("<u2")),
        "slices": [[name, _bits(mask)] for name, mask in slices.all_slices(rows).items()] if labelled else [],
        "consensus": [[one.position, round(one.least, 4)] for one in consensus(section, board.outcomes)]
        if labelled
        else [],
        "pairs": None if labelled else pair_numbers(rows).tolist(),
        "changes": None if labelled else [one.change for one in rows],
    }


def _predictions(entry: Entry, outcomes: Mapping[str, Outcomes], rows: Sequence[Example]) -> dict[str, Any]:
    runs = [scored.run for scored in entry.runs]
    for run in runs:
        ids = outcomes[run.run_id].example_ids
        if len(ids) != len(rows) or any(one != row.example_id for one, row in zip(ids, rows, strict=True)):
            raise ValueError(f"run {run.run_id} was not scored on these examples of {entry.split_id} in this order")
    return {
        "runs": [[run.run_id, run.seed, packed(outcomes[run.run_id])] for run in runs],
        "holds": None if is_labelled(rows) else [_bits(pairs_hold(rows, outcomes[run.run_id])) for run in runs],
        "metrics": [
            [metric.name, metric.value, metric.ci_low, metric.ci_high] for metric in entry.metrics.values()
        ],
    }  # fmt: skip


def _words(entry: Entry, explained: Sequence[Occlusion], rows: Sequence[Example]) -> dict[str, Any]:
    """Explained examples, each with its position, its score, and for each piece the place, the score without it, and
    the change of the log-odds, which is positive where the piece moves the score towards positive.
    """
    positions = {row.example_id: position for position, row in enumerate(rows)}
    examples = []
    for one in sorted(explained, key=lambda one: positions.get(one.example_id, -1)):
        if one.example_id not in positions:
            continue
        odds = inference.log_odds(np.array([one.score, *(piece.score for piece in one.pieces)]))
        changes = (odds[0] - odds[1:]).tolist()
        pieces = [
            [piece.field, piece.start, piece.end, round(piece.score, 4), round(change, 3)]
            for piece, change in zip(one.pieces, changes, strict=True)
        ]
        examples.append([positions[one.example_id], round(one.score, 4), pieces])
    return {"seed": entry.runs[0].run.seed, "examples": examples}


def _bits(mask: NDArray[np.bool_]) -> str:
    """Shape (n,) as base64: eight to a byte, the first in the lowest bit."""
    return _base64(np.packbits(mask, bitorder="little"))


def _base64(numbers: NDArray[Any]) -> str:
    return base64.b64encode(numbers.tobytes()).decode("ascii")
