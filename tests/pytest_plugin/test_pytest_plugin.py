"""`pytest suites/made-up.toml`, as people and CI call it: real pytest processes in a fresh folder."""

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.pytest_plugin.items import judge_once, store_of
from harness.store.connection import opened
from harness.suite.load import load

pytestmark = pytest.mark.slow

RESOURCES = Path(__file__).parents[1] / "resources"
MODELS = """
[[model]]
id = "majority"
backend = "majority"
train_split = "train"

[[model]]
id = "tfidf"
backend = "tfidf"
train_split = "train"
ngram_range = [1, 2]
sublinear_tf = true
C = 10.0

[[metric]]
name = "accuracy"
"""


def gate(model: str, rule: str, on_inconclusive: str) -> str:
    """A gate on the test split."""
    return (
        f'\n[[gate]]\nmodel = "{model}"\nsplit = "test"\nmetric = "accuracy"\n{rule}\n'
        f'on_inconclusive = "{on_inconclusive}"\n'
    )


GATES = (
    gate("tfidf", "min = 0.5", "fail"),
    gate("tfidf", "max = 0.2", "fail"),
    gate("majority", "min = 0.5", "warn"),
    gate("majority", "max = 0.5", "fail"),
)
PASSES, FAILS, WARNS, BLOCKS = (
    "tfidf on test: accuracy >= 0.5",
    "tfidf on test: accuracy <= 0.2",
    "majority on test: accuracy >= 0.5",
    "majority on test: accuracy <= 0.5",
)
ID = "suites/made-up.toml::"


@dataclass(frozen=True)
class Done:
    """What a call of pytest came to."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Of stdout."""
        return self.out.splitlines()


@dataclass(frozen=True)
class Project:
    """A folder with a suite, and an index that serves its rows."""

    folder: Path
    index_url: str

    @property
    def suite(self) -> Path:
        return self.folder / "suites" / "made-up.toml"

    @property
    def db(self) -> Path:
        return self.folder / "runs" / "harness.duckdb"

    def pytest(self, *words: object, **environment: str) -> Done:
        """Call pytest in the folder, in a process of its own."""
        ours = ("PYTEST_", "HARNESS_", "SLIPCOVER_", "PIP_")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        index = {"PIP_INDEX_URL": self.index_url, "PIP_EXTRA_INDEX_URL": ""}
        done = subprocess.run(
            # Hypothesis' plugin takes a second to load, in each process, and has no part in this.
            [sys.executable, "-m", "pytest", "-p", "no:hypothesispytest", *map(str, words)],
            cwd=self.folder,
            env=inherited | index | {"COLUMNS": "300"} | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def count(self, table: str) -> int:
        """Rows of a table of the store."""
        with opened(self.db, read_only=True) as connection:
            ((rows,),) = connection.execute(f"SELECT count(*) FROM {table}").fetchall()  # noqa: S608 (a test's word)
        return int(rows)


def written(folder: Path, index: Any) -> Project:
    """A project whose suite has two quick models, and a gate for each way that one can end."""
    project = Project(folder, index.url)
    project.suite.parent.mkdir()
    head = (RESOURCES / "made_up_suite.toml").read_text().replace("@SHA256@", index.sha256).split("[[base]]")[0]
    project.suite.write_text(head + MODELS + "".join(GATES))
    return project


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory, index: Any) -> tuple[Project, Done, Path]:
    """A project in which warnings are errors, what the first call came to there, and the JUnit file that it wrote."""
    project = written(tmp_path_factory.mktemp("project"), index)
    strict = 'filterwarnings = ["error"]\naddopts = ["--strict-config", "--strict-markers"]\nxfail_strict = true\n'
    (project.folder / "pytest.toml").write_text("[pytest]\n" + strict)
    junit = project.folder / "out" / "junit.xml"
    # Here Python warns of every file that some library opens without an encoding: an evaluation is full of them.
    noisy = {"PYTHONWARNDEFAULTENCODING": "1"}
    return project, project.pytest("suites/made-up.toml", "-v", "-rA", "--junitxml", junit, **noisy), junit


@pytest.fixture
def project(evaluated: tuple[Project, Done, Path]) -> Project:
    """One that is evaluated already."""
    return evaluated[0]


@pytest.fixture
def fresh(tmp_path: Path, index: Any) -> Project:
    """One where nothing is evaluated."""
    return written(tmp_path, index)


