"""A fall over many commits: recorded commit by commit, found, and not fooled by running a command twice."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from harness.gates import watch
from harness.records import Watched
from harness.store import reader, writer
from harness.store.connection import Connection, opened
from tests.conftest import _outcomes
from tests.worlds import World

NOW = datetime(2025, 1, 1)  # noqa: DTZ001 (the store keeps UTC without a zone)
PLACE = ("lora", "test")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Connection]:
    with opened(tmp_path / "harness.duckdb") as connection:
        yield connection


def at(number: int, value: float, **changes: Any) -> Watched:
    """A model as commit `number` left it."""
    weights, commit = f"weights-{number}", f"{number:040x}"
    one = Watched("series", 0, "suite", "main", *PLACE, "accuracy", weights, commit, value, NOW)
    return replace(one, **changes)


def added(store: Connection, one: Watched, *others: Watched) -> watch.Series:
    own = {(each.model_id, each.split_id): "weights of the baseline" for each in (one, *others)}
    return watch._added(store, [one, *others], own)[0]


def test_a_slow_drift_is_an_alarm_that_says_since_when(store: Connection) -> None:
    states = [added(store, at(number, 0.001 * (number % 3) - 0.003 * max(0, number - 5))) for number in range(30)]
    assert not any(state.is_alarm for state in states[:10])
    last = states[-1]
    assert last.is_alarm
    assert last.commits == 30
    assert last.falling_since is not None
    assert 3 <= int(last.falling_since, 16) <= 9
    assert last.falling_for == 30 - int(last.falling_since, 16)


def test_each_commit_is_kept_and_a_later_process_goes_on(tmp_path: Path) -> None:
    whole, parts = [], []
    with opened(tmp_path / "one.duckdb") as connection:
        whole = [added(connection, at(number, -0.003 * number)) for number in range(6)]
    for number in range(6):
        with opened(tmp_path / "other.duckdb") as connection:
            parts.append(added(connection, at(number, -0.003 * number)))
    assert parts == whole
    with opened(tmp_path / "other.duckdb", read_only=True) as connection:
        kept = reader.watched(connection, "series")
    assert [one.position for one in kept] == list(range(6))
    assert kept[3] == at(3, -0.003 * 3, position=3)


def test_a_commit_that_is_run_again_changes_nothing(store: Connection) -> None:
    for number in range(12):
        first = added(store, at(number, -0.003 * number))
    again = added(store, at(11, -0.003 * 11))
    assert (again.evidence, again.commits, again.is_new) == (first.evidence, 12, False)
    other_weights = added(store, at(11, -0.5, weights="trained on another machine"))
    assert (other_weights.evidence, other_weights.commits) == (first.evidence, 12)


def test_weights_that_are_known_are_no_new_evidence(store: Connection) -> None:
    """Fifty commits that change nothing but texts of the documentation."""
    for number in range(12):
        first = added(store, at(number, -0.001 * number))
    for number in range(12, 60):
        again = added(store, at(number, -0.011, weights="weights-11"))
    assert (again.evidence, again.commits) == (first.evidence, 12)


def test_the_baselines_own_weights_are_no_member_of_the_series(store: Connection) -> None:
    state = added(store, at(0, 0.0, weights="weights of the baseline"))
    assert (state.commits, state.is_new, state.evidence) == (0, False, 0.0)
    assert reader.watched(store, "series") == []


def test_without_git_weights_alone_count(store: Connection) -> None:
    assert added(store, at(0, 0.0, git_commit=None)).commits == 1
    assert added(store, at(1, 0.0, git_commit=None)).commits == 2
    assert added(store, at(1, 0.0, git_commit=None)).commits == 2


def test_the_more_models_are_watched_the_more_an_alarm_needs(store: Connection) -> None:
    one = added(store, at(0, 0.0))
    both = added(store, at(1, 0.0), at(1, 0.0, series="another", model_id="full"))
    assert (one.alarm_at, both.alarm_at) == (1000.0, 2000.0)


def test_worse_is_negative_whatever_the_metric() -> None:
    better, worse = (_outcomes([0, 1, 1, 0], scores) for scores in ([0.1, 0.9, 0.8, 0.2], [0.4, 0.9, 0.3, 0.2]))
    for metric in ("accuracy", "log_loss"):
        assert watch._gap(metric, [worse], [better]) < 0 < watch._gap(metric, [better], [worse])


# The command


def watched(world: World, name: str = "main") -> Any:
    return world.command("baseline", "watch", name, world.suite, "--json")


def git(world: World, *words: str) -> None:
    who = ["-c", "user.name=me", "-c", "user.email=me@localhost"]
    subprocess.run(["git", *who, *words], cwd=world.root, check=True, capture_output=True)


def test_a_commit_that_trains_other_weights_is_recorded_once(world: World) -> None:
    git(world, "init")
    git(world, "add", "suites/made-up.toml")
    git(world, "commit", "-m", "first")
    assert world.command("baseline", "set", "main", world.suite, "--model", "tiny-full").exit_code == 0
    (first,) = json.loads(watched(world).stdout)["series"]
    assert (first["model"], first["commits"], first["value"]) == ("tiny-full", 0, 0.0)  # these are the baseline's own
    world.edit("epochs = 8, learning_rate = 2e-3", "epochs = 2, learning_rate = 1e-3")
    git(world, "commit", "-a", "-m", "second")
    assert world.evaluate("--model", "tiny-full").exit_code == 0
    result = watched(world)
    assert result.exit_code == 0
    (second,) = json.loads(result.stdout)["series"]
    assert (second["commits"], second["is_new"], second["alarm_at"]) == (1, True, 1000.0)
    assert second["value"] < 0
    (again,) = json.loads(watched(world).stdout)["series"]
    assert again == {**second, "is_new": False}
    shown = world.command("baseline", "watch", "main", world.suite).stdout
    assert "No lasting fall" in shown
    assert "Nothing new was recorded of tiny-full on test" in shown
    assert "uncommitted" not in watched(world).stderr
    world.edit('name = "made-up"', 'name = "made-up"  # edited')
    assert "there are uncommitted changes" in watched(world).stderr


def test_an_alarm_ends_with_exit_code_1_and_names_the_commit(world: World) -> None:
    assert world.command("baseline", "set", "main", world.suite, "--model", "tiny-full").exit_code == 0
    series = _series(world)
    with opened(world.db) as connection:  # what thirty commits left behind
        for number in range(30):
            one = at(number, -0.003 * number, series=series, model_id="tiny-full")
            writer.write_watched(connection, [replace(one, position=number)])
    result = world.command("baseline", "watch", "main", world.suite)
    assert result.exit_code == 1
    assert "tiny-full on test has fallen for good, most likely since commit 0000" in " ".join(result.stdout.split())


def test_what_cannot_be_watched_says_why_and_records_nothing(world: World) -> None:
    result = watched(world, "nothing")
    assert result.exit_code == 2
    assert "no baseline 'nothing'" in result.stderr
    world.command("baseline", "set", "main", world.suite, "--model", "tiny-full")
    world.edit("epochs = 8, learning_rate = 2e-3", "epochs = 3, learning_rate = 2e-3")
    result = watched(world)
    assert result.exit_code == 2
    assert "nothing can be watched" in result.stderr
    assert "adapter 'full' seed 1 has not been trained yet" in result.stderr


def _series(world: World) -> str:
    """The name of the one series, as the command makes it."""
    from harness.gates import baseline_file
    from harness.suite.load import load

    suite = load(world.suite)
    kept = baseline_file.read(baseline_file.path_of(world.suite, "main"), suite.name)
    own = watch._series(suite, ("tiny-full", "test"), kept.runs[0].split_digest, kept.runs)
    of_other_rows = watch._series(suite, ("tiny-full", "test"), "other rows", kept.runs)
    set_anew = [replace(run, run_id="another") for run in kept.runs]
    of_other_baseline = watch._series(suite, ("tiny-full", "test"), kept.runs[0].split_digest, set_anew)
    assert len({own, of_other_rows, of_other_baseline}) == 3, "their values cannot be compared"
    return own
