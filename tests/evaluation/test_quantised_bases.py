"""A base in 4 bits in a suite: another base in every key, shown as such, beside its plain twin."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from harness.artifacts import digest
from harness.errors import UsageError
from harness.evaluation.inputs import Workspace, gather
from harness.evaluation.plan import plan
from harness.models import bases, nf4
from harness.suite.load import load
from tests import language_models

pytestmark = pytest.mark.slow

TABLES = """
[[base]]
id = "llama"
source = "path"
path = "@LLAMA@"
sha256 = "@SHA256@"

[[base]]
id = "llama-nf4"
source = "path"
path = "@LLAMA@"
sha256 = "@SHA256@"
quantisation = "nf4"

[[prompt]]
id = "plain"
template = "{{ content }} :"
label_words = { negative = ["bad"], positive = ["good"] }

[[adapter]]
id = "tuned"
base = "llama-nf4"
task = "causal_lm"
prompts = ["plain"]
method = "lora"
params = { r = 4, target_modules = ["q_proj", "v_proj"] }
train = { split = "train", epochs = 1, learning_rate = 1e-2, batch_size = 16, warmup_share = 0.0, weight_decay = 0.0, \
max_grad_norm = 1.0, precision = "fp32", seeds = [1] }

[[model]]
id = "whole"
backend = "prompt"
base = "llama"
task = "causal_lm"
prompts = ["plain"]
precision = "fp32"

[[model]]
id = "packed"
backend = "prompt"
base = "llama-nf4"
task = "causal_lm"
prompts = ["plain"]
precision = "fp32"

[[model]]
id = "tuned"
backend = "prompt"
adapter = "tuned"
task = "causal_lm"
prompts = ["plain"]
precision = "fp32"

[[metric]]
name = "accuracy"
"""


@pytest.fixture
def quantised(suite_path: Path, tmp_path: Path) -> Path:
    """The made-up suite with a language model in two forms, and a LoRA on that in 4 bits."""
    llama = language_models.save(tmp_path / "llama", "llama")
    tables = TABLES.replace("@LLAMA@", str(llama)).replace("@SHA256@", digest.of_file(llama / "model.safetensors"))
    suite_path.write_text(suite_path.read_text().replace('[[metric]]\nname = "accuracy"\n', tables, 1))
    return suite_path


def test_the_two_forms_of_a_base_are_different_models_and_the_site_names_the_form(
    harness: Callable[..., Any], quantised: Path, tmp_path: Path
) -> None:
    models = [word for name in ("whole", "packed", "tuned") for word in ("--model", name)]
    result = harness("evaluate", quantised, *models, "--workers", "1")
    assert result.code == 0, result.err
    with duckdb.connect(str(tmp_path / "runs" / "harness.duckdb"), read_only=True) as store:
        listed = "SELECT model_id, list(score ORDER BY example_id) FROM run JOIN prediction USING (run_id) GROUP BY 1"
        scores = dict(store.execute(listed).fetchall())
        specs = {name: json.loads(spec) for name, spec in store.execute("SELECT model_id, spec FROM run").fetchall()}
    assert len({tuple(of) for of in scores.values()}) == 3
    assert specs["whole"]["base"] != specs["packed"]["base"] == specs["tuned"]["base"]
    assert "base_origin" not in specs["whole"]
    assert specs["packed"]["base_origin"].startswith("linear layers in 4 bits (nf4, bitsandbytes ")
    of_tuned = (tmp_path / "runs" / "adapters" / "tuned").glob("*/harness-card.json")
    cards = [json.loads(path.read_text()) for path in of_tuned]
    assert [card["base"] for card in cards] == [{"id": "llama-nf4", "digest": specs["packed"]["base"]}]
    assert harness("site", quantised, "--out", tmp_path / "site").code == 0
    pages = {path.name: path.read_text() for path in (tmp_path / "site").rglob("*.html")}
    naming = [name for name, page in pages.items() if "in 4 bits (nf4, bitsandbytes" in page]
    assert any("packed" in name for name in naming)
    assert any("tuned" in name for name in naming)
    assert not any("whole" in name for name in naming)


@pytest.mark.usefixtures("configured")
def test_the_form_is_in_the_keys_of_runs_and_trainings(quantised: Path) -> None:
    workspace = Workspace(quantised, quantised.parent / "runs" / "x.duckdb")
    keys, trainings = [], []
    for base in ("llama-nf4", "llama"):
        quantised.write_text(quantised.read_text().replace('base = "llama-nf4"\ntask', f'base = "{base}"\ntask'))
        suite = load(quantised)
        inputs = gather(suite, workspace)
        keys.append({job.run_key for job in plan(suite, inputs, workspace, model_ids=["packed"])})
        trainings.append(inputs.trainings["tuned", 1].key)
    assert keys[0]
    assert not keys[0] & keys[1]
    assert trainings[0] != trainings[1]


def test_a_view_of_a_base_says_that_it_is_quantised_and_its_digest_depends_on_it(
    quantised: Path, tmp_path: Path
) -> None:
    declared, cache = {base.id: base for base in load(quantised).base}, tmp_path / "cache"
    whole, packed = (bases.resolve(declared[name], quantised.parent, cache) for name in ("llama", "llama-nf4"))
    assert whole.folder != packed.folder
    assert whole.digest != packed.digest == nf4.identity(whole.digest)
    assert (nf4.is_asked(whole.folder), nf4.is_asked(packed.folder)) == (False, True)
    assert (whole.quantisation, packed.quantisation) == (None, "nf4")
    (packed.folder / nf4.NOTE).write_bytes(b"{}")
    assert bases.resolve(declared["llama-nf4"], quantised.parent, cache) == packed
    assert (packed.folder / nf4.NOTE).read_bytes() == nf4.CONTENT, "made anew"


def test_without_the_package_the_extra_is_named(
    harness: Callable[..., Any], quantised: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nf4, "_PACKAGE", "bitsandbytes_that_is_absent")
    result = harness("evaluate", quantised, "--model", "packed", "--workers", "1")
    assert result.code == UsageError.exit_code == 2
    assert "base llama-nf4: quantisation = 'nf4' needs the package" in result.err
    assert "python -m pip install 'adapter-harness[nf4]'" in " ".join(result.err.split())
