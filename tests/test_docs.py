"""What README and docs say, held against the code: commands, keys, tables, trees, links and examples."""

import ast
import fnmatch
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest
import typer
from pydantic import BaseModel, TypeAdapter

from harness import cli, engine
from harness.data import SOURCES
from harness.gates import judge
from harness.models import BACKENDS, device
from harness.records import Outcomes, Run, Split
from harness.stats import estimates, inference, metrics, slices
from harness.store import reader, writer
from harness.store.connection import LOCK_WAIT_SECONDS, TABLES, Connection, opened
from harness.suite import schema
from harness.suite.load import load
from harness.suite.schema import Closed, Suite

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "site/README.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
README, CONTRIBUTING = ROOT / "README.md", ROOT / "CONTRIBUTING.md"
ACCELERATORS = ROOT / "docs" / "accelerators.md"
ARCHITECTURE, CI, NOTEBOOK, RELIABILITY, STATISTICS, SUITES = (
    ROOT / "docs" / f"{name}.md" for name in ("architecture", "ci", "notebook", "reliability", "statistics", "suites")
)
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
COMMAND: Any = typer.main.get_command(cli.app)
VERBS: dict[str, Any] = COMMAND.commands


# Reading Markdown


@dataclass(frozen=True)
class Block:
    """A fenced block: what stands after the fence, and what stands in it."""

    info: str
    text: str


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[Block]:
    """A page's fenced blocks in one language."""
    found = re.findall(r"^```([^\n]+)\n(.*?)^```$", text_of(page), re.MULTILINE | re.DOTALL)
    return [Block(info, text) for info, text in found if info.split()[0] == language]


def without_blocks(page: Path) -> str:
    """A page's text outside of its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)


def section(page: Path, heading: str) -> str:
    """A page's text under a heading, up to the next one."""
    parts = re.split(r"^#+ (.+)\n", without_blocks(page), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))[heading]


def tables(text: str) -> list[list[list[str]]]:
    """Markdown tables as rows of cells, the head first, the line under it left out."""
    found = re.findall(r"^\|.*\|\n\|[-| ]+\|\n(?:\|.*\|\n?)*", text, re.MULTILINE)
    return [
        [[cell.strip() for cell in line[1:-1].split("|")] for i, line in enumerate(table.splitlines()) if i != 1]
        for table in found
    ]


