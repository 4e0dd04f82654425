"""Adapters of language models: trained on the label words of a prompt, and scored exactly as the prompted base is."""

import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from harness.artifacts import digest
from harness.cli import app
from harness.errors import SuiteError
from harness.evaluation.inputs import Workspace, gather
from harness.evaluation.plan import plan
from harness.models.prompt import Prompted
from harness.progress import silent
from harness.store.connection import opened
from harness.suite.load import load
from harness.training import card, objective, preflight
from harness.training.checkpoint import Pace
from harness.training.speedups.frozen_layers import FrozenPrefix
from harness.training.train import train as train_loop
from tests import language_models
from tests.worlds import rows, write_rows

pytestmark = pytest.mark.slow

SUITE = """
version = 1
name = "words"
description = "A language model and its adapter, asked in the same words"
primary_metric = "accuracy"

[text]
template = "{content}"
max_length = 48
store = true

[[split]]
id = "train"
source = "file"
path = "train.jsonl"
format = "jsonl"

[[split]]
id = "test"
source = "file"
path = "test.jsonl"
format = "jsonl"

[[base]]
id = "llama"
source = "path"
path = "base"
sha256 = "@BASE_SHA256@"

[[prompt]]
id = "plain"
template = "{{ content }} :"
label_words = { negative = ["bad"], positive = ["good"] }

[[prompt]]
id = "other"
template = "the review is {{ content }} the answer is"
label_words = { negative = ["bad"], positive = ["good"] }

[[adapter]]
id = "lora"
base = "llama"
task = "causal_lm"
prompts = ["plain"]
method = "lora"
params = { r = 4, lora_alpha = 8, target_modules = "all-linear" }

[adapter.train]
split = "train"
epochs = 12
learning_rate = 3e-2
batch_size = 16
warmup_share = 0.1
weight_decay = 0.0
max_grad_norm = 1.0
precision = "fp32"
seeds = [1, 2]

[[model]]
id = "prompted"
backend = "prompt"
base = "llama"
task = "causal_lm"
prompts = ["plain"]
precision = "fp32"

[[model]]
id = "llama+lora"
backend = "prompt"
adapter = "lora"
task = "causal_lm"
prompts = ["plain"]
precision = "fp32"

[[metric]]
name = "accuracy"

[[gate]]
model = "llama+lora"
split = "test"
metric = "accuracy"
superior_to = { model = "prompted", margin = 0.1 }
on_inconclusive = "fail"
"""
BETTER = "llama+lora on test: accuracy better than prompted by more than 0.1"


