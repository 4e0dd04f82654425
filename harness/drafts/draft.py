"""A suite for one adapter or finished classifier and one data file, made from what the files say.

    made = draft(Wanted("my-lora", base="minilm", data="reviews.csv"), Path(), cache)
    made.text                  # the suite file; `made.choices` says what was chosen and why
    write(made, Path())        # the suite, its lock, and copies of files that lie elsewhere

Nothing is asked that can be read: the method and the base from the adapter's configuration, the meaning of outputs from
label maps, columns and labels from the data, the limit of tokens from the base and the texts. Digests and commits are
computed.
"""

import math
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import data
from harness.artifacts import atomic, digest, hub
from harness.data import guess, hub_dataset, lock
from harness.data.sniff import Sniffed, described, sniff
from harness.data.source import Places
from harness.errors import UsageError
from harness.models import adapter_files, bases, tokens, weight_files
from harness.records import Split
from harness.suite.polarity import polarity
from harness.suite.schema import Suite

SEEDS = [13, 42, 87]
"""Seeds of the untrained heads."""
MOST_TOKENS = 512
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
LABEL_TASKS = (None, "SEQ_CLS")
METRICS = ("accuracy", "f1", "roc_auc", "log_loss")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The request for a draft."""

    adapter: str
    """Folder of an adapter or a finished classifier, or its name on the hub."""
    data: str
    """File of the rows to score, or a dataset's name on the hub."""
    base: str | None = None
    """Folder of the base, or its name on the hub; the one that the adapter's configuration names if None."""
    train: str | None = None
    """File of training rows for the probe and the counted words, or a dataset's name on the hub."""
    columns: Mapping[str, Any] | None = None
    labels: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """A suite that was not written yet."""

    name: str
    text: str
    """The suite file."""
    choices: tuple[str, ...]
    """A sentence for each choice, with the reason."""
    copies: Mapping[str, Path]
    """Files and folders that lie elsewhere, by the path at which the suite expects a copy."""

    @property
    def file(self) -> str:
        """Name of the suite file."""
        return f"{self.name}.toml"


def draft(wanted: Wanted, folder: Path, cache: Path) -> Draft:
    """Draft a suite for a folder.

    Args:
        folder: where the suite will be.
        cache: for what is fetched from the hub.

    Raises:
        UsageError: something that is named is not there, or is not what it is needed for.
        DataError: the data or a base cannot be read, or do not show what they mean.
    """
    drafting = _Drafting(wanted, folder, cache)
    return drafting.draft()


def write(made: Draft, folder: Path) -> Path:
    """Write a draft with its lock and copies. A suite that is there already is kept if it is the same.

    Raises:
        UsageError: another suite of this name is there, or another file where a copy would be.
    """
    path = folder / made.file
    if path.exists() and path.read_text(encoding="utf-8") != made.text:
        raise UsageError(
            f"{path}: is there already and is not the suite that would be written; evaluate it with "
            f"`harness evaluate {path}`, or move it away"
        )
    for name, source in made.copies.items():
        _copy(source, folder / name)
    atomic.write(path, made.text.encode())
    return path


def pin(path: Path, suite: Suite, places: Places) -> dict[str, Split]:
    """Load a suite's splits and write those that the lock lacks into it.

    Raises:
        DataError: a split cannot be loaded or is not the pinned one.
    """
    lock_path = lock.path_for(path)
    pinned = lock.read(lock_path) or {}
    splits = data.load_pinned(suite.split, places, lock_path, pinned)
    if lock.unpinned(pinned, splits):
        lock.write(lock_path, splits.values(), kept=pinned)
    return splits


def _copy(source: Path, target: Path) -> None:
    files = [source] if source.is_file() else sorted(file for file in source.iterdir() if file.name in _OF_ADAPTER)
    for file in files:
        to = target if source.is_file() else target / file.name
        if to.is_file() and digest.of_file(to) == digest.of_file(file):
            continue
        if to.exists():
            raise UsageError(f"{to}: is there already and differs from {file}; move it away")
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, to)


_OF_ADAPTER = (adapter_files.WEIGHTS, adapter_files.CONFIG, "harness-card.json", "trained-on.txt")


