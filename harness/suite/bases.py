"""Declarations of weights that are not trained here: foundation models, and adapters from elsewhere."""

from pathlib import PurePosixPath
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, field_validator

from harness.suite.fields import Closed, Id, Name, Sha256, Trials
from harness.suite.splits import COMMIT_PATTERN, DATASET_PATTERN


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
    """Digest of its `model.safetensors`."""


class PathBase(Closed):
    """A foundation model in a local folder, relative to the suite file."""

    id: Id
    source: Literal["path"]
    path: Name
    sha256: Sha256
    """Digest of its `model.safetensors`."""


class HubBase(Closed):
    """A foundation model on the Hugging Face hub, at one commit."""

    id: Id
    source: Literal["hub"]
    name: Annotated[str, Field(pattern=DATASET_PATTERN)]
    """Repository: owner/name."""
    revision: Annotated[str, Field(pattern=COMMIT_PATTERN)]


Base: TypeAlias = Annotated[PackageBase | PathBase | HubBase, Field(discriminator="source")]


class PathAdapter(Closed):
    """A PEFT adapter that somebody else trained, in a folder below the suite file's folder."""

    id: Id
    base: Id
    source: Literal["path"]
    path: Name
    """Folder, relative to the suite file."""
    sha256: Sha256
    """Digest of its `adapter_model.safetensors`."""
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
    trials: Trials = None
    """Number of settings that its authors tried, including the chosen one; absent if unknown."""


ForeignAdapter: TypeAlias = PathAdapter | HubAdapter
