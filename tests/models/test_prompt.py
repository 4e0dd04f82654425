"""Prompted language models: the numbers of plain transformers, one prompt at a time, whatever makes them faster."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.errors import RunError
from harness.models import causal, prompt, tokens
from harness.models.classifier import ModelInputs, PromptInputs, Solved
from harness.models.prompting import Frame, drawn
from harness.suite.prompts import Calibration, LabelWords, Prompt, PromptModel
from harness.suite.text import Text
from tests import language_models
from tests.fixtures import BAD, GOOD, THINGS

FAMILIES = ["gpt2", "llama", "qwen3", "mistral"]
ONE_TOKEN = LabelWords(negative=("bad",), positive=("good",))
LONGER = LabelWords(negative=("bad", "is bad"), positive=("good", "is is bad"))
TEXT = Text(template="{content}", max_length=64)


def ignore(units: int, note: str) -> None:
    """No progress."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders of tiny language models, by family."""
    made: dict[str, Path] = {}

    def of(family: str) -> Path:
        if family not in made:
            made[family] = language_models.save(tmp_path_factory.mktemp(family) / "base", family)
        return made[family]

    return of


def texts(n: int) -> list[Any]:
    """Reviews of very different lengths."""
    generator = np.random.default_rng(1)
    made = []
    for _ in range(n):
        words = generator.choice([*GOOD, *BAD, *THINGS, "is", "the"], size=generator.integers(1, 30))
        made.append(TEXT.render("", " ".join(words)))
    return made


def solved(n: int) -> tuple[Solved, ...]:
    """Labelled reviews to show."""
    return tuple(Solved("", f"the {THINGS[i]} is {(BAD, GOOD)[i % 2][i % 6]}", i % 2) for i in range(n))


def asked(
    folder: Path,
    shots: int = 0,
    words: LabelWords = ONE_TOKEN,
    calibration: Calibration | None = None,
    precision_of_model: Any = "fp32",
    **changes: Any,
) -> Any:
    """A prompted model, loaded as a suite would load it."""
    fields: dict[str, Any] = {"id": "p", "template": "the review : {{ content }} the answer :", "label_words": words}
    given = PromptInputs(Prompt(**{**fields, **changes}), solved(shots), solved(8) * 3)
    declared = PromptModel(
        id="m",
        backend="prompt",
        base="b",
        task="causal_lm",
        prompts=("p",),
        calibration=calibration,
        precision=precision_of_model,
    )
    inputs = ModelInputs(
        seed=0, max_length=64, base_dir=folder, adapter_dir=None, train_texts=(), train_labels=(), prompt=given
    )
    return prompt.prompt(declared, inputs)


def plain(folder: Path, frame: Frame, content: str) -> list[float]:
    """Log-likelihoods of the label words by plain transformers: one prompt and one word at a time."""
    network: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    network.eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    found = []
    for word in frame.prompt.label_words.both:
        before = tokenizer(frame.text("", content))["input_ids"]
        whole = tokenizer(frame.text("", content) + frame.prompt.gap + word)["input_ids"]
        with torch.no_grad():
            logs = torch.log_softmax(network(torch.tensor([whole])).logits[0].double(), dim=-1)
        found.append(sum(float(logs[i - 1, whole[i]]) for i in range(len(before), len(whole))))
    return found


def likelihoods(model: Any, some: Sequence[Any]) -> torch.Tensor:
    rows = [model.frame.ids(*text.fields)[0] for text in some]
    found: torch.Tensor = model.asked.log_likelihoods(rows, model.frame.answers, ignore)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shots", [0, 1, 4])
@pytest.mark.parametrize("words", [ONE_TOKEN, LONGER], ids=["one-token", "longer"])
def test_likelihoods_are_those_of_plain_transformers_one_prompt_at_a_time(
    base: Callable[[str], Path], family: str, shots: int, words: LabelWords
) -> None:
    model, some = asked(base(family), shots, words), texts(6)
    assert max(map(len, model.frame.answers)) == (1 if words is ONE_TOKEN else 3)
    found = likelihoods(model, some)
    expected = torch.tensor([plain(base(family), model.frame, text.fields[1]) for text in some], dtype=torch.float64)
    assert (found - expected).abs().max() <= 1e-4
    assert torch.equal(found.argmax(1), expected.argmax(1))
    assert (found[0] - found[1]).abs().max() > 1e-2  # the network is not blind to the text


@pytest.mark.parametrize("family", FAMILIES)
def test_a_score_is_the_same_alone_and_in_any_batch_with_and_without_the_prefix(
    base: Callable[[str], Path], family: str
) -> None:
    model, some = asked(base(family), 4, LONGER), texts(40)
    together = model.predict(some, ignore).scores
    assert np.std(together) > 1e-3
    alone = np.concatenate([model.predict([text], ignore).scores for text in some])
    assert np.abs(together - alone).max() <= 1e-5
    shared = model.asked.prefix
    assert bool(shared) == (family != "mistral")  # a sliding window is read whole
    model.asked.prefix = ()
    assert np.abs(model.predict(some, ignore).scores - together).max() <= 1e-5
    model.asked.shares = False
    assert np.abs(model.predict(some, ignore).scores - together).max() <= 1e-5
    assert np.array_equal(model.predict(some[::-1], ignore).scores.round(4)[::-1], together.round(4))