@dataclass
class World:
    """A folder with a suite and its store."""

    root: Path

    @property
    def here(self) -> Path:
        return self.root / "suites"

    @property
    def suite(self) -> Path:
        return self.here / "words.toml"

    @property
    def db(self) -> Path:
        return self.root / "runs" / "harness.duckdb"

    def command(self, verb: str, *words: object) -> Any:
        many = [verb, str(self.suite), "--db", str(self.db), *map(str, words)]
        return CliRunner().invoke(app, many, catch_exceptions=False)

    def evaluate(self, *words: object) -> Any:
        return self.command("evaluate", "--workers", 1, *words)

    def edit(self, old: str, new: str) -> None:
        text = self.suite.read_text()
        assert old in text
        self.suite.write_text(text.replace(old, new))

    def jobs(self, model_id: str) -> dict[int | None, Any]:
        """The jobs of a model by seed."""
        suite, workspace = load(self.suite), Workspace(self.suite, self.db)
        return {job.seed: job for job in plan(suite, gather(suite, workspace), workspace, model_ids=[model_id])}

    def verdicts(self) -> dict[str, Any]:
        found = json.loads(self.command("gate", "--json").stdout)
        return {verdict["gate_id"]: verdict for verdict in found}

    def adapter(self, seed: int = 1) -> Path:
        (folder,) = (self.root / "runs" / "adapters" / "lora").glob(f"seed-{seed}-*")
        return folder


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A tiny Llama, prompted, and with two trained LoRA; all scored."""
    world = World(tmp_path_factory.mktemp("words"))
    world.here.mkdir()
    language_models.save(world.here / "base", "llama")
    write_rows(world.here / "train.jsonl", rows(96, 0))
    write_rows(world.here / "test.jsonl", rows(60, 1000))
    world.suite.write_text(SUITE.replace("@BASE_SHA256@", digest.of_file(world.here / "base" / "model.safetensors")))
    result = world.evaluate()
    assert result.exit_code == 0, result.stderr
    return world


@pytest.fixture
def world(evaluated: World, tmp_path: Path) -> World:
    """A copy to break."""
    shutil.copytree(evaluated.root, tmp_path / "world", symlinks=True)
    return World(tmp_path / "world")


def test_it_is_scored_with_every_prompt_and_seed_and_beats_its_prompted_base(evaluated: World) -> None:
    with opened(evaluated.db, read_only=True) as connection:
        runs = connection.execute(
            "SELECT seed, spec->>'$.prompt.id', adapter_digest FROM run WHERE model_id = 'llama+lora' ORDER BY seed"
        ).fetchall()
    assert [(seed, prompt) for seed, prompt, _ in runs] == [(0, "plain"), (1, "plain")]
    assert runs[0][2] != runs[1][2]
    verdict = evaluated.verdicts()[BETTER]
    assert verdict["outcome"] == "pass", verdict


def predictor(job: Any) -> Any:
    """The classifier of a job, loaded as in an evaluation."""
    from harness import models

    return models.load(job.model, job.ingredients)


def texts_of(job: Any) -> list[Any]:
    return [job.suite.text.render(example.title, example.content) for example in job.split.examples]


@pytest.mark.parametrize("changes", ["plain", "shared-prefix-and-threshold"])
def test_switched_off_it_gives_the_prompted_bases_scores_to_the_bit(world: World, changes: str) -> None:
    if changes != "plain":
        shown = 'shots = { split = "train", count = 8, seeds = [7] }\n'
        shown += 'calibration = { method = "threshold", split = "train", rows = 20, seed = 1 }\n'
        world.edit('prompts = ["plain"]\nprecision', f'prompts = ["plain"]\n{shown}precision')
    base, job = world.jobs("prompted")[0], world.jobs("llama+lora")[0]
    ours, theirs, texts = predictor(job), predictor(base), texts_of(job)
    assert bool(ours.asked.prefix) == bool(theirs.asked.prefix) == (changes != "plain")
    switched_on = ours.predict(texts, lambda units, note: None).scores
    expected = theirs.predict(texts, lambda units, note: None).scores
    assert np.abs(switched_on - expected).max() > 0.05
    with ours.asked.network.disable_adapter():
        ours.asked.kept.clear()
        ours.kept_in = None  # what was kept is of the network with its adapter
        if changes != "plain":  # the threshold is fitted on loading
            ours = Prompted(ours.asked, ours.frame, job.model.calibration, job.ingredients.asked.rows)
        assert np.array_equal(ours.predict(texts, lambda units, note: None).scores, expected)


def test_its_card_states_prompts_texts_and_base_and_its_key_covers_them(evaluated: World) -> None:
    record = card.read(evaluated.adapter())
    assert [one["id"] for one in record.card["prompts"]] == ["plain"]
    assert record.card["prompts"][0]["label_words"] == {"negative": ["bad"], "positive": ["good"]}
    assert len(card.trained_on(evaluated.adapter(), record) or ()) == 96
    config = json.loads((evaluated.adapter() / "adapter_config.json").read_text())
    assert config["task_type"] == "CAUSAL_LM"
    assert config["modules_to_save"] is None


def test_the_loss_is_that_of_plain_transformers_on_the_label_words_alone(world: World) -> None:
    words = 'label_words = { negative = ["is bad"], positive = ["is is good", "good"] }'
    short = 'label_words = { negative = ["bad"], positive = ["good"] }'
    world.edit(
        f'template = "the review is {{{{ content }}}} the answer is"\n{short}',
        f'template = "the review is {{{{ content }}}} the answer"\n{words}',
    )
    world.edit('prompts = ["plain"]\nmethod', 'prompts = ["plain", "other"]\nmethod')
    suite, workspace = load(world.suite), Workspace(world.suite, world.db)
    job = gather(suite, workspace).trainings["lora", 1]
    how: Any = objective.of(job)
    network: Any = how.base("eager")
    encoded = how.encoded(network)
    indices = [3, 10, 17, 24, 40, 41]
    labels = torch.tensor([job.split.examples[i].label for i in indices])
    loss, predicted = how.loss(network, FrozenPrefix(encoded, 0, 0.0), indices, labels)
    assert not how.one_pass
    assert {how.asked[i] for i in indices} == {0, 1}
    expected, said = [], []
    for index, label in zip(indices, labels.tolist(), strict=True):
        frame = how.frames[how.asked[index]]
        ids, _ = frame.ids("", job.split.examples[index].content)
        classes = []
        for some in (frame.prompt.label_words.negative, frame.prompt.label_words.positive):
            whole = 0.0
            for word in some:
                answer = frame.answers[frame.prompt.label_words.both.index(word)]
                with torch.no_grad():
                    logs = torch.log_softmax(network(torch.tensor([[*ids, *answer]])).logits[0].double(), -1)
                whole += math.exp(sum(float(logs[len(ids) - 1 + i, token]) for i, token in enumerate(answer)))
            classes.append(math.log(whole))
        expected.append(-classes[label])
        said.append(int(classes[1] > classes[0]))
    assert float(loss.detach()) == pytest.approx(np.mean(expected), abs=1e-4)
    assert predicted.tolist() == said
    loss.backward()
    assert network.get_input_embeddings().weight.grad.abs().sum() > 0


def test_a_killed_training_ends_with_the_same_bytes(world: World, tmp_path: Path) -> None:
    suite, workspace = load(world.suite), Workspace(world.suite, world.db)
    job = gather(suite, workspace).trainings["lora", 1]
    short = job.adapter.train.model_copy(update={"epochs": 2})
    job = replace(job, adapter=job.adapter.model_copy(update={"train": short}))
    undisturbed = train_loop(replace(job, folder=tmp_path / "whole"), silent)

    class Killed(BaseException):
        """Ends a training at a step."""

    @contextmanager
    def deadly(label: str, total: int) -> Iterator[Callable[[int, str], None]]:
        steps = iter(range(8))

        def advance(units: int, note: str) -> None:
            if units and next(steps, None) is None:
                raise Killed

        yield advance

    again = replace(job, folder=tmp_path / "again")
    with pytest.raises(Killed):
        train_loop(again, deadly, Pace(seconds=0.0, share=1.0))
    resumed = train_loop(again, silent)
    assert card.read(resumed).card["resumed"] == 1
    assert card.adapter_digest(resumed) == card.adapter_digest(undisturbed)


def test_bf16_is_used_only_after_parity_with_the_reference_for_each_prompt(world: World) -> None:
    head, _, tail = world.suite.read_text().partition('adapter = "lora"')
    world.suite.write_text(head + 'adapter = "lora"' + tail.replace('precision = "fp32"', 'precision = "bf16"', 1))
    result = world.evaluate("--model", "llama+lora")
    assert result.exit_code in (0, 3), result.stderr
    with opened(world.db, read_only=True) as connection:
        found = connection.execute("SELECT form, n, problem, spec->>'$.prompt' FROM parity").fetchall()
    assert [(form, n, problem) for form, n, problem, _ in found] == [("torch bf16", 60, None)] * 2
    assert all(prompt for *_, prompt in found)


def test_every_variant_of_it_can_be_compared_and_openvino_is_left_out(world: World) -> None:
    result = world.command("parity", "--model", "llama+lora", "--json")
    assert result.exit_code in (0, 1), result.stderr
    found = json.loads(result.stdout)
    rows_of = found if isinstance(found, list) else found["parity"]
    forms = {row["form"]: row for row in rows_of}
    assert set(forms) == {"reloaded", "torch fp32 merged", "torch bf16"}
    assert forms["reloaded"]["passed"]
    assert forms["torch fp32 merged"]["passed"]


def test_how_far_it_moved_its_base_is_measured_with_its_loss_on_texts(evaluated: World) -> None:
    with opened(evaluated.db, read_only=True) as connection:
        found = connection.execute("SELECT name, n, value FROM forgetting ORDER BY name").fetchall()
    assert [name for name, *_ in found] == ["lm_loss"] * 2 + ["lm_loss_of_base"] * 2 + ["similarity"] * 2
    values = {name: value for name, _, value in found}
    assert values["lm_loss"] != values["lm_loss_of_base"]
    assert -1 <= values["similarity"] < 0.999


def test_its_page_shows_prompt_and_seed_how_to_load_it_and_that_it_was_loaded(evaluated: World) -> None:
    result = evaluated.command("site", "--out", evaluated.root / "site")
    assert result.exit_code == 0, result.stderr
    page = next((evaluated.root / "site").rglob("*llama+lora*.html")).read_text()
    assert "plain, trained with seed 2" in page
    assert "AutoModelForCausalLM.from_pretrained(&#34;BASE&#34;)" in page
    assert "adapter loaded" in page
    assert "task = &#34;causal_lm&#34;" in page
    index = (evaluated.root / "site" / "index.html").read_text()
    assert "prompted" in index


REFUSED = {
    "another-template": (
        'prompts = ["plain"]\nprecision',
        'prompts = ["other"]\nprecision',
        "adapter 'lora' was not trained on prompt 'other'",
    ),
    "an-unknown-field": ("{{ content }} :", "{{ content }} {{ stars }} :", "the field 'stars'"),
    "swapped-words": (
        'negative = ["bad"], positive = ["good"] }\n\n[[prompt]]',
        'negative = ["positive"], positive = ["negative"] }\n\n[[prompt]]',
        "'positive' plainly states the other class",
    ),
    "equal-words": (
        'negative = ["bad"], positive = ["good"] }\n\n[[prompt]]',
        'negative = ["good"], positive = ["good"] }\n\n[[prompt]]',
        "has the word 'good' twice",
    ),
    "no-review": ("{{ content }} :", "{{ title }} :", "must contain {{ content }}"),
    "shots-of-the-test-split": (
        'prompts = ["plain"]\nprecision',
        'prompts = ["plain"]\nshots = { split = "test", count = 2, seeds = [1] }\nprecision',
        "'test' is used for training",
    ),
    "trained-on-the-test-split": ('split = "train"\nepochs', 'split = "test"\nepochs', "'test' is used for training"),
    "a-head-beside-it": (
        'backend = "prompt"\nadapter = "lora"\ntask = "causal_lm"\nprompts = ["plain"]\n',
        'backend = "peft"\nadapter = "lora"\n',
        "adapter 'lora' is a language model's; use backend 'prompt'",
    ),
    "a-classifier's-adapter": (
        'task = "causal_lm"\nprompts = ["plain"]\nmethod',
        "method",
        "adapter 'lora' is a classifier's; use backend 'peft'",
    ),
    "a-task-without-prompts": ('prompts = ["plain"]\nmethod', "method", "task and prompts go together"),
    "all-weights": ('method = "lora"', 'method = "full"', "method 'full' trains a classifier"),
    "base-and-adapter": (
        'adapter = "lora"\ntask',
        'adapter = "lora"\nbase = "llama"\ntask',
        "give base for the language",
    ),
    "an-undeclared-prompt": ('prompts = ["plain"]\nmethod', 'prompts = ["plan"]\nmethod', "there is no prompt 'plan'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_declaration_that_cannot_be_fair_is_refused_by_validate(world: World, case: str) -> None:
    before, after, expected = REFUSED[case]
    if case == "a-task-without-prompts":
        world.edit(before, after)
    else:
        text = world.suite.read_text()
        assert before in text
        world.suite.write_text(text.replace(before, after))
    with pytest.raises(SuiteError, match=re.escape(expected)):
        load(world.suite)


MAJORITY = '[[model]]\nid = "majority"\nbackend = "majority"\ntrain_split = "train"\n\n'


def elsewhere(world: World, folder: Path) -> None:
    """Declare the adapter in a folder as one from elsewhere, in place of the trained one."""
    text = world.suite.read_text()
    begin, end = text.index("[[adapter]]"), text.index('[[model]]\nid = "prompted"')
    theirs = world.here / "theirs"
    shutil.copytree(folder, theirs)
    declared = (
        f'[[adapter]]\nid = "lora"\nbase = "llama"\ntask = "causal_lm"\nsource = "path"\npath = "theirs"\n'
        f'sha256 = "{digest.of_file(theirs / "adapter_model.safetensors")}"\n\n{MAJORITY}'
    )
    world.suite.write_text(text[:begin] + declared + text[end:])


def reason(world: World) -> str:
    """Why the adapter's model was not scored."""
    result = world.evaluate("--model", "llama+lora")
    assert result.exit_code == 3, result.stdout
    return " ".join(result.stderr.split()) + " ".join(str(job.blocked) for job in world.jobs("llama+lora").values())


