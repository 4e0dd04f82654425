"""The simulations' data have the truth that their tables say."""

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from harness.gates.compare import shared
from tests.scripts import script


@pytest.fixture(scope="module")
def simulations() -> ModuleType:
    """The script as a module."""
    return script("simulated")


def shares(new: Any, old: Any) -> tuple[float, float, float]:
    """Accuracy of the reference, difference, disagreement."""
    return float(old.mean()), float(new.mean() - old.mean()), float((new != old).mean())


def test_pairs_have_the_accuracy_difference_and_disagreement_that_were_asked_for(simulations: ModuleType) -> None:
    generator, truth = np.random.default_rng(0), (0.85, -0.03, 0.1)
    chances = simulations.cells(-0.03, 0.1, 0.85)
    assert shares(*simulations.pair(generator, 100_000, chances)) == pytest.approx(truth, abs=0.005)
    new, old, _ = simulations.clustered_pair(generator, 20_000, chances)
    assert shares(new, old) == pytest.approx(truth, abs=0.01)
    reference = generator.random(100_000) < 0.75
    (seed,) = simulations.seeds_of(generator, reference, 0.25, 0.75, [-0.03])
    assert shares(seed.labels == seed.predicted, reference) == pytest.approx((0.75, -0.03, 0.25), abs=0.01)


def test_examples_of_a_cluster_are_as_alike_as_is_said(simulations: ModuleType) -> None:
    generator = np.random.default_rng(0)
    new, _, names = simulations.clustered_pair(generator, 20_000, simulations.cells(0.0, 0.1, 0.85))
    order = np.lexsort((generator.random(len(new)), names))  # clusters together, each in random order
    new, names = new[order], names[order]
    first = np.flatnonzero(np.append(True, names[1:] != names[:-1]))
    correlation = np.corrcoef(new[first], new[first + 1])[0, 1]  # of two examples of one cluster
    assert correlation == pytest.approx(simulations.ICC, abs=0.03)


def test_summing_all_outcomes_of_a_pair_leaves_none_out(simulations: ModuleType) -> None:
    assert simulations.exact_pairs(50, 0.02, 0.09, lambda low, high: True) == pytest.approx(1, abs=1e-5)


def test_a_planted_pattern_is_in_its_texts_alone_and_is_named_while_chance_names_nothing(
    simulations: ModuleType,
) -> None:
    generator, named, by_chance = np.random.default_rng(4), 0, 0
    for _ in range(10):
        planted = np.arange(600) < 40
        texts = simulations.texts(generator, 600, planted)
        assert [one.content.endswith(" arrived late") for one in texts] == planted.tolist()
        was = generator.random(600) < 0.9
        for chance in (np.where(planted, 0.7, 0.05), np.full(600, 0.1)):
            now = was & (generator.random(600) >= chance)
            sides = [simulations.outcomes(was)], [simulations.outcomes(now)]
            found = {one.name for some in shared(texts, *sides, with_text=True).directions for one in some}
            if chance[0] > 0.1:
                named += '"arrived late"' in found
            else:
                by_chance += bool(found)
    assert named == 10
    assert by_chance <= 2
