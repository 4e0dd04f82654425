"""A suite's rules as pytest items. The first to run brings the evaluation up to date; all read its verdicts."""

import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from harness.errors import HarnessError, StoreError, SuiteError, for_user
from harness.suite import rules
from harness.suite.load import load
from harness.suite.schema import Suite

Verdicts: TypeAlias = Mapping[str, Mapping[str, Any]]
"""By rule in words: `outcome`, `blocking`, `reason` and `numbers` of its verdict, as JSON values."""


class SuiteFile(pytest.File):
    """A suite, with an item for each of its rules."""

    verdicts: Verdicts | Exception | None = None
    """The verdicts, or the reason why there are none; None before the first item has run."""

    def collect(self) -> Iterator["RuleItem"]:
        """Check the file, without evaluating anything or importing heavy packages."""
        try:
            suite = load(self.path)
        except SuiteError as error:
            raise self.CollectError(str(error)) from None
        if not suite.gate:
            raise self.CollectError(f"{self.path}: gate: the suite declares no gates, so there is nothing to test")
        for rule in rules.of_gates(suite):
            yield RuleItem.from_parent(self, name=rule.gate_id, judge=lambda: self.judge(suite))

    def judge(self, suite: Suite) -> Verdicts:
        """Return the verdicts of this session, judging on the first call."""
        if self.verdicts is None:
            session = getattr(self.config, "workerinput", {}).get(
                "testrunuid"
            )  # of pytest-xdist, the same for all workers
            capture = self.config.pluginmanager.getplugin("capturemanager")
            # An evaluation takes minutes: its progress is shown, not kept for the report. The project's own filters may
            # turn warnings into errors, which must not affect the libraries in here.
            with (
                capture.global_and_fixture_disabled() if capture else nullcontext(),
                warnings.catch_warnings(action="default"),
            ):
                try:
                    self.verdicts = judge_once(suite, self.path, store_of(self.config), session)
                except Exception as problem:  # noqa: BLE001 (every item reports it; the evaluation is not tried again)
                    self.verdicts = problem
        if isinstance(self.verdicts, Exception):
            raise self.verdicts
        return self.verdicts


class RuleItem(pytest.Item):
    """One rule. It passes, fails, or is inconclusive; the suite declares whether that is a failure or an xfail."""

    def __init__(self, *, judge: Callable[[], Verdicts], **of_pytest: Any) -> None:
        super().__init__(**of_pytest)
        self.judge = judge

    def runtest(self) -> None:
        """Report the rule's verdict; its numbers become properties of the test."""
        try:
            verdict = self.judge()[self.name]
        except Exception as error:
            message = str(error) if isinstance(error, HarnessError) else for_user(error)
            if message is None:
                raise
            pytest.fail(message, pytrace=False)
        self.user_properties += [("outcome", verdict["outcome"])]
        self.user_properties += [(name, value) for name, value in verdict["numbers"].items() if value is not None]
        if verdict["outcome"] == "pass":
            return
        prefix = "inconclusive: " if verdict["outcome"] == "inconclusive" else ""
        if verdict["blocking"]:
            pytest.fail(prefix + verdict["reason"], pytrace=False)
        pytest.xfail(prefix + verdict["reason"])

    def reportinfo(self) -> tuple[Path, None, str]:
        """Locate the rule, without a line number, and give its heading in a report."""
        # Not the name alone: pytest shows every dot as `::` in a heading with which a node's id ends.
        return self.path, None, f"{self.path.name}: {self.name}"


def store_of(config: pytest.Config) -> Path:
    """Locate the store, relative to the folder in which pytest was called."""
    named = config.getoption("--harness-db") or os.environ.get("HARNESS_DB") or "runs/harness.duckdb"
    return config.invocation_params.dir / named


def judge_once(suite: Suite, suite_path: Path, db: Path, session: str | None) -> Verdicts:
    """Bring the evaluation up to date and judge it, in one process at a time and once per session.

    Args:
        session: id common to processes that share their verdicts; None for a single process.

    Raises:
        HarnessError: as `harness.evaluate` and `harness.judge`, or as in the first process of the session.
    """
    from filelock import FileLock

    key, shared = str(suite_path.resolve()), Path(f"{db}.pytest.json")
    try:
        db.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{db}.lock")
        lock.acquire()
    except OSError as error:
        raise StoreError(f"{db}: cannot be opened as a store ({error.strerror})") from None
    try:
        known = _read(shared, session)
        if key not in known:
            try:
                known[key] = {"verdicts": _judge(suite, suite_path, db)}
            except HarnessError as error:
                known[key] = {"error": str(error)}
            if session is not None:
                shared.write_text(json.dumps({"session": session, "known": known}), encoding="utf-8")
    finally:
        lock.release()
    if "error" in known[key]:
        raise HarnessError(known[key]["error"])
    found: Verdicts = known[key]["verdicts"]
    return found


def _read(shared: Path, session: str | None) -> dict[str, Any]:
    """Read the results of the first process of this session, by suite."""
    if session is None or not shared.is_file():
        return {}
    kept = json.loads(shared.read_text(encoding="utf-8"))
    known: dict[str, Any] = kept["known"] if kept["session"] == session else {}
    return known


def _judge(suite: Suite, suite_path: Path, db: Path) -> Verdicts:
    from harness import api
    from harness.gates.sequential import only_early
    from harness.output.terminal import Bars, say, say_all
    from harness.provenance import cores

    project, progress = api.Project(suite, suite_path, db), Bars()
    report = api.evaluate(project, without=only_early(suite), workers=cores(), progress=progress)
    say_all(report.warnings, [*report.notes, *report.reasons])
    say(f"scored {len(report.scored)}, already stored {len(report.reused)}, failed {len(report.failed)}")
    judged = api.judge(project, progress=progress)
    say_all(judged.warnings, judged.notes)
    fields = ("outcome", "blocking", "reason", "numbers")
    return {verdict.gate_id: {name: getattr(verdict, name) for name in fields} for verdict in judged.verdicts}
