"""Simulations of the promises that the statistics make: `nox -s simulate`.

Draws data with a known truth, passes them to the functions that judge real runs, and counts. Prints Markdown tables;
each share stands with its 95 % Wilson interval over the repeats, or is exact where all outcomes can be summed. Asserts
nothing. Every draw is seeded, so the same repeats give the same tables.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import stats as scipy_stats
from simulated import (
    ICC,
    LearningCurves,
    alternating,
    cells,
    clustered_pair,
    evidence,
    exact_pairs,
    learned,
    other_proportion,
    outcomes,
    pair,
    rule,
    seeds_of,
    texts,
    truth_about,
)

from harness import provenance
from harness.gates import compare, judge
from harness.gates.power import Assumption, power_of_rules
from harness.stats import anytime, drift, estimates, inference, winner
from harness.stats import curves as learning
from harness.stats.inference import Floats, Ints
from harness.suite.rules import Kind

SIZES, ACCURACIES, CLUSTERS = (50, 400, 2000), (0.5, 0.9, 0.99), 90


# Output


def share(hits: int, repeats: int) -> str:
    """A share in per cent, with its Wilson interval."""
    low, high = inference.wilson(hits, repeats)
    return f"{100 * hits / repeats:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def table(title: str, head: list[str], rows: list[list[str]]) -> None:
    """A Markdown table on stdout."""
    print(f"\n### {title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def hits(repeats: int, seed: int, once: Callable[[np.random.Generator, int], bool]) -> str:
    """Share of repeats in which something holds."""
    streams = np.random.default_rng(seed).spawn(repeats)
    return f"{share(sum(once(stream, i) for i, stream in enumerate(streams)), repeats)} | {repeats:,}"


# The simulations


def proportions() -> None:
    """Coverage of the score intervals, all outcomes summed."""
    rows = []
    for n in SIZES:
        for accuracy in ACCURACIES:
            k = np.arange(n + 1)
            found = [
                estimates.summarise("accuracy", (outcomes(k[1:] <= right),), np.random.default_rng(0)) for right in k
            ]
            covered = [(m.ci_low or 0) <= accuracy <= (m.ci_high or 0) for m in found]
            exact = float(scipy_stats.binom.pmf(k, n, accuracy) @ np.array(covered))
            rows.append([f"{n:,}", f"{accuracy:g}", f"{100 * exact:.1f}", f"{100 * other_proportion(n, accuracy):.1f}"])
    table("Accuracy of one run (Wilson), exact", ["n", "accuracy", "covered, %", "Clopper–Pearson, %"], rows)
    rows = []
    for n in SIZES:
        for accuracy in ACCURACIES:
            disagreement, difference = accuracy * (1 - accuracy), (1 - accuracy) / 5
            covers = exact_pairs(n, difference, disagreement, lambda low, high, d=difference: low <= d <= high)
            rows.append([f"{n:,}", f"{accuracy:g}", f"{disagreement:.4f}", f"{difference:.3f}", f"{100 * covers:.1f}"])
    head = ["n", "accuracy", "disagreement", "difference", "covered, %"]
    table("Difference of accuracies of two runs (Tango), exact", head, rows)


def tables(repeats: int) -> None:
    """Coverage of the intervals drawn from the posterior of a table."""
    rows = []
    for n, fraction in zip(SIZES, (1.0, 1.0, 0.4), strict=True):
        for accuracy, is_stratified in product(ACCURACIES, (False, True)):
            disagreement, difference = accuracy * (1 - accuracy), (1 - accuracy) / 5
            chances = cells(difference, disagreement, accuracy)

            def labels(stream: np.random.Generator, n: int = n, is_stratified: bool = is_stratified) -> inference.Ints:
                return alternating(n) if is_stratified else stream.integers(2, size=n)

            def alone(
                stream: np.random.Generator,
                i: int,
                n: int = n,
                accuracy: float = accuracy,
                labels: Callable[[np.random.Generator], inference.Ints] = labels,
            ) -> bool:
                drawn = outcomes(stream.random(n) < accuracy, labels=labels(stream))
                metric = estimates.summarise("f1", (drawn,), stream)
                return metric.ci_low is not None and metric.ci_low <= accuracy <= (metric.ci_high or 0)

            def paired(
                stream: np.random.Generator,
                i: int,
                n: int = n,
                chances: list[float] = chances,
                d: float = difference,
                labels: Callable[[np.random.Generator], inference.Ints] = labels,
            ) -> bool:
                (new, old), given = pair(stream, n, chances), labels(stream)
                sides = (outcomes(new, labels=given),), (outcomes(old, labels=given),)
                found = estimates.difference("f1", *sides, stream)
                return found is not None and found.ci_low <= d <= found.ci_high

            kind = "half of each" if is_stratified else "drawn"
            for name, once in (("F1", alone), ("difference of F1", paired)):
                rows.append([name, f"{n:,}", f"{accuracy:g}", kind, hits(max(50, int(repeats * fraction)), n, once)])
    table(
        "F1, by the posterior of the table", ["interval of", "n", "accuracy", "labels", "covered, %", "repeats"], rows
    )


def clusters(repeats: int) -> None:
    """Coverage of accuracy and of a difference where examples of a cluster are correlated."""
    rows = []
    for accuracy, difference, disagreement in ((0.5, 0.0, 0.2), (0.9, -0.02, 0.1)):
        chances = cells(difference, disagreement, accuracy - difference)
        for is_clustered in (True, False):

            def alone(
                stream: np.random.Generator,
                i: int,
                chances: list[float] = chances,
                is_clustered: bool = is_clustered,
                accuracy: float = accuracy,
            ) -> bool:
                new, _, names = clustered_pair(stream, CLUSTERS, chances)
                metric = estimates.summarise("accuracy", (outcomes(new, names if is_clustered else None),), stream)
                return metric.ci_low is not None and metric.ci_low <= accuracy <= (metric.ci_high or 0)

            def paired(
                stream: np.random.Generator,
                i: int,
                chances: list[float] = chances,
                is_clustered: bool = is_clustered,
                d: float = difference,
            ) -> bool:
                new, old, names = clustered_pair(stream, CLUSTERS, chances)
                known = names if is_clustered else None
                found = estimates.difference("accuracy", (outcomes(new, known),), (outcomes(old, known),), stream)
                return found is not None and found.ci_low <= d <= found.ci_high

            method = "clusters" if is_clustered else "examples, as if independent"
            for name, once in (("accuracy", alone), ("difference", paired)):
                rows.append([name, f"{accuracy:g}", method, hits(repeats, 1, once)])
    title = f"{CLUSTERS} clusters of 5 to 15 examples, intraclass correlation {ICC:g}"
    table(title, ["interval of", "accuracy", "over", "covered, %", "repeats"], rows)


def false_passes(repeats: int) -> None:
    """Share of models worse by exactly the margin that pass as not inferior."""
    rows = []
    for n in SIZES:
        for accuracy, margin in ((0.9, 0.03), (0.99, 0.005)):
            disagreement = accuracy * (1 - accuracy)
            passes = exact_pairs(n, -margin, disagreement, lambda low, high, m=margin: low >= -m)
            setting = f"1 × 1 seeds, disagreement {disagreement:.4f}"
            rows.append([setting, f"{n:,}", f"{margin:g}", f"{100 * passes:.1f} (exact)", "–"])
    margin, accuracy, disagreement, n = 0.03, 0.9, 0.1, 400

    def one(stream: np.random.Generator, i: int) -> bool:
        new, old = pair(stream, n, cells(-margin, disagreement, accuracy))
        found = evidence((outcomes(new),), (outcomes(old),))
        return judge.decide(rule("non_inferior_to", margin, i), found).outcome == "pass"

    def clustered(stream: np.random.Generator, i: int) -> bool:
        new, old, names = clustered_pair(stream, CLUSTERS, cells(-margin, disagreement, accuracy))
        found = evidence((outcomes(new, names),), (outcomes(old, names),))
        return judge.decide(rule("non_inferior_to", margin, i), found).outcome == "pass"

    rows.append([f"1 × 1 seeds, disagreement {disagreement:g}, the gate", str(n), f"{margin:g}", hits(repeats, 2, one)])
    setting = f"1 × 1 seeds, {CLUSTERS} clusters, the gate"
    rows.append(
        [setting, "≈ 900", f"{margin:g}", hits(repeats * 4, 3, clustered)]
    )  # quick, and close to what is allowed
    for n_seeds, sd in ((3, 0.0), (3, 0.02), (3, 0.05), (10, 0.05)):

        def seeded(stream: np.random.Generator, i: int, n_seeds: int = n_seeds, sd: float = sd) -> bool:
            old = stream.random(n) < 0.75
            drawn = np.clip(stream.normal(-margin, sd, n_seeds), -0.25, 0.25)
            new = seeds_of(stream, old, 0.25, 0.75, [float(d) for d in drawn])
            return judge.decide(rule("non_inferior_to", margin, i), evidence(new, (outcomes(old),))).outcome == "pass"

        setting = f"{n_seeds} × 1 seeds that spread by {sd:g}, disagreement 0.25, the gate"
        rows.append([setting, str(n), f"{margin:g}", hits(repeats, 4, seeded)])
    head = ["setting", "n", "margin = true loss", "passes, % (nominal 2.5)", "repeats"]
    table("A model that is worse by exactly the margin", head, rows)


def planned(repeats: int) -> None:
    """Share of rules decided with the planned number of examples."""
    rows = []
    settings: list[tuple[Kind, float, Assumption]] = [
        ("non_inferior_to", 0.03, Assumption(difference=0.0, disagreement=0.1)),
        ("non_inferior_to", 0.05, Assumption(difference=0.01, disagreement=0.2)),
        ("superior_to", 0.0, Assumption(difference=0.05, disagreement=0.15)),
        ("superior_to", 0.03, Assumption(difference=0.1, disagreement=0.2)),
        ("min", 0.86, Assumption(value=0.9)),
        ("min", 0.75, Assumption(value=0.8)),
        ("min", 0.9, Assumption(value=0.85)),
        ("max_flips", 0.06, Assumption(difference=0.02, disagreement=0.08)),
    ]
    for kind, limit, guess in settings:
        (need,) = power_of_rules([rule(kind, limit)], evidence(), guess, {})
        assert need.needed is not None

        def once(
            stream: np.random.Generator,
            i: int,
            kind: Kind = kind,
            limit: float = limit,
            guess: Assumption = guess,
            n: int = need.needed,
            expected: str | None = need.expected,
        ) -> bool:
            if guess.value is not None:
                found = evidence((outcomes(stream.random(n) < guess.value),))
            else:
                chances = cells(guess.difference or 0.0, guess.disagreement or 0.0, 0.85)
                new, old = pair(stream, n, chances)
                found = evidence((outcomes(new),), (outcomes(old),))
            return judge.decide(rule(kind, limit, i), found).outcome == expected

        truth = ", ".join(f"{name} {value:g}" for name, value in asdict(guess).items() if value is not None)
        rows.append([kind, f"{limit:g}", truth, f"{need.needed:,}", hits(repeats, 5, once)])
    rows.append(clusters_planned(repeats))
    head = ["rule", "limit", "truth", "n planned", "decided as expected, %", "repeats"]
    table("With as many examples as were planned for a power of 80 %", head, rows)


def clusters_planned(repeats: int) -> list[str]:
    """Plan from a stored run of 90 clusters, whose spread is used, with the truth stated."""
    margin, chances, sizes = 0.03, cells(0.0, 0.1, 0.9), []

    def once(stream: np.random.Generator, i: int) -> bool:
        new, old, names = clustered_pair(stream, CLUSTERS, chances)
        pilot = evidence((outcomes(new, names),), (outcomes(old, names),))
        (need,) = power_of_rules([rule("non_inferior_to", margin, i)], pilot, Assumption(difference=0.0), {})
        assert need.needed is not None
        sizes.append(need.needed)
        new, old, names = clustered_pair(stream, round(need.needed / 10), chances)
        found = evidence((outcomes(new, names),), (outcomes(old, names),))
        return judge.decide(rule("non_inferior_to", margin, i), found).outcome == "pass"

    decided = hits(max(50, repeats // 2), 6, once)
    truth = f"difference 0; spread from {CLUSTERS} clusters"
    return ["non_inferior_to", f"{margin:g}", truth, f"{int(np.median(sizes)):,} (median)", decided]


def more(repeats: int) -> None:
    """Share of inconclusive verdicts that become conclusive with the examples that they asked for."""
    rows = []
    settings: list[tuple[Kind, float, int, float]] = [("min", 0.85, 200, 0.1), ("non_inferior_to", 0.05, 100, 0.14)]
    for kind, limit, n, spread in settings:
        inconclusive = decided = hopeless = 0
        for i, stream in enumerate(np.random.default_rng(7).spawn(repeats * 3)):
            if inconclusive == repeats // 2:
                break
            chances = truth_about(kind, limit, stream.uniform(-spread, spread))
            first = rule(kind, limit, i)
            new, old = pair(stream, n, chances)
            verdict = judge.decide(first, evidence((outcomes(new),), (outcomes(old),)))
            if verdict.outcome != "inconclusive":
                continue
            if (asked := verdict.numbers["more_examples"]) is None:
                hopeless += 1
                continue
            inconclusive += 1
            more_new, more_old = pair(stream, asked, chances)
            new, old = np.concatenate([new, more_new]), np.concatenate([old, more_old])
            again = judge.decide(
                replace(first, gate_id=f"{first.gate_id} again"), evidence((outcomes(new),), (outcomes(old),))
            )
            decided += again.outcome != "inconclusive"
        rows.append([kind, f"{limit:g}", str(n), share(decided, inconclusive), f"{inconclusive:,}", str(hopeless)])
    head = ["rule", "limit", "n at first", "then conclusive, %", "inconclusive at first", "asked for no number"]
    table("With the examples that an inconclusive verdict asked for", head, rows)


def sequential(repeats: int) -> None:
    """Verdicts that are looked for after every 32 units: how often they are wrong, and how early they come."""
    false_verdicts(repeats)
    early_verdicts(repeats)


LOOK, WHOLE = 32, 5000


def looks(sizes: Ints) -> Ints:
    """Places of the units after which it is looked: the last of each block of at least 32 examples."""
    if sizes.max() == 1:
        return np.arange(LOOK - 1, len(sizes), LOOK)
    found, block = [], 0
    for place, size in enumerate(sizes.tolist()):
        block += size
        if block >= LOOK:
            found.append(place)
            block = 0
    return np.array(found, dtype=np.int64)


def first_verdict(sums: Floats, sizes: Ints, limit: float) -> tuple[str | None, int]:
    """The verdict on a mean difference of a sequence that is looked at after every block, and the units it took."""
    seen = anytime.Seen(sums, sizes, int(sizes.max()), float(sizes.mean()), -1.0, 1.0)
    side, units = anytime.first_decision(seen, limit, looks(sizes))
    return None if side is None else "pass" if side == "above" else "fail", units


def naive_verdict(sums: Floats, sizes: Ints, limit: float) -> str | None:
    """The first of the 95 % intervals after every block that excludes the limit, as if it were the only look."""
    at = looks(sizes)
    n, total = np.cumsum(sizes)[at], np.cumsum(sums)[at]
    value = total / n
    if sizes.max() > 1:  # by unit, with the robust error of a ratio
        squares = [np.cumsum(one)[at] for one in (sums * sums, sums * sizes, sizes * sizes)]
        error = np.sqrt(np.maximum(0, squares[0] - 2 * value * squares[1] + value**2 * squares[2])) / n
    else:
        shares = np.cumsum(sums > 0)[at] / n, np.cumsum(sums < 0)[at] / n
        variances = [inference.paired_variance(*both, limit) for both in zip(*shares, strict=True)]
        error = np.sqrt(np.array(variances) / n)
    excluded = np.flatnonzero(np.abs(value - limit) > 1.96 * error)
    return None if not len(excluded) else "pass" if value[excluded[0]] > limit else "fail"


def units_of(stream: np.random.Generator, chances: list[float], size: int) -> tuple[Floats, Ints]:
    """Differences of a pair, new minus old, on examples or on clusters of about this size, summed by unit."""
    if size == 1:
        new, old = pair(stream, WHOLE, chances)
        return (new * 1.0 - old * 1.0), np.ones(WHOLE, dtype=np.int64)
    new, old, names = clustered_pair(stream, WHOLE // size, chances, size=size)
    _, codes = np.unique(names, return_inverse=True)
    return np.bincount(codes, new * 1.0 - old * 1.0), np.bincount(codes)


def false_verdicts(repeats: int) -> None:
    """A model that is worse by exactly the margin: every verdict is false."""
    rows, margin = [], 0.01
    truths = [(0.5, 0.02), (0.5, 0.1), (0.5, 0.2), (0.9, 0.02), (0.9, 0.1), (0.9, 0.2), (0.99, 0.02), (0.99, 0.03)]
    for (accuracy, disagreement), size in product(truths, (1, 10, 25)):
        chances = cells(-margin, disagreement, accuracy)
        found = {"sequential": 0, "naive": 0}
        for stream in np.random.default_rng(7).spawn(repeats):
            sums, sizes = units_of(stream, chances, size)
            found["sequential"] += first_verdict(sums, sizes, -margin)[0] is not None
            found["naive"] += naive_verdict(sums, sizes, -margin) is not None
        rows.append([f"{accuracy:g}", f"{disagreement:g}", str(size), *(share(n, repeats) for n in found.values())])
    head = ["accuracy", "disagreement", "examples per cluster", "false verdicts, %", "naive, %"]
    table(f"Looks after every {LOOK} examples, up to {WHOLE:,}, at the margin", head, rows)


def early_verdicts(repeats: int) -> None:
    """Units of 5,000 that a verdict takes, and its agreement with that of the whole split."""
    rows = []
    settings = [(0.0, d, m) for d, m in ((0.04, 0.02), (0.04, 0.03), (0.05, 0.025), (0.06, 0.02), (0.06, 0.03))]
    for difference, disagreement, margin in [*settings, (0.08, 0.12, 0.02), (-0.08, 0.12, 0.02)]:
        taken, decided, same = [], 0, 0
        for stream in np.random.default_rng(8).spawn(repeats):
            sums, sizes = units_of(stream, cells(difference, disagreement, 0.85), 1)
            verdict, units = first_verdict(sums, sizes, -margin)
            taken.append(units)
            low, high = inference.tango(int((sums > 0).sum()), int((sums < 0).sum()), WHOLE)
            whole = "pass" if low >= -margin else "fail" if high < -margin else None
            decided += verdict is not None
            same += verdict is not None and verdict == whole
        middle = [f"{int(np.quantile(taken, q)):,}" for q in (0.5, 0.9)]
        rows.append([f"{difference:+g}", f"{disagreement:g}", f"{margin:g}", *middle, share(decided, repeats),
                     share(same, decided)])  # fmt: skip
    head = ["difference", "disagreement", "margin", "median units", "90 % take", "decided, %", "as the whole, %"]
    table(f"Units of {WHOLE:,} until a verdict", head, rows)
    rows = []
    settings = [(0.0, 0.1, 0.03), (0.0, 0.1, 0.05), (0.05, 0.1, 0.02), (-0.08, 0.12, 0.02)]
    for size, (difference, disagreement, margin) in product((10, 25), settings):
        taken, timid, decided = [], [], 0
        for stream in np.random.default_rng(12).spawn(repeats):
            sums, sizes = units_of(stream, cells(difference, disagreement, 0.85), size)
            verdict, units = first_verdict(sums, sizes, -margin)
            taken.append(units)
            decided += verdict is not None
            timid.append(evenly(sums, sizes, -margin))
        rows.append([str(size), f"{difference:+g}", f"{disagreement:g}", f"{margin:g}", f"{WHOLE // size:,}",
                     f"{int(np.median(taken)):,}", f"{int(np.median(timid)):,}", share(decided, repeats)])  # fmt: skip
    head = ["examples per cluster", "difference", "disagreement", "margin", "clusters", "median clusters",
            "with bets in equal parts", "decided, %"]  # fmt: skip
    table("Clusters until a verdict", head, rows)


def evenly(sums: Floats, sizes: Ints, limit: float) -> int:
    """The units that a verdict takes if the money is on all bets in equal parts, whatever the clusters' size."""
    terms, largest, at = sums - limit * sizes, int(sizes.max()), looks(sizes)
    both = anytime.log_wealth(terms, largest * (-1 - limit)), anytime.log_wealth(-terms, largest * (limit - 1))
    crossed = np.flatnonzero(np.maximum(*both)[at] >= anytime.THRESHOLD)
    return int(at[crossed[0]]) + 1 if len(crossed) else len(terms)


