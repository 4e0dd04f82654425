"""Forms of trained models through the production path: real conversions of a tiny BERT, real quantisation."""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from typer.testing import CliRunner

from harness import models, provenance
from harness.artifacts import digest
from harness.cli import app
from harness.errors import RunError
from harness.evaluation import parity, weights
from harness.evaluation.inputs import Workspace, gather
from harness.evaluation.plan import checks, plan
from harness.evaluation.scoring import Job
from harness.models import variants
from harness.store.connection import opened
from harness.suite.load import load
from tests.fixtures import finished_beside

pytestmark = pytest.mark.slow

pytest.importorskip("openvino", reason="the extra [openvino] is not installed")
pytest.importorskip("nncf", reason="the extra [openvino] is not installed")

RESOURCES = Path(__file__).parents[1] / "resources"
TEXTS = [
    "the phone is great",
    "it is broken",
    "the manual is awful and the cable is bad and noisy",
    "fine",
    "the " * 60,
]
LORA = 'backend = "peft"\nadapter = "lora"\nprecision = "fp32"\n'


def skip_note(units: int, note: str) -> None:
    """Progress without a display."""


@dataclass
class World:
    """A suite whose adapters are trained, and its command line."""

    suite_path: Path
    db: Path

    def command(self, *words: object) -> Any:
        return CliRunner().invoke(app, [*map(str, words), "--db", str(self.db)], catch_exceptions=False)

    def declare(self, precision: str, runtime: str) -> None:
        """The model with the LoRA in another form, and no other models beside it but one that needs no torch."""
        text = self.suite_path.read_text()
        form = f'backend = "peft"\nadapter = "lora"\nprecision = "{precision}"\nruntime = "{runtime}"\n'
        self.suite_path.write_text(re.sub(r'backend = "peft"\n.*\n.*\n(runtime.*\n)?', form, text))

    def jobs(self) -> dict[tuple[str, int | None], Job]:
        suite, workspace = load(self.suite_path), Workspace(self.suite_path, self.db)
        return {(job.model.id, job.seed): job for job in plan(suite, gather(suite, workspace), workspace)}

    def sql(self, query: str, *values: object) -> list[Any]:
        with duckdb.connect(str(self.db)) as connection:
            return connection.execute(query, list(values)).fetchall()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, index: Any, tiny_base: Path) -> Iterator[World]:
    """Trained once for this module; each test declares the form that it needs."""
    root = tmp_path_factory.mktemp("forms")
    path = root / "suites" / "made-up.toml"
    path.parent.mkdir()
    text = (RESOURCES / "made_up_suite.toml").read_text()
    base_sha256 = digest.of_file(tiny_base / "model.safetensors")
    finished_sha256 = digest.of_file(finished_beside(tiny_base) / "model.safetensors")
    pins = {"SHA256": index.sha256, "BASE_SHA256": base_sha256, "FINISHED_SHA256": finished_sha256}
    for name, value in {"BASE": str(tiny_base), **pins}.items():
        text = text.replace(f"@{name}@", value)
    path.write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_INDEX_URL", index.url)
        patch.setenv("PIP_EXTRA_INDEX_URL", "")
        made = World(path, root / "runs" / "harness.duckdb")
        result = made.command("train", path, "--workers", 1)
        assert result.exit_code == 0, result.output
        yield made


def scores_of(world: World, precision: str, runtime: str) -> Any:
    world.declare("fp32", "torch")
    job = world.jobs()["tiny+lora", 1]
    model = parity.as_variant(job.model, f"{runtime} {precision}")
    suite, workspace = job.suite, Workspace(world.suite_path, world.db)
    inputs = gather(suite, workspace)
    recipe = weights.recipes(suite, job.model, inputs, weights.find(suite, [job.model], inputs, workspace))[1]
    made_from = parity.in_runtime(recipe, model, suite, workspace.cache)
    return models.load(model, made_from).predict(TEXTS, skip_note), made_from


def world_train(world: World) -> Any:
    suite, workspace = load(world.suite_path), Workspace(world.suite_path, world.db)
    return gather(suite, workspace).splits["train"]


HAS_BF16 = provenance.has_fast_bf16()
SMALLER = "bf16" if HAS_BF16 else "fp32"
"""The smallest float that OpenVINO computes in on this processor."""


