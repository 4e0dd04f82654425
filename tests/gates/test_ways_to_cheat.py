"""Ways to make a bad model look good, each tried with the real commands: `gate` and `site` notice, and name what was
changed. The list in docs/security.md says which of them need the owner of the files to be honest.
"""

import html
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from harness.artifacts import digest
from harness.store.connection import opened
from tests.worlds import MIN, World, rows, write_rows

pytestmark = pytest.mark.slow

LORA = "run.run_id = prediction.run_id AND run.model_id = 'tiny+lora'"


def sql(statement: str) -> Callable[[World], None]:
    return lambda world: world.sql(statement)


def change_card(world: World, **fields: Any) -> None:
    card = world.adapter("lora", 1) / "harness-card.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | fields))


def swap_runs(world: World) -> None:
    """The predictions of the full fine-tuning under the name of an untrained head, with their checksum."""
    world.sql(
        """UPDATE prediction SET run_id = CASE run_id WHEN a THEN b ELSE a END FROM
           (SELECT (SELECT min(run_id) FROM run WHERE model_id = 'tiny+lora') AS a,
                   (SELECT min(run_id) FROM run WHERE model_id = 'untrained') AS b) WHERE run_id IN (a, b)"""
    )


IN_STORE: dict[str, tuple[Callable[[World], None], str]] = {
    "predictions turned right": (
        sql(
            f"""UPDATE prediction SET predicted = label, score = label FROM run, example WHERE {LORA}
                AND example.digest = split_digest AND example.example_id = prediction.example_id"""  # noqa: S608
        ),
        "its predictions have changed since they were stored",
    ),
    "scores moved, classes kept": (
        sql(f"UPDATE prediction SET score = score * 0.999 FROM run WHERE {LORA}"),  # noqa: S608
        "its predictions have changed since they were stored",
    ),
    "wrong predictions deleted": (
        sql(
            f"""DELETE FROM prediction USING run, example WHERE {LORA} AND example.digest = split_digest
                AND example.example_id = prediction.example_id AND predicted = label AND position < 3"""  # noqa: S608
        ),
        "its predictions are not exactly one per example",
    ),
    "predictions doubled": (
        sql(f"INSERT INTO prediction SELECT prediction.* FROM prediction JOIN run ON {LORA}"),  # noqa: S608
        "its predictions are not exactly one per example",
    ),
    "predictions of a better run": (swap_runs, "its predictions have changed since they were stored"),
    "labels": (
        sql("UPDATE example SET label = 1 - label WHERE position < 5"),
        "the store has other examples of test than the rows that were just loaded: 5 of 100 differ",
    ),
    "clusters": (sql("UPDATE example SET cluster = 'one'"), "the store has other examples of test"),
    "order": (sql("UPDATE example SET position = 99 - position"), "the store has other examples of test"),
    "examples deleted": (sql("DELETE FROM example WHERE position > 50"), "the store has other examples of test"),
    "a run's timing": (
        sql("UPDATE run SET seconds = seconds / 100 WHERE model_id = 'tiny+lora'"),
        "its record has changed since it was stored",
    ),
    "an interval that was stored": (
        sql(
            "UPDATE metric SET value = 0.99, ci_low = 0.98 FROM run WHERE metric.run_id = run.run_id AND"
            " model_id = 'tiny+lora' AND name = 'accuracy'"
        ),
        "its record has changed since it was stored",
    ),
    "when it was scored": (
        sql("UPDATE run SET started_at = started_at - INTERVAL 1 DAY WHERE model_id = 'tiny+lora'"),
        "its record has changed since it was stored",
    ),
    "the commit": (
        sql("UPDATE run SET git_commit = repeat('a', 40), git_dirty = false WHERE model_id = 'tiny+lora'"),
        "its record has changed since it was stored",
    ),
    "another run under a current key": (
        sql(
            """UPDATE run SET run_key = new.run_key, spec = new.spec, configuration = new.configuration
               FROM (SELECT run_key, spec, configuration FROM run WHERE model_id = 'untrained' AND seed = 1) new
               WHERE model_id = 'tiny+lora' AND seed = 1"""
        ),
        "tiny+lora seed 1 on test",
    ),
    "the checksum taken away": (sql("DELETE FROM checksum"), "has no checksum"),
    "a clock in the future": (
        sql("UPDATE run SET finished_at = finished_at + INTERVAL 1000 DAY WHERE model_id = 'tiny+lora'"),
        "ended in the future",
    ),
    "a failed run called a success": (
        sql(f"DELETE FROM prediction USING run WHERE {LORA}"),  # noqa: S608
        "its predictions are not exactly one per example",
    ),
    "training time on the card": (
        lambda world: change_card(world, train_seconds=0.01),
        "train_seconds is 0.01 on its card",
    ),
    "size on the card": (lambda world: change_card(world, size_bytes=7), "its card says 7 bytes"),
    "training time in the store": (
        sql("UPDATE adapter SET train_seconds = 0.02 WHERE adapter_id = 'lora'"),
        "and 0.02 in the store",
    ),
    "size in the store": (sql("UPDATE adapter SET size_bytes = 7 WHERE adapter_id = 'lora'"), "and 7 in the store"),
}


