"""Rendered pages: numbers as stored, hostile text harmless, markup sound, links whole, nothing from the network."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pytest

from harness.errors import UsageError
from harness.records import Expected
from harness.stats.inference import independent_difference, wilson
from harness.store import writer
from leaderboard.board.records import Board
from leaderboard.pages import formats, overview
from leaderboard.site import render

if TYPE_CHECKING:
    from tests.leaderboard.conftest import Bench

VOID = {"meta", "link", "br", "img", "input", "hr"}
NOON = datetime.fromisoformat("2026-03-01T12:00")
EXPECTED = Expected(
    "tfidf on test: accuracy >= 0.6", "tfidf", "confirmed", "0.700 is above 0.6", {"value": 0.7}, NOON, True
)
BADGES = ("gates", "gates/tfidf", "gates/tiny+lora", "lead/tiny+ia3", "lead/tiny+lora")
SCRIPTS = [
    {"src": "static/drawer.js", "defer": ""},
    {"src": "static/board.js", "defer": ""},
    {"src": "static/theme.js"},
    {"src": "../static/theme.js"},
]
HOSTILE = "</td><script>alert('&')</script>"


class Page(HTMLParser):
    """A page's elements and text; tags that do not match are errors."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        """The readable text, with single spaces, also between cells."""
        return re.sub(r" (?=[;.])", "", " ".join(" ".join(self.words).split()))

    def attributes(self, *names: str) -> Iterator[str]:
        return (value for _, attrs in self.elements for name, value in attrs.items() if name in names)


def parsed(files: Mapping[str, str | bytes]) -> dict[str, Page]:
    return {name: Page(text) for name, text in files.items() if isinstance(text, str) and name.endswith(".html")}


def test_there_is_an_index_a_style_sheet_and_a_page_per_declared_model(site: dict[str, str]) -> None:
    assert sorted(site) == [
        *(f"demo/badges/{name}.{form}" for name in BADGES for form in ("json", "svg")),
        "demo/board.csv",
        "demo/board.json",
        "demo/majority.html",
        "demo/tfidf.html",
        "demo/tiny+ia3.html",
        "demo/tiny+lora.html",
        "demo/tiny.html",
        "index.html",
        "static/board.js",
        "static/drawer.js",
        "static/icon.svg",
        "static/style.css",
        "static/theme.js",
    ]


def test_the_same_store_gives_the_same_bytes(filled: "Bench", site: dict[str, str]) -> None:
    assert filled.pages() == site


def test_every_page_is_well_formed_and_says_its_language_and_title(site: dict[str, str]) -> None:
    for name, page in parsed(site).items():
        tags = [tag for tag, _ in page.elements]
        assert ("html", {"lang": "en"}) in page.elements, name
        assert tags.count("title") >= 1, name
        assert tags.count("h1") == 1, name
        assert tags.count("main") == 1, name
        levels = [int(tag[1]) for tag in tags if re.fullmatch(r"h\d", tag)]
        assert all(below <= above + 1 for above, below in pairwise(levels)), f"{name}: a heading's level is left out"
        ids = list(page.attributes("id"))
        assert len(ids) == len(set(ids)), f"{name}: an id is there twice"


def test_every_table_has_a_caption_and_scoped_heads(site: dict[str, str]) -> None:
    for name, page in parsed(site).items():
        tags = [tag for tag, _ in page.elements]
        assert tags.count("table") == tags.count("caption"), name
        assert all(attrs.get("scope") in {"col", "row", "rowgroup"} for tag, attrs in page.elements if tag == "th"), (
            name
        )


def test_every_internal_link_leads_to_a_rendered_file_and_to_an_id_that_is_there(site: dict[str, str]) -> None:
    files = site
    pages = parsed(files)
    for name, page in pages.items():
        for link in page.attributes("href", "src"):
            parts = urlsplit(link)
            target = _resolve(name, unquote(parts.path))
            assert target in files or target == "demo/board.parquet", f"{name} links to {link}"
            if parts.fragment:
                assert unquote(parts.fragment) in set(pages[target].attributes("id")), f"{name} links to {link}"


