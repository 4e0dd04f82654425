"""The workflows that are ready to copy, held against the code: sessions, verbs, permissions, releases of actions."""

import ast
import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from harness import cli

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted(path for path in (ROOT / ".github" / "workflows").glob("*.yml") if path.name != "comment.yml")
"""The workflows that run the project's code."""
EVALUATE = ROOT / ".github" / "workflows" / "evaluate.yml"
COMMENT = ROOT / ".github" / "workflows" / "comment.yml"
ACTION = ROOT / "action.yml"
COMMAND: Any = typer.main.get_command(cli.app)


def read(path: Path) -> dict[str, Any]:
    """A workflow. YAML 1.1 takes the key `on` for true."""
    loaded: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    loaded["on"] = loaded.pop(True)
    return loaded


def steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps of all jobs."""
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def commands(workflow: dict[str, Any]) -> list[list[str]]:
    """What the steps run, as words, with the workflow's own variables in their places."""
    found = []
    for line in "\n".join(step.get("run", "") for step in steps(workflow)).splitlines():
        for name, value in workflow.get("env", {}).items():
            line = line.replace(f"${name}", value)
        found.append(shlex.split(line))
    return [words for words in found if words]


def arguments(words: list[str]) -> list[str]:
    """What follows `--`."""
    return words[words.index("--") + 1 :] if "--" in words else []


def sessions() -> set[str]:
    """The functions of the noxfile that are sessions."""
    return {
        node.name
        for node in ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and any("nox.session" in ast.unparse(d) for d in node.decorator_list)
    }


def test_there_is_a_workflow_that_evaluates() -> None:
    assert "evaluate.yml" in [path.name for path in WORKFLOWS]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_only_what_exists(path: Path) -> None:
    workflow = read(path)
    ran = commands(workflow)
    assert ["python", "-m", "pip", "install", "nox"] in ran
    for words in ran:
        if words[:2] == ["nox", "-s"]:
            asked = words[2 : words.index("--")] if "--" in words else words[2:]
            assert asked
            assert set(asked) <= sessions()
        elif words[0] == "harness":
            COMMAND.commands[words[1]].make_context(words[1], words[2:]).close()
        else:
            assert words[0] in ("python", "cat")


def test_what_the_evaluation_passes_on_is_what_the_command_line_takes() -> None:
    ran = {words[2]: arguments(words) for words in commands(read(EVALUATE)) if words[0] == "nox"}
    assert list(ran) == ["evaluate", "gate"]
    (suite,) = ran["evaluate"]
    assert (ROOT / suite).is_file()
    taken = COMMAND.commands["gate"].make_context("gate", ran["gate"]).params
    assert (taken["suite_path"], taken["junit"]) == (Path(suite), Path("junit/gates.xml"))
    shown = [step["run"] for step in steps(read(EVALUATE)) if "GITHUB_STEP_SUMMARY" in step.get("run", "")]
    assert shown == [f'cat {taken["summary"]} >> "$GITHUB_STEP_SUMMARY"']
    assert any(step.get("with", {}).get("path") == str(taken["summary"]) for step in steps(read(EVALUATE)))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_only_read_and_pins_the_major_release_of_each_action(path: Path) -> None:
    workflow = read(path)
    publishes = path.name == "pages.yml"
    assert workflow["permissions"] == {"contents": "read"}
    granted = {name: job["permissions"] for name, job in workflow["jobs"].items() if "permissions" in job}
    assert granted == ({"publish": {"pages": "write", "id-token": "write"}} if publishes else {})
    assert set(workflow["on"]) == ({"workflow_dispatch", "push"} if publishes else {"pull_request", "push"})
    assert workflow["on"]["push"] == {"branches": ["main"]}
    assert ("github.ref" in workflow["concurrency"]["group"]) != publishes
    for step in steps(workflow):
        assert re.fullmatch(r"actions/[a-z/-]+@v\d+", step.get("uses", "actions/none@v0"))
        assert set(step) <= {"name", "id", "if", "uses", "with", "run"}


