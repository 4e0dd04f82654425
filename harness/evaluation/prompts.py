"""The inputs of models that are asked in words: the prompt of a run, and training rows drawn for it."""

from collections.abc import Mapping

import numpy as np

from harness import keys
from harness.errors import DataError
from harness.models.classifier import PromptInputs, Solved
from harness.models.prompting import answered, drawn, joined
from harness.records import Example, Split
from harness.suite.load import by_id
from harness.suite.prompts import Calibration, Prompt, PromptModel, Shots
from harness.suite.schema import Suite
from harness.suite.text import compiled


def inputs(suite: Suite, model: PromptModel, seed: int, splits: Mapping[str, Split]) -> tuple[PromptInputs, keys.Spec]:
    """Draw everything that one run of a model is asked with, and describe it for the run's key.

    Raises:
        DataError: a split has too few rows.
    """
    asked = suite.asked_of(model)[seed]
    prompt: Prompt = by_id(suite.prompt, asked.prompt)
    shots = _shots(model.id, model.shots, asked.draw, splits)
    rows = _rows(model.id, model.calibration, splits, {example.example_id for example in shots})
    spec = keys.prompted(
        prompt,
        shots=[example.example_id for example in shots],
        rows=[example.example_id for example in rows],
        draw=asked.draw,
    )
    return PromptInputs(prompt, tuple(map(_solved, shots)), tuple(map(_solved, rows))), spec


def first_prompts(suite: Suite, splits: Mapping[str, Split]) -> list[tuple[str, str]]:
    """The prompt of each prompted model's first run for the first scored example, with a heading.

    A chat is shown before the tokenizer's chat template makes turns of it.
    """
    scored = next((split for split in splits.values() if split.split_id not in suite.train_split_ids), None)
    found = []
    for model in suite.model:
        if isinstance(model, PromptModel) and scored is not None:
            asked, _ = inputs(suite, model, 0, splits)
            first, prompt = scored.examples[0], asked.prompt
            question = compiled(prompt.template)(first.title, first.content)
            heading = f"{model.id}: prompt {prompt.id!r} for the first example of {scored.split_id}"
            found.append((heading, joined(prompt, answered(prompt, asked.shots), question)))
    return found


def _solved(example: Example) -> Solved:
    return Solved(example.title, example.content, example.label)


def _shots(model_id: str, shots: Shots | None, draw: int | None, splits: Mapping[str, Split]) -> list[Example]:
    if shots is None or draw is None:
        return []
    examples = splits[shots.split].examples
    labels = [example.label for example in examples]
    places = drawn(labels, shots.count, draw, balanced=shots.balanced, order=shots.order)
    if len(places) < shots.count:
        which = ", as many of each class" if shots.balanced else ""
        raise DataError(
            f"model {model_id!r}: split {shots.split!r} has too few rows for {shots.count} shots{which}; lower count"
        )
    return [examples[place] for place in places]


def _rows(
    model_id: str, calibration: Calibration | None, splits: Mapping[str, Split], shown: set[str]
) -> list[Example]:
    """Draw the rows for a threshold, none of which the model is shown."""
    if calibration is None or calibration.split is None or calibration.rows is None or calibration.seed is None:
        return []
    examples = splits[calibration.split].examples
    order = np.random.default_rng(calibration.seed).permutation(len(examples)).tolist()
    chosen = [examples[place] for place in order if examples[place].example_id not in shown][: calibration.rows]
    if len(chosen) < calibration.rows:
        raise DataError(
            f"model {model_id!r}: split {calibration.split!r} has {len(chosen)} rows to calibrate on besides its "
            f"shots, and calibration asks for {calibration.rows}; lower rows"
        )
    return chosen