def winners(repeats: int) -> None:
    """The best of models that are all equally good: how often its interval holds the truth, plain and corrected."""
    rows, accuracy, alike = [], 0.85, 0.7
    for n, k in product((400, 2000), (2, 10, 50)):
        plain = covered = above = 0
        for stream in np.random.default_rng(9).spawn(repeats):
            shared = stream.random(n) < accuracy
            right = np.where(stream.random((k, n)) < alike, shared, stream.random((k, n)) < accuracy).astype(np.float64)
            weights = np.concatenate(list(inference.resampled_weights(np.arange(n), stream, 1000)))
            found = winner.corrected(right.mean(axis=1), right @ weights.T / n, step=1 / n)
            assert found is not None
            low, high = inference.wilson(int(right[found.winner].sum()), n)
            plain += low <= accuracy <= high
            covered += found.ci_low <= accuracy <= found.ci_high
            above += found.value > accuracy
        rows.append([f"{n:,}", str(k), *(share(count, repeats) for count in (plain, covered, above))])
    head = ["n", "models", "plain interval covers, %", "corrected covers, %", "corrected value above the truth, %"]
    table(f"The best of equal models, of accuracy {accuracy:g}", head, rows)


ROWS = 2000


def commits(stream: np.random.Generator, wrong: Floats, number: int, drift_by: float) -> Floats:
    """Accuracies on fixed rows of models that are trained anew at each commit, and worse by so much each time.

    Args:
        wrong: the chance of each row that a model gets it wrong, which is the same for all commits.
    """
    made = []
    for commit in range(number):
        chances = np.clip(wrong + drift_by * (commit + 1) * (wrong > 0) / (wrong > 0).mean(), 0, 1)
        made.append(1 - float((stream.random(ROWS) < chances).mean()))
    return np.array(made)


