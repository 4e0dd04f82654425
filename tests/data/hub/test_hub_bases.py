"""Bases on the hub in several files: exactly those that the index names are fetched, each held to its digest."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.data.hub.test_hub_dataset import FIRST, Outcome, Workplace
from tests.models.test_adapter_sabotage import HEAD, file_split
from tests.models.test_sharded import INDEX, split_up
from tests.worlds import rows, write_rows

pytestmark = pytest.mark.slow

REPOS = ("whole", "damaged", "short", "outside")


@pytest.fixture(scope="module")
def outcomes(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory, loopback: Any) -> dict[str, Outcome]:
    """An evaluation of an untrained head on each repository."""
    place = Workplace(tmp_path_factory.mktemp("hub-bases"), loopback.url)
    base = split_up(Path(shutil.copytree(tiny_base, place.folder / "base")), 3)
    write_rows(place.folder / "test.jsonl", rows(8, 1000))
    files = {path.name: path.read_bytes() for path in base.iterdir()} | {"extra.safetensors": b"never read"}
    shard = "model-00002-of-00003.safetensors"
    index = json.loads(files[INDEX])
    index["weight_map"][next(iter(index["weight_map"]))] = "../outside.safetensors"
    loopback.serve("models/own/whole", {FIRST: files})
    loopback.serve("models/own/damaged", {FIRST: files | {shard: files[shard][:-1]}})
    loopback.serve("models/own/short", {FIRST: {name: data for name, data in files.items() if name != shard}})
    loopback.serve("models/own/outside", {FIRST: files | {INDEX: json.dumps(index).encode()}})
    for name in REPOS:
        text = (
            f'{HEAD}{file_split("test")}[[base]]\nid = "b"\nsource = "hub"\nname = "own/{name}"\n'
            f'revision = "{FIRST}"\n[[model]]\nid = "m"\nbackend = "transformer"\nbase = "b"\nseeds = [1]\n'
            'precision = "fp32"\n'
        )
        (place.folder / f"{name}.toml").write_text(text)
    commands = {n: ["evaluate", f"{n}.toml", "--db", f"{n}/x.duckdb", "--workers", "1"] for n in REPOS}
    found = place.run(commands)
    loopback.close()
    return found | place.run({"again": commands["whole"]})


def test_shards_are_fetched_as_the_index_names_them_and_kept(outcomes: dict[str, Outcome], loopback: Any) -> None:
    assert outcomes["whole"].code == 0, outcomes["whole"].err
    assert outcomes["again"].code == 0, outcomes["again"].err
    asked = [request.path for request in loopback.requests]
    assert [path for path in asked if path.endswith("model-00003-of-00003.safetensors")]
    assert not [path for path in asked if path.endswith("extra.safetensors")]


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("damaged", "is damaged"),
        ("short", f"{INDEX} names model-00002-of-00003.safetensors, which is not there"),
        ("outside", "which is no name of a shard beside it"),
    ],
)
def test_a_repository_whose_index_and_shards_do_not_fit_is_refused(
    outcomes: dict[str, Outcome], name: str, refused: str
) -> None:
    assert outcomes[name].code == 2
    assert refused in outcomes[name].err
