"""Adapters from elsewhere, each broken on purpose in a different way: scored correctly, or refused by name.

All are evaluated in one run. The adapters are made with PEFT itself on a tiny real BERT, as another user would, or are
copies of one that the harness trained.
"""

import json
import math
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel, TaskType, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, BertModel
from typer.testing import CliRunner

from harness.artifacts import digest
from harness.cli import app
from harness.models.peft import without_known_warnings
from harness.store.connection import opened
from tests.fixtures import Result
from tests.worlds import rows, write_rows

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
CARD = "harness-card.json"

Tensors = dict[str, torch.Tensor]


def save_adapter(base: Path, folder: Path, config: Any) -> None:
    """An adapter that looks trained: none of its tensors has PEFT's initial values."""
    torch.manual_seed(11)
    model = BertForSequenceClassification.from_pretrained(base, num_labels=2)
    with without_known_warnings():
        network = get_peft_model(model, config)
    for parameter in network.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    with without_known_warnings():
        network.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)


def lora(**changed: Any) -> LoraConfig:
    """Source of the adapters in this module."""
    made_of: dict[str, Any] = {
        "task_type": TaskType.SEQ_CLS,
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["query", "value"],
    }
    return LoraConfig(**made_of | changed)


def tensors(change: Callable[[Tensors], Any]) -> Callable[[Path], None]:
    """Change an adapter's weights."""

    def edit(folder: Path) -> None:
        found = load_file(folder / WEIGHTS)
        found = change(found) or found
        save_file({name: tensor.contiguous() for name, tensor in found.items()}, folder / WEIGHTS)

    return edit


def config(**changed: Any) -> Callable[[Path], None]:
    """Change an adapter's configuration."""

    def edit(folder: Path) -> None:
        values = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps(values | changed))

    return edit


def labels(**values: Any) -> Callable[[Path], None]:
    """A model's configuration beside the adapter's."""

    def edit(folder: Path) -> None:
        (folder / "config.json").write_text(json.dumps(values))

    return edit


class Bomb:
    """Unpickled, it leaves a file behind."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("the-pickle-was-read",)


def bomb(folder: Path) -> None:
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Bomb()))


def pickle_only(folder: Path) -> None:
    bomb(folder)
    (folder / WEIGHTS).unlink()


def truncated(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])


def linked_file(folder: Path) -> None:
    outside = folder.parent.parent / "outside.safetensors"
    (folder / WEIGHTS).rename(outside)
    (folder / WEIGHTS).symlink_to(outside)


def linked_folder(folder: Path) -> None:
    outside = folder.parent.parent / "outside-folder"
    folder.rename(outside)
    folder.symlink_to(outside)


def older(folder: Path) -> None:
    """As PEFT 0.2 wrote it."""
    values = json.loads((folder / CONFIG).read_text())
    kept = ("base_model_name_or_path", "bias", "fan_in_fan_out", "inference_mode", "lora_alpha", "lora_dropout",
            "modules_to_save", "peft_type", "r", "target_modules", "task_type")  # fmt: skip
    old = {name: values[name] for name in kept} | {"enable_lora": None, "merge_weights": False}
    (folder / CONFIG).write_text(json.dumps(old))


def without_a_head(folder: Path) -> None:
    """Neither saved nor asked for."""
    config(task_type=None, modules_to_save=None)(folder)
    tensors(headless)(folder)


def nested(folder: Path) -> None:
    (folder / CONFIG).write_text("[" * 100_000)


def card(**changed: Any) -> Callable[[Path], None]:
    """Change entries of the harness's card."""

    def edit(folder: Path) -> None:
        values = json.loads((folder / CARD).read_text())
        (folder / CARD).write_text(json.dumps(values | changed))

    return edit


def text_for_alpha(folder: Path, text: str) -> None:
    """A number that JSON can write and no float can hold."""
    (folder / CONFIG).write_text((folder / CONFIG).read_text().replace('"lora_alpha": 8', f'"lora_alpha": {text}'))


