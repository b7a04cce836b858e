"""Strategies as they are set: seeded, certified, enabled, changed."""

import dataclasses

import pytest
from django.core.management import CommandError, call_command

from signals import services
from signals.models import StrategyConfig
from signals.parameters import ParameterError
from signals.registry import STRATEGIES, UnknownStrategy
from signals.services import strategies as strategy_services

pytestmark = pytest.mark.django_db


@pytest.fixture
def failing(monkeypatch):
    """Makes every certificate from now on one that failed."""
    certify = strategy_services.certify

    def fail(strategy):
        return dataclasses.replace(certify(strategy), failed_check="depends on later bars")

    monkeypatch.setattr(strategy_services, "certify", fail)


def config(name: str = "mean_reversion") -> StrategyConfig:
    return StrategyConfig.objects.get(name=name)


def test_the_seed_certifies_and_enables_what_is_wanted(settings):
    settings.ENV = dataclasses.replace(settings.ENV, enabled_strategies=("mean_reversion",))
    services.seed_strategies()
    assert {item.name for item in StrategyConfig.objects.all()} == set(STRATEGIES)
    assert config().is_enabled
    assert services.has_certificate(config())
    assert not config("vix_correlation").is_enabled
    assert services.has_certificate(config("vix_correlation"))


def test_the_seed_leaves_the_operators_choice():
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


def test_changed_code_is_certified_again_and_disabled_when_it_fails(failing):
    StrategyConfig.objects.create(
        name="mean_reversion", is_enabled=True, certificate_hash="of older code"
    )
    services.seed_strategies()
    assert not config().is_enabled
    assert config().certificate_hash == ""
    assert config().certificate_detail["failed_check"] == "depends on later bars"


def test_enabling_without_a_certificate_is_refused():
    StrategyConfig.objects.create(name="mean_reversion")
    with pytest.raises(services.StrategyNotCertified, match="no certificate"):
        services.configure_strategy(name="mean_reversion", is_enabled=True)
    assert not config().is_enabled


def test_parameters_are_certified_before_they_are_stored(failing):
    StrategyConfig.objects.create(name="mean_reversion", parameters={"hold_bars": 30})
    with pytest.raises(services.StrategyNotCertified, match="depends on later bars"):
        services.configure_strategy(name="mean_reversion", parameters={"hold_bars": 12})
    assert config().parameters == {"hold_bars": 30}


def test_parameters_and_enabling_in_one_step():
    changed = services.configure_strategy(
        name="mean_reversion", parameters={"hold_bars": 12}, is_enabled=True
    )
    assert changed.is_enabled
    assert config().parameters == {"hold_bars": 12}
    assert services.has_certificate(config())


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


def test_certify_command_prints_and_stores(capsys):
    call_command("certify", "vix_correlation")
    assert "vix_correlation: passed on 2520 bars" in capsys.readouterr().out
    assert services.has_certificate(config("vix_correlation"))


def test_certify_command_fails_with_the_strategy(failing, capsys):
    with pytest.raises(CommandError) as caught:
        call_command("certify", "--json")
    assert caught.value.returncode == 1
    assert '"failed_check": "depends on later bars"' in capsys.readouterr().out


def test_certify_command_names_an_unknown_strategy():
    with pytest.raises(CommandError, match="unknown strategy 'x'"):
        call_command("certify", "x")
