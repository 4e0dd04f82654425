"""Tables of `harness parity`, rendered from finished rows."""

from collections.abc import Sequence

from harness.cli.tables.cells import interval, number, p_value, print_table, text
from harness.records import Parity


def show_parities(suite: str, rows: Sequence[Parity]) -> None:
    """Show the parity of variants of trained models with their reference."""
    columns = [
        "adapter", "seed", "variant", "n", "flips", "95 % interval", "allowed", "turned + / −", "p", "largest move",
        "may be", "passed",
    ]  # fmt: skip
    cells = []
    for row in rows:
        flips = [text(row.flips), interval(row.flips_low, row.flips_high), f"{100 * row.flips_allowed:g} %"]
        either_way = "–" if row.turned_positive is None else f"{row.turned_positive} / {row.turned_negative}"
        turned = [either_way, p_value(row.p_value)]
        moves = [number(row.largest_move, 5), f"{row.move_allowed:g}"]
        named = [row.adapter_id, text(row.seed), row.form, str(row.n)]
        cells.append([*named, *flips, *turned, *moves, "yes" if row.passed else "no"])
    print_table(f"{suite}: variants beside torch fp32, moves in log-odds", columns, cells, numbers=columns[3:11])
    problems = [[row.adapter_id, row.form, row.problem] for row in rows if row.problem is not None]
    if problems:
        print_table("\nchecks that failed", ["adapter", "variant", "reason"], problems)
