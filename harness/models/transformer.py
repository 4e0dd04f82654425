"""Models on the transformers library: an untrained head, or weights trained without PEFT."""

import json
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
import transformers
from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, AutoConfig, AutoModelForSequenceClassification

from harness.errors import AdapterError, RunError
from harness.models import device, own_format, padding, variants, weight_files
from harness.models.classifier import CARD, Classifier, ModelInputs, Scores
from harness.models.encoding import TOKENS_PER_PASS, Encoded, encode, forward_all, one_thread, settle, trial
from harness.models.speedups import allocator, first_token, shared_layers
from harness.models.tokens import PROBE_TEXTS
from harness.progress import Advance
from harness.suite.schema import TransformerModel

_POSITIONS = ("position_embeddings", "embed_positions", "wpe")
"""Names of tables of learned positions."""
PROBE_TOLERANCE = 1e-3
"""Largest difference of a probability between training's attention kernel and scoring's, both in float32."""

MOST_SHARED = 2**26
"""Weights of a base that is kept in its own format, and loaded a second time to share its layers: 128 MiB in bf16."""

# New, missing and unused tensors of a checkpoint are checked below, name by name; the library's report would advise
# training every head, for models whose point is that it was not trained.
transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # untyped there
transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # untyped there
allocator.keep_freed()
allocator.keep_few_kernels()


def reused(shared: shared_layers.SharedLayers | None, encoded: Encoded) -> AbstractContextManager[float]:
    """`shared_layers.reused` for the batches of `forward_all`; no effect where nothing is shared."""
    if shared is None:
        return nullcontext(0.0)
    batches = encoded.batches(TOKENS_PER_PASS)
    return shared_layers.reused(shared, encoded.digest(), [(len(one), int(encoded.lengths[one[0]])) for one in batches])


Reading: TypeAlias = Callable[[torch.Tensor], torch.Tensor]
"""From logits of a network's outputs, shape (batch, outputs), to those of negative and positive, (batch, 2)."""


def as_two(logits: torch.Tensor) -> torch.Tensor:
    """The reading of a network with two outputs, negative and positive."""
    return logits


class SequenceClassifier:
    """A sequence classification model, in any variant.

    Args:
        model: maps `input_ids` and `attention_mask` of shape (batch, tokens) to an object with `logits`.
            If it has `again`, a less rounded model, that one scores texts with log-odds closer to 0 than `near`.
        shared: its layers that are the same as its base's.
        reading: turns its logits into those of the two classes.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        tokenizer_dir: Path,
        max_length: int,
        shared: shared_layers.SharedLayers | None = None,
        reading: Reading = as_two,
    ) -> None:
        self.model, self.tokenizer_dir, self.max_length, self.shared = model, tokenizer_dir, max_length, shared
        self.reading = reading

    def predict(self, texts: Sequence[str], advance: Advance) -> Scores:
        """Probabilities of class 1, by softmax in float64.

        Raises:
            RunError: a score is not a finite number.
        """
        encoded = encode(self.tokenizer_dir, texts, self.max_length).for_network(self.model)
        with reused(self.shared, encoded) as borrowed:
            logits = forward_all(encoded, lambda batch: self.reading(self.model(**batch).logits), advance)
        again, limit = getattr(self.model, "again", None), getattr(self.model, "near", 0.0)
        near = torch.nonzero((logits[:, 1] - logits[:, 0]).abs() < limit).flatten().tolist()
        if again is not None and near:  # once for all batches: the few texts of each are packed together
            read = self.reading
            logits[near] = forward_all(
                encoded, lambda batch: read(again(**batch).logits), lambda units, note: None, near
            )
        scores = np.asarray(torch.softmax(logits, dim=1)[:, 1].numpy(), dtype=np.float64)
        if not np.isfinite(scores).all():
            is_torch = isinstance(self.model, torch.nn.Module)
            advice = "check the weights" if is_torch else "use runtime = 'torch', or check the weights"
            raise RunError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are not numbers; {advice}")
        tokens = int(encoded.lengths.sum())
        return Scores(scores, tokens, encoded.truncated, borrowed, encoded.spared_seconds)


def untrained(
    folder: Path,
    seed: int,
    *,
    attention: str = "sdpa",
    head: Literal["fresh", "refused", "kept"] = "fresh",
    keeps: bool = True,
) -> torch.nn.Module:
    """The base, computing in float32, with a two-label head drawn from `seed`; the global generator is left unchanged.

    Args:
        attention: the kernel, if the architecture has it; else the one that every architecture has.
        head: treatment of a head that the checkpoint brings: a fresh one is drawn in its place; or it is refused; or
            it is kept, as far as it has the right shape, for an adapter that was trained on it.
        keeps: as for `own_format.load`.

    Raises:
        RunError: the checkpoint lacks more than a head, or brings a head where one is refused.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, report = own_format.load(
            AutoModelForSequenceClassification,
            folder,
            keeps=keeps,
            num_labels=2,
            attn_implementation=kernel(folder, attention),
            ignore_mismatched_sizes=True,  # a head for another number of labels is checked below
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
    if head != "kept":  # names of labels belong to the head that was replaced
        model.config.id2label = {0: "LABEL_0", 1: "LABEL_1"}
        model.config.label2id = {"LABEL_0": 0, "LABEL_1": 1}
    return model  # type: ignore[no-any-return]  # transformers' Auto classes are untyped


def kernel(folder: Path, preferred: str = "sdpa") -> str:
    """The attention kernel that a base's classifier is run with: the preferred one, or eager if it has no other.

    Raises:
        RunError: transformers has no classifier for its architecture.
    """
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    try:
        kind: Any = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]
    except KeyError:
        raise RunError(
            f"{folder}: transformers has no sequence classifier for the architecture {config.model_type!r}"
        ) from None
    return preferred if kind._supports_sdpa else "eager"


