"""A site is rendered again as soon as anything that it is made from has changed, and only then."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.artifacts import digest
from harness.records import Example
from leaderboard.site import render, unchanged
from tests.worlds import World

PAGES: dict[str, str | bytes] = {"index.html": "home", "demo/a.html": "a", "demo/rows.parquet": b"PAR1"}


@pytest.fixture
def standing(tmp_path: Path) -> Callable[[], tuple[str, ...] | None]:
    """A site that was written and kept; whether it still stands."""
    out = tmp_path / "site"
    render.write(PAGES, out)
    unchanged.keep(tmp_path, "inputs", out, PAGES)
    return lambda: unchanged.standing(tmp_path, "inputs", out)


def test_a_site_stands_under_its_own_inputs_alone(standing: Any, tmp_path: Path) -> None:
    assert standing() == tuple(sorted(PAGES))
    assert unchanged.standing(tmp_path, "other inputs", tmp_path / "site") is None
    assert unchanged.standing(tmp_path, "inputs", tmp_path / "elsewhere") is None


@pytest.mark.parametrize("name", [*PAGES, render.MANIFEST])
@pytest.mark.parametrize("change", [lambda path: path.write_text("edited"), Path.unlink])
def test_a_site_with_a_file_that_was_edited_or_removed_does_not_stand(
    standing: Any, tmp_path: Path, name: str, change: Callable[[Path], object]
) -> None:
    change(tmp_path / "site" / name)
    assert standing() is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"inputs": "inputs", "files": 3}', '{"inputs": "inputs"}'])
def test_what_was_kept_and_is_damaged_is_ignored(standing: Any, tmp_path: Path, text: str) -> None:
    (tmp_path / unchanged.NAME).write_text(text)
    assert standing() is None


def test_every_change_of_a_record_is_another_digest(make_split: Any, make_run: Any, make_outcomes: Any) -> None:
    """It differs with a value, its type, the order, and the place where one value ends and the next begins."""
    split, outcomes = make_split(), make_outcomes([0, 1], [0.25, 0.75])
    run = make_run(split, run_id="one")
    example = Example("e", "title", "content", 1, "cluster", "digest", {"column": "value"})
    records: list[Any] = [
        run, replace(run, seed=7), replace(run, finished_at=run.started_at), example, replace(example, cluster=None),
        replace(example, title="titlec", content="ontent"), replace(example, columns={"column": "other"}), outcomes,
        replace(outcomes, scores=np.nextafter(outcomes.scores, 1)), replace(outcomes, labels=outcomes.labels[::-1]),
        replace(outcomes, labels=outcomes.labels.astype(np.float64)), {"a": 1, "b": 2}, {"b": 2, "a": 1}, [1, [2]],
        [[1], 2], [1, 2], 1, 1.0, True, "1", None, "None", "\ud800", -0.0, 0.0,
    ]  # fmt: skip
    digests = [unchanged.made_from(record) for record in records]
    assert len(set(digests)) == len(records)
    assert [unchanged.made_from(record) for record in copy.deepcopy(records)] == digests


def test_a_record_that_cannot_be_digested_is_an_error() -> None:
    with pytest.raises(TypeError, match="a set has no digest"):
        unchanged.made_from({1, 2})


@pytest.mark.slow
def test_a_second_rendering_draws_nothing_unless_page_store_or_suite_changed(world: World) -> None:
    page = world.root / "site" / "made-up" / "tiny-full.html"

    def changed() -> int:
        made = world.command("site", world.suite, "--out", world.root / "site", "--json")
        assert made.exit_code == 0, made.stderr
        return int(json.loads(made.stdout)["changed"])

    assert changed() > 10
    assert changed() == 0
    kept = world.root / "runs" / "cache" / unchanged.NAME
    drawn, known = page.read_text(), kept.read_text()
    # Page and kept digest edited together: the page would be drawn anew if anything were.
    page.write_text("edited")
    digests = json.loads(known)
    digests["files"]["made-up/tiny-full.html"] = digest.of_file(page)
    kept.write_text(json.dumps(digests))
    assert changed() == 0
    kept.write_text(known)
    assert (changed(), page.read_text()) == (1, drawn)
    world.edit("max_flips", "# max_flips")
    assert changed() > 0
    world.sql("UPDATE run SET git_commit = 'other'")
    world.reseal()
    assert changed() > 0


IMPORTED = """if True:
    import json, sys
    from harness.cli import main
    for words in json.loads(sys.argv[1]):
        sys.argv = ["harness", *words]
        try:
            main()
        except SystemExit as end:
            assert end.code == 0
    print(sorted({"altair", "pandas", "scipy.stats", "statsmodels"} & sys.modules.keys()), file=sys.stderr)
"""


@pytest.mark.slow
def test_a_gate_and_a_second_rendering_import_nothing_that_takes_a_second(world: World) -> None:
    words = [["gate", world.suite], ["site", world.suite, "--out", world.root / "site"]]
    for verb in words:
        assert world.command(*verb).exit_code == 0
    typed = json.dumps([[*map(str, verb), "--db", str(world.db)] for verb in words])
    done = subprocess.run([sys.executable, "-c", IMPORTED, typed], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]", done.stderr
    assert ", 0 changed" in done.stdout
