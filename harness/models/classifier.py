"""The interface of every scored model, and the inputs that a model is made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from harness.errors import RunError
from harness.models.device import PROCESSOR
from harness.progress import Advance
from harness.stats.inference import Floats
from harness.suite.prompts import Prompt

T = TypeVar("T")

CARD = "harness-card.json"
"""Name of the training card, beside trained weights."""


@dataclass(frozen=True, slots=True)
class Scores:
    """A classifier's scores for n texts."""

    scores: Floats
    """Shape (n,), probability of class 1, in the order of the texts."""
    tokens: int | None
    """Tokens read, special ones included and padding excluded; None without a tokenizer."""
    truncated: int | None
    """Texts that were cut; None without a tokenizer."""
    borrowed_seconds: float = 0.0
    """Seconds that an earlier model spent on work reused here; if there are any, this model has no timing."""
    tokenizing_seconds: float = 0.0
    """Seconds that tokenizing the texts took, where an earlier model did it; they count towards this one's timing."""


class Classifier(Protocol):
    """Anything that separates positive from negative texts."""

    def predict(self, texts: Sequence[str], advance: Advance) -> Scores:
        """Score texts, advancing by as many as were scored."""
        ...


@runtime_checkable
class RecordedAnswers(Protocol):
    """A classifier whose answers were given elsewhere, and belong to examples."""

    def recall(self, example_ids: Sequence[str], advance: Advance) -> Scores:
        """The scores of these examples."""
        ...


@dataclass(frozen=True, slots=True)
class Solved:
    """A labelled review that a prompt shows, or that a threshold is fitted on."""

    title: str
    content: str
    label: int


@dataclass(frozen=True, slots=True)
class PromptInputs:
    """One prompt with one draw of shots."""

    prompt: Prompt
    shots: tuple[Solved, ...]
    rows: tuple[Solved, ...]
    """Training rows on which a threshold is fitted; empty without one."""


def _stated(value: T | None, what: str) -> T:
    if value is None:
        raise RunError(f"the model cannot be loaded: its declaration gives it no {what}")
    return value


@dataclass(frozen=True, slots=True)
class ModelInputs:
    """Inputs from which backends make models. Each backend takes those that its declaration asks for."""

    seed: int | None
    max_length: int
    """Tokens, special ones included."""
    base_dir: Path | None
    """Folder of the foundation model."""
    adapter_dir: Path | None
    """Folder of trained weights."""
    train_texts: Sequence[str]
    """Rendered texts of the training split, for models that are fitted or calibrated on loading; empty otherwise."""
    train_labels: Sequence[int]
    converted_dir: Path | None = None
    """Folder of the model in another runtime's format, named by a digest of everything that goes into it."""
    prompt: PromptInputs | None = None
    """For a model that is asked in words."""
    answers: Mapping[str, float] | None = None
    """Scores by example id that a system elsewhere gave; None for a model that is run here."""
    states_dir: Path | None = None
    """Folder that keeps states of a base's lower layers for its other models; None to keep none."""
    likelihoods_dir: Path | None = None
    """Folder that keeps what a language model answers to each prompt, for models that ask it the same; None to keep
    nothing."""
    device: str = PROCESSOR
    """Kind of device that the network computes on."""

    # A backend asks for an input that its declaration requires by these. Each raises a RunError where it is absent.

    @property
    def base(self) -> Path:
        """Folder of the foundation model."""
        return _stated(self.base_dir, "base")

    @property
    def adapter(self) -> Path:
        """Folder of trained weights."""
        return _stated(self.adapter_dir, "adapter")

    @property
    def converted(self) -> Path:
        """Folder of the model in another runtime's format."""
        return _stated(self.converted_dir, "folder for its conversion")

    @property
    def head_seed(self) -> int:
        """Seed of an untrained head."""
        return _stated(self.seed, "seed")

    @property
    def asked(self) -> PromptInputs:
        """The prompt, with one draw of shots."""
        return _stated(self.prompt, "prompt")

    @property
    def recorded(self) -> Mapping[str, float]:
        """Scores by example id that a system elsewhere gave."""
        return _stated(self.answers, "recorded answers")
