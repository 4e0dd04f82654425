"""Accelerators that the Ray engine reserves. The ones here do not exist: Ray takes a node's word for what it has."""

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")

from harness import provenance  # noqa: E402
from harness.engine import ENGINES  # noqa: E402
from harness.engine.ray_pool import Node, difference, room  # noqa: E402
from harness.errors import UsageError  # noqa: E402
from harness.progress import Progress, silent  # noqa: E402

pytestmark = pytest.mark.slow


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


def described(root: Path, driver: str, model: str) -> dict[str, str]:
    """A node with one NVIDIA GPU, as Linux describes it in /proc."""
    folder = root / "proc/driver/nvidia/gpus/0000:01:00.0"
    folder.mkdir(parents=True)
    (folder / "information").write_text(f"Model: \t\t {model}\nIRQ:   \t\t 42\n")
    line = f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {driver}  Sat Aug 19 01:15:15 2023\nGCC version: 12.2\n"
    (root / "proc/driver/nvidia/version").write_text(line)
    return provenance.accelerators(root)


def test_nodes_are_compared_by_driver_and_model_of_their_accelerators(tmp_path: Path) -> None:
    first = Node("one", described(tmp_path / "one", "535.104.05", "NVIDIA H100 80GB HBM3"))
    assert first.accelerators == {"driver": "nvidia 535.104.05", "accelerator": "NVIDIA H100 80GB HBM3"}
    alike = Node("two", described(tmp_path / "two", "535.104.05", "NVIDIA H100 80GB HBM3"))
    newer = Node("three", described(tmp_path / "three", "550.54.14", "NVIDIA H100 80GB HBM3"))
    smaller = Node("four", described(tmp_path / "four", "535.104.05", "NVIDIA A10"))
    none = Node("five", provenance.accelerators(tmp_path / "five"))
    assert difference(first, alike) is None
    assert difference(none, Node("six", {})) is None
    assert difference(first, newer) == (
        "node three: driver is nvidia 550.54.14, but nvidia 535.104.05 on node one; answers would differ by rounding: "
        "install the same driver on all nodes"
    )
    assert "node four: accelerator is NVIDIA A10, but NVIDIA H100 80GB HBM3 on node one" in str(
        difference(first, smaller)
    )
    assert "node five: accelerator is unknown" in str(difference(first, none))
    (tmp_path / "amd/sys/module/amdgpu").mkdir(parents=True)
    (tmp_path / "amd/sys/module/amdgpu/version").write_text("6.7.0\n")
    assert provenance.accelerators(tmp_path / "amd") == {"driver": "amdgpu 6.7.0"}


def _fine(item: int, progress: Progress) -> int:
    return item


@pytest.mark.parametrize("gpus_per_worker", [0, 1])
def test_a_worker_whose_driver_is_another_ends_the_command_where_accelerators_count(
    gpus_per_worker: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAY_OVERRIDE_RESOURCES", '{"CPU": 2, "GPU": 2}')
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    engine = ENGINES["ray"](1, silent, address="local", folder=tmp_path, gpus_per_worker=gpus_per_worker)
    with engine as map_unordered:
        pool: Any = map_unordered.__self__  # type: ignore[attr-defined]  # a method of the pool
        pool.first = Node("worker-1", {"driver": "nvidia 535.104.05"})
        if gpus_per_worker:
            with pytest.raises(UsageError, match=r"on node worker-1; answers would differ by rounding"):
                list(map_unordered(_fine, [1]))
        else:
            assert list(map_unordered(_fine, [1])) == [(1, 1)]


def test_the_local_engine_reserves_nothing_and_says_so() -> None:
    engine = ENGINES["local"](1, silent, gpus_per_worker=1)
    with pytest.raises(UsageError, match="--gpus-per-worker 1: the local engine reserves no accelerators; add"), engine:
        pass
