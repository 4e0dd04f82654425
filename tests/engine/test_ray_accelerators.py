"""Accelerators that the Ray engine reserves. The ones here do not exist: Ray takes a node's word for what it has."""

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")

from harness.engine import ENGINES  # noqa: E402
from harness.engine.ray_pool import room  # noqa: E402
from harness.errors import UsageError  # noqa: E402
from harness.progress import Progress, silent  # noqa: E402


def _visible(item: int, progress: Progress) -> tuple[str | None, int]:
    time.sleep(1)
    return os.environ.get("CUDA_VISIBLE_DEVICES"), os.getpid()


def test_each_worker_sees_an_accelerator_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_OVERRIDE_RESOURCES", '{"CPU": 3, "GPU": 2}')
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not know the tests
    with ENGINES["ray"](None, silent, address="local", folder=tmp_path, gpus_per_worker=1) as map_unordered:
        found: set[Any] = {result for _, result in map_unordered(_visible, range(6))}
    assert sorted(visible for visible, _ in found) == ["0", "1"]
    assert len({process for _, process in found}) == 2, "three cores, but two accelerators"


def test_more_workers_than_accelerators_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_OVERRIDE_RESOURCES", '{"CPU": 3, "GPU": 2}')
    engine = ENGINES["ray"](3, silent, address="local", folder=tmp_path, gpus_per_worker=1)
    with pytest.raises(UsageError, match="--workers 3: the cluster has accelerators for 2"), engine:
        pass


@pytest.mark.parametrize(
    ("nodes", "gpus_per_worker", "expected"),
    [
        ([{"CPU": 4.0}, {"CPU": 2.0}], 0, 6),
        ([{"CPU": 4.0, "GPU": 2.0}, {"CPU": 8.0}], 1, 2),
        ([{"CPU": 4.0, "GPU": 5.0}, {"CPU": 1.0, "GPU": 8.0}], 2, 3),
    ],
)
def test_workers_fit_where_there_is_a_core_and_an_accelerator_for_each(
    nodes: list[dict[str, float]], gpus_per_worker: int, expected: int
) -> None:
    assert room(nodes, gpus_per_worker) == expected


def test_nodes_with_different_accelerators_are_refused() -> None:
    nodes = [{"CPU": 4.0, "GPU": 1.0, f"accelerator_type:{name}": 1.0} for name in ("T4", "A100")]
    with pytest.raises(UsageError, match=r"accelerators of several kinds \(A100, T4\), whose answers differ"):
        room(nodes, 1)
    assert room(nodes, 0) == 8


def test_the_local_engine_reserves_nothing_and_says_so() -> None:
    engine = ENGINES["local"](1, silent, gpus_per_worker=1)
    with pytest.raises(UsageError, match="--gpus-per-worker 1: the local engine reserves no accelerators; add"), engine:
        pass
