"""Tables of `harness compare` for one split, rendered from finished records."""

from collections.abc import Mapping, Sequence

from harness.cli.tables.cells import interval, number, p_value, print_lines, print_table, wrapped
from harness.gates.compare import Comparison, Flip
from harness.output.visible import visible
from harness.records import Metric
from harness.stats.calibration import Bin, Calibration
from harness.stats.estimates import Difference
from harness.stats.inference import ALPHA
from leaderboard.pages import formats

SHOWN_CHARACTERS = 160
"""Most characters shown of each text."""
SHOWN_PATTERNS = 5
"""Most patterns listed in each direction; `--json` has all."""
_LABELS = ("negative", "positive")


def show_comparison(found: Comparison, n_flips: int, texts: Mapping[str, str]) -> None:
    """Show the comparison of two models on one split.

    Args:
        n_flips: number of flips to list in each direction.
        texts: by example id; empty if they must not be shown.
    """
    _show_metrics(found)
    _show_tests(found)
    _show_flips(found, n_flips, texts)
    _show_shared(found)
    _show_slices(found)
    _show_calibration(found.calibration_a, found.calibration_b)


def show_conclusion(comparisons: Sequence[Comparison]) -> None:
    """Conclude each split in a sentence: is A better than B by the primary metric?"""
    print_lines("", *(line for found in comparisons for line in wrapped(_conclusion(found))))


def _conclusion(found: Comparison) -> str:
    pair = next(one for one in found.metrics if one.name == found.primary_metric)
    question = f"Is {found.model_a} better than {found.model_b} on {found.split_id}?"
    if pair.difference is None:
        return f"{question} Not known: there is no interval of the difference."
    lead = pair.difference if pair.higher_is_better else pair.difference.turned
    sure = lead.p_value < ALPHA
    word = "Yes" if sure and lead.ci_low > 0 else "No, worse" if sure and lead.ci_high < 0 else "Not shown"
    by = f"{formats.lead(pair.name, lead.value)} of {formats.metric_phrase(pair.name)}"
    interval = formats.lead_interval(pair.name, lead.ci_low, lead.ci_high)
    p = formats.p_value(lead.p_value)
    return f"{question} {word}: {by} {interval}, p {p if p.startswith('<') else f'= {p}'}, n {found.n:,}."


def _show_metrics(found: Comparison) -> None:
    clusters = "" if found.n_clusters is None else f" in {found.n_clusters:,} clusters"
    sides = f"A = {found.model_a}{_seeds(found.seeds_a)}\nB = {found.model_b}{_seeds(found.seeds_b)}"
    title = f"{found.split_id}: n {found.n:,}{clusters}\n{sides}"
    columns = ["metric", "A", "95 % interval", "B", "95 % interval", "A − B", "95 % interval", "p"]
    cells = [
        [_named(pair.a), *_value(pair.a), *_value(pair.b), *_difference(pair.difference)] for pair in found.metrics
    ]
    print_table(f"\n{title}", columns, cells, numbers=columns[1:], spared=[4, 2])


def _show_tests(found: Comparison) -> None:
    title = f"exact McNemar; Holm over {len(found.tests)}"
    if found.n_clusters is not None:
        title += "; treats examples as independent"
    columns = ["A's seed", "B's seed", "only A right", "only B right", "p", "Holm p"]
    cells = [
        [_seed(test.seed_a), _seed(test.seed_b), f"{test.only_a:,}", f"{test.only_b:,}", p_value(test.p_value),
         p_value(test.p_adjusted)]
        for test in found.tests
    ]  # fmt: skip
    print_table(f"\n{title}", columns, cells, numbers=columns)


def _show_flips(found: Comparison, n_flips: int, texts: Mapping[str, str]) -> None:
    sides = {"only A": found.only_a_right, "only B": found.only_b_right}
    cells = [[name, f"{len(flips):,}"] for name, flips in sides.items()]
    cells.append(["exactly half of a side's seeds", f"{found.undecided:,}"])
    print_table("\nright in most of a side's seeds", ["right", "examples"], cells, numbers=["examples"])
    named = [[name, *_flip(flip, texts)] for name, flips in sides.items() for flip in flips[:n_flips]]
    if named:
        columns = ["right", "example", "label", "A's score", "B's score", *(["text"] if texts else [])]
        title = f"flips: the first {n_flips:,} each, largest score differences first (score: probability of positive)"
        print_table(f"\n{title}", columns, named, numbers=columns[3:5], spared=[2])