def _resolve(page: str, path: str) -> str:
    """A relative link as a file name of the site; an empty path is the page itself."""
    steps: list[str] = []
    for step in (PurePosixPath(page).parent / path if path else PurePosixPath(page)).parts:
        if step == "..":
            steps.pop()
        else:
            steps.append(step)
    return "/".join(steps)


def test_nothing_is_loaded_from_the_network_and_nothing_is_executed(site: dict[str, str]) -> None:
    for name, text in site.items():
        if isinstance(text, bytes):
            continue  # Parquet, which no page loads
        assert "http:" not in text.replace('xmlns="http://www.w3.org/2000/svg"', ""), name
        assert "https:" not in text, name
        assert "@import" not in text, name
        assert "url(" not in text, name
        scripts = re.findall(r"<script[^>]*>", text) if name.endswith(".html") else []
        root = "" if name == "index.html" else "../"
        theme = [f'<script src="{root}static/theme.js">'] if name.endswith(".html") else []
        tools = [f'<script src="static/{script}.js" defer>' for script in ("drawer", "board")]
        board = tools if name == "index.html" else []
        assert scripts == [*theme, *board], name
        assert not re.search(r"\son\w+=", text), name


def test_hostile_text_from_the_store_stays_text(bench_of: "Callable[..., Bench]") -> None:
    bench = bench_of(description=HOSTILE)
    split = bench.add_split("test", 40)
    surroundings: dict[str, Any] = {"packages": {HOSTILE: HOSTILE}, "hardware": {"processor": HOSTILE}}
    keys: dict[str, Any] = {"run_id": HOSTILE, "run_key": "f" * 16 + HOSTILE, "git_commit": HOSTILE}
    bench.add_run("tfidf", split, right=0.8, **surroundings, **keys)
    adapter = bench.add_adapter("ia3", 13, trained_on=HOSTILE, base_digest=HOSTILE, adapter_digest=HOSTILE)
    bench.add_run("tiny+ia3", split, 13, right=0.8, adapter=adapter)
    bench.add_verdict(f"tfidf on test: {HOSTILE}", "fail", HOSTILE)
    bench.expected.append(replace(EXPECTED, rule=HOSTILE, reason=HOSTILE))
    bench.audit(split, overlap={HOSTILE: {"exact": [], "normalised": [], "near": []}}, tokens={HOSTILE: None})
    files = bench.pages()
    for page in parsed(files).values():
        assert all(attrs in SCRIPTS for tag, attrs in page.elements if tag == "script")
    pages = parsed(files)
    assert pages["index.html"].text.count(HOSTILE) == 8, "description, rules, place, reasons, a split, a tokenizer"
    assert pages["demo/tfidf.html"].text.count(HOSTILE) >= 7
    assert pages["demo/tiny+ia3.html"].text.count(HOSTILE) >= 3


def test_hostile_ids_stay_text_even_if_a_suite_was_never_checked(board: Board) -> None:
    models = tuple(model.model_copy(update={"id": f"{model.id}{HOSTILE}"}) for model in board.suite.model)
    sections = tuple(
        replace(
            section,
            split=section.split.model_copy(update={"id": f"{section.split.id}{HOSTILE}"}),
            entries=tuple(
                replace(entry, model_id=f"{entry.model_id}{HOSTILE}", tier=None) for entry in section.entries
            ),
            tiers=(),
            answers=tuple(replace(one, model_id=f"{one.model_id}{HOSTILE}") for one in section.answers),
            pairs=tuple(replace(pair, other_id=f"{pair.other_id}{HOSTILE}") for pair in section.pairs),
        )
        for section in board.sections
    )
    changed = Board(board.suite.model_copy(update={"model": models}), sections, None, (), (), board.outcomes)
    for page in parsed(render.render([changed])).values():
        assert all(attrs in SCRIPTS for tag, attrs in page.elements if tag == "script")


