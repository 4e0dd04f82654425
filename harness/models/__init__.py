"""Loading declared models for scoring: one row of `BACKENDS` per kind.

    classifier = load(model, ingredients)
    scores = classifier.predict(texts, advance)    # probabilities of class 1, in the order of the texts

A backend is a function from a declaration and its `ModelInputs` to a `Classifier`. torch and scikit-learn are imported
by the backends that need them, when they are called.
"""

import ctypes
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module, util
from typing import Any

from harness.artifacts import plugins
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
    "prompt": "harness.models.prompt:prompt",
    "predictions": "harness.models.recorded:predictions",
}
"""Backend name to `module:function`, so that naming one imports no other's libraries."""


def is_installed(runtime: str) -> bool:
    """Look for a runtime's packages without importing them."""
    return runtime == "torch" or all(util.find_spec(name) is not None for name in ("openvino", "nncf"))


def check_installed(wanted: Iterable[Model]) -> None:
    """Check that the runtimes of these models are installed, before anything is trained for them.

    Raises:
        UsageError: a runtime is not installed.
    """
    for model in wanted:
        if not is_installed(getattr(model, "runtime", "torch")):
            raise UsageError(
                f"model {model.id!r} has runtime = 'openvino', which is not installed: "
                "`python -m pip install 'adapter-harness[openvino]'`"
            )


SLOW_IMPORTS = ("harness.models.peft",)
"""Modules that import torch, transformers and PEFT, which takes seconds."""


def slow_imports(wanted: Iterable[Model]) -> tuple[str, ...]:
    """Name the slow modules that these models need."""
    return () if all(model.backend in ("majority", "tfidf", "predictions") for model in wanted) else SLOW_IMPORTS


def load(model: Model, ingredients: ModelInputs) -> Classifier:
    """Load a declared model, ready to predict.

    Raises:
        RunError: its weights are damaged, do not fit, or cannot be proven to be loaded.
    """
    _give_memory_back()
    return _backend(model.backend)(model, ingredients)


def _backend(name: str) -> Callable[[Any, ModelInputs], Classifier]:
    """The function of a backend, which is in `BACKENDS` or a plug-in's."""
    if name not in BACKENDS:
        found: Callable[[Any, ModelInputs], Classifier] = plugins.load("backend", name)
        return found
    module, _, function = BACKENDS[name].partition(":")
    built_in: Callable[[Any, ModelInputs], Classifier] = getattr(import_module(module), function)
    return built_in


def _give_memory_back() -> None:
    """Return the previous model's memory to the system. glibc keeps freed memory in pieces that do not fit the next
    model's tensors, so several models in a row would take more memory than one does."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
        if trim is not None:
            trim(0)
