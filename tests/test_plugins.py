"""Plug-ins: a package that pip installs adds a metric, a backend and a source; each that cannot be used is named."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from harness.artifacts import plugins
from harness.data import SOURCES
from harness.models import BACKENDS
from harness.store.connection import opened
from harness.suite.models import BACKEND_NAMES
from harness.suite.splits import SOURCE_NAMES
from tests import processes
from tests.test_docs import CONTRIBUTING, blocks

pytestmark = pytest.mark.slow


def test_a_folder_below_the_one_of_the_call_is_no_place_of_plug_ins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unpacked archive could hold a folder that has the name of a relative place on the search path."""
    planted = tmp_path / "relative" / "planted-1.0.dist-info"
    planted.mkdir(parents=True)
    (planted / "METADATA").write_text("Metadata-Version: 2.1\nName: planted\nVersion: 1.0\n")
    (planted / "entry_points.txt").write_text("[adapter_harness.metrics]\nplanted = os:getcwd\n")
    monkeypatch.chdir(tmp_path)
    for place, expected in (("relative", False), (str(tmp_path / "relative"), True)):
        plugins._entries.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "path", [place, *sys.path])
            assert ("planted" in plugins.names("metric")) == expected
    plugins._entries.cache_clear()


SUITE = """
version = 1
name = "plugged"
description = "A metric, a backend and a source of a package"
primary_metric = "balanced_accuracy"

[text]
template = "{content}"
max_length = 32
store = true

[[split]]
id = "train"
source = "counted"
params = { rows = 60 }
share = { seed = 1, start = 0.0, stop = 0.5 }

[[split]]
id = "test"
source = "counted"
params = { rows = 60 }
share = { seed = 1, start = 0.5, stop = 1.0 }

[[model]]
id = "loud"
backend = "exclamations"
params = { weight = 0.3 }

[[model]]
id = "majority"
backend = "majority"
train_split = "train"

[[metric]]
name = "balanced_accuracy"

[[metric]]
name = "accuracy"

[[gate]]
model = "loud"
split = "test"
metric = "balanced_accuracy"
min = 0.01
on_inconclusive = "fail"
"""
INSTALL = (
    sys.executable,
    "-m",
    "pip",
    "install",
    "-q",
    "--no-deps",
    "--no-index",
    "--no-build-isolation",
    "--no-compile",
)


def install(folder: Path, project: str, module: str, name: str = "harness_words") -> Path:
    """Let pip install a project of one module into a folder for PYTHONPATH."""
    sources = folder / "sources" / name
    shutil.rmtree(sources, ignore_errors=True)
    sources.mkdir(parents=True)
    (sources / "pyproject.toml").write_text(project)
    (sources / f"{name}.py").write_text(module)
    target = folder / "installed"
    subprocess.run([*INSTALL, "--upgrade", "--target", str(target), str(sources)], check=True)
    return target


def documented() -> tuple[str, str]:
    """The package of CONTRIBUTING.md: its pyproject.toml and its module."""
    (project,) = blocks(CONTRIBUTING, "toml")
    return project.text, "\n\n".join(block.text for block in blocks(CONTRIBUTING, "python"))