def test_scores_on_the_page_are_those_of_the_store(filled: "Bench", board: Board, site: dict[str, str]) -> None:
    pages = parsed(site)
    for section in board.sections:
        for entry in section.entries:
            for page in (pages["index.html"], pages[f"demo/{entry.model_id}.html"]):
                for metric in entry.metrics.values():
                    expected = f"{formats.score(metric.value)} {formats.interval(metric.ci_low, metric.ci_high)}"
                    assert expected in page.text
    rows = filled.connection.execute(
        "SELECT model_id, value, ci_low, ci_high FROM metric JOIN run USING (run_id)"
    ).fetchall()
    assert len(rows) == 2 * 9 * 3
    for model_id, value, low, high in rows:
        assert f"{value:.3f} [{low:.3f}, {high:.3f}]" in pages[f"demo/{model_id}.html"].text


def test_the_query_on_the_page_recomputes_the_accuracy_on_the_page(filled: "Bench", site: dict[str, str]) -> None:
    page = Page(site["demo/tiny+lora.html"])
    queries = re.findall(r"Accuracy (\d\.\d{3}), recomputed by this query: (SELECT .*?;)", page.text)
    assert len(queries) == 6
    for accuracy, query in queries:
        row = filled.connection.execute(query).fetchone()
        assert row is not None
        assert f"{row[0]:.3f}" == accuracy
        assert row[1] in (120, 90)


def test_a_run_id_with_a_quote_does_not_leave_its_literal(bench: "Bench") -> None:
    bench.add_run("tfidf", bench.add_split("test", 40), right=0.8, run_id="it's'; DROP TABLE run; --")
    page = Page(bench.pages()["demo/tfidf.html"])
    found = re.search(r"SELECT .*;", page.text.split("Definition")[-1])
    assert found is not None
    query = found[0].split(" Environment")[0]
    row = bench.connection.execute(query).fetchone()
    assert row == (0.8, 40)


def test_the_headline_says_who_leads_by_how_much_and_over_what(board: Board, site: dict[str, str]) -> None:
    text = Page(site["index.html"]).text
    assert board.headline is not None
    ahead = board.headline.comparisons[0].lead
    assert ahead is not None
    metric = board.headline.leader.metrics["accuracy"]
    assert (
        f"tiny+lora leads: accuracy {formats.score(metric.value)} {formats.interval(metric.ci_low, metric.ci_high)}"
        f" on 120 examples of test over 3 seeds; ahead of tfidf by {ahead.value:.3f}"
        f" [{ahead.ci_low:.3f}, {ahead.ci_high:.3f}]; not separable from tiny+ia3;"
        f" corrected for being the best of {board.headline.n_candidates}: "
    ) in text


def test_the_headline_admits_a_lead_that_may_be_chance(bench: "Bench") -> None:
    split = bench.add_split("test", 60)
    bench.add_run("tfidf", split, right=0.70, noise=1.0)
    bench.add_run("majority", split, right=0.68, noise=1.0)
    text = Page(bench.pages()["index.html"]).text
    assert re.search(r"not separable from majority: difference \+0\.01\d \[−0\.\d{3}, 0\.\d{3}\], p \d\.\d{3};", text)


def test_a_lead_that_stands_alone_but_not_among_many_is_no_lead_in_the_headline(
    bench_of: "Callable[..., Bench]",
) -> None:
    declared = "".join(f'[[model]]\nid = "m{i}"\nbackend = "majority"\ntrain_split = "train"\n\n' for i in range(8))
    bench = bench_of(models=declared, gate=False)
    split = bench.add_split("test", 200)
    for i in range(8):
        bench.add_run(f"m{i}", split, right=0.87 if i else 0.90, noise=0.05)
    board = bench.board()
    assert board.headline is not None
    first = board.headline.comparisons[0]
    assert first.lead is not None
    assert first.lead.ci_low > 0
    said = Page(str(render.render([board])["index.html"])).text
    assert f"not separable from {first.other_id}: difference +0.030 [" in said
    assert "ahead of" not in said


