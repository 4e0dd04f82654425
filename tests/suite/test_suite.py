"""Suite files: every problem is said plainly, and a sound file says the same however it is laid out."""

import json
import random
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.errors import SuiteError
from harness.suite.load import MOST_BYTES, MOST_PROBLEMS, by_id, load
from harness.suite.schema import SdistSplit, Suite

HERE = Path(__file__).parents[1]
BAD_SUITES = sorted((HERE / "resources" / "bad_suites").glob("*.toml"))
GOOD_SUITE = HERE / "resources" / "good_suite.toml"
FULL_SUITE = HERE / "resources" / "full_suite.toml"
QUICKSTART = HERE.parent / "suites" / "quickstart.toml"
SCHEMA = HERE.parent / "suites" / "suite.schema.json"


def problems_of(path: Path) -> list[str]:
    """A broken file's problems, without the file's name: `12: place: message`; no line where it is the file's."""
    with pytest.raises(SuiteError) as caught:
        load(path)
    for problem in caught.value.problems:
        assert problem.startswith(f"{path}:")
    assert str(caught.value) == "\n".join(caught.value.problems)
    return [problem.removeprefix(f"{path}:").lstrip() for problem in caught.value.problems]


# Broken files


def test_there_are_many_broken_suites_and_each_has_its_expected_messages() -> None:
    assert len(BAD_SUITES) >= 30
    assert {path.stem for path in BAD_SUITES} == {path.stem for path in BAD_SUITES[0].parent.glob("*.expected")}


@pytest.mark.parametrize("path", BAD_SUITES, ids=lambda path: path.stem)
def test_every_problem_of_a_broken_suite_is_listed_at_once_and_in_order(path: Path) -> None:
    assert problems_of(path) == path.with_suffix(".expected").read_text(encoding="utf-8").splitlines()


def test_a_file_that_is_not_there_is_said_to_be_absent(tmp_path: Path) -> None:
    assert problems_of(tmp_path / "absent.toml") == ["file: there is no such file"]


def test_a_folder_in_place_of_a_file_is_said_to_be_one(tmp_path: Path) -> None:
    assert problems_of(tmp_path) == ["file: cannot be read (Is a directory)"]


def test_keys_nested_beyond_any_sense_are_an_error_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "deep.toml"
    path.write_text(GOOD_SUITE.read_text().replace("r = 8", ".".join("r" * 3000) + " = 8"))
    assert problems_of(path) == ["file: is nested too deeply"]


def test_a_number_of_thousands_of_digits_is_an_error_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "long.toml"
    path.write_text("version = " + "1" * 5000)
    assert [problem[:17] for problem in problems_of(path)] == ["file: is not TOML"]


