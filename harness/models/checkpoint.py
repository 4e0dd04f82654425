"""Finished classifiers: a trained checkpoint, head included, scored as it is."""

from pathlib import Path

import torch

from harness.errors import RunError
from harness.models import adapter_files, variants
from harness.models.adapter_files import MODEL_CONFIG
from harness.models.classifier import Classifier, ModelInputs
from harness.models.encoding import settle
from harness.models.transformer import check_positions, classifier, trained
from harness.suite.schema import CheckpointModel


def checkpoint(model: CheckpointModel, ingredients: ModelInputs) -> Classifier:
    """Load the base's own classifier, with every tensor of its file in use."""
    folder = ingredients.base_dir
    assert folder is not None
    positive = _positive(model, adapter_files.outputs(folder / MODEL_CONFIG))
    made = variants.made(model.runtime, model.precision, lambda: _network(folder, ingredients.max_length), ingredients)
    return classifier(made, ingredients, positive)


def _network(folder: Path, max_length: int) -> torch.nn.Module:
    loaded = trained(folder).eval()
    check_positions(loaded, max_length)
    settle(loaded, folder, max_length)
    return loaded


def _positive(model: CheckpointModel, names: tuple[str, ...]) -> int:
    """The index of the output for class 1: as declared, or else as the names of the outputs plainly state.

    Args:
        names: names of the outputs, in the checkpoint's order.

    Raises:
        RunError: there are not two outputs, the declaration names others, or nothing states which is which.
    """
    listed = ", ".join(map(repr, names))
    if len(names) != 2:
        raise RunError(
            f"base {model.base!r} has {len(names)} outputs ({listed}); backend = 'checkpoint' scores classifiers with "
            "two, negative and positive"
        )
    if model.labels is not None:
        declared = {*model.labels.negative, *model.labels.positive}
        if declared != set(names):
            raise RunError(
                f"base {model.base!r} has the outputs {listed}, but labels of model {model.id!r} names "
                f"{', '.join(map(repr, sorted(declared)))}; name each of its outputs once"
            )
        return names.index(model.labels.positive[0])
    means = [adapter_files.polarity(name) for name in names]
    if set(means) != {0, 1}:
        raise RunError(
            f"base {model.base!r} does not plainly say which of its outputs {listed} is negative and which positive; "
            f'declare labels = {{ negative = ["{names[0]}"], positive = ["{names[1]}"] }}, or the other way round'
        )
    return means.index(1)
