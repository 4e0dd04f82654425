"""Prompted models in a suite: evaluated, judged, shown; every part of a prompt is in the key of its runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from harness.artifacts import digest
from harness.errors import DataError, SuiteError
from harness.evaluation.inputs import Workspace, gather
from harness.evaluation.plan import plan
from harness.suite.load import load
from tests import language_models

TABLES = """
[[base]]
id = "llama"
source = "path"
path = "@LLAMA@"
sha256 = "@LLAMA_SHA256@"

[[prompt]]
id = "plain"
template = "{{ content }} :"
label_words = { negative = ["bad"], positive = ["good"] }

[[prompt]]
id = "asked"
template = "the review is {{ content }} the answer is"
label_words = { negative = ["bad", "is bad"], positive = ["good"] }
instruction = "it works"

[[model]]
id = "asked"
backend = "prompt"
base = "llama"
task = "causal_lm"
prompts = ["plain", "asked"]
shots = { split = "train", count = 2, seeds = [7, 8] }
calibration = { method = "threshold", split = "train", rows = 20, seed = 1 }
precision = "fp32"

[[metric]]
name = "accuracy"
"""
GATE = """
[[gate]]
model = "asked"
split = "test"
metric = "accuracy"
min = 0.99
on_inconclusive = "fail"
"""


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama."""
    return language_models.save(tmp_path_factory.mktemp("llama") / "base", "llama")


@pytest.fixture
def asking(suite_path: Path, llama: Path) -> Path:
    """The made-up suite with a prompted model."""
    tables = TABLES.replace("@LLAMA@", str(llama))
    tables = tables.replace("@LLAMA_SHA256@", digest.of_file(llama / "model.safetensors"))
    text = suite_path.read_text()
    suite_path.write_text(text.replace('[[metric]]\nname = "accuracy"\n', tables, 1) + GATE)
    return suite_path


def planned(path: Path, model_id: str = "asked") -> dict[int | None, Any]:
    """The jobs of a model by seed."""
    suite, workspace = load(path), Workspace(path, path.parent / "runs" / "x.duckdb")
    found = plan(suite, gather(suite, workspace), workspace, model_ids=[model_id])
    return {job.seed: job for job in found}


def test_the_words_of_a_prompted_model_are_explained_for_its_first_prompt(
    harness: Callable[..., Any], asking: Path, tmp_path: Path
) -> None:
    result = harness("evaluate", asking, "--workers", "1", "--explain", "--model", "asked")
    assert result.code == 0, result.err
    first = planned(asking)[0].run_key
    with duckdb.connect(str(tmp_path / "runs" / "harness.duckdb"), read_only=True) as store:
        rows = store.execute("SELECT run_key, score, pieces, example_id FROM occlusion").fetchall()
        scores = dict(
            store.execute(
                "SELECT example_id, score FROM prediction JOIN run USING (run_id) WHERE run_key = ?", [first]
            ).fetchall()
        )
    assert {run_key for run_key, *_ in rows} == {first}
    for _, score, pieces, example_id in rows:
        assert score == pytest.approx(scores[example_id], abs=1e-5)
        assert any(abs(score - without) > 1e-6 for *_, without in json.loads(pieces))


def edited(path: Path, before: str, after: str) -> Path:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    return path


def test_a_prompted_model_has_a_run_for_each_prompt_and_draw_and_is_judged_over_all(
    harness: Callable[..., Any], asking: Path, tmp_path: Path
) -> None:
    result = harness("evaluate", asking, "--model", "asked", "--workers", "1", "--json")
    assert result.code == 0, result.err
    with duckdb.connect(str(tmp_path / "runs" / "harness.duckdb"), read_only=True) as store:
        runs = store.execute(
            "SELECT seed, spec->>'$.prompt.id', spec->>'$.prompt.draw', truncated FROM run ORDER BY seed"
        ).fetchall()
        different = store.execute("SELECT count(DISTINCT score) FROM prediction").fetchone()
    assert runs == [(0, "plain", "7", 0), (1, "plain", "8", 0), (2, "asked", "7", 0), (3, "asked", "8", 0)]
    assert different is not None
    assert different[0] > 50
    again = harness("evaluate", asking, "--model", "asked", "--workers", "1", "--json")
    assert (again.json()["scored"], again.json()["reused"]) == (0, 4)
    gate = harness("gate", asking, "--json")
    assert gate.code == 1
    assert "asked on test" in gate.out


MODEL = TABLES[TABLES.index("[[model]]") : TABLES.index("[[metric]]")]
TWIN = "".join(
    line for line in MODEL.replace('"asked"\nbackend', '"twin"\nbackend').splitlines(True) if "calib" not in line
)
"""The same model without calibration."""