def test_from_elsewhere_with_a_card_it_scores_as_before_and_its_texts_are_known(world: World) -> None:
    before = world.verdicts()[BETTER]
    elsewhere(world, world.adapter())
    result = world.evaluate()
    assert result.exit_code == 0, result.stderr
    assert "is unknown" not in result.stderr
    assert [*world.jobs("llama+lora")] == [0]
    assert world.verdicts()[BETTER]["outcome"] == before["outcome"] == "pass"


def test_from_elsewhere_without_a_card_what_it_saw_is_unknown(world: World) -> None:
    folder = world.adapter()
    for name in ("harness-card.json", "trained-on.txt"):
        (folder / name).unlink()
    elsewhere(world, folder)
    result = world.evaluate("--model", "llama+lora")
    assert result.exit_code == 0, result.stderr
    assert "what adapter 'lora' was trained on is unknown" in result.stderr


@pytest.mark.parametrize("change", ["another-template", "swapped-words", "an-instruction"])
def test_from_elsewhere_it_is_refused_if_it_is_asked_otherwise_than_its_card_says(world: World, change: str) -> None:
    elsewhere(world, world.adapter())
    head, middle, tail = world.suite.read_text().partition('id = "plain"\n')
    own = {
        "another-template": lambda text: text.replace("{{ content }} :", "{{ content }} ;", 1),
        "swapped-words": lambda text: text.replace('["bad"], positive = ["good"]', '["good"], positive = ["bad"]', 1),
        "an-instruction": lambda text: 'instruction = "the"\n' + text,
    }[change](tail)
    world.suite.write_text(head + middle + own)
    named = {"another-template": "template", "swapped-words": "label_words", "an-instruction": "instruction"}[change]
    assert f"was trained on other prompts than 'plain', according to its card: they differ in {named};" in reason(world)


