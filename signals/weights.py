"""How much of each chosen instrument to hold: closed forms over a signed score. Pure.

`score` is (D, M), days by chosen names: its sign is the side that a name is held on, its size how
much it is wanted, and 0 fills rows with fewer names up to M. Names of a row are in the order of
their columns; sums run in that order (`signals.ranking.sum_in_order`) and no BLAS or LAPACK is
called, whose last digits depend on shapes and threads. What fills a row up changes no bit of it.
Weights are signed like the score, or 0; their absolute values add up to 1 where anything is held.
"""

from __future__ import annotations

import numpy as np

from signals.ranking import sum_in_order
from signals.strategy import FloatArray

SMALLEST_PIVOT = 1e-10  # of a name's variance: below it, the other names explain the name


def inverse_volatility(score: FloatArray, volatility: FloatArray) -> FloatArray:
    """Weights in proportion to score / volatility (D, M), volatility above 0 where score is not 0.

    The minimum variance weights of names that do not move together and are wanted in proportion
    to their volatility; with equal scores every name contributes the same stand-alone risk.
    """
    return to_unit_gross(score / np.where(score == 0.0, 1.0, volatility))


def minimum_variance(score: FloatArray, covariance: FloatArray) -> FloatArray:
    """The weights w of least variance w'Cw among those of a given score s'w = 1, made one-sided.

    Closed form: w is C^-1 s / (s'C^-1 s), the tangency portfolio with s in place of expected
    returns (H. Markowitz, "Portfolio Selection", Journal of Finance 7, 1952). Names that come out
    on the other side than their score, as hedges of the rest, are not held. `covariance` is
    (D, M, M), positive definite over the names with a score.
    """
    wanted = _solved(covariance, score)
    return to_unit_gross(np.where(wanted * score > 0.0, wanted, 0.0))


def shrunk_covariance(returns: FloatArray, score: FloatArray) -> FloatArray:
    """(D, M, M) covariances of `returns` (W, D, M), shrunk towards a scaled identity.

        S = X'X / W with X the centred returns of a day's P names, m = trace(S) / P
        d2 = |S - m I|^2 / P, b2 = min(d2, sum over days t of |x_t x_t' - S|^2 / (W^2 P))
        C = (b2 / d2) m I + (1 - b2 / d2) S         (|A|^2: the sum of all squared entries)

    Names without a score get a row and column of the identity: they take no part in any sum.
    Source: O. Ledoit, M. Wolf, "A well-conditioned estimator for large-dimensional covariance
    matrices", Journal of Multivariate Analysis 88 (2004), without its factor 1/P in products.
    """
    is_held = score != 0.0
    names = np.maximum(is_held.sum(axis=1), 1)
    window = len(returns)
    centred = np.where(is_held, returns - sum_in_order(returns, axis=0) / window, 0.0)
    sample = _products(centred) / window
    of_each = np.diagonal(sample, axis1=1, axis2=2)
    mean = sum_in_order(of_each, axis=1) / names
    square = sum_in_order(sum_in_order(sample * sample, axis=2), axis=1)
    lengths = sum_in_order(centred * centred, axis=2)
    fourth = sum_in_order(lengths * lengths, axis=0) / window
    distance = square / names - mean * mean
    noise = np.minimum((fourth - square) / names / window, distance)
    share = np.where(distance > 0.0, noise / np.where(distance > 0.0, distance, 1.0), 1.0)
    share = np.clip(share, 0.0, 1.0)[:, np.newaxis]
    diagonal = np.where(is_held, share * mean[:, np.newaxis] + (1.0 - share) * of_each, 1.0)
    shrunk = (1.0 - share)[:, :, np.newaxis] * sample
    every = np.arange(score.shape[1])
    shrunk[:, every, every] = diagonal
    return shrunk


def to_unit_gross(weights: FloatArray) -> FloatArray:
    """The weights (D, M) scaled so that their absolute values add up to 1; all 0 stays so."""
    gross = sum_in_order(np.abs(weights), axis=1)[:, np.newaxis]
    return np.asarray(weights / np.where(gross > 0.0, gross, 1.0))


def capped(weights: FloatArray, cap: float) -> FloatArray:
    """Unit-gross weights with none beyond `cap`: what is cut off goes to the others in proportion.

    Where too few names are held for that, each is held at the cap and the gross stays below 1.
    """
    size = np.abs(weights)
    is_cut = np.zeros(size.shape, dtype=np.bool_)
    result = size
    while (result > cap).any():
        # A row that is done keeps its cut names, and with them its bits, while others go on.
        is_cut |= result > cap
        left = np.maximum(1.0 - cap * is_cut.sum(axis=1), 0.0)[:, np.newaxis]
        free = sum_in_order(np.where(is_cut, 0.0, size), axis=1)[:, np.newaxis]
        scale = np.where(is_cut.any(axis=1, keepdims=True) & (free > 0.0), left, free)
        result = np.where(is_cut, cap, size * (scale / np.where(free > 0.0, free, 1.0)))
    return np.asarray(np.copysign(result, weights))


def _products(centred: FloatArray) -> FloatArray:
    """X'X (D, M, M) of each day's X (W, D, M), computed with the days in the innermost axis, as
    they are more than the names."""
    by_day = np.ascontiguousarray(np.swapaxes(centred, 1, 2))
    total = np.zeros((centred.shape[2], *by_day.shape[1:]))
    for moved in by_day:
        total += moved[:, np.newaxis] * moved
    return np.moveaxis(total, -1, 0)


def _solved(matrix: FloatArray, right: FloatArray) -> FloatArray:
    """x of matrix x = right for each day: elimination without exchange of rows, which positive
    definite matrices do not need. Pivots are kept off 0 for names that are copies of others."""
    upper, result = np.moveaxis(matrix, 0, -1).copy(), right.T.copy()
    count = len(result)
    pivots = np.empty_like(result)
    for row in range(count):
        pivots[row] = np.maximum(upper[row, row], SMALLEST_PIVOT * matrix[:, row, row])
        factor = upper[row + 1 :, row] / pivots[row]
        upper[row + 1 :, row + 1 :] -= factor[:, np.newaxis] * upper[row, row + 1 :]
        result[row + 1 :] -= factor * result[row]
    for row in reversed(range(count)):
        result[row] /= pivots[row]
        result[:row] -= upper[:row, row] * result[row]
    return result.T