def test_in_a_fresh_folder_the_suite_is_evaluated_and_each_rule_reported(evaluated: tuple[Project, Done, Path]) -> None:
    project, done, _ = evaluated
    assert done.code == 1, done.out + done.err
    reported = [line.rpartition(" [")[0].rstrip() for line in done.lines if line.startswith(ID) and line[-2:] == "%]"]
    assert [line.partition(" (")[0] for line in reported] == [
        f"{ID}{PASSES} PASSED",
        f"{ID}{FAILS} FAILED",
        f"{ID}{WARNS} XFAIL",
        f"{ID}{BLOCKS} FAILED",
    ]
    assert "2 failed, 1 passed, 1 xfailed" in done.lines[-1]
    assert (project.count("run"), project.count("verdict")) == (2, 4)


def test_a_rule_that_fails_says_why_with_its_numbers_and_without_a_traceback(
    evaluated: tuple[Project, Done, Path],
) -> None:
    done = evaluated[1]
    shown = {FAILS: "FAILED", BLOCKS: "FAILED", WARNS: "XFAIL"}
    for rule, word in shown.items():
        (line,) = [line for line in done.lines if line.startswith(f"{word} {ID}{rule} - ")]
        assert re.search(r" [01]\.\d{3} \[0\.\d{3}, [01]\.\d{3}\], n \d+, limit 0\.[25]", line), line
        assert ("inconclusive: " in line) == (rule != FAILS)
    for word in ("Traceback", "pytest_items", "judge_once", "def runtest"):
        assert word not in done.out + done.err


def test_the_progress_of_an_evaluation_is_seen_while_it_runs(evaluated: tuple[Project, Done, Path]) -> None:
    assert "tfidf on test: " in evaluated[1].err
    assert "Captured" not in evaluated[1].out


def test_pytests_own_junit_has_the_numbers_as_properties(evaluated: tuple[Project, Done, Path]) -> None:
    cases = ET.parse(evaluated[2]).getroot().findall("testsuite/testcase")
    assert [case.get("name") for case in cases] == [PASSES, FAILS, WARNS, BLOCKS]
    for case in cases:
        numbers = {p.get("name"): p.get("value") for p in case.findall("properties/property")}
        assert {"outcome", "value", "ci_low", "ci_high", "n", "limit"} <= set(numbers)
        assert 0 <= float(numbers["ci_low"] or "nan") <= float(numbers["value"] or "nan") <= 1


def test_rules_can_be_chosen_by_id_and_by_word(project: Project) -> None:
    done = project.pytest(ID + PASSES, ID + WARNS, ID + BLOCKS, "-k", "majority", "-p", "no:cacheprovider")
    assert "1 failed, 1 deselected, 1 xfailed" in done.lines[-1], done.out
    assert done.code == 1


def test_workers_of_xdist_evaluate_once_and_all_report(fresh: Project) -> None:
    done = fresh.pytest("suites/made-up.toml", "-n", "2", "--dist", "each")
    assert "4 failed, 2 passed, 2 xfailed" in done.lines[-1], done.out
    assert fresh.count("run") == 2
    assert fresh.count("verdict") == 4, "one of the two judged, the other read what it came to"


def test_a_second_call_scores_nothing_and_judges_anew_however_xdist_deals_the_rules(project: Project) -> None:
    before = project.count("verdict")
    done = project.pytest("suites/made-up.toml", "-n", "2", "--dist", "load")
    assert "2 failed, 1 passed, 1 xfailed" in done.lines[-1], done.out
    assert "tfidf on test: " not in done.err
    assert (project.count("run"), project.count("verdict")) == (2, before + 4)


def test_collecting_evaluates_nothing_and_imports_nothing_heavy(fresh: Project) -> None:
    (fresh.folder / "conftest.py").write_text(
        "import sys\n"
        "def pytest_sessionfinish():\n"
        "    heavy = {'torch', 'pandas', 'transformers', 'sklearn', 'scipy', 'duckdb', 'numpy'} & set(sys.modules)\n"
        "    print('heavy:', heavy or 'none')\n"
    )
    done = fresh.pytest("suites/made-up.toml", "--collect-only", "-q")
    assert done.code == 0, done.out
    assert done.lines[:4] == [ID + name for name in (PASSES, FAILS, WARNS, BLOCKS)]
    assert "heavy: none" in done.out
    assert not fresh.db.parent.exists()


