"""Shards of a run: consecutive examples of a split, scored independently and kept as one file each.

    for task in make_tasks(jobs, folder, evaluation_id):      # one model and seed each, a few shards
        done = score(task, progress)                          # in a worker: reads kept shards, keeps new ones
    scored = joined(job, folder)                              # where a run was divided among tasks

A shard is named by everything that determines its answers: the model, the seed, the weights, the code, the packages and
the examples, but not the split. So nothing is scored again after a command was killed, and when a split grows, only the
shards that changed are scored. Texts are batched within a shard only: answers do not depend on how many workers share a
run.

A gate that stops early scores blocks: examples in a drawn order, kept under the model's digest. A shard takes what
blocks hold of it, and only the rest is scored.

A file appears under its name whole or not at all, and is never changed. Its columns are `example_id` and `score`; its
footer describes its contents and has a checksum. A damaged file is reported, and its shard scored again.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from harness import keys, provenance
from harness.artifacts import atomic
from harness.errors import AdapterError, RunError, StoreError
from harness.evaluation import scoring
from harness.evaluation.scoring import Answers, Job, Scored
from harness.models import device
from harness.models.adapter_files import identity
from harness.models.classifier import Classifier
from harness.progress import Advance, Progress
from harness.records import Example
from harness.store import checksum
from harness.training import card

T = TypeVar("T")

EXAMPLES = 250
"""Most examples in a shard, which a killed worker loses. Shards of 1,000 would save 2 % of the padded tokens, but leave
workers idle at the end."""
FOOTER = b"harness"
BLOCKS = "blocks"
"""Subfolder of the blocks, by the digest of their model."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Consecutive examples of a split, to be scored by one model."""

    key: str
    """Digest of everything that determines the answers (64 hex digits)."""
    examples: tuple[Example, ...]
    path: Path
    """File of its answers."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Shards of one job."""

    job: Job
    """Without its split's examples unless the piece is the whole job: they would be sent to every worker."""
    shards: tuple[Shard, ...]
    is_all: bool


@dataclass(frozen=True, slots=True)
class Task:
    """Unit of work for a worker: pieces of jobs with one model and one seed."""

    pieces: tuple[Piece, ...]
    evaluation_id: str
    fresh: bool
    """True to score again what another evaluation scored."""


@dataclass(slots=True)
class Done:
    """Outcome of a task."""

    scored: list[Scored] = field(default_factory=list)
    """Runs that the task scored completely, and failed ones."""
    damaged: list[str] = field(default_factory=list)
    """Descriptions of damaged files, whose shards were scored again."""


def shards_of(job: Job, folder: Path) -> list[Shard]:
    """Divide a job into shards, in the order of its split."""
    found = []
    for examples in _batched(job.split.examples, EXAMPLES):
        key = _key(job, [example.example_id for example in examples])
        found.append(Shard(key, examples, folder / key[:2] / f"{key}.parquet"))
    return found


def block(job: Job, examples: Sequence[Example], folder: Path) -> Shard:
    """Make a shard of some examples, whose answers are kept for every later shard that holds any of them.

    Args:
        folder: the folder of all shards.
    """
    key = _key(job, [example.example_id for example in examples])
    return Shard(key, tuple(examples), _blocks(job, folder) / f"{key}.parquet")


def write_block(job: Job, examples: Sequence[Example], answers: Answers, folder: Path) -> None:
    """Keep the answers to a block.

    Raises:
        StoreError: there is no room, or the folder is not writable.
    """
    write(block(job, examples, folder), answers, keys.model_of(job.spec), job.ingredients.device)


def _key(job: Job, example_ids: Sequence[str]) -> str:
    return keys.key(keys.shard(job.spec, example_ids))


def _blocks(job: Job, folder: Path) -> Path:
    return folder / BLOCKS / keys.key(keys.model_of(job.spec))


def known(job: Job, folder: Path) -> tuple[dict[str, float], list[str]]:
    """Read the scores that the blocks of a job's model hold, by example id; and descriptions of damaged files."""
    scores: dict[str, float] = {}
    damaged = []
    for path in sorted(_blocks(job, folder).glob("*.parquet")):
        try:
            key, ids, answers = _parsed(path)
        except RunError as problem:
            damaged.append(f"{problem}; it is scored again")
            continue
        if key == path.stem == _key(job, ids):
            scores |= dict(zip(ids, answers.scores.tolist(), strict=True))
    return scores, damaged