def first_alarm(values: Floats, ties: Floats) -> int | None:
    """The commit at which a series is an alarm: the same as `drift.fall` after each of them."""
    evidence = 0.0
    for commit, p in enumerate(drift.ranks(values, ties), start=1):
        evidence = (evidence + 1) / (2 * float(np.sqrt(p)))
        if evidence >= drift.COMMITS_PER_ALARM:
            return commit
    return None


def drifts(repeats: int) -> None:
    """Models of one commit after another: alarms without a change, and how soon a slow fall is found."""
    rows, horizon = [], 500
    for noisy in (0.05, 0.15, 0.4):
        # So large a part of the rows is decided by the noise of training; the others are always right or always wrong.
        found, quiet, alarms = [], 0, 0
        for stream in np.random.default_rng(10).spawn(repeats):
            kinds = stream.random(ROWS)
            wrong = np.where(kinds < noisy, stream.beta(1, 3, ROWS), 0.0)
            values = commits(stream, wrong, 30, 0.003)
            found.append(first_alarm(values, stream.random(30)))
            left = horizon
            while left > 0:
                at = first_alarm(commits(stream, wrong, left, 0.0), stream.random(left))
                alarms += at is not None
                quiet += left if at is None else at
                left -= left if at is None else at
        values_sd = np.std(commits(np.random.default_rng(11), wrong, 200, 0.0))
        stops = [stop for stop in found if stop is not None]
        low, high = scipy_stats.gamma.ppf([0.025, 0.975], [max(alarms, 1e-9), alarms + 1]) / quiet * 1000
        rate = f"{1000 * alarms / quiet:.2f} [{low:.2f}, {high:.2f}]"
        rows.append([f"{100 * values_sd:.2f}", share(len(stops), repeats), f"{np.median(stops):.0f}",
                     f"{np.quantile(stops, 0.9):.0f}", rate, f"{quiet:,}"])  # fmt: skip
    head = ["noise of training, points", "found within 30 commits, %", "median commits", "90 % by",
            "false alarms per 1,000 commits", "unchanged commits"]  # fmt: skip
    table(f"A fall of 0.3 points a commit, on the same {ROWS:,} rows", head, rows)


