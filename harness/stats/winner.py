"""The score of the best of many, corrected for having been chosen because it was the best.

    found = corrected(values, draws)     # k scores, and b joint bootstrap draws of them
    found.value, found.ci_low, found.ci_high

The highest of many scores is too high on average, and its own interval misses the truth too often. Andrews, Kitagawa &
McCloskey (2024), "Inference on Winners", Quarterly Journal of Economics 139(1): given which score won, and everything
that does not depend on the winner's own score, that score is a normal variable, truncated where another one would have
won. The hybrid intervals (section V) hold that truth within the simultaneous interval of all scores, so that they stay
short where the winner leads by little. The value is the one that lies above and below the truth equally often.
"""

from typing import NamedTuple

import numpy as np

from harness.stats.inference import CONFIDENCE, Floats

SIMULTANEOUS = (1 - CONFIDENCE) / 10
"""Error rate that is spent on the simultaneous interval, as the paper recommends."""
BISECTIONS = 60


class Corrected(NamedTuple):
    """A winner's score after the correction."""

    winner: int
    """Its place among the scores."""
    value: float
    ci_low: float
    ci_high: float


def corrected(values: Floats, draws: Floats, *, step: float = 0.0, higher_is_better: bool = True) -> Corrected | None:
    """Correct the best score for the choice.

    Args:
        values: shape (k,), estimates of k candidates on the same examples.
        draws: shape (k, b), joint bootstrap draws of them.
        step: smallest difference that two scores can have, such as 1/n for an accuracy, where equal scores occur.

    Returns:
        None if the best score does not vary in the draws, or a candidate's draws are undefined.
    """
    sign = 1.0 if higher_is_better else -1.0
    scores, covariance = sign * np.asarray(values, dtype=np.float64), np.atleast_2d(np.cov(draws))
    winner = int(np.argmax(scores))
    variance = covariance[winner, winner]
    if not np.isfinite(covariance).all() or not variance > 0:
        return None
    error = float(np.sqrt(variance))
    low, high = _bounds(scores, covariance, winner, step)
    reach = _simultaneous(draws, covariance) * error
    score = float(scores[winner])

    def truth_at(probability: float) -> float:
        """The truth under which a score this high, or lower, has this probability."""
        below, above = score - reach, score + reach
        for _ in range(BISECTIONS):
            middle = (below + above) / 2
            chance = _truncated(score, middle, error, max(low, middle - reach), min(high, middle + reach))
            below, above = (middle, above) if chance > probability else (below, middle)
        return (below + above) / 2

    tail = (1 - CONFIDENCE - SIMULTANEOUS) / (1 - SIMULTANEOUS) / 2
    ends = sorted(sign * truth_at(probability) for probability in (1 - tail, tail))
    return Corrected(winner, sign * truth_at(0.5), *ends)


def _bounds(scores: Floats, covariance: Floats, winner: int, step: float) -> tuple[float, float]:
    """Bounds between which the winner's score could lie and still win, given the others' parts that are independent.

    A winner is ahead by at least minus half a step: the continuity correction, without which a tie would be a winner
    that could not have scored any lower.
    """
    slopes = covariance[:, winner] / covariance[winner, winner]
    rest = scores - slopes * scores[winner] - step / 2
    falls, rises = slopes < 1 - 1e-9, slopes > 1 + 1e-9
    low = np.max(rest[falls] / (1 - slopes[falls]), initial=-np.inf)
    high = np.min(rest[rises] / (1 - slopes[rises]), initial=np.inf)
    return float(min(low, scores[winner])), float(max(high, scores[winner]))


def _simultaneous(draws: Floats, covariance: Floats) -> float:
    """Standard errors within which all scores lie together, except with a probability of `SIMULTANEOUS`."""
    errors = np.sqrt(np.diag(covariance))
    varying = errors > 0
    centred = (draws - draws.mean(axis=1, keepdims=True))[varying] / errors[varying, None]
    return float(np.quantile(np.abs(centred).max(axis=0), 1 - SIMULTANEOUS))


def _truncated(score: float, mean: float, error: float, low: float, high: float) -> float:
    """Probability that a normal variable, truncated to [low, high], is at most `score`; exact in the far tails."""
    from scipy.special import log_ndtr

    if score >= high or score <= low:
        return float(score >= high)
    a, b, x = (low - mean) / error, (high - mean) / error, (score - mean) / error
    if a > 0:  # the upper tail, mirrored
        return 1 - _ratio(log_ndtr, -b, -x, -a)
    return _ratio(log_ndtr, a, x, b)


def _ratio(log_cdf: np.ufunc, a: float, x: float, b: float) -> float:
    def log_between(lower: float, upper: float) -> float:
        top, bottom = float(log_cdf(upper)), float(log_cdf(lower))
        return top + float(np.log1p(-np.exp(bottom - top))) if bottom < top else -np.inf

    whole = log_between(a, b)
    return float(np.exp(log_between(a, x) - whole)) if np.isfinite(whole) else 0.5
