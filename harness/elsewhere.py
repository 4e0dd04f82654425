"""Adapters that were not trained here, as the store knows adapters: what is known of them, and what is not."""

from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from harness.declarations import Base, ForeignAdapter
from harness.errors import AdapterError
from harness.models import adapters
from harness.models.bases import ResolvedBase
from harness.models.protocol import CARD
from harness.records import AdapterRecord
from harness.training import card


@dataclass(frozen=True, slots=True)
class Found:
    """An adapter on this machine."""

    folder: Path
    record: AdapterRecord
    trained_on: frozenset[str] | None
    """Digests of the texts that it has seen, as its own folder says; None where that is unknown."""
    made_on: str | None
    """The base that its configuration names, if any."""


def find(declared: ForeignAdapter, base: ResolvedBase, suite_dir: Path, cache: Path) -> Found:
    """A declared adapter, verified as far as that needs no torch.

    Args:
        base: what the suite puts it on.
        suite_dir: what a path is relative to.
        cache: where files of the hub are kept.

    Raises:
        FetchError: the hub does not serve it.
        AdapterError: it cannot be used, or its card tells of another base.
    """
    folder = adapters.find(declared, suite_dir, cache, also=(card.TRAINED_ON,))
    config = adapters.configuration(folder)
    adapters.check_labels(folder)
    named = config.get("base_model_name_or_path")
    made_on = named if isinstance(named, str) else None
    if (folder / CARD).is_file():
        record = _record(folder)
        if record.base_digest != base.digest:
            raise AdapterError(
                f"adapter {declared.id}: {folder / CARD} tells of training on another base (digest "
                f"{record.base_digest[:12]}) than {declared.base!r} (digest {base.digest[:12]})"
            )
        return Found(folder, record, card.trained_on(folder, record), made_on)
    adapters.check_labels(base.folder, of_base=True)
    record = AdapterRecord(
        adapter_digest=adapters.identity(folder),
        adapter_id=declared.id,
        method=config["peft_type"].lower(),
        params=adapters.params(config),
        base_digest=base.digest,
        trained_on=None,
        n_trainable=None,
        seed=None,
        train_seconds=None,
        peak_bytes=None,
        size_bytes=card.size_bytes(folder),
        card={},
    )
    return Found(folder, record, None, made_on)


def doubt(declared: ForeignAdapter, made_on: str | None, base: Base) -> str | None:
    """That an adapter's configuration names another base than the suite's. There may be good reasons."""
    names = (base.id, *(getattr(base, key, None) for key in ("name", "package", "path")))
    if not made_on or _last(made_on) in {_last(name) for name in names if name}:
        return None
    return (
        f"adapter {declared.id!r} names {made_on!r} as its base, and the suite puts it on {base.id!r}: unless both are "
        "the same weights, its scores mean nothing"
    )


def _last(name: str) -> str:
    """Of a path or a repository."""
    return name.rstrip("/").rpartition("/")[2].lower()


def _record(folder: Path) -> AdapterRecord:
    """From a card that somebody else may have written."""
    try:
        return TypeAdapter(AdapterRecord).validate_python(asdict(card.read(folder)))
    except ValidationError as problem:
        first = problem.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise AdapterError(f"{folder / CARD}: {place}: {first['msg']}") from None
    except RecursionError:
        raise AdapterError(f"{folder / CARD} is nested too deeply") from None
