"""Models on the transformers library: an untrained head, or weights trained without PEFT.

Inference sorts texts by length and divides them into batches within a budget of padded tokens so that padding and
passes together cost least, and returns scores in the order of the texts.
"""

import hashlib
import json
import time
from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import copy
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import transformers
from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, AutoConfig, AutoModelForSequenceClassification

from harness import digest
from harness.declarations import TransformerModel
from harness.errors import AdapterError, RunError
from harness.models import bases, first_token, forms, lower, memory, padding, tokens
from harness.models.protocol import CARD, Classifier, Ingredients, Scores
from harness.models.tokens import PROBE_TEXTS as PROBE_TEXTS
from harness.progress import Advance

TOKENS_PER_PASS = 1024
"""Padded tokens in one forward pass of scoring; of five budgets the fastest (docs/benchmarks.md)."""
TOKENS_A_PASS_COSTS = 64
"""What a forward pass takes besides its tokens, in tokens: a smaller batch is worth less padding than this."""
TOKENS_PER_BATCH = 2048
"""The same where training judges its held-out rows: another number would be another training."""
TEXTS_AT_ONCE = 1000
"""Given to the tokenizer, whose answer is many times as large as the ids that are kept of it."""
TOKENS_KEPT = 4_000_000
"""Token ids that a process keeps from one model to the next: some 20 MB."""
_POSITIONS = ("position_embeddings", "embed_positions", "wpe")
"""Names of the tables of learned positions."""
PROBE_TOLERANCE = 1e-3
"""Largest difference of a probability between training's attention kernel and scoring's, both in float32."""

