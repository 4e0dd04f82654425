"""The project's nouns as frozen records. Plain data: no behaviour, no I/O.

Each field is documented below it. `None` means "there is no such number", never zero.
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


UNLABELLED = -1
"""Label of an example of which nobody says whether it is negative or positive."""


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
    """0 negative, 1 positive; `UNLABELLED` where nobody says."""
    cluster: str | None
    """The group that makes examples correlated, such as the review that a sentence comes from."""
    text_digest: str
    """Digest of title and content without the label (32 hex digits): equal texts are found whatever their labels."""
    columns: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Values of the split's `slice_columns` by name, empty where the row has none; pinned by the lock, but no part of
    the split's digest: no prediction depends on them."""
    pair: str | None = None
    """The pair, or larger group, that it is judged with; within its cluster."""
    change: int = 0
    """1 if its score must be above that of its pair's original, -1 if below; 0 if it is one, or has no direction."""


@dataclass(frozen=True, slots=True)
class Split:
    """A named, digest-pinned, ordered set of examples."""

    split_id: str
    examples: tuple[Example, ...]
    digest: str
    """SHA-256 over the ordered example ids and clusters (64 hex digits)."""
    source: Mapping[str, Any]
    """The rule in the suite file that produced it, as JSON-serializable values."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One run's answer for one example."""

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
    """None where it is undefined, such as F1 without any positive."""
    ci_low: float | None
    """Lower end of the 95 % interval."""
    ci_high: float | None
    """Upper end of the 95 % interval."""
    n: int
    """Number of examples it was computed from."""
    higher_is_better: bool
    origin: str | None = None
    """Release and code of the plug-in that defines it; None for a built-in metric."""


@dataclass(frozen=True, slots=True)
class AdapterRecord:
    """Trained weights on disk and their origin. Anything unknown about weights trained elsewhere is None."""

    adapter_digest: str
    """SHA-256 over the weights and configuration files (64 hex digits)."""
    adapter_id: str
    method: str
    """`lora`, `ia3`, … or `full` for every weight."""
    params: Mapping[str, Any]
    base_digest: str
    """Digest of the base it was trained on; if the adapter does not state one, of the base the suite applies it to."""
    trained_on: str | None
    """Digest of the split that it was trained on."""
    n_trainable: int | None
    """Number of trainable parameters, including the head."""
    seed: int | None
    train_seconds: float | None
    peak_bytes: int | None
    """Peak resident set size of the training process up to the end of this training."""
    size_bytes: int
    """Size on disk of the weights and their configuration."""
    card: Mapping[str, Any]
    """The complete training card; empty where there is none."""


@dataclass(frozen=True, slots=True)
class Parity:
    """Comparison of a trained model's variant with its reference: torch in fp32, nothing merged.

    The variant's numbers are None where it could not be built or run.
    """

    parity_key: str
    """Digest of all the inputs."""
    adapter_digest: str
    adapter_id: str
    seed: int | None
    form: str
    """`reloaded`, `torch fp32 merged`, `torch bf16`, `openvino int8`, …"""
    n: int
    """Number of texts that the variant classified."""
    compared: int | None
    """Number of them that the reference classified too: those near the decision, and a fixed share of the others. None
    in checks made by earlier releases, which compared all of them."""
    flips: int | None
    """Texts to which they assign different classes. No labels are read."""
    flips_low: float | None
    """Lower end of the 95 % Wilson interval of the share of flips."""
    flips_high: float | None
    turned_positive: int | None
    """Flips to class 1. This and the next two fields are also None in checks made by earlier releases."""
    turned_negative: int | None
    """Flips to class 0."""
    p_value: float | None
    """Exact two-sided McNemar p-value for flips being equally frequent in both directions; small if the variant
    favours one class."""
    largest_move: float | None
    """Largest absolute difference in log-odds."""
    flips_allowed: float
    """Largest share of flips that passes."""
    move_allowed: float
    """Largest difference in log-odds that passes."""
    passed: bool
    problem: str | None
    """Reason for missing numbers."""
    spec: Mapping[str, Any]
    """The content that `parity_key` is the digest of."""
    hardware: Mapping[str, Any]
    checked_at: datetime
    """UTC, without time zone."""


@dataclass(frozen=True, slots=True)
class Run:
    """One model, one seed, one split: all the inputs and the result. Its predictions are stored separately."""

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
    """The full content that `run_key` is the digest of."""
    packages: Mapping[str, str]
    hardware: Mapping[str, Any]
    git_commit: str | None
    git_dirty: bool | None
    started_at: datetime
    """UTC, without time zone."""
    finished_at: datetime
    seconds: float | None
    """Wall time of prediction alone, loading excluded; None where it reused another model's computation."""
    tokens: int | None
    """Tokens the model read, including special ones but not padding; None where it has no tokenizer."""
    truncated: int | None
    """Examples cut at `max_length`."""
    metrics: tuple[Metric, ...]
    evaluation_id: str | None = None
    """Shared by all runs of one `harness evaluate` call, whose timings may be compared."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one rule of a gate."""

    suite_digest: str
    gate_id: str
    """The rule in words: `lora on amazon-test: accuracy >= 0.84`."""
    model_id: str
    """The model that the rule is about."""
    judged_at: datetime
    outcome: Outcome
    blocking: bool
    """True if this outcome makes the command fail."""
    reason: str
    """One sentence with the numbers that decided."""
    numbers: Mapping[str, Any]
    """Those numbers by name: `value`, `ci_low`, `ci_high`, `n`, `limit`, …"""


