"""docs/notebook.md is run, block after block, in one namespace, on a small world under the names that the page uses."""

import re
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError

PAGE = Path(__file__).parents[1] / "docs" / "notebook.md"
NAMES = {"made-up": "quickstart", '"test"': '"amazon-test"', "tiny+lora": "minilm+lora-r8", '"probe"': '"minilm-probe"'}


@pytest.fixture
def namespace(configured: Any, suite_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The made-up suite as suites/quickstart.toml of the current folder, its page run to the end."""
    text = suite_path.read_text(encoding="utf-8")
    for name, other in NAMES.items():
        text = text.replace(name, other)
    text = text.replace('project = "quickstart"', 'project = "made-up"').replace("quickstart-1.0", "made-up-1.0")
    (suite_path.parent / "quickstart.toml").write_text(text.replace('backend = "minilm-probe"', 'backend = "probe"'))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_DB", raising=False)
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 6
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    return names


def test_the_notebook_page_runs_from_its_first_line_to_its_last(namespace: dict[str, Any], tmp_path: Path) -> None:
    assert len(namespace["report"].scored) == 4
    assert namespace["rows"].model.nunique() == 3
    assert (tmp_path / "accuracy.svg").read_text(encoding="utf-8").startswith("<svg")
    assert (tmp_path / "site" / "index.html").is_file()
    assert namespace["first"].difference is not None
    assert set(namespace["wrong"].columns) >= {"example", "label", "score", "text"}


def test_errors_for_users_are_one_family() -> None:
    import harness

    assert issubclass(harness.SuiteError, HarnessError)