def test_loading_the_plugin_imports_nothing_heavy_and_no_more_of_the_harness() -> None:
    code = (
        "import sys, pytest\nbefore = set(sys.modules)\nimport harness.pytest_plugin\n"
        "print(sorted(n for n in set(sys.modules) - before if n.partition('.')[0] == 'harness'))\n"
        "print(sorted(n for n in set(sys.modules) - before if '.' not in n and n != 'harness'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours, others = done.stdout.splitlines()
    assert ours == "['harness', 'harness.pytest_plugin']"
    assert not {"torch", "numpy", "pydantic", "duckdb", "typer", "rich", "filelock"} & set(others.split("'"))


def test_a_bad_suite_is_an_error_of_collection_with_every_problem(fresh: Project) -> None:
    fresh.suite.write_text('version = 1\nname = "bad"\ncolour = "red"\n')
    done = fresh.pytest("suites/made-up.toml")
    assert done.code == 2
    assert f"{fresh.suite}:3: colour: unknown key" in done.out
    assert f"{fresh.suite}: split: is required" in done.out
    assert "Traceback" not in done.out
    assert "pytest_items" not in done.out


def test_a_suite_without_gates_has_nothing_to_test(fresh: Project) -> None:
    fresh.suite.write_text(fresh.suite.read_text().split("[[gate]]")[0])
    done = fresh.pytest("suites/made-up.toml")
    assert done.code == 2
    assert f"{fresh.suite}: gate: the suite declares no gates" in done.out


def test_toml_that_is_not_named_is_never_collected(fresh: Project) -> None:
    (fresh.folder / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    (fresh.folder / "test_it.py").write_text("def test_it(): pass\n")
    assert "1 passed" in fresh.pytest(".", "suites").lines[-1]


def test_an_error_of_the_harness_fails_each_rule_with_its_message_and_is_not_tried_again(fresh: Project) -> None:
    words = ("suites/made-up.toml", "-n", "2", "--dist", "each")
    done = fresh.pytest(*words, PIP_INDEX_URL="http://127.0.0.1:1/simple")
    assert done.code == 1
    assert "8 failed" in done.lines[-1]
    assert done.out.count("could not fetch the source distribution made-up==1.0") >= 8
    assert "Traceback" not in done.out + done.err
    assert "pytest_items" not in done.out
    assert not fresh.db.exists()


def test_the_option_names_the_store_and_one_that_cannot_be_made_is_told(project: Project, tmp_path: Path) -> None:
    words = ("suites/made-up.toml", "--harness-db", "suites/made-up.toml/x.duckdb")
    done = project.pytest(*words, HARNESS_DB=str(tmp_path / "not.duckdb"))
    assert "4 failed" in done.lines[-1]
    assert "x.duckdb: cannot be opened as a store (File exists)" in done.out
    assert not (tmp_path / "not.duckdb").exists()


# What the items ask for, in this process


def test_the_store_is_sought_where_pytest_was_called_unless_it_is_named(
    pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HARNESS_DB", raising=False)
    called_from = pytestconfig.invocation_params.dir
    assert store_of(pytestconfig) == called_from / "runs" / "harness.duckdb"
    monkeypatch.setenv("HARNESS_DB", "other/x.duckdb")
    assert store_of(pytestconfig) == called_from / "other" / "x.duckdb"


def test_within_a_session_the_first_judges_and_the_others_read(project: Project, configured: Any) -> None:
    suite = load(project.suite)
    before = project.count("verdict")
    first = judge_once(suite, project.suite, project.db, "one session")
    assert [verdict["outcome"] for verdict in first.values()] == ["pass", "fail", "inconclusive", "inconclusive"]
    assert judge_once(suite, project.suite, project.db, "one session") == first
    assert project.count("verdict") == before + 4
    assert judge_once(suite, project.suite, project.db, "another session").keys() == first.keys()
    assert project.count("verdict") == before + 8


def test_an_error_is_shared_too(fresh: Project, configured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = load(fresh.suite)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    with pytest.raises(HarnessError, match="could not fetch"):
        judge_once(suite, fresh.suite, fresh.db, "one session")
    monkeypatch.setenv("PIP_INDEX_URL", fresh.index_url)
    with pytest.raises(HarnessError, match="could not fetch"):
        judge_once(suite, fresh.suite, fresh.db, "one session")


def test_a_model_that_only_sequential_gates_ask_for_is_not_scored_as_a_whole(fresh: Project) -> None:
    text = fresh.suite.read_text()
    for rule in ("min = 0.5", "max = 0.2"):
        text = text.replace(f"{rule}\n", f"{rule}\nsequential = true\n", 1)
    assert text.count("sequential = true") == 2
    fresh.suite.write_text(text)
    junit = fresh.folder / "junit.xml"
    done = fresh.pytest("suites/made-up.toml", "--junitxml", junit)
    assert "answers; the others were not scored" in done.err + done.out
    assert fresh.count("run") == 1  # of majority; that of tfidf is no run
    assert fresh.count("verdict") == 4
    by_rule = {}
    for case in ET.parse(junit).getroot().findall("testsuite/testcase"):
        by_rule[case.get("name")] = {p.get("name") for p in case.findall("properties/property")}
    assert "units" in by_rule[PASSES] & by_rule[FAILS]
    assert "units" not in by_rule[WARNS] | by_rule[BLOCKS]
