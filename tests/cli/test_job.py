"""Several verbs in one process: what fails is named at the end, and what is not valid ends it at once."""

from pathlib import Path

import pytest

from harness.cli import job
from tests.worlds import World


def test_a_red_gate_is_on_the_site_and_named_at_the_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.edit('metric = "accuracy"\nmin = ', 'metric = "accuracy"\nmin = 0.9999  # ')
    monkeypatch.setenv("HARNESS_DB", str(world.db))
    monkeypatch.chdir(world.db.parent)
    assert job.run([str(world.suite)]) == [f"gate {world.suite}"]
    assert (world.db.parent / "site" / "index.html").is_file()


def test_a_suite_that_is_not_valid_ends_it_before_anything_is_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        job.run([str(tmp_path / "absent.toml")])
    assert end.value.code == 2
    assert "absent.toml" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
