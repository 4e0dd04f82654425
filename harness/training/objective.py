"""The two ways to train: a head that classifies texts, and a language model that answers prompts.

    how = of(job)
    network = methods.apply(job.adapter, how.base("eager"), steps)
    encoded = how.encoded(network)                       # the job's rows as token ids, batching settled
    loss, predicted = how.loss(network, below, indices, labels)

A language model's loss is the negative log-likelihood of the right class's label words after the prompt, over the whole
vocabulary. No other token of a prompt counts. Words of one class add their likelihoods, as they do in scoring.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import torch

from harness.errors import TrainingError
from harness.models import causal, device, language_model, padding, peft, prompt, tokens, transformer
from harness.models.encoding import TOKENS_PER_PASS, Encoded, one_thread, packed, settle
from harness.models.prompting import Frame
from harness.suite.schema import WITHOUT_PEFT
from harness.training import methods
from harness.training.plan import TrainingJob
from harness.training.speedups.frozen_layers import FrozenPrefix

Loss: TypeAlias = tuple[torch.Tensor, torch.Tensor]
"""The loss over a batch as one number, and the predicted classes, shape (batch,)."""
Reduction: TypeAlias = Literal["mean", "sum"]


class Objective(Protocol):
    """The parts of a training that depend on its task."""

    def base(self, attention: str) -> torch.nn.Module:
        """The base with the task's head, computing in float32, before a method is applied."""
        ...

    def kernel(self) -> str:
        """The attention kernel that the task is scored with."""
        ...

    def check_rows(self, base: Any, indices: Sequence[int]) -> None:
        """Check that rows can be made into token ids for the base, before a method is applied to it."""
        ...

    def encoded(self, network: Any, indices: Sequence[int] | None = None, *, settled: bool = False) -> Encoded:
        """The job's rows, or some of them, as token ids, in batches in which a row's answer depends on it alone.

        Args:
            settled: the network's batching was settled before, and is used again.
        """
        ...

    @property
    def one_pass(self) -> bool:
        """True if a row's loss is read from one pass over the row's own tokens."""
        ...

    def loss(
        self, network: Any, below: FrozenPrefix, indices: Sequence[int], labels: torch.Tensor, how: Reduction = "mean"
    ) -> Loss:
        """Loss of rows, by their positions in `below`."""
        ...

    def probe(self, network: Any) -> list[float]:
        """Scores of the probe texts, in evaluation mode."""
        ...

    def reloaded(self, folder: Path) -> Any:
        """The saved weights, loaded as for scoring and proven to be live."""
        ...


def of(job: TrainingJob) -> Objective:
    """The objective of a training."""
    return Answering(job) if job.prompts else Classifying(job)


class Classifying:
    """A head with two outputs, trained with cross-entropy."""

    one_pass = True

    def __init__(self, job: TrainingJob) -> None:
        self.job, self.folder = job, job.base.folder

    def base(self, attention: str) -> torch.nn.Module:
        """The base with a fresh head, drawn from the job's seed."""
        keeps = methods.changes_base(self.job.adapter) is None
        return transformer.untrained(self.folder, self.job.seed, attention=attention, keeps=keeps)

    def kernel(self) -> str:
        """The attention kernel of the base's classifier."""
        return transformer.kernel(self.folder)

    def check_rows(self, base: Any, indices: Sequence[int]) -> None:
        """Check that the tokenizer reads these texts."""
        Encoded(self.folder, [self.job.texts[i] for i in indices], self.job.max_length)

    def encoded(self, network: Any, indices: Sequence[int] | None = None, *, settled: bool = False) -> Encoded:
        """The rendered texts, in batches that were settled for this network."""
        texts = self.job.texts if indices is None else [self.job.texts[i] for i in indices]
        transformer.check_positions(network, self.job.max_length)
        if not settled:
            settle(network, self.folder, self.job.max_length)
        return Encoded(self.folder, texts, self.job.max_length).for_network(network)

    def loss(
        self, network: Any, below: FrozenPrefix, indices: Sequence[int], labels: torch.Tensor, how: Reduction = "mean"
    ) -> Loss:
        """Cross-entropy of the two outputs."""
        with device.autocast(below.encoded.where, self.job.precision):
            logits = network(**below.batch(indices)).logits.float()
        truth = labels.to(logits.device)
        return torch.nn.functional.cross_entropy(logits, truth, reduction=how), logits.argmax(1)

    def probe(self, network: Any) -> list[float]:
        """Scores of the probe texts."""
        return transformer.probe_scores(network, self.folder)

    def reloaded(self, folder: Path) -> Any:
        """The saved weights on the base, or the whole saved model."""
        if self.job.adapter.method in WITHOUT_PEFT:
            whole: Any = device.place(transformer.trained(folder).eval(), self.job.device)
            return whole
        network = device.place(peft.with_adapter(self.folder, folder), self.job.device)
        peft.prove_loaded(network, folder, self.folder)
        return network


