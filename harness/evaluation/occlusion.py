"""Occlusion: words whose absence moves a model's answer.

Each word of a text is left out once, the model scores the shortened text as it scored the whole one, and the two scores
are stored. It is the perturbation that Zeiler and Fergus (2014, "Visualizing and Understanding Convolutional Networks")
made of images with a grey square, and Li, Monroe and Jurafsky (2016, "Understanding Neural Networks through
Representation Erasure") of texts by erasing words. It needs nothing of a model but its scores, so it serves every
backend. It shows what a model reacts to, not why: two words that say the same hide each other.

    todo, _ = wanted(jobs, found, known, model_ids)   # the first run of each model on each split, with its examples
    explain(todo[0], progress)                        # in a worker: one `Occlusion` for each example

The examples are those that a reader of the site looks at: flips against the base, the most confident errors, and a few
drawn from the split's digest. Nothing depends on the order in which models are scored.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from harness import keys, provenance
from harness.errors import RunError
from harness.evaluation import shards, unadapted
from harness.evaluation.results import Stored
from harness.evaluation.scoring import Job
from harness.evaluation.unadapted import Side
from harness.progress import Progress
from harness.records import UNLABELLED, Example, Occlusion, Outcomes, Piece
from harness.suite.schema import Model, PredictionsModel
from harness.suite.text import Rendered, Text

SAMPLE = 12
"""Most examples of a model and split."""
FLIPS, WRONG = 4, 4
"""Most of them that are chosen as flips against the base, and as confident errors; the others are drawn."""
MOST_PIECES = 32
"""Most pieces of a text; a longer one is divided into so many runs of words, so that no text costs more."""
MOST_TEXTS = SAMPLE * (MOST_PIECES + 1)
"""Most texts that a model scores for a split: each example whole, and without each of its pieces."""
_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class Explanation:
    """A run, and the examples to be explained for it."""

    job: Job
    """Without its split's examples: they would be sent to every worker."""
    examples: tuple[Example, ...]

    @property
    def label(self) -> str:
        """Label of the work, for display."""
        return f"words of {self.job.label}"


def wanted(
    jobs: Sequence[Job], found: Stored, known: Collection[str], model_ids: Collection[str]
) -> tuple[list[Explanation], int]:
    """List what is to be explained: of each model and split the run of the first seed, if it is stored.

    Args:
        jobs: of the models to explain, and of the models that show their bases.
        found: the stored results of these jobs.
        known: keys of the examples that are explained already.
        model_ids: the models to explain.

    Returns:
        The work, without what is known, and the number of examples that are.
    """
    outcomes = {key: found.outcomes[run.run_id] for key, run in found.runs.items()}
    firsts: dict[tuple[str, str], Job] = {}
    for job in jobs:
        firsts.setdefault((job.model.id, job.split.split_id), job)
    base_ids = _bases(jobs, outcomes)
    todo, n_known = list[Explanation](), 0
    for (model_id, split_id), job in firsts.items():
        mine = outcomes.get(job.run_key)
        if mine is None or model_id not in model_ids or not has_text(job.model):
            continue
        of_base = firsts.get((base_ids.get(model_id, ""), split_id))
        base = None if of_base is None else outcomes.get(of_base.run_key)
        chosen = [job.split.examples[i] for i in sample(job, mine, base)]
        missing = tuple(one for one in chosen if key_of(job, one) not in known)
        n_known += len(chosen) - len(missing)
        if missing:
            todo.append(Explanation(replace(job, split=replace(job.split, examples=())), missing))
    return todo, n_known


def _bases(jobs: Sequence[Job], outcomes: Mapping[str, Outcomes]) -> dict[str, str]:
    """The model that each trained model is held against, as on the board: by their scores on the jobs' first split.

    Args:
        outcomes: by run key.
    """
    if not jobs:
        return {}
    suite, first = jobs[0].suite, jobs[0].split.split_id
    keys_of: dict[str, list[str]] = {}
    for job in jobs:
        if job.split.split_id == first:
            keys_of.setdefault(job.model.id, []).append(job.run_key)
    sides = {
        model_id: Side(tuple(of_seeds), tuple(outcomes[key] for key in of_seeds))
        for model_id, of_seeds in keys_of.items()
        if all(key in outcomes for key in of_seeds)
    }
    best = unadapted.best_bases(suite, sides)
    return {model.id: best[base_id].model_id for model, base_id in unadapted.trained_models(suite) if base_id in best}


def has_text(model: Model) -> bool:
    """Report whether a model answers texts here, and not only examples that it answered elsewhere."""
    return not isinstance(model, PredictionsModel)


