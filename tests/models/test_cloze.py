"""Masked language models asked by hiding the answer: the numbers of plain transformers, one text at a time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, BertConfig, BertForMaskedLM, BertModel, BertTokenizer

from harness.errors import RunError
from harness.models import prompt
from harness.models.classifier import ModelInputs, PromptInputs, Solved
from harness.suite.prompts import LabelWords, Prompt, PromptModel
from harness.suite.text import Text
from tests.fixtures import BAD, GOOD, THINGS

pytestmark = pytest.mark.slow

TEXT = Text(template="{content}", max_length=40)
ONE_TOKEN = LabelWords(negative=("bad",), positive=("good",))
LONGER = LabelWords(negative=("bad", "not good"), positive=("good", "really very good"))
EXTRA = ["the", "is", "it", "works", "was", "answer", ":", ".", "good", "not", "really", "very", "review"]


def tokenizer_in(folder: Path) -> Any:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*special, *dict.fromkeys([*EXTRA, *GOOD, *BAD, *THINGS])]
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    made: Any = BertTokenizer(vocab=str(folder / "vocab.txt"))
    made.save_pretrained(folder)
    return made


def config(made: Any) -> BertConfig:
    return BertConfig(
        vocab_size=len(made),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=96,
        initializer_range=0.2,
    )


def sentences(n: int, seed: int) -> tuple[list[str], list[int]]:
    """Reviews and their labels."""
    generator, texts, labels = np.random.default_rng(seed), [], []
    for i in range(n):
        words = generator.choice(GOOD if i % 2 else BAD, size=2)
        texts.append(f"the {generator.choice(THINGS)} is {words[0]} {words[1]}")
        labels.append(i % 2)
    return texts, labels


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT, pre-trained here to fill gaps in reviews that end with a verdict."""
    folder = tmp_path_factory.mktemp("cloze") / "base"
    made = tokenizer_in(folder)
    torch.manual_seed(3)
    model: Any = BertForMaskedLM(config(made))
    optimizer, generator = torch.optim.AdamW(model.parameters(), lr=3e-3), np.random.default_rng(0)
    texts, labels = sentences(256, 0)
    rows = [f"{text} answer : {'good' if label else 'bad'} ." for text, label in zip(texts, labels, strict=True)]
    for _ in range(120):
        batch = made(generator.choice(rows, size=16).tolist(), padding=True, return_tensors="pt")
        hidden = torch.from_numpy(generator.random(batch["input_ids"].shape) < 0.15) & (batch["input_ids"] > 4)
        hidden[:, -3] |= torch.from_numpy(generator.random(16) < 0.5) & (batch["input_ids"][:, -3] > 4)
        wanted = torch.where(hidden, batch["input_ids"], -100)
        batch["input_ids"] = torch.where(hidden, made.mask_token_id, batch["input_ids"])
        if hidden.any():
            model(**batch, labels=wanted).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    model.eval().save_pretrained(folder)
    return folder


def asked(folder: Path, words: LabelWords = ONE_TOKEN, shots: Sequence[Solved] = (), **changes: Any) -> Any:
    """A prompted model, loaded as a suite would load it."""
    fields: dict[str, Any] = {"id": "p", "template": "{{ content }} answer :", "label_words": words, "after_word": " ."}
    given = PromptInputs(Prompt(**{**fields, **changes}), tuple(shots), ())
    declared = PromptModel(id="m", backend="prompt", base="b", task="masked_lm", prompts=("p",), precision="fp32")
    inputs = ModelInputs(
        seed=0, max_length=40, base_dir=folder, adapter_dir=None, train_texts=(), train_labels=(), prompt=given
    )
    return prompt.prompt(declared, inputs)


def rendered(texts: Sequence[str]) -> list[Any]:
    return [TEXT.render("", text) for text in texts]


def ignore(units: int, note: str) -> None:
    """No progress."""


