"""Certificates in force: made in the background, on what is stored too, revoked, made to ship."""

import json
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db.models.functions import Now

from collectors import clock
from signals import services, shipping
from signals.certificate import certify
from signals.codehash import code_hash
from signals.fresh import maker_of
from signals.models import StrategyConfig
from signals.presets import Preset
from signals.registry import PRESETS, STRATEGIES, build_strategy
from signals.services import certification
from signals.standing import CertificateState, certificate_state, stored_market
from tests.signals import cheats
from tests.signals.conftest import END, HISTORY, HOUR

pytestmark = pytest.mark.django_db


@pytest.fixture
def rule(monkeypatch):
    """Registers a rule of the tests in the place of all others: they are tried in no time."""

    def register(kind):
        for table in (STRATEGIES, PRESETS):
            for name in list(table):
                monkeypatch.delitem(table, name)
        monkeypatch.setitem(STRATEGIES, "rule", kind)
        monkeypatch.setitem(PRESETS, "rule", Preset(assets=(), weight=1.0, parameters={}))

    register(cheats.Adjustable)
    return register


def config() -> StrategyConfig:
    return StrategyConfig.objects.get(name="rule")


def wanted(**fields) -> None:
    StrategyConfig.objects.create(name="rule", is_wanted=True, **fields)


def test_what_is_due_is_certified_once_and_enabled(rule):
    wanted()
    assert certificate_state(config()) == CertificateState.DUE
    assert services.certify_due_strategies() == ["rule"]
    assert config().is_enabled
    assert config().certificate_detail["prefixes"] > 400
    assert config().certificate_detail["stored_cuts"] == 0
    before = config().certified_at
    assert services.certify_due_strategies() == []
    assert config().certified_at == before


def test_changed_code_revokes_and_one_that_fails_is_disabled(rule):
    wanted(is_enabled=True, certificate_hash="of older code")
    rule(cheats.Shifted)
    services.certify_due_strategies()
    assert not config().is_enabled
    assert config().certificate_hash == ""
    assert config().certificate_detail["failed_check"] == "depends on later bars"
    assert certificate_state(config()) == CertificateState.FAILED
    assert services.certify_due_strategies() == []


def test_one_that_raises_does_not_end_the_pass_of_the_others(rule, monkeypatch):
    monkeypatch.setitem(STRATEGIES, "broken", cheats.Unmakeable)
    monkeypatch.setitem(PRESETS, "broken", Preset(assets=(), weight=1.0, parameters={}))
    stale = {"certified_at": clock.wall_now() - timedelta(hours=2), "is_enabled": True}
    StrategyConfig.objects.create(name="broken", is_wanted=True, **stale)
    wanted(**stale)
    assert services.certify_due_strategies() == ["rule"]
    assert config().is_enabled
    StrategyConfig.objects.update(certified_at=stale["certified_at"])
    assert services.recertify_strategies() == []
    assert config().certified_at > stale["certified_at"]


def test_nobody_certifies_what_somebody_else_is_certifying(rule):
    wanted(certifying_by="another", certifying_until=Now() + timedelta(seconds=30))
    assert services.certify_due_strategies() == []
    StrategyConfig.objects.update(certifying_until=Now() - timedelta(seconds=1))
    assert services.certify_due_strategies() == ["rule"]
    assert (config().certifying_by, config().certifying_until) == ("", None)


def test_what_takes_too_long_has_failed(rule, monkeypatch):
    monkeypatch.setattr(certification, "LONGEST_S", 0.0)
    wanted()
    services.certify_due_strategies()
    assert not config().is_enabled
    assert config().certificate_detail["failed_check"] == "took too long"
    assert certificate_state(config()) == CertificateState.FAILED


def test_what_our_developers_ship_is_written_once(rule, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shipping, "files", lambda package: tmp_path)
    call_command("certify", "--ship")
    assert "rule: passed" in capsys.readouterr().out
    assert json.loads((tmp_path / "certificates/rule.json").read_text())["is_passed"]
    assert not StrategyConfig.objects.exists()
    call_command("certify", "--ship")
    assert capsys.readouterr().out == ""


def test_old_parameters_run_until_the_new_ones_have_passed(rule):
    wanted()
    services.certify_due_strategies()
    services.configure_strategy(name="rule", parameters={"distance": 7}, by="ada")
    assert config().parameters == {}
    assert config().pending == {"parameters": {"distance": 7}, "by": "ada"}
    assert services.has_certificate(config())
    assert services.certify_due_strategies() == ["rule"]
    assert config().parameters == {"distance": 7}
    assert config().pending == {}
    assert services.has_certificate(config())
    assert config().is_enabled
    assert config().changes.first().by == "ada"


