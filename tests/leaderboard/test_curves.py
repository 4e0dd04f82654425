"""Learning curves on the board: sentence, plot and table, in a browser and held to the store."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest

from harness.stats.curves import Crossover
from harness.store import sql_metrics
from harness.suite.curves import points
from leaderboard.board.records import Board
from leaderboard.pages import curves
from leaderboard.site import check, render
from leaderboard.site.unchanged import made_from
from tests.leaderboard.browsing import Opened
from tests.leaderboard.conftest import Bench, open_bench, texts_of

CURVE = """
[[curve]]
id = "size"
model = "tiny+lora"
against = ["tfidf", "tiny", "majority"]
split = "test"
rows = [16, 64, 256, 1024]
seeds = [3, 4, 5]
"""
RIGHT = {
    "tiny+lora": {16: 0.5, 64: 0.66, 256: 0.86, 1024: 0.94},
    "tfidf": {16: 0.6, 64: 0.7, 256: 0.74, 1024: 0.78},
    "majority": {16: 0.5, 64: 0.5, 256: 0.5, 1024: 0.5},
}


def fill(bench: Bench) -> None:
    """Score every model, and every point of the curve."""
    test = bench.add_split("test", 300)
    bench.fill(test, {"majority": 0.5, "tfidf": 0.7, "tiny": 0.5, "tiny+lora": 0.9, "tiny+ia3": 0.89})
    for point in points(bench.suite):
        right = RIGHT[point.of][point.subset.rows] + 0.01 * (point.subset.seed - 4)
        bench.add_run(point.model_id, test, None, right=right, noise=0.6)


@pytest.fixture(scope="module")
def curved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A store with a whole curve. Only to be read."""
    with ExitStack() as stores:
        bench = open_bench(tmp_path_factory.mktemp("curved"), stores, {"curves": CURVE, "splits": ("test",)})
        fill(bench)
        yield bench


@pytest.fixture(scope="module")
def files(curved: Bench) -> dict[str, str | bytes]:
    return curved.whole_site()