def test_an_adapter_of_another_base_is_refused_by_its_card(world: World) -> None:
    elsewhere(world, world.adapter())
    shutil.rmtree(world.here / "base")
    language_models.save(world.here / "base", "llama", seed=6)
    text = world.suite.read_text()
    pin = digest.of_file(world.here / "base" / "model.safetensors")
    world.suite.write_text(re.sub(r'(path = "base"\nsha256 = )"\w+"', rf'\1"{pin}"', text))
    assert "records training on another base" in reason(world)


def test_a_classifiers_adapter_asked_in_words_is_refused_by_its_task(world: World) -> None:
    folder = world.adapter()
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"task_type": "SEQ_CLS"}))
    for name in ("harness-card.json", "trained-on.txt"):
        (folder / name).unlink()
    elsewhere(world, folder)
    assert "task_type is 'SEQ_CLS'; it is a classifier's: declare it without task" in reason(world)


@pytest.mark.parametrize("sabotage", ["untrained", "idle", "renamed", "other-method", "nan"])
def test_weights_that_are_not_a_trained_adapter_are_refused_before_scoring(world: World, sabotage: str) -> None:
    folder = world.adapter()
    for name in ("harness-card.json", "trained-on.txt"):
        (folder / name).unlink()
    tensors = load_file(folder / "adapter_model.safetensors")
    expected = {
        "untrained": "has no effect on its base, or was never trained",
        "idle": "switching the adapter off changes nothing in what the language model answers",
        "renamed": "does not hold the tensors that adapter_config.json makes on the base",
        "other-method": "belong to different methods or bases",
        "nan": "has values that are not finite numbers",
    }[sabotage]
    for name, tensor in list(tensors.items()):
        if sabotage == "untrained" and "lora_B" in name:
            tensors[name] = torch.zeros_like(tensor)
        elif sabotage == "idle" and "lora_B" in name:
            tensors[name] = torch.full_like(tensor, 1e-30)
        elif sabotage == "nan":
            tensors[name] = torch.full_like(tensor, torch.nan)
        elif sabotage == "other-method":
            tensors[name.replace("lora_A", "ia3_l").replace("lora_B", "ia3_m")] = tensors.pop(name)
    if sabotage == "renamed":
        first = next(iter(tensors))
        tensors[first.replace("layers.0", "layers.9")] = tensors.pop(first)
    save_file(tensors, folder / "adapter_model.safetensors")
    elsewhere(world, folder)
    assert expected in reason(world)