def test_models_that_ask_a_network_the_same_compute_its_answers_once(
    harness: Callable[..., Any], asking: Path, tmp_path: Path
) -> None:
    """The calibrated model's scores are to the bit those that it has alone, and it has no timing of its own."""
    asking.write_text(asking.read_text().replace('[[model]]\nid = "asked"', f'{TWIN}\n[[model]]\nid = "asked"'))
    scores, timed = [], []
    for folder, words in (("alone", ["--model", "asked"]), ("both", ["--model", "twin", "--model", "asked"])):
        db = tmp_path / folder / "harness.duckdb"
        result = harness("evaluate", asking, *words, "--workers", "1", "--db", db)
        assert result.code == 0, result.err
        with duckdb.connect(str(db), read_only=True) as store:
            of_model = "FROM run LEFT JOIN prediction USING (run_id) WHERE model_id = ? ORDER BY ALL"
            scores.append(store.execute(f"SELECT seed, example_id, score {of_model}", ["asked"]).fetchall())
            timed.append(store.execute("SELECT model_id, seconds IS NOT NULL FROM run ORDER BY ALL").fetchall())
    assert len(scores[0]) > 4 * 20
    assert scores[0] == scores[1]
    assert timed == [[("asked", True)] * 4, [("asked", False)] * 4 + [("twin", True)] * 4]
    kept = sorted((tmp_path / "both" / "cache" / "likelihoods").rglob("*.npz"))
    assert len(kept) == 2 * 4, "the scored rows and the calibrating ones, for two prompts with two draws of shots each"
    assert harness("evaluate", asking, "--model", "asked", "--workers", "1", "--db", db, "--fresh").code == 0
    with duckdb.connect(str(db), read_only=True) as store:
        of_model = (
            "FROM run JOIN prediction USING (run_id) WHERE model_id = 'asked' AND seconds IS NOT NULL ORDER BY ALL"
        )
        anew = store.execute(f"SELECT seed, example_id, score {of_model}").fetchall()
    assert anew == scores[0], "what is asked for afresh is computed, and timed"


def test_answers_are_kept_apart_by_precision_and_weights(
    asking: Path, configured: Any, llama: Path, tmp_path: Path
) -> None:
    def kept() -> set[Any]:
        return {job.ingredients.likelihoods_dir for job in planned(asking).values()}

    folders = [kept()]
    edited(asking, *CHANGES["another-precision"])
    folders.append(kept())
    other = language_models.save(tmp_path / "other", "llama", seed=6)
    edited(asking, str(llama), str(other))
    before, after = (digest.of_file(folder / "model.safetensors") for folder in (llama, other))
    edited(asking, before, after)
    folders.append(kept())
    assert [len(found) for found in folders] == [1, 1, 1], "one network, whatever it is asked"
    assert len(set.union(*folders)) == 3


def test_a_model_whose_speed_a_gate_compares_computes_everything_itself(asking: Path, configured: Any) -> None:
    assert planned(asking)[0].ingredients.likelihoods_dir is not None
    timed = GATE.replace('metric = "accuracy"\nmin = 0.99', 'min_throughput = { model = "majority", ratio = 0.1 }')
    asking.write_text(asking.read_text() + timed)
    assert planned(asking)[0].ingredients.likelihoods_dir is None