def test_what_is_published_was_held_to_the_store_and_by_a_job_that_runs_none_of_our_code() -> None:
    jobs = read(ROOT / ".github/workflows/pages.yml")["jobs"]
    built = [step.get("run") or step["uses"].partition("@")[0] for step in jobs["build"]["steps"]]
    assert built[-2:] == ['nox -s site -- "$SUITE" --check', "actions/upload-pages-artifact"]
    assert jobs["build"]["steps"][-1]["with"]["path"] == "site/"
    assert jobs["publish"]["needs"] == "build"
    assert [step["uses"].partition("@")[0] for step in jobs["publish"]["steps"]] == ["actions/deploy-pages"]


def test_runs_are_kept_and_results_uploaded_although_a_gate_is_red() -> None:
    found = steps(read(EVALUATE))
    named = {(step.get("uses") or step["run"]).partition("@")[0]: step for step in found}
    restored, saved = named["actions/cache/restore"], named["actions/cache/save"]
    assert restored["with"]["path"] == saved["with"]["path"] == "runs"
    assert restored["with"]["key"].startswith(restored["with"]["restore-keys"])
    assert saved["with"]["key"] == f"${{{{ steps.{restored['id']}.outputs.cache-primary-key }}}}"
    uploaded = {
        step["with"]["name"]: step["with"]["path"] for step in found if "upload-artifact" in step.get("uses", "")
    }
    assert {name: path.split() for name, path in uploaded.items()} == {
        "board-and-gates": ["site/", "junit/"],
        "gates-summary": ["gates.md"],
    }
    late = found[found.index(next(step for step in found if "nox -s gate" in step.get("run", ""))) :]
    assert all("!cancelled()" in step["if"] for step in late)


def test_only_the_job_that_runs_no_code_of_the_pull_request_may_write_comments() -> None:
    workflow = read(COMMENT)
    assert workflow["permissions"] == {"contents": "read"}
    (job,) = workflow["jobs"].values()
    assert job["permissions"] == {"actions": "read", "pull-requests": "write"}
    assert "head_repository.full_name == github.repository" in job["if"]
    assert [step.get("uses", "").partition("@")[0] for step in job["steps"]] == ["actions/download-artifact", ""]
    assert workflow["on"]["workflow_run"]["workflows"] == [read(EVALUATE)["name"]]
    (summary,) = [step["with"]["name"] for step in job["steps"] if "with" in step]
    assert summary in [step.get("with", {}).get("name") for step in steps(read(EVALUATE))]


def action() -> dict[str, Any]:
    """The composite action."""
    loaded: dict[str, Any] = yaml.safe_load(ACTION.read_text(encoding="utf-8"))
    return loaded


def action_step(name: str) -> dict[str, Any]:
    """The step of the action whose name begins so."""
    (found,) = [step for step in action()["runs"]["steps"] if step.get("name", "").startswith(name)]
    return dict(found)


def test_the_action_pins_what_it_uses_and_puts_nothing_that_others_write_into_a_script() -> None:
    made = action()
    assert made["runs"]["using"] == "composite"
    for step in made["runs"]["steps"]:
        assert re.fullmatch(r"actions/[a-z/-]+@v\d+", step.get("uses", "actions/none@v0"))
        assert ("run" in step) == (step.get("shell") == "bash")
        assert "${{" not in step.get("run", ""), "values reach a script as variables"
    pinned = {step["uses"] for step in steps(read(EVALUATE)) if "uses" in step}
    assert {step["uses"] for step in made["runs"]["steps"] if "uses" in step} <= pinned