def code(text: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", text)


def shell_commands(text: str) -> Iterator[list[str]]:
    """The commands of shell lines as words, without what is redirected or commented."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        command: list[str] = []
        for word in [*lexer, ";"]:
            if not set(word) <= set("();<>|&"):
                command.append(word)
            else:
                if command:
                    yield command
                command = ["(a file)"] if set(word) & set("<>") else []


def typed_commands(page: Path) -> list[list[str]]:
    """The commands of a page's bash blocks."""
    return [command for block in blocks(page, "bash") for command in shell_commands(block.text)]


def mentioned_commands(page: Path) -> list[list[str]]:
    """The commands that stand in backticks in a page's sentences; arguments may be left out there."""
    spans = [span.replace("\n", " ") for span in code(without_blocks(page))]
    return [words for span in spans if span.startswith(("harness ", "nox ")) for words in shell_commands(span)]


def options_of(verb: Any) -> set[str]:
    """The options of a verb, or of those below it."""
    own = {option for parameter in verb.params for option in parameter.opts}
    return own.union(*(options_of(below) for below in getattr(verb, "commands", {}).values()))


def named(page: Path) -> str:
    """A page's name in a test's id."""
    return page.relative_to(ROOT).as_posix()


TYPED = [words for page in PAGES for words in typed_commands(page)]
MENTIONED = [words for page in PAGES for words in mentioned_commands(page)]


# Commands


def test_the_readme_opens_with_a_sentence_a_picture_and_the_two_commands_in_blocks_of_their_own() -> None:
    assert len(text_of(README).splitlines()) <= 200
    _, sentence, picture, *_ = text_of(README).split("\n\n")
    assert len(re.findall(r"[.?!](?:\s|$)", sentence)) == 1
    assert picture == "![The quickstart leaderboard](docs/leaderboard.png)"
    assert [block.text for block in blocks(README, "bash")][:2] == [
        "python -m pip install nox && nox -s evaluate\n",
        "python -m pip install nox && nox -s tests\n",
    ]


@pytest.mark.parametrize("words", [words for words in TYPED if words[0] == "harness"], ids=" ".join)
def test_a_harness_command_in_a_block_is_one_that_the_command_line_takes(words: Sequence[str]) -> None:
    _, verb, *arguments = words
    assert verb in VERBS
    VERBS[verb].make_context(verb, arguments).close()


@pytest.mark.parametrize("words", [words for words in MENTIONED if words[0] == "harness"], ids=" ".join)
def test_a_harness_command_in_a_sentence_names_a_verb_and_options_that_it_has(words: Sequence[str]) -> None:
    _, verb, *arguments = words
    known = {"--help"}
    if verb.startswith("--"):
        assert verb in {option for parameter in COMMAND.params for option in parameter.opts}
    elif verb != "VERB":
        assert verb in VERBS
        known |= {option for parameter in VERBS[verb].params for option in parameter.opts}
    assert {word for word in arguments if word.startswith("-")} <= known


def test_the_readme_shows_every_verb_at_work() -> None:
    assert {words[1] for words in typed_commands(README) if words[0] == "harness"} == set(VERBS)


def test_every_verb_is_in_the_readme_and_has_help() -> None:
    verbs, _ = tables(section(README, "The command line"))
    assert [code(row[0])[0] for row in verbs[1:]] == [f"harness {verb}" for verb in VERBS]
    for verb, command in VERBS.items():
        assert command.help, f"{verb} has no help"
        for parameter in command.params:
            assert parameter.help, f"{verb}: {parameter.name} has no help"


@pytest.mark.parametrize(("page", "heading"), [(README, "The command line"), (CI, "Exit codes")])
def test_the_exit_codes_in_the_docs_are_those_of_the_command_line(page: Path, heading: str) -> None:
    promised = re.search(r"0 fine .*? interrupted", cli.__doc__ or "", re.DOTALL)
    assert promised
    *_, table = tables(section(page, heading))
    assert [row[0] for row in table[1:]] == re.findall(r"\b\d+\b", promised[0])


def nox_sessions() -> set[str]:
    """The functions of the noxfile that are sessions."""
    return {
        node.name
        for node in ast.parse(text_of(ROOT / "noxfile.py")).body
        if isinstance(node, ast.FunctionDef)
        and any(ast.unparse(decorator).startswith("nox.session") for decorator in node.decorator_list)
    }


@pytest.mark.parametrize("words", [words for words in [*TYPED, *MENTIONED] if words[:2] == ["nox", "-s"]], ids=" ".join)
def test_a_nox_command_in_the_docs_names_sessions_that_exist(words: Sequence[str]) -> None:
    asked = words[2 : words.index("--")] if "--" in words else words[2:]
    assert asked
    assert set(asked) <= nox_sessions()


def test_every_nox_session_is_in_the_docs_on_continuous_integration() -> None:
    (table,) = tables(section(CI, "The sessions"))
    assert {code(row[0])[0].removeprefix("nox -s ") for row in table[1:]} == nox_sessions()


# Suite files


def test_the_docs_hold_a_complete_suite() -> None:
    assert [block.info for block in blocks(SUITES, "toml")].count("toml complete") == 1


@pytest.mark.parametrize("block", blocks(SUITES, "toml"), ids=lambda block: block.text.split("\n")[0])
def test_toml_in_the_docs_is_a_sound_suite_or_sound_tables_of_one(block: Block, tmp_path: Path) -> None:
    if block.info == "toml complete":
        path = tmp_path / "example.toml"
        path.write_text(block.text, encoding="utf-8")
        load(path)
        return
    for name, value in tomllib.loads(block.text).items():
        declared: TypeAdapter[Any] = TypeAdapter(Suite.__annotations__[name])
        declared.validate_json(TypeAdapter(Any).dump_json(value))


DECLARATIONS = sorted(
    {kind for kind in vars(schema).values() if isinstance(kind, type) and issubclass(kind, Closed)} - {Closed},
    key=lambda kind: kind.__name__,
)


def key_tables() -> list[dict[str, list[str]]]:
    """The tables of keys in docs/suites.md: cells by key."""
    return [
        {code(row[0])[0]: row for row in table[1:]}
        for table in tables(text_of(SUITES))
        if table[0] == ["key", "type", "required", "meaning"]
    ]


def choices(annotation: Any) -> list[str]:
    """The words that a key may hold, as TOML writes them; none where it is not a choice of words."""
    if type(None) in (kinds := get_args(annotation)) and len(kinds) == 2:  # one that may be absent
        annotation = next(kind for kind in kinds if kind is not type(None))
    if get_origin(annotation) is not Literal:
        return []
    return [f'"{word}"' if isinstance(word, str) else str(word) for word in get_args(annotation)]


@pytest.mark.parametrize("kind", DECLARATIONS, ids=lambda kind: kind.__name__)
def test_every_key_of_a_declaration_is_documented_with_its_choices_and_whether_it_is_required(
    kind: type[BaseModel],
) -> None:
    fields = {
        name: (choices(field.annotation), "yes" if field.is_required() else "no")
        for name, field in kind.model_fields.items()
    }
    documented = [
        {name: (code(row[1]), row[2]) for name, row in table.items()}
        for table in key_tables()
        if set(table) == set(fields)
    ]
    alike = [other for other in DECLARATIONS if set(other.model_fields) == set(fields)]
    assert documented.count(fields) == len(alike), f"{kind.__name__} is {fields}; docs/suites.md has {documented}"


def test_every_table_of_keys_is_of_a_declaration() -> None:
    assert len(key_tables()) == len(DECLARATIONS)


def test_every_metric_is_documented_with_its_better_direction() -> None:
    _, table = tables(section(SUITES, "`[[metric]]`"))
    assert {code(row[0])[0]: row[1] for row in table[1:]} == {
        name: "higher" if definition.higher_is_better else "lower" for name, definition in metrics.METRICS.items()
    }


def test_the_errors_that_the_docs_show_are_the_ones_that_are_said() -> None:
    (shown,) = blocks(SUITES, "text")
    said = ROOT / "tests/resources/bad_suites/96_six_problems_at_once.expected"
    assert shown.text.replace("suites/mine.toml:", "") == text_of(said)


# The store


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    with opened(tmp_path / "store.duckdb") as fresh:
        yield fresh


def test_the_docs_have_the_tables_columns_and_keys_of_the_store(connection: Connection) -> None:
    (table,) = tables(section(ARCHITECTURE, "Store"))
    columns = connection.execute(
        """SELECT table_name, list(column_name ORDER BY ordinal_position)
           FROM information_schema.columns
           JOIN information_schema.tables USING (table_catalog, table_schema, table_name)
           WHERE table_catalog = current_database() AND table_type = 'BASE TABLE' GROUP BY table_name"""
    ).fetchall()
    assert {code(row[0])[0]: code(row[2]) for row in table[1:]} == dict(columns)
    keys = connection.execute(
        """SELECT table_name, constraint_column_names FROM duckdb_constraints()
           WHERE database_name = current_database() AND constraint_type = 'PRIMARY KEY'"""
    ).fetchall()
    assert {code(row[0])[0]: re.findall(r"\*\*`([^`]+)`\*\*", row[2]) for row in table[1:]} == (
        {name: [] for name, _ in columns} | dict(keys)  # predictions have no key of their own
    )


def test_the_docs_have_the_views_of_the_store(connection: Connection) -> None:
    views = connection.execute(
        f"SELECT table_name FROM {TABLES} AND table_type = 'VIEW'"  # noqa: S608 (constant)
    ).fetchall()
    assert set(re.findall(r"The view `(\w+)`", section(ARCHITECTURE, "Store"))) == {name for (name,) in views}


def test_the_notebooks_sql_gives_the_metrics_that_are_stored(
    connection: Connection,
    make_split: Callable[..., Split],
    make_run: Callable[..., Run],
    make_predictions: Callable[..., Any],
) -> None:
    generator = np.random.default_rng(3)
    stored: dict[tuple[str, str, int | None, int], dict[str, float | None]] = {}
    for split in (make_split(7, split_id="small"), make_split(40, split_id="large")):
        writer.write_split(connection, "demo", split, with_text=False)
        for seed in (None, 1, 2):
            scores = generator.uniform(size=len(split.examples))
            outcomes = outcomes_of(split, scores)
            values = tuple(estimates.summarise(name, [outcomes], generator) for name in ("accuracy", "f1"))
            key = f"{split.split_id}-{seed}"
            run = make_run(split, run_id=key, run_key=key, seed=seed, metrics=values)
            writer.write_run(connection, run, make_predictions(split, list(scores)))
            place = (run.model_id, split.split_id, seed, len(scores))
            stored[place] = {metric.name: metric.value for metric in values}
        writer.write_run(connection, make_run(split, run_id=f"no-{split.split_id}", status="error", error="no"), [])
    assert len(reader.all_runs(connection)) == 8

    (block,) = blocks(NOTEBOOK, "sql")
    rows = connection.execute(block.text).fetchall()
    assert len(rows) == len(stored) == 6
    for model_id, split_id, seed, n, accuracy, f1 in rows:
        assert {"accuracy": accuracy, "f1": f1} == pytest.approx(stored[model_id, split_id, seed, n], abs=1e-12)


def test_the_notebooks_sql_has_no_f1_where_there_is_none(
    connection: Connection,
    make_split: Callable[..., Split],
    make_run: Callable[..., Run],
    make_predictions: Callable[..., Any],
) -> None:
    split = make_split(4, labels=[0, 0, 0, 0])
    writer.write_split(connection, "demo", split, with_text=False)
    writer.write_run(connection, make_run(split), make_predictions(split, [0.1] * 4))
    (block,) = blocks(NOTEBOOK, "sql")
    ((*_, accuracy, f1),) = connection.execute(block.text).fetchall()
    assert (accuracy, f1) == (1.0, None)


def outcomes_of(split: Split, scores: Any) -> Outcomes:
    return Outcomes(
        example_ids=tuple(example.example_id for example in split.examples),
        labels=np.array([example.label for example in split.examples]),
        predicted=(scores > 0.5).astype(np.int64),
        scores=scores,
        clusters=None,
    )


# Files, modules, layers, numbers


def tree() -> dict[str, str]:
    """The file tree in docs/architecture.md: what is said of each path; folders are without their final slash."""
    _, block, _ = blocks(ARCHITECTURE, "text")
    found: dict[str, str] = {}
    folders: list[str] = []
    for line in block.text.splitlines():
        match = re.fullmatch(r"((?: {4})*)(\S+)(?: {2,}(\S.*))?", line)
        assert match, f"not a line of a tree: {line!r}"
        depth, name, said = len(match[1]) // 4, match[2], match[3] or ""
        folders = [*folders[:depth], name.rstrip("/")]
        assert len(folders) == depth + 1, f"stands too deep: {line!r}"
        assert said or name.endswith("/"), f"nothing is said of {line!r}"
        found["/".join(folders)] = said
    return found


def test_every_path_of_the_tree_is_on_disk() -> None:
    assert [path for path in tree() if not (ROOT / path).exists()] == []


def test_every_module_page_and_suite_is_in_the_tree() -> None:
    files = [path for name in ("harness", "leaderboard") for path in (ROOT / name).rglob("*.py")]
    files += [path for name in ("docs", "suites") for path in (ROOT / name).iterdir() if path.is_file()]
    assert sorted({path.relative_to(ROOT).as_posix() for path in files} - set(tree())) == []


def test_everything_at_the_top_is_in_the_tree() -> None:
    ignored = [".*", *(line.rstrip("/") for line in text_of(ROOT / ".gitignore").splitlines())]
    listed = {path.split("/")[0] for path in tree()}
    for path in ROOT.iterdir():
        empty = path.is_dir() and not any(inside.is_file() for inside in path.rglob("*"))
        known = path.name in listed or any(fnmatch.fnmatch(path.name, pattern) for pattern in ignored)
        assert known or empty, f"{path.name} is not in the tree of docs/architecture.md"


def test_the_packages_that_are_built_are_the_folders_with_modules() -> None:
    folders = {path.parent for name in ("harness", "leaderboard") for path in (ROOT / name).rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []
    assert PYPROJECT["setuptools"]["packages"]["find"]["include"] == ["harness*", "leaderboard*"]


def test_the_house_has_few_layers_and_few_modules_outside_of_its_rooms() -> None:
    assert len(layers()) <= 10
    for name in ("harness", "leaderboard"):
        assert len(list((ROOT / name).glob("*.py"))) <= 8


def test_a_new_readers_ten_questions_are_answered_by_folders_that_exist() -> None:
    (table,) = tables(section(ARCHITECTURE, "A new reader's ten questions"))
    folders = [code(row[1])[0] for row in table[1:]]
    assert len(folders) == 10
    assert [folder for folder in folders if not (ROOT / folder).is_dir()] == []


def layers() -> list[str]:
    """The layers that import-linter checks, from top to bottom."""
    contracts: list[dict[str, Any]] = PYPROJECT["importlinter"]["contracts"]
    (checked,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    return list(checked)


def test_the_layers_in_the_docs_are_the_ones_that_are_checked() -> None:
    *_, shown = blocks(ARCHITECTURE, "text")
    assert shown.text.splitlines() == layers()


def test_every_room_of_the_layers_is_described() -> None:
    (table,) = tables(section(ARCHITECTURE, "Rooms"))
    described = [name for row in table[1:] for name in code(row[0])]
    assert sorted(described) == sorted(name for layer in layers() for name in layer.split(" | "))


def test_every_extension_table_is_described_and_lies_where_the_docs_say() -> None:
    (table,) = tables(section(ARCHITECTURE, "Extension tables"))
    described = {code(row[0])[0]: code(row[1])[0] for row in table[1:]}
    real = (SOURCES, BACKENDS, metrics.METRICS, slices.SLICES, judge.KINDS, engine.ENGINES)
    assert all(real)
    assert set(described) == {"SOURCES", "BACKENDS", "METRICS", "SLICES", "KINDS", "ENGINES"}
    for name, path in described.items():
        assert re.search(rf"^{name}\b.* = (\w+\(\s*)?{{", text_of(ROOT / path), re.MULTILINE), path


def test_constants_in_the_docs_are_those_of_the_code() -> None:
    assert f"{inference.RESAMPLES:,} resamples" in text_of(STATISTICS)
    assert f"All intervals are {100 * inference.CONFIDENCE:.0f} %." in text_of(STATISTICS)
    assert f"waits up to {LOCK_WAIT_SECONDS:g} seconds" in text_of(RELIABILITY).replace("\n", " ")
    (least,) = re.findall(r'^LEAST_COVERAGE = "(\d+)"', text_of(ROOT / "noxfile.py"), re.MULTILINE)
    assert f"at {least} % or more" in text_of(CONTRIBUTING)
    assert f"at most {PYPROJECT['ruff']['line-length']} characters" in text_of(CONTRIBUTING)


def test_the_page_on_accelerators_names_the_verbs_kinds_and_budget_of_the_code() -> None:
    text = text_of(ACCELERATORS).replace("\n", " ")
    assert f"begins with {device.TOKENS_PER_PASS:,} padded tokens" in text
    named_there = re.search(r"is an option of every verb that .*?: ([^.]*)\. Without it `HARNESS_DEVICE`", text)
    assert named_there is not None
    assert set(code(named_there[1])) == {name for name, verb in VERBS.items() if "--device" in options_of(verb)}
    rows = tables(section(ACCELERATORS, "Choosing a device"))[0][1:]
    assert {word for row in rows for word in code(row[0])} == {device.AUTO, *device.KINDS}
    assert "None of this has been run on a GPU yet." in text


# Links and words


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(page)):
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        if not target.startswith("https://") and (not file.exists() or (anchor and anchor not in anchors(file))):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_no_page_waits_to_be_filled_in(page: Path) -> None:
    assert re.findall(r"@@[^@]*@@", text_of(page)) == []


def test_no_file_holds_a_path_of_the_machine_that_it_was_written_on() -> None:
    forbidden = ["/".join(["", *parts]).encode() for parts in (("work", ""), ("tmp", "lab"), ("root", ""))]
    for path in ROOT.rglob("*"):
        *folders, name = path.relative_to(ROOT).parts
        generated = {"runs", "build", "dist", "site"} & set(folders[:1]) or "egg-info" in "".join(folders[:1])
        hidden = any(part.startswith(".") and part != ".ci" for part in [*folders, name])
        if generated or hidden or "__pycache__" in folders or name == "LICENSE" or not path.is_file():
            continue
        data = path.read_bytes()
        assert [words for words in forbidden if words in data] == [], path