EMBEDDINGS = "base_model.model.bert.embeddings.word_embeddings.weight"


def of_keys(t: Tensors) -> Tensors:
    """Biases of attention's keys as the base has them: they change no answer, so no training moves them."""
    return {name: torch.zeros_like(one) if name.endswith("key.bias") else one for name, one in t.items()}


def headless(t: Tensors) -> Tensors:
    return {name: tensor for name, tensor in t.items() if "classifier" not in name}


def lost(t: Tensors) -> Tensors:
    first = next(name for name in t if "lora_A" in name)
    return {name: tensor for name, tensor in t.items() if name != first}


def renamed(t: Tensors) -> Tensors:
    return {name.replace("layer.0", "layer.00"): tensor for name, tensor in t.items()}


def zero(t: Tensors) -> Tensors:
    return {name: torch.zeros_like(one) if "lora_B" in name else one for name, one in t.items()}


def one_zero(t: Tensors) -> None:
    name = next(name for name in t if "lora_B" in name)
    t[name] = torch.zeros_like(t[name])


def half(t: Tensors) -> Tensors:
    return {name: tensor.half() for name, tensor in t.items()}


def nan(t: Tensors) -> None:
    t[next(name for name in t if "lora_A" in name)][0, 0] = math.nan


def three_rows(t: Tensors) -> Tensors:
    return {name: torch.ones(3, 32) if name.endswith("classifier.weight") else one for name, one in t.items()}


@dataclass(frozen=True)
class Case:
    """A kind of sabotage."""

    name: str
    apply: Callable[[Path], Any] | None
    refused: str | None
    """Words of the refusal; None if it is scored."""
    made: str = "lora"
    """Name of the adapter that it is a copy of."""
    base: str = "tiny"