def test_the_action_installs_what_evaluating_needs_at_the_tested_releases() -> None:
    words = shlex.split(action_step("Install the harness")["run"].splitlines()[-1])
    assert words[-3:] == ["--constraint", "$ACTION/constraints.txt", "$ACTION[models]"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "models" in project["optional-dependencies"]
    assert "harness" in project["scripts"]


def test_the_action_comments_only_where_it_is_asked_to_and_never_for_a_fork() -> None:
    assert action()["inputs"]["comment"]["default"] == "false"
    assert action()["inputs"]["suite"]["required"] is True
    condition = action_step("Write the comment")["if"]
    assert "inputs.comment == 'true'" in condition
    assert "github.event.pull_request.head.repo.full_name == github.repository" in condition
    with_token = [step for step in action()["runs"]["steps"] if "github-token" in str(step)]
    assert with_token == [action_step("Write the comment")], "no other step has the token"


HARNESS = """#!/bin/sh
# A made-up `harness`, which notes its arguments and fails a gate.
echo "$@" >> "$CALLS"
[ "$1" = evaluate ] || { echo "0 of 1 rules pass" >> gates.md; exit 1; }
"""


def test_the_action_evaluates_and_judges_with_what_the_command_line_takes(tmp_path: Path) -> None:
    harness, calls = tmp_path / "harness", tmp_path / "calls"
    harness.write_text(HARNESS)
    harness.chmod(0o755)
    (tmp_path / "gates.md").write_text("of an earlier job\n")
    names = {
        "PATH": os.environ["PATH"],
        "HARNESS": str(harness),
        "CALLS": str(calls),
        "SUITE": "suites/my suite; id.toml",
    }
    codes = [
        subprocess.run(
            ["bash", "-e", "-c", action_step(name)["run"]], cwd=tmp_path, env=names, check=False, timeout=30
        ).returncode
        for name in ("Train and score", "Judge the gates")
    ]
    assert codes == [0, 1], "a gate that fails fails the step"
    assert (tmp_path / "gates.md").read_text() == "0 of 1 rules pass\n"
    assert calls.read_text().splitlines() == [
        "evaluate suites/my suite; id.toml",
        "gate suites/my suite; id.toml --junit junit/gates.xml --summary gates.md",
    ]
    for words in (["evaluate", "x.toml"], ["gate", "x.toml", "--junit", "junit/gates.xml", "--summary", "gates.md"]):
        COMMAND.commands[words[0]].make_context(words[0], words[1:]).close()
    late = action()["runs"]["steps"][action()["runs"]["steps"].index(action_step("Judge the gates")) :]
    assert all("!cancelled()" in step["if"] for step in late), "judged, kept and shown although a run errored"


def test_the_documentation_uses_the_action_with_inputs_that_it_has() -> None:
    text = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    (block,) = [block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "adapter-harness" in block]
    (job,) = yaml.safe_load(block)["jobs"].values()
    assert job["permissions"] == {"contents": "read", "pull-requests": "write"}
    (used,) = [step for step in job["steps"] if "adapter-harness" in step["uses"]]
    assert set(used["with"]) <= set(action()["inputs"])


GH = """#!/bin/sh
# A made-up `gh`, which notes its arguments and the body that it is given.
echo "$@" >> "$CALLS"
case "$*" in
    *PATCH*|*POST*) cp comment.md "$CALLS.body" ;;
    *) [ -z "$KNOWN" ] || printf '%s\\n' $KNOWN ;;
esac
"""


@pytest.mark.parametrize(
    ("known", "written"),
    [
        ("", "api --method POST repos/us/ours/issues/7/comments --field body=@comment.md"),
        ("41 42", "api --method PATCH repos/us/ours/issues/comments/41 --field body=@comment.md"),
    ],
)
def test_the_comment_is_written_once_and_then_renewed(known: str, written: str, tmp_path: Path) -> None:
    (step,) = [step for step in steps(read(COMMENT)) if "run" in step]
    assert action_step("Write the comment")["run"] == step["run"], "the action writes it in the same way"
    (tmp_path / "bin").mkdir()
    gh = tmp_path / "bin" / "gh"
    gh.write_text(GH)
    gh.chmod(0o755)
    (tmp_path / "gates.md").write_text("6 of 6 rules pass" + "." * 100_000)
    calls = tmp_path / "calls"
    names = {"REPOSITORY": "us/ours", "PULL_REQUEST": "7", "KNOWN": known, "CALLS": str(calls)}
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    subprocess.run(["bash", "-e", "-c", step["run"]], cwd=tmp_path, env={"PATH": path, **names}, check=True, timeout=30)
    asked, done = calls.read_text().splitlines()
    assert asked.startswith("api --paginate repos/us/ours/issues/7/comments --jq")
    assert done == written
    body = (tmp_path / "calls.body").read_text()
    assert body.startswith("<!-- harness: gates -->\n6 of 6 rules pass")
    assert len(body) < 65_536, "the most that a comment may have"