def _batched(things: Sequence[T], size: int) -> Iterator[tuple[T, ...]]:
    for start in range(0, len(things), size):
        yield tuple(things[start : start + size])


def make_tasks(jobs: Sequence[Job], folder: Path, evaluation_id: str, *, fresh: bool = False) -> list[Task]:
    """Group jobs into tasks of one model and seed each; small splits share a task, large ones take one for each shard.

    Tasks do not depend on the number of workers, and neither do answers.
    """
    tasks: list[list[Piece]] = []
    for _, same_weights in groupby(jobs, key=lambda job: (job.model.id, job.seed)):
        room = 0
        for job in same_weights:
            shards = shards_of(job, folder)
            sent = job if len(shards) == 1 else replace(job, split=replace(job.split, examples=()))
            for shard in shards:
                if len(shard.examples) > room:
                    tasks.append([])
                    room = EXAMPLES
                tasks[-1].append(Piece(sent, (shard,), len(shards) == 1))
                room -= len(shard.examples)
    return [Task(tuple(pieces), evaluation_id, fresh) for pieces in tasks]


def one_shard_each(task: Task) -> list[Task]:
    """Split a task into tasks of one shard each."""
    return [
        replace(task, pieces=(Piece(piece.job, (shard,), piece.is_all and len(piece.shards) == 1),))
        for piece in task.pieces
        for shard in piece.shards
    ]


def score(task: Task, progress: Progress) -> Done:
    """Score the shards that are not kept yet, and keep them. A run that fails is an outcome, not an exception.

    This runs in a worker.

    Raises:
        StoreError: a file cannot be written.
    """
    from threadpoolctl import threadpool_limits

    done = Done()
    for piece in task.pieces:
        job, began = piece.job, provenance.now()
        try:
            if job.blocked is not None:
                raise RunError(job.blocked)
            parts = [kept(shard, task, done) for shard in piece.shards]
            todo = [index for index, part in enumerate(parts) if part is None]
            if todo:
                in_blocks, damaged = ({}, []) if task.fresh else known(job, piece.shards[0].path.parents[1])
                done.damaged += damaged
                with threadpool_limits(1), progress(_label(piece), _count(piece, todo)) as advance:
                    classifier = _classifier(job, task.evaluation_id)
                    for index in todo:
                        shard = piece.shards[index]
                        answers = _answer(job, classifier, shard, in_blocks, advance)
                        answers = answers._replace(evaluation_id=task.evaluation_id)
                        write(shard, answers, keys.model_of(job.spec), job.ingredients.device)
                        parts[index] = answers
            if piece.is_all:
                done.scored.append(scoring.finished(job, [part for part in parts if part is not None]))
        except StoreError:
            raise
        except Exception as problem:  # noqa: BLE001 (whatever a model raises is stored, and the others go on)
            done.scored.append(scoring.unfinished(job, began, "error", problem))
    return done


def _answer(
    job: Job, classifier: Classifier, shard: Shard, in_blocks: Mapping[str, float], advance: Advance
) -> Answers:
    """Score the examples of a shard that no block holds. The shard has no timing then, and no count of tokens."""
    rest = [example for example in shard.examples if example.example_id not in in_blocks]
    if len(rest) == len(shard.examples):
        return scoring.answer(job, classifier, rest, advance)
    advance(len(shard.examples) - len(rest), "")
    answers = scoring.answer(job, classifier, rest, advance)
    merged = dict(in_blocks) | dict(zip([example.example_id for example in rest], answers.scores.tolist(), strict=True))
    scores = np.array([merged[example.example_id] for example in shard.examples], dtype=np.float64)
    return Answers(scores, None, None, None, answers.started_at)


def _label(piece: Piece) -> str:
    """Label of a piece; it names the part of a run that is divided among tasks."""
    return piece.job.label if piece.is_all else f"{piece.job.label} [{piece.shards[0].key[:6]}]"


def _count(piece: Piece, indices: Sequence[int]) -> int:
    return sum(len(piece.shards[index].examples) for index in indices)


_latest: tuple[str, Classifier] | None = None


def _classifier(job: Job, evaluation_id: str) -> Classifier:
    """Load the job's model, or take it from the previous task if that had the same."""
    global _latest
    name = keys.key([evaluation_id, keys.model_of(job.spec)])
    if _latest is None or _latest[0] != name:
        _latest = None  # two models at a time are not needed
        _latest = name, loaded(job)
    return _latest[1]