@dataclass(frozen=True, slots=True)
class Watched:
    """A model as one commit left it, compared with a baseline on the same rows."""

    series: str
    """Digest of the baseline's runs, the model, the rows and the metric."""
    position: int
    """Place in the series, from 0."""
    suite: str
    baseline: str
    model_id: str
    split_id: str
    metric: str
    weights: str
    """Digest of the weights of all seeds, or of the answers of a model without any."""
    git_commit: str | None
    value: float
    """Mean over seeds minus the baseline's, positive where it is better."""
    watched_at: datetime
    """UTC, without time zone."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The audit's answer to one question about one split. Holds ids of examples, never their texts."""

    suite_digest: str
    split_id: str
    split_digest: str
    name: str
    """The question: `balance`, `exact_duplicates`, `near_duplicates`, `overlap`, …"""
    value: Mapping[str, Any]
    """The answer; `docs/data.md` lists its fields."""
    audited_at: datetime


@dataclass(frozen=True, slots=True)
class Forgetting:
    """Distance of an adapted encoder from its base in one respect, on a sample of a split's texts."""

    key: str
    """Digest of everything that the number depends on."""
    adapter_digest: str
    split_digest: str
    name: str
    """`similarity` of embeddings in [-1, 1]; `mlm_loss` and `mlm_loss_of_base` in nats per masked token;
    `lm_loss` and `lm_loss_of_base` of a causal language model in nats per token."""
    value: float
    """Mean over texts."""
    ci_low: float | None
    """Lower end of the 95 % interval; None where all texts belong to one cluster."""
    ci_high: float | None
    n: int
    """Number of texts."""
    measured_at: datetime
    """UTC, without time zone."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A word or a run of words of a text, and what a model answers without it."""

    field: int
    """0 for the title, 1 for the content."""
    start: int
    """Where it starts in its field, in characters."""
    end: int
    """Where it ends, exclusive."""
    score: float
    """Probability of class 1 for the text without it."""


@dataclass(frozen=True, slots=True)
class Occlusion:
    """A run's scores of one example, whole and without each of its pieces. Holds places of words, never words."""

    key: str
    """Digest of everything that the scores depend on."""
    run_key: str
    split_digest: str
    example_id: str
    score: float
    """Probability of class 1 for the whole text, scored together with the shortened ones."""
    pieces: tuple[Piece, ...]
    """In the order of the text."""
    explained_at: datetime
    """UTC, without time zone."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """A run's predictions beside the truth, as arrays of n examples in the split's order."""

    example_ids: tuple[str, ...]
    labels: NDArray[np.int64]
    """Shape (n,), 0 or 1; `UNLABELLED` where nobody says."""
    predicted: NDArray[np.int64]
    """Shape (n,), 0 or 1."""
    scores: NDArray[np.float64]
    """Shape (n,), probability of class 1."""
    clusters: NDArray[np.str_] | None
    """Shape (n,), or None where the split names no clusters."""
    pairs: NDArray[np.int64] | None = None
    """Shape (n,): the number of each example's pair, -1 for one whose pair is not whole; None without pairs."""
    changes: NDArray[np.int64] | None = None
    """Shape (n,), `change` of each example; None without pairs."""


Place: TypeAlias = tuple[str, str]
"""A model and a split, by id."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """An earlier evaluation to compare models with, or the reason why there is none."""

    name: str
    """As given in a rule or on the command line: a name, commit, tag or time."""
    outcomes: Mapping[Place, tuple[Outcomes, ...]]
    """By model and split, one for each seed."""
    run_ids: frozenset[str]
    """Ids of the runs in it."""
    problem: str | None = None
    """Reason why nothing can be compared with it: it does not exist, or it was changed after it was written."""
    run_keys: Mapping[Place, tuple[str, ...]] = field(default_factory=dict)
    """Run keys of those outcomes, in the same order; they seed the resampling."""
    drift: str | None = None
    """Results that changed when part of it was scored again: then differences are due to the environment."""
    canary: str | None = None
    """Results reproduced on scoring again, after `same: `; `none` where nothing could be scored, None if not tried."""
    other_examples: frozenset[Place] = frozenset()
    """Places where its runs are on other examples than the split holds now; these have no outcomes."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The results on which rules are judged."""

    outcomes: Mapping[Place, tuple[Outcomes, ...]]
    """By model and split, one for each seed, where no run is missing."""
    runs: Mapping[Place, tuple[Run, ...]]
    """The runs that produced them, in the same order."""
    missing: Mapping[Place, str]
    """Reason for absent outcomes: not scored, scored with other inputs, or failed."""
    adapters: Mapping[str, AdapterRecord]
    """Weights of those runs, by digest."""
    examples: Mapping[str, tuple[Example, ...]]
    """By split, in the order of the outcomes; slices are taken from these."""
    baselines: Mapping[str, Baseline]
    """By the name that rules use."""


@dataclass(frozen=True, slots=True)
class Expected:
    """The answer to an expectation."""

    rule: str
    """The rule in words."""
    model_id: str
    """The model that the rule is about."""
    answer: Answer
    reason: str
    """One sentence with the numbers that decided, or naming what is missing."""
    numbers: Mapping[str, Any]
    first_seen_at: datetime | None
    """Time at which this store first saw it, in UTC; None where it never did."""
    stated_first: bool | None
    """True if that was before the runs that answer it; None where there are no such runs."""