TRAINED_ON = (16, 32, 64, 128, 256, 512, 1024, 2000)
"""Numbers of training rows of a learning curve."""


def curves(repeats: int) -> None:
    """Learning curves that cross at a known number of rows: how often the interval of the crossover holds it."""
    settings = [
        (LearningCurves(180, slope, other), seeds, size)
        for slope, other, seeds, size in (
            (10, 8, 5, 1), (10, 8, 3, 1), (4, 8, 5, 1), (10, 8, 5, 10), (10, 0, 5, 1),
        )
    ]  # fmt: skip
    settings += [(LearningCurves(at, 10, 8), 5, 1) for at in (24, 1400, 8, 8000)]
    rows, n = [], 500
    for truth, n_seeds, size in settings:
        early = late = 0
        lengths = []
        for stream in np.random.default_rng(13).spawn(repeats):
            model, other = learned(stream, truth, TRAINED_ON, n_seeds, n, size)
            examples, seeds = stream.spawn(2)
            found = learning.crossover("accuracy", TRAINED_ON, model, other, examples, seeds, draws=1000)
            assert found is not None
            low, high = found.low or found.most + 1, found.high or np.inf
            late += truth.crossover < low > found.fewest
            early += truth.crossover > high
            lengths.append(np.log2(min(high, found.most + 1) / low))
        rows.append([f"{truth.crossover:,.0f}", f"{truth.slope:g}", f"{truth.of_other:g}", str(n_seeds), str(size),
                     f"{np.median(lengths):.1f}", share(late, repeats), share(early, repeats),
                     share(repeats - early - late, repeats)])  # fmt: skip
    head = ["true crossover, rows", "gain per ten times the rows, points", "of the other", "seeds",
            "examples per cluster", "median length, doublings", "all above, %", "all below, %",
            "covered, %"]  # fmt: skip
    table(f"Crossover of two learning curves of {len(TRAINED_ON)} sizes from 16 to 2,000 rows, n = {n:,}", head, rows)