def test_where_lower_is_better_the_leader_is_ahead_by_a_positive_number(bench_of: "Callable[..., Bench]") -> None:
    bench = bench_of(primary="log_loss")
    bench.fill(bench.add_split("test", 120), {"tfidf": 0.6, "tiny+lora": 0.9})
    text = Page(bench.pages()["index.html"]).text
    assert "lower is better" in text
    assert re.search(r"tiny\+lora leads: log loss .* ahead of tfidf by \d\.\d{3} \[\d", text)
    assert re.search(
        r"Tier 2 begins at tfidf: \d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\], p < 0.001, behind tiny\+lora\.", text
    )


def test_tiers_group_the_rows_and_each_boundary_is_explained(site: dict[str, str]) -> None:
    text = Page(site["index.html"]).text
    assert re.search(r" 1 tiny\+lora .* 1 tiny\+ia3 .* 2 tfidf .* 3 majority .* – tiny ", text)
    assert re.search(r"Tier 2 begins at tfidf: 0\.2\d\d \[0\.\d{3}, 0\.\d{3}\], p < 0.001, behind tiny\+lora\.", text)
    assert "is below 0.05, after Holm's correction for all pairs of the split" in text
    assert "even one false boundary on a split to 5 %" in text


def test_every_pair_is_listed_under_the_model_that_stands_above(board: Board, site: dict[str, str]) -> None:
    text = Page(site["index.html"]).text
    assert text.count("Pairwise comparisons") == len(board.sections)
    for section in board.sections:
        assert f"p adjusted for all {len(section.pairs)} pairs" in text
        for pair in section.pairs:
            assert pair.lead is not None
            assert pair.adjusted_p is not None
            lead = f"{formats.score(pair.lead.value)} {formats.interval(pair.lead.ci_low, pair.lead.ci_high)}"
            told = "yes" if pair.apart else "no"
            assert f"{pair.other_id} {lead} {formats.p_value(pair.adjusted_p)} {told}" in text
    assert "tiny+lora over tiny+ia3 " in text
    assert "tfidf over majority " in text
    assert "tiny over" not in text, "it is not ranked"


def test_a_pair_without_an_interval_has_dashes(bench: "Bench") -> None:
    split = bench.add_split("test", 40, clusters=1)
    bench.add_run("tfidf", split, right=0.9)
    bench.add_run("majority", split, right=0.5)
    assert "tfidf over majority – – no" in Page(bench.pages()["index.html"]).text


def test_one_ranked_model_has_nobody_to_be_compared_with(bench: "Bench") -> None:
    bench.add_run("tfidf", bench.add_split("test", 40), right=0.9)
    text = Page(bench.pages()["index.html"]).text
    assert "Pairwise comparisons" not in text
    assert "1 configuration has been scored on these rows in this store; every look lets choices overfit them" in text


def test_a_split_says_how_often_it_was_looked_at(site: dict[str, str]) -> None:
    text = Page(site["index.html"]).text
    assert text.count("Looks 5 configurations have been scored on these rows in this store") == 2


def test_a_split_that_was_not_audited_is_said_to_be_so_with_the_command(site: dict[str, str]) -> None:
    assert Page(site["index.html"]).text.count("Audit not audited") == 2
    assert site["index.html"].count("<code>harness data SUITE</code>") >= 2