def plain(folder: Path, before: str, word: str) -> float:
    """Log-likelihood of a word in a gap, by plain transformers: one token at a time, from left to right."""
    made = tokenizer_of(folder)
    network: Any = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32)
    network.eval()
    tokens = made.tokenize(word)
    total = 0.0
    for i, token in enumerate(tokens):
        shown = " ".join([*tokens[:i], *["[MASK]"] * (len(tokens) - i)])
        batch = made(f"{before} {shown} .", return_tensors="pt")
        place = int((batch["input_ids"][0] == made.mask_token_id).nonzero()[0])
        with torch.no_grad():
            logs = torch.log_softmax(network(**batch).logits[0, place].double(), dim=-1)
        total += float(logs[made.convert_tokens_to_ids(token)])
    return total


def tokenizer_of(folder: Path) -> Any:
    made: Any = BertTokenizer.from_pretrained(folder)
    return made


SHOTS = [Solved("", "the phone is great", 1), Solved("", "the case is cheap", 0)]


@pytest.mark.parametrize("words", [ONE_TOKEN, LONGER], ids=["one-token", "longer"])
@pytest.mark.parametrize("shots", [0, 2])
def test_likelihoods_are_those_of_plain_transformers_one_text_and_one_gap_at_a_time(
    pretrained: Path, words: LabelWords, shots: int
) -> None:
    model = asked(pretrained, words, SHOTS[:shots])
    assert max(map(len, model.frame.answers)) == (1 if words is ONE_TOKEN else 3)
    texts = [*sentences(4, 9)[0], "it works", "the phone is great and it works and " * 3]
    rows = [model.frame.ids("", text)[0] for text in texts]
    found = model.asked.log_likelihoods(rows, model.frame.answers, ignore)
    expected = torch.tensor(
        [[plain(pretrained, model.frame.text("", text), word) for word in words.both] for text in texts],
        dtype=torch.float64,
    )
    assert (found - expected).abs().max() <= 1e-4
    assert torch.equal(found.argmax(1), expected.argmax(1))


def test_a_pre_trained_model_fills_the_verdict_and_scores_the_same_alone_and_in_a_batch(pretrained: Path) -> None:
    texts, labels = sentences(60, 5)
    model = asked(pretrained)
    together = model.predict(rendered(texts), ignore).scores
    assert ((together > 0.5) == np.array(labels)).mean() > 0.9
    alone = [float(model.predict([text], ignore).scores[0]) for text in rendered(texts)]
    assert np.abs(together - alone).max() <= 1e-5


def test_a_long_review_is_cut_and_the_gap_and_what_follows_it_stay(pretrained: Path) -> None:
    model = asked(pretrained, LONGER)
    ids, was_cut = model.frame.ids("", "the phone is great " * 60)
    assert was_cut
    assert tokenizer_of(pretrained).convert_ids_to_tokens(ids)[-2:] == ["answer", ":"]
    assert len(ids) + model.frame._reserved() <= 96
    assert model.predict(rendered(["the phone is great " * 60]), ignore).truncated == 1


def test_only_the_gap_reaches_the_output_layer(pretrained: Path) -> None:
    model, read = asked(pretrained), []
    model.asked.network.get_output_embeddings().register_forward_hook(
        lambda _module, args, _out: read.append(args[0].shape[1])
    )
    model.predict(rendered(sentences(6, 1)[0]), ignore)
    assert set(read) == {1}


def test_a_base_without_the_head_or_of_another_kind_is_refused(pretrained: Path, tmp_path: Path) -> None:
    made = tokenizer_in(tmp_path / "headless")
    BertModel(config(made)).save_pretrained(tmp_path / "headless")
    with pytest.raises(RunError, match="the checkpoint lacks weights of the language model"):
        asked(tmp_path / "headless")
    from tests import language_models

    with pytest.raises(RunError, match="the architecture 'llama' is no masked language model"):
        asked(language_models.save(tmp_path / "llama", "llama"))


def test_a_word_that_merges_with_what_follows_is_refused(pretrained: Path) -> None:
    with pytest.raises(RunError, match="merges with after_word"):
        asked(pretrained, after_word="er")
