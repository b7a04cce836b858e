"""Strategies as they are set: seeded, enabled, changed."""

import dataclasses

import pytest

from signals import services
from signals.codehash import code_hash
from signals.models import StrategyConfig
from signals.parameters import ParameterError
from signals.registry import STRATEGIES, UnknownStrategy, build_strategy
from signals.services import certification
from signals.services import strategies as strategy_services
from signals.standing import CertificateState, certificate_state

pytestmark = pytest.mark.django_db


@pytest.fixture
def nothing_shipped(monkeypatch):
    """As if our code had come without certificates."""
    for module in (certification, strategy_services):
        monkeypatch.setattr(module, "shipped_certificate", lambda name, code_hash: None)


def config(name: str = "mean_reversion") -> StrategyConfig:
    return StrategyConfig.objects.get(name=name)


def test_the_seed_takes_what_came_with_the_code_and_enables_what_is_wanted(settings, all_shipped):
    settings.ENV = dataclasses.replace(settings.ENV, enabled_strategies=("mean_reversion",))
    services.seed_strategies()
    assert {item.name for item in StrategyConfig.objects.all()} == set(STRATEGIES)
    assert config().is_enabled
    assert services.has_certificate(config())
    assert not config("vix_correlation").is_enabled
    assert services.has_certificate(config("vix_correlation"))


def test_the_seed_leaves_to_the_background_what_has_no_certificate(settings, nothing_shipped):
    settings.ENV = dataclasses.replace(settings.ENV, enabled_strategies=("mean_reversion",))
    services.seed_strategies()
    assert certificate_state(config()) == CertificateState.DUE
    assert (config().is_wanted, config().is_enabled) == (True, False)
    assert not config("vix_correlation").is_wanted


def test_the_seed_leaves_the_operators_choice(all_shipped):
    services.seed_strategies()
    services.configure_strategy(name="mean_reversion", is_enabled=False, weight=2.5)
    before = config().certified_at
    services.seed_strategies()
    assert (config().is_enabled, config().weight) == (False, 2.5)
    assert config().certified_at == before


def test_the_seed_refuses_an_unknown_name(settings):
    settings.ENV = dataclasses.replace(settings.ENV, enabled_strategies=("mean_revision",))
    with pytest.raises(UnknownStrategy, match="ENABLED_STRATEGIES: unknown strategy"):
        services.seed_strategies()


def test_the_seed_disables_what_cannot_be_built():
    StrategyConfig.objects.create(
        name="mean_reversion", is_enabled=True, parameters={"hold_bars": 100_000}
    )
    services.seed_strategies()
    assert not config().is_enabled


def test_a_strategy_that_failed_cannot_be_enabled():
    present = code_hash(build_strategy("mean_reversion"))
    StrategyConfig.objects.create(
        name="mean_reversion",
        certificate_detail={"code_hash": present, "failed_check": "depends on later bars"},
    )
    with pytest.raises(services.StrategyNotCertified, match=r"no certificate.*later bars"):
        services.configure_strategy(name="mean_reversion", is_enabled=True)
    assert (config().is_enabled, config().is_wanted) == (False, False)


def test_a_strategy_without_a_certificate_is_enabled_when_it_has_one(all_shipped):
    StrategyConfig.objects.create(name="mean_reversion")
    services.configure_strategy(name="mean_reversion", is_enabled=True)
    assert (config().is_enabled, config().is_wanted) == (False, True)
    assert services.certify_due_strategies() == ["mean_reversion"]
    assert config().is_enabled
    assert services.certify_due_strategies() == []


def test_parameters_with_a_certificate_at_hand_are_taken_at_once(all_shipped):
    changed = services.configure_strategy(
        name="mean_reversion", parameters={"hold_bars": 12}, is_enabled=True
    )
    assert changed.is_enabled
    assert config().parameters == {"hold_bars": 12}
    assert config().pending == {}
    assert services.has_certificate(config())


def test_parameters_of_the_same_effect_are_taken_at_once(all_shipped, monkeypatch):
    services.seed_strategies()
    monkeypatch.setattr(strategy_services, "shipped_certificate", lambda name, code_hash: None)
    preset = dict(build_strategy("mean_reversion").get_parameters())
    services.configure_strategy(name="mean_reversion", parameters=preset)
    assert config().parameters == preset
    assert services.has_certificate(config())


def test_parameters_out_of_range_are_refused_at_once():
    with pytest.raises(ParameterError, match="hold_bars"):
        services.configure_strategy(name="mean_reversion", parameters={"hold_bars": 100_000})
    assert config().pending == {}


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), 1e6])
def test_a_weight_out_of_range_is_refused(weight):
    with pytest.raises(ParameterError, match="weight"):
        services.configure_strategy(name="mean_reversion", weight=weight)


def test_a_strategy_with_parameters_of_older_ranges_can_be_disabled():
    StrategyConfig.objects.create(
        name="mean_reversion", is_enabled=True, parameters={"hold_bars": 100_000}
    )
    services.configure_strategy(name="mean_reversion", is_enabled=False, weight=2.0)
    assert (config().is_enabled, config().weight) == (False, 2.0)
