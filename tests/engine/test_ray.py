"""The Ray engine: the same answers as on this machine, and what happens when workers die. One real Ray for it all."""

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")

import psutil  # noqa: E402 (peft brings it)

from harness import provenance  # noqa: E402
from harness.engine import ENGINES, Interrupted, MapUnordered, WorkerLost  # noqa: E402
from harness.engine.scheduler import complete  # noqa: E402
from harness.errors import HarnessError, LeakError, UsageError  # noqa: E402
from harness.evaluation.evaluate import bring_up_to_date, train_missing  # noqa: E402
from harness.evaluation.inputs import Workspace, gather  # noqa: E402
from harness.models.classifier import CARD  # noqa: E402
from harness.progress import Advance, Progress, silent  # noqa: E402
from harness.store.connection import opened  # noqa: E402
from harness.suite.load import load  # noqa: E402
from harness.training import card  # noqa: E402
from tests import processes  # noqa: E402

pytestmark = pytest.mark.slow

Command = Callable[..., Any]
MODELS = ["tfidf", "untrained", "tiny+lora"]
shown: Counter[str] = Counter()
finished: list[str] = []


@contextmanager
def counting(label: str, total: int) -> Iterator[Advance]:
    """A `Progress` that remembers what it was told."""

    def advance(units: int, note: str) -> None:
        shown[label] += units

    yield advance
    finished.append(label)


@pytest.fixture(scope="module")
def map_unordered() -> Iterator[MapUnordered]:
    """Two workers of a Ray that was started for this module."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not know the tests
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    with ENGINES["ray"](2, counting, address="local") as opened_engine:
        yield opened_engine
    # The server that the tests' own commands are forks of may have begun meanwhile, and stays.
    left = [
        process
        for process in psutil.Process().children(recursive=True)
        if process.pid not in before and "multiprocessing" not in named(process)
    ]
    assert psutil.wait_procs(left, timeout=20)[1] == [], "nothing of it is left"


def answers(db: Path) -> list[tuple[Any, ...]]:
    """What the runs of a store say, in an order that does not depend on when they were stored."""
    with opened(db, read_only=True) as store:
        return store.execute(
            "SELECT model_id, seed, example_id, predicted, score "
            "FROM prediction JOIN leaderboard USING (run_id) ORDER BY ALL"
        ).fetchall()


def weights(adapters: Path) -> dict[str, str]:
    """The digests of trained weights by adapter and seed."""
    return {
        str(path.parent.relative_to(adapters)): card.read(path.parent).adapter_digest for path in adapters.rglob(CARD)
    }


def test_adapters_and_predictions_are_those_of_the_local_engine(
    map_unordered: MapUnordered, suite_path: Path, configured: Any, tmp_path: Path
) -> None:
    declared = load(suite_path)
    here, there = (Workspace(suite_path, tmp_path / name / "harness.duckdb") for name in ("here", "there"))
    with ENGINES["local"](1, silent) as one_by_one:
        bring_up_to_date(declared, here, one_by_one, model_ids=MODELS)
    inputs = gather(declared, there)
    assert complete(map_unordered, lambda one: train_missing(declared, inputs, there, one, ["lora"])) == {}
    assert weights(there.adapters) == weights(here.adapters)
    assert len(weights(there.adapters)) == 2
    _, report = bring_up_to_date(declared, there, map_unordered, model_ids=MODELS)
    assert (report.failed, report.damaged) == ([], [])
    assert answers(there.db) == answers(here.db)
    assert len({row[:2] for row in answers(there.db)}) == 5, "models and seeds"
    assert "tfidf on test" in finished


def _die_once(item: tuple[str, Path], progress: Progress) -> str:
    """The item that is named so is killed in the middle, the first time."""
    name, folder = item
    began = folder / f"{name}-{time.monotonic_ns()}"
    began.touch()
    with progress(name, 2) as advance:
        advance(1, "")
        if name == "unlucky" and len(list(folder.glob(f"{name}-*"))) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        advance(1, "")
    return name.upper()


def test_a_worker_that_is_killed_costs_its_task_only(map_unordered: MapUnordered, tmp_path: Path) -> None:
    names = ["a", "unlucky", "b", "c", "d"]
    done = dict(map_unordered(_die_once, [(name, tmp_path) for name in names]))
    assert {name: result for (name, _), result in done.items()} == {name: name.upper() for name in names}
    times = Counter(path.name.split("-")[0] for path in tmp_path.iterdir())
    assert times == {"a": 1, "unlucky": 2, "b": 1, "c": 1, "d": 1}, "only what was at the dead worker is done again"
    assert finished.count("unlucky") == 1, "its bar is finished once"


def _poison(item: tuple[str, Path], progress: Progress) -> int:
    name, folder = item
    (folder / f"{name}-{time.monotonic_ns()}").touch()
    if name == "poison":
        deadline = time.monotonic() + 60
        while len(list(folder.glob("poison-*"))) == 3 and not list(folder.glob("c-*")) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def test_a_task_that_kills_each_of_its_workers_is_lost_and_stops_nobody(
    map_unordered: MapUnordered, tmp_path: Path
) -> None:
    results = list(map_unordered(_poison, [(name, tmp_path) for name in ("poison", "a", "b", "c")]))
    done = {name: result for (name, _), result in results}
    lost = done.pop("poison")
    assert isinstance(lost, WorkerLost)
    assert lost.reason.startswith("its worker died 3 times (")
    assert list(map(type, done.values())) == [int] * 3
    assert results[-1][0][0] == "poison", "the others did not wait for it, whose last attempt waited for them"
    assert len(list(tmp_path.glob("poison-*"))) == 3
    assert not list(tmp_path.glob("a-*"))[1:]


class Odd(Exception):
    """An exception that cannot be copied: its arguments are not those that it is made with."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{what} in {where}")


