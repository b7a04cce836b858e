"""Weights against SciPy's optimiser and scikit-learn's shrinkage, and the laws they keep."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.covariance import LedoitWolf

from signals import weights

SEEDS = st.integers(0, 10_000)


def returns_of(seed: int, *, days: int, names: int, window: int = 30) -> np.ndarray:
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(window, days, 1)) * rng.uniform(0.0, 0.04)
    own = rng.normal(size=(window, days, names)) * rng.uniform(0.005, 0.08, names)
    return own + common * rng.uniform(-0.5, 2.0, names)


def scores_of(seed: int, *, days: int, names: int, held: int | None = None) -> np.ndarray:
    rng = np.random.default_rng(seed + 1)
    score = rng.choice([-1.0, -0.4, 0.2, 0.6, 1.0], size=(days, names))
    score[:, names if held is None else held :] = 0.0
    return score


def optimised(score: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """What an optimiser finds of least variance w'Cw for a score s'w = 1."""
    scale = np.trace(covariance)
    found = minimize(
        lambda weight: weight @ covariance @ weight / scale,
        score / (score @ score),
        jac=lambda weight: 2.0 * covariance @ weight / scale,
        method="SLSQP",
        constraints={"type": "eq", "fun": lambda weight: score @ weight - 1.0},
        options={"ftol": 1e-12, "maxiter": 1000},
    )
    assert found.success
    return found.x


@pytest.mark.parametrize("names", [2, 5, 12])
def test_minimum_variance_is_what_an_optimiser_finds(names):
    score = scores_of(names, days=6, names=names)
    covariance = weights.shrunk_covariance(returns_of(names, days=6, names=names), score)
    found = weights.minimum_variance(score, covariance)
    for day in range(6):
        best = optimised(score[day], covariance[day])
        one_sided = np.where(best * score[day] > 0.0, best, 0.0)
        assert found[day] == pytest.approx(one_sided / np.abs(one_sided).sum(), abs=1e-4)


def test_the_shrunk_covariance_is_that_of_ledoit_and_wolf():
    returns = returns_of(3, days=5, names=9)
    score = scores_of(3, days=5, names=9, held=7)
    found = weights.shrunk_covariance(returns, score)
    for day in range(5):
        expected = LedoitWolf().fit(returns[:, day, :7]).covariance_
        assert found[day, :7, :7] == pytest.approx(expected, rel=1e-9, abs=1e-15)
    assert (found[:, 7:, 7:] == np.eye(2)).all()
    assert not found[:, :7, 7:].any()


def test_inverse_volatility_by_hand():
    found = weights.inverse_volatility(
        np.array([[1.0, -1.0, 0.0], [0.5, -1.0, 0.0]]), np.array([[0.02, 0.06, 0.0]] * 2)
    )
    assert found[0] == pytest.approx([0.75, -0.25, 0.0])
    assert found[1] == pytest.approx([0.6, -0.4, 0.0])


def test_a_hedge_against_its_score_is_not_held():
    score = np.array([[1.0, 0.1]])
    covariance = np.array([[[1.0, 1.9], [1.9, 4.0]]])
    assert weights.minimum_variance(score, covariance).tolist() == [[1.0, 0.0]]


def test_copies_of_one_name_break_nothing():
    one = returns_of(8, days=3, names=1)
    score = np.ones((3, 10))
    found = weights.minimum_variance(score, weights.shrunk_covariance(one + np.zeros(10), score))
    assert found == pytest.approx(np.full((3, 10), 0.1), abs=1e-3)
    alone = weights.minimum_variance(score, np.full((3, 10, 10), 0.04))
    assert np.isfinite(alone).all()


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 12), st.floats(0.05, 1.0))
def test_capped_weights_add_up_and_stay_below_the_cap(seed, names, cap):
    given_weights = weights.to_unit_gross(
        scores_of(seed, days=4, names=names)
        * np.random.default_rng(seed).lognormal(0.0, 2.0, names)
    )
    found = weights.capped(given_weights, cap)
    assert (np.abs(found) <= cap).all()
    assert (np.sign(found) == np.sign(given_weights)).all()
    assert np.abs(found).sum(axis=1) == pytest.approx(np.full(4, min(1.0, names * cap)))
    order = np.argsort(np.abs(given_weights), axis=1)
    assert (np.diff(np.take_along_axis(np.abs(found), order, axis=1)) >= -1e-12).all()


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.randoms(use_true_random=False))
def test_permuted_names_have_permuted_weights(seed, random):
    returns, score = returns_of(seed, days=3, names=6), scores_of(seed, days=3, names=6)
    order = list(range(6))
    random.shuffle(order)

    def found(returns, score):
        shrunk = weights.shrunk_covariance(returns, score)
        return weights.capped(weights.minimum_variance(score, shrunk), 0.35)

    assert found(returns[:, :, order], score[:, order]) == pytest.approx(
        found(returns, score)[:, order], rel=1e-6, abs=1e-9
    )


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(1, 8), st.integers(0, 7))
def test_a_day_has_the_same_bits_alone_and_among_others(seed, held, day):
    """Neither other days nor what fills a row up changes its last digit."""
    returns = returns_of(seed, days=8, names=9)
    score = scores_of(seed, days=8, names=9, held=held)

    def found(returns, score):
        shrunk = weights.shrunk_covariance(returns, score)
        return (
            weights.capped(weights.minimum_variance(score, shrunk), 0.3),
            weights.capped(weights.inverse_volatility(score, np.abs(returns[0]) + 0.01), 0.3),
        )

    together = found(returns, score)
    alone = found(
        np.ascontiguousarray(returns[:, day : day + 1, :held]),
        np.ascontiguousarray(score[day : day + 1, :held]),
    )
    for many, one in zip(together, alone, strict=True):
        assert np.array_equal(many[day, :held], one[0])
        assert not many[:, held:].any()
