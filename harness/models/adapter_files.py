"""Adapters from elsewhere: found, checked against the suite's pins, and read as far as possible without torch.

No code that came with an adapter is run. Weights are safetensors, configurations are JSON of a bounded size, and
neither may name code or files outside their folder.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.artifacts import digest, hub
from harness.errors import AdapterError
from harness.models.classifier import CARD
from harness.models.configs import json_object
from harness.suite import allowed
from harness.suite.polarity import polarity
from harness.suite.schema import ForeignAdapter, PathAdapter

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
MODEL_CONFIG = "config.json"
LARGEST_CONFIG_BYTES = 1_000_000
"""Limit on a configuration, which usually has a few kilobytes."""

_PICKLES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")
_OUTSIDE = ("auto_map", "auto_mapping", "megatron_config", "adapters", "prompt_tuning_init_state_dict_path")
"""Keys of a configuration that name modules to import or other files to load."""
_LABELS = ("id2label", "label2id", "num_labels")
BEGINNING = ("prompt_tuning_init", "prompt_tuning_init_text", "tokenizer_kwargs", "tokenizer_name_or_path")
"""Keys about the start of training, which finished weights do not need."""
_HOUSEKEEPING = (
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "peft_type",
    "peft_version",
    "revision",
    "task_type",
)
"""Keys of a configuration that are not params of its method."""


def find(declared: ForeignAdapter, suite_dir: Path, cache: Path, also: tuple[str, ...] = ()) -> Path:
    """The folder of an adapter, whose weights are checked against the suite's pin.

    Args:
        declared: an `[[adapter]]` with a source.
        suite_dir: folder that relative paths start from.
        cache: folder for files from the hub.
        also: names of further files to fetch if the adapter has them.

    Raises:
        FetchError: the hub does not serve it.
        AdapterError: it is missing, is not the pinned one, has links out of its folder, or has no safetensors.
    """
    who, names = f"adapter {declared.id}", (WEIGHTS, CONFIG, MODEL_CONFIG, CARD, *also)
    if isinstance(declared, PathAdapter):
        folder = _folder_below(suite_dir, declared.path, names, who)
    else:
        repo = hub.Repo("model", declared.name, declared.revision, cache / "hub")
        there = hub.listing(repo, who)
        _check_has_weights(there, f"{who}: {repo.label}")
        folder = hub.fetch(repo, [name for name in names if name in there], who)
    found = digest.of_weights(folder / WEIGHTS)
    if declared.sha256 not in (None, found):
        raise AdapterError(f"{who}: {folder / WEIGHTS} has sha256 {found}, but the suite pins {declared.sha256}")
    return folder


def identity(folder: Path) -> str:
    """SHA-256 over an adapter's weights and configuration (64 hex digits), the same as its card's where it has one."""
    return digest.of_files(folder, [WEIGHTS, CONFIG, MODEL_CONFIG])


def _folder_below(suite_dir: Path, path: str, names: Iterable[str], who: str) -> Path:
    folder = suite_dir / path
    if not folder.is_dir():
        raise AdapterError(f"{who}: there is no folder {folder}")
    if not folder.resolve().is_relative_to(suite_dir.resolve()):
        raise AdapterError(f"{who}: {folder} is a symlink out of the suite's folder; copy the adapter there")
    for name in names:
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise AdapterError(f"{who}: {folder / name} is a symlink out of the adapter's folder; copy the file there")
    _check_has_weights([file.name for file in folder.iterdir() if file.is_file()], f"{who}: {folder}")
    return folder


def _check_has_weights(names: Iterable[str], where: str) -> None:
    if WEIGHTS not in names:
        others = [name for name in sorted(names) if name.endswith((*_PICKLES, ".safetensors"))]
        raise AdapterError(
            f"{where} has no {WEIGHTS} (weights found: {', '.join(others) or 'none'}); "
            "pickled weights are never read: save the adapter as safetensors"
        )


def configuration(folder: Path) -> dict[str, Any]:
    """The `adapter_config.json` of a folder.

    Raises:
        AdapterError: it is missing, too large, not a JSON object, names no method, or names code or files elsewhere.
    """
    config = _json_object(folder / CONFIG)
    if not isinstance(config.get("peft_type"), str):
        raise AdapterError(f"{folder / CONFIG} does not name its method (peft_type); save the adapter with PEFT again")
    for key in _OUTSIDE:
        if config.get(key) is not None and not (key == "auto_mapping" and _is_of_transformers(config[key])):
            raise AdapterError(f"{folder / CONFIG} names code or files from elsewhere ({key}); these are never loaded")
    beside = {*_HOUSEKEEPING, *_LABELS, *BEGINNING}
    for place, message in allowed.problems({name: value for name, value in config.items() if name not in beside}):
        raise AdapterError(f"{folder / CONFIG}: {place} {message}")
    return config


def check_task(folder: Path, config: Mapping[str, Any], task: str | None) -> None:
    """Check that an adapter was made for the head that the suite scores it with.

    Args:
        task: `causal_lm` for a language model, None for a classifier.

    Raises:
        AdapterError: its configuration names another task.
    """
    named, wanted = config.get("task_type"), "SEQ_CLS" if task is None else "CAUSAL_LM"
    if named in (wanted, None):
        return
    remedy = {
        "CAUSAL_LM": "it is a language model's: declare task = 'causal_lm' of it, and a model with backend = 'prompt'",
        "SEQ_CLS": "it is a classifier's: declare it without task, and a model with backend = 'peft'",
    }.get(str(named), f"only {wanted} is scored here")
    raise AdapterError(f"{folder / CONFIG}: task_type is {named!r}; {remedy}")


def _is_of_transformers(mapping: Any) -> bool:
    """Recognise the `auto_mapping` that PEFT itself writes for an adapter without a task: the class of its base. It is
    not followed."""
    return (
        isinstance(mapping, dict)
        and mapping.keys() == {"base_model_class", "parent_library"}
        and re.fullmatch(r"transformers(\.\w+)*", str(mapping["parent_library"])) is not None
    )


def params(config: Mapping[str, Any]) -> dict[str, Any]:
    """The params of its method that a configuration sets."""
    return {name: value for name, value in config.items() if name not in _HOUSEKEEPING and value not in (None, [], {})}


def check_labels(folder: Path, *, of_base: bool = False) -> None:
    """Check that labels mean the same as here, 0 negative and 1 positive, where a folder has a map of its labels.

    Args:
        of_base: the folder is a base's, whose map may describe another task.

    Raises:
        AdapterError: there are not two labels, or they are the other way round.
    """
    for path in (folder / CONFIG, folder / MODEL_CONFIG):
        if not path.is_file():
            continue
        config = _json_object(path)
        names = _label_names(config, path)
        n_labels = config.get("num_labels", len(names) or 2)
        if not of_base and (n_labels != 2 or len(names) not in (0, 2)):
            raise AdapterError(f"{path} names {n_labels} labels; sentiment has two, 0 negative and 1 positive")
        if len(names) == 2 and _are_turned(names):
            turned = f"has the labels the other way round (0 {names.get(0)}, 1 {names.get(1)})"
            if of_base:
                raise AdapterError(
                    f"{path} of the base {turned}, so an adapter trained on it most likely has too; use a base and an "
                    "adapter whose class 1 is positive"
                )
            raise AdapterError(f"{path} {turned}: class 1 must be positive; swap the rows of the head and the map")


def _are_turned(names: Mapping[int, str]) -> bool:
    """True if a label plainly states that 0 is positive or 1 negative, and neither label states the contrary."""
    zero, one = polarity(names.get(0, "")), polarity(names.get(1, ""))
    return (zero == 1 or one == 0) and zero != 0 and one != 1


def outputs(path: Path) -> tuple[str, ...]:
    """The names of a classifier's outputs in order, from its configuration; LABEL_0, … if it names none.

    Raises:
        AdapterError: the configuration is missing, not a JSON object, or has a map that does not go from numbers to
            names.
    """
    config = _json_object(path)
    count = config.get("num_labels", 2)
    if not isinstance(count, int) or not 0 < count < 10_000:
        raise AdapterError(f"{path}: num_labels is {count!r}; it must be a whole number from 1 to 9,999")
    names = _label_names(config, path) or {i: f"LABEL_{i}" for i in range(count)}
    if sorted(names) != list(range(len(names))) or len(set(names.values())) != len(names):
        raise AdapterError(f"{path}: its map of labels (id2label) does not number distinct names from 0")
    return tuple(names[i] for i in range(len(names)))


def problem_type(path: Path) -> str | None:
    """The problem that a classifier's configuration says it solves, if any.

    Raises:
        AdapterError: its outputs do not exclude each other.
    """
    config, several = _json_object(path), len(outputs(path)) > 1
    kind = config.get("problem_type")
    if several and kind not in (None, "single_label_classification"):
        raise AdapterError(
            f"{path}: problem_type is {kind!r}; only a classifier whose outputs exclude each other "
            "(single_label_classification), or with a single one, gives the probability of a class"
        )
    return None if kind is None else str(kind)


def _label_names(config: Mapping[str, Any], path: Path) -> dict[int, str]:
    """Names by label, from `id2label` or else from `label2id`; empty if there is neither."""
    try:
        if config.get("id2label"):
            return {int(label): str(name) for label, name in config["id2label"].items()}
        return {int(label): str(name) for name, label in (config.get("label2id") or {}).items()}
    except (AttributeError, TypeError, ValueError):
        raise AdapterError(f"{path}: its map of labels (id2label, label2id) does not map numbers to names") from None


def _json_object(path: Path) -> dict[str, Any]:
    return json_object(path, LARGEST_CONFIG_BYTES, AdapterError)
