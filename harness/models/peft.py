"""Bases with a PEFT adapter, scored only after proof that the adapter is loaded."""

import inspect
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import peft as library
import torch
from peft import (
    PeftModel,
    PeftModelForCausalLM,
    PeftModelForSequenceClassification,
    TaskType,
    get_peft_model_state_dict,
)
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from safetensors import SafetensorError
from safetensors.torch import load_file

from harness.errors import AdapterError
from harness.models import adapter_files, device, language_model, nf4, own_format, variants, weight_files
from harness.models.adapter_files import CONFIG, WEIGHTS
from harness.models.classifier import Classifier, ModelInputs
from harness.models.encoding import Encoded, settle, trial
from harness.models.padding import UNPADDED
from harness.models.tokens import PROBE_TEXTS
from harness.models.transformer import check_positions, check_reloaded, classifier, head_names, untrained
from harness.suite import allowed
from harness.suite.schema import PeftModel as PeftDeclaration

Tensors: TypeAlias = Mapping[str, torch.Tensor]
"""Tensors by their names in an adapter's file."""

_NEEDS_THE_TRAINERS_BASE = ("corda", "loftq", "lora_ga", "olora", "pissa")
"""Beginnings of `init_lora_weights` with which an adapter belongs on the residual of its base, not on the base."""

_KNOWN_WARNINGS: tuple[tuple[str, type[Warning]], ...] = (
    ("`is_gradient_checkpointing` is deprecated", FutureWarning),
    ("Found missing adapter keys", UserWarning),
    ("The following rank_pattern keys did not match", RuntimeWarning),  # AdaLoRA's keys name tensors, not modules
    ("Unsupported layer type '<class '.*[nN]orm", UserWarning),  # LN tuning's own layers
    ("Careful, disabling adapter layers with bias configured", UserWarning),  # trained biases stay, layers do not
    ("Failed to load the CUDA extension", UserWarning),  # BOFT's faster kernel, for machines that have CUDA
    ("Setting boft_n_butterfly_factor to 1 to speed up", UserWarning),
    ("Sparse invariant checks are implicitly disabled", UserWarning),  # FRoD
    ("Adapter .* LoRA tensor.s. have invalid shape", UserWarning),  # AdaLoRA may leave a layer without any rank
)
"""Beginnings of messages, as regular expressions."""


@contextmanager
def without_known_warnings() -> Iterator[None]:
    """Silence warnings of PEFT's on which a user could not act.

    One of them, about tensors missing from an adapter's file, is an error here: `prove_loaded` raises it.
    """
    with warnings.catch_warnings():
        for message, category in _KNOWN_WARNINGS:
            warnings.filterwarnings("ignore", message, category)
        yield


def peft(model: PeftDeclaration, ingredients: ModelInputs) -> Classifier:
    """Load base and adapter, prove the loading, and make a classifier from them."""
    made = variants.made(model.runtime, model.precision, lambda: network(ingredients), ingredients)
    return classifier(made, ingredients)


def network(ingredients: ModelInputs) -> Any:
    """The base with the adapter on it, computing in float32; the adapter is provably loaded, and answers as its card
    records."""
    loaded = device.place(with_adapter(ingredients.base, ingredients.adapter), ingredients.device)
    check_positions(loaded, ingredients.max_length)
    settle(loaded, ingredients.base, ingredients.max_length)
    prove_loaded(loaded, ingredients.adapter, ingredients.base)
    check_reloaded(loaded, ingredients.adapter, ingredients.base)
    return loaded


