"""The command line as people meet it: help, exit codes, JSON, errors without tracebacks."""

import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from harness.store.connection import opened
from tests import processes

Command = Callable[..., Any]
QUICKSTART = Path(__file__).parents[2] / "suites" / "quickstart.toml"
VERBS = ["validate", "data", "train", "evaluate", "plan", "gate", "compare", "ls", "show", "site"]


def test_quick_verbs_import_neither_torch_nor_pandas() -> None:
    code = f"""if True:
        import sys
        from harness.cli import app
        heavy = {{"torch", "pandas", "transformers", "sklearn", "scipy", "duckdb", "numpy", "ray"}}
        for words in {[["--help"], ["validate", str(QUICKSTART)], *[[verb, "--help"] for verb in VERBS]]}:
            try:
                app(words)
            except SystemExit as end:
                assert end.code == 0, words
            assert not heavy & set(sys.modules), (words, heavy & set(sys.modules))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_help_answers_at_once() -> None:
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "harness", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    # Processor time, the best of five: what is asked is what it costs, not what else the machine is doing.
    assert min(seconds) < 0.5


def test_a_bad_suite_is_told_whole_and_ends_with_2(harness: Command, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text('version = 1\nname = "bad"\ncolour = "red"\n')
    for verb in ("validate", "data", "train", "evaluate", "gate", "site"):
        result = harness(verb, path)
        assert result.code == 2
        assert f"{path}:3: colour: unknown key" in result.err
        assert f"{path}: split: is required" in result.err
        assert "Traceback" not in result.err


def test_the_command_and_its_workers_run_no_module_of_the_folder_that_it_is_called_in(
    suite_path: Path, configured: Any, tmp_path: Path
) -> None:
    """An unpacked archive may bring files that are named like modules of Python's own. One model, so one worker."""
    ran, called_in = tmp_path / "ran", tmp_path / "unpacked"
    called_in.mkdir()
    for name in ("multiprocessing", "logging", "pip", "numpy", "random"):
        (called_in / f"{name}.py").write_text(f"open({str(ran)!r}, 'a').write({name!r})\nraise SystemExit\n")
    command = Path(sys.executable).with_name("harness")
    words = ["evaluate", str(suite_path), "--model", "majority", "--workers", "2"]
    done = subprocess.run(
        [str(command), *words, "--db", str(tmp_path / "r.duckdb")],
        cwd=called_in,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not ran.exists(), ran.read_text()
    assert done.returncode == 0, done.stderr


def in_a_process(*words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness", *map(str, words)]
    return subprocess.run(command, text=True, check=False, stderr=subprocess.PIPE, **options)


def test_the_release_is_printed(harness: Command) -> None:
    assert harness("--version").out == f"adapter-harness {metadata.version('adapter-harness')}\n"


VERBS_ON_A_SUITE = [
    ["data"], ["train"], ["evaluate"], ["parity"], ["gate"], ["site"], ["compare", "tfidf", "majority"],
    ["plan", "--value", "0.9"], ["baseline", "set", "main"],
]  # fmt: skip


def test_without_its_extra_a_verb_names_it(tmp_path: Path) -> None:
    """As where `pip install adapter-harness` was all: packages of the extra are not found. All verbs in one process."""
    with opened(tmp_path / "r.duckdb"):  # an empty store
        pass
    hidden = ["requests", "pypi_simple", "torch", "transformers", "sklearn", "datasets", "peft", "huggingface_hub"]
    verbs = []
    for words in VERBS_ON_A_SUITE:
        position = 3 if words[0] == "baseline" else 1
        verbs.append([*words[:position], str(QUICKSTART), *words[position:], "--db", str(tmp_path / "r.duckdb")])
    code = f"""if True:
        import sys
        sys.modules |= dict.fromkeys({hidden})
        from harness.cli import main
        for words in {verbs}:
            sys.argv = ["harness", *words]
            try:
                main()
            except SystemExit as end:
                print("ended with", end.code, file=sys.stderr)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Traceback" not in done.stderr
    outcomes = done.stderr.split("ended with ")
    assert [outcome[0] for outcome in outcomes[1:]] == ["2"] * len(verbs)
    for outcome, words in zip(outcomes, VERBS_ON_A_SUITE, strict=False):
        assert outcome.splitlines()[-1].endswith(
            "is not installed, and this needs it: `python -m pip install 'adapter-harness[models]'`"
        ), words


def test_an_output_that_takes_nothing_is_named(evaluated: Path, tmp_path: Path) -> None:
    db = tmp_path / "runs" / "harness.duckdb"
    for words in (["ls", "--json"], ["ls"]):
        with Path("/dev/full").open("w") as full:
            done = in_a_process(*words, "--db", db, stdout=full)
        assert done.returncode == 2
        assert done.stderr.startswith("output: cannot be read or written (No space left on device); make room")
    reading, writing = os.pipe()
    os.close(reading)
    done = in_a_process("ls", "--db", db, stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (2, "the reader of the output closed it before everything was written\n")


def test_an_error_that_nobody_reads_keeps_its_exit_code(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "harness", "ls", "--db", str(tmp_path / "absent.duckdb")]
    done = subprocess.run(command, stdout=writing, stderr=writing, check=False)
    os.close(writing)
    assert done.returncode == 2


def test_places_that_cannot_be_written_are_named_by_every_verb_that_writes(
    harness: Command, evaluated: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "inner"
    for words in (
        ["site", evaluated, "--out", place],
        ["gate", evaluated, "--junit", place / "gates.xml"],
        ["gate", evaluated, "--summary", place / "gates.md"],
        ["store", "export", place / "bundle"],
        ["data", evaluated, "--db", place / "harness.duckdb"],
        ["train", evaluated, "--adapter", "lora", "--workers", "1", "--db", place / "harness.duckdb"],
        ["evaluate", evaluated, "--model", "majority", "--db", place / "harness.duckdb"],
    ):
        result = harness(*words)
        assert (result.code, "Traceback" in result.err) == (2, False), (words, result.err)
        assert str(tmp_path / "file") in result.err, words


def test_validate_tells_of_every_file(harness: Command, suite_path: Path, tmp_path: Path) -> None:
    missing = tmp_path / "none.toml"
    result = harness("validate", suite_path, missing, "--json")
    assert result.code == 2
    assert [entry["ok"] for entry in result.json()] == [True, False]
    assert result.json()[1]["problems"] == [f"{missing}: file: there is no such file"]
    assert harness("validate", suite_path).out == f"{suite_path}: ok\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["evaluate", "--model", "gpt"], "there is no model 'gpt' (known: majority, tfidf,"),
        (["evaluate", "--split", "train"], "there is no split to score 'train' (known: test)"),
        (["evaluate", "--engine", "slurm"], "there is no engine 'slurm' (known: local, ray)"),
        (["train", "--adapter", "qlora"], "there is no adapter to train 'qlora'; did you mean 'lora'? (known: lora"),
    ],
)
def test_an_unknown_name_is_told_with_the_known_ones(
    harness: Command, suite_path: Path, words: list[str], expected: str
) -> None:
    result = harness(words[0], suite_path, *words[1:])
    assert result.code == 2
    assert expected in result.err


def test_without_a_store_the_reader_is_told_what_to_run(harness: Command, suite_path: Path) -> None:
    for words in (["ls"], ["show", "abc"], ["gate", suite_path], ["site", suite_path]):
        result = harness(*words)
        assert result.code == 2
        assert "there is no store here yet; run `harness evaluate SUITE` first" in result.err


def test_no_network_ends_with_2_and_stores_nothing(
    harness: Command, suite_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    result = harness("evaluate", suite_path)
    assert result.code == 2
    assert "could not fetch the source distribution made-up==1.0" in result.err
    assert not (tmp_path / "runs" / "harness.duckdb").exists()


def test_a_held_store_is_told_with_its_holder(harness: Command, evaluated: Path, tmp_path: Path) -> None:
    db = tmp_path / "runs" / "harness.duckdb"
    code = (
        f"import duckdb, sys\nc = duckdb.connect({str(db)!r})\nc.execute('CREATE TABLE IF NOT EXISTS held (i INT)')\n"
        "print('held', flush=True)\nsys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        result = harness("ls")
    finally:
        holder.communicate("")
    assert result.code == 2
    assert f"process {holder.pid} holds this store" in result.err


def test_data_pins_once_and_verifies_after(harness: Command, suite_path: Path) -> None:
    first = harness("data", suite_path, "--json")
    assert first.code == 0
    assert "pinned 2 splits" in first.err
    assert [(row["split"], row["use"]) for row in first.json()] == [("train", "train"), ("test", "test")]
    lock = suite_path.with_suffix(".lock")
    before = lock.read_bytes()
    second = harness("data", suite_path)
    assert (second.code, second.err, lock.read_bytes()) == (0, "", before)
    assert "made-up: splits" in second.out


def test_train_tells_what_it_made(harness: Command, suite_path: Path) -> None:
    result = harness("train", suite_path, "--adapter", "lora", "--workers", "1")
    assert result.code == 0
    assert result.out.count("lora") >= 2
    rows = harness("train", suite_path, "--adapter", "lora", "--workers", "1", "--json").json()
    assert [(row["method"], row["seed"]) for row in rows] == [("lora", 1), ("lora", 2)]
    assert all(Path(row["folder"], "adapter_model.safetensors").is_file() for row in rows)


def test_gate_ends_with_1_when_a_rule_fails_and_stores_the_verdict(
    harness: Command, evaluated: Path, tmp_path: Path
) -> None:
    passed = harness("gate", evaluated, "--json")
    assert (passed.code, passed.json()[0]["outcome"]) == (0, "pass")
    evaluated.write_text(evaluated.read_text().replace("min = 0.5", "max = 0.2"))
    failed = harness("gate", evaluated)
    assert failed.code == 1
    assert re.search(r"tfidf on test\nfail +accuracy <= 0\.2 ", failed.out)
    assert "Gates: fail (1 failed)" in failed.out
    assert failed.out.splitlines()[-1].startswith("next: harness ")
    with opened(tmp_path / "runs" / "harness.duckdb", read_only=True) as connection:
        stored = connection.execute("SELECT outcome FROM verdict ORDER BY judged_at").fetchall()
    assert stored == [("pass",), ("fail",)]


def test_a_gate_on_a_model_that_was_not_scored_fails(harness: Command, evaluated: Path) -> None:
    evaluated.write_text(evaluated.read_text().replace('model = "tfidf"\nsplit', 'model = "probe"\nsplit'))
    result = harness("gate", evaluated, "--json")
    assert result.code == 1
    assert result.json()[0]["reason"] == "probe on test has no run in the store; evaluate the suite first"


def test_a_gate_on_a_run_of_another_declaration_is_stale_and_fails(harness: Command, evaluated: Path) -> None:
    evaluated.write_text(evaluated.read_text().replace("C = 10.0", "C = 1.0"))
    result = harness("gate", evaluated, "--json")
    assert result.code == 1
    assert "tfidf on test is stale: it was last scored with another model.C" in result.json()[0]["reason"]


def test_a_suite_without_gates_cannot_be_judged(harness: Command, evaluated: Path) -> None:
    evaluated.write_text(evaluated.read_text().split("[[gate]]")[0])
    assert harness("gate", evaluated).code == 2


def test_ls_and_show_tell_of_runs(harness: Command, evaluated: Path) -> None:
    runs = harness("ls", "--json").json()
    assert {run["model_id"] for run in runs} == {"tfidf", "majority"}
    assert "2 runs in" in harness("ls").out
    shown = harness("show", runs[0]["run_id"][:10])
    assert shown.code == 0
    assert runs[0]["run_key"] in shown.out
    assert harness("show", runs[0]["run_id"], "--json").json() == {**runs[0], "parity": []}
    assert "no run's id begins with 'zzz'" in harness("show", "zzz").err
    assert "2 runs' ids begin with ''" in harness("show", "").err


def test_site_is_rendered_and_a_second_time_unchanged(harness: Command, evaluated: Path, tmp_path: Path) -> None:
    out = tmp_path / "site"
    first = harness("site", evaluated, "--out", out, "--json")
    assert first.code == 0
    assert (out / "index.html").is_file()
    assert first.json()["changed"] > 0
    assert harness("site", evaluated, "--out", out, "--json").json()["changed"] == 0
    assert "tfidf" in (out / "index.html").read_text()


def test_results_go_to_stdout_and_progress_to_stderr(configured: Any, suite_path: Path, tmp_path: Path) -> None:
    words = ["evaluate", suite_path, "--model", "majority", "--workers", "1", "--json"]
    done = processes.command(*words, HARNESS_DB=str(tmp_path / "x.duckdb"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["scored"] == 1
    assert "scored 1, already stored 0, failed 0" in done.stderr
    assert "Traceback" not in done.stderr
