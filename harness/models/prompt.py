"""Language models asked in words: the class is the one whose label words are likelier after the prompt."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.errors import AdapterError, RunError
from harness.models import (
    causal,
    cloze,
    device,
    kept_likelihoods,
    language_model,
    own_format,
    padding,
    peft,
    tokens,
    transformer,
    variants,
)
from harness.models.classifier import CARD, Classifier, ModelInputs, PromptInputs, Scores, Solved
from harness.models.padding import UNPADDED
from harness.models.prompting import ClozeFrame, Frame
from harness.models.tokens import PROBE_TEXTS
from harness.progress import Advance
from harness.stats.inference import Floats
from harness.suite.prompts import Calibration, Prompt, PromptModel
from harness.suite.text import Rendered

CONTENT_FREE = ("N/A", "[MASK]", "")


class Prompted:
    """A language model with one prompt.

    Args:
        asked: its network, ready to be asked.
        frame: the prompt with its shots.
        calibration: how likelihoods are corrected; None to leave them as they are.
        rows: training rows, for a threshold.
        kept_in: folder that keeps the log-likelihoods for models that ask the same; None to keep nothing.
    """

    def __init__(
        self,
        asked: causal.Likelihoods | cloze.Hidden,
        frame: Frame,
        calibration: Calibration | None,
        rows: Sequence[Solved],
        kept_in: Path | None = None,
    ) -> None:
        self.asked, self.frame, self.kept_in = asked, frame, kept_in
        self.n_negative = len(frame.prompt.label_words.negative)
        self.prior = torch.zeros(len(frame.answers), dtype=torch.float64)
        self.shift = 0.0
        method = calibration.method if calibration is not None else None
        if method == "domain_pmi" and calibration is not None:
            self.prior = self._of([self._premise(calibration)])[0][0]
        elif method == "contextual" and calibration is not None:
            texts = calibration.content_free or CONTENT_FREE
            free = self.log_odds(self._of([frame.ids("", text)[0] for text in texts])[0])
            positive = float((1 / (1 + np.exp(-free))).mean())
            self.shift = float(np.log(positive) - np.log1p(-positive))
        elif method == "threshold":
            odds = self.log_odds(self._of([frame.ids(row.title, row.content)[0] for row in rows])[0])
            self.shift = best_threshold(odds, [row.label for row in rows])

    def _of(
        self, rows: Sequence[Sequence[int]], advance: Advance = lambda units, note: None
    ) -> tuple[torch.Tensor, float]:
        """Log-likelihoods, shape (rows, words), and the seconds that another model spent on them."""
        answers = self.frame.answers
        ask = lambda: self.asked.log_likelihoods(rows, answers, advance)  # noqa: E731
        found, borrowed_seconds = kept_likelihoods.kept(self.kept_in, rows, answers, ask)
        if borrowed_seconds > 0:
            advance(len(rows), "")
        return found, borrowed_seconds

    def _premise(self, calibration: Calibration) -> list[int]:
        frame = self.frame
        text = calibration.premise
        if text is None:
            marked = frame.question("", "\0")
            text = marked.rpartition("\0")[2].strip()
        if not text:
            raise RunError(
                f"prompt {frame.prompt.id!r}: nothing follows the review in its template, so calibration by domain_pmi "
                "needs a premise"
            )
        ids: list[int] = frame.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return [*frame.beginning, *ids]

    def log_odds(self, likelihoods: torch.Tensor) -> Floats:
        """Log-odds of class 1 from the log-likelihoods of the label words, shape (n, words), before any shift."""
        corrected = likelihoods - self.prior
        negative = torch.logsumexp(corrected[:, : self.n_negative], dim=1)
        positive = torch.logsumexp(corrected[:, self.n_negative :], dim=1)
        return np.asarray((positive - negative).numpy(), dtype=np.float64)

    def predict(self, texts: Sequence[str], advance: Advance) -> Scores:
        """Probabilities of class 1.

        Raises:
            RunError: a score is not a finite number.
        """
        rows, cut = [], 0
        for text in texts:
            title, content = text.fields if isinstance(text, Rendered) else ("", text)
            ids, was_cut = self.frame.ids(title, content)
            rows.append(ids)
            cut += was_cut
        likelihoods, borrowed_seconds = self._of(rows, advance)
        odds = self.log_odds(likelihoods) - self.shift
        if not np.isfinite(odds).all():
            raise RunError(
                f"{int((~np.isfinite(odds)).sum())} of {len(odds)} scores are not numbers; check the weights"
            )
        scores = np.exp(-np.logaddexp(0.0, -odds))
        read = sum(map(len, rows)) - len(rows) * len(self.asked.prefix)
        return Scores(np.asarray(scores, dtype=np.float64), read, cut, borrowed_seconds)


def best_threshold(odds: Floats, labels: Sequence[int]) -> float:
    """The log-odds above which answering `positive` is most often right; of several, the one in the middle."""
    order = np.argsort(odds, kind="stable")
    ordered, truth = odds[order], np.asarray(labels)[order]
    # Right answers if the threshold lies before place i: negatives below it, positives from it on.
    right = np.concatenate([[0], np.cumsum(truth == 0)]) + np.concatenate([np.cumsum((truth == 1)[::-1])[::-1], [0]])
    apart = np.concatenate([[True], ordered[1:] > ordered[:-1], [True]])
    right = np.where(apart, right, -1)
    places = np.flatnonzero(right == right.max())
    place = int(places[(len(places) - 1) // 2])
    low = ordered[place - 1] if place > 0 else ordered[0] - 1.0
    high = ordered[place] if place < len(ordered) else ordered[-1] + 1.0
    return float((low + high) / 2)


def probe_rows(frame: Frame) -> list[list[int]]:
    """Prompts for reviews of very different lengths, as token ids."""
    longest = " ".join(PROBE_TEXTS * 3)
    return [frame.ids(title, text)[0] for title, text in [("", "good"), ("", PROBE_TEXTS[0]), ("Good", longest)]]


def settled(model: Any, frame: Frame) -> causal.Likelihoods:
    """Prove how a language model can be asked fast, on reviews of very different lengths."""
    rows = probe_rows(frame)
    made = frame.tokenizer
    special = [getattr(made, f"{name}_token_id") for name in ("pad", "eos", "unk", "bos")]
    _check_vocabulary(model, frame, rows)
    return causal.settle(model, sorted(rows, key=len), frame.answers, special, shared_beginning(frame))


def _check_vocabulary(model: Any, frame: Frame, rows: Sequence[Sequence[int]]) -> None:
    known = padding.vocabulary_size(model)
    if (largest := max(max(row, default=0) for row in [*rows, *frame.answers])) >= known:
        raise RunError(
            f"{frame.folder}: the tokenizer gives token id {largest}, but the network has embeddings for {known}: "
            "tokenizer and weights belong to different models"
        )


BEGINNINGS = ("good", "Good", "the phone", "It", "I", "A", "5 stars", '"', "(", "-", "é", "…", "不")
"""Beginnings of reviews that a tokenizer may join with what stands before them in different ways."""


def shared_beginning(frame: Frame) -> list[int]:
    """The token ids with which a prompt begins whatever the review, but for the last one, to be safe."""
    rows = [frame.ids(title, content)[0] for one in BEGINNINGS for title, content in (("", one), (one, "fine"))]
    shortest = min(map(len, rows))
    n = next((i for i in range(shortest) if len({row[i] for row in rows}) > 1), shortest)
    return list(rows[0][: max(n - 1, 0)])


def prompt(model: PromptModel, ingredients: ModelInputs) -> Classifier:
    """Load the language model, with its adapter if it has one, prove how it can be asked fast, and calibrate it."""
    if model.task == "masked_lm":
        return _filling(model, ingredients)
    loaded = network(ingredients)
    once = iter([loaded])

    def in_precision(_settled: Any) -> Any:
        fresh = lambda: next(once, None) or network(ingredients)  # noqa: E731 (PEFT may fail to merge the first one)
        return variants.made("torch", model.precision, fresh, ingredients)

    return _asked(model, ingredients, loaded, in_precision)


def merged(model: PromptModel, ingredients: ModelInputs) -> Classifier:
    """Do the same with the adapter merged into the base, in float32."""
    return _asked(model, ingredients, network(ingredients), variants.merged)


def _asked(model: PromptModel, ingredients: ModelInputs, loaded: Any, variant: Callable[[Any], Any]) -> Classifier:
    """Prove in float32 how a network can be asked, and ask a variant of it."""
    frame = framed(ingredients.asked, loaded, ingredients)
    asked = settled(loaded, frame)
    asked.network = variant(loaded)
    asked.kept.clear()  # keys and values of the prefix as the proof computed them
    return Prompted(asked, frame, model.calibration, ingredients.asked.rows, ingredients.likelihoods_dir)


def _filling(model: PromptModel, ingredients: ModelInputs) -> Classifier:
    """Load a masked language model, which fills the gap after the prompt."""
    given, folder = ingredients.asked, ingredients.base
    loaded = device.place(language_model.masked(folder), ingredients.device)
    made = tokens.tokenizer(folder)
    frame = ClozeFrame(given.prompt, given.shots, made, folder, ingredients.max_length, language_model.window(loaded))
    rows = sorted(probe_rows(frame), key=len)
    _check_vocabulary(loaded, frame, [*rows, frame.ending])
    special = [getattr(made, f"{name}_token_id") for name in ("pad", "eos", "unk", "bos")]
    asked = cloze.settle(loaded, rows, special, made.mask_token_id, frame.ending)
    asked.network = own_format.rounded(loaded, variants.DTYPES[model.precision])
    return Prompted(asked, frame, model.calibration, given.rows, ingredients.likelihoods_dir)


def network(ingredients: ModelInputs) -> Any:
    """The language model in float32; an adapter on it is provably loaded, and answers as its card records."""
    if ingredients.adapter_dir is None:
        return device.place(language_model.causal(ingredients.base), ingredients.device)
    loaded = peft.with_adapter(ingredients.base, ingredients.adapter_dir, task="causal_lm")
    loaded = device.place(loaded, ingredients.device)
    peft.prove_loaded(loaded, ingredients.adapter_dir, ingredients.base, task="causal_lm")
    check_reloaded(loaded, ingredients.adapter_dir, ingredients)
    return loaded


def framed(given: PromptInputs, loaded: Any, ingredients: ModelInputs) -> Frame:
    """A prompt with its shots, for a language model."""
    folder = ingredients.base
    window = language_model.window(loaded)
    return Frame(given.prompt, given.shots, tokens.tokenizer(folder), folder, ingredients.max_length, window)


def probe_scores(loaded: Any, frame: Frame) -> list[float]:
    """A language model's scores for the probe texts, one at a time: recorded after training, compared once loaded."""
    plain = causal.Likelihoods(loaded, UNPADDED, (), shares=False)
    asked = Prompted(plain, frame, None, ())
    found: list[float] = [float(asked.predict([text], lambda units, note: None).scores[0]) for text in PROBE_TEXTS]
    return found


def check_reloaded(loaded: Any, folder: Path, ingredients: ModelInputs) -> None:
    """Compare a reloaded adapter with the network that training had in memory, if a training card lies beside it.

    Raises:
        AdapterError: they answer the probe texts differently, or the card does not state how they were asked.
    """
    if (folder / CARD).is_file():
        transformer.check_probe(_probed(loaded, folder, ingredients), folder)


def reloaded_scores(ingredients: ModelInputs) -> list[float]:
    """Scores of the probe texts by an adapter that was trained here, asked as at the end of its training."""
    return _probed(network(ingredients), ingredients.adapter, ingredients)


def _probed(loaded: Any, folder: Path, ingredients: ModelInputs) -> list[float]:
    card = folder / CARD
    try:
        told = json.loads(card.read_text(encoding="utf-8"))
        first = Prompt.model_validate_json(json.dumps(told["prompts"][0]))
        max_length = int(told["text"]["max_length"])
    except (ValueError, KeyError, TypeError, IndexError) as problem:
        raise AdapterError(
            f"{card}: does not state the prompts that it was trained on ({problem!r}); restore it"
        ) from None
    frame = framed(PromptInputs(first, (), ()), loaded, replace(ingredients, max_length=max_length))
    return probe_scores(loaded, frame)