def test_what_the_audit_found_stands_with_its_split(bench: "Bench") -> None:
    split = bench.add_split("test", 40)
    bench.add_run("tfidf", split, right=0.9)
    near = [["t1", "s1", 0.9], ["t2", "s1", 0.8], ["t2", "s2", 0.95]]
    bench.audit(
        split,
        exact_duplicates={"groups": 1, "rows": 3, "ids": []},
        conflicting_labels={"groups": 1, "rows": 2, "ids": []},
        near_duplicates={"pairs": 2, "rows": 4, "threshold": 0.8, "ids": []},
        normalised_duplicates={"groups": 2, "rows": 5, "ids": []},
        overlap={"train": {"exact": [["t0", "s0"]], "normalised": [["t5", "s5"]], "near": near}},
        tokens={"tiny-base": {"max_length": 64, "truncated": 7, "truncated_share": 0.175}},
    )
    page = bench.pages()["index.html"]
    text = Page(page).text
    for words in (
        "Positive 50.0 % 20 of 40 rows",
        "Repeated 3 equal, 5 rewritten, 4 nearly equal rows, by their text; 2 with both labels",
        "Also in train 1 equal, 1 rewritten, 2 nearly equal rows, by their text",
        "Truncated at 64 tokens 17.5 % 7 of 40 rows, as tiny-base tokenizes them",
        "audited 2026-03-01 12:00 UTC",
    ):
        assert words in text
    assert text.count("not audited") == 1, "the other split"
    assert page.count('class="warning"') == 1


@pytest.mark.parametrize(
    "shared", [{"exact": [["t", "s"]]}, {"normalised": [["t", "s"]]}, {"near": [["t", "s", 0.9]]}], ids=str
)
def test_a_row_that_was_trained_on_is_a_warning_even_if_only_nearly(bench: "Bench", shared: dict[str, Any]) -> None:
    bench.audit(bench.add_split("test", 40), overlap={"train": {"exact": [], "normalised": [], "near": []} | shared})
    assert bench.pages()["index.html"].count('class="warning"') == 1


def test_rows_that_nothing_was_trained_on_raise_no_warning_and_an_unknown_tokenizer_is_a_dash(bench: "Bench") -> None:
    bench.audit(bench.add_split("test", 40))
    page = bench.pages()["index.html"]
    assert "Also in train 0 equal, 0 rewritten, 0 nearly equal" in Page(page).text
    assert "Truncated – the tokenizer of tiny-base was not available" in Page(page).text
    assert 'class="warning"' not in page


@pytest.mark.parametrize(
    ("first_seen_at", "stated_first", "words"),
    [
        (NOON, True, "stated first on 2026-03-01 12:00 UTC"),
        (NOON, False, "stated after the run, on 2026-03-01 12:00 UTC"),
        (NOON, None, "not yet run; stated on 2026-03-01 12:00 UTC"),
        (None, None, "not recorded in this store yet"),
    ],
)
def test_an_expectation_says_what_came_of_it_and_when_it_was_stated(
    bench: "Bench", first_seen_at: datetime | None, stated_first: bool | None, words: str
) -> None:
    bench.expected.append(replace(EXPECTED, first_seen_at=first_seen_at, stated_first=stated_first))
    text = Page(bench.pages()["index.html"]).text
    assert f"tfidf on test ✓ confirmed accuracy >= 0.6 {words} 0.700 is above 0.6" in text
    assert "authors: 1 confirmed." in text


def test_expectations_are_counted_by_their_answers(bench: "Bench") -> None:
    bench.expected += [
        replace(EXPECTED, answer=answer) for answer in ("undecided", "refuted", "undecided", "confirmed")
    ]
    text = Page(bench.pages()["index.html"]).text
    assert "authors: 1 confirmed, 1 refuted, 2 undecided." in text
    assert "✗ refuted" in text
    assert "? undecided" in text


def test_a_suite_that_expects_nothing_has_no_part_about_it(site: dict[str, str]) -> None:
    assert "xpectation" not in site["index.html"]