CHANGES = {
    "another-template": ('template = "{{ content }} :"', 'template = "{{ content }} ;"'),
    "swapped-words": ('negative = ["bad"], positive = ["good"]', 'negative = ["good"], positive = ["bad"]'),
    "another-word": ('negative = ["bad"], positive', 'negative = ["awful"], positive'),
    "an-instruction": ('id = "plain"\n', 'id = "plain"\ninstruction = "the"\n'),
    "a-separator": ('id = "plain"\n', 'id = "plain"\nseparator = " "\n'),
    "a-chat": ('id = "plain"\n', 'id = "plain"\nchat = true\n'),
    "another-cut": ('id = "plain"\n', 'id = "plain"\ncut = "middle"\n'),
    "another-draw": ("seeds = [7, 8]", "seeds = [9, 8]"),
    "more-shots": ("count = 2", "count = 4"),
    "another-order": ("seeds = [7, 8]", 'seeds = [7, 8], order = "negative_first"'),
    "other-rows": ("rows = 20", "rows = 21"),
    "another-calibration": ('method = "threshold", split = "train", rows = 20, seed = 1 }', 'method = "contextual" }'),
    "another-precision": ('precision = "fp32"\n\n[[metric]]', 'precision = "bf16"\n\n[[metric]]'),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_part_of_a_prompt_is_in_the_key_of_its_runs(asking: Path, configured: Any, change: str) -> None:
    before = planned(asking)[0]
    after = planned(edited(asking, *CHANGES[change]))[0]
    assert after.run_key != before.run_key


def test_a_prompt_that_is_added_at_the_end_leaves_the_runs_of_the_others_as_they_are(
    asking: Path, configured: Any
) -> None:
    with_both = planned(asking)
    with_one = planned(edited(asking, 'prompts = ["plain", "asked"]', 'prompts = ["plain"]'))
    assert {seed: job.run_key for seed, job in with_one.items()} == {seed: with_both[seed].run_key for seed in (0, 1)}


def test_shots_are_no_rows_that_calibrate_and_none_that_are_scored(asking: Path, configured: Any) -> None:
    for job in planned(asking).values():
        described = job.spec["prompt"]
        assert not set(described["shots"]) & set(described["calibrated_on"])
        assert len(described["shots"]) == 2
        assert len(described["calibrated_on"]) == 20
        scored = {example.example_id for example in job.split.examples}
        assert not scored & {*described["shots"], *described["calibrated_on"]}


REFUSED = {
    "equal-words": ('negative = ["bad"], positive = ["good"]', 'negative = ["bad"], positive = ["bad "]', "twice"),
    "no-review": ('template = "{{ content }} :"', 'template = "{{ title }} :"', r"must contain {{ content }}"),
    "unknown-field": ('template = "{{ content }} :"', 'template = "{{ content }} {{ label }}"', "the field 'label'"),
    "code": (
        'template = "{{ content }} :"',
        'template = "{{ content.__class__ }}"',
        "uses 'getattr' in line 1",
    ),
    "a-loop": (
        'template = "{{ content }} :"',
        'template = "{% for c in content %}{{ content }}{% endfor %}"',
        "uses 'for' in line 1",
    ),
    "no-jinja": ('template = "{{ content }} :"', 'template = "{{ content :"', "is no Jinja template"),
    "undeclared-prompt": ('prompts = ["plain", "asked"]', 'prompts = ["plain", "other"]', "there is no prompt 'other'"),
    "a-prompt-twice": ('prompts = ["plain", "asked"]', 'prompts = ["plain", "plain"]', "lists 'plain' more than once"),
    "shots-of-the-test-split": (
        'shots = { split = "train", count = 2',
        'shots = { split = "test", count = 2',
        "'test' is used for training; a gate needs a split that no model has seen",
    ),
    "calibrated-on-the-test-split": (
        'calibration = { method = "threshold", split = "train"',
        'calibration = { method = "threshold", split = "test"',
        "'test' is used for training; a gate needs a split that no model has seen",
    ),
    "half-a-threshold": (", rows = 20, seed = 1 }", " }", "needs split, rows and seed"),
    "another-method's-key": ('{ method = "threshold", split', '{ method = "contextual", split', "does not use"),
    "a-task": ('task = "causal_lm"', 'task = "seq2seq"', "must be 'causal_lm' or 'masked_lm'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_prompt_is_refused_by_validate(asking: Path, case: str) -> None:
    before, after, expected = REFUSED[case]
    with pytest.raises(SuiteError, match=expected):
        load(edited(asking, before, after))


def test_too_few_rows_are_refused_before_anything_is_scored(asking: Path, configured: Any) -> None:
    edited(asking, "stop = 0.6", "stop = 0.4")
    with pytest.raises(DataError, match=r"'asked': split 'train' has \d+ rows to calibrate on besides its shots"):
        planned(edited(asking, "rows = 20", "rows = 2000"))
    with pytest.raises(DataError, match="has too few rows for 60 shots, as many of each class; lower count"):
        planned(edited(edited(asking, "rows = 2000", "rows = 20"), "count = 2", "count = 60"))


def test_an_encoder_asked_as_a_language_model_fails_alone_and_before_the_first_pass(
    harness: Callable[..., Any], asking: Path
) -> None:
    path = edited(asking, 'base = "llama"\ntask', 'base = "tiny"\ntask')
    result = harness("evaluate", path, "--model", "asked", "--model", "majority", "--workers", "1")
    assert result.code == 3
    assert "'bert' is an encoder, which sees the whole text and cannot continue it" in " ".join(result.err.split())
    assert "majority" in result.out


def test_a_prompted_base_has_a_page_with_its_prompts_and_a_row_for_each(
    harness: Callable[..., Any], asking: Path, tmp_path: Path
) -> None:
    assert harness("evaluate", asking, "--model", "asked", "--workers", "1").code == 0
    site = harness("site", asking, "--out", tmp_path / "site")
    assert site.code == 0, site.err
    page = next((tmp_path / "site").rglob("*asked*.html")).read_text()
    assert "the review is {{ content }} the answer is" in page
    assert "prompts on llama" in page
    for label in (
        "plain, shots of seed 7",
        "plain, shots of seed 8",
        "asked, shots of seed 7",
        "asked, shots of seed 8",
    ):
        assert label in page


def test_data_shows_the_first_prompt_of_every_prompted_model(harness: Callable[..., Any], asking: Path) -> None:
    result = harness("data", asking)
    assert result.code == 0, result.err
    shown = result.out[result.out.index("asked: prompt 'plain' for the first example of test") :].splitlines()
    assert len(shown) == 6
    assert {line.rpartition(" : ")[2] for line in (shown[1], shown[3])} == {"bad", "good"}
    assert shown[5].startswith("the ")
    assert shown[5].endswith(" :")
