"""The admin pages of signals: strategies are set, runs and signals are read."""

import pytest
from django.contrib.auth.models import Permission
from django.urls import reverse

from signals.codehash import code_hash
from signals.models import BarRun, SignalOutcome, StrategyChange, StrategyConfig
from signals.registry import build_strategy
from tests.factories import BAR, make_instrument, make_signal, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin_client(client):
    """A browser in which an administrator is logged in."""
    client.force_login(make_user("root", is_superuser=True, is_staff=True))
    return client


@pytest.fixture
def config():
    """The mean reversion with its certificate, speaking of bitcoin."""
    make_instrument("bitcoin")
    make_instrument("ethereum")
    return StrategyConfig.objects.create(
        name="mean_reversion",
        assets=["bitcoin"],
        certificate_hash=code_hash(build_strategy("mean_reversion")),
        certificate_detail={"is_passed": True},
    )


def page_of(row) -> str:
    return reverse(f"admin:signals_{row._meta.model_name}_change", args=[row.pk])


def settings_in(answer) -> dict:
    """What a browser would send back of a strategy's page."""
    form = answer.context["adminform"].form
    return {name: form[name].value() for name in form.fields}


def test_a_strategy_is_set_by_its_own_fields(admin_client, config):
    page = page_of(config)
    opened = admin_client.get(page)
    typed = settings_in(opened)
    assert typed["parameter_hold_bars"] == 24
    assert "1 to 48 bars; preset 24" in opened.content.decode()
    typed |= {"weight": "2.5", "assets": ["bitcoin", "ethereum"]}
    assert admin_client.post(page, typed).status_code == 302
    config.refresh_from_db()
    assert (config.weight, config.assets) == (2.5, ["bitcoin", "ethereum"])
    assert config.parameters == {}
    change = StrategyChange.objects.get()
    assert (change.by, set(change.changes)) == ("root", {"weight", "assets"})


def test_what_is_wrong_is_shown_at_its_field(admin_client, config):
    page = page_of(config)
    typed = settings_in(admin_client.get(page))
    expected = {
        "parameter_hold_bars": ("1000", "1000 is outside 1 to 48 bars"),
        "parameter_vix_threshold": ("nan", "Enter a number."),
        "weight": ("-1", "outside 0"),
        "assets": (["dogcoin"], "Select a valid choice"),
    }
    for field, (value, words) in expected.items():
        answer = admin_client.post(page, {**typed, field: value})
        errors = answer.context["adminform"].form.errors
        assert set(errors) == {field}
        assert words in str(errors[field])
    config.refresh_from_db()
    assert (config.weight, config.assets, config.parameters) == (1.0, ["bitcoin"], {})
    assert not StrategyChange.objects.exists()


def test_stored_values_out_of_range_can_be_seen_and_mended(admin_client, config):
    StrategyConfig.objects.update(parameters={"hold_bars": 1000})
    page = page_of(config)
    opened = admin_client.get(page)
    assert "cannot be built: hold_bars: 1000 is outside" in opened.content.decode()
    typed = settings_in(opened)
    assert typed["parameter_hold_bars"] == 1000
    assert admin_client.post(page, {**typed, "parameter_hold_bars": ""}).status_code == 302
    config.refresh_from_db()
    assert config.parameters == {}


def test_a_stored_parameter_that_is_not_declared_any_more_goes_with_the_next_save(
    admin_client, config
):
    StrategyConfig.objects.update(parameters={"gone": 1})
    page = page_of(config)
    opened = admin_client.get(page)
    assert "cannot be built: gone: unknown" in opened.content.decode()
    assert admin_client.post(page, settings_in(opened)).status_code == 302
    config.refresh_from_db()
    assert config.parameters == {}


def test_who_may_only_look_reads_the_parameters(client, config):
    clerk = make_user("clerk", is_staff=True)
    clerk.user_permissions.add(Permission.objects.get(codename="view_strategyconfig"))
    client.force_login(clerk)
    answer = client.get(page_of(config))
    assert answer.status_code == 200
    assert "hold_bars 24" in answer.content.decode()
    assert client.post(page_of(config), {"weight": "3"}).status_code == 403
    StrategyConfig.objects.update(is_enabled=True)
    listed = reverse("admin:signals_strategyconfig_changelist")
    for action in ("disable", "certify"):
        client.post(listed, {"action": action, "_selected_action": config.pk})
    config.refresh_from_db()
    assert (config.is_enabled, config.pending) == (True, {})


def test_the_page_tells_how_a_strategy_does(admin_client, config):
    signal = make_signal(strategy="mean_reversion")
    BarRun.objects.update(
        failures={"mean_reversion": "ValueError: no"},
        durations={"mean_reversion": 0.25},
        withheld={"vix_correlation": {"*": "VIXCLS is 9 days old"}},
    )
    SignalOutcome.objects.create(
        signal=signal,
        entry_at=BAR,
        exit="target",
        result=0.04,
        is_hit=True,
        return_1d=-0.01,
        state="done",
        series_key="candles:bitcoin:1h",
        changed_at=BAR,
    )
    page = admin_client.get(page_of(config)).content.decode()
    assert "1 of the last 1 failed" in page
    assert "ValueError: no" in page
    assert "+4.00%" in page
    assert "-1.00%" in page
    listed = admin_client.get(reverse("admin:signals_signal_changelist")).content.decode()
    assert "+4.00%, the take-profit was touched" in listed
    for address in (reverse("admin:signals_barrun_changelist"), page_of(BarRun.objects.get())):
        run = admin_client.get(address).content.decode()
        assert "mean_reversion: ValueError: no" in run
        assert "vix_correlation (every coin: VIXCLS is 9 days old)" in run
        assert "mean_reversion 0.250 s" in run


def test_a_certificate_is_told_in_words(admin_client, config):
    present = code_hash(build_strategy("mean_reversion"))
    failed = {"code_hash": present, "failed_check": "depends on later bars", "failing_output": "x"}
    page = reverse("admin:signals_strategyconfig_changelist")
    for fields, words in (
        ({}, "certified"),
        ({"certificate_hash": "of older code"}, "being certified"),
        (
            {"certificate_hash": "", "certificate_detail": failed},
            "failed: depends on later bars (x)",
        ),
    ):
        StrategyConfig.objects.update(**fields)
        assert words in admin_client.get(page).content.decode()


def test_new_parameters_wait_for_their_certificate(admin_client, config):
    page = page_of(config)
    typed = settings_in(admin_client.get(page)) | {"parameter_hold_bars": "12"}
    answer = admin_client.post(page, typed, follow=True).content.decode()
    assert "parameters (hold_bars 12) asked for by root wait for their certificate" in answer
    config.refresh_from_db()
    assert config.parameters == {}
    failed = {"failed_check": "raised", "failing_output": "ValueError"}
    StrategyConfig.objects.update(pending={**config.pending, "certificate": failed})
    assert (
        "failed their certificate: raised (ValueError)" in admin_client.get(page).content.decode()
    )