@pytest.fixture(scope="module")
def documented_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documented package, installed; not to be changed."""
    return install(tmp_path_factory.mktemp("documented"), *documented())


def run(commands: Sequence[Sequence[object]], *installed: Path, **environment: str) -> processes.Done:
    """Commands in a process that finds these folders."""
    path = os.pathsep.join(map(str, [*installed, *filter(None, [os.environ.get("PYTHONPATH")])]))
    return processes.run(commands, {**os.environ, "PYTHONPATH": path, **environment})


def test_the_backends_and_sources_that_suites_may_name_are_those_of_the_tables() -> None:
    assert set(BACKEND_NAMES) == set(BACKENDS)
    assert set(SOURCE_NAMES) == set(SOURCES)


def test_the_documented_package_is_validated_evaluated_judged_and_shown(
    documented_package: Path, tmp_path: Path
) -> None:
    suite, db, site = tmp_path / "plugged.toml", tmp_path / "runs" / "harness.duckdb", tmp_path / "site"
    suite.write_text(SUITE)
    commands = [
        ["validate", suite],
        ["data", suite, "--db", db],
        ["evaluate", suite, "--db", db, "--workers", "1", "--json"],
        ["gate", suite, "--db", db],
        ["site", suite, "--db", db, "--out", site],
    ]
    done = run(commands, documented_package)
    assert done.codes == [0] * 5, done.err.decode()
    with opened(db, read_only=True) as store:
        ((spec, origin, value),) = store.execute(
            """SELECT spec, origin, value FROM run JOIN metric USING (run_id)
               WHERE model_id = 'loud' AND name = 'balanced_accuracy'"""
        ).fetchall()
        rows = store.execute(
            """SELECT label, predicted FROM run JOIN prediction USING (run_id) JOIN example
               ON example.digest = run.split_digest AND example.example_id = prediction.example_id
               WHERE model_id = 'loud'"""
        ).fetchall()
        ((source,),) = store.execute("SELECT source FROM split WHERE split_id = 'test'").fetchall()
        ((built_in,),) = store.execute("SELECT DISTINCT origin FROM metric WHERE name = 'accuracy'").fetchall()
    plugin = json.loads(spec)["plugin"]
    assert (plugin["distribution"], plugin["version"]) == ("harness-words", "0.1")
    assert origin == f"harness-words 0.1, code {plugin['code'][:12]}"
    assert json.loads(source)["plugin"] == plugin
    assert built_in is None
    assert value == pytest.approx(balanced_accuracy_score(*np.array(rows).T), abs=1e-12)
    page = (site / "plugged" / "loud.html").read_text()
    assert "harness-words 0.1" in page
    assert "balanced_accuracy" in (site / "index.html").read_text()


def test_another_release_of_a_plug_in_is_scored_again_and_its_metric_computed_again(tmp_path: Path) -> None:
    project, module = documented()
    suite, db = tmp_path / "plugged.toml", tmp_path / "runs" / "harness.duckdb"
    suite.write_text(SUITE)
    evaluate = ["evaluate", suite, "--db", db, "--workers", "1", "--json"]
    show = ["site", suite, "--db", db, "--out", tmp_path / "site"]

    def primary(done: processes.Done) -> dict[str, Any]:
        return {row["model"]: row["value"] for row in json.loads(done.out)["results"]}

    first = run([evaluate], install(tmp_path, project, module))
    assert first.codes == [0], first.err.decode()
    changed = module.replace("for one in of_class) / 2", "for one in of_class) / 4")
    installed = install(tmp_path, project.replace("0.1", "0.2"), changed)
    stale = run([["gate", suite, "--db", db]], installed)
    assert stale.codes == [1]
    assert b"stale: it was last scored with another plugin.code, plugin.version" in stale.out + stale.err
    second = run([evaluate], installed)
    assert second.codes == [0], second.err.decode()
    assert run([show], installed).codes == [0]
    summary = json.loads(second.out)
    assert primary(first)["majority"] == 2 * {row["model"]: row["value"] for row in summary["results"]}["majority"]
    assert (summary["scored"], summary["reused"]) == (1, 1)
    page = (tmp_path / "site" / "plugged" / "majority.html").read_text()
    assert "0.250" in page  # of the very run whose stored value is 0.5


BROKEN = """
[project]
name = "harness-{name}"
version = "2.0"

[project.entry-points]
"adapter_harness.metrics" = {{ {metric} = "harness_{name}:it" }}
"adapter_harness.backends" = {{ {backend} = "harness_{name}:it" }}
"adapter_harness.sources" = {{ {source} = "harness_{name}:it" }}
"""
NAMES = {"metric": "balanced_accuracy", "backend": "exclamations", "source": "counted"}
BUILT_IN = {"metric": "accuracy", "backend": "majority", "source": "file"}


def refused(suite: Path, *installed: Path) -> str:
    """What is printed when a suite is validated and evaluated; both must be refused, and nothing stored."""
    db = suite.with_name("absent.duckdb")
    done = run([["validate", suite], ["evaluate", suite, "--db", db]], *installed)
    assert done.codes == [2, 2]
    assert b"Traceback" not in done.err
    assert not db.exists()
    return done.err.decode()


def test_a_plug_in_that_is_not_installed_is_named_with_the_known_ones(tmp_path: Path) -> None:
    suite = tmp_path / "plugged.toml"
    suite.write_text(SUITE)
    found = refused(suite)
    for kind, name in NAMES.items():
        assert f"there is no {kind} {name!r}" in found
    assert found.count("if a package adds it, install that package") == found.count("there is no ")


def test_a_plug_in_that_cannot_be_imported_is_refused_before_anything_is_scored(tmp_path: Path) -> None:
    suite = tmp_path / "plugged.toml"
    suite.write_text(SUITE)
    found = refused(suite, install(tmp_path, BROKEN.format(name="broken", **NAMES), "1 / 0", "harness_broken"))
    for kind, name in NAMES.items():
        reason = "(ZeroDivisionError: division by zero); reinstall or repair that package"
        assert f"{kind} {name!r} of package harness-broken 2.0 cannot be imported {reason}" in found


def test_two_plug_ins_of_one_name_are_both_named(documented_package: Path, tmp_path: Path) -> None:
    suite = tmp_path / "plugged.toml"
    suite.write_text(SUITE)
    twin = install(tmp_path, BROKEN.format(name="twin", **NAMES), "it = 1", "harness_twin")
    found = refused(suite, documented_package, twin)
    for kind, name in NAMES.items():
        assert (
            f"package harness-words 0.1 and package harness-twin 2.0 both add {kind} {name!r}; uninstall one" in found
        )


def test_a_plug_in_cannot_replace_what_is_built_in(documented_package: Path, tmp_path: Path) -> None:
    suite, rows = tmp_path / "plugged.toml", 'source = "file"\npath = "a.csv"\nformat = "csv"'
    suite.write_text(SUITE.replace('source = "counted"\nparams = { rows = 60 }', rows))
    shadow = install(tmp_path, BROKEN.format(name="sly", **BUILT_IN), "it = 1", "harness_sly")
    found = refused(suite, documented_package, shadow)
    for kind, name in BUILT_IN.items():
        assert f"{kind} {name!r} is built in, and package harness-sly 2.0 would replace it" in found