def with_adapter(base_dir: Path, adapter_dir: Path, task: str | None = None) -> Any:
    """The base with the adapter of a folder on it, computing in float32. Only safetensors and plain JSON are read.

    Args:
        task: `causal_lm` for the base as a language model; None for the base with a classification head.

    Raises:
        AdapterError: weights or configuration are missing or damaged, do not match each other or the base, or still
            have their initial values.
    """
    if not (adapter_dir / WEIGHTS).is_file():
        raise AdapterError(f"{adapter_dir}: has no {WEIGHTS}; other weight formats are not read")
    config, on_disk = _configured(adapter_dir, task), _tensors(adapter_dir)
    _check_size(config, on_disk, adapter_dir)
    changed = changes_base(config)
    if changed is not None and nf4.is_asked(base_dir):
        raise AdapterError(f"{adapter_dir}: {changed}, {NOT_IN_NF4}")
    # A fresh head is overwritten by the adapter's own; the proof ensures that its seed cannot show in a score. An
    # adapter without a head may have been trained on the one that its base brings.
    keeps = changed is None
    base: Any = (
        untrained(base_dir, seed=0, head="kept", keeps=keeps)
        if task is None
        else language_model.causal(base_dir, keeps=keeps)
    )
    of_base = list(base.parameters())
    # A language model's output layer is the base's own, and proven to be whole on loading.
    head = {} if task else {f".{name}": tuple(base.get_parameter(name).shape) for name in head_names(base)}
    try:
        with without_known_warnings(), torch.random.fork_rng(devices=[]), own_format.formats_alone():
            torch.manual_seed(0)
            mapping = {} if config.is_prompt_learning else getattr(base, "_checkpoint_conversion_mapping", {})
            of_task = PeftModelForCausalLM if task else PeftModelForSequenceClassification
            kind = of_task if config.task_type is not None else PeftModel
            _check_targets(config, base, base_dir, adapter_dir)
            network = kind(base, config)
            fresh = {name: tensor.clone() for name, tensor in _live(network).items()}
            if head:
                _check_head(on_disk, head, base_dir, adapter_dir)
            _check_method(on_disk, fresh, head, adapter_dir)
            _check_fits(on_disk, fresh, head, base.config, adapter_dir)
            network.load_adapter(str(adapter_dir), "default", torch_device=device.PROCESSOR, key_mapping=mapping)
    except AdapterError:
        raise
    except Exception as problem:
        reason = " ".join(str(problem).split()) or type(problem).__name__
        raise AdapterError(f"{adapter_dir}: cannot be loaded onto its base ({reason[:500]})") from problem
    _check_trained(on_disk, fresh, network, of_base, adapter_dir)
    return network.eval()


BESIDE = ("LORA", "IA3")
"""Methods whose weights stand beside those of the base."""
_PLAIN_BEGINNINGS = ("true", "false", "gaussian", "none")
_HEADS = {"classifier", "classification_head", "head", "logits_proj", "pre_classifier", "score", "sequence_summary"}
"""Names of heads that are no names within a base; a `pooler` is part of some bases."""
NOT_IN_NF4 = "which a base with quantisation = 'nf4' does not allow; use a plain LoRA, or a base without quantisation"


def changes_base(config: Any) -> str | None:
    """The part of PEFT's configuration that changes, reads or copies weights of the base; None if there is none.

    Beneath all other adapters the base's weights may stay in the format in which they are kept.
    """
    if config.peft_type not in BESIDE:
        return f"the method {config.peft_type.lower()} may change weights of the base"
    set_ = [
        name
        for name in ("use_dora", "trainable_token_indices", "target_parameters", "layer_replication", "use_qalora")
        if getattr(config, name, None)
    ]
    if str(getattr(config, "init_lora_weights", None)).lower() not in _PLAIN_BEGINNINGS:
        set_.append("init_lora_weights")
    if getattr(config, "bias", "none") != "none":
        set_.append("bias")
    if set(config.modules_to_save or ()) - (_HEADS if config.task_type != TaskType.CAUSAL_LM else set()):
        set_.append("modules_to_save")
    return f"{set_[0]} = {getattr(config, set_[0])!r} changes or reads weights of the base" if set_ else None


def _configured(folder: Path, task: str | None) -> Any:
    """PEFT's configuration of an adapter. Unknown keys are accepted if empty: older and newer releases write such."""
    values = adapter_files.configuration(folder)
    method, written_by = values["peft_type"], values.get("peft_version") or "unknown"
    where = f"{folder / CONFIG} (PEFT {written_by}; {library.__version__} is installed)"
    if method not in PEFT_TYPE_TO_CONFIG_MAPPING:
        raise AdapterError(f"{where}: there is no method {method!r} in the installed PEFT; install one that has it")
    adapter_files.check_task(folder, values, task)
    if str(values.get("init_lora_weights")).lower().startswith(_NEEDS_THE_TRAINERS_BASE):
        raise AdapterError(
            f"{where}: init_lora_weights = {values['init_lora_weights']!r} moved weights of the base into the adapter; "
            "save it as a plain LoRA (`path_initial_model_for_weight_conversion`)"
        )
    config_class: Any = PEFT_TYPE_TO_CONFIG_MAPPING[method]
    known = inspect.signature(config_class.__init__).parameters
    unknown = sorted(name for name, value in values.items() if name not in known and value)
    if unknown:
        raise AdapterError(f"{where}: {method} has no {', '.join(unknown)} there; install the PEFT that wrote the file")
    try:
        with without_known_warnings():
            named = {
                name: value for name, value in values.items() if name in known and name not in adapter_files.BEGINNING
            }
            config = config_class(**named)
    except Exception as problem:  # noqa: BLE001 (the values are untrusted)
        raise AdapterError(f"{where}: {problem}") from None
    config.inference_mode = True
    return config