def sample(job: Job, mine: Outcomes, base: Outcomes | None) -> list[int]:
    """Choose the positions of the examples to explain: flips, confident errors, and a few at random.

    Args:
        mine: the run's outcomes.
        base: those of its base; None where there are none.
    """
    able = np.array([len(pieces(one.title, one.content)) > 1 for one in job.split.examples])
    chosen: list[int] = []

    def add(among: np.ndarray, first: np.ndarray, most: int) -> None:
        """Add up to `most` positions of a mask that are not chosen yet, those of the largest `first` first."""
        order = np.argsort(-first, kind="stable")
        left = [int(i) for i in order if among[i] and able[i] and i not in chosen]
        chosen.extend(left[:most])

    if base is not None:
        add(mine.predicted != base.predicted, np.abs(mine.scores - base.scores), FLIPS)
    is_wrong = (mine.labels != UNLABELLED) & (mine.predicted != mine.labels)
    add(is_wrong, np.abs(mine.scores - 0.5), WRONG)
    drawn = np.random.default_rng(int(job.split.digest[:16], 16)).random(len(able))
    add(np.ones(len(able), dtype=bool), drawn, SAMPLE - len(chosen))
    return chosen


def key_of(job: Job, example: Example) -> str:
    """Digest everything that determines the explanation of an example (64 hex digits)."""
    return keys.key(keys.occlusion(job.run_key, example.example_id, most_pieces=MOST_PIECES))


def pieces(title: str, content: str) -> list[tuple[int, int, int]]:
    """Divide a text into words, or into runs of words where there are more than `MOST_PIECES`.

    Returns:
        Of each piece the field, 0 for the title and 1 for the content, and where it starts and ends in it, in
        characters. No piece spans both fields.
    """
    words = [
        (field, word.start(), word.end())
        for field, text in enumerate((title, content))
        for word in _WORD.finditer(text)
    ]
    if len(words) <= MOST_PIECES:
        return words
    n_title = sum(field == 0 for field, *_ in words)
    n_runs = MOST_PIECES * n_title // len(words)
    of_title = max(1, n_runs) if n_title else 0
    parts = [*_divided(words[:n_title], of_title), *_divided(words[n_title:], MOST_PIECES - of_title)]
    return [(run[0][0], run[0][1], run[-1][2]) for run in parts]


def _divided(words: Sequence[tuple[int, int, int]], n: int) -> Iterator[Sequence[tuple[int, int, int]]]:
    """Divide words into at most n runs whose lengths differ by one at most."""
    bounds = [len(words) * i // n for i in range(n + 1)] if n else []
    yield from (words[start:end] for start, end in pairwise(bounds) if start < end)


def without(example: Example, piece: tuple[int, int, int], text: Text) -> Rendered:
    """The text that a model reads for an example without one of its pieces."""
    field, start, end = piece
    fields = [example.title, example.content]
    before, after = fields[field][:start], fields[field][end:].lstrip()
    fields[field] = before + after if after else before.rstrip()
    return text.render(*fields)


def explain(explanation: Explanation, progress: Progress) -> list[Occlusion]:
    """In a worker: score each example whole and without each of its pieces.

    The texts of an example are scored by themselves, so its scores do not depend on the other examples.

    Raises:
        RunError: the model cannot be loaded, or its scores are not one probability for each text.
    """
    from threadpoolctl import threadpool_limits

    job = explanation.job
    if not job.ingredients.train_texts:  # states of lower layers are kept for texts that many models read, unlike these
        job = replace(job, ingredients=replace(job.ingredients, states_dir=None))
    divided = {one.example_id: pieces(one.title, one.content) for one in explanation.examples}
    total, found = sum(len(many) + 1 for many in divided.values()), list[Occlusion]()
    with threadpool_limits(1), progress(explanation.label, total) as advance:
        classifier = shards.loaded(job)
        for example in explanation.examples:
            spans, text = divided[example.example_id], job.suite.text
            texts = [text.render(example.title, example.content), *(without(example, one, text) for one in spans)]
            scores = np.asarray(classifier.predict(texts, advance).scores, dtype=np.float64)
            if scores.shape != (len(texts),) or not ((scores >= 0) & (scores <= 1)).all():
                raise RunError(f"expected {len(texts)} probabilities, one for each text")
            whole, *others = scores.tolist()
            found.append(
                Occlusion(
                    key=key_of(job, example),
                    run_key=job.run_key,
                    split_digest=job.split.digest,
                    example_id=example.example_id,
                    score=whole,
                    pieces=tuple(Piece(*span, score) for span, score in zip(spans, others, strict=True)),
                    explained_at=provenance.now(),
                )
            )
    return found


def skipped(jobs: Sequence[Job]) -> Mapping[str, str]:
    """Models whose words cannot be left out, with the reason."""
    return {
        job.model.id: "its words are not explained: its answers were given elsewhere, and no text can be put to it"
        for job in jobs
        if not has_text(job.model)
    }