# What is newly made, missing or unused in a checkpoint is checked below, name by name; the library's report of it
# would say that every head should be trained, of models whose point is that it was not.
transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # untyped there
transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # untyped there
memory.keep_freed()
memory.keep_few_kernels()


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch within the block: sums come out the same on any number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Encoded:
    """Texts as token ids, cut at `max_length`."""

    def __init__(self, folder: Path, texts: Sequence[str], max_length: int) -> None:
        self.folder, self.tokenizer = folder, tokens.tokenizer(folder)
        self.batching = padding.UNPADDED
        whole: list[array[int]] = []
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            some = list(texts[start : start + TEXTS_AT_ONCE])
            told = self.tokenizer(some, verbose=False, return_attention_mask=False, return_token_type_ids=False)
            whole += [array("i", ids) for ids in told["input_ids"]]  # 4 bytes a token, where a list takes 36
        tokens.check_tells_apart(texts, whole, folder)
        long = [i for i, ids in enumerate(whole) if len(ids) > max_length]
        if long:
            cut = self.tokenizer([texts[i] for i in long], truncation=True, max_length=max_length)["input_ids"]
            for i, ids in zip(long, cut, strict=True):
                whole[i] = array("i", ids)
        self.ids = [ids or array("i", [tokens.stand_in(self.tokenizer, folder)]) for ids in whole]
        self.lengths = np.array([len(ids) for ids in self.ids])
        self.largest_id = max((max(ids) for ids in self.ids), default=0)
        self.truncated = len(long)
        self.spared_seconds = 0.0
        """Of tokenizing, where it was done for an earlier model."""

    def for_network(self, network: Any) -> "Encoded":
        """The same texts, in batches in which the network's answers depend on the text alone.

        That is proven here where `settle` has not done it: for texts of up to these ones' length.

        Raises:
            RunError: there is no such way, or the network has no embeddings for some of the token ids.
        """
        found = copy(self)
        found.batching = padding.of(network) or settle(network, self.folder, int(self.lengths.max()))
        if self.largest_id >= found.batching.vocabulary:
            raise RunError(
                f"{self.folder}: the tokenizer gives token id {self.largest_id}, but the network has embeddings for "
                f"{found.batching.vocabulary} (from 0 on): tokenizer and weights are of different models"
            )
        return found

    def batches(self, budget: int, chosen: Sequence[int] | None = None) -> Iterator[list[int]]:
        """All texts by index, or the chosen ones by their place, in batches of at most `budget` padded tokens."""
        lengths = self.lengths if chosen is None else self.lengths[chosen]
        return packed(lengths, budget, one_length=self.batching.side is None)

    def batch(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """Padded int64 tensors of shape (len(indices), longest of them)."""
        return self.batching.batch([self.ids[i] for i in indices])

    def trial_texts(self, count: int) -> Sequence[int]:
        """The first few texts, which a network can be tried on in one batch; one of them where nothing is padded."""
        count = min(count, len(self.ids))
        return range(count) if self.batching.side is not None else [int(self.lengths[:count].argmax())]

    def digest(self) -> str:
        """SHA-256 over all that batches are made of (64 hex digits)."""
        summed = hashlib.sha256(f"{self.batching.pad_id} {self.batching.side}".encode() + self.lengths.tobytes())
        summed.update(np.concatenate([np.array(ids, dtype=np.int64) for ids in self.ids]).tobytes())
        return summed.hexdigest()


def settle(network: Any, folder: Path, max_length: int, ask: padding.Ask = padding.logits) -> padding.Batching:
    """Find how texts share a network's batches: an empty one, a word, a sentence, and one of `max_length` tokens.

    It is noted at the network.

    Raises:
        RunError: the network cannot read such texts, or its answers depend on the batch.
    """
    longest = " ".join(PROBE_TEXTS * (1 + max_length // 32))
    texts = Encoded(folder, ["", "good", PROBE_TEXTS[0], longest], max_length)
    special = [getattr(texts.tokenizer, f"{name}_token_id") for name in ("pad", "eos", "unk", "bos")]
    with one_thread():
        return padding.settle(network, texts.ids, special, ask)


_kept: dict[str, tuple[Encoded, float]] = {}
"""Texts as token ids, and the seconds that they took."""


def encode(folder: Path, texts: Sequence[str], max_length: int) -> Encoded:
    """Texts as token ids. They are kept: the models of an evaluation that share a tokenizer read the same splits."""
    key = digest.of_json([digest.of_files(folder, bases.TOKENIZER), max_length, list(texts)])
    if key in _kept:
        known, seconds = _kept[key]
        again = copy(known)
        again.spared_seconds = seconds
        return again
    began = time.perf_counter()
    encoded = Encoded(folder, texts, max_length)
    _kept[key] = encoded, time.perf_counter() - began
    while len(_kept) > 1 and sum(int(kept.lengths.sum()) for kept, _ in _kept.values()) > TOKENS_KEPT:
        del _kept[next(iter(_kept))]
    return encoded


def packed(
    lengths: Sequence[int] | np.ndarray[Any, Any], budget: int, *, one_length: bool = False
) -> Iterator[list[int]]:
    """Indices in batches of at most `budget` padded tokens (one text at least), the longest texts first.

    Of all divisions of the sorted texts, the one with the least padded tokens, a pass counted as `TOKENS_A_PASS_COSTS`
    of them: by dynamic programming, from the shortest text on.

    Args:
        lengths: 1 at least.
        one_length: no batch has texts of different lengths.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    longest_first, n = np.asarray(lengths)[order], len(order)
    sizes, costs, alike = np.zeros(n, dtype=np.int64), np.zeros(n + 1), 0
    for start in range(n - 1, -1, -1):
        length = int(longest_first[start])
        most = min(n - start, max(1, budget // length))
        if one_length:
            alike = alike + 1 if start + 1 < n and longest_first[start + 1] == length else 1
            most = min(most, alike)
        each = length * np.arange(1, most + 1) + costs[start + 1 : start + 1 + most]
        sizes[start] = 1 + each.argmin()
        costs[start] = TOKENS_A_PASS_COSTS + each[sizes[start] - 1]
    start = 0
    while start < n:
        yield order[start : start + sizes[start]].tolist()
        start += sizes[start]


def forward_all(
    encoded: Encoded,
    step: Callable[[dict[str, torch.Tensor]], torch.Tensor],
    advance: Advance,
    chosen: Sequence[int] | None = None,
) -> torch.Tensor:
    """Apply a function of a batch, giving shape (batch, k), to all texts, or to the chosen ones.

    Returns:
        Shape (n, k) float64, in the order of the texts, or of their choice.
    """
    places = range(len(encoded.ids)) if chosen is None else chosen
    parts, order = [], []
    with torch.inference_mode(), one_thread():
        for indices in encoded.batches(TOKENS_PER_PASS, places):
            parts.append(step(encoded.batch([places[index] for index in indices])).double())
            order += indices
            advance(len(indices), "")
    result = torch.empty_like(torch.cat(parts))
    result[torch.tensor(order)] = torch.cat(parts)
    return result


def reused(shared: lower.Lower | None, encoded: Encoded) -> AbstractContextManager[float]:
    """`lower.reused` for the batches of `forward_all`; nothing where nothing is shared."""
    if shared is None:
        return nullcontext(0.0)
    batches = encoded.batches(TOKENS_PER_PASS)
    return lower.reused(shared, encoded.digest(), [(len(one), int(encoded.lengths[one[0]])) for one in batches])


class SequenceClassifier:
    """A sequence classification model with two labels, in whatever form.

    Args:
        model: from `input_ids` and `attention_mask` of shape (batch, tokens) to something with `logits`, (batch, 2).
            Where it has `again`, a model that is less rounded, that one is asked about texts whose log-odds are closer
            to 0 than `near`.
        shared: layers of it that are its base's.
        positive: the output that stands for class 1.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        tokenizer_dir: Path,
        max_length: int,
        shared: lower.Lower | None = None,
        positive: int = 1,
    ) -> None:
        self.model, self.tokenizer_dir, self.max_length, self.shared = model, tokenizer_dir, max_length, shared
        self.positive = positive

    def predict(self, texts: Sequence[str], advance: Advance) -> Scores:
        """Probabilities of class 1, by softmax in float64.

        Raises:
            RunError: the model gave something that is not a number.
        """
        encoded = encode(self.tokenizer_dir, texts, self.max_length).for_network(self.model)
        with reused(self.shared, encoded) as borrowed:
            logits = forward_all(encoded, lambda batch: self.model(**batch).logits, advance)
        again, limit = getattr(self.model, "again", None), getattr(self.model, "near", 0.0)
        near = torch.nonzero((logits[:, 1] - logits[:, 0]).abs() < limit).flatten().tolist()
        if again is not None and near:  # once for all batches: the few texts of each are packed anew
            logits[near] = forward_all(encoded, lambda batch: again(**batch).logits, lambda units, note: None, near)
        scores = np.asarray(torch.softmax(logits, dim=1)[:, self.positive].numpy(), dtype=np.float64)
        if not np.isfinite(scores).all():
            raise RunError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are not numbers")
        tokens = int(encoded.lengths.sum())
        return Scores(scores, tokens, encoded.truncated, borrowed, encoded.spared_seconds)


def untrained(
    folder: Path,
    seed: int,
    *,
    attention: str = "sdpa",
    head: Literal["fresh", "refused", "kept"] = "fresh",
) -> torch.nn.Module:
    """The base in float32 with a two-label head drawn from `seed`; the global generator is left as it was.

    Args:
        attention: the kernel, where the architecture has it; else the one that every architecture has.
        head: of a head that the checkpoint brings. A fresh one is drawn in its place; or it is refused; or it is kept,
            for an adapter that was trained on it, as far as it has the right shape.

    Raises:
        RunError: the checkpoint lacks more than a head, or brings one and that is refused.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, report = AutoModelForSequenceClassification.from_pretrained(
            folder,
            num_labels=2,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            attn_implementation=kernel(folder, attention),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # a head for another number of labels is looked at below
        )
        _check_encoder(model, report, folder)
        brought = _brought(model, report["missing_keys"])
        if brought and head == "refused":
            raise RunError(
                f"{folder}: the checkpoint brings a trained head ({_some(brought)}), so it has no untrained one; to "
                "score it as it is, declare a model with backend = 'checkpoint' on this base"
            )
        if brought and head == "fresh":
            torch.manual_seed(seed)
            _draw_anew(model, brought)
    if head != "kept":  # names of labels belong to the head that is not there
        model.config.id2label = {0: "LABEL_0", 1: "LABEL_1"}
        model.config.label2id = {"LABEL_0": 0, "LABEL_1": 1}
    return model  # type: ignore[no-any-return]  # transformers' Auto classes are untyped


def kernel(folder: Path, preferred: str = "sdpa") -> str:
    """The attention kernel that a base's classifier is run with: the preferred one, or eager where it has no other.

    Raises:
        RunError: transformers has no classifier of its architecture.
    """
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    try:
        kind: Any = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]
    except KeyError:
        raise RunError(
            f"{folder}: transformers has no sequence classifier of the architecture {config.model_type!r}"
        ) from None
    return preferred if kind._supports_sdpa else "eager"


def positions(network: Any) -> int | None:
    """How many tokens a network has positions for; None where it learned none, as with relative and rotary ones."""
    found = [
        module.num_embeddings - (getattr(module, "offset", 0) if module.padding_idx is None else module.padding_idx + 1)
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Embedding) and name.rpartition(".")[2] in _POSITIONS
    ]
    return min(found, default=None)


def check_positions(network: Any, max_length: int) -> None:
    """Make sure that the longest texts fit a network, with the tokens that an adapter puts before them.

    Raises:
        RunError: they do not.
    """
    virtual = getattr(getattr(network, "active_peft_config", None), "num_virtual_tokens", None) or 0
    room = positions(network)
    if room is not None and max_length + virtual > room:
        beside = f"{virtual} virtual tokens and " if virtual else ""
        fits = f"set text.max_length to {room - virtual} or less" if virtual < room else "no text fits beside them"
        raise RunError(f"{beside}text.max_length {max_length} are more than the {room} positions of the base; {fits}")


def head_names(model: Any) -> list[str]:
    """The parameters of a classifier that its encoder has not."""
    return [name for name, _ in model.named_parameters() if not name.startswith(f"{model.base_model_prefix}.")]


def _brought(model: Any, missing: Collection[str]) -> list[str]:
    """The parameters of a classifier's head that a checkpoint brings; none where they are a pretraining's, as
    ModernBERT's is, and what answers is not among them."""
    found = [name for name in head_names(model) if name not in missing]
    has_output = any(model.get_parameter(name).shape[0] == model.config.num_labels for name in found)
    is_classifier = any(name.endswith("ForSequenceClassification") for name in model.config.architectures or ())
    return found if has_output or is_classifier else []


def _check_encoder(model: Any, report: Any, folder: Path) -> None:
    """Nothing of the encoder was drawn at random."""
    encoder = f"{model.base_model_prefix}."
    lost = sorted(name for name in report["missing_keys"] if name.startswith(encoder))
    if lost:
        raise RunError(f"{folder}: the checkpoint lacks weights of the encoder: {_some(lost)}")
    for name, found, wanted in sorted(report["mismatched_keys"]):
        if name.startswith(encoder):
            raise RunError(
                f"{folder}: {name} has the shape {tuple(found)} in {bases.WEIGHTS}, but config.json makes it "
                f"{tuple(wanted)}; were embeddings resized, save model and configuration together again"
            )


def _draw_anew(model: Any, names: Sequence[str]) -> None:
    """Initialise parameters as the library does where a checkpoint lacks them."""
    for name in names:
        model.get_parameter(name)._is_hf_initialized = False
        module, _, _ = name.rpartition(".")
        while True:  # some modules initialise what lies in their parts
            model.get_submodule(module)._is_hf_initialized = False
            if not module:
                break
            module = module.rpartition(".")[0]
    model.initialize_weights()


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f", … ({len(names)} in all)" if len(names) > 5 else "")


def trained(folder: Path) -> torch.nn.Module:
    """A complete model, as `full` training saved it or as a finished classifier's checkpoint has it.

    Raises:
        RunError: the file's tensors and the model's parameters are not the same, name by name and value by value.
    """
    from safetensors.torch import load_file

    model, report = AutoModelForSequenceClassification.from_pretrained(
        folder,
        dtype=torch.float32,
        local_files_only=True,
        trust_remote_code=False,
        attn_implementation=kernel(folder),
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are found below
    )
    differing = sorted({*report["missing_keys"], *report["unexpected_keys"]})
    live = {**dict(model.named_buffers()), **model.state_dict()}  # older files have buffers that are now made anew
    differing += [
        name
        for name, tensor in load_file(folder / bases.WEIGHTS).items()
        if name not in live or not torch.equal(live[name], tensor.to(live[name].dtype))
    ]
    if differing:
        has_none = set(head_names(model)) <= set(report["missing_keys"])
        why = "; the checkpoint has no trained head" if has_none else ""
        raise RunError(f"{folder}: weights on disk are not the ones in the model: {_some(differing)}{why}")
    return model  # type: ignore[no-any-return]  # transformers' Auto classes are untyped


def probe_scores(network: Any, tokenizer_dir: Path) -> list[float]:
    """What a network in evaluation mode says of the probe texts: kept after training, asked again once loaded."""
    encoded = Encoded(tokenizer_dir, PROBE_TEXTS, max_length=64).for_network(network)
    logits = forward_all(encoded, lambda batch: network(**batch).logits, lambda units, note: None)
    scores: list[float] = torch.softmax(logits, dim=1)[:, 1].tolist()
    return scores


def check_reloaded(network: Any, folder: Path, tokenizer_dir: Path) -> None:
    """Hold a reloaded network to the one that training had in memory, as far as a training card stands beside it.

    Raises:
        AdapterError: they answer the probe texts differently.
    """
    card = folder / CARD
    if not card.is_file():
        return
    after = probe_scores(network, tokenizer_dir)
    try:
        before = json.loads(card.read_text(encoding="utf-8"))["probe_scores"]
        largest = max(abs(one - other) for one, other in zip(before, after, strict=True))
    except (ValueError, KeyError, TypeError) as problem:
        raise AdapterError(f"{card}: tells no answers to the probe texts ({problem!r})") from None
    if not largest <= PROBE_TOLERANCE:
        raise AdapterError(
            f"{folder}: reloaded, it does not answer as it did at the end of its training "
            f"(probabilities differ by {largest:.2g}, {PROBE_TOLERANCE:g} is allowed)"
        )


def transformer(model: TransformerModel, ingredients: Ingredients) -> Classifier:
    """The base with an untrained head, or the trained model of `adapter`."""
    made = forms.made(model.runtime, model.precision, lambda: network(ingredients), ingredients)
    return classifier(made, ingredients)


def classifier(made: Any, ingredients: Ingredients, positive: int = 1) -> Classifier:
    """Of a network in whatever form. What torch computes shares the layers that it has from its base; a last layer that
    is its own is computed for the first token alone, where the head reads no other."""
    folder = ingredients.base_dir
    assert folder is not None
    shared = shared_layers(made, ingredients)
    if isinstance(made, torch.nn.Module) and (shared is None or not shared.is_all):
        with one_thread():
            first_token.settle(made, trial(folder, made))
    return SequenceClassifier(made, folder, ingredients.max_length, shared, positive)


def shared_layers(network: Any, ingredients: Ingredients) -> lower.Lower | None:
    """The layers of a network that are as in its base."""
    folder, kept_in = ingredients.base_dir, ingredients.states_dir
    if folder is None or not isinstance(network, torch.nn.Module):
        return None
    file = (folder / bases.WEIGHTS).stat()
    with one_thread():
        batch = trial(folder, network)  # before what follows: it settles the batching
        batching = padding.of(network)
        assert batching is not None
        return lower.found(network, lambda dtype: _of_base(folder, dtype, batching, file.st_mtime_ns), batch, kept_in)


@lru_cache(maxsize=2)
def _of_base(folder: Path, dtype: torch.dtype, batching: padding.Batching, _changed: int) -> lower.Print | None:
    """What tells a base's layers; a suite's models are on one base or two."""
    base: Any = untrained(folder, seed=0)
    padding.use(base, batching)
    return lower.printed(base.to(dtype).eval(), trial(folder, base))


def trial(folder: Path, network: Any) -> dict[str, torch.Tensor]:
    """The probe texts as a batch, on which a network is tried."""
    texts = Encoded(folder, PROBE_TEXTS, max_length=64).for_network(network)
    return texts.batch(texts.trial_texts(len(PROBE_TEXTS)))


def network(ingredients: Ingredients) -> torch.nn.Module:
    """In float32; trained weights are the file's, and answer as their card says."""
    assert ingredients.base_dir is not None
    if ingredients.adapter_dir is not None:
        loaded = trained(ingredients.adapter_dir).eval()
    else:
        assert ingredients.seed is not None
        loaded = untrained(ingredients.base_dir, ingredients.seed, head="refused").eval()
    check_positions(loaded, ingredients.max_length)
    settle(loaded, ingredients.base_dir, ingredients.max_length)
    if ingredients.adapter_dir is not None:
        check_reloaded(loaded, ingredients.adapter_dir, ingredients.base_dir)
    return loaded