def _check_size(config: Any, on_disk: Tensors, folder: Path) -> None:
    """Refuse a configuration that asks for far more than its file holds: PEFT would allocate it before comparing."""
    most, largest = _numbers(on_disk), max((max(one.shape, default=1) for one in on_disk.values()), default=0)
    ranks = {f"rank_pattern.{name}": rank for name, rank in (getattr(config, "rank_pattern", None) or {}).items()}
    for name, asked in {"r": getattr(config, "r", None), **ranks}.items():
        if isinstance(asked, int | float) and asked > largest:  # AdaLoRA's are lists with a flag for each rank
            raise AdapterError(f"{folder / CONFIG}: {name} = {asked!r}, but no tensor of {WEIGHTS} has that many rows")
    virtual, width = getattr(config, "num_virtual_tokens", None) or 0, getattr(config, "token_dim", None) or 1
    if not isinstance(virtual, int) or not isinstance(width, int) or virtual * width > most:
        raise AdapterError(
            f"{folder / CONFIG}: num_virtual_tokens = {virtual!r} is more than all {most} numbers of {WEIGHTS}"
        )
    layers = allowed.replicated_layers(getattr(config, "layer_replication", None))
    if layers is None or layers > len(on_disk):
        raise AdapterError(
            f"{folder / CONFIG}: layer_replication yields {layers} layers, but {WEIGHTS} has {len(on_disk)} tensors"
        )


def _numbers(tensors: Tensors) -> int:
    return sum(tensor.numel() for tensor in tensors.values())


def _tensors(folder: Path) -> Tensors:
    try:
        tensors: Tensors = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError, ValueError, RuntimeError) as problem:
        raise AdapterError(f"{folder / WEIGHTS} is damaged: {problem}") from None
    broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor.double()).all()]
    if broken:
        raise AdapterError(f"{folder / WEIGHTS} has values that are not finite numbers: {_some(broken)}")
    return tensors


def _check_targets(config: Any, base: Any, base_dir: Path, folder: Path) -> None:
    """Check that the base, by its architecture, has at least one of the modules that the configuration names."""
    named = getattr(config, "target_modules", None)
    if isinstance(named, str) or not named:  # a regular expression, or PEFT's own choice
        return
    there = [name for name, _ in base.named_modules()]
    if not any(name == target or name.endswith(f".{target}") for name in there for target in named):
        made_on = config.base_model_name_or_path
        raise AdapterError(
            f"{folder}: does not fit its base: {base_dir} ({base.config.model_type}) has none of the modules that "
            f"{CONFIG} targets ({_some(named)}). That file names the base {made_on!r}: declare the base that it was "
            "trained on"
        )


def _live(network: Any) -> Tensors:
    with without_known_warnings():
        tensors: Tensors = get_peft_model_state_dict(network, save_embedding_layers=False)
    return tensors


def _check_head(on_disk: Tensors, head: Mapping[str, Sequence[int]], base_dir: Path, folder: Path) -> None:
    """Check that the whole head is in the adapter's file or in the base's, and no part of it was drawn at random.

    Args:
        head: shapes of the head's parameters by name.
    """
    shapes = {f".{name}": shape for name, shape in weight_files.shapes(base_dir, str(base_dir)).items()}
    of_base = {name for name, shape in shapes.items() if shape == head.get(name)}
    lost = [name[1:] for name in head if name not in of_base and not any(key.endswith(name) for key in on_disk)]
    if lost:
        raise AdapterError(
            f"{folder}: neither {WEIGHTS} nor the base has {_some(lost)} of the head, which would answer at random; "
            "train with these in modules_to_save"
        )


def _check_method(on_disk: Tensors, fresh: Tensors, head: Collection[str], folder: Path) -> None:
    """Check that the file has at least one tensor of the adapter that its configuration describes."""
    made = [name for name in fresh if not name.endswith(tuple(head))]
    if made and not on_disk.keys() & set(made):
        found = [name for name in on_disk if not name.endswith(tuple(head))]
        raise AdapterError(
            f"{folder}: {WEIGHTS} and {CONFIG} belong to different methods or bases: the file has {_some(found)}, the "
            f"configuration makes {_some(made)}"
        )