def test_a_verdict_of_any_kind_is_told_by_its_rule_and_reason(bench: "Bench") -> None:
    more = "0.060 flip [0.047, 0.074], n 885, limit 0.05; about 440,000 more examples would decide it"
    rules = {
        "tiny+lora on test: flips against baseline main <= 0.05": more,
        "tiny+lora on test: accuracy drop to elsewhere <= 0.1": "drop +0.098 [+0.055, +0.143]",
        "tiny+lora on test: size_bytes <= 400000": "302,631 bytes, limit 400,000",
        "tiny+lora on test: throughput >= 0.9 of tfidf": "timed in different evaluations, which cannot be compared",
        "tiny+lora on test where negation=present: accuracy >= 0.85": "0.850 [0.796, 0.899], n 247, limit 0.85",
    }
    for rule, reason in rules.items():
        bench.add_verdict(rule, "inconclusive", reason)
    pages = parsed(bench.pages())
    for rule, reason in rules.items():
        for page in ("index.html", "demo/tiny+lora.html"):
            place, _, words = rule.partition(": ")
            assert f"? inconclusive {words} warns only {reason}" in pages[page].text
            assert f" {place} ? inconclusive" in pages[page].text


def test_intervals_and_n_are_explained_in_each_sections_summary(site: dict[str, str]) -> None:
    text = Page(site["index.html"]).text
    assert (
        "Accuracy on 120 examples; higher is better. 95 % intervals: bootstrap over examples and seeds;"
        " Wilson where there is one run."
    ) in text
    assert (
        "Accuracy on 90 examples in 30 clusters; higher is better. 95 % intervals: bootstrap over clusters and seeds."
        in text
    )


def test_a_models_page_says_on_which_splits_the_intervals_were_made_differently(site: dict[str, str]) -> None:
    text = Page(site["demo/tfidf.html"]).text
    assert "test: 95 % intervals: bootstrap over examples and seeds; Wilson where there is one run." in text
    assert "elsewhere: 95 % intervals: bootstrap over clusters and seeds." in text


def test_badges_missing_runs_and_absent_numbers_are_on_the_page(bench: "Bench") -> None:
    split = bench.add_split("test", 60)
    bench.fill(split, {"tiny": 0.5, "tiny+ia3": 0.8})
    bench.add_run("tiny+lora", split, 13, right=0.9)
    pages = parsed(bench.pages())
    index = pages["index.html"].text
    assert "tiny untrained head" in index
    assert "tiny+ia3 1 seed" in index
    assert "tiny+lora 1 of 3 seeds LoRA on tiny-base · ✓ adapter loaded 0.900 [" in index
    assert re.search(r"\] – 60 1 of 3 – – – 30\.0 – ", index), (
        "drop, n, seeds, parameters, bytes, seconds, rate, memory"
    )
    assert "tfidf not run TF-IDF + logistic regression – – – – – – 0 of 1 – – – – – " in index
    assert "There is no run of seed 42, 87 on test; harness evaluate produces it." in pages["demo/tiny+lora.html"].text
    assert "There is no run on test; harness evaluate produces it." in pages["demo/tfidf.html"].text
    assert "Nothing has been scored on this split yet." in index


def test_a_models_page_has_its_definition_digests_verdicts_and_surroundings(board: Board, site: dict[str, str]) -> None:
    text = Page(site["demo/tiny+lora.html"]).text
    for entry in board.entries_of("tiny+lora"):
        for scored in entry.runs:
            run = scored.run
            for value in (
                run.run_id,
                run.run_key,
                run.configuration,
                run.split_digest,
                run.adapter_digest,
                run.suite_digest,
            ):
                assert str(value) in text
        for record in entry.adapters:
            assert record.base_digest in text
            assert str(record.trained_on) in text
    for phrase in (
        "[[adapter]]", "epochs = 3", 'method = "lora"', "params = { r = 8 }", "[[base]]", "[[split]]", "[text]",
        "12,345", "590 kB",
        "40.4 s", "1.2 GB", "Imaginary 9000", "torch 2.9.1", "c" * 40, "is below 0.95", "fails the gate",
    ):  # fmt: skip
        assert phrase in text, phrase
    assert "is above 0.5" not in text, "a verdict on another model"
    assert "uncommitted" not in text


