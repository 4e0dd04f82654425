"""Numbers as text."""

from datetime import datetime

import pytest

from leaderboard.pages import formats


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.8874, "0.887"), (1.0, "1.000"), (-0.0123, "−0.012"), (-0.0001, "0.000"), (0.0, "0.000"), (None, "–")],
)
def test_a_score_has_three_decimals_and_an_absent_one_is_a_dash(value: float | None, text: str) -> None:
    assert formats.score(value) == text


def test_an_interval_stands_in_brackets_and_an_absent_one_is_left_out() -> None:
    assert formats.interval(0.8684, 0.9051) == "[0.868, 0.905]"
    assert formats.interval(-0.5, 0.25) == "[−0.500, 0.250]"
    assert formats.interval(None, None) == ""


@pytest.mark.parametrize(("value", "text"), [(0.0123, "+0.012"), (-0.0123, "−0.012"), (0.0001, "0.000")])
def test_a_difference_always_shows_its_sign(value: float, text: str) -> None:
    assert formats.difference(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (1.0, "1.000"), (0.0428, "0.043"), (0.001, "0.001"), (0.00099, "< 0.001"), (0.0, "< 0.001")],
)
def test_a_p_value_is_never_zero(value: float | None, text: str) -> None:
    assert formats.p_value(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(None, "–"), (0.0, "0.0 %"), (0.0004, "< 0.1 %"), (0.0011, "0.1 %"), (0.666, "66.6 %"), (1.0, "100.0 %")],
)
def test_a_share_that_is_not_zero_does_not_become_it(share: float | None, text: str) -> None:
    assert formats.percent(share) == text


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (None, "–"), (0, "0 B"), (312, "312 B"), (999, "999 B"), (1000, "1.0 kB"), (590_400, "590 kB"),
        (999_600, "1.0 MB"), (2_400_000, "2.4 MB"), (1_234_567_890, "1.2 GB"), (5 * 10**16, "50,000 TB"),
    ],
)  # fmt: skip
def test_bytes_come_in_the_unit_that_people_read(n_bytes: int | None, text: str) -> None:
    assert formats.size(n_bytes) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.417, "0.42 s"), (9.996, "10.0 s"), (42.13, "42.1 s"), (99.96, "100 s"), (1234.5, "1,234 s")],
)
def test_seconds_carry_their_unit(value: float | None, text: str) -> None:
    assert formats.seconds(value) == text


def test_counts_have_thousands_separators() -> None:
    assert (formats.count(1346), formats.count(0), formats.count(None)) == ("1,346", "0", "–")


def test_a_rate_and_a_seed_may_be_absent() -> None:
    assert (formats.rate(None), formats.rate(1234.4), formats.seed(None), formats.seed(13)) == ("–", "1,234", "–", "13")


def test_times_say_that_they_are_utc() -> None:
    assert formats.time(datetime.fromisoformat("2026-03-01T14:05:59")) == "2026-03-01 14:05 UTC"


def test_unknown_metrics_and_methods_keep_their_ids() -> None:
    assert formats.metric_name("roc_auc") == "ROC AUC"
    assert formats.metric_name("novelty") == "novelty"
    assert formats.method_phrase("vera", "minilm") == "vera on minilm"
    assert formats.method_phrase("full", "minilm") == "full fine-tuning of minilm"
    assert formats.method_phrase("majority", None) == "majority class"


@pytest.mark.parametrize(
    ("name", "phrase"), [("accuracy", "accuracy"), ("f1", "F1"), ("mcc", "MCC"), ("log_loss", "log loss")]
)
def test_a_metrics_name_fits_into_a_sentence(name: str, phrase: str) -> None:
    assert formats.metric_phrase(name) == phrase


def test_declarations_become_dotted_keys_and_absent_ones_stay_out() -> None:
    table = {"id": "lora", "train": {"seeds": [13, 42], "precision": None}, "merged": False, "rate": 1e-3}
    assert list(formats.definitions(table)) == [
        ("id", '"lora"'),
        ("train.seeds", "[13, 42]"),
        ("merged", "false"),
        ("rate", "0.001"),
    ]
