"""Tables of `harness plan`, rendered from finished rows."""

from collections.abc import Sequence

from harness.cli.tables.cells import number, print_table
from harness.gates.power import PowerEstimate


def show_plan(suite: str, power: float, rows: Sequence[PowerEstimate]) -> None:
    """Show the number of examples that the gates need, and the notes on single rules."""
    of_power = f"n for {100 * power:g} %"
    columns = ["rule", "assumed", "expected", "n", "power", of_power, "early", "scoring s", "decidable"]
    cells = []
    for need in rows:
        supposed = "–" if need.supposed is None else f"{number(need.supposed)} {need.source}"
        size = "–" if need.n is None else f"{need.n:,}"
        if need.clusters is not None:
            size += f" in {need.clusters:,} clusters"
        needed = "–" if need.needed is None else f"{need.needed:,}"
        early = "–" if need.units_early is None else f"{need.units_early:,} of {need.units:,}"
        costs = [number(need.power, 2), needed, early, number(need.seconds, 1)]
        cells.append([need.rule, supposed, need.expected or "–", size, *costs, _answer(need)])
    print_table(
        f"{suite}: examples that its gates need", columns, cells, numbers=["n", "power", of_power, "early", "scoring s"]
    )
    notes = [[need.rule, need.note] for need in rows if need.note is not None]
    if notes:
        print_table("\nnotes", ["rule", "note"], notes)


def _answer(need: PowerEstimate) -> str:
    if need.decidable == "no":
        return f"no: needs {need.needed:,}"
    if need.decidable != "never":
        return need.decidable
    if need.seeds_needed is None:
        return "never: the assumed truth is the limit"
    return f"never with {need.seeds} seeds; with {need.seeds_needed:,} and {need.needed_with_seeds:,} examples"
