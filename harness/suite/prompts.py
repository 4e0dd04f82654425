"""Declarations of prompts: how a language model is asked, what it may answer, and what it is shown before."""

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field, model_validator

from harness.suite.fields import Closed, Id, Name, Seed, Seeds, check_not_turned, repeated
from harness.suite.text import compiled

Words = Annotated[tuple[Name, ...], Field(min_length=1, max_length=100)]


def _is_usable(template: str) -> str:
    compiled(template)
    return template


class LabelWords(Closed):
    """The words whose likelihoods decide between the classes. Several words of a class add their likelihoods."""

    negative: Words
    positive: Words

    @model_validator(mode="after")
    def _differ(self) -> "LabelWords":
        if twice := repeated(word.strip() for word in self.both):
            raise ValueError(f"has the word {twice[0]!r} twice; every word must differ from all others")
        if "" in (word.strip() for word in self.both):
            raise ValueError("has a word of nothing but blanks")
        check_not_turned(self.negative, self.positive)
        return self

    @property
    def both(self) -> tuple[str, ...]:
        """All words, those of class 0 first."""
        return (*self.negative, *self.positive)


class Prompt(Closed):
    """One way of asking a language model."""

    id: Id
    template: Annotated[str, AfterValidator(_is_usable)]
    """Jinja template of the question, over `title` and `content`. The model's answer follows it."""
    label_words: LabelWords
    instruction: str = ""
    """Text before the shots and the question; in a chat, the system's message."""
    chat: bool = False
    """If true, the question is a user's message in the tokenizer's chat template, and the answer the assistant's."""
    separator: str = "\n\n"
    """Text between instruction, shots and question; a chat has messages in its place."""
    before_word: str | None = None
    """Text between question and answer; defaults to a blank, and in a chat to nothing."""
    after_word: str = Field(default="", exclude_if=lambda value: not value)
    """Text after the answer, such as a full stop, for masked language models, which see both sides of it."""
    cut: Literal["end", "middle"] = "end"
    """The part of a long review that is left out."""

    @property
    def gap(self) -> str:
        """The text between question and answer."""
        return self.before_word if self.before_word is not None else "" if self.chat else " "


class Shots(Closed):
    """Solved examples that the model is shown before every question."""

    split: Id
    """Training split that they are drawn from."""
    count: Annotated[int, Field(ge=1, le=64)]
    seeds: Seeds
    """One draw each; the model is scored with every draw."""
    balanced: bool = True
    """If true, as many of each class; an odd one is of the class that the draw meets first."""
    order: Literal["drawn", "alternating", "negative_first", "positive_first"] = "drawn"


class Calibration(Closed):
    """Correction of the likelihoods for words that the model prefers whatever the text. Scored rows are never read."""

    method: Literal["contextual", "domain_pmi", "threshold"]
    """`contextual`: Zhao et al. (2021). `domain_pmi`: Holtzman et al. (2021). `threshold`: on training rows."""
    content_free: Annotated[tuple[str, ...], Field(min_length=1, max_length=20)] | None = None
    """Texts without content, for `contextual`; defaults to N/A, [MASK] and the empty text."""
    premise: Name | None = None
    """Prompt for `domain_pmi`; defaults to what the template has after the review."""
    split: Id | None = None
    """Training split, for `threshold`."""
    rows: Annotated[int, Field(ge=10, le=100_000)] | None = None
    """Number of rows drawn from it."""
    seed: Seed | None = None
    """Seed of the draw."""

    @model_validator(mode="after")
    def _has_its_own_keys(self) -> "Calibration":
        keys: Mapping[str, tuple[str, ...]] = {
            "contextual": ("content_free",),
            "domain_pmi": ("premise",),
            "threshold": ("split", "rows", "seed"),
        }
        given = {key for some in keys.values() for key in some if getattr(self, key) is not None}
        if strange := sorted(given - set(keys[self.method])):
            raise ValueError(f"method {self.method!r} does not use {', '.join(strange)}; remove it")
        if self.method == "threshold" and len(given) < 3:
            raise ValueError("method 'threshold' needs split, rows and seed")
        return self


def _are_different(prompts: tuple[str, ...]) -> tuple[str, ...]:
    if twice := repeated(prompts):
        raise ValueError(f"lists {twice[0]!r} more than once")
    return prompts


Prompts = Annotated[tuple[Id, ...], Field(min_length=1, max_length=100), AfterValidator(_are_different)]


class Asked(NamedTuple):
    """One run of a prompted model."""

    prompt: str
    draw: int | None
    """Seed of its shots; None for zero-shot."""
    training_seed: int | None
    """Seed of its adapter's training; None without an adapter that is trained here."""


class PromptModel(Closed):
    """A language model, asked in words: one run for each prompt, draw of shots and seed of its adapter's training."""

    id: Id
    backend: Literal["prompt"]
    base: Id | None = None
    """The base as it is."""
    adapter: Id | None = Field(default=None, exclude_if=lambda value: value is None)
    """The base with an adapter of the same task."""
    task: Literal["causal_lm", "masked_lm"]
    """The head of the base that answers: of a causal language model, which continues the prompt, or of a masked one,
    which fills a gap after it."""
    prompts: Prompts
    """Ids of `[[prompt]]` tables; they are treated like seeds."""
    shots: Shots | None = Field(default=None, exclude_if=lambda value: value is None)
    """Without them, the model is asked zero-shot."""
    calibration: Calibration | None = Field(default=None, exclude_if=lambda value: value is None)
    precision: Literal["fp32", "bf16", "auto"]
    """`auto`: bf16 where this machine multiplies it in hardware and, with an adapter, it gives the reference's answers;
    else fp32."""

    @model_validator(mode="after")
    def _is_one_of_two(self) -> "PromptModel":
        if (self.base is None) == (self.adapter is None):
            raise ValueError("give base for the language model as it is, or adapter for one with an adapter")
        if self.adapter is not None and self.task != "causal_lm":
            raise ValueError("adapters are of causal language models; task = 'masked_lm' takes a base")
        return self

    @property
    def asked(self) -> tuple[tuple[str, int | None], ...]:
        """Prompts, each with every seed of the shots."""
        draws = self.shots.seeds if self.shots is not None else (None,)
        return tuple((prompt, draw) for prompt in self.prompts for draw in draws)

    @property
    def training_splits(self) -> tuple[str, ...]:
        """Splits whose labels it reads."""
        shown = (self.shots.split,) if self.shots is not None else ()
        fitted = (self.calibration.split,) if self.calibration is not None else ()
        return tuple(split for split in (*shown, *fitted) if split is not None)