class _Drafting:
    """One draft in the making."""

    def __init__(self, wanted: Wanted, folder: Path, cache: Path) -> None:
        self.wanted, self.folder, self.cache = wanted, folder, cache
        self.choices: list[str] = []
        self.copies: dict[str, Path] = {}

    def draft(self) -> Draft:
        """The draft, from its parts in the order of the file."""
        named = Path(self.wanted.adapter).resolve().name or self.wanted.adapter
        name = _id(named if Path(self.wanted.adapter).exists() else self.wanted.adapter.rpartition("/")[2])
        is_adapter, config, competitor = self._competitor(name)
        base = self._base(config, is_adapter=is_adapter)
        test = self._split("test", self.wanted.data, name)
        train = [] if self.wanted.train is None else [self._split("train", self.wanted.train, name)]
        rows = self._rows([*train, test])
        template = "{title} {content}" if any(e.title for e in rows["test"].examples) else "{content}"
        if template != "{content}":
            self._say(
                "template: title and content, since the rows have titles; use {content} alone if the adapter never "
                "read any"
            )
        text = {"template": template, "max_length": self._max_length(base, rows, template)}
        share = max(sum(e.label for e in rows["test"].examples), sum(1 - e.label for e in rows["test"].examples))
        constant = math.ceil(share / len(rows["test"].examples) * 10_000) / 10_000
        tables = [("split", one) for one in (*train, test)] + [("base", base)]
        if is_adapter:
            tables.append(("adapter", competitor))
        tables += [("model", model) for model in self._models(name, config if not is_adapter else None, bool(train))]
        tables += [("metric", {"name": metric}) for metric in METRICS]
        tables.append(("gate", self._gate(name, constant, is_adapter=is_adapter, has_train=bool(train))))
        top = {
            "version": 1,
            "name": name,
            "description": f"{name} on {Path(self.wanted.data).name}",
            "primary_metric": "accuracy",
        }
        return Draft(name, _toml(top, text, tables, self.choices), tuple(self.choices), self.copies)

    def _say(self, choice: str) -> None:
        self.choices.append(choice)

    def _competitor(self, name: str) -> tuple[bool, Mapping[str, Any], dict[str, Any]]:
        """Find the competitor: true for an adapter; its configuration, or a classifier's `labels`; its table."""
        folder = Path(self.wanted.adapter)
        if not folder.is_dir():
            return self._adapter_on_hub(name)
        if not (folder / adapter_files.CONFIG).is_file():
            if not (folder / bases.CONFIG).is_file():
                raise UsageError(
                    f"{folder}: has neither {adapter_files.CONFIG} nor {bases.CONFIG}; name the folder of an adapter "
                    "or of a finished classifier"
                )
            self._say(f"{folder} is a finished classifier: it has {bases.CONFIG} and no {adapter_files.CONFIG}")
            return False, self._of_checkpoint(folder), {}
        config = adapter_files.configuration(folder)
        self._check_adapter(config, folder)
        if not (folder / adapter_files.WEIGHTS).is_file():
            raise UsageError(f"{folder}: has no {adapter_files.WEIGHTS}; save the adapter as safetensors")
        path = self._within(folder, f"adapters/{name}")
        sha256 = digest.of_file(folder / adapter_files.WEIGHTS)
        return True, config, {"id": name, "base": "base", "source": "path", "path": path, "sha256": sha256}

    def _check_adapter(self, config: Mapping[str, Any], where: object) -> None:
        if config.get("task_type") == "CAUSAL_LM":
            raise UsageError(
                f"{where}: was trained for the task CAUSAL_LM, so it answers prompts; declare it in a suite with "
                "task = 'causal_lm', and a model with backend = 'prompt'"
            )
        if config.get("task_type") not in LABEL_TASKS:
            raise UsageError(
                f"{where}: was trained for the task {config['task_type']}; only classifiers of sequences (SEQ_CLS) are "
                "checked by this command"
            )
        method = str(config["peft_type"]).lower()
        self._say(f"{where} is an adapter: {method}, task {config.get('task_type') or 'not stated'}")

    def _adapter_on_hub(self, name: str) -> tuple[bool, Mapping[str, Any], dict[str, Any]]:
        who, wanted = f"adapter {name}", self.wanted.adapter
        repo = self._repo("model", wanted, who)
        there = hub.listing(repo, who)
        if adapter_files.CONFIG not in there:
            raise UsageError(
                f"{who}: {repo.label} has no {adapter_files.CONFIG}; give a finished classifier as a folder"
            )
        folder = hub.fetch(repo, [adapter_files.CONFIG], who)
        config = adapter_files.configuration(folder)
        self._check_adapter(config, repo.label)
        table = {"id": name, "base": "base", "source": "hub", "name": wanted, "revision": repo.commit}
        return True, config, table

    def _repo(self, kind: Any, name: str, who: str) -> hub.Repo:
        if not HUB_NAME.fullmatch(name):
            raise UsageError(
                f"{who}: {name}: there is no such file or folder, and it is no name on the hub (owner/name)"
            )
        commit = hub.newest_commit(kind, name, who)
        self._say(f"{name}: the newest commit on the hub, {commit[:12]}, is pinned")
        return hub.Repo(kind, name, commit, self.cache / "hub")

    def _of_checkpoint(self, folder: Path) -> Mapping[str, Any]:
        """The `labels` of a finished classifier, if its own names do not say it."""
        names = adapter_files.outputs(folder / bases.CONFIG)
        means = [polarity(name) for name in names]
        low, high = ([name for name, one in zip(names, means, strict=True) if one == side] for side in (0, 1))
        why = "by their names"
        if not low or not high:
            half = len(names) // 2
            low, high = list(names[:half]), list(names[len(names) - half :] or names)
            why = "by their order, since no name says it: check this"
        neutral = [name for name in names if name not in (*low, *high)]
        words = [f"{', '.join(low)} negative"] * bool(low) + [f"{', '.join(high)} positive"]
        words += [f"{', '.join(neutral)} neutral"] * bool(neutral)
        self._say(f"outputs: {', '.join(words)}; {why}")
        is_plain = len(names) == 2 and set(means) == {0, 1}
        return {} if is_plain else {"labels": {"negative": low, "positive": high}}

    def _base(self, config: Mapping[str, Any], *, is_adapter: bool) -> dict[str, Any]:
        named = self.wanted.base if is_adapter else self.wanted.adapter
        if named is None:
            named = config.get("base_model_name_or_path")
            if not isinstance(named, str) or not named:
                raise UsageError(f"{self.wanted.adapter}: names no base; give it by --base")
            self._say(f"base: {named}, which the adapter's configuration names")
        folder = Path(named)
        if not folder.is_dir():
            if not HUB_NAME.fullmatch(named):
                raise UsageError(
                    f"base {named}: there is no such folder, and it is no name on the hub; give it by --base"
                )
            repo = self._repo("model", named, "base")
            return {"id": "base", "source": "hub", "name": named, "revision": repo.commit}
        if not any((folder / name).is_file() for name in (bases.WEIGHTS, bases.INDEX)):
            raise UsageError(f"{folder}: has no {bases.WEIGHTS}; a base needs it, {bases.CONFIG} and a tokenizer")
        path = os.path.relpath(folder.resolve(), self.folder.resolve())
        return {"id": "base", "source": "path", "path": path, "sha256": weight_files.pin(folder, "base")}

    def _within(self, source: Path, copy: str) -> str:
        """The path of something in the suite's folder: where it is, or where a copy will be."""
        resolved, root = source.resolve(), self.folder.resolve()
        if resolved.is_relative_to(root) and resolved != root:
            return resolved.relative_to(root).as_posix()
        self.copies[copy] = resolved
        self._say(f"{source} is outside of this folder, so it is copied to {copy}")
        return copy

    def _split(self, split_id: str, named: str, name: str) -> dict[str, Any]:
        path = Path(named)
        if path.is_file():
            found = sniff(path, self.wanted.columns, self.wanted.labels)
            declared = {"source": "file", "path": self._within(path, f"data/{path.name}"), **found.keys}
        else:
            found, declared = self._on_hub(split_id, named)
        for choice in found.choices:
            self._say(f"{split_id}: {choice}")
        return {"id": split_id, **declared}

    def _on_hub(self, split_id: str, named: str) -> tuple[Sniffed, dict[str, Any]]:
        if not HUB_NAME.fullmatch(named):
            raise UsageError(f"{named}: there is no such file, and it is no name on the hub (owner/name)")
        who = f"split {split_id}"
        repo = self._repo("dataset", named, who)
        there = hub_dataset.splits_of(repo, who)
        order = ("train", "test", "validation") if split_id == "train" else ("test", "validation", "train")
        chosen = next((one for one in order if one in there), there[0])
        self._say(f"{split_id}: split {chosen!r} of {named} (found: {', '.join(there)})")
        rows = hub_dataset.first_rows(repo, chosen, 1000, who)
        found = described(rows, {}, (), f"{who}: {repo.label}", self.wanted.columns, self.wanted.labels)
        declared = {"source": "hub", "dataset": named, "revision": repo.commit, "split": chosen, **found.keys}
        return found, declared

    def _rows(self, declared: Sequence[Mapping[str, Any]]) -> dict[str, Split]:
        """The splits, from where the files are now."""
        from pydantic import TypeAdapter

        from harness.suite.schema import SplitRule

        found = {}
        for table in declared:
            rule: Any = TypeAdapter(SplitRule).validate_json(TypeAdapter(Any).dump_json(dict(table)))
            places = Places(self.cache, self.folder, None)
            if getattr(rule, "path", None) in self.copies:
                source = self.copies[rule.path]
                places, rule = Places(self.cache, source.parent, None), rule.model_copy(update={"path": source.name})
            found[rule.id] = data.load_split(rule, places)
        for note in data.notes(found.values()):
            self._say(note)
        return found

    def _max_length(self, base: Mapping[str, Any], rows: Mapping[str, Split], template: str) -> int:
        """Enough for the longest text, if the base can read as much."""
        from pydantic import TypeAdapter

        from harness.suite.schema import Base

        declared: Any = TypeAdapter(Base).validate_python(dict(base))
        folder = bases.tokenizer_folder(declared, self.folder, self.cache)
        texts = [
            template.format(title=e.title, content=e.content).strip() for one in rows.values() for e in one.examples
        ]
        longest = int(tokens.counter(folder)(texts).max())
        room = min(_room(folder) or MOST_TOKENS, MOST_TOKENS)
        fits = min(room, max(16, -(-longest // 8) * 8))
        cut = f", so longer texts are cut: the base reads {room}" if longest > fits else ""
        self._say(f"max_length: {fits} tokens; the longest text has {longest}{cut}")
        return fits

    def _models(self, name: str, checkpoint: Mapping[str, Any] | None, has_train: bool) -> list[dict[str, Any]]:
        models: list[dict[str, Any]] = []
        if checkpoint is None:
            models.append({"id": name, "backend": "peft", "adapter": name, "precision": "fp32"})
            models.append(
                {"id": "base-untrained", "backend": "transformer", "base": "base", "seeds": SEEDS, "precision": "fp32"}
            )
        else:
            models.append({"id": name, "backend": "checkpoint", "base": "base", **checkpoint, "precision": "fp32"})
        if has_train:
            models += [
                {
                    "id": "base-probe", "backend": "probe", "base": "base", "train_split": "train", "C": 1.0,
                    "precision": "fp32",
                },
                {
                    "id": "tfidf", "backend": "tfidf", "train_split": "train", "ngram_range": [1, 2],
                    "sublinear_tf": True, "C": 10.0,
                },
                {"id": "majority", "backend": "majority", "train_split": "train"},
            ]  # fmt: skip
            self._say("competitors: a linear probe on the frozen base, counted words and the larger class")
        else:
            self._say(
                "no training rows are given, so there is no probe: the base is shown with an untrained head, which is "
                "chance; --train FILE adds a probe on the frozen base"
                if checkpoint is None
                else "no training rows are given, so there is nothing to compare with but a constant answer; "
                "--train FILE adds counted words and a probe"
            )
        return models

    def _gate(self, name: str, constant: float, *, is_adapter: bool, has_train: bool) -> dict[str, Any]:
        other = "base-probe" if has_train and is_adapter else "tfidf" if has_train else "base-untrained"
        rules: dict[str, Any] = {"min": constant}
        self._say(f"gate: accuracy of at least {constant}, which the larger class alone reaches")
        if is_adapter or has_train:
            rules["superior_to"] = {"model": other, "margin": 0.0}
            self._say(f"gate: better than {other}")
        return {"model": name, "split": "test", "metric": "accuracy", **rules, "on_inconclusive": "fail"}


def _room(folder: Path) -> int | None:
    """Number of tokens that a base has positions for, from its configuration alone."""
    import torch
    from transformers import AutoConfig, AutoModel

    from harness.models.transformer import positions

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    auto: Any = AutoModel  # untyped there
    with torch.device("meta"):
        return positions(auto.from_config(config, trust_remote_code=False))


def _id(name: str) -> str:
    """A name as an id of the suite."""
    made = re.sub(r"[^a-z0-9._+-]+", "-", name.lower()).strip("-._+")[:64]
    return made or "adapter"


def _toml(
    top: Mapping[str, Any],
    text: Mapping[str, Any],
    tables: Sequence[tuple[str, Mapping[str, Any]]],
    said: Sequence[str],
) -> str:
    """The suite file, with the choices as comments at the top."""
    parts = ["".join(f"# {line}\n" for line in ("Drafted from the files; edit it as you like.", *map(_one_line, said)))]
    parts[0] += "".join(f"{key} = {guess.toml(value)}\n" for key, value in top.items())
    parts.append("[text]\n" + "".join(f"{key} = {guess.toml(value)}\n" for key, value in text.items()))
    for name, table in tables:
        parts.append(f"[[{name}]]\n" + "".join(f"{key} = {guess.toml(value)}\n" for key, value in table.items()))
    return "\n".join(parts)


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else "·" for character in text)
