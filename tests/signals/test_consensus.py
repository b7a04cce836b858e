"""The consensus over history: laws, the same bits however it is cut, and reasons that add up."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signals import consensus
from signals.aggregation import RULES, WINDOW
from signals.consensus import (
    LEAD_BARS,
    MARKET_LEAD_BARS,
    Panel,
    consensus_of,
    panel_of,
    reasons_at,
)
from signals.evidence import evidence_of
from signals.regime import REGIME_BARS, REGIMES, bar_returns, regimes
from signals.strategy import Analysis, Market

OUTPUTS = ("direction", "confidence", "stop_loss", "take_profit", "position_size")
ROWS = 40
SEEDS = st.integers(0, 2**32)


def market_of(rng: np.random.Generator, bars: int, columns: int) -> Market:
    close = 100.0 * np.exp(np.cumsum(rng.normal(size=(bars, columns)) * 0.01, axis=0))
    return Market(
        timeframe="1h",
        instruments=tuple(f"coin-{column}" for column in range(columns)),
        open_time=3_600_000 * np.arange(bars, dtype=np.int64),
        open=close,
        high=close,
        low=close,
        close=close,
        volume=np.ones_like(close),
        volume_source=np.ones(close.shape, dtype=np.int8),
        valid=rng.random(close.shape) > 0.01,
    )


def said_by(rng: np.random.Generator, market: Market, bars: int) -> Analysis:
    """States of some hours each, over the last bars of a market."""
    close = market.close[-bars:]
    direction = np.repeat(rng.integers(-1, 2, (bars // 7 + 1, close.shape[1])), 7, axis=0)[:bars]
    active = direction != 0
    return Analysis(
        direction=direction.astype(np.int8),
        confidence=np.where(active, rng.uniform(0.2, 1.0, close.shape), 0.0),
        stop_loss=np.where(active, close * rng.uniform(0.8, 0.9, close.shape), np.nan),
        take_profit=np.where(active, close * 1.2, np.nan),
        position_size=np.where(active, rng.uniform(0.0, 0.1, close.shape), 0.0),
    )


def world(seed: int, *, members: int = 4, columns: int = 2, rows: int = ROWS):
    """(market, analyses, weights) with the lead that `rows` rows need, and not a bar more."""
    rng = np.random.default_rng(seed)
    market = market_of(rng, MARKET_LEAD_BARS + rows, columns)
    analyses = {f"s{index}": said_by(rng, market, LEAD_BARS + rows) for index in range(members)}
    return market, analyses, {name: float(rng.uniform(0.2, 3.0)) for name in analyses}


def panel(seed: int, **sizes: int) -> Panel:
    market, analyses, weights = world(seed, **sizes)
    return panel_of(market=market, analyses=analyses, weights=weights)


def same(first: Analysis, second: Analysis) -> bool:
    pairs = [(getattr(first, name), getattr(second, name)) for name in OUTPUTS]
    pairs += [(first.diagnostics[name], second.diagnostics[name]) for name in first.diagnostics]
    return all(one.tobytes() == other.tobytes() for one, other in pairs)


def rules_of(analysis: Analysis) -> set[str]:
    return {RULES[int(rule)] for rule in np.unique(analysis.diagnostics["rule"])}


def test_the_world_of_these_tests_knows_every_rule_but_ties():
    found = consensus_of(panel(1, members=3, columns=20), ROWS)
    assert rules_of(found) == set(RULES) - {"tied"}
    assert {REGIMES[int(code)] for code in np.unique(found.diagnostics["regime"])} == set(REGIMES)


# -- However it is cut -------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, row=st.integers(0, ROWS - 1), columns=st.integers(1, 3))
def test_a_row_is_the_same_alone_and_in_the_whole(seed, row, columns):
    """Live only the last row is wanted and nothing before its lead is loaded."""
    market, analyses, weights = world(seed, columns=columns)
    whole = consensus_of(panel_of(market=market, analyses=analyses, weights=weights), ROWS)
    alone = panel_of(
        market=market.rows(row, MARKET_LEAD_BARS + row + 1),
        analyses={name: each.rows(row, LEAD_BARS + row + 1) for name, each in analyses.items()},
        weights=weights,
    )
    assert same(consensus_of(alone, 1), whole.rows(row, row + 1))


def test_an_instrument_is_told_of_by_its_own_history_alone():
    market, analyses, weights = world(2, columns=3)
    whole = consensus_of(panel_of(market=market, analyses=analyses, weights=weights), ROWS)
    order = [2, 0]
    fields = ("open", "high", "low", "close", "volume", "volume_source", "valid")
    fewer = dataclasses.replace(
        market,
        instruments=("coin-2", "coin-0"),
        **{name: getattr(market, name)[:, order] for name in fields},
    )
    of_fewer = {
        name: Analysis(**{field: getattr(each, field)[:, order] for field in OUTPUTS})
        for name, each in analyses.items()
    }
    found = consensus_of(panel_of(market=fewer, analyses=of_fewer, weights=weights), ROWS)
    for name in OUTPUTS:
        assert getattr(found, name).tobytes() == getattr(whole, name)[:, order].tobytes()


@settings(max_examples=5, deadline=None)
@given(seed=SEEDS)
def test_compiled_decisions_are_the_plain_ones(seed):
    of_all = panel(seed, members=6, columns=4)
    plain = consensus_of(of_all, ROWS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(consensus, "PLAIN_CELLS", 0)
        assert same(consensus_of(of_all, ROWS), plain)


# -- Laws --------------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_a_mirrored_world_is_decided_the_other_way(seed):
    market, analyses, weights = world(seed)
    straight = panel_of(market=market, analyses=analyses, weights=weights)
    mirrored = dataclasses.replace(
        straight,
        returns=-straight.returns,
        states=-straight.states,
        analyses={
            name: dataclasses.replace(each, direction=-each.direction)
            for name, each in analyses.items()
        },
    )
    found, expected = consensus_of(mirrored, ROWS), consensus_of(straight, ROWS)
    assert np.array_equal(found.direction, -expected.direction)
    for name in ("confidence", "stop_loss", "position_size"):
        assert getattr(found, name).tobytes() == getattr(expected, name).tobytes()


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS, order=st.permutations(range(4)))
def test_neither_order_nor_names_of_the_strategies_matter(seed, order):
    market, analyses, weights = world(seed)
    expected = consensus_of(panel_of(market=market, analyses=analyses, weights=weights), ROWS)
    shuffled = {name: analyses[name] for name in reversed(analyses)}
    again = consensus_of(panel_of(market=market, analyses=shuffled, weights=weights), ROWS)
    assert same(again, expected)
    renamed = panel_of(
        market=market,
        analyses={f"s{order[index]}": each for index, each in enumerate(analyses.values())},
        weights={f"s{order[index]}": weights[name] for index, name in enumerate(analyses)},
    )
    found = consensus_of(renamed, ROWS)
    assert np.array_equal(found.direction, expected.direction)
    # Sums in another order differ in the last digits.
    np.testing.assert_allclose(found.confidence, expected.confidence, rtol=1e-12)
    assert np.array_equal(found.stop_loss, expected.stop_loss, equal_nan=True)


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_ten_copies_decide_what_one_decides(seed):
    market, analyses, weights = world(seed, members=3)
    expected = consensus_of(panel_of(market=market, analyses=analyses, weights=weights), ROWS)
    copies = analyses | {f"s0{index}": analyses["s0"] for index in range(9)}
    of_copies = weights | {f"s0{index}": weights["s0"] for index in range(9)}
    found = consensus_of(panel_of(market=market, analyses=copies, weights=of_copies), ROWS)
    assert np.array_equal(found.direction, expected.direction)
    np.testing.assert_allclose(found.confidence, expected.confidence, rtol=1e-12)
    assert np.array_equal(found.stop_loss, expected.stop_loss, equal_nan=True)


def test_without_the_filter_ten_copies_would_decide():
    """The law above can fail: as ten ideas they outvote the others."""
    market, analyses, weights = world(4, members=3, columns=5)
    expected = consensus_of(panel_of(market=market, analyses=analyses, weights=weights), ROWS)
    tenfold = consensus_of(
        panel_of(market=market, analyses=analyses, weights=weights | {"s0": 10 * weights["s0"]}),
        ROWS,
    )
    assert not np.array_equal(tenfold.direction, expected.direction)


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS, scale=st.sampled_from([2.0**-20, 0.5, 8.0, 2.0**20]))
def test_the_unit_of_the_weights_does_not_matter(seed, scale):
    of_all = panel(seed)
    scaled = dataclasses.replace(of_all, weights=of_all.weights * scale)
    found, expected = consensus_of(scaled, ROWS), consensus_of(of_all, ROWS)
    for name in OUTPUTS:
        assert getattr(found, name).tobytes() == getattr(expected, name).tobytes()


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_what_is_said_was_said_by_a_voter(seed):
    of_all = panel(seed)
    found = consensus_of(of_all, ROWS)
    members = [each.rows(LEAD_BARS, LEAD_BARS + ROWS) for each in of_all.analyses.values()]
    backers = [member.direction == found.direction for member in members]
    pairs = list(zip(backers, members, strict=True))
    active = found.direction != 0
    lowest = np.min([np.where(b, m.confidence, 2.0) for b, m in pairs], axis=0)
    highest = np.max([np.where(b, m.confidence, -1.0) for b, m in pairs], axis=0)
    assert np.all(found.confidence[active] >= lowest[active])
    assert np.all(found.confidence[active] <= highest[active])
    assert np.all(found.confidence[~active] == 0.0)
    assert np.all(np.isnan(found.stop_loss[~active]))
    led = np.zeros(active.shape, dtype=bool)
    for backed, member in pairs:
        whole = [getattr(member, n) == getattr(found, n) for n in OUTPUTS[2:]]
        led |= backed & np.logical_and.reduce(whole)
    assert np.array_equal(led, active)  # stop, target and size are all one voter's


def test_one_alone_passes_through():
    market, analyses, weights = world(5, members=1)
    found = consensus_of(panel_of(market=market, analyses=analyses, weights=weights), ROWS)
    own = analyses["s0"].rows(LEAD_BARS, LEAD_BARS + ROWS)
    for name in OUTPUTS:
        assert getattr(found, name).tobytes() == getattr(own, name).tobytes()


# -- Evidence and regime -----------------------------------------------------------------------


def test_evidence_is_what_a_slow_count_finds():
    of_all = panel(6, members=3, columns=2, rows=5)
    wanted = np.ones((2, 5), dtype=bool)
    found = evidence_of(of_all.states, of_all.returns, of_all.regime, wanted)
    states, returns, regime = (
        each.tolist() for each in (of_all.states, of_all.returns, of_all.regime)
    )
    for cell, (column, row) in enumerate(np.argwhere(wanted).tolist()):
        now = WINDOW + row
        bars = range(now - WINDOW + 1, now + 1)
        for index in range(3):
            own = states[index][column]
            shared = [sum(own[t] * other[column][t] for t in bars) for other in states]
            assert found.shared[cell].reshape(3, 3)[index].tolist() == shared
            gains = {t: own[t - 1] * returns[column][t] for t in bars if own[t - 1] != 0}
            here = [t for t in gains if regime[column][t - 1] == regime[column][now]]
            assert found.records[cell].reshape(6, 3)[:, index].tolist() == [
                sum(gains.values()), sum(abs(gain) for gain in gains.values()), len(gains),
                sum(gains[t] for t in here), sum(abs(gains[t]) for t in here), len(here),
            ]  # fmt: skip


def test_regimes_of_made_markets(make_market):
    bars = np.arange(600)
    sign = np.where(bars % 2 == 0, 1.0, -1.0)
    moves = np.stack(
        [
            0.001 * sign * np.where(bars < 560, 1.0, 5.0),  # to and fro, then five times as far
            np.full(600, 0.001),  # upwards
            np.zeros(600),  # nothing moves
            np.where(bars < 560, 0.0, 0.01),  # still, then upwards
        ],
        axis=1,
    )
    found = regimes(bar_returns(make_market(100.0 * np.exp(np.cumsum(moves, axis=0)))))
    assert [REGIMES[code] for code in found[:, 550]] == [
        "calm, ranging", "calm, trending", "calm, ranging", "calm, ranging",
    ]  # fmt: skip
    assert [REGIMES[code] for code in found[:, 590]] == [
        "wild, ranging", "calm, trending", "calm, ranging", "wild, trending",
    ]  # fmt: skip


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e7])
def test_regimes_know_no_price_scale_and_no_later_bar(make_market, scale):
    rng = np.random.default_rng(7)
    close = np.exp(np.cumsum(rng.normal(size=(700, 2)) * 0.01, axis=0))
    whole = regimes(bar_returns(make_market(close)))
    prefix = regimes(bar_returns(make_market(close[:500] * scale)))
    assert np.array_equal(prefix, whole[:, :500])
    since = regimes(bar_returns(make_market(close[100:])))
    assert np.array_equal(since[:, REGIME_BARS:], whole[:, 100 + REGIME_BARS :])


def test_a_return_over_a_hole_or_a_broken_print_counts_little(make_market):
    close = np.full((10, 1), 100.0)
    close[5] = 1e6
    market = make_market(close)
    assert bar_returns(market)[0].tolist() == [0] * 5 + [250_000_000, -250_000_000] + [0] * 3
    valid = market.valid.copy()
    valid[5] = False
    assert not bar_returns(dataclasses.replace(market, valid=valid)).any()


# -- Reasons -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_the_reasons_are_the_numbers_that_decided(seed):
    of_all = panel(seed, columns=3)
    found = consensus_of(of_all, ROWS)
    for row in range(0, ROWS, 3):
        for column in range(3):
            reasons = json.loads(
                json.dumps(reasons_at(of_all, row - ROWS, column), allow_nan=False)
            )
            said = {name: getattr(found, name)[row, column] for name in OUTPUTS}
            assert reasons["rule"] == RULES[int(found.diagnostics["rule"][row, column])]
            assert reasons["long_votes"] == found.diagnostics["long_votes"][row, column]
            assert reasons["direction"] == said["direction"]
            assert (reasons["direction"], reasons["leader"]) == decided_again(reasons)
            if reasons["leader"] is None:
                continue
            leader = of_all.analyses[reasons["leader"]]
            assert leader.stop_loss[LEAD_BARS + row, column] == said["stop_loss"]
            if reasons["rule"] in ("single", "resolved"):
                assert reasons["votes"][reasons["leader"]]["confidence"] == said["confidence"]


def decided_again(reasons):
    """(direction, leader) from what is stored alone, by the rules as they are documented."""
    voters = {name: vote for name, vote in reasons["votes"].items() if vote["direction"]}
    for vote in voters.values():
        assert vote["vote"] == vote["effective_weight"] * vote["confidence"]
        assert vote["score"] == vote["performance"] * vote["regime"] * vote["confidence"]
    sums = {side: sum(v["vote"] for v in voters.values() if v["direction"] == side)
            for side in (1, -1)}  # fmt: skip
    assert (sums[1], sums[-1]) == (reasons["long_votes"], reasons["short_votes"])
    if len(voters) == 1:
        [(name, vote)] = voters.items()
        return vote["direction"], name
    for side in (1, -1):
        if sums[side] and sums[side] >= 0.6 * (sums[1] + sums[-1]):
            backers = [name for name, vote in voters.items() if vote["direction"] == side]
            return side, max(
                backers, key=lambda name: voters[name]["weight"] * voters[name]["confidence"]
            )
    best = max(voters, key=lambda name: voters[name]["score"], default=None)
    if best is None or voters[best]["score"] < 0.5:
        return 0, None
    return voters[best]["direction"], best


# -- What is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [None, -1.0, np.nan, np.inf])
def test_an_unusable_weight_is_refused(weight):
    market, analyses, weights = world(8)
    weights["s1"] = weight
    if weight is None:
        del weights["s1"]
    with pytest.raises(ValueError, match="no usable weight: s1"):
        panel_of(market=market, analyses=analyses, weights=weights)


def test_what_cannot_be_decided_is_refused():
    market, analyses, weights = world(9)
    with pytest.raises(ValueError, match="nothing to aggregate"):
        panel_of(market=market, analyses={}, weights={})
    with pytest.raises(ValueError, match="aligned"):
        panel_of(market=market, analyses=analyses | {"s1": analyses["s1"].rows(1, 9)},
                 weights=weights)  # fmt: skip
    of_all = panel_of(market=market, analyses=analyses, weights=weights)
    with pytest.raises(ValueError, match="41 rows need 720 before them, given 760"):
        consensus_of(of_all, ROWS + 1)
    with pytest.raises(ValueError, match="need 720"):
        reasons_at(of_all, -ROWS - 1, 0)
