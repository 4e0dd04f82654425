"""The nouns of the project as frozen records. Plain data: no behaviour, no I/O.

Every field is documented where it stands. `None` means "there is no such number", never zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Status: TypeAlias = Literal["started", "success", "cancelled", "error"]
Outcome: TypeAlias = Literal["pass", "fail", "inconclusive"]
Answer: TypeAlias = Literal["confirmed", "refuted", "undecided"]


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled review."""

    example_id: str
    """Digest of label, title and content (32 hex digits); the second identical row of a split gets `-2`, and so on."""
    title: str
    """The review's title; empty where the source has none."""
    content: str
    """The review's body."""
    label: int
    """0 negative, 1 positive."""
    cluster: str | None
    """What examples have in common that makes them correlated, such as the review a sentence is from."""
    text_digest: str
    """Digest of title and content without the label (32 hex digits): equal texts are found whatever their labels."""
    columns: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Values of the split's `slice_columns` by name, empty where the row has none; they count in no digest."""


@dataclass(frozen=True, slots=True)
class Split:
    """A named, digest-pinned, ordered set of examples."""

    split_id: str
    examples: tuple[Example, ...]
    digest: str
    """SHA-256 over the ordered example ids and clusters (64 hex digits)."""
    source: Mapping[str, Any]
    """The rule in the suite file that made it, as JSON-able values."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one run says of one example."""

    example_id: str
    predicted: int
    """0 or 1: 1 where `score` is above one half."""
    score: float
    """Probability of class 1, in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A number about a run, with its uncertainty."""

    name: str
    value: float | None
    """None where it is not defined, as F1 is without any positive."""
    ci_low: float | None
    """Lower end of the 95 % interval."""
    ci_high: float | None
    """Upper end of the 95 % interval."""
    n: int
    """Examples that it was computed from."""
    higher_is_better: bool


@dataclass(frozen=True, slots=True)
class AdapterRecord:
    """Trained weights on disk and where they came from. What nobody told of weights from elsewhere is None."""

    adapter_digest: str
    """SHA-256 over the weights and configuration files (64 hex digits)."""
    adapter_id: str
    method: str
    """`lora`, `ia3`, … or `full` for every weight."""
    params: Mapping[str, Any]
    base_digest: str
    """Of the base that it was trained on, or that the suite puts it on where it does not say."""
    trained_on: str | None
    """Digest of the split that it was trained on."""
    n_trainable: int | None
    """Parameters that training could change, the head included."""
    seed: int | None
    train_seconds: float | None
    peak_bytes: int | None
    """Largest resident set of the training process up to the end of this training."""
    size_bytes: int
    """Bytes on disk of the weights and their configuration."""
    card: Mapping[str, Any]
    """The whole training card; empty where there is none."""


@dataclass(frozen=True, slots=True)
class Parity:
    """How a variant of a trained model answers beside its reference: torch in fp32, nothing merged.

    The variant's numbers are None where it could not be made or asked.
    """

    parity_key: str
    """Digest of all that went in."""
    adapter_digest: str
    adapter_id: str
    seed: int | None
    form: str
    """`reloaded`, `torch fp32 merged`, `torch bf16`, `openvino int8`, …"""
    n: int
    """Texts that both were asked."""
    flips: int | None
    """Texts of which they say another class. No labels are read."""
    flips_low: float | None
    """Lower end of the 95 % Wilson interval of the share of flips."""
    flips_high: float | None
    turned_positive: int | None
    """Flips to class 1. None, as the next two, in checks of earlier releases too."""
    turned_negative: int | None
    """Flips to class 0."""
    p_value: float | None
    """Exact two-sided McNemar p-value that a flip goes either way equally often: whether the variant leans to a
    class."""
    largest_move: float | None
    """Largest absolute difference of a log-odds."""
    flips_allowed: float
    """Largest share of flips that passes."""
    move_allowed: float
    """Largest move of a log-odds that passes."""
    passed: bool
    problem: str | None
    """Why there are no numbers."""
    spec: Mapping[str, Any]
    """What `parity_key` is the digest of."""
    hardware: Mapping[str, Any]
    checked_at: datetime
    """UTC, without time zone."""