class Answering:
    """A causal language model that answers prompts, each row one of them, drawn from the job's seed."""

    def __init__(self, job: TrainingJob) -> None:
        self.job, self.folder = job, job.base.folder
        self.frames: list[Frame] = []
        self.rows: list[list[int]] = []
        """Token ids of the rows that `encoded` prepared last."""
        drawn = np.random.default_rng([job.seed, 2]).permutation(len(job.texts)) % len(job.prompts)
        self.asked: list[int] = drawn.tolist()
        """For each row of the job the position of its prompt."""
        self.asked_of_rows = self.asked
        """The same for the rows that `encoded` prepared last."""

    def base(self, attention: str) -> torch.nn.Module:
        """The base with its own output layer."""
        keeps = methods.changes_base(self.job.adapter) is None
        found: torch.nn.Module = language_model.causal(self.folder, attention=attention, keeps=keeps)
        return found

    def kernel(self) -> str:
        """The attention kernel of the language model."""
        return language_model.kernel(self.folder)

    @property
    def one_pass(self) -> bool:
        """True if every label word is one token."""
        return all(len(answer) == 1 for frame in self.frames for answer in frame.answers)

    def check_rows(self, base: Any, indices: Sequence[int]) -> None:
        """Check that these rows can be asked, and that the tokenizer distinguishes the label words."""
        self._ask(base, indices)

    def encoded(self, network: Any, indices: Sequence[int] | None = None, *, settled: bool = False) -> Encoded:
        """The rows as prompts, without shots, in batches that are settled here for this network."""
        n_cut = self._ask(network, range(len(self.job.texts)) if indices is None else indices)
        if not settled:
            made = tokens.tokenizer(self.folder)
            special = [getattr(made, f"{name}_token_id") for name in ("pad", "eos", "unk", "bos")]
            probes = sorted((row for frame in self.frames for row in prompt.probe_rows(frame)), key=len)
            with one_thread():
                padding.settle(network, probes, special, causal.last_logits)
        return Encoded.of_rows(self.folder, self.rows, n_cut).for_network(network)

    def _ask(self, network: Any, indices: Sequence[int]) -> int:
        """Make rows into prompts for a network; returns the number of those that were cut."""
        made, window = tokens.tokenizer(self.folder), language_model.window(network)
        self.frames = [Frame(one, (), made, self.folder, self.job.max_length, window) for one in self.job.prompts]
        self.asked_of_rows = [self.asked[i] for i in indices]
        texts = [self.job.texts[i] for i in indices]
        found = [self.frames[asked].ids(*text.fields) for asked, text in zip(self.asked_of_rows, texts, strict=True)]
        self.rows = [ids for ids, _ in found]
        return sum(was_cut for _, was_cut in found)

    def loss(
        self, network: Any, below: FrozenPrefix, indices: Sequence[int], labels: torch.Tensor, how: Reduction = "mean"
    ) -> Loss:
        """Negative log-likelihood of the right class's label words."""
        where, on_right = below.encoded.where, below.encoded.batching.side != "left"
        with device.autocast(where, self.job.precision):
            logits = causal.logits_at_end(network, below.batch(indices), on_right=on_right)[:, 0]
            first = torch.log_softmax(logits.float(), dim=-1)
            likelihoods = torch.zeros(len(indices), 2, device=where)
            for asked, frame in enumerate(self.frames):
                places = [place for place, index in enumerate(indices) if self.asked_of_rows[index] == asked]
                if places:
                    words = [
                        self._word(network, below, first, indices, places, frame, word, labels)
                        for word in range(len(frame.answers))
                    ]
                    n_negative = len(frame.prompt.label_words.negative)
                    both = (torch.stack(some, dim=1) for some in (words[:n_negative], words[n_negative:]))
                    of_frame = torch.stack([torch.logsumexp(one, dim=1) for one in both], dim=1)
                    likelihoods = likelihoods.index_put((torch.tensor(places, device=where),), of_frame)
        losses = -likelihoods.gather(1, labels.to(where)[:, None])[:, 0]
        return (losses.mean() if how == "mean" else losses.sum()), likelihoods.argmax(1)

    def _word(
        self,
        network: Any,
        below: FrozenPrefix,
        first: torch.Tensor,
        indices: Sequence[int],
        places: Sequence[int],
        frame: Frame,
        word: int,
        labels: torch.Tensor,
    ) -> torch.Tensor:
        """Log-likelihood of one label word after the rows of a batch that share a prompt, shape (places,).

        No gradients are kept for words of several tokens of the wrong class, which do not enter the loss.

        Args:
            first: log-probabilities of the next token after each row of the batch.
            places: positions of these rows in the batch.
            word: position of the word among the prompt's.
        """
        answer = frame.answers[word]
        if len(answer) == 1:
            return first[torch.tensor(places, device=first.device), answer[0]]
        is_positive = word >= len(frame.prompt.label_words.negative)
        where, on_right = below.encoded.where, below.encoded.batching.side != "left"
        found = torch.zeros(len(places), device=where)
        for is_right in (True, False):
            some = [i for i, place in enumerate(places) if (bool(labels[place]) == is_positive) is is_right]
            with torch.set_grad_enabled(is_right and torch.is_grad_enabled()):
                rows = [[*self.rows[indices[places[i]]], *answer[:-1]] for i in some]
                for chosen in packed(
                    list(map(len, rows)), TOKENS_PER_PASS, one_length=below.encoded.batching.side is None
                ):
                    batch = below.encoded.batching.batch([rows[i] for i in chosen], where)
                    logits = causal.logits_at_end(network, batch, len(answer), on_right=on_right).float()
                    value = causal.picked(torch.log_softmax(logits, dim=-1), answer)
                    found = found.index_put((torch.tensor([some[i] for i in chosen], device=where),), value)
        return found

    def probe(self, network: Any) -> list[float]:
        """Scores of the probe texts by the job's first prompt."""
        return prompt.probe_scores(network, self.frames[0])

    def reloaded(self, folder: Path) -> Any:
        """The saved adapter on the language model."""
        network = device.place(peft.with_adapter(self.folder, folder, task="causal_lm"), self.job.device)
        peft.prove_loaded(network, folder, self.folder, task="causal_lm")
        return network


def check_trains(network: torch.nn.Module, job: TrainingJob) -> None:
    """Check that a method left something to train, which a language model's head is not.

    Raises:
        TrainingError: nothing trains.
    """
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise TrainingError(f"adapter {job.adapter.id}: method {job.adapter.method!r} trains no parameter of the base")