@pytest.fixture(scope="module")
def folder(files: dict[str, str | bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its site on disk, for the browser."""
    out = tmp_path_factory.mktemp("curve") / "site"
    render.write(files, out)
    return out


# Words


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (Crossover(180, 90, 420, 16, 2000), "From 180 rows on [90, 420] lora beats tfidf."),
        (
            Crossover(180, 16, None, 16, 2000),
            "From how many rows on lora beats tfidf is undecided between 16 and 2,000 rows.",
        ),
        (Crossover(1500, 16, 1800, 16, 2000), "From 1,500 rows on [at most 16, 1,800] lora beats tfidf."),
        (Crossover(16, 16, 64, 16, 2000), "lora beats tfidf already at 16 rows [at most 16, 64]."),
        (Crossover(16, 16, 16, 16, 2000), "lora beats tfidf already at 16 rows [at most 16]."),
        (Crossover(None, 900, None, 16, 2000), "lora never beats tfidf within 2,000 rows [900, more than 2,000]."),
        (Crossover(None, None, None, 16, 2000), "lora never beats tfidf within 2,000 rows [more than 2,000]."),
        (None, "From how many rows on lora beats tfidf is not known: too few points of curve size are scored."),
    ],
)
def test_the_sentence_says_where_the_crossover_is_and_how_sure_that_is(
    curved: Bench, found: Crossover | None, sentence: str
) -> None:
    (curve,) = curved.suite.curve
    assert curves._sentence(curve.model_copy(update={"model": "lora"}), "tfidf", found) == sentence


# The board


def test_a_curve_has_a_line_for_each_model_and_a_crossover_for_each_pair(curved: Bench) -> None:
    (result,) = curved.board().curves
    assert [(line.model_id, len(line.places), line.flat) for line in result.lines] == [
        ("tiny+lora", 4, False),
        ("tfidf", 4, False),
        ("tiny", 1, True),
        ("majority", 4, False),
    ]
    assert (result.runs, result.expected, result.n) == (36, 36, 300)
    over = {pair.other_id: pair.crossover for pair in result.pairs}
    assert over["tfidf"] is not None
    assert over["tfidf"].rows is not None
    assert 64 < over["tfidf"].rows < 256
    assert over["tfidf"].low is not None
    assert over["tfidf"].high is not None
    assert over["tfidf"].low <= over["tfidf"].rows <= over["tfidf"].high
    assert result.lines[0].places[2].metric.value == pytest.approx(0.86, abs=0.003)
    assert curved.board().curves == curved.board().curves


def test_points_are_in_no_ranking_and_have_no_page(curved: Bench, files: dict[str, str | bytes]) -> None:
    board = curved.board()
    ranked = {entry.model_id for section in board.sections for entry in section.entries}
    assert ranked == {"majority", "tfidf", "tiny", "tiny+lora", "tiny+ia3"}
    assert not [name for name in files if "size-16" in name]


def test_a_number_of_rows_with_a_missing_seed_is_left_out_and_counted(bench_of: Callable[..., Bench]) -> None:
    bench = bench_of(curves=CURVE, splits=("test",))
    test = bench.add_split("test", 300)
    for point in points(bench.suite):
        if (point.subset.rows, point.subset.seed) not in ((64, 4), (256, 3), (1024, 5)):
            bench.add_run(point.model_id, test, None, right=0.7)
    (result,) = bench.board().curves
    assert [[place.rows for place in line.places] for line in result.lines] == [[16], [16], [16]]
    assert [pair.crossover for pair in result.pairs] == [None, None, None]
    page = texts_of(render.render([bench.board()]))["index.html"]
    assert "27 of 36 points are scored so far." in page
    assert "too few points of curve size are scored" in page


def test_a_curve_without_any_run_is_a_sentence(bench_of: Callable[..., Bench]) -> None:
    bench = bench_of(curves=CURVE, splits=("test",))
    page = texts_of(render.render([bench.board()]))["index.html"]
    part = page.partition('<section class="curve"')[2].partition("</section>")[0]
    assert "0 of 36 points are scored so far." in part
    assert "<svg" not in part


def test_other_runs_of_a_curve_need_another_rendering(curved: Bench) -> None:
    board = curved.board()
    (result,) = board.curves
    assert made_from(board) != made_from(replace(board, curves=(replace(result, lines=result.lines[:1]),)))


# Held to the store


@pytest.fixture
def out(files: dict[str, str | bytes], tmp_path: Path) -> Path:
    render.write(files, tmp_path / "site")
    return tmp_path / "site"


@pytest.fixture(scope="module")
def checked(curved: Bench, files: dict[str, str | bytes]) -> Callable[[Path], check.Checked]:
    boards: list[Board] = [curved.board()]
    known = sql_metrics.metrics_of(curved.connection, check.run_ids(boards))
    return lambda out: check.check(files, boards, out, known)


def test_the_numbers_of_a_curve_are_recomputed_from_their_predictions(
    checked: Callable[[Path], check.Checked], out: Path
) -> None:
    assert checked(out).problems == ()
    page = (out / "index.html").read_text(encoding="utf-8")
    marked = [one for one in check.numbers_of(page) if ".size-" in one.attributes["data-model"]]
    assert len(marked) == 3 * 4
    tag = re.search(r'<data value="([^"]*)"([^>]*data-model="tiny\+lora\.size-64"[^>]*)>', page)
    assert tag is not None
    (out / "index.html").write_text(page.replace(tag[0], f'<data value="0.999"{tag[2]}>'), encoding="utf-8")
    (problem,) = checked(out).problems
    assert "accuracy of tiny+lora.size-64 on test has the value 0.999 on the page, " in problem
    assert problem.endswith(f"{float(tag[1])!r} recomputed from its predictions")


@pytest.mark.parametrize(
    ("written", "changed"),
    [
        (r"From (\d+) rows on", "From 11 rows on"),
        (r'(<path[^>]* d="M)([\d.]+)', r"\g<1>1.5"),
        (r"tfidf, 64 rows: 0\.\d+", "tfidf, 64 rows: 0.999"),
    ],
    ids=["sentence", "plot", "tooltip"],
)
def test_a_changed_sentence_or_plot_of_a_curve_is_found(
    checked: Callable[[Path], check.Checked], out: Path, written: str, changed: str
) -> None:
    page = (out / "index.html").read_text(encoding="utf-8")
    head, mark, part = page.partition('<section class="curve"')
    forged = re.sub(written, changed, part, count=1)
    assert forged != part
    (out / "index.html").write_text(head + mark + forged, encoding="utf-8")
    (problem,) = checked(out).problems
    assert "differs from what the store renders now" in problem


# A real browser


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_a_page_with_a_curve_fits_and_is_sound_for_axe(opened: Opened, width: int, scheme: str) -> None:
    axe = (resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
    with opened("index.html", width=width, scheme=scheme) as page:
        page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.evaluate(axe)
        found = page.evaluate("axe.run({resultTypes: ['violations'], preload: false})")["violations"]
        assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []
        drawn = page.locator(".curve svg.plot").bounding_box()
        assert drawn["width"] > 250
        shades = page.eval_on_selector_all(
            ".curve svg.plot path[stroke]", "all => [...new Set(all.map(one => getComputedStyle(one).stroke))]"
        )
        assert len(shades) >= 4, "each model has a colour"
        cells = page.locator(".curve tbody td").all_inner_texts()
        assert len(cells) == 4 * 4