SCORED = [
    Case("sound", None, None),
    Case("older-config", older, None),
    Case("newer-config", config(peft_version="9.9", some_new_switch=False, another=None), None),
    Case("pickle-beside", bomb, None),
    Case("labels-agree", labels(id2label={"0": "NEGATIVE", "1": "POSITIVE"}), None),
    Case("labels-without-names", labels(id2label={"0": "LABEL_0", "1": "LABEL_1"}), None),
    Case("a-base-that-is-nowhere", config(base_model_name_or_path="nobody/nothing", revision="gone"), None),
    Case("float16", tensors(half), None),
    Case("ia3", None, None, made="ia3"),
    Case("biases-too", None, None, made="biased"),
    Case("no-task", None, None, made="no-task"),
    Case("trained-here", None, None, made="carded"),
]
REFUSED = [
    Case("no-head", tensors(headless), "nor the base has classifier"),
    Case("no-head-and-none-asked-for", without_a_head, "nor the base has classifier"),
    Case("lost-tensor", tensors(lost), "it lacks base_model"),
    Case("renamed-tensor", tensors(renamed), "in addition"),
    Case("extra-tensor", tensors(lambda t: t.update(stray=torch.ones(2))), "it has stray in addition"),
    Case("another-method", lambda folder: shutil.copy(folder.parent / "ia3" / WEIGHTS, folder), "different methods"),
    Case("small-base", None, "(4, 16) where (4, 32) belongs: it was trained on another base", made="small"),
    Case("wrong-rank", config(r=8), "where (8, 32) belongs: adapter_config.json asks for another size"),
    Case("three-classes", labels(id2label={"0": "bad", "1": "fair", "2": "good"}), "names 3 labels"),
    Case("three-rows", tensors(three_rows),
         "its head has 3 outputs"),
    Case("labels-turned", labels(id2label={"0": "POSITIVE", "1": "NEGATIVE"}), "the labels the other way round"),
    Case("labels-turned-too", labels(label2id={"positive": 0, "negative": 1}), "the labels the other way round"),
    Case("labels-in-the-config", config(id2label={"0": "pos", "1": "neg"}), "the labels the other way round"),
    Case("labels-turned-in-the-base", None, "of the base has the labels the other way round", base="turned"),
    Case("labels-are-no-map", labels(id2label=["negative", "positive"]), "does not map numbers to names"),
    Case("zero", tensors(zero), "was never trained"),
    Case("one-zero", tensors(one_zero), "was never trained"),
    Case("no-effect", config(lora_alpha=0), "switching the adapter off changes nothing in the encoder"),
    Case("truncated", truncated, "is damaged"),
    Case("not-finite", tensors(nan), "values that are not finite numbers"),
    Case("pickle", pickle_only, "weights found: adapter_model.bin); pickled weights are never read"),
    Case("linked-file", linked_file, "is a symlink out of the adapter's folder"),
    Case("linked-folder", linked_folder, "is a symlink out of the suite's folder"),
    Case("no-folder", lambda folder: shutil.rmtree(folder), "there is no folder"),
    Case("no-config", lambda folder: (folder / CONFIG).unlink(), "there is no "),
    Case("huge-config", config(note="x" * 2_000_000), "has more than 1,000,000 bytes"),
    Case("nested-config", nested, "is not JSON (RecursionError)"),
    Case("config-is-a-list", lambda folder: (folder / CONFIG).write_text("[]"), "is not a JSON object"),
    Case("no-method", config(peft_type=None), "does not name its method"),
    Case("unheard-of-method", config(peft_type="SORCERY"), "there is no method 'SORCERY'"),
    Case("unknown-switch", config(some_new_switch=True, peft_version="9.9"), "LORA has no some_new_switch there"),
    Case("impossible-value", config(r=-1), "cannot be loaded onto its base (`r` should be"),
    Case("no-number", config(lora_alpha=math.nan), "has a number that is not finite"),
    Case("beyond-every-number", lambda folder: text_for_alpha(folder, "1e999"), "is not JSON: it has a number"),
    Case("half-a-character", config(note="\ud800"), "is not JSON (UnicodeEncodeError)"),
    Case("resized-embeddings", tensors(lambda t: t.update({EMBEDDINGS: torch.ones(300, 32)})),
         "its vocabulary was resized or trained. Merge it into its base"),
    Case("no-such-option", config(bias="some"), "cannot be loaded onto its base (Requested bias: some"),
    Case("beyond-memory", config(r=10**9), "r is 1000000000, but at most 16384 is supported"),
    Case("not-a-number", config(r="many"), "r = 'many'"),
    Case("a-target-that-is-not-there", config(target_modules=["nowhere"]),
         "(bert) has none of the modules that adapter_config.json targets (nowhere). That file names the base '"),
    Case("generates", config(task_type="CAUSAL_LM"), "task_type is 'CAUSAL_LM'; it is a language model's"),
    Case("code", config(auto_mapping={"base_model_class": "Evil", "parent_library": "evil"}), "(auto_mapping)"),
    Case("module", config(megatron_config={}, megatron_core="evil"), "(megatron_config)"),
    Case("a-module-by-its-default", config(megatron_core="evil"), "megatron_core refers to code"),
    Case("a-table-for-the-hub", config(tokenizer_kwargs={"revision": 1}, corda_config={"cache_file": "/etc/hostname"}),
         "corda_config.cache_file refers to a file from elsewhere"),
    Case("a-path-for-an-option", config(init_lora_weights="/tmp/weights.bin"), "is not one of its options"),
    Case("text-where-there-is-none", config(lora_bias="https://example.org"), "text is not supported here"),
    Case("hangs-in-targets", config(target_modules="(.*.*)*x"), "target_modules '(.*.*)*x' is a regular expression"),
    Case("hangs-in-exclusions", config(exclude_modules="(a|a|.)*x"), "exclude_modules '(a|a|.)*x' is a regular"),
    Case("hangs-in-layers", config(layers_to_transform=[0], layers_pattern=["(.+)+x"]), "layers_pattern[0] '(.+)+x'"),
    Case("hangs-in-ranks", config(rank_pattern={"(.+)+x": 4}), "rank_pattern '(.+)+x' is a regular expression"),
    Case("hangs-in-alphas", config(alpha_pattern={".*.*.*.*.*x": 4}), "alpha_pattern '.*.*.*.*.*x' is a regular"),
    Case("hangs-in-modules-to-save", config(modules_to_save=["(.+)+x"]), "'(.+)+x' is not the name of a module"),
    Case("many-patterns", config(rank_pattern={f"a{i}": 4 for i in range(600)}), "rank_pattern has 600 items"),
    Case("beyond-memory-by-pattern", config(rank_pattern={"query": 10**9}), "rank_pattern.query is 1000000000"),
    Case("beyond-its-file-by-pattern", config(rank_pattern={"query": 16_000}), "rank_pattern.query = 16000, but"),
    Case("beyond-its-file", config(r=16_000), "r = 16000, but no tensor"),
    Case("replicated", config(layer_replication=[[0, 2]] * 100_000), "layer_replication yields 200,000 layers"),
    Case("replicated-a-little", config(layer_replication=[[0, 2]] * 100), "layer_replication yields 200 layers, but"),
    Case("replicated-by-nonsense", config(layer_replication=[[0, "x"]]), "must be a list of pairs of whole numbers"),
    Case("deep", config(loftq_config={"a": {"b": {"c": {"d": 1}}}}), "is nested more than 3 levels deep"),
    Case("deep-beside", config(note=json.loads("[" * 60 + "]" * 60)), "is nested more than 50 levels deep"),
    Case("card-not-a-number", card(train_seconds=math.nan), "harness-card.json", made="carded"),
    Case("pissa", config(init_lora_weights="pissa"), "moved weights of the base into the adapter"),
    Case("another-base-by-its-card", None, "records training on another base", made="carded", base="other"),
    Case("another-base-that-the-card-hides", card(base={"id": "tiny", "digest": "@OTHER@"}),
         "does not answer as it did at the end of its training", made="carded", base="other"),
    Case("card-of-other-weights", tensors(lambda t: t.update({k: v + 1 for k, v in t.items() if "lora_B" in k})),
         "the weights are not the ones its card describes", made="carded"),
    Case("card-without-answers", card(probe_scores=None), "has no usable answers to the probe texts", made="carded"),
    Case("card-without-numbers", card(train_seconds=math.nan), "has no readable harness-card.json", made="carded"),
    Case("card-of-nonsense", card(n_trainable="many"), "n_trainable", made="carded"),
    Case("card-without-texts", lambda folder: (folder / "trained-on.txt").unlink(), "no record of its training texts",
         made="carded"),
]  # fmt: skip
CASES = [*SCORED, *REFUSED]