def loaded(job: Job) -> Classifier:
    """Load the job's model, and check that its weights are those of its key."""
    classifier = scoring.load(job)
    folder, record = job.ingredients.adapter_dir, job.adapter
    if folder is not None and record is not None:
        found = (card.adapter_digest(folder), identity(folder))  # trained here, or from elsewhere
        if record.adapter_digest not in found:
            raise AdapterError(f"{folder}: was replaced after it was checked; evaluate the suite again")
    return classifier


def kept(shard: Shard, task: Task, done: Done) -> Answers | None:
    """Read the kept answers of a shard; None if it must be scored."""
    try:
        answers = read(shard)
    except RunError as problem:
        done.damaged.append(f"{problem}; it is scored again")
        return None
    is_other = answers is not None and answers.evaluation_id != task.evaluation_id
    return None if task.fresh and is_other else answers


def write(shard: Shard, answers: Answers, model: Mapping[str, Any], kind: str = device.PROCESSOR) -> None:
    """Keep a shard's answers, whole or not at all, even if the power fails.

    Args:
        model: everything besides the examples that determines the answers.
        kind: kind of device that computed them.

    Raises:
        StoreError: there is no room, or the folder is not writable.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    ids = [example.example_id for example in shard.examples]
    footer = {
        "key": shard.key,
        "model": dict(model),
        "checksum": _checksum(answers.scores),
        "tokens": answers.tokens,
        "truncated": answers.truncated,
        "seconds": answers.seconds,
        "started_at": answers.started_at.isoformat(),
        "evaluation_id": answers.evaluation_id,
        "hardware": {**provenance.hardware(), **device.described(kind)},
    }
    columns = {"example_id": pa.array(ids, pa.string()), "score": pa.array(answers.scores, pa.float64())}
    table = pa.table(columns).replace_schema_metadata({FOOTER: json.dumps(footer, sort_keys=True).encode()})
    try:
        with atomic.whole(shard.path) as fresh:
            pq.write_table(table, fresh, compression="zstd")
    except OSError as problem:
        raise StoreError(
            f"{shard.path.parent}: scores cannot be written ({problem.strerror or problem}); free some space or make "
            "the folder writable; what was stored before stays"
        ) from problem


def read(shard: Shard) -> Answers | None:
    """Read the file of a shard; None if there is none.

    Raises:
        RunError: the file is damaged, or belongs to another shard.
    """
    if not shard.path.is_file():
        return None
    key, ids, answers = _parsed(shard.path)
    if key != shard.key or ids != [example.example_id for example in shard.examples]:
        raise RunError(f"{shard.path}: is damaged (its answers are not those that were kept)")
    return answers


def _parsed(path: Path) -> tuple[str, list[str], Answers]:
    """Read a file: its key, the ids of its examples, and their answers, which match the file's checksum."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, partitioning=None)
        footer = json.loads(table.schema.metadata[FOOTER])
        ids, scores = table["example_id"].to_pylist(), np.asarray(table["score"].to_numpy(), dtype=np.float64)
        answers = Answers(
            scores,
            footer["tokens"],
            footer["truncated"],
            None if footer["seconds"] is None else float(footer["seconds"]),
            datetime.fromisoformat(footer["started_at"]),
            footer["evaluation_id"],
        )
        key, is_whole = footer["key"], footer["checksum"] == _checksum(scores)
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as problem:
        reason = (str(problem).splitlines() or [type(problem).__name__])[0]
        raise RunError(f"{path}: is damaged ({reason[:200]})") from None
    if not is_whole:
        raise RunError(f"{path}: is damaged (its answers are not those that were kept)")
    return key, ids, answers


def _checksum(scores: np.ndarray[Any, np.dtype[np.float64]]) -> str:
    return checksum.of_predictions((scores > 0.5).astype(np.int8), scores)


def joined(job: Job, folder: Path) -> Scored:
    """Combine the shards of a job into its run.

    Raises:
        RunError: a shard is damaged or missing.
    """
    parts = []
    for shard in shards_of(job, folder):
        answers = read(shard)
        if answers is None:
            raise RunError(f"{shard.path}: was removed during the evaluation; evaluate the suite again")
        parts.append(answers)
    return scoring.finished(job, parts)