@pytest.mark.parametrize("first", ["phone", "the", "Zebra", "7", "'", "it works", "bad"])
def test_reviews_of_any_beginning_share_the_prefix(base: Callable[[str], Path], first: str) -> None:
    model = asked(base("llama"), 4)
    row = model.frame.ids("", f"{first} and more")[0]
    assert len(model.asked.prefix) > 24
    assert tuple(row[: len(model.asked.prefix)]) == model.asked.prefix


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_side_on_which_the_tokenizer_pads_changes_nothing(
    base: Callable[[str], Path], side: str, tmp_path: Path
) -> None:
    import json
    import shutil

    folder = Path(shutil.copytree(base("llama"), tmp_path / "base"))
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"padding_side": side, "pad_token": "</s>"}))
    some = texts(8)
    assert np.allclose(
        asked(folder, 1).predict(some, ignore).scores, asked(base("llama"), 1).predict(some, ignore).scores, atol=1e-6
    )


def test_only_the_positions_that_are_read_reach_the_output_layer(base: Callable[[str], Path]) -> None:
    model, some = asked(base("llama"), 4), texts(30)
    model.predict(some[:1], ignore)  # the prefix is computed
    seen: list[tuple[int, ...]] = []
    hook = model.asked.network.get_output_embeddings().register_forward_hook(
        lambda module, args, output: seen.append(tuple(output.shape[:2]))
    )
    read: list[int] = []
    model.asked.network.register_forward_pre_hook(
        lambda module, args, given: read.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    model.predict(some, ignore)
    hook.remove()
    assert sum(rows for rows, _ in seen) == len(some)
    assert {positions for _, positions in seen} == {1}
    longest = max(len(model.frame.ids("", text.fields[1])[0]) for text in some)
    assert max(read) == longest - len(model.asked.prefix)


@pytest.mark.parametrize("cut", ["end", "middle"])
def test_a_long_review_loses_its_end_or_middle_and_the_prompt_still_ends_with_the_question(
    base: Callable[[str], Path], cut: str
) -> None:
    model = asked(base("llama"), cut=cut)
    long = "first " + "the phone is great " * 60 + "last"
    ids, was_cut = model.frame.ids("", long)
    text = tokens.tokenizer(base("llama")).decode(ids)
    assert was_cut
    assert text.startswith("the review : first the phone")
    assert text.endswith(" the answer :")
    assert (" last the answer :" in text) == (cut == "middle")
    assert len(ids) <= model.frame.room
    assert len(ids) > model.frame.room - 12
    assert model.predict([TEXT.render("", long), TEXT.render("", "fine")], ignore).truncated == 1


def test_a_chat_has_the_shots_as_turns(base: Callable[[str], Path]) -> None:
    model = asked(base("llama"), 1, template="{{ content }} ?", chat=True, instruction="be short")
    assert model.frame.text("", "fine") == (
        "<s>system\nbe short</s>\n<s>user\nthe phone is awful ?</s>\n<s>assistant\nbad</s>\n<s>user\nfine ?</s>\n"
        "<s>assistant\n"
    )
    assert model.predict(texts(3), ignore).scores.std() > 0


def test_a_prompt_is_instruction_shots_and_question(base: Callable[[str], Path]) -> None:
    model = asked(base("llama"), 2, instruction="judge", template="{{ content }} :", separator="\n")
    assert model.frame.text("", "fine") == "judge\nthe phone is awful : bad\nthe router is lovely : good\nfine :"


def test_domain_pmi_subtracts_what_the_words_have_after_the_premise(base: Callable[[str], Path]) -> None:
    model = asked(base("llama"), calibration=Calibration(method="domain_pmi"))
    plainly, some = asked(base("llama")), texts(5)
    of_premise = likelihoods_of(plainly, "the answer :")
    expected = plainly.log_odds(likelihoods(plainly, some)) - (of_premise[1] - of_premise[0])
    assert np.allclose(log_odds(model.predict(some, ignore).scores), expected, atol=1e-5)


def likelihoods_of(model: Any, text: str) -> list[float]:
    ids = tokens.tokenizer(model.frame.folder)(text)["input_ids"]
    found: list[float] = model.asked.log_likelihoods([ids], model.frame.answers, ignore)[0].tolist()
    return found


def log_odds(scores: Any) -> Any:
    return np.log(scores) - np.log1p(-scores)


def test_contextual_calibration_makes_content_free_texts_even(base: Callable[[str], Path]) -> None:
    model = asked(base("llama"), calibration=Calibration(method="contextual", content_free=("N/A",)))
    assert model.predict([TEXT.render("", "N/A")], ignore).scores[0] == pytest.approx(0.5, abs=1e-6)
    three = asked(base("llama"), calibration=Calibration(method="contextual"))
    plainly = asked(base("llama"))
    free = plainly.predict([TEXT.render("", text) for text in ("N/A", "[MASK]", "")], ignore).scores.mean()
    assert three.shift == pytest.approx(np.log(free / (1 - free)), abs=1e-5)


def test_a_threshold_is_the_best_one_on_the_training_rows_and_reads_no_others(base: Callable[[str], Path]) -> None:
    declared = Calibration(method="threshold", split="train", rows=10, seed=0)
    model, plainly = asked(base("llama"), calibration=declared), asked(base("llama"))
    rows = solved(8) * 3
    odds = plainly.log_odds(likelihoods(plainly, [TEXT.render(row.title, row.content) for row in rows]))
    right = [((odds > t) == np.array([row.label for row in rows])).mean() for t in [*(odds + 1e-9), -99.0]]
    reached = ((odds > model.shift) == np.array([row.label for row in rows])).mean()
    assert reached == max(right)


@pytest.mark.parametrize(
    ("odds", "labels", "expected"),
    [
        ([1.0, 2.0, 3.0, 4.0], [0, 0, 1, 1], 2.5),
        ([1.0, 1.0, 2.0, 2.0], [0, 0, 1, 1], 1.5),
        ([1.0, 2.0], [1, 1], 0.5),
        ([1.0, 2.0], [0, 0], 2.5),
        ([5.0, 5.0, 5.0], [0, 1, 1], 4.5),
    ],
)
def test_thresholds(odds: list[float], labels: list[int], expected: float) -> None:
    assert prompt.best_threshold(np.array(odds), labels) == pytest.approx(expected)


def test_shots_are_drawn_by_seed_balanced_and_in_the_declared_order() -> None:
    labels = [0] * 30 + [1] * 10
    first = drawn(labels, 4, 1, balanced=True, order="drawn")
    assert first == drawn(labels, 4, 1, balanced=True, order="drawn")
    assert first != drawn(labels, 4, 2, balanced=True, order="drawn")
    assert sorted(labels[place] for place in first) == [0, 0, 1, 1]
    ordered = drawn(labels, 4, 1, balanced=True, order="positive_first")
    assert [labels[place] for place in ordered] == [1, 1, 0, 0]
    assert sorted(ordered) == sorted(first)
    turns = [labels[place] for place in drawn(labels, 5, 1, balanced=True, order="alternating")]
    assert turns in ([0, 1, 0, 1, 0], [1, 0, 1, 0, 1])
    unbalanced = drawn(labels, 40, 1, balanced=False, order="negative_first")
    assert [labels[place] for place in unbalanced] == labels


def test_an_encoder_is_refused(tiny_base: Path) -> None:
    with pytest.raises(RunError, match="'bert' is an encoder, which sees the whole text and cannot continue it"):
        asked(tiny_base)


def test_a_checkpoint_without_the_output_layer_is_refused(base: Callable[[str], Path], tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(base("llama"), tmp_path / "base"))
    tensors = load_file(folder / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RunError, match=r"lacks weights of the language model \(lm_head.weight\)"):
        asked(folder)


def test_words_that_merge_with_the_prompt_are_refused(base: Callable[[str], Path]) -> None:
    with pytest.raises(RunError, match="the label word 'od' merges with the end of the prompt"):
        asked(
            base("llama"),
            words=LabelWords(negative=("od",), positive=("x",)),
            template="{{ content }} : go",
            before_word="",
        )


def test_a_prompt_without_room_for_a_review_is_refused(base: Callable[[str], Path]) -> None:
    with pytest.raises(RunError, match=r"has \d+ tokens before any review, of the 512 that the base reads"):
        asked(base("llama"), instruction="the phone is great " * 200)


def test_a_tokenizer_without_chat_template_cannot_chat(base: Callable[[str], Path], tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(base("llama"), tmp_path / "base"))
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(RunError, match="has no chat template; remove chat = true of prompt 'p'"):
        asked(folder, chat=True)


def test_prompts_that_do_not_begin_with_the_prefix_are_read_whole(base: Callable[[str], Path]) -> None:
    model, some = asked(base("llama"), 4, LONGER), texts(3)
    rows = [model.frame.ids("", text.fields[1])[0] for text in some]
    other = [[5, *rows[0][1:]], *rows[1:]]
    assert tuple(other[0][: len(model.asked.prefix)]) != model.asked.prefix
    found = model.asked.log_likelihoods(other, model.frame.answers, ignore)
    whole = causal.Likelihoods(model.asked.network, model.asked.batching, (), shares=False)
    assert torch.allclose(found, whole.log_likelihoods(other, model.frame.answers, ignore), atol=1e-4)