@pytest.mark.parametrize(
    ("runtime", "precision", "largest"),
    [("torch", "bf16", 0.1), ("openvino", "fp32", 1e-5), ("openvino", SMALLER, 0.1), ("openvino", "int8", 0.2)],
)
def test_every_form_answers_nearly_as_torch_in_fp32_does(
    world: World, runtime: str, precision: str, largest: float
) -> None:
    reference, _ = scores_of(world, "fp32", "torch")
    form, _ = scores_of(world, precision, runtime)
    moves = np.abs(form.scores - reference.scores)
    assert moves.max() <= largest
    # All these texts are nearly undecided, so int8 asks the network from before quantisation, in the smaller float.
    is_rounded = SMALLER == "bf16" if precision == "int8" else precision != "fp32"
    assert (moves.max() > 1e-5) == is_rounded
    assert (form.tokens, form.truncated) == (reference.tokens, reference.truncated)


def test_bf16_in_openvino_is_refused_where_the_processor_has_none(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO accepts a request for bf16 and computes fp32 there: a run would be labelled wrongly."""
    monkeypatch.setattr(provenance, "has_fast_bf16", lambda: False)
    with pytest.raises(RunError, match="would compute fp32 here; use precision = 'fp32' or 'auto'"):
        scores_of(world, "bf16", "openvino")


def test_a_merged_network_answers_the_same_and_the_original_keeps_its_adapter(world: World) -> None:
    import torch

    from harness.models.peft import network

    world.declare("fp32", "torch")
    original = network(world.jobs()["tiny+lora", 1].ingredients)
    ids = torch.randint(5, 60, (3, 12), generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.inference_mode():
        before = original(**batch).logits
        whole = variants.merged(original)
        assert not any("lora" in name for name, _ in whole.named_parameters())
        assert any("lora" in name for name, _ in original.named_parameters())
        torch.testing.assert_close(whole(**batch).logits, before, atol=1e-5, rtol=0)
        assert torch.equal(original(**batch).logits, before)


def test_a_network_that_half_merged_before_it_refused_is_not_used(world: World) -> None:
    import torch

    _, ingredients = scores_of(world, "fp32", "torch")

    class Stubborn(torch.nn.Linear):
        """A made-up network whose merging fails when some of it is done."""

        def __init__(self) -> None:
            super().__init__(2, 2)
            torch.nn.init.ones_(self.weight)
            self.peft_config: dict[str, Any] = {}
            self.__dict__["base_model"] = self

        def merge_and_unload(self, *, safe_merge: bool) -> None:
            assert safe_merge
            torch.nn.init.zeros_(self.weight)
            raise ValueError("not mergeable")

    made: Any = variants.made("torch", "bf16", Stubborn, ingredients)
    assert made.weight.dtype == torch.bfloat16
    assert made.weight.eq(1).all()


def test_a_converted_model_is_kept_and_made_anew_only_where_it_is_damaged(world: World) -> None:
    from harness.models.openvino import compiled

    _, made_from = scores_of(world, "fp32", "openvino")
    folder = made_from.converted_dir
    assert folder is not None

    def never() -> Any:
        raise RunError("it was loaded again")

    compiled("fp32", never, made_from)
    compiled(SMALLER, never, made_from)
    with (folder / "model.bin").open("r+b") as file:
        file.seek(100)
        file.write(b"damage")
    with pytest.raises(RunError, match="it was loaded again"):
        compiled("fp32", never, made_from)
    reference, _ = scores_of(world, "fp32", "torch")
    again, _ = scores_of(world, "fp32", "openvino")
    np.testing.assert_allclose(again.scores, reference.scores, atol=1e-5)
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".")] == []


def test_int8_is_calibrated_on_training_rows_alone_and_gives_the_same_bytes_each_time(world: World) -> None:
    _, made_from = scores_of(world, "int8", "openvino")
    train = {example.content for example in world_train(world).examples}
    assert len(made_from.train_texts) == len(world_train(world).examples)
    assert set(made_from.train_texts) <= train
    first = digest.of_file(made_from.converted_dir / "model.bin")
    job = world.jobs()["tiny+lora", 1]
    elsewhere = replace(made_from, converted_dir=made_from.converted_dir.with_name("again"))
    models.load(parity.as_variant(job.model, "openvino int8"), elsewhere)
    assert digest.of_file(elsewhere.converted_dir / "model.bin") == first


def test_int8_asks_again_without_quantisation_where_it_is_nearly_undecided(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np
    import torch

    from harness.models.encoding import encode, forward_all
    from harness.models.openvino import BATCHING, MODEL, UNQUANTISED, Compiled
    from harness.models.padding import Batching
    from harness.models.transformer import SequenceClassifier

    _, made_from = scores_of(world, "int8", "openvino")
    folder, base = made_from.converted_dir, made_from.base_dir
    words = ["good", "bad", "fine", "broken", "works", "well", "never", "again", "the", "it", "a", "very"]
    draws = np.random.default_rng(0)
    texts = [" ".join(draws.choice(words, size=draws.integers(1, 12))) for _ in range(200)]
    batching = Batching(**json.loads((folder / BATCHING).read_text()))
    alone, before = (Compiled(folder / name, "int8", batching) for name in (MODEL, UNQUANTISED))
    encoded = encode(base, texts, 16).for_network(alone)

    def told(model: Compiled, chosen: list[int] | None = None) -> torch.Tensor:
        return forward_all(encoded, lambda batch: model(**batch).logits, lambda units, note: None, chosen)

    expected = told(alone)
    lead = (expected[:, 1] - expected[:, 0]).abs()
    limit = float(lead.median())  # how sure a model becomes that is trained this briefly depends on the processor
    monkeypatch.setattr(Compiled, "near", limit)
    near = torch.nonzero(lead < limit).flatten().tolist()
    assert 0 < len(near) < 200
    quantised = torch.softmax(expected, dim=1)[:, 1].numpy()
    expected[near] = told(before, near)
    cascade = SequenceClassifier(Compiled(folder / MODEL, "int8", batching, before), base, 16)
    scores = cascade.predict(texts, lambda units, note: None).scores
    assert (scores == torch.softmax(expected, dim=1)[:, 1].numpy()).all()
    assert (scores != quantised).sum() > len(near) / 2


def test_a_form_is_held_to_its_reference_once_and_its_runs_say_what_they_are(world: World) -> None:
    world.declare("fp32", "openvino")
    words = ["evaluate", world.suite_path, "--model", "tiny+lora", "--workers", 1]
    result = world.command(*words)
    assert result.exit_code == 0, result.output
    query = "SELECT seed, form, n, flips, passed, problem FROM parity WHERE form = ?"
    rows = world.sql(query, "openvino fp32")
    assert {row[0] for row in rows} == {1, 2}
    assert all(n > 20 and flips is not None and passed and problem is None for _, _, n, flips, passed, problem in rows)
    stored = world.sql("SELECT spec FROM run WHERE model_id = 'tiny+lora' AND status = 'success'")
    specs = [json.loads(spec) for (spec,) in stored]
    assert {(spec["model"]["precision"], spec["model"]["runtime"]) for spec in specs} == {("fp32", "openvino")}
    assert all({"openvino", "nncf", "torch"} <= set(spec["packages"]) for spec in specs)
    ((run_id,),) = world.sql("SELECT run_id FROM run WHERE seed = 1 AND status = 'success' AND model_id = 'tiny+lora'")
    shown = json.loads(world.command("show", run_id, "--json").stdout)
    assert [one["form"] for one in shown["parity"]] == ["openvino fp32"]
    assert "openvino fp32" in world.command("show", run_id).stdout
    before = world.sql("SELECT max(checked_at) FROM parity")
    assert "scored 0, already stored 2" in world.command(*words).stderr
    assert world.sql("SELECT max(checked_at) FROM parity") == before


def test_a_form_beyond_its_tolerance_is_not_scored_and_says_its_numbers(world: World) -> None:
    world.declare("fp32", "openvino")
    words = ["evaluate", world.suite_path, "--model", "tiny+lora", "--workers", 1]
    assert world.command(*words).exit_code == 0
    world.sql("UPDATE parity SET passed = false, flips = 99 WHERE form = ? AND seed = 2", "openvino fp32")
    result = world.command(*words)
    assert result.exit_code == 3
    assert "openvino fp32 of seed 2 gives 99 of " in result.stderr
    world.sql("DELETE FROM parity WHERE form = ?", "openvino fp32")


def test_auto_comes_to_the_fastest_form_that_passes_and_the_run_has_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "has_fast_int8", lambda: True)  # for speed alone: every processor computes it

    def came_to() -> set[str]:
        return {getattr(job.model, "precision", "") for job in world.jobs().values() if job.model.id == "tiny+lora"}

    world.declare("auto", "openvino")
    words = ["evaluate", world.suite_path, "--model", "tiny+lora", "--workers", 1]
    result = world.command(*words)
    assert result.exit_code == 0, result.output
    assert f"tiny+lora: precision = 'auto' is openvino {came_to().pop()}" in result.stderr
    world.sql("UPDATE parity SET passed = true, flips = 0, largest_move = 0.1")
    assert came_to() == {"int8"}
    assert world.command(*words).exit_code == 0
    specs = world.sql("SELECT spec FROM run WHERE model_id = 'tiny+lora' AND status = 'success' ORDER BY finished_at")
    assert json.loads(specs[-1][0])["model"]["precision"] == "int8"
    world.sql("UPDATE parity SET passed = false WHERE form = 'openvino int8' AND seed = 2")
    assert came_to() == {SMALLER}
    assert world.command(*words, "--fresh").exit_code == 0  # it may be what was the fastest at first, and stored
    specs = world.sql("SELECT spec FROM run WHERE model_id = 'tiny+lora' AND status = 'success' ORDER BY finished_at")
    assert json.loads(specs[-1][0])["model"]["precision"] == SMALLER
    world.sql("DELETE FROM parity")


def test_what_auto_comes_to_is_not_known_before_an_evaluation(world: World) -> None:
    world.declare("auto", "openvino")
    empty = World(world.suite_path, world.db.parent / "other.duckdb")
    (job, *_) = [job for job in empty.jobs().values() if job.model.id == "tiny+lora"]
    assert job.blocked is not None
    assert "not resolved for this processor yet; evaluate the suite first" in job.blocked


def test_a_suite_with_a_runtime_that_is_absent_is_refused_before_anything_is_trained(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    world.declare("fp32", "openvino")
    empty = World(world.suite_path, tmp_path / "runs" / "x.duckdb")
    result = empty.command("evaluate", world.suite_path)
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "model 'tiny+lora' has runtime = 'openvino', which is not installed: "
        "`python -m pip install 'adapter-harness[openvino]'`"
    ]
    assert not (tmp_path / "runs").exists()


def test_the_verb_holds_every_form_of_every_trained_model(world: World) -> None:
    world.declare("fp32", "torch")
    result = world.command("parity", world.suite_path, "--json", "--workers", 1)
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert {row["form"] for row in rows} == set(parity.TOLERANCES)
    assert {(row["adapter_id"], row["seed"]) for row in rows} == {("lora", 1), ("lora", 2), ("full", 1)}
    assert all(row["n"] == row["compared"] for row in rows if row["problem"] is None), "of few texts, all"
    exact = [row for row in rows if row["form"] in ("reloaded", "torch fp32 merged", "openvino fp32")]
    assert all(row["passed"] and row["flips"] == 0 and row["p_value"] == 1 for row in exact)
    not_to_be_had = {row["form"] for row in rows if row["problem"] is not None}
    assert not_to_be_had == (set() if HAS_BF16 else {"openvino bf16"})
    had = [row for row in rows if row["problem"] is None]
    assert all(row["turned_positive"] + row["turned_negative"] == row["flips"] for row in had)
    table = world.command("parity", world.suite_path, "--model", "tiny-full", "--workers", 1).stdout
    assert "variants beside torch fp32" in table
    assert re.search(r"torch fp32 merged +\d+ +0 +\[0\.000, 0\.\d+\] +0 % +0 / 0 +1\.000 ", table)
    assert "lora" not in table


def test_a_form_that_cannot_be_made_is_told_and_asked_again_the_next_time(world: World) -> None:
    world.declare("fp32", "openvino")
    suite, workspace = load(world.suite_path), Workspace(world.suite_path, world.db)
    (check, *_) = checks(suite, gather(suite, workspace), workspace, model_ids=["tiny+lora"])
    key = check.keys["openvino fp32"]
    world.command("evaluate", world.suite_path, "--model", "tiny+lora", "--workers", 1)
    with opened(world.db) as connection:
        connection.execute("UPDATE parity SET problem = 'out of memory', passed = false WHERE parity_key = ?", [key])
    assert world.command("evaluate", world.suite_path, "--model", "tiny+lora", "--workers", 1).exit_code == 0
    assert world.sql(f"SELECT problem, passed FROM parity WHERE parity_key = '{key}'") == [(None, True)]  # noqa: S608