def _show_shared(found: Comparison) -> None:
    tested = f"Benjamini–Hochberg over {found.shared.n_tested:,} slices, words and pairs of words"
    cells = [
        [name, one.name, share(one.changed, one.n_changed), share(one.others, one.n_others), p_value(one.p_adjusted)]
        for name, direction in zip(("only A", "only B"), found.shared.directions, strict=True)
        for one in direction[:SHOWN_PATTERNS]
    ]
    if not cells:
        if found.only_a_right or found.only_b_right:
            print_lines("", *wrapped(f"What flips share: nothing is more frequent than chance explains ({tested})."))
        return
    columns = ["right", "more frequent", "among flips", "among its other right ones", "BH p"]
    print_table(f"\nwhat flips share; {tested}", columns, cells, numbers=columns[2:])


def share(count: int, n: int) -> str:
    """`12 of 30 (40 %)`."""
    return f"{count:,} of {n:,} ({count / n:.0%})".replace("%", " %") if n else "–"


def _flip(flip: Flip, texts: Mapping[str, str]) -> list[str]:
    text = [_one_line(texts[flip.example_id])] if texts else []
    return [flip.example_id[:12], _LABELS[flip.label], number(flip.score_a), number(flip.score_b), *text]


def _show_slices(found: Comparison) -> None:
    columns = ["slice", "n", "A", "B", "A − B", "95 % interval", "p", "BH p", "differ"]
    cells = []
    for pair in found.slices:
        values = [f"{pair.n:,}", number(pair.a), number(pair.b), *_difference(pair.difference)]
        cells.append([pair.name, *values, p_value(pair.p_adjusted), "yes" if pair.differs else ""])
    n_tested = sum(pair.p_adjusted is not None for pair in found.slices)
    title = f"{found.primary_metric} by slice; Benjamini–Hochberg over {n_tested}"
    print_table(f"\n{title}", columns, cells, numbers=columns[1:8], spared=[6, 3, 2])


def _show_calibration(a: Calibration, b: Calibration) -> None:
    columns = ["calibration", "A", "95 % interval", "B", "95 % interval"]
    pairs = ((a.ece, b.ece), (a.brier, b.brier), (a.log_loss, b.log_loss))
    cells = [[_named(of_a), *_value(of_a), *_value(of_b)] for of_a, of_b in pairs]
    cells.insert(1, ["ece by chance alone", number(a.ece_by_chance), "", number(b.ece_by_chance), ""])
    print_table("\ncalibration (↓ lower is better)", columns, cells, numbers=columns[1:])
    bins_a, bins_b = ({one.low: one for one in side.bins} for side in (a, b))
    edges = {one.low: one.high for one in (*a.bins, *b.bins)}
    columns = ["confidence", "A: n", "mean", "right", "95 % interval", "B: n", "mean", "right", "95 % interval"]
    rows = [[f"{low:.2f}–{edges[low]:.2f}", *_bin(bins_a.get(low)), *_bin(bins_b.get(low))] for low in sorted(edges)]
    title = "how often predictions are right, by how sure they are; all seeds"
    print_table(f"\n{title}", columns, rows, numbers=columns[1:], spared=[8, 4])


def _bin(one: Bin | None) -> list[str]:
    if one is None:
        return ["–"] * 4
    return [f"{one.n:,}", number(one.confidence), number(one.accuracy), interval(one.ci_low, one.ci_high)]


def _named(metric: Metric) -> str:
    return metric.name if metric.higher_is_better else f"{metric.name} ↓"


def _value(metric: Metric) -> list[str]:
    return [number(metric.value), interval(metric.ci_low, metric.ci_high)]


def _difference(difference: Difference | None) -> list[str]:
    """Format value, interval and p-value of a difference."""
    if difference is None:
        return ["–"] * 3
    signed = [formats.minus(f"{value:+z.3f}") for value in (difference.value, difference.ci_low, difference.ci_high)]
    return [signed[0], f"[{signed[1]}, {signed[2]}]", p_value(difference.p_value)]


def _seeds(seeds: Sequence[int | None]) -> str:
    named = [str(seed) for seed in seeds if seed is not None]
    return f" (seed{'s' * (len(named) > 1)} {', '.join(named)})" if named else ""


def _seed(seed: int | None) -> str:
    return "–" if seed is None else str(seed)


def _one_line(text: str) -> str:
    """Shorten a text to its beginning, without line breaks and control characters."""
    line = visible(" ".join(text.split()))
    return line if len(line) <= SHOWN_CHARACTERS else f"{line[: SHOWN_CHARACTERS - 1]}…"
