"""Finished classifiers: a trained checkpoint, head included, scored as it is."""

import json
from functools import partial
from pathlib import Path

import torch

from harness.errors import RunError
from harness.models import adapter_files, device, variants
from harness.models.adapter_files import MODEL_CONFIG
from harness.models.classifier import Classifier, ModelInputs
from harness.models.encoding import settle
from harness.models.transformer import Reading, check_positions, classifier, trained
from harness.suite.polarity import polarity
from harness.suite.schema import CheckpointModel


def checkpoint(model: CheckpointModel, ingredients: ModelInputs) -> Classifier:
    """Load the base's own classifier, with every tensor of its file in use."""
    folder = ingredients.base
    reading = _reading(model, folder / MODEL_CONFIG)
    made = variants.made(model.runtime, model.precision, lambda: _network(ingredients), ingredients)
    return classifier(made, ingredients, reading)


def _network(ingredients: ModelInputs) -> torch.nn.Module:
    folder, max_length = ingredients.base, ingredients.max_length
    loaded: torch.nn.Module = device.place(trained(folder).eval(), ingredients.device)
    check_positions(loaded, max_length)
    settle(loaded, folder, max_length)
    return loaded


def _reading(model: CheckpointModel, config: Path) -> Reading:
    """The reading of a checkpoint's outputs: as declared, or else as the names of two outputs state.

    The score is the probability of positive, given that the text is not neutral: probabilities of several outputs for
    a class are added, and outputs for none are left out. A single output is taken for log-odds.

    Raises:
        RunError: the declaration does not fit the outputs, or nothing states which is which.
    """
    names, kind = adapter_files.outputs(config), adapter_files.problem_type(config)
    listed = ", ".join(map(repr, names))
    if model.labels is None:
        negative, positive = _stated(model, names, listed)
        midpoint = None
    else:
        negative, positive, midpoint = model.labels.negative, model.labels.positive, model.labels.midpoint
    declared = {*negative, *positive}
    if declared - set(names) or (len(names) <= 2 and declared != set(names)) or (len(names) > 1 and not negative):
        raise RunError(
            f"base {model.base!r} has the outputs {listed}, but labels of model {model.id!r} names "
            f"{', '.join(map(repr, sorted(declared)))}; name each of two outputs, those of both classes of more, and "
            "of one it alone as positive"
        )
    if kind == "regression" and midpoint is None:
        raise RunError(
            f"base {model.base!r} gives a number (problem_type 'regression'), not log-odds; declare from which on it "
            f'means positive: labels = {{ negative = [], positive = ["{names[0]}"], midpoint = 3.0 }}'
        )
    if len(names) == 1:
        return partial(_single, midpoint=midpoint or 0.0)
    return partial(_grouped, sides=[[names.index(name) for name in side] for side in (negative, positive)])


def _single(logits: torch.Tensor, *, midpoint: float) -> torch.Tensor:
    value = logits.double() - midpoint
    return torch.cat([torch.zeros_like(value), value], dim=1)


def _grouped(logits: torch.Tensor, *, sides: list[list[int]]) -> torch.Tensor:
    """One column for each side; that of several outputs has the sum of their probabilities."""
    logits = logits.double()
    return torch.cat(
        [logits[:, side] if len(side) == 1 else logits[:, side].logsumexp(1, keepdim=True) for side in sides], dim=1
    )


def _stated(model: CheckpointModel, names: tuple[str, ...], listed: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The negative and the positive one of two outputs, as their names plainly state."""
    means = [polarity(name) for name in names]
    if len(names) == 2 and set(means) == {0, 1}:
        return (names[means.index(0)],), (names[means.index(1)],)
    half = len(names) // 2
    low, high = (json.dumps(list(side)) for side in (names[:half], names[len(names) - half :] or names))
    other = ", or the other way round" if len(names) > 1 else ""
    raise RunError(
        f"base {model.base!r} does not plainly say which of its outputs {listed} is negative and which positive; "
        f"declare labels = {{ negative = {low}, positive = {high} }}{other}"
    )