@dataclass
class World:
    """A suite with an adapter of every kind, evaluated once."""

    root: Path
    result: Result
    errors: dict[str, str]
    """The reason why it was not scored, by model."""
    scores: dict[str, list[float]]
    """The predictions of each model that was scored, by model."""


HEAD = """version = 1
name = "from-elsewhere"
description = "Adapters that others made"
primary_metric = "accuracy"
text = { template = "{content}", max_length = 32 }
metric = [{ name = "accuracy" }]
"""
TRAINED = """
[[adapter]]
id = "lora"
base = "tiny"
method = "lora"
params = { r = 4, lora_alpha = 8, target_modules = ["query", "value"] }
train = { split = "train", epochs = 1, learning_rate = 1e-2, batch_size = 16, warmup_share = 0.1, weight_decay = 0.0, \
max_grad_norm = 1.0, precision = "fp32", seeds = [1] }
"""


def file_split(name: str) -> str:
    return f'[[split]]\nid = "{name}"\nsource = "file"\npath = "{name}.jsonl"\nformat = "jsonl"\n'


def path_base(name: str, folder: Path) -> str:
    sha256 = digest.of_file(folder / "model.safetensors")
    return f'[[base]]\nid = "{name}"\nsource = "path"\npath = "{folder.name}"\nsha256 = "{sha256}"\n'