def _raise(item: str, progress: Progress) -> str:
    if item == "leak":
        raise LeakError("these rows were seen in training")
    if item == "bug":
        raise ZeroDivisionError("a bug")
    if item == "odd":
        raise Odd("noise", "the cellar")
    return item


def test_what_a_task_raises_comes_out_as_itself(map_unordered: MapUnordered) -> None:
    with pytest.raises(LeakError, match=r"^these rows were seen in training$") as leak:
        list(map_unordered(_raise, ["leak", "fine"]))
    assert (type(leak.value), leak.value.exit_code) == (LeakError, 2)
    with pytest.raises(ZeroDivisionError) as bug:
        list(map_unordered(_raise, ["bug"]))
    assert str(bug.value) == "a bug"
    assert "in _raise" in "".join(bug.value.__notes__), "where it happened"
    with pytest.raises(HarnessError, match=r"(?s)in _raise.*Odd: noise in the cellar"):
        list(map_unordered(_raise, ["odd"]))
    assert list(map_unordered(_raise, ["fine"])) == [("fine", "fine")], "and the engine goes on"


def _wait(item: Path, progress: Progress) -> None:
    (item.parent / f"{item.name}.pid").write_text(str(os.getpid()))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not item.exists():
        time.sleep(0.05)


def test_an_interruption_names_what_was_under_way_and_stops_it(map_unordered: MapUnordered, tmp_path: Path) -> None:
    slow, quick = tmp_path / "slow", tmp_path / "quick"
    quick.touch()
    done = map_unordered(_wait, [slow, quick])
    assert next(done) == (quick, None)
    worker = psutil.Process(int((tmp_path / "slow.pid").read_text()))
    with pytest.raises(Interrupted) as interruption:
        done.throw(KeyboardInterrupt)  # type: ignore[attr-defined]  # it is a generator
    assert interruption.value.under_way == (slow,)
    assert psutil.wait_procs([worker], timeout=20)[1] == []


def test_a_node_that_differs_is_named_with_both_versions(tmp_path: Path) -> None:
    """What a worker is asked first, with the answers of a node that is not like this machine."""
    from harness.engine.ray_worker import Surroundings

    here = Surroundings.of_command(None)
    assert here.problem() is None
    other = Surroundings(here.folder, None, {**here.versions, "torch": "1.0"})
    assert "torch is 2." in str(other.problem())
    assert "but 1.0 where the command runs; install the same version on all nodes" in str(other.problem())
    assert "does not see" in str(Surroundings(here.folder, str(tmp_path / "marker"), here.versions).problem())
    absent = Surroundings(str(tmp_path / "absent"), None, here.versions)
    assert str(absent.problem()).startswith(f"cannot enter {tmp_path / 'absent'} (No such file or directory)")


