"""Foundation models as GGUF files: dequantised once into a plain folder of the cache.

The GGUF form packs weights, usually in four to eight bits, with configuration and tokenizer into one file. The library
transformers reads it with the package `gguf`, and takes 30 seconds for 135 million parameters. So the float32 weights
are kept as safetensors beside the tokenizer's files, in a folder named by the pins of the file and the releases of both
packages.
"""

import io
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from importlib import metadata, util
from pathlib import Path
from typing import Any

from harness.artifacts import digest
from harness.errors import DataError, UsageError
from harness.models import base_config

WEIGHTS, ORIGIN = "model.safetensors", "gguf.json"


def dequantised(pins: Sequence[str], find: Callable[[Path], Path], cache: Path, who: str) -> Path:
    """The folder with the contents of a GGUF file, made if it is not in the cache or was damaged there.

    Args:
        pins: digests and names that determine the file.
        find: called if the folder must be made, with an empty folder for temporary files; returns the verified file.
        who: the declaration that names it, for messages.

    Raises:
        UsageError: the package `gguf` is not installed.
        DataError: the file is damaged, or transformers does not know its architecture.
    """
    if util.find_spec("gguf") is None:
        raise UsageError(
            f"{who}: a GGUF file is read by the package gguf, which is not installed: "
            "`python -m pip install 'adapter-harness[gguf]'`"
        )
    made_by = [*pins, metadata.version("gguf"), metadata.version("transformers")]
    folder = cache.absolute() / "gguf" / digest.of_json(made_by)[:32]
    if not _is_whole(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as fresh:
            partial = Path(fresh) / "made"
            partial.mkdir()
            _convert(find(Path(fresh)), partial, who)
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
    return folder


def _convert(file: Path, folder: Path, who: str) -> None:
    try:
        with base_config.transformers_alone:
            described = _converted(file, folder)
    except Exception as problem:  # noqa: BLE001 (the file may make both packages raise anything)
        reason = " ".join(str(problem).split()) or type(problem).__name__
        raise DataError(f"{who}: {file.name} cannot be read as a GGUF model ({reason[:500]})") from None
    described |= {"sha256": digest.of_file(file), "weights": digest.of_file(folder / WEIGHTS)}
    (folder / ORIGIN).write_text(json.dumps(described), encoding="utf-8")


def identity(folder: Path) -> str:
    """Digest of a base from a GGUF file: the file and the weights made from it, whichever release wrote the rest."""
    described = _described(folder)
    return digest.of_json({"gguf": described["sha256"], "weights": described["weights"]})


def origin(folder: Path) -> str:
    """Describe where the weights of a folder come from, for display."""
    described = _described(folder)
    return f"{described['architecture']}, dequantised from GGUF ({described['type']})"


def _described(folder: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((folder / ORIGIN).read_text(encoding="utf-8"))
    return found


def _is_whole(folder: Path) -> bool:
    return (folder / ORIGIN).is_file() and _described(folder)["weights"] == digest.of_weights(folder / WEIGHTS)


def _converted(file: Path, folder: Path) -> dict[str, str]:
    """Write weights, configuration and tokenizer of a GGUF file into a folder; describe the file."""
    import torch
    import transformers
    from gguf import GGUFReader
    from transformers import AutoModelForCausalLM, AutoTokenizer

    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # untyped there
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # untyped there
    reader = GGUFReader(file)
    types: Counter[str] = Counter()
    for tensor in reader.tensors:
        types[tensor.tensor_type.name] += int(tensor.n_elements)
    for name, field in reader.fields.items():
        if name.endswith("_count") and isinstance(count := field.contents(), int) and count > len(reader.tensors):
            raise ValueError(f"{name} = {count:,} is more than the file's {len(reader.tensors)} tensors")
    architecture = str(reader.fields["general.architecture"].contents())
    named: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True, "trust_remote_code": False}
    with redirect_stderr(io.StringIO()):  # a progress bar that no setting turns off
        tokenizer: Any = AutoTokenizer.from_pretrained(file.parent, **named)
        model: Any = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **named)
    model.config.__dict__.pop("quantization_config", None)  # the weights are plain now
    model.__dict__.pop("hf_quantizer", None)  # with it, the library refuses to save them
    model.save_pretrained(folder, max_shard_size="1000GB")
    tokenizer.save_pretrained(folder)
    return {"architecture": architecture, "type": types.most_common(1)[0][0]}