def _check_fits(on_disk: Tensors, fresh: Tensors, head: Collection[str], base_config: Any, folder: Path) -> None:
    """Check that the file has exactly the tensors, by name and shape, that its configuration makes on the base."""
    lacking, strange = fresh.keys() - on_disk, on_disk.keys() - fresh
    resized = [name for name in strange if "embed" in name or name.endswith(("wte.weight", "lm_head.weight"))]
    if resized:
        raise AdapterError(
            f"{folder}: {WEIGHTS} brings embeddings of its own ({_some(resized)}): its vocabulary was resized or "
            "trained. Merge it into its base, save the whole model with its tokenizer, and declare it as the base of a "
            "model with backend = 'checkpoint'"
        )
    if lacking or strange:
        faults = [f"lacks {_some(lacking)}"] * bool(lacking) + [f"has {_some(strange)} in addition"] * bool(strange)
        raise AdapterError(
            f"{folder}: {WEIGHTS} does not hold the tensors that {CONFIG} makes on the base: it {' and '.join(faults)}"
        )
    of_base = {getattr(base_config, size, None) for size in ("hidden_size", "intermediate_size", "dim", "hidden_dim")}
    for name in sorted(fresh):
        found, wanted = tuple(on_disk[name].shape), tuple(fresh[name].shape)
        if found != wanted:
            if name.endswith(tuple(head)) and found[1:] == wanted[1:]:
                raise AdapterError(
                    f"{folder}: its head has {found[0]} outputs ({name} has the shape {found} where {wanted} belongs); "
                    "sentiment has two, 0 negative and 1 positive"
                )
            at_odds = {one for one, other in zip(wanted, found, strict=False) if one != other}
            why = "it was trained on another base" if at_odds & of_base else f"{CONFIG} asks for another size"
            raise AdapterError(f"{folder}: {name} has the shape {found} where {wanted} belongs: {why}")


def _check_trained(
    on_disk: Tensors, fresh: Tensors, network: Any, of_base: Sequence[torch.Tensor], folder: Path
) -> None:
    """Check that no parameter in the file has its initial value. Fixed projections and indices are not parameters.

    Args:
        of_base: the base's own parameters, among them biases that were trained too. Not all of them must have moved:
            biases of attention's keys change no answer, so they have no gradient.
    """
    parameters = {parameter.data_ptr() for parameter in network.parameters()}
    parameters -= {parameter.data_ptr() for parameter in of_base}
    trained = [name for name, tensor in _live(network).items() if tensor.data_ptr() in parameters and tensor.numel()]
    same = [name for name in trained if _equal(on_disk[name], fresh[name])]
    if same:
        raise AdapterError(
            f"{folder}: has no effect on its base, or was never trained: {_some(same)} still has its initial values"
        )


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Compare as numbers: a float16 file counts as loaded if the live float32 values are exactly its own."""
    return torch.equal(device.home(one).double(), device.home(other).double())


def _some(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:3]) + (f", … ({len(names)} in all)" if len(names) > 3 else "")


def prove_loaded(network: Any, adapter_dir: Path, base_dir: Path, task: str | None = None) -> None:
    """Check the live model against the adapter's file.

    Args:
        task: as for `with_adapter`.

    Raises:
        AdapterError: a tensor of the file is not live or differs, a live one is not in the file, or switching the
            adapter off changes nothing in the encoder, or in what a language model answers.
    """
    on_disk, live = _tensors(adapter_dir), _live(network)
    strange = sorted(set(on_disk) ^ set(live))
    if strange:
        raise AdapterError(f"{adapter_dir}: tensors only in the file or only in the model: {_some(strange)}")
    changed = [name for name in on_disk if not _equal(on_disk[name], live[name])]
    if changed:
        raise AdapterError(f"{adapter_dir}: loaded values differ from the file's: {_some(changed)}")
    is_classifier = task is None
    batch = trial(base_dir, network) if is_classifier else _one_text(base_dir, network)

    def read(of: Any) -> torch.Tensor:
        # The encoder's states, not the answers: a head that was trained beside an idle adapter changes the answers.
        # A language model has no such head.
        found = of(**batch, output_hidden_states=is_classifier)
        layers = found.get("hidden_states", found.get("decoder_hidden_states"))  # the latter of T5, BART and their like
        states: torch.Tensor = layers[-1] if is_classifier else found.logits
        return states[:, -batch["input_ids"].shape[1] :]  # without virtual tokens, which stand before the text

    with torch.inference_mode(), without_known_warnings():
        switched_on = read(network)
        if network.active_peft_config.is_prompt_learning:
            # PEFT's own switch needs a method that only generating models have.
            switched_off = read(network.get_base_model())
        else:
            with network.disable_adapter():
                switched_off = read(network)
    if torch.equal(switched_on, switched_off):
        where = "the encoder" if is_classifier else "what the language model answers"
        raise AdapterError(f"{adapter_dir}: switching the adapter off changes nothing in {where}")


def _one_text(base_dir: Path, network: Any) -> dict[str, torch.Tensor]:
    """A probe text, which every network can read."""
    return UNPADDED.batch([Encoded(base_dir, PROBE_TEXTS[:1], max_length=64).ids[0]], device.of(network))
