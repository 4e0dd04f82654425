"""Computing the last layer for the first token alone, where the head reads no other.

    with first_token.only(network, trial) as is_so:
        network(…)                  # the same answers

The heads of BERT, DistilBERT and similar models read the first token of the last layer. That layer's output for the
other tokens is discarded, although most of its arithmetic is spent on it: a seventh of the total with six layers. Here
its keys and values are computed for all tokens, since the first one attends to them, and everything else for the first
one. The sums are the same, in products of another shape, so answers differ by rounding, as do gradients.

Measured gain: 18 % of the CPU time of scoring in fp32 and 7 % in bf16, 13 % of fitting in bf16
(`benchmarks/speedups.py`).

Nothing is left out on trust. The answers to a trial must be bit-identical with nonsense in place of the other tokens,
and the first token's output must match that of the whole layer. Layers of other kinds are left unchanged.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.bert.modeling_bert import eager_attention_forward

from harness.models import device, speedups
from harness.models.speedups import shared_layers

OTHERWISE_BUILT = (AttributeError, TypeError, RuntimeError)
"""Errors of a layer that has other parts, arguments or shapes than the forward function of its kind relies on."""
ROUNDING = 8
"""Largest difference allowed in the first token's output, in rounding units of its largest number."""


@contextmanager
def only(network: Any, trial: Mapping[str, torch.Tensor]) -> Iterator[bool]:
    """Compute the last layer for the first token alone within the block; yields whether that was proven."""
    layer = _last(network)
    as_it_was, is_so = type(layer), settle(network, trial)
    try:
        yield is_so
    finally:
        if is_so:
            layer.__class__ = as_it_was


def settle(network: Any, trial: Mapping[str, torch.Tensor]) -> bool:
    """Compute the last layer for the first token alone from now on, if that is proven to be right.

    Args:
        network: a transformers sequence classifier, with or without a PEFT adapter.
        trial: a batch to try it on, with texts of several tokens.

    Returns:
        True if the last layer is now computed for the first token alone; if False, the network is unchanged.
    """
    layer = _last(network)
    as_it_was, of_first = type(layer), _of_first(layer)
    if of_first is None or not speedups.is_on("first_token") or not device.is_processor(device.of(network)):
        return False
    was_training, is_so = network.training, False
    network.eval()
    try:
        is_so = _is_proven(network, layer, of_first, trial)
    finally:
        if not is_so:
            layer.__class__ = as_it_was
        network.train(was_training)
    return is_so


def _is_proven(network: Any, layer: Any, of_first: type, trial: Mapping[str, torch.Tensor]) -> bool:
    """Check that the head reads the first token alone and that its output is unchanged; converts the layer."""
    with torch.no_grad():
        answers, whole = _answers_and_output(network, layer, trial, lambda given: given)
        try:
            with_nonsense, _ = _answers_and_output(network, layer, trial, _nonsense)
            layer.__class__ = of_first
            _, first = _answers_and_output(network, layer, trial, lambda given: given)
        except OTHERWISE_BUILT:
            return False
    expected = whole[:, :1]
    allowed = ROUNDING * torch.finfo(whole.dtype).eps * expected.abs().max()
    is_alike = first.shape == expected.shape and bool((first - expected).abs().max() <= allowed)
    return whole.shape[1] > 1 and is_alike and torch.equal(answers, with_nonsense)


def _last(network: Any) -> Any:
    layers = shared_layers.layers_of(network)
    return None if layers is None else layers[-1]


def _nonsense(given: torch.Tensor) -> torch.Tensor:
    """A layer's output with NaN for all tokens but the first."""
    return torch.cat([given[:, :1], torch.full_like(given[:, 1:], torch.nan)], dim=1)


def _answers_and_output(
    network: Any,
    layer: torch.nn.Module,
    trial: Mapping[str, torch.Tensor],
    change: Callable[[torch.Tensor], torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    """A network's answers with its last layer's output changed, and that output before the change."""
    found: list[torch.Tensor] = []

    def on(_: Any, __: Any, given: torch.Tensor) -> torch.Tensor:
        found.append(given)
        return change(given)

    hook = layer.register_forward_hook(on)
    try:
        answers = network(**trial).logits
    finally:
        hook.remove()
    return answers, found[0]


# The next two are forward functions of layers. Other arguments, such as a prefix, would show up in the trial.


def _bert(
    layer: Any, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, *_: Any, **__: Any
) -> torch.Tensor:
    first, own = hidden_states[:, :1], layer.attention.self
    context = _attended(own, own.query(first), own.key(hidden_states), own.value(hidden_states), attention_mask)
    given: torch.Tensor = layer.feed_forward_chunk(layer.attention.output(context, first))
    return given


def _distilbert(
    layer: Any, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, *_: Any, **__: Any
) -> torch.Tensor:
    first, own = hidden_states[:, :1], layer.attention
    context = _attended(own, own.q_lin(first), own.k_lin(hidden_states), own.v_lin(hidden_states), attention_mask)
    attended = layer.sa_layer_norm(own.out_lin(context) + first)
    given: torch.Tensor = layer.output_layer_norm(layer.ffn(attended) + attended)
    return given


def _attended(
    own: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """Attention of the first token to all, by the network's own function: shape (texts, 1, width).

    Args:
        query: shape (texts, 1, width).
        key: shape (texts, tokens, width), as for values.
        mask: shape (texts or 1, heads or 1, queries, tokens): booleans, or numbers to add.
    """
    heads = [one.view(*one.shape[:-1], -1, own.attention_head_size).transpose(1, 2) for one in (query, key, value)]
    attention: Any = ALL_ATTENTION_FUNCTIONS.get_interface(own.config._attn_implementation, eager_attention_forward)
    of_first = None if mask is None else mask[..., :1, :]
    dropped = own.dropout.p if own.training else 0.0
    context: torch.Tensor = attention(own, *heads, of_first, dropout=dropped, scaling=own.scaling)[0]
    return context.flatten(2)


_BERTS = (
    "bert.modeling_bert.Bert",
    "camembert.modeling_camembert.Camembert",
    "electra.modeling_electra.Electra",
    "roberta.modeling_roberta.Roberta",
    "xlm_roberta.modeling_xlm_roberta.XLMRoberta",
)
_KINDS: Mapping[str, tuple[Callable[..., torch.Tensor] | None, tuple[str, ...]]] = {
    **{
        f"transformers.models.{name}Layer": (_bert, ("attention", "attention.self", "attention.output", "output"))
        for name in _BERTS
    },
    "transformers.models.distilbert.modeling_distilbert.TransformerBlock": (_distilbert, ("attention", "ffn")),
}
"""By kind of layer: its forward function for the first token, and the submodules whose layout that relies on."""


def _of_first(layer: Any) -> Any:
    """The class for a layer's first token; None if the layer or a part of it is of an unknown kind."""
    kind: Any = type(layer)
    forward, parts = _KINDS.get(f"{kind.__module__}.{kind.__qualname__}", (None, ()))
    if forward is None or any(type(layer.get_submodule(name)).__module__ != kind.__module__ for name in parts):
        return None
    return _made(kind, forward)


@cache
def _made(kind: Any, forward: Any) -> Any:
    return type(f"First{kind.__name__}", (kind,), {"forward": forward})
