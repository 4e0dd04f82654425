"""Dropout with cheaper draws, checked against torch's own and its definition."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional

from harness.training.speedups import dropout

N = 400_000


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12)
        yield


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_elements_are_dropped_with_their_chance_and_the_rest_is_scaled(p: float, dtype: torch.dtype) -> None:
    with dropout.fast():
        left = functional.dropout(torch.full((N,), 2.0, dtype=dtype), p)
    assert left.dtype == dtype
    count = int((left == 0).sum())
    assert stats.binomtest(count, N, round(p * 65536) / 65536).pvalue > 1e-3
    kept = set(left[left != 0].tolist())
    assert len(kept) == 1
    assert kept.pop() == pytest.approx(2 / (1 - p), rel=1e-2 if dtype == torch.bfloat16 else 1e-4)


def test_whether_an_element_is_dropped_tells_nothing_of_the_others() -> None:
    """Four of them come from one draw, so pairs at every distance up to nine are checked."""
    is_dropped = (dropout.dropout(torch.ones(N), 0.3) == 0).numpy()
    for distance in range(1, 10):
        table = np.histogram2d(is_dropped[:-distance], is_dropped[distance:], bins=2)[0]
        assert stats.chi2_contingency(table).pvalue > 1e-3, distance
    shares = [is_dropped[start::4].mean() for start in range(4)]
    assert shares == pytest.approx([0.3] * 4, abs=0.006)


def test_the_gradient_goes_where_the_value_went() -> None:
    given = torch.randn(7, 13, requires_grad=True)
    left = dropout.dropout(given, 0.4)
    left.sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert given.grad is not None
    assert 0 < int((left == 0).sum()) < given.numel()
    torch.testing.assert_close(given.grad * given.detach(), left.detach())


def test_the_same_seed_drops_the_same_and_draws_go_on() -> None:
    def drawn(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        return [dropout.dropout(torch.ones(101), 0.5) for _ in range(2)]

    first, again, other = drawn(3), drawn(3), drawn(4)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize("how", [{"p": 0.0}, {"p": 1.0}, {"training": False}, {"p": 1e-9}])
def test_what_drops_nothing_or_all_is_torchs_affair(how: dict[str, Any]) -> None:
    given = torch.randn(50)
    assert torch.equal(dropout.dropout(given, **how), functional.dropout(given, **how))


def test_in_place_it_is_in_place() -> None:
    given = torch.ones(1000)
    assert dropout.dropout(given, 0.5, inplace=True) is given
    assert int((given == 0).sum()) > 0


def test_a_chance_that_is_none_is_refused_as_torch_refuses_it() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        dropout.dropout(torch.ones(3), 1.5)


def test_outside_the_block_dropout_is_torchs() -> None:
    def broken_off() -> None:
        with dropout.fast():
            assert functional.dropout is dropout.dropout
            raise RuntimeError("broken off")

    before = functional.dropout
    with pytest.raises(RuntimeError, match="broken off"):
        broken_off()
    assert functional.dropout is before