def test_weights_swapped_after_training_are_refused_by_their_card(world: World) -> None:
    one, other = world.adapter(1), world.adapter(2)
    shutil.copy(one / "adapter_model.safetensors", other / "adapter_model.safetensors")
    blocked = {seed: job.blocked for seed, job in world.jobs("llama+lora").items()}
    assert blocked[0] is None
    assert "the weights are not the ones its card describes" in str(blocked[1])
    assert world.verdicts()[BETTER]["outcome"] == "fail"


def test_rows_that_it_saw_are_not_scored(world: World) -> None:
    elsewhere(world, world.adapter())
    seen = (world.here / "train.jsonl").read_text().splitlines()[:3]
    with (world.here / "test.jsonl").open("a") as file:
        file.write("\n".join(seen) + "\n")
    write_rows(world.here / "train.jsonl", rows(96, 5000))
    assert "3 of the 63 rows of split 'test'" in reason(world)


def test_an_encoder_trained_as_a_language_model_fails_with_its_reason(world: World, tiny_base: Path) -> None:
    shutil.rmtree(world.here / "base")
    shutil.copytree(tiny_base, world.here / "base")
    text = world.suite.read_text()
    pin = digest.of_file(world.here / "base" / "model.safetensors")
    world.suite.write_text(re.sub(r'(path = "base"\nsha256 = )"\w+"', rf'\1"{pin}"', text))
    assert "'bert' is an encoder, which sees the whole text and cannot continue it" in reason(world)