def shared(repeats: int) -> None:
    """Patterns of lost examples: how often a planted pair of words is named, and how often anything is by chance."""
    n, rows = 900, []
    for with_pattern, lost_with, clustered in (
        (0, 0.0, False), (0, 0.0, True), (45, 0.2, False), (45, 0.5, False), (45, 0.5, True), (45, 0.8, False),
    ):  # fmt: skip
        named = others = 0
        for stream in np.random.default_rng(11).spawn(repeats):
            planted = np.zeros(n, dtype=bool)
            planted[stream.choice(n, with_pattern, replace=False)] = True
            found = named_among_lost(stream, planted, lost_with, clustered)
            named += '"arrived late"' in found
            others += bool(found - OF_PLANTED)
        shown = share(named, repeats) if with_pattern else "–"
        rows.append([str(with_pattern), f"{100 * lost_with:.0f}" if with_pattern else "–", "90" if clustered else "–",
                     shown, share(others, repeats)])  # fmt: skip
    head = ["texts with the pattern", "of them lost, %", "clusters", "pattern named, %", "anything else named, %"]
    table(f"Patterns of lost examples, of {n:,}; 5 % of the others are lost, and 3 % won", head, rows)


OF_PLANTED = {'"arrived late"', '"arrived"', '"late"'}


