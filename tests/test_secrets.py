"""A secret that is in the environment stays there."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import processes

pytestmark = pytest.mark.slow

TOKEN = "hf_PlantedTokenThatNobodyMayKeep0123456789"


def test_a_token_of_the_hub_reaches_neither_store_nor_site_nor_output(
    suite_path: Path, configured: Any, tmp_path: Path
) -> None:
    """One model cannot be loaded, so that a traceback is stored as well."""
    text = suite_path.read_text().replace('target_modules = ["query", "value"]', 'target_modules = ["absent"]')
    broken = suite_path.with_name("broken.toml")
    broken.write_text(text.replace('name = "made-up"', 'name = "broken"'))
    runs, site, bundle = tmp_path / "runs", tmp_path / "site", tmp_path / "runs.bundle"
    db = runs / "harness.duckdb"
    environment = os.environ | {"HF_TOKEN": TOKEN, "HUGGING_FACE_HUB_TOKEN": TOKEN}
    verbs: list[list[object]] = [
        ["data", suite_path],
        ["evaluate", suite_path, "--workers", "1"],
        ["evaluate", broken, "--workers", "1", "--model", "tiny+lora"],
        ["gate", suite_path],
        ["ls", "--json"],
        ["site", suite_path, "--out", site],
        ["store", "export", bundle],
    ]
    done = processes.run([[*words, "--db", db] for words in verbs], environment)
    printed = (done.out + done.err).decode()
    assert done.codes[1] == 0, printed
    assert done.codes[2] in (2, 3), printed
    assert done.codes[4:] == [0, 0, 0], printed
    written = [path for folder in (runs, site, suite_path.parent) for path in folder.rglob("*") if path.is_file()]
    assert db in written
    assert site / "index.html" in written
    assert TOKEN not in printed
    assert [path for path in [*written, bundle] if TOKEN.encode() in path.read_bytes()] == []
    unpacked = subprocess.run(  # a store's columns are compressed: the text is looked for as it is read, too
        [sys.executable, "-c", DUMP, str(db)], capture_output=True, text=True, check=True
    ).stdout
    assert "success" in unpacked
    assert TOKEN not in unpacked


DUMP = """if True:
    import sys
    from pathlib import Path
    from harness.store.connection import opened
    with opened(Path(sys.argv[1]), read_only=True) as store:
        for (table,) in store.execute("SELECT table_name FROM information_schema.tables").fetchall():
            print(store.execute(f"SELECT * FROM {table}").fetchall())
"""