@dataclass(frozen=True, slots=True)
class Run:
    """One model, one seed, one split: all that went in and what it came to; its predictions are kept beside it."""

    run_id: str
    """Unique to this execution."""
    run_key: str
    """Digest of every input that can change the predictions."""
    suite: str
    suite_digest: str
    split_id: str
    split_digest: str
    model_id: str
    configuration: str
    """Digest of the model with everything but its seed."""
    seed: int | None
    """None for a model without randomness."""
    adapter_digest: str | None
    status: Status
    error: str | None
    spec: Mapping[str, Any]
    """What `run_key` is the digest of, spelled out."""
    packages: Mapping[str, str]
    hardware: Mapping[str, Any]
    git_commit: str | None
    git_dirty: bool | None
    started_at: datetime
    """UTC, without time zone."""
    finished_at: datetime
    seconds: float | None
    """Wall time of prediction alone, loading excluded; None where it used what another model had computed."""
    tokens: int | None
    """Tokens the model read, special ones included and padding excluded; None where it has no tokenizer."""
    truncated: int | None
    """Examples cut at `max_length`."""
    metrics: tuple[Metric, ...]
    evaluation_id: str | None = None
    """What the runs of one call of `harness evaluate` share: their timings may be compared."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one rule of a gate."""

    suite_digest: str
    gate_id: str
    """The rule in words: `lora on amazon-test: accuracy >= 0.84`."""
    judged_at: datetime
    outcome: Outcome
    blocking: bool
    """Whether this outcome fails the command."""
    reason: str
    """One sentence with the numbers that decided."""
    numbers: Mapping[str, Any]
    """Those numbers by name: `value`, `ci_low`, `ci_high`, `n`, `limit`, …"""


@dataclass(frozen=True, slots=True)
class Finding:
    """What the audit found of one split, in answer to one question. Ids of examples, never their texts."""

    suite_digest: str
    split_id: str
    split_digest: str
    name: str
    """The question: `balance`, `exact_duplicates`, `near_duplicates`, `overlap`, …"""
    value: Mapping[str, Any]
    """The answer: `docs/data.md` has its fields."""
    audited_at: datetime


@dataclass(frozen=True, slots=True)
class Forgetting:
    """How far an adapted encoder is from its base in one respect, on a sample of a split's texts."""

    key: str
    """Digest of all that the number depends on."""
    adapter_digest: str
    split_digest: str
    name: str
    """`similarity` of embeddings in [-1, 1]; `mlm_loss` and `mlm_loss_of_base` in nats per masked token."""
    value: float
    """Mean over texts."""
    ci_low: float | None
    """Lower end of the 95 % interval; None where all texts are of one cluster."""
    ci_high: float | None
    n: int
    """Texts."""
    measured_at: datetime
    """UTC, without time zone."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """A run's predictions beside the truth, as arrays of n examples in the split's order."""

    example_ids: tuple[str, ...]
    labels: NDArray[np.int64]
    """Shape (n,), 0 or 1."""
    predicted: NDArray[np.int64]
    """Shape (n,), 0 or 1."""
    scores: NDArray[np.float64]
    """Shape (n,), probability of class 1."""
    clusters: NDArray[np.str_] | None
    """Shape (n,), or None where the split names no clusters."""


Place: TypeAlias = tuple[str, str]
"""A model and a split, by id."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """An earlier evaluation that models are held against, or why there is none."""

    name: str
    """As a rule or the command line names it: a name, commit, tag or time."""
    outcomes: Mapping[Place, tuple[Outcomes, ...]]
    """By model and split, those of each seed."""
    run_ids: frozenset[str]
    """Of the runs that it holds."""
    problem: str | None = None
    """Why nothing can be held against it: there is none, or it is not what was written."""
    run_keys: Mapping[Place, tuple[str, ...]] = field(default_factory=dict)
    """Of those outcomes, in the same order: they seed what is drawn of them."""
    drift: str | None = None
    """What came out otherwise when some of it was scored again: then differences are the environment's."""
    canary: str | None = None
    """What was scored again and came out the same, after `same: `; `none` where nothing could be, None if not tried."""
    other_examples: frozenset[Place] = frozenset()
    """Where its runs are of other examples than the split holds now; these have no outcomes."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What rules are judged on."""

    outcomes: Mapping[Place, tuple[Outcomes, ...]]
    """By model and split, those of each seed, where no run is missing."""
    runs: Mapping[Place, tuple[Run, ...]]
    """The runs that they are from, in the same order."""
    missing: Mapping[Place, str]
    """Why there are none: not scored, scored with other inputs, or failed."""
    adapters: Mapping[str, AdapterRecord]
    """By digest, the weights of those runs."""
    examples: Mapping[str, tuple[Example, ...]]
    """By split, in the order of the outcomes; slices are cut from these."""
    baselines: Mapping[str, Baseline]
    """By the name that rules use."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What came of an expectation."""

    rule: str
    """In words."""
    answer: Answer
    reason: str
    """One sentence with the numbers that decided, or with what is missing."""
    numbers: Mapping[str, Any]
    first_seen_at: datetime | None
    """When this store first saw it; UTC. None where it never did."""
    stated_first: bool | None
    """Whether that was before the runs that answer it; None where there are none."""
