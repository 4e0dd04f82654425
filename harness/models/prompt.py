"""Language models asked in words: the class is the one whose label words are likelier after the prompt."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoModelForCausalLM

from harness.errors import RunError
from harness.models import causal, tokens, transformer, variants
from harness.models.classifier import Classifier, ModelInputs, Scores, Solved
from harness.models.prompting import Frame
from harness.models.tokens import PROBE_TEXTS
from harness.progress import Advance
from harness.stats.inference import Floats
from harness.suite.prompts import Calibration, PromptModel
from harness.suite.text import Rendered

CONTENT_FREE = ("N/A", "[MASK]", "")


class Prompted:
    """A causal language model with one prompt.

    Args:
        asked: its network, ready to be asked.
        frame: the prompt with its shots.
        calibration: how likelihoods are corrected; None to leave them as they are.
        rows: training rows, for a threshold.
    """

    def __init__(
        self, asked: causal.Likelihoods, frame: Frame, calibration: Calibration | None, rows: Sequence[Solved]
    ) -> None:
        self.asked, self.frame = asked, frame
        self.n_negative = len(frame.prompt.label_words.negative)
        self.prior = torch.zeros(len(frame.answers), dtype=torch.float64)
        self.shift = 0.0
        method = calibration.method if calibration is not None else None
        if method == "domain_pmi" and calibration is not None:
            self.prior = self._of([self._premise(calibration)])[0]
        elif method == "contextual" and calibration is not None:
            free = self.log_odds(
                self._of([frame.ids("", text)[0] for text in calibration.content_free or CONTENT_FREE])
            )
            positive = float((1 / (1 + np.exp(-free))).mean())
            self.shift = float(np.log(positive) - np.log1p(-positive))
        elif method == "threshold":
            odds = self.log_odds(self._of([frame.ids(row.title, row.content)[0] for row in rows]))
            self.shift = best_threshold(odds, [row.label for row in rows])

    def _of(self, rows: Sequence[Sequence[int]], advance: Advance = lambda units, note: None) -> torch.Tensor:
        return self.asked.log_likelihoods(rows, self.frame.answers, advance)

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
        odds = self.log_odds(self._of(rows, advance)) - self.shift
        if not np.isfinite(odds).all():
            raise RunError(
                f"{int((~np.isfinite(odds)).sum())} of {len(odds)} scores are not numbers; check the weights"
            )
        scores = np.exp(-np.logaddexp(0.0, -odds))
        read = sum(map(len, rows)) - len(rows) * len(self.asked.prefix)
        return Scores(np.asarray(scores, dtype=np.float64), read, cut)


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


def language_model(folder: Path) -> Any:
    """The base as a causal language model in float32, with every weight from its file.

    Raises:
        RunError: the architecture has no such model, is an encoder, or the checkpoint lacks the output layer.
    """
    config: Any = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    remedy = "declare a base that is one, or score this one with a probe or an adapter"
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise RunError(f"{folder}: the architecture {config.model_type!r} is no causal language model; {remedy}")
    kind: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    if hasattr(config, "is_decoder") and _is_encoder(config):
        raise RunError(
            f"{folder}: {config.model_type!r} is an encoder, which sees the whole text and cannot continue it; {remedy}"
        )
    auto: Any = AutoModelForCausalLM  # untyped there
    model, report = auto.from_pretrained(
        folder,
        dtype=torch.float32,
        local_files_only=True,
        trust_remote_code=False,
        attn_implementation="sdpa" if kind._supports_sdpa else "eager",
        output_loading_info=True,
    )
    is_tied = config.get_text_config().tie_word_embeddings
    tied = set(getattr(model, "all_tied_weights_keys", None) or {}) if is_tied else set()
    lost = sorted(set(report["missing_keys"]) - tied)
    if lost:
        raise RunError(
            f"{folder}: the checkpoint lacks weights of the language model ({', '.join(lost[:3])}), which would answer "
            f"at random; {remedy}"
        )
    return model.eval()


def _is_encoder(config: Any) -> bool:
    """Report whether an architecture that could be a decoder is configured as an encoder."""
    architectures = config.architectures or ()
    names = [name for name in architectures if not name.endswith(("ForCausalLM", "LMHeadModel"))]
    from transformers import MODEL_FOR_MASKED_LM_MAPPING

    return type(config) in MODEL_FOR_MASKED_LM_MAPPING and not config.is_decoder and len(names) == len(architectures)


def settled(model: Any, frame: Frame) -> causal.Likelihoods:
    """Prove how a language model can be asked fast, on reviews of very different lengths."""
    longest = " ".join(PROBE_TEXTS * 3)
    rows = [frame.ids(title, text)[0] for title, text in [("", "good"), ("", PROBE_TEXTS[0]), ("Good", longest)]]
    made = frame.tokenizer
    special = [getattr(made, f"{name}_token_id") for name in ("pad", "eos", "unk", "bos")]
    known = model.get_input_embeddings().weight.shape[0]
    if (largest := max(map(max, [*rows, *frame.answers]))) >= known:
        raise RunError(
            f"{frame.folder}: the tokenizer gives token id {largest}, but the network has embeddings for {known}: "
            "tokenizer and weights belong to different models"
        )
    return causal.settle(model, sorted(rows, key=len), frame.answers, special, shared_beginning(frame))


BEGINNINGS = ("good", "Good", "the phone", "It", "I", "A", "5 stars", '"', "(", "-", "é", "…", "不")
"""Beginnings of reviews that a tokenizer may join with what stands before them in different ways."""


def shared_beginning(frame: Frame) -> list[int]:
    """The token ids with which a prompt begins whatever the review, but for the last one, to be safe."""
    rows = [frame.ids(title, content)[0] for one in BEGINNINGS for title, content in (("", one), (one, "fine"))]
    shortest = min(map(len, rows))
    n = next((i for i in range(shortest) if len({row[i] for row in rows}) > 1), shortest)
    return list(rows[0][: max(n - 1, 0)])


def prompt(model: PromptModel, ingredients: ModelInputs) -> Classifier:
    """Load the base's language model, and calibrate it."""
    folder, given = ingredients.base, ingredients.asked
    loaded = language_model(folder)
    frame = Frame(given.prompt, given.shots, tokens.tokenizer(folder), folder, ingredients.max_length, window(loaded))
    asked = settled(loaded, frame)
    asked.network = asked.network.to(variants.DTYPES[model.precision])
    return Prompted(asked, frame, model.calibration, given.rows)


def window(model: Any) -> int | None:
    """Most tokens that a network reads; None if it states no limit."""
    learned = transformer.positions(model)
    stated = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    known = [one for one in (learned, stated) if one is not None]
    return min(known, default=None)