toml_values = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@given(data=st.data())
def test_no_value_in_any_place_gets_past_the_suite_error(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    raw = tomllib.loads(FULL_SUITE.read_text())
    container, key = data.draw(st.sampled_from(list(_places(raw))))
    container[key] = data.draw(toml_values)
    path = tmp_path_factory.mktemp("changed") / "suite.toml"
    path.write_text(_as_toml(raw), encoding="utf-8")
    problems: tuple[str, ...] | None = None
    try:
        assert load(path).digest
    except SuiteError as error:
        problems = error.problems
    assert problems is None or problems
    assert all(problem.startswith(f"{path}: ") for problem in problems or ())
    assert not any("is not TOML" in problem for problem in problems or ())


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of nested tables and lists, so that `container[key]` can be changed."""
    if isinstance(value, dict | list):
        for key, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
            yield value, key
            yield from _places(item)


def _as_toml(table: dict[str, Any], shuffled: random.Random | None = None, indent: str = "") -> str:
    """A suite in another layout: inline tables only, comments between, keys shuffled where a generator is given."""

    def text(value: str) -> str:
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")

    def items(table: dict[str, Any]) -> list[str]:
        pairs = [f"{text(key)} = {written(value)}" for key, value in table.items()]
        if shuffled:
            shuffled.shuffle(pairs)
        return pairs

    def written(value: Any) -> str:
        if isinstance(value, dict):
            return "{ " + ", ".join(items(value)) + " }"
        if isinstance(value, list):
            return "[" + indent + f",{indent}".join(written(item) for item in value) + indent + "]"
        return text(value) if isinstance(value, str) else repr(value).lower()

    return "".join(f"# A comment.\n\n{pair}  # another\n" for pair in items(table))


# Sound files


def test_every_kind_of_table_loads() -> None:
    loaded = load(FULL_SUITE)
    assert [model.backend for model in loaded.model] == [
        "majority", "tfidf", "probe", "transformer", "transformer", "peft", "peft", "checkpoint",
    ]  # fmt: skip
    assert [base.source for base in loaded.base] == ["package", "path"]
    assert [adapter.method for adapter in loaded.trained_adapters] == ["lora", "ia3", "full"]
    assert loaded.train_split_ids == {"train", "train-small"}
    assert loaded.text.store
    assert loaded.gate[0].superior_to is not None
    assert loaded.gate[0].superior_to.margin == 0
    assert isinstance(loaded.split[-1], SdistSplit)
    assert loaded.split[-1].cluster_share is not None


OPTIONAL_LINES = [
    'cluster = "doc"\ncluster_share = { seed = 7, start = 0.5, stop = 1.0 }\n',
    "cluster_share = { seed = 7, start = 0.5, stop = 1.0 }\n",
    "shuffle_seed = 42\n",
    "take = 200\n",
    "min = 0.8\n",
    'non_inferior_to = { model = "tfidf", margin = 0.01 }\n',
    GOOD_SUITE.read_text()[GOOD_SUITE.read_text().index("[[gate]]") :],
]


@pytest.mark.parametrize("line", OPTIONAL_LINES)
def test_what_is_optional_can_be_left_out(line: str, tmp_path: Path) -> None:
    text = GOOD_SUITE.read_text()
    assert text.count(line) == 1
    path = tmp_path / "suite.toml"
    path.write_text(text.replace(line, ""))
    assert load(path).digest != load(GOOD_SUITE).digest


def test_a_suite_may_consist_of_two_splits_one_model_and_one_metric(tmp_path: Path) -> None:
    text = GOOD_SUITE.read_text()
    start, stop = text.index("[[base]]"), text.index('[[model]]\nid = "tfidf"')
    peft, metric = text.index('[[model]]\nid = "tiny+lora-r8"'), text.index("[[metric]]")
    path = tmp_path / "suite.toml"
    path.write_text(text[:start] + text[stop:peft] + text[metric : text.index("[[gate]]")])
    loaded = load(path)
    assert (loaded.base, loaded.adapter, loaded.gate) == ((), (), ())
    assert by_id(loaded.model, "tfidf").C == 1.0


def test_a_schema_key_for_editors_is_no_unknown_key(tmp_path: Path) -> None:
    path = tmp_path / "suite.toml"
    path.write_text('"$schema" = "./suite.schema.json"\n' + GOOD_SUITE.read_text())
    assert load(path) == load(GOOD_SUITE)


def test_a_whole_number_is_welcome_where_a_fraction_could_be(tmp_path: Path) -> None:
    path = tmp_path / "suite.toml"
    path.write_text(GOOD_SUITE.read_text().replace("C = 1.0", "C = 1").replace("stop = 1.0", "stop = 1"))
    assert load(path).digest == load(GOOD_SUITE).digest


@pytest.mark.parametrize("path", [GOOD_SUITE, FULL_SUITE], ids=lambda path: path.stem)
def test_a_suite_survives_the_round_trip_through_json(path: Path) -> None:
    loaded = load(path)
    again = Suite.model_validate_json(loaded.model_dump_json())
    assert again == loaded
    assert again.digest == loaded.digest


def test_a_suite_cannot_be_changed() -> None:
    loaded = load(GOOD_SUITE)
    with pytest.raises(ValidationError, match="frozen"):
        setattr(loaded, "name", "other")  # noqa: B010 (the type checker knows that it is frozen)
    with pytest.raises(ValidationError, match="frozen"):
        setattr(loaded.split[0], "take", 3)  # noqa: B010 (the type checker knows that it is frozen)


def test_a_template_is_filled_with_title_and_content_and_stripped() -> None:
    text = load(GOOD_SUITE).text
    assert text.render("Good", "It {works}. ") == "Good. It {works}."
    assert text.render("", "fine") == ". fine"


# The digest


@given(seed=st.integers(0, 10**6), indent=st.sampled_from(["", " ", "\n", "\n    # so\n  "]))
def test_the_digest_ignores_comments_layout_and_the_order_of_keys(
    seed: int, indent: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("layout") / "suite.toml"
    path.write_text(_as_toml(tomllib.loads(FULL_SUITE.read_text()), random.Random(seed), indent))
    assert load(path).digest == load(FULL_SUITE).digest


def test_the_digest_is_64_hex_digits() -> None:
    assert re.fullmatch("[0-9a-f]{64}", load(GOOD_SUITE).digest)


def test_a_default_that_is_spelled_out_does_not_change_the_digest(tmp_path: Path) -> None:
    path = tmp_path / "suite.toml"
    path.write_text(GOOD_SUITE.read_text().replace("max_length = 128", "max_length = 128\nstore = false"))
    assert load(path).digest == load(GOOD_SUITE).digest


TIED_TO_OTHERS = {"version", "source", "backend", "columns"}
"""Keys of which no value can change alone, in a suite that stays sound."""


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if key not in TIED_TO_OTHERS:
                yield from _leaves(item, (*path, key))
    else:
        yield path


@pytest.mark.parametrize(
    "path", list(_leaves(tomllib.loads(FULL_SUITE.read_text()))), ids=lambda path: ".".join(map(str, path))
)
def test_the_digest_changes_with_every_value(path: tuple[Any, ...]) -> None:
    original = load(FULL_SUITE)
    raw = tomllib.loads(FULL_SUITE.read_text())
    container = raw
    for key in path[:-1]:
        container = container[key]
    old, changed = container[path[-1]], 0
    for new in _others(old):
        container[path[-1]] = new
        try:
            candidate = Suite.model_validate_json(json.dumps(raw))
        except ValidationError:
            continue
        changed += 1
        assert candidate.digest != original.digest
    assert changed, f"no value was found to take the place of {old!r}"


def _others(value: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    words = (f"{value}x", "4" * 64, "bf16", "fp32", "accuracy", "f1", "fail", "warn", "content")
    numbers = (value + 1, value + 0.125, value - 0.125) if isinstance(value, int | float) else ()
    return [other for other in (words if isinstance(value, str) else numbers) if other != value]


def test_the_digest_changes_with_a_column(tmp_path: Path) -> None:
    path = tmp_path / "suite.toml"
    path.write_text(GOOD_SUITE.read_text().replace('"rating", "content"]', '"rating", "content", "title"]', 1))
    assert load(path).digest != load(GOOD_SUITE).digest


@given(epochs=st.integers(1, 1000), rate=st.floats(1e-6, 0.5), name=st.from_regex(r"\A[a-z0-9][a-z0-9._+-]{0,20}\Z"))
def test_two_suites_have_one_digest_exactly_when_they_are_equal(epochs: int, rate: float, name: str) -> None:
    original = load(GOOD_SUITE)
    raw = json.loads(original.model_dump_json())
    raw["name"], raw["adapter"][0]["train"]["epochs"] = name, epochs
    raw["adapter"][0]["train"]["learning_rate"] = rate
    changed = Suite.model_validate_json(json.dumps(raw))
    assert (changed.digest == original.digest) == (changed == original)
    assert Suite.model_validate_json(changed.model_dump_json()).digest == changed.digest


# The schema, and what importing costs


@pytest.mark.parametrize("path", sorted(SCHEMA.parent.glob("*.toml")), ids=lambda path: path.stem)
def test_every_suite_of_the_project_is_sound(path: Path) -> None:
    assert load(path).name == path.stem


def test_the_schema_beside_the_suites_is_the_one_that_the_module_prints() -> None:
    printed = subprocess.run([sys.executable, "-m", "harness.suite"], capture_output=True, text=True, check=True)
    assert SCHEMA.read_text(encoding="utf-8") == printed.stdout, (
        "run: python -m harness.suite > suites/suite.schema.json"
    )
    members = json.loads(printed.stdout)["$defs"]["SdistSplit"]["properties"]["members"]
    assert members["description"], "editors show what a key means"


def test_reading_a_suite_imports_nothing_heavy() -> None:
    code = (
        "import sys; from harness.suite import load as suite; from pathlib import Path; suite.load(Path(sys.argv[1]));"
        "print(sorted({'duckdb', 'numpy', 'pandas', 'peft', 'pyarrow', 'scipy', 'sklearn', 'torch', 'transformers'}"
        " & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(GOOD_SUITE)], capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout == "[]\n"


# Size


def unknown_keys(good: str) -> str:
    return "".join(f"k{i} = 1\n" for i in range(10_000)) + good


def seeds(good: str) -> str:
    return good.replace("seeds = [13, 42, 87]", f"seeds = {list(range(60_000))}")


def wrong_seeds(good: str) -> str:
    return good.replace("seeds = [13, 42, 87]", f"seeds = {['x'] * 30_000}")


def deep_key(good: str) -> str:
    return "a" + ".a" * 300_000 + f" = 1\n{good}"


def deep_quoted_key(good: str) -> str:
    return '"a"' + " . 'a'" * 100_000 + f" = 1\n{good}"


def dangling_models(good: str) -> str:
    return good + "".join(f'[[model]]\nid = "m{i}"\nbackend = "majority"\ntrain_split = "s"\n' for i in range(5_000))


def repeated_ids(good: str) -> str:
    return good + '[[split]]\nid = "same"\n' * 10_000


def gates(good: str) -> str:
    about = '[[gate]]\nmodel = "tfidf"\nsplit = "amazon-test"\nmetric = "accuracy"\non_inconclusive = "warn"\n'
    return good + "".join(f"{about}min = 0.1{i:04}\n" for i in range(5_000))


def many_columns(good: str) -> str:
    columns = [f"c{i}" for i in range(30_000)]
    slices = '[[gate]]\nmodel = "tfidf"\nsplit = "wide"\nslice = "none=1"\nmetric = "f1"\nmin = 0.1\n'
    split = f'[[split]]\nid = "wide"\nsource = "sdist"\ncolumns = {columns}\nslice_columns = {columns}\n'
    return good + split + slices * 3_000


def too_large(good: str) -> str:
    return good + "# " + "x" * MOST_BYTES


@pytest.mark.parametrize(
    "grown",
    [unknown_keys, seeds, wrong_seeds, deep_key, deep_quoted_key, dangling_models, repeated_ids, gates, many_columns,
     too_large],
    ids=lambda grown: grown.__name__,
)  # fmt: skip
def test_the_largest_file_is_checked_in_seconds_and_its_problems_fit_on_a_page(
    grown: Callable[[str], str], tmp_path: Path
) -> None:
    """In processor time: ten times what it takes, and far from what it took where time grew with the square."""
    path = tmp_path / "large.toml"
    path.write_text(grown((QUICKSTART).read_text(encoding="utf-8")), encoding="utf-8")
    began, problems = time.process_time(), ""
    try:
        load(path)
    except SuiteError as error:
        problems = str(error)
    assert time.process_time() - began < 8
    assert len(problems.splitlines()) <= MOST_PROBLEMS + 1
    assert len(problems) < 400_000
    assert bool(problems) == (grown is not gates)


def test_of_very_many_problems_the_rest_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "many.toml"
    path.write_text(unknown_keys((QUICKSTART).read_text(encoding="utf-8")))
    with pytest.raises(SuiteError) as error:
        load(path)
    assert error.value.problems[0] == f"{path}:1: k0: unknown key"
    assert error.value.problems[-1] == f"{path}: file: has 9,800 more problems; fix these first"


def test_long_lists_and_dotted_names_in_strings_are_no_deep_keys(tmp_path: Path) -> None:
    path = tmp_path / "fine.toml"
    good = (QUICKSTART).read_text(encoding="utf-8")
    modules = [f"encoder.layer.{i}.attention.self.query" for i in range(40)]
    text = re.sub(r"target_modules = \[[^]]*\]", f"target_modules = {modules}", good)
    path.write_text(f"{text}\n# {'.' * 100}\n")
    assert load(path).trained_adapters[0].params["target_modules"] == modules


def test_a_byte_order_mark_changes_nothing(tmp_path: Path) -> None:
    good = (QUICKSTART).read_text(encoding="utf-8")
    marked = tmp_path / "marked.toml"
    marked.write_text(good, encoding="utf-8-sig")
    assert load(marked).digest == load(QUICKSTART).digest