def positions(network: Any) -> int | None:
    """Number of tokens that a network has learned positions for; None with other kinds, such as relative and rotary."""
    found = [
        module.num_embeddings - (getattr(module, "offset", 0) if module.padding_idx is None else module.padding_idx + 1)
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Embedding) and name.rpartition(".")[2] in _POSITIONS
    ]
    return min(found, default=None)


def check_positions(network: Any, max_length: int) -> None:
    """Check that the longest texts fit a network, with the tokens that an adapter puts before them.

    Raises:
        RunError: they do not.
    """
    virtual = getattr(getattr(network, "active_peft_config", None), "num_virtual_tokens", None) or 0
    room = positions(network)
    if room is not None and max_length + virtual > room:
        beside = f" and {virtual} virtual tokens together" if virtual else ""
        fits = f"set text.max_length to {room - virtual} or less" if virtual < room else "no text fits beside them"
        exceed = "exceed" if virtual else "exceeds"
        raise RunError(f"text.max_length {max_length}{beside} {exceed} the {room} positions of the base; {fits}")


def head_names(model: Any) -> list[str]:
    """The parameters of a classifier that are not its encoder's."""
    return [name for name, _ in model.named_parameters() if not name.startswith(f"{model.base_model_prefix}.")]


def _brought(model: Any, missing: Collection[str]) -> list[str]:
    """The parameters of a classifier's head that a checkpoint brings; none if they come from pretraining, as
    ModernBERT's do, and lack the output layer."""
    found = [name for name in head_names(model) if name not in missing]
    has_output = any(model.get_parameter(name).shape[0] == model.config.num_labels for name in found)
    is_classifier = any(name.endswith("ForSequenceClassification") for name in model.config.architectures or ())
    return found if has_output or is_classifier else []


def _check_encoder(model: Any, report: Any, folder: Path) -> None:
    """Check that no part of the encoder was drawn at random."""
    encoder = f"{model.base_model_prefix}."
    lost = sorted(name for name in report["missing_keys"] if name.startswith(encoder))
    if lost:
        raise RunError(f"{folder}: the checkpoint lacks weights of the encoder: {_some(lost)}")
    for name, found, wanted in sorted(report["mismatched_keys"]):
        if name.startswith(encoder):
            raise RunError(
                f"{folder}: {name} has the shape {tuple(found)} in its weights, but config.json makes it "
                f"{tuple(wanted)}; if embeddings were resized, save the model again together with its configuration"
            )


def _draw_anew(model: Any, names: Sequence[str]) -> None:
    """Initialise parameters as the library does for those that a checkpoint lacks."""
    for name in names:
        model.get_parameter(name)._is_hf_initialized = False
        module, _, _ = name.rpartition(".")
        while True:  # some modules initialise parameters of their submodules
            model.get_submodule(module)._is_hf_initialized = False
            if not module:
                break
            module = module.rpartition(".")[0]
    model.initialize_weights()


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f", … ({len(names)} in all)" if len(names) > 5 else "")


def trained(folder: Path) -> torch.nn.Module:
    """A complete model, saved by `full` training or as a finished classifier's checkpoint.

    Raises:
        RunError: the file's tensors and the model's parameters differ in a name or a value.
    """
    model, report = own_format.load(
        AutoModelForSequenceClassification,
        folder,
        keeps=False,
        attn_implementation=kernel(folder),
        ignore_mismatched_sizes=True,  # mismatches are reported below
    )
    differing = sorted({*report["missing_keys"], *report["unexpected_keys"]})
    live = {**dict(model.named_buffers()), **model.state_dict()}  # older files have buffers that are now computed
    differing += [
        name
        for name, tensor in weight_files.tensors(folder)
        if name not in live or not torch.equal(live[name], tensor.to(live[name].dtype))
    ]
    if differing:
        has_none = set(head_names(model)) <= set(report["missing_keys"])
        why = "; the checkpoint has no trained head" if has_none else ""
        raise RunError(f"{folder}: the weights on disk differ from the loaded model's: {_some(differing)}{why}")
    return model  # type: ignore[no-any-return]  # transformers' Auto classes are untyped