def foreign(name: str, folder: Path, base: str = "tiny", path: str | None = None) -> str:
    """An adapter from a folder and its model, pinned as the files are now."""
    sha256 = digest.of_file(folder / WEIGHTS) if (folder / WEIGHTS).is_file() else "0" * 64
    return (
        f'[[adapter]]\nid = "{name}"\nbase = "{base}"\nsource = "path"\npath = "{path or folder.name}"\n'
        f'sha256 = "{sha256}"\n[[model]]\nid = "{name}"\nbackend = "peft"\nadapter = "{name}"\nprecision = "fp32"\n'
    )


def bert(folder: Path, tiny_base: Path, hidden_size: int, seed: int) -> None:
    """Another base with the same tokenizer."""
    config = BertConfig.from_pretrained(tiny_base)
    config.hidden_size = hidden_size
    shutil.copytree(tiny_base, folder)
    torch.manual_seed(seed)
    BertModel(config).save_pretrained(folder)


@pytest.fixture(scope="module")
def world(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """All cases, in one evaluation."""
    root = tmp_path_factory.mktemp("adapters")
    here, db = root / "suites", root / "runs" / "harness.duckdb"
    here.mkdir()
    shutil.copytree(tiny_base, here / "base")
    bert(here / "other", tiny_base, 32, seed=8)
    bert(here / "small", tiny_base, 16, seed=9)
    shutil.copytree(tiny_base, here / "turned")
    of_base = json.loads((tiny_base / "config.json").read_text())
    labels(**of_base, id2label={"0": "pos", "1": "neg"})(here / "turned")
    write_rows(here / "train.jsonl", rows(64, 0))
    write_rows(here / "test.jsonl", rows(20, 1000))
    made = root / "made"
    save_adapter(here / "base", made / "lora", lora())
    save_adapter(here / "small", made / "small", lora())
    ia3 = IA3Config(task_type=TaskType.SEQ_CLS, target_modules=["query", "value"], feedforward_modules=[])
    save_adapter(here / "base", made / "ia3", ia3)
    save_adapter(here / "base", made / "biased", lora(bias="all"))
    tensors(of_keys)(made / "biased")
    save_adapter(here / "base", made / "no-task", lora(task_type=None, modules_to_save=["classifier"]))
    splits = file_split("train") + file_split("test")
    declared_bases = path_base("tiny", here / "base")
    declared_bases += "".join(path_base(name, here / name) for name in ("other", "turned"))
    trained = '[[model]]\nid = "trained"\nbackend = "peft"\nadapter = "lora"\nprecision = "fp32"\n'
    suite = here / "elsewhere.toml"
    suite.write_text(HEAD + splits + declared_bases + TRAINED + trained)
    evaluate = ["evaluate", str(suite), "--db", str(db), "--workers", "1"]
    assert CliRunner().invoke(app, evaluate, catch_exceptions=False).exit_code == 0
    (folder,) = (root / "runs" / "adapters" / "lora").glob("seed-*")
    shutil.copytree(folder, made / "carded")
    other = bases_digest(here / "other")
    many = []
    for case in CASES:
        target = here / case.name
        shutil.copytree(made / case.made, target)
        if case.apply is not None:
            case.apply(target)
        if (target / CARD).is_file():
            (target / CARD).write_text((target / CARD).read_text().replace("@OTHER@", other))
        many.append(foreign(case.name, target, case.base))
    suite.write_text(suite.read_text() + "".join(many))
    result = CliRunner().invoke(app, [*evaluate, "--json"], catch_exceptions=False)
    with opened(db) as connection:
        failed = connection.execute("SELECT model_id, error FROM run WHERE status = 'error'").fetchall()
        found = connection.execute(
            """SELECT model_id, list(score ORDER BY example_id) FROM run JOIN prediction USING (run_id)
               WHERE status = 'success' GROUP BY model_id"""
        ).fetchall()
    return World(root, Result(result.exit_code, result.stdout, result.stderr), dict(failed), dict(found))


def bases_digest(folder: Path) -> str:
    """As the harness names a base."""
    from harness.models.bases import resolve
    from harness.suite.schema import PathBase

    sha256 = digest.of_file(folder / "model.safetensors")
    return resolve(PathBase(id="other", source="path", path=folder.name, sha256=sha256), folder.parent, folder).digest


def by_peft(world: World, adapter: str) -> list[float]:
    """Scores of plain PEFT and transformers for the test rows, one at a time."""
    base = world.root / "suites" / "base"
    torch.manual_seed(0)
    model = BertForSequenceClassification.from_pretrained(base, num_labels=2)
    with without_known_warnings():
        network = PeftModel.from_pretrained(model, world.root / "made" / adapter).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    with opened(world.root / "runs" / "harness.duckdb") as connection:
        order = connection.execute("SELECT position FROM example ORDER BY example_id").fetchall()
    texts = [row["content"] for row in rows(20, 1000)]
    with torch.inference_mode():
        logits = [network(**tokenizer(texts[place], return_tensors="pt")).logits[0] for (place,) in order]
    return [float(torch.softmax(row.double(), 0)[1]) for row in logits]


@pytest.mark.slow
def test_one_bad_adapter_does_not_stop_the_others(world: World) -> None:
    assert world.result.code == 3
    scored = {case.name for case in CASES if case.refused is None}
    assert set(world.scores) == {"trained", *scored}
    assert set(world.errors) == {case.name for case in CASES} - scored


@pytest.mark.parametrize("case", [case for case in CASES if case.refused], ids=lambda case: case.name)
def test_what_is_broken_is_refused_by_name(world: World, case: Case) -> None:
    error = world.errors[case.name]
    assert case.refused is not None
    assert case.refused in error
    assert "\n" not in error
    assert f"failed: {case.name} on test: {error}" in world.result.err


def test_an_adapter_that_names_another_base_is_scored_with_a_warning(world: World) -> None:
    warnings = [
        line for line in world.result.err.splitlines() if line.startswith("warning: ") and "as its base" in line
    ]
    warned = {line.split()[1] for line in warnings}
    assert warned == {"a-base-that-is-nowhere", "another-base-that-the-card-hides", "small-base"}


def test_no_refusal_is_a_traceback_and_no_pickle_was_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Traceback" not in world.result.err + "".join(world.errors.values())
    assert not Path("the-pickle-was-read").exists()
    monkeypatch.chdir(world.root)
    bomb(world.root)
    pickle.loads((world.root / "adapter_model.bin").read_bytes())  # noqa: S301 (our own, and it has an effect)
    assert Path("the-pickle-was-read").exists()


def test_what_is_sound_is_scored_as_plain_peft_scores_it(world: World) -> None:
    expected = by_peft(world, "lora")
    assert len(set(np.round(expected, 6))) > 10
    for case in SCORED:
        if case.made == "lora" and case.name != "float16":
            np.testing.assert_allclose(world.scores[case.name], expected, atol=1e-5)
    for name, made in (("ia3", "ia3"), ("biases-too", "biased"), ("no-task", "no-task")):
        np.testing.assert_allclose(world.scores[name], by_peft(world, made), atol=1e-5)
    assert world.scores["trained-here"] == world.scores["trained"]


def test_a_float16_file_is_scored_in_float32_with_just_its_values(world: World) -> None:
    rounded = world.root / "made" / "rounded"
    shutil.copytree(world.root / "made" / "lora", rounded)
    tensors(lambda t: {name: tensor.half().float() for name, tensor in t.items()})(rounded)
    np.testing.assert_allclose(world.scores["float16"], by_peft(world, "rounded"), atol=1e-5)
    assert world.scores["float16"] != world.scores["sound"]


def test_what_is_broken_otherwise_is_refused_in_other_words(world: World) -> None:
    told: dict[str, list[str]] = {}
    for case in REFUSED:
        told.setdefault(str(case.refused), []).append(case.name)
    assert [names for names in told.values() if len(names) > 1] == [
        ["no-head", "no-head-and-none-asked-for"],
        ["labels-turned", "labels-turned-too", "labels-in-the-config"],
        ["zero", "one-zero"],
    ]