def test_parameters_that_fail_are_shown_and_not_taken(rule):
    wanted()
    services.certify_due_strategies()
    services.configure_strategy(name="rule", parameters={"distance": 9})  # looks ahead
    services.certify_due_strategies()
    assert config().parameters == {}
    assert config().is_enabled
    assert services.has_certificate(config())
    assert config().pending["certificate"]["failed_check"] == "depends on later bars"
    assert services.certify_due_strategies() == []


def test_stored_history_is_tried_at_100_cuts(rule, stored_crash, clock_at):
    clock_at(END)
    wanted(assets=["bitcoin", "ethereum"])
    services.certify_due_strategies()
    assert config().certificate_detail["stored_cuts"] == 100


def test_stored_history_of_a_strategy_is_what_is_stored_of_its_coins(stored_crash, clock_at):
    clock_at(END)
    market = stored_market(strategy=build_strategy("mean_reversion"), coin_ids=["ethereum"])
    assert market.instruments == ("ethereum", "bitcoin")
    assert market.valid.all()
    assert set(market.macro) == {"VIXCLS"}
    assert len(market.open_time) == (END - HISTORY) // HOUR - 1


def test_what_fails_at_night_is_disabled(rule, stored_crash, clock_at):
    clock_at(END)
    wanted(is_enabled=True)
    rule(cheats.SeesSpringOnly)  # the built world is made of autumn
    stale = {"certified_at": clock.wall_now() - timedelta(hours=2)}
    StrategyConfig.objects.update(certificate_hash=code_hash(build_strategy("rule")), **stale)
    assert services.recertify_strategies() == ["rule"]
    assert not config().is_enabled
    assert config().certificate_detail["failed_check"].startswith("depends on later")
    assert config().certificate_detail["failing_bar"].startswith("2021-0")


def test_nights_that_follow_by_seconds_certify_once(rule, stored_crash, clock_at):
    clock_at(END)
    wanted()
    services.certify_due_strategies()
    before = config().certified_at
    assert services.recertify_strategies() == []
    assert config().certified_at == before
    StrategyConfig.objects.update(certified_at=before - timedelta(hours=2))
    services.recertify_strategies()
    assert config().certificate_detail["seed"] == "2021-05-04"
    again = config().certified_at
    StrategyConfig.objects.update(certified_at=again - timedelta(hours=2))
    services.recertify_strategies()
    assert config().certified_at == again - timedelta(hours=2)


def test_the_command_says_what_was_tried(rule, capsys):
    call_command("certify", "rule")
    out = capsys.readouterr().out
    assert "rule: passed on 400 bars" in out
    assert "no cut of stored history, in " in out
    assert services.has_certificate(config())


def test_the_command_fails_with_the_strategy(rule, capsys):
    rule(cheats.Shifted)
    with pytest.raises(CommandError, match="did not pass: rule") as caught:
        call_command("certify", "--json")
    assert caught.value.returncode == 1
    (told,) = json.loads(capsys.readouterr().out)
    assert told["failed_check"] == "depends on later bars"
    assert told["covers"] == "what is given as arrays: candles and macro values"


def test_the_command_names_an_unknown_strategy():
    with pytest.raises(CommandError, match="unknown strategy 'x'"):
        call_command("certify", "x")


def test_what_is_shipped_counts_for_its_code_and_parameters_only(rule, tmp_path, monkeypatch):
    monkeypatch.setattr(shipping, "files", lambda package: tmp_path)
    passed = certify(maker_of(build_strategy("rule")))
    shipping.ship_certificate(passed)
    assert shipping.shipped_certificate("rule", passed.code_hash)["prefixes"] > 400
    assert shipping.shipped_certificate("rule", "of other code") is None
    assert shipping.shipped_certificate("unknown", passed.code_hash) is None
    shipping.ship_certificate(certify(maker_of(cheats.Shifted())))
    assert shipping.shipped_certificate("rule", code_hash(cheats.Shifted())) is None


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_certificates_beside_the_code_are_current(name):
    shipped = shipping.shipped_certificate(name, code_hash(build_strategy(name)))
    assert shipped is not None, (
        f"signals/certificates/{name}.json is not for the present code, numpy and TA-Lib: "
        f"run `python manage.py certify --ship` (or `certify --ship {name}`) and commit the files"
    )