@pytest.mark.parametrize(("cheat", "named"), IN_STORE.values(), ids=IN_STORE)
def test_what_was_changed_is_refused_by_gate_and_site(cheat: Callable[[World], None], named: str, world: World) -> None:
    cheat(world)
    red = world.red()
    assert named in red[MIN]
    made = world.site()
    assert made.exit_code == 2
    assert named in made.stderr
    assert not (world.root / "site").exists()


def test_a_verdict_that_was_edited_is_not_believed(world: World) -> None:
    """The suite asks for more than the model gives; the store is made to say that it passed."""
    world.edit("min = 0.8\n", "min = 0.999\n")
    assert world.red()
    world.sql('UPDATE verdict SET outcome = \'pass\', numbers = \'{"blocking": false, "reason": "fine", "value": 1}\'')
    made = world.site()
    assert made.exit_code == 0
    assert "the store says pass" in made.stderr
    page = (world.root / "site" / "index.html").read_text()
    assert "fails the gate" in page
    assert '<p class="reason">fine</p>' not in page


def test_a_verdict_on_other_runs_than_the_page_shows_is_judged_anew(world: World) -> None:
    """Gate, then other runs, then the site."""
    assert world.red() == {}
    world.edit("epochs = 24, learning_rate = 1e-2", "epochs = 8, learning_rate = 1e-9")
    assert world.evaluate().exit_code == 0
    made = world.site()
    assert made.exit_code == 0
    assert f"{MIN}: the store says pass" not in made.stderr, "the suite is another one, and so are its verdicts"
    assert "fails the gate" in (world.root / "site" / "index.html").read_text()


def overwrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def change_weights(world: World) -> None:
    file = world.adapter("lora", 1) / "adapter_model.safetensors"
    save_file({name: tensor * 1.5 for name, tensor in load_file(file).items()}, file, {"format": "pt"})


def relabel(world: World) -> None:
    """The test rows of which the model is wrong, or any: their labels are other ones now."""
    changed = [row | {"label": 1 - row["label"]} if i < 5 else row for i, row in enumerate(rows(100, 1000))]
    write_rows(world.suite.parent / "test.jsonl", changed)


def train_on_a_test_row(world: World) -> None:
    write_rows(world.suite.parent / "train.jsonl", [*rows(239, 0), rows(100, 1000)[0]])
    world.suite.with_suffix(".lock").unlink()


def slice_otherwise(world: World) -> None:
    """A column that says where each row was sold, pinned; then rows are moved from one place to the other."""
    sold = [row | {"sold": "here" if i < 50 else "there"} for i, row in enumerate(rows(100, 1000))]
    world.edit('path = "test.jsonl"', 'path = "test.jsonl"\nslice_columns = ["sold"]')
    write_rows(world.suite.parent / "test.jsonl", sold)
    assert world.command("data", world.suite, "--update-lock").exit_code == 0
    assert world.red() == {}
    write_rows(world.suite.parent / "test.jsonl", [row | {"sold": "there"} if row["label"] else row for row in sold])


def relabel_without_lock(world: World) -> None:
    relabel(world)
    world.suite.with_suffix(".lock").unlink()


def relabel_with_new_lock(world: World) -> None:
    relabel(world)
    assert world.command("data", world.suite, "--update-lock").exit_code == 0


IN_FILES: dict[str, tuple[Callable[[World], Any], str]] = {
    "weights of the adapter": (change_weights, "the weights are not the ones its card describes"),
    "another seed's weights": (
        lambda world: shutil.copytree(world.adapter("lora", 2), world.adapter("lora", 1), dirs_exist_ok=True),
        "holds weights that were not trained as the suite declares",
    ),
    "the adapter's rank in its configuration": (
        lambda world: overwrite(
            world.adapter("lora", 1) / "adapter_config.json", '"lora_alpha": 8', '"lora_alpha": 80'
        ),
        "the weights are not the ones its card describes",
    ),
    "the card's account of the training rows": (
        lambda world: change_card(world, trained_on={"split": "train", "digest": "0" * 64, "n": 240}),
        "trained_on is '0000",
    ),
    "a list of training rows that lacks some": (
        lambda world: (world.adapter("lora", 1) / "trained-on.txt").write_text("0" * 32 + "\n"),
        "trained-on.txt",
    ),
    "a model that is gone": (lambda world: shutil.rmtree(world.adapter("lora", 2)), "has not been trained yet"),
    "the template": (
        lambda world: world.edit('template = "{content}"', 'template = "great {content}"'),
        "has not been trained yet",
    ),
    "longer texts": (lambda world: world.edit("max_length = 32", "max_length = 33"), "has not been trained yet"),
    "labels of the data, without its lock": (relabel_without_lock, "it was last scored with another split"),
    "labels of the data and its lock": (relabel_with_new_lock, "it was last scored with another split"),
    "fewer seeds": (
        lambda world: world.edit("seeds = [1, 2] }", "seeds = [1, 3] }"),
        "seed 3 has not been trained yet",
    ),
    "another base in its place": (
        lambda world: overwrite(world.suite.parent / "base" / "vocab.txt", "awful\n", "swful\n"),
        "has not been trained yet",
    ),
}