def probe_scores(network: Any, tokenizer_dir: Path) -> list[float]:
    """A network's scores for the probe texts, in evaluation mode: recorded after training, compared once loaded."""
    encoded = Encoded(tokenizer_dir, PROBE_TEXTS, max_length=64).for_network(network)
    logits = forward_all(encoded, lambda batch: network(**batch).logits, lambda units, note: None)
    scores: list[float] = torch.softmax(logits, dim=1)[:, 1].tolist()
    return scores


def check_reloaded(network: Any, folder: Path, tokenizer_dir: Path) -> None:
    """Compare a reloaded network with the one that training had in memory, if a training card lies beside it.

    Raises:
        AdapterError: they answer the probe texts differently.
    """
    if (folder / CARD).is_file():
        check_probe(probe_scores(network, tokenizer_dir), folder)


def check_probe(after: Sequence[float], folder: Path) -> None:
    """Compare scores of the probe texts with those that the training card of a folder records.

    Raises:
        AdapterError: they differ, or the card has none.
    """
    card = folder / CARD
    try:
        before = json.loads(card.read_text(encoding="utf-8"))["probe_scores"]
        largest = max(abs(one - other) for one, other in zip(before, after, strict=True))
    except (ValueError, KeyError, TypeError) as problem:
        raise AdapterError(f"{card}: has no usable answers to the probe texts ({problem!r}); restore it") from None
    if not largest <= PROBE_TOLERANCE:
        raise AdapterError(
            f"{folder}: after reloading, it does not answer as it did at the end of its training "
            f"(probabilities differ by {largest:.2g}, {PROBE_TOLERANCE:g} is allowed)"
        )


def transformer(model: TransformerModel, ingredients: ModelInputs) -> Classifier:
    """The base with an untrained head, or the trained model of `adapter`."""
    made = variants.made(model.runtime, model.precision, lambda: network(ingredients), ingredients)
    return classifier(made, ingredients)


def classifier(made: Any, ingredients: ModelInputs, reading: Reading = as_two) -> Classifier:
    """Make a classifier from a network in any variant. A torch network shares the layers that are its base's; a last
    layer of its own is computed for the first token alone if the head reads no other."""
    folder = ingredients.base
    shared = layers_of_base(made, ingredients)
    if isinstance(made, torch.nn.Module) and (shared is None or not shared.is_all):
        with one_thread():
            first_token.settle(made, trial(folder, made))
    return SequenceClassifier(made, folder, ingredients.max_length, shared, reading)


def layers_of_base(network: Any, ingredients: ModelInputs) -> shared_layers.SharedLayers | None:
    """The lower layers of a network that are the same as its base's. To compare them, the base is loaded once more, so
    nothing is shared where a large one is kept in its own format to save memory."""
    folder, kept_in = ingredients.base_dir, ingredients.states_dir
    if folder is None or not isinstance(network, torch.nn.Module) or not device.is_processor(device.of(network)):
        return None
    if own_format.is_kept(network) and own_format.n_numbers(network) > MOST_SHARED:
        return None
    changed_ns = weight_files.changed_ns(folder)
    with one_thread():
        batch = trial(folder, network)  # first, because it settles the batching
        batching = padding.settled(network)
        keeps = own_format.is_kept(network)
        of_base = lambda dtype: _of_base(folder, dtype, batching, changed_ns, keeps)  # noqa: E731
        return shared_layers.found(network, of_base, batch, kept_in)


@lru_cache(maxsize=2)
def _of_base(
    folder: Path, dtype: torch.dtype, batching: padding.Batching, _changed: int, keeps: bool
) -> shared_layers.Fingerprint | None:
    """The fingerprint of a base's layers; a suite's models are on one base or two."""
    base: Any = untrained(folder, seed=0, keeps=keeps)
    padding.use(base, batching)
    return shared_layers.fingerprint(own_format.rounded(base, dtype).eval(), trial(folder, base))


def network(ingredients: ModelInputs) -> torch.nn.Module:
    """Load the network in float32; trained weights are the file's, and answer as their card records."""
    if ingredients.adapter_dir is not None:
        loaded = trained(ingredients.adapter_dir).eval()
    else:
        loaded = untrained(ingredients.base, ingredients.head_seed, head="refused").eval()
    loaded = device.place(loaded, ingredients.device)
    check_positions(loaded, ingredients.max_length)
    settle(loaded, ingredients.base, ingredients.max_length)
    if ingredients.adapter_dir is not None:
        check_reloaded(loaded, ingredients.adapter_dir, ingredients.base)
    return loaded
