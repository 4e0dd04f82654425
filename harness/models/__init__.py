"""Declared competitors made ready to score: a row of `BACKENDS` per kind.

    classifier = load(model, ingredients)
    scores = classifier.predict(texts, advance)    # probabilities of class 1, in the order of the texts

A backend is a function from a declaration and its `ModelInputs` to a `Classifier`. torch and scikit-learn are imported
by the backends that need them, when they are asked for.
"""

import ctypes
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module, util
from typing import Any

from harness.errors import UsageError
from harness.models.classifier import Classifier, ModelInputs
from harness.suite.schema import Model

BACKENDS: Mapping[str, str] = {
    "majority": "harness.models.classical:majority",
    "tfidf": "harness.models.classical:tfidf",
    "probe": "harness.models.probe:probe",
    "transformer": "harness.models.transformer:transformer",
    "checkpoint": "harness.models.checkpoint:checkpoint",
    "peft": "harness.models.peft:peft",
}
"""Backend name to `module:function`, so that naming one imports no other's libraries."""


def is_installed(runtime: str) -> bool:
    """Whether a runtime's packages are there; nothing is imported."""
    return runtime == "torch" or all(util.find_spec(name) is not None for name in ("openvino", "nncf"))


def check_installed(wanted: Iterable[Model]) -> None:
    """Make sure that the runtimes of these models are there, before anything is trained for them.

    Raises:
        UsageError: one is not.
    """
    for model in wanted:
        if not is_installed(getattr(model, "runtime", "torch")):
            raise UsageError(
                f"model {model.id!r} has runtime = 'openvino', which is not installed: "
                "`python -m pip install 'adapter-harness[openvino]'`"
            )


def load(model: Model, ingredients: ModelInputs) -> Classifier:
    """A declared model, ready to predict.

    Raises:
        RunError: its weights are damaged, do not fit, or are not provably in place.
    """
    _give_memory_back()
    module, _, function = BACKENDS[model.backend].partition(":")
    backend: Callable[[Any, ModelInputs], Classifier] = getattr(import_module(module), function)
    return backend(model, ingredients)


def _give_memory_back() -> None:
    """What the model before has left. glibc keeps freed memory in pieces that do not fit the next model's tensors, and
    one model after the other would take more than one does."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other libraries of C have none
        if trim is not None:
            trim(0)