def test_confusions_add_up_over_seeds(board: Board, site: dict[str, str]) -> None:
    text = Page(site["demo/tiny+lora.html"]).text
    counts = [scored.confusion for scored in board.entries_of("tiny+lora")[0].runs]
    tp, fn = sum(c.true_positive for c in counts), sum(c.false_negative for c in counts)
    assert tp + fn == 180
    assert "test: 360 predictions, 3 seeds summed" in text
    assert f"labelled positive {tp} {tp / 180:.3f} {fn} {fn / 180:.3f}" in text


def test_runs_in_different_surroundings_are_told_apart(bench: "Bench") -> None:
    split = bench.add_split("test", 40)
    bench.add_run("tiny+lora", split, 13, right=0.9)
    bench.add_run("tiny+lora", split, 42, right=0.9, git_dirty=True)
    bench.add_run("tiny+lora", split, 87, right=0.9, git_commit=None, git_dirty=None, seconds=None, truncated=None)
    text = Page(bench.pages()["demo/tiny+lora.html"]).text
    assert "Environment of test, seed 13 " in text
    assert f"Environment of test, seed 42 git commit {'c' * 40} with uncommitted changes" in text
    assert "Environment of test, seed 87 git commit –" in text


def test_a_model_that_never_predicts_a_class_has_a_dash_and_no_crash(bench_of: "Callable[..., Bench]") -> None:
    bench = bench_of(primary="roc_auc")
    split = bench.add_split("test", 40)
    one_class = replace(split, examples=tuple(replace(e, label=0) for e in split.examples), digest="e" * 64)
    writer.write_split(bench.connection, "demo", one_class, with_text=False)
    bench.add_run("tfidf", one_class, right=0.8)
    text = Page(bench.pages()["demo/tfidf.html"]).text
    assert "labelled positive 0 – 0 –" in text


def test_gates_that_were_declared_but_never_judged_are_said_to_be_so(bench_of: "Callable[..., Bench]") -> None:
    assert "1 declared, none judged" in Page(bench_of().pages()["index.html"]).text
    assert "This suite declares no gates." in Page(bench_of(name="free", gate=False).pages()["index.html"]).text


def test_an_empty_store_still_renders(bench: "Bench") -> None:
    pages = parsed(bench.pages())
    assert "No model is ranked yet" in pages["index.html"].text
    assert "not run" in pages["demo/tfidf.html"].text


def test_one_split_needs_no_matrix(bench_of: "Callable[..., Bench]") -> None:
    bench = bench_of(splits=("test",))
    bench.fill(bench.add_split("test", 40), {"tfidf": 0.8})
    assert "side by side" not in bench.pages()["index.html"]


def test_the_drop_to_another_split_stands_beside_its_score(bench: "Bench") -> None:
    bench.add_run("tfidf", bench.add_split("test", 100), right=0.9)
    bench.add_run("tfidf", bench.add_split("elsewhere", 100), right=0.7)
    text = Page(bench.pages()["index.html"]).text
    value, low, high = independent_difference((0.9, *wilson(90, 100)), (0.7, *wilson(70, 100)))
    assert f"+{value:.3f} on elsewhere [{low:.3f}, {high:.3f}]" in text
    assert text.count(f"{value:.3f} [{low:.3f}, {high:.3f}]") == 1, "in the other split's own table"


def test_a_metric_that_should_be_low_drops_when_it_rises(bench_of: "Callable[..., Bench]") -> None:
    bench = bench_of(primary="brier")
    bench.add_run("tfidf", bench.add_split("test", 100), right=0.9)
    bench.add_run("tfidf", bench.add_split("elsewhere", 100), right=0.7)
    assert re.search(r"\+0\.\d+ on elsewhere", Page(bench.pages()["index.html"]).text)


