"""Prompts as text and as token ids: instruction, shots and question; long reviews cut, the question never.

frame = Frame(prompt, shots, tokenizer, folder, room_tokens, window_tokens)
ids, was_cut = frame.ids(title, content)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import RunError
from harness.models.classifier import Solved
from harness.suite.prompts import Prompt
from harness.suite.text import compiled


def drawn(labels: Sequence[int], count: int, seed: int, *, balanced: bool, order: str) -> list[int]:
    """Draw the places of shots among labelled rows.

    Returns:
        At most `count` places; fewer if there are not enough rows of a class.
    """
    shuffled: list[int] = np.random.default_rng(seed).permutation(len(labels)).tolist()
    if balanced and shuffled:
        first = labels[shuffled[0]]
        by_class = {label: [place for place in shuffled if labels[place] == label] for label in (first, 1 - first)}
        chosen = [*by_class[first][: (count + 1) // 2], *by_class[1 - first][: count // 2]]
        shuffled = [place for place in shuffled if place in set(chosen)]
    taken = shuffled[:count]
    negative, positive = ([place for place in taken if labels[place] == label] for label in (0, 1))
    if order == "alternating":
        longer, shorter = (negative, positive) if len(negative) >= len(positive) else (positive, negative)
        pairs = [place for pair in zip(longer, shorter, strict=False) for place in pair]
        return [*pairs, *longer[len(shorter) :]]
    return {"drawn": taken, "negative_first": negative + positive, "positive_first": positive + negative}[order]


def answered(prompt: Prompt, shots: Sequence[Solved]) -> list[tuple[str, str]]:
    """Questions and answers of the shots."""
    question, words = compiled(prompt.template), (prompt.label_words.negative[0], prompt.label_words.positive[0])
    return [(question(one.title, one.content), words[one.label]) for one in shots]


def joined(prompt: Prompt, shots: Sequence[tuple[str, str]], question: str) -> str:
    """Instruction, shots and question as one text."""
    parts = [prompt.instruction] if prompt.instruction else []
    parts += [f"{asked}{prompt.gap}{word}" for asked, word in shots]
    return prompt.separator.join([*parts, question])


class Frame:
    """A prompt with its shots, ready for reviews.

    Args:
        room_tokens: most tokens that title and content may add to the question.
        window_tokens: most tokens of prompt and answer together; None if the base has no limit.

    Raises:
        RunError: the frame alone is too long, the tokenizer has no chat template, or an answer merges with the prompt.
    """

    def __init__(
        self,
        prompt: Prompt,
        shots: Sequence[Solved],
        tokenizer: Any,
        folder: Path,
        room_tokens: int,
        window_tokens: int | None,
    ) -> None:
        self.prompt, self.tokenizer, self.folder = prompt, tokenizer, folder
        self.question = compiled(prompt.template)
        self.shots = answered(prompt, shots)
        if prompt.chat and not getattr(tokenizer, "chat_template", None):
            raise RunError(f"{folder}: the tokenizer has no chat template; remove chat = true of prompt {prompt.id!r}")
        self.beginning = self._beginning()
        self.answers = [self._answer(word) for word in prompt.label_words.both]
        self._check_answers()
        self.ending = self._ending()
        frame = len(self._encoded(self.text("", "")))
        self.room = frame + room_tokens
        if window_tokens is not None:
            self.room = min(self.room, window_tokens - self._reserved())
        if self.room <= frame:
            raise RunError(
                f"prompt {prompt.id!r} has {frame} tokens before any review, of the {window_tokens} that the base "
                "reads; use fewer or shorter shots"
            )

    def _beginning(self) -> list[int]:
        """Special tokens before the prompt."""
        made = self.tokenizer
        with_specials = made("", verbose=False)["input_ids"]
        begins = bool(with_specials) and with_specials[0] == made.bos_token_id
        return [made.bos_token_id] if begins and not self.prompt.chat else []

    def _ending(self) -> list[int]:
        """Token ids after the answer."""
        return []

    def _reserved(self) -> int:
        """Tokens of the window that the prompt must leave free. An answer's last token is read, but not put in."""
        return max(map(len, self.answers)) - 1

    def text(self, title: str, content: str) -> str:
        """The whole prompt for one review, up to where the answer begins."""
        question = self.question(title, content)
        return self._chat(question) if self.prompt.chat else joined(self.prompt, self.shots, question)

    def _chat(self, question: str) -> str:
        messages = [{"role": "system", "content": self.prompt.instruction}] if self.prompt.instruction else []
        for asked, word in self.shots:
            messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": word}]
        messages.append({"role": "user", "content": question})
        try:
            whole: str = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except Exception as problem:
            reason = " ".join(str(problem).split())[:300]
            raise RunError(f"{self.folder}: the tokenizer's chat template fails ({reason})") from problem
        return whole

    def ids(self, title: str, content: str) -> tuple[list[int], bool]:
        """Token ids of the prompt for one review, and whether the review was cut to fit."""
        ids = self._encoded(self.text(title, content))
        if len(ids) <= self.room:
            return ids, False
        without = self._encoded(self.text(title, ""))
        if len(without) > self.room:  # not even the title fits
            return self._longest(lambda n: self.text(title[:n], ""), len(title)), True
        return self._longest(lambda n: self.text(title, self._kept(content, n)), len(content)), True

    def _kept(self, content: str, n: int) -> str:
        """A review with n of its characters."""
        if self.prompt.cut == "end" or n == 0:
            return content[:n].rstrip()
        return f"{content[: n - n // 2].rstrip()} … {content[len(content) - n // 2 :].lstrip()}"

    def _longest(self, text: Any, most: int) -> list[int]:
        """The longest prompt that fits, by bisection over the number of characters; with none, the question alone."""
        low, high = 0, most
        found = self._encoded(text(0))
        while low < high:
            middle = (low + high + 1) // 2
            ids = self._encoded(text(middle))
            if len(ids) <= self.room:
                low, found = middle, ids
            else:
                high = middle - 1
        return found

    def _encoded(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return [*self.beginning, *ids]

    def _answer(self, word: str) -> list[int]:
        """Token ids of a label word after the question."""
        found = set()
        for title, content in (("", "fine"), ("A title", "It broke on the first day.")):
            prompt = self.text(title, content)
            before, whole = self._encoded(prompt), self._encoded(f"{prompt}{self.prompt.gap}{word}")
            if whole[: len(before)] != before or len(whole) == len(before):
                raise RunError(
                    f"prompt {self.prompt.id!r}: the label word {word!r} merges with the end of the prompt into other "
                    "tokens; let the template end without a blank, or change before_word"
                )
            found.add(tuple(whole[len(before) :]))
        if len(found) > 1:
            raise RunError(
                f"prompt {self.prompt.id!r}: the tokens of the label word {word!r} depend on the review; end the "
                "template with a fixed text"
            )
        return list(found.pop())

    def _check_answers(self) -> None:
        """Check that the tokenizer distinguishes the label words."""
        words = self.prompt.label_words.both
        for i, word in enumerate(words):
            for other in range(i):
                if self.answers[i] == self.answers[other]:
                    raise RunError(
                        f"prompt {self.prompt.id!r}: the tokenizer gives the label words {words[other]!r} and {word!r} "
                        "the same tokens; choose other words"
                    )


class ClozeFrame(Frame):
    """A prompt for a masked language model: the answer's place is hidden, with the same text before it.

    Raises:
        RunError: the tokenizer has no mask token, or else as for `Frame`.
    """

    def _specials(self) -> tuple[list[int], list[int]]:
        """Special tokens before and after a text."""
        plain = self.tokenizer("good", add_special_tokens=False, verbose=False)["input_ids"]
        whole = self.tokenizer("good", verbose=False)["input_ids"]
        start = next(i for i in range(len(whole)) if whole[i : i + len(plain)] == plain)
        return whole[:start], whole[start + len(plain) :]

    def _beginning(self) -> list[int]:
        if self.tokenizer.mask_token_id is None:
            raise RunError(
                f"{self.folder}: the tokenizer has no mask token, so nothing can be hidden; declare another base"
            )
        return [] if self.prompt.chat else self._specials()[0]

    def _ending(self) -> list[int]:
        found = set()
        for word, answer in zip(self.prompt.label_words.both, self.answers, strict=True):
            before = f"{self.text('', 'fine')}{self.prompt.gap}{word}"
            shown, whole = self._encoded(before), self._encoded(before + self.prompt.after_word)
            if whole[: len(shown)] != shown or shown[-len(answer) :] != answer:
                raise RunError(
                    f"prompt {self.prompt.id!r}: the label word {word!r} merges with after_word into other tokens; "
                    "change after_word"
                )
            found.add(tuple(whole[len(shown) :]))
        if len(found) > 1:
            raise RunError(f"prompt {self.prompt.id!r}: the tokens of after_word depend on the label word; change it")
        return [*found.pop(), *([] if self.prompt.chat else self._specials()[1])]

    def _reserved(self) -> int:
        return max(map(len, self.answers)) + len(self.ending)
