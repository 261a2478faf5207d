"""The noise of measurements, from the blocks themselves: how far two blocks of the same phase lie apart.

Repeats in a row share whatever the machine is doing, so their scatter says too little; blocks apart in time do not.
There are few blocks of a query, so its variance is drawn towards a prior: that of all queries of the database, or what
the scatter within the blocks demands where that is more (the moderated t-statistic: Smyth, Linear Models and Empirical
Bayes Methods, Statistical Applications in Genetics 3, 2004).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, pi, sqrt
from statistics import NormalDist, fmean, quantiles, variance

CONFIDENCE = 0.95
"""Of all intervals of a database together."""
PRIOR_FREEDOM = 4.0
"""How many degrees of freedom the variance of the other queries counts for."""
LEAST_NOISE = 0.03
"""Standard deviation of log time between blocks of the quietest machine: two that agree by chance are no proof."""

IQR = 1.349
"""Interquartile range of a normal distribution in standard deviations."""


@dataclass(frozen=True)
class Interval:
    """Of after / before, at CONFIDENCE."""

    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """`change` is the difference of log time; `interval`, of after / before, is None where the noise is not known."""

    change: float
    interval: Interval | None


@dataclass(frozen=True)
class Differences:
    queries: tuple[Difference | None, ...]
    overall: Difference | None


@dataclass(frozen=True)
class Level:
    """One block: the median of its log times, and the variance that their scatter gives this median."""

    value: float
    variance: float


Levels = Sequence[Level]


def level_of(logs: Sequence[float]) -> Level:
    """Return the level of a block. The variance of a median is pi / 2 of a mean's (Kendall and Stuart, 14.6).

    The scatter is the interquartile range, which single times that are far off do not move.
    """
    if len(logs) < 2:
        return Level(logs[0], 0.0)
    low, middle, high = quantiles(logs, n=4, method="inclusive")
    return Level(middle, ((high - low) / IQR) ** 2 * pi / 2 / len(logs))


def differences(pairs: Sequence[tuple[Levels, Levels]]) -> Differences:
    """Return after - before of each query, by the log levels of its blocks, and their mean.

    The intervals hold together: with n queries each is made at 1 - 0.05 / (n + 1) (Bonferroni).
    """
    known = [pair for pair in pairs if all(pair)]
    noises = [noise for pair in known if (noise := _noise(pair)) is not None]
    prior = max(fmean([n.variance for n in noises]), _scatter(known), LEAST_NOISE**2) if noises else None
    level = 1 - (1 - CONFIDENCE) / (len(known) + 1)
    queries = tuple(_difference(pair, prior, level) if all(pair) else None for pair in pairs)
    return Differences(queries, _mean(known, prior, level))


@dataclass(frozen=True)
class _Noise:
    variance: float
    freedom: int


def _noise(pair: tuple[Levels, Levels]) -> _Noise | None:
    """Return the variance within phases, pooled; None where each phase has one block."""
    freedom = sum(len(levels) - 1 for levels in pair)
    if freedom < 1:
        return None
    squares = sum(variance([x.value for x in xs]) * (len(xs) - 1) for xs in pair if len(xs) > 1)
    return _Noise(squares / freedom, freedom)


def _scatter(pairs: Sequence[tuple[Levels, Levels]]) -> float:
    return fmean([level.variance for pair in pairs for levels in pair for level in levels])


def _change(pair: tuple[Levels, Levels]) -> float:
    before, after = ([level.value for level in levels] for levels in pair)
    return fmean(after) - fmean(before)


def _difference(pair: tuple[Levels, Levels], prior: float | None, level: float) -> Difference:
    before, after = pair
    change = _change(pair)
    own = _noise(pair)
    if prior is None or own is None:
        return Difference(change, None)
    freedom = PRIOR_FREEDOM + own.freedom
    moderated = (PRIOR_FREEDOM * prior + own.freedom * own.variance) / freedom
    reach = t_quantile((1 + level) / 2, freedom) * sqrt(moderated * (1 / len(before) + 1 / len(after)))
    return Difference(change, Interval(exp(change - reach), exp(change + reach)))


def _mean(pairs: Sequence[tuple[Levels, Levels]], prior: float | None, level: float) -> Difference | None:
    """Return the mean over queries, no surer than one of them: what disturbs a block disturbs all of its queries."""
    if not pairs:
        return None
    each = [_difference(pair, prior, level) for pair in pairs]
    change = fmean([d.change for d in each])
    reaches = [sqrt(d.interval.high / d.interval.low) for d in each if d.interval is not None]
    if not reaches:
        return Difference(change, None)
    reach = fmean(reaches)
    return Difference(change, Interval(exp(change) / reach, exp(change) * reach))


def t_quantile(probability: float, freedom: float) -> float:
    """Return the quantile of Student's t (Abramowitz and Stegun, 26.7.5); within 1 % from 4 degrees of freedom on."""
    z, n = NormalDist().inv_cdf(probability), freedom
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * n**4)
    )