def test_a_worker_that_is_not_like_the_command_ends_it_and_is_named(
    map_unordered: MapUnordered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other workers of the same Ray, opened by a command that believes to have another torch or sees another folder."""
    from harness.engine import ray_pool

    with ray_pool.workers(1, silent, tmp_path) as two_folders:
        (marker,) = tmp_path.glob(".workers-*")
        marker.rename(tmp_path / "kept")
        with pytest.raises(
            UsageError, match=f"^node .*: does not see the command's {tmp_path}; mount the same folder there"
        ):
            list(two_folders(_raise, ["fine"]))
        (tmp_path / "kept").rename(marker)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(provenance, "packages", lambda: {"torch": "1.0"})
    with (
        ray_pool.workers(1, silent, None) as two_releases,
        pytest.raises(UsageError, match=r"^node .* is .* runs;") as it,
    ):
        list(two_releases(_raise, ["fine"]))
    assert "adapter-harness is 0.1.0, but not installed where the command runs" in str(it.value)
    with pytest.raises(UsageError, match="--workers 9: the cluster has cores for 2"), ray_pool.workers(9, silent, None):
        pass


def test_without_ray_the_command_says_what_to_install(
    harness: Command, suite_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for verb in ("evaluate", "train", "parity"):
        result = harness(verb, suite_path, "--engine", "ray")
        assert (result.code, result.out) == (2, "")
        assert result.err.splitlines() == [
            "the engine 'ray' needs Ray, which is not installed: `python -m pip install 'adapter-harness[ray]'`"
        ]
    assert not (tmp_path / "runs").exists()


def test_an_address_is_refused_without_a_cluster_engine_and_where_no_cluster_is(
    harness: Command, suite_path: Path, tmp_path: Path
) -> None:
    local = harness("evaluate", suite_path, "--address", "auto")
    assert (local.code, local.err) == (2, "--address auto: the local engine joins no cluster; add `--engine ray`\n")
    nowhere = harness("evaluate", suite_path, "--engine", "ray", "--address", "no:such:place")
    assert nowhere.code == 2
    last = nowhere.err.splitlines()[-1]  # before it may be what Ray says of the workers of other tests
    assert last.startswith("no:such:place: cannot join a Ray cluster there (Invalid address format")
    assert not (tmp_path / "runs").exists()


def test_the_command_starts_ray_bears_a_kill_and_leaves_nothing(
    suite_path: Path, configured: Any, tmp_path: Path
) -> None:
    """As people call it, in a process of its own; results are alone on stdout, though Ray tells of the kill."""
    words = ["evaluate", suite_path, "--engine", "ray", "--workers", "1", "--model", "tfidf", "--json"]
    seen: dict[int, psutil.Process] = {}
    killed = None
    with processes.Command([*words, "--db", tmp_path / "r.duckdb"]) as begun:
        while begun.poll() is None:
            for process in children(begun.pid):
                seen[process.pid] = process
                if killed is None and named(process).startswith("ray::Worker"):
                    killed = process
                    killed.kill()
            time.sleep(0.2)  # to list all processes takes long
        done = begun.wait()
    assert killed is not None, done.stderr
    assert done.returncode == 0, done.stderr
    assert [row["model"] for row in json.loads(done.stdout)["results"]] == ["tfidf"]
    assert "scored 1, already stored 0, failed 0" in done.stderr
    assert "Traceback" not in done.stderr
    assert psutil.wait_procs(list(seen.values()), timeout=20)[1] == []


def children(pid: int) -> list[psutil.Process]:
    """All processes that this one has started and that these have; none once it has ended."""
    try:
        found: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return found


def listening(these: Sequence[psutil.Process]) -> set[str]:
    """The addresses on which these accept connections."""
    found = set()
    for process in these:
        with suppress(psutil.Error):
            found |= {one.laddr.ip for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN}
    return found


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_command_leaves_nothing_and_meanwhile_nobody_else_could_come_in(
    suite_path: Path, configured: Any, tmp_path: Path, how: signal.Signals
) -> None:
    """In the middle of work: its ports are on the loopback interface, its folder its owner's; all is gone soon."""
    words = ["train", suite_path, "--engine", "ray", "--workers", "1", "--db", tmp_path / "runs" / "r.duckdb"]
    before = set(Path("/tmp").glob("hr-*"))
    with processes.Command(words) as begun:
        seen: list[psutil.Process] = []
        while not any(named(process).startswith("ray::Worker") for process in seen):
            assert begun.poll() is None, begun.errors()
            seen = children(begun.pid)
            time.sleep(0.2)
        assert list((tmp_path / "runs").glob(".workers-*"))
        (session,) = set(Path("/tmp").glob("hr-*")) - before
        assert session.stat().st_mode & 0o777 == 0o700
        assert any(session.rglob("raylet*"))
        assert {ip.removeprefix("::ffff:") for ip in listening([psutil.Process(begun.pid), *seen])} == {"127.0.0.1"}
        begun.send_signal(how)
        assert begun.wait().returncode == -how
    assert psutil.wait_procs(seen, timeout=10)[1] == []
    assert not session.exists()
    assert not list((tmp_path / "runs").glob(".workers-*"))


def named(process: psutil.Process) -> str:
    """What a process calls itself, if it is still there."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