def named_among_lost(
    stream: np.random.Generator, planted: NDArray[np.bool_], lost_with: float, clustered: bool
) -> set[str]:
    """Names of all patterns of lost and won examples; in clusters of ten some lose more than others."""
    n = len(planted)
    names = np.array([f"c{i // 10}" for i in range(n)]) if clustered else None
    uneven = np.repeat(stream.exponential(size=n // 10), 10) if clustered else np.ones(n)
    was = stream.random(n) < 0.9
    lost = was & (stream.random(n) < np.where(planted, lost_with, np.minimum(1.0, 0.05 * uneven)))
    won = ~was & (stream.random(n) < 0.3)
    old, new = outcomes(was, names), outcomes((was & ~lost) | won, names)
    found = compare.shared(texts(stream, n, planted), [old], [new], with_text=True)
    return {one.name for direction in found.directions for one in direction}


SIMULATIONS: dict[str, Callable[[int], None]] = {
    "proportions": lambda repeats: proportions(),
    "tables": tables,
    "clusters": clusters,
    "false-passes": false_passes,
    "planned": planned,
    "more": more,
    "sequential": sequential,
    "winners": winners,
    "drifts": drifts,
    "curves": curves,
    "shared": shared,
}


def main() -> None:
    """Run the requested simulations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=400, help="of each cell; costly ones take a stated part of it")
    parser.add_argument("--only", choices=SIMULATIONS, action="append", help="only this simulation")
    asked = parser.parse_args()
    print(f"{provenance.hardware()['processor']}, {asked.repeats:,} repeats, {inference.RESAMPLES:,} resamples each")
    for name in asked.only or SIMULATIONS:
        began = time.process_time()
        SIMULATIONS[name](asked.repeats)
        print(f"\n{name}: {time.process_time() - began:.0f} s of processor time")


if __name__ == "__main__":
    main()
