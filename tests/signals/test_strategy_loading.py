"""Files in MTS_STRATEGY_DIR: found, certified, reloaded, refused, and run beside ours."""

import dataclasses
import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection

from signals import catalog, certificate, services
from signals.codehash import code_hash
from signals.models import BarRun, Signal, StrategyChange, StrategyConfig
from signals.parameters import ParameterError
from signals.selectors import analyse_history, runnable_members
from signals.services import certification, strategy_files
from tests.signals.hostfiles import drop_file

HOUR = timedelta(hours=1)
START = datetime(2021, 5, 3, tzinfo=UTC)

pytestmark = pytest.mark.django_db


@pytest.fixture
def tried_folder(tmp_path, settings):
    """MTS_STRATEGY_DIR; a file named drop is wanted."""
    made = tmp_path / "strategies"
    made.mkdir(mode=0o700)
    settings.ENV = dataclasses.replace(
        settings.ENV, strategy_dir=made, enabled_strategies=("mean_reversion", "drop")
    )
    yield made
    catalog.drop_host("drop")


@pytest.fixture
def folder(tried_folder, monkeypatch):
    """The same, with certificates that are quick: of a small world, and of one state of the code,
    as every other one costs the start of a process."""
    monkeypatch.setattr(certificate, "LEAST_BARS", 90)
    monkeypatch.setattr(certificate, "STORED_CUTS", 3)
    monkeypatch.setattr(certificate, "MONTH_CUTS", 2)
    monkeypatch.setattr(certification, "maker_of", lambda strategy: lambda: strategy)
    return tried_folder


def load() -> list[str]:
    """What the two sweeps do, one after the other."""
    loaded = services.load_strategy_files(settle_s=0.0)
    services.certify_due_strategies()
    return loaded


def row(name: str = "drop") -> StrategyConfig:
    return StrategyConfig.objects.get(name=name)


def said(name: str = "drop") -> list[tuple]:
    """What a strategy said of bitcoin, from the first on."""
    found = Signal.objects.filter(strategy=name, instrument__coin_id="bitcoin")
    return list(found.order_by("bar_open_time").values_list("bar_open_time", "direction"))


# -- Loading ---------------------------------------------------------------------------------------


def test_a_file_is_certified_and_the_wanted_one_enabled(folder):
    drop_file(folder)
    drop_file(folder, "other", lookback="3")
    assert load() == ["drop", "other"]
    assert (row().is_enabled, row().load_error, row().origin) == (True, "", "file")
    assert row().declaration["lookback"] == 5
    assert services.has_certificate(row())
    assert (row("other").is_enabled, services.has_certificate(row("other"))) == (False, True)
    assert load() == []
    members, refused = runnable_members(timeframe="1h")
    assert (set(members), refused) == ({"drop"}, {})
    assert members["drop"].strategy.lookback == 5


def test_the_certificate_is_the_one_of_ours(tried_folder):
    drop_file(tried_folder)
    load()
    assert row().is_enabled
    assert row().certificate_detail["prefixes"] >= certificate.LEAST_BARS


