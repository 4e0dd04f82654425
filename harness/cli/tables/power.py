"""What `harness plan` prints: finished rows in, nothing computed."""

from collections.abc import Sequence

from harness.cli.tables.cells import number, print_table
from harness.gates.power import PowerEstimate


def show_plan(suite: str, power: float, rows: Sequence[PowerEstimate]) -> None:
    """How many examples the gates need, and what is to be said of single rules."""
    of_power = f"n for {100 * power:g} %"
    columns = ["rule", "supposed", "expected", "n", "power", of_power, "scoring s", "decidable"]
    cells = []
    for need in rows:
        supposed = "–" if need.supposed is None else f"{need.supposed:.3f} {need.source}"
        size = "–" if need.n is None else f"{need.n:,}"
        if need.clusters is not None:
            size += f" in {need.clusters:,} clusters"
        needed = "–" if need.needed is None else f"{need.needed:,}"
        costs = [number(need.power, 2), needed, number(need.seconds, 1)]
        cells.append([need.rule, supposed, need.expected or "–", size, *costs, _answer(need)])
    print_table(f"{suite}: what its gates need", columns, cells, numbers=["n", "power", of_power, "scoring s"])
    notes = [[need.rule, need.note] for need in rows if need.note is not None]
    if notes:
        print_table("\nnotes", ["rule", "note"], notes)


def _answer(need: PowerEstimate) -> str:
    if need.decidable == "no":
        return f"no: needs {need.needed:,}"
    if need.decidable != "never":
        return need.decidable
    if need.seeds_needed is None:
        return "never: the limit itself is supposed"
    return f"never with {need.seeds} seeds; with {need.seeds_needed:,} and {need.needed_with_seeds:,} examples"