@pytest.mark.parametrize(("cheat", "named"), IN_FILES.values(), ids=IN_FILES)
def test_files_that_were_changed_fail_the_gate_and_the_page_says_why(
    cheat: Callable[[World], Any], named: str, world: World
) -> None:
    cheat(world)
    assert named in world.red()[MIN]
    made = world.site()
    if made.exit_code:
        assert made.exit_code == 2
        assert named in made.stderr
    else:
        assert html.escape(named, quote=False) in (world.root / "site" / "index.html").read_text().replace("&#39;", "'")


PINNED: dict[str, tuple[Callable[[World], Any], str]] = {
    "labels of the data": (relabel, "split 'test' does not have the pinned rows"),
    "values of a slice column": (slice_otherwise, "does not have the pinned values of its slice columns (sold)"),
    "the lock": (
        lambda world: overwrite(world.suite.with_suffix(".lock"), '"n": 100', '"n": 101'),
        "split 'test' does not have the pinned rows",
    ),
    "the base's weights": (
        lambda world: shutil.copy(
            world.adapter("full", 1) / "model.safetensors", world.suite.parent / "base" / "model.safetensors"
        ),
        "sha256",
    ),
    "test rows among the training rows": (
        train_on_a_test_row,
        "was trained on",
    ),
}


@pytest.mark.parametrize(("cheat", "named"), PINNED.values(), ids=PINNED)
def test_inputs_that_are_not_what_was_pinned_are_refused(
    cheat: Callable[[World], Any], named: str, world: World
) -> None:
    cheat(world)
    for result in (world.command("gate", world.suite), world.site()):
        assert result.exit_code == 2
        assert named in result.stderr


def test_a_file_is_read_again_once_it_changes_and_before_its_weights_are_used(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digest, "LARGE", 0)
    monkeypatch.setattr(digest, "SETTLED_SECONDS", 0.0)
    assert world.red() == {}
    kept = world.root / "runs" / "cache" / "digests"
    before = {path: json.loads(path.read_text())["sha256"] for path in kept.iterdir()}
    change_weights(world)
    assert "the weights are not the ones its card describes" in world.red()[MIN]
    for path, sha256 in before.items():  # as if it had been changed without a trace
        path.write_text(json.dumps(json.loads(path.read_text()) | {"sha256": sha256}))
    assert world.red() == {}, "gate has not read it"
    assert world.evaluate().exit_code == 0, "nor has evaluate, which has nothing to score"
    refused = world.evaluate("--fresh")
    assert refused.exit_code == 2
    assert "adapter_model.safetensors: its bytes are not those that were read before" in refused.stderr
    assert "the weights are not the ones its card describes" in world.red()[MIN]


def test_splits_without_a_lock_are_warned_of_by_gate_and_site(world: World) -> None:
    world.suite.with_suffix(".lock").unlink()
    for result in (world.command("gate", world.suite), world.site()):
        assert result.exit_code == 0
        assert "no lock pins train, test" in result.stderr


@pytest.mark.parametrize("kind", ["shards", "cache/states"])
def test_a_kept_file_that_was_changed_is_not_believed(kind: str, world: World) -> None:
    """Another byte in what is kept: it is computed again, and the scores are those that they were."""
    world.sql("DELETE FROM run")
    files = [path for path in (world.root / "runs" / kind).rglob("*") if path.is_file()]
    assert files
    for file in files:
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(bytes(data))
    if kind == "cache/states":
        shutil.rmtree(world.root / "runs" / "shards")
    with opened(world.db, read_only=True) as connection:
        before = connection.execute("SELECT run_id, predictions FROM checksum").fetchall()
    assert world.evaluate().exit_code == 0
    with opened(world.db, read_only=True) as connection:
        after = connection.execute("SELECT run_id, predictions FROM checksum SEMI JOIN run USING (run_id)").fetchall()
    assert sorted(sums for _, sums in after) == sorted(sums for _, sums in before)
    assert world.red() == {}


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "TZ"])
def test_threads_and_time_zone_move_no_score(name: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(world.db, read_only=True) as connection:
        before = connection.execute("SELECT DISTINCT predictions FROM checksum ORDER BY ALL").fetchall()
    monkeypatch.setenv(name, "4" if name != "TZ" else "Pacific/Kiritimati")
    shutil.rmtree(world.root / "runs" / "shards")
    assert world.evaluate("--fresh").exit_code == 0
    with opened(world.db, read_only=True) as connection:
        assert connection.execute("SELECT DISTINCT predictions FROM checksum ORDER BY ALL").fetchall() == before
    assert world.red() == {}


def test_what_is_refused_is_scored_again_by_evaluate(world: World) -> None:
    world.sql("UPDATE example SET label = 1 - label WHERE position < 5")
    shutil.rmtree(world.root / "runs" / "shards")
    result = world.evaluate()
    assert result.exit_code == 0
    assert "it is scored again" in result.stderr
    assert world.red() == {}
    assert world.site().exit_code == 0