def test_several_suites_have_a_board_each_and_share_one_index(
    bench_of: "Callable[..., Bench]", filled: "Bench", board: Board
) -> None:
    boards = [board, bench_of(name="two").board()]
    files = render.render(boards)
    pages = parsed(files)
    assert {"demo/tfidf.html", "two/tfidf.html", "demo/index.html", "two/index.html"} <= set(files)
    index = pages["index.html"]
    assert {"suite:demo", "suite:two"} <= set(index.attributes("id"))
    assert {"demo/index.html", "two/index.html"} <= set(index.attributes("href"))
    assert "split:demo:test" in pages["demo/index.html"].attributes("id")
    for page in (index, pages["demo/index.html"], pages["two/index.html"]):
        assert [tag for tag, _ in page.elements].count("h1") == 1
    assert [*pages["demo/index.html"].attributes("href")].count("../index.html") == 2, "the crumb, and the head's brand"
    assert "../demo/index.html#suite:demo" in pages["demo/tfidf.html"].attributes("href")


def test_the_index_of_several_suites_has_each_ones_answers_gates_and_time(
    bench_of: "Callable[..., Bench]", board: Board
) -> None:
    page = parsed(render.render([board, bench_of(name="two").board()]))["index.html"]
    alone = parsed(render.render([board]))["index.html"]
    answers = re.findall(r"Is \S+ better than tiny-base\? [✓✗?] \w+ [+−][\d.]+ points \[[^]]+\]", page.text)
    assert len(answers) == 2
    assert all(answer in alone.text for answer in answers)
    assert "✗ 1 of 2 gates passed · evaluated 2026-03-01" in page.text
    assert page.text.count("not yet evaluated") == 1, "the other suite has no runs"
    assert "Not known" not in page.text, "and nothing is said of its adapters"


def test_a_page_of_one_suite_is_no_page_of_several(board: Board) -> None:
    files = render.render([board])
    assert "demo/index.html" not in files
    assert "All suites" not in str(files["index.html"])


def test_a_suite_with_more_adapters_than_cards_says_how_many_more_its_board_has(board: Board) -> None:
    section = board.sections[0]
    answers = tuple(answer for answer in section.answers for _ in range(5))
    many = replace(board, sections=(replace(section, answers=answers), *board.sections[1:]))
    assert overview.suite_summary(many).more == "The board of demo, with 4 more adapters"
    assert len(overview.suite_summary(many).cards) == 6
    assert overview.suite_summary(board).more == "The board of demo"


def test_a_model_named_like_its_board_on_a_site_of_several_is_refused(board: Board) -> None:
    model = board.suite.model[0].model_copy(update={"id": "index"})
    named = replace(board, suite=board.suite.model_copy(update={"name": "one", "model": [model]}))
    with pytest.raises(UsageError, match="'one': its board and its model 'index' would be the same file 'one/index"):
        render.render([named, board])


def test_no_suites_give_a_page_that_says_so() -> None:
    assert "No suite was given" in Page(str(render.render([])["index.html"])).text


@pytest.mark.parametrize("names", [("demo", "demo"), ("index.html",), ("static",)])
def test_names_that_would_share_a_file_are_refused(board: Board, names: tuple[str, ...]) -> None:
    boards = [replace(board, suite=board.suite.model_copy(update={"name": name})) for name in names]
    with pytest.raises(UsageError, match="suite"):
        render.render(boards)


def test_text_has_enough_contrast_in_both_palettes(site: dict[str, str]) -> None:
    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    pairs = re.findall(r"--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\);", site["static/style.css"])
    assert len(pairs) == site["static/style.css"].count("light-dark(")
    for palette in (0, 1):
        colours = {name: both[palette] for name, *both in pairs}
        for text in ("ink", "soft", "accent", "pass", "fail", "inconclusive"):
            dark, light = sorted([luminance(colours[text]), luminance(colours["paper"])])
            assert (light + 0.05) / (dark + 0.05) >= 4.5, f"{text}: {colours[text]}"