FIT = {
    "ia3": {"target_modules": ["k_proj", "v_proj", "down_proj"], "feedforward_modules": ["down_proj"]},
    "prompt_tuning": {"num_virtual_tokens": 4},
    "prefix_tuning": {"num_virtual_tokens": 4},
    "p_tuning": {"num_virtual_tokens": 4, "encoder_hidden_size": 16},
    "oft": {"oft_block_size": 8, "target_modules": ["q_proj", "v_proj"]},
    "vera": {"target_modules": ["q_proj"], "r": 4},
    "lora": {"r": 4, "target_modules": ["q_proj"], "layers_to_transform": [1], "init_lora_weights": "pissa"},
    "adaption_prompt": {"adapter_len": 4, "adapter_layers": 1},
    "ln_tuning": {"target_modules": ["input_layernorm", "post_attention_layernorm"]},
}


@pytest.mark.parametrize("method", FIT)
def test_methods_for_causal_language_models_train_reload_and_answer_alone_as_in_a_batch(
    world: World, method: str, tmp_path: Path
) -> None:
    suite, workspace = load(world.suite), Workspace(world.suite, world.db)
    job = gather(suite, workspace).trainings["lora", 1]
    how = job.adapter.train.model_copy(update={"epochs": 1, "learning_rate": 2e-2})
    # As a null, which may answer the same for every row after so short a training.
    changed = {"method": method, "params": FIT[method], "train": how, "labels": "permuted"}
    adapter = job.adapter.model_copy(update=changed)
    job = replace(job, adapter=adapter, folder=tmp_path / "made", key=method)
    assert preflight.misfit(job) is None
    folder = train_loop(job, silent)
    scored = world.jobs("llama+lora")[0]
    inputs = replace(scored.ingredients, adapter_dir=folder)
    from harness.models.prompt import prompt

    model: Any = prompt(scored.model, inputs)
    texts = texts_of(scored)[:12]
    together = model.predict(texts, lambda units, note: None).scores
    alone = [float(model.predict([text], lambda units, note: None).scores[0]) for text in texts]
    assert np.abs(together - alone).max() <= 1e-5


def test_a_method_that_trains_nothing_of_a_language_model_is_refused_in_preflight(world: World) -> None:
    suite, workspace = load(world.suite), Workspace(world.suite, world.db)
    job = gather(suite, workspace).trainings["lora", 1]
    adapter = job.adapter.model_copy(update={"params": {"target_modules": ["query"]}})
    assert "lora does not fit base 'llama'" in str(preflight.misfit(replace(job, adapter=adapter)))