REFUSED = {
    "does not import": ({"before": "import no_such_thing"}, "ModuleNotFoundError"),
    "looks ahead": (
        {"analyze": "market.__dict__['close'] = np.roll(market.close, -1, axis=0)", "level": "40"},
        "depends on later bars 20",
    ),
    "remembers": (
        {"before": "calls = []", "analyze": "calls.append(1)", "sign": "(len(calls) % 7 > 0)"},
        "not deterministic|remembers earlier calls",
    ),
    "raises": ({"analyze": "1 / 0"}, "ZeroDivisionError"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_file_that_fails_is_shown_with_its_error_and_not_enabled(folder, what):
    parts, message = REFUSED[what]
    drop_file(folder, **parts)
    assert load() == ["drop"]
    assert not row().is_enabled
    assert not services.has_certificate(row())
    with pytest.raises(services.StrategyNotCertified, match=message):
        services.configure_strategy(name="drop", is_enabled=True)
    assert load() == []  # it is not tried again and again


def test_a_repaired_file_is_certified(folder):
    drop_file(folder, before="1 / 0")
    load()
    drop_file(folder)
    assert load() == ["drop"]
    assert (row().load_error, row().is_enabled) == (
        "",
        True,
    )


def test_no_lease_is_taken_of_a_file_that_is_loaded_already(folder, monkeypatch):
    drop_file(folder)
    assert services.load_strategy_files(settle_s=0.0) == ["drop"]
    monkeypatch.setattr(strategy_files, "while_leased", None)
    assert services.load_strategy_files(settle_s=0.0) == []


def test_a_file_that_was_switched_off_stays_so_when_it_changes(folder):
    drop_file(folder)
    load()
    services.configure_strategy(name="drop", is_enabled=False)
    drop_file(folder, level=1.0)
    assert load() == ["drop"]
    assert (row().load_error, row().is_enabled) == ("", False)
    assert services.has_certificate(row())


def test_a_file_that_others_can_write_is_shown_and_not_run(folder):
    drop_file(folder).chmod(0o666)
    load()
    assert "can be written by others" in row().load_error
    assert not row().is_enabled
    (folder / "drop.py").chmod(0o600)
    load()
    assert row().load_error == ""
    folder.chmod(0o777)
    load()
    assert "MTS_STRATEGY_DIR" in row().load_error
    assert not row().is_enabled


def test_a_name_of_ours_is_passed_over_and_said(folder):
    StrategyConfig.objects.create(name="mean_reversion", is_enabled=True)
    for name in ("mean_reversion", "consensus", "Bad-Name", "no name"):
        (folder / f"{name}.py").write_text("x = 1")
    services.load_strategy_files(settle_s=0.0)
    assert "the name is taken" in row("mean_reversion").load_error
    assert row("mean_reversion").is_enabled
    assert "a name of a to z" in row("Bad-Name").load_error
    assert not StrategyConfig.objects.filter(name__in=["consensus", "no name"]).exists()
    (folder / "mean_reversion.py").unlink()
    services.load_strategy_files(settle_s=0.0)
    assert row("mean_reversion").load_error == ""


def test_a_file_that_is_gone_is_disabled(folder, settings):
    path = drop_file(folder)
    load()
    path.unlink()
    assert services.load_strategy_files(settle_s=60.0) == []  # an editor may be replacing it
    assert row().is_enabled
    assert load() == ["drop"]
    assert (row().is_enabled, row().load_error) == (False, "drop.py is gone")
    settings.ENV = dataclasses.replace(settings.ENV, strategy_dir=None)
    load()
    assert row().load_error == "MTS_STRATEGY_DIR is not set"


def test_parameters_are_held_to_what_the_file_declares(folder):
    drop_file(folder)
    load()
    with pytest.raises(ParameterError, match="level"):
        services.configure_strategy(name="drop", parameters={"level": -1})
    services.configure_strategy(name="drop", parameters={"level": 7})
    load()
    assert services.has_certificate(row())
    [member] = runnable_members(timeframe="1h")[0].values()
    assert member.strategy.get_parameters() == {"level": 7.0}
    changes = [each for change in StrategyChange.objects.all() for each in change.changes]
    assert {"file", "parameters", "is_enabled", "certificate"} <= set(changes)


def test_stored_parameters_that_a_changed_file_does_not_know(folder):
    path = drop_file(folder)
    load()
    services.configure_strategy(name="drop", parameters={"level": 7})
    load()
    path.write_text(path.read_text().replace("level", "height"))
    load()
    assert row().load_error == "the stored parameters do not fit: level: unknown; known: height"
    assert not row().is_enabled
    services.configure_strategy(name="drop", parameters={})
    load()
    load()
    assert (row().load_error, row().is_enabled) == ("", True)
    assert row().declaration["lookback_of"] == {}


def test_parameters_wait_while_a_changed_file_is_loaded(folder):
    drop_file(folder)
    load()
    services.configure_strategy(name="drop", parameters={"level": 7}, by="ada")
    drop_file(folder, lookback="6")
    services.certify_due_strategies()
    assert row().pending == {"parameters": {"level": 7}, "by": "ada"}
    load()
    assert (row().parameters, row().pending) == ({"level": 7}, {})
    assert row().is_enabled


def test_a_lookback_that_fails_ends_no_run_of_the_others(folder):
    """The file has to be asked for it when the parameters are not those it was loaded with."""
    drop_file(folder, lookback="5 if self.level < 50 else 1 / 0")
    load()
    config = row()
    config.parameters = {"level": 60}
    config.certificate_hash = code_hash(catalog.strategy_of(config))
    config.save()
    members, refused = runnable_members(timeframe="1h")
    assert (members, list(refused)) == ({}, ["drop"])
    assert "ZeroDivisionError" in refused["drop"]


def test_a_file_that_compares_is_shown_all_instruments(seeded, folder, clock_at):
    clock_at(START + HOUR)
    drop_file(folder, compares="True", analyze="market.column('bitcoin')")
    load()
    assert row().is_enabled
    run = analyse_history(
        strategy_name="drop",
        coin_ids=["ethereum"],
        timeframe="1h",
        start=START,
        end=START + HOUR,
    )
    assert run.market.instruments == ("ethereum",)
    assert run.analysis.direction.shape == (1, 1)


@pytest.mark.django_db(transaction=True)
def test_two_workers_load_a_file_once(folder):
    drop_file(folder)
    loaded = []

    def look():
        try:
            loaded.extend(load())
        finally:
            connection.close()

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loaded == ["drop"]
    assert row().is_enabled


# -- Running ---------------------------------------------------------------------------------------


def run_until(clock_at, hours: float) -> list[BarRun]:
    clock_at(START + hours * HOUR)
    return services.run_due_bars(timeframe="1h")


def test_an_edited_file_takes_effect_at_the_next_bar(seeded, folder, clock_at, redis_client):
    drop_file(folder, sign="0")
    load()
    run_until(clock_at, 1)
    assert said() == []
    drop_file(folder, sign="1")
    [run] = run_until(clock_at, 2)  # the scan has not seen it yet
    assert (said(), run.failures) == ([], {"drop": catalog.RELOADING})
    assert load() == ["drop"]
    [run] = run_until(clock_at, 3)
    assert (said(), run.failures) == ([(START + 2 * HOUR, 1)], {})
    drop_file(folder, sign="-1")
    load()
    run_until(clock_at, 4)
    assert said()[-1] == (START + 3 * HOUR, -1)
    history = analyse_history(
        strategy_name="drop", coin_ids=["bitcoin"], timeframe="1h", start=START, end=START + HOUR
    )
    assert history.analysis.direction.tolist() == [[-1]]


def test_the_last_word_stands_while_a_file_is_loaded_and_falls_with_it(
    seeded, folder, clock_at, redis_client
):
    StrategyConfig.objects.update(is_enabled=False, is_wanted=False)
    drop_file(folder, sign="0")
    load()
    run_until(clock_at, 1)
    drop_file(folder)
    load()
    run_until(clock_at, 2)
    assert said()[-1] == said("consensus")[-1] == (START + HOUR, 1)
    drop_file(folder, before="1 / 0")
    run_until(clock_at, 3)
    assert said()[-1] == said("consensus")[-1] == (START + HOUR, 1)
    load()
    run_until(clock_at, 4)
    assert said()[-1] == said("consensus")[-1] == (START + 3 * HOUR, 0)
    reason = Signal.objects.filter(strategy="drop").order_by("-bar_open_time")[0].reasons
    assert reason == {"withdrawn": "not enabled"}


def test_a_file_that_never_returns_leaves_the_others_running(
    seeded, folder, clock_at, redis_client, monkeypatch
):
    monkeypatch.setattr(catalog, "RUN_LIMITS", dataclasses.replace(catalog.RUN_LIMITS, call_s=0.5))
    trap = folder / "trap"
    drop_file(folder, analyze=f"if os.path.exists({str(trap)!r}):\n    time.sleep(60)")
    load()
    assert row().is_enabled
    trap.touch()
    runs = run_until(clock_at, 20)
    assert len(runs) == 21
    assert {run.failures["drop"] for run in runs} == {
        "StrategyTimeout: drop: no answer within 0.5 s"
    }
    assert said("mean_reversion")
    assert said("consensus")


def test_a_file_of_another_timeframe(folder):
    drop_file(folder, timeframe="4h")
    load()
    assert catalog.timeframes() == {"1h", "4h"}
    assert runnable_members(timeframe="1h") == ({}, {})
    assert set(runnable_members(timeframe="4h")[0]) == {"drop"}


# -- The doors -------------------------------------------------------------------------------------


def test_the_api_shows_files_and_what_is_wrong_with_them(seeded, folder, clock_at, api_client):
    user = User.objects.create_user("operator")
    user.groups.add(Group.objects.get_or_create(name="operator")[0])
    api_client.force_authenticate(user)
    drop_file(folder)
    drop_file(folder, "broken", before="1 / 0")
    load()
    clock_at(START + HOUR)
    shown = {item["name"]: item for item in api_client.get("/api/v1/strategies/").json()}
    assert shown["drop"]["parameter_rules"]["level"]["high"] == 1e9
    assert (shown["drop"]["is_certified"], shown["drop"]["timeframe"]) == (True, "1h")
    assert shown["broken"]["load_error"] == "broken: ZeroDivisionError: division by zero (line 12)"
    assert (shown["broken"]["is_certified"], shown["broken"]["parameter_rules"]) == (False, {})

    def generate(name):
        return api_client.post(
            "/api/v1/signals/generate/", {"strategy_name": name, "symbols": ["BTC"]}, format="json"
        )

    assert generate("drop").json()["signals"][0]["signal_type"] == "LONG"
    assert generate("broken").status_code == generate("nobody").status_code == 400
    gone = api_client.get("/api/v1/strategies/broken/analysis/?instrument=bitcoin").json()
    assert gone["error"]["message"] == shown["broken"]["load_error"]
    assert "ZeroDivisionError" in generate("broken").content.decode()
    answer = api_client.patch("/api/v1/strategies/drop/", {"is_enabled": False}, format="json")
    assert (answer.status_code, row().is_enabled) == (200, False)
