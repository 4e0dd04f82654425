"""Log-likelihoods in files: read as they were computed, and computed where a file is absent, damaged or another's."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from harness.models.kept_likelihoods import kept

ROWS, ANSWERS = ((1, 2, 3), (4, 5)), ((6,), (7, 8))
COMPUTED = torch.tensor([[-0.1, -2.0], [-3.0, -1 / 3]], dtype=torch.float64)


@pytest.fixture
def compute() -> Callable[[], torch.Tensor]:
    """Return a function that counts its calls."""

    def computed() -> torch.Tensor:
        computed.calls += 1  # type: ignore[attr-defined]  # set below
        return COMPUTED

    computed.calls = 0  # type: ignore[attr-defined]  # a count on the function itself
    return computed


def calls(compute: Callable[[], torch.Tensor]) -> int:
    return int(compute.calls)  # type: ignore[attr-defined]  # set above


def test_the_second_reads_what_the_first_computed_and_how_long_it_took(
    compute: Callable[[], torch.Tensor], tmp_path: Path
) -> None:
    first, nothing = kept(tmp_path / "new", ROWS, ANSWERS, compute)
    second, seconds = kept(tmp_path / "new", ROWS, ANSWERS, compute)
    assert calls(compute) == 1
    assert torch.equal(first, COMPUTED)
    assert torch.equal(second, COMPUTED)
    assert (nothing, seconds > 0) == (0.0, True)


@pytest.mark.parametrize(
    ("rows", "answers"), [(ROWS[::-1], ANSWERS), (ROWS, ANSWERS[::-1]), (((1, 2), (3, 4, 5)), ANSWERS)]
)
def test_other_prompts_words_or_order_are_computed(
    rows: tuple[tuple[int, ...], ...],
    answers: tuple[tuple[int, ...], ...],
    compute: Callable[[], torch.Tensor],
    tmp_path: Path,
) -> None:
    kept(tmp_path, ROWS, ANSWERS, compute)
    assert kept(tmp_path, rows, answers, compute)[1] == 0.0
    assert calls(compute) == 2


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_file_is_computed_and_written_again(
    damage: str, compute: Callable[[], torch.Tensor], tmp_path: Path
) -> None:
    kept(tmp_path, ROWS, ANSWERS, compute)
    (file,) = tmp_path.iterdir()
    data = bytearray(file.read_bytes())
    place = data.index(b"NUMPY") + 130  # a number of the matrix
    data[place] ^= 1
    file.write_bytes({"cut": bytes(data[:-100]), "flipped": bytes(data), "empty": b""}[damage])
    found, seconds = kept(tmp_path, ROWS, ANSWERS, compute)
    assert (calls(compute), seconds) == (2, 0.0)
    assert torch.equal(found, COMPUTED)
    assert kept(tmp_path, ROWS, ANSWERS, compute)[1] > 0


def test_without_a_folder_or_room_nothing_is_kept(compute: Callable[[], torch.Tensor], tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file in the way")
    for folder in (None, None, taken, taken):
        assert torch.equal(kept(folder, ROWS, ANSWERS, compute)[0], COMPUTED)
    assert calls(compute) == 4
