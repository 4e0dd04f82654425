"""Bars and tables, drawn on consoles that keep what they are given."""

import io

import pytest
from rich.console import Console

from harness.output import terminal


def test_on_a_terminal_bars_are_drawn_and_several_tasks_can_be_open(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(terminal, "stderr", Console(file=out, force_terminal=True, color_system=None, width=100))
    bars = terminal.Bars()
    with bars("train lora", 10) as first, bars("train ia3", 5) as second:
        first(4, "loss 0.500")
        second(5, "loss 0.250")
        bars.drawn.refresh()
    drawn = out.getvalue()
    assert "4/10" in drawn
    assert "5/5" in drawn
    assert "train ia3: 5 in" in drawn
    assert "loss 0.250" in drawn


def test_elsewhere_a_line_is_written_for_each_task_done(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(terminal, "stderr", Console(file=out, force_terminal=False, width=100))
    with terminal.Bars()("score [bold]x[/bold]", 1234) as advance:
        advance(1234, "")
    assert out.getvalue().startswith("score [bold]x[/bold]: 1,234 in 0.")
    assert out.getvalue().count("\n") == 1


def test_a_task_that_fails_is_not_told_as_done(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(terminal, "stderr", Console(file=out, force_terminal=False, width=100))
    with pytest.raises(ValueError, match="broken"), terminal.Bars()("score", 3):
        raise ValueError("broken")
    assert out.getvalue() == ""


LONG = "warning: texts that read the same (587aaacbfff3608836693ef2b0336223 and more) and a path, runs/a-b/" + "x" * 90


def test_a_warning_is_folded_between_words_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(terminal, "stderr", Console(file=out, force_terminal=True, color_system=None, width=80))
    terminal.say(f"{LONG}\n    in a line of its own")
    lines = out.getvalue().splitlines()
    assert lines[-1] == "    in a line of its own"
    assert " ".join(lines[:-1]) == LONG, "no word is broken, and none is lost"
    assert all(len(line) <= 80 or " " not in line for line in lines)
    assert len(lines) > 3


def test_elsewhere_a_warning_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(terminal, "stderr", Console(file=out, force_terminal=False, width=80))
    terminal.say(LONG)
    assert out.getvalue() == f"{LONG}\n"
