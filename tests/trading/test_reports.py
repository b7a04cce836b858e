"""Reports of real rows: what they say, that no name in them can act, and where they are written."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from rest_framework.test import APIClient

from tests.factories import make_fill, make_signal, make_user
from tests.trading.conftest import HOUR, START, World
from trading.models import Account, EquityPoint, Position, Trade
from trading.performance import RoundTrip
from trading.services import create_account, write_daily_reports, write_report
from trading.track_record import account_performance, read_record

HOSTILE = "</script><img src=x onerror=alert(1)>'\"&<script>alert(2)"


@pytest.fixture(autouse=True)
def folder(settings: Any, tmp_path: Path) -> Path:
    settings.DATA_DIR = tmp_path
    return tmp_path / "reports"


@pytest.fixture
def traded(world: World, account: Account) -> Account:
    """Two days of an account: a win in bitcoin, a loss in ethereum, bitcoin held at the end."""
    for hour in range(48):
        for coin, price in (("bitcoin", 100.0 + hour), ("ethereum", 50.0 - hour / 2)):
            bar = START + hour * HOUR
            world.candle(coin, bar, (price, price + 2, price - 2, price + 1))
    close(account, "bitcoin", 2, 10, pnl="12", funding="-0.5")
    close(account, "ethereum", 3, 30, pnl="-7", slippage="0.25")
    held = world.listed("bitcoin")
    held.sector = "smart contracts"
    held.save()
    Position.objects.create(
        account=account, instrument=held, quantity_steps=1000, total_cost=Decimal(140),
        tick_size="0.1", quantity_step="0.001", entered_at=START + 40 * HOUR,
    )  # fmt: skip
    for hour in range(1, 49):
        EquityPoint.objects.create(
            account=account, at=START + hour * HOUR, equity=Decimal(10_000 + hour % 7),
            cash=Decimal(10_000), gross_exposure=Decimal(100),
        )  # fmt: skip
    world.at(START + 48 * HOUR)
    return account


def close(account: Account, coin: str, entered: int, exited: int, **fields: Any) -> Trade:
    """A closed long trade of bars of the first days."""
    amounts = {"pnl": "1", "fees": "1", "slippage": "0", "funding": "0"} | fields
    strategy = amounts.pop("strategy", "consensus")
    at = START + exited * HOUR
    fill = make_fill(signal=make_signal(bar=at, coin_id=coin), at=at)
    return Trade.objects.create(
        account=account, instrument=fill.order.instrument, strategy=strategy, direction=1,
        quantity="1.000", entry_price=100.0, exit_price=110.0, entered_at=START + entered * HOUR,
        exited_at=at, exit_reason="signal", exit_fill=fill,
        **{name: Decimal(amount) for name, amount in amounts.items()},
    )  # fmt: skip


class Elements(HTMLParser):
    """The elements of a page as a browser would see them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def sources(html: str) -> Iterator[str]:
    """The text of every script element."""
    for found in re.finditer(r"<script(?:[^>]*)>(.*?)</script>", html, re.DOTALL):
        yield found[1]


def test_the_record_is_what_the_rows_say(traded: Account) -> None:
    record = read_record(account_id=traded.pk)
    assert [trade.net for trade in record.trades] == [10.5, -8.0]
    assert isinstance(record.trades[0], RoundTrip)
    assert len(record.times) == 48
    assert record.instruments == ["bitcoin", "ethereum"]
    metrics = account_performance(account_id=traded.pk)
    assert metrics["trade_count"] == 2
    assert metrics["fees_paid"] == pytest.approx(20.00004)  # of the fills
    assert metrics["time_in_market"] == 1.0
    # Half in bitcoin, from 101 to 148, and half in ethereum, from 51 to 27.5.
    expected = (148 / 101 + 27.5 / 51) / 2 - 1
    assert metrics["benchmark_return"] == pytest.approx(expected)


def test_a_period_begins_with_what_was_there_before(traded: Account) -> None:
    since, until = START + 20 * HOUR, START + 40 * HOUR
    record = read_record(account_id=traded.pk, start=since, end=until)
    assert record.initial_capital == Decimal(10_006)
    assert [trade.instrument for trade in record.trades] == ["ethereum"]
    assert len(record.times) == 20
    assert record.costs.fill_count == 1
    # No bars of centuries are made up for an end that is far away.
    assert read_record(account_id=traded.pk, end=START.replace(year=9999)).end < START + 49 * HOUR
    with pytest.raises(ValueError, match="before it begins"):
        read_record(account_id=traded.pk, start=until, end=since)


def test_the_json_adds_up(traded: Account) -> None:
    written = write_report(account_id=traded.pk)
    content = json.loads(written.json.read_text())
    assert set(content) == {"execution_summary", "performance_metrics", "trades"}
    assert [trade["net"] for trade in content["trades"]] == ["10.50000000", "-8.00000000"]
    first = content["trades"][0]
    assert first["entered_at"] == "2021-05-13T02:00:00+00:00"
    assert (first["quantity"], first["holding_hours"]) == ("1.000", 8.0)
    metrics = content["performance_metrics"]
    assert metrics["by_instrument"]["bitcoin"]["net"] == 10.5
    assert [each["month"] for each in metrics["monthly_returns"]] == ["2021-05"]
    summary = content["execution_summary"]
    assert summary["initial_capital"] == "10000.00000000"
    assert summary["final_equity"] == "10006.00000000"
    (position,) = summary["open_positions"]
    assert (position["instrument"], position["mark_price"]) == ("bitcoin", "148.0")
    assert summary["benchmark"]["instruments"] == ["bitcoin", "ethereum"]


def test_the_page_has_every_chart(traded: Account) -> None:
    html = write_report(account_id=traded.pk).html.read_text()
    charts = re.findall(r'data-chart="([^"]+)"', html)
    assert charts == [
        "equity", "underwater", "months", "heat-instrument", "heat-sector", "costs", "traded-0",
        "traded-1",
    ]  # fmt: skip
    for source in sources(html):
        if source.startswith("{"):
            assert json.loads(source)["data"]
    for word in ("sharpe ratio", "By instrument", "Open positions", "smart contracts"):
        assert word in html
    # Nothing is fetched from anywhere.
    assert not re.search(r"(?:src|href)=", re.sub(r"<script.*?</script>", "", html, flags=re.S))


@pytest.mark.parametrize("trades", [0, 1])
def test_an_account_with_next_to_nothing_has_a_report(
    world: World, account: Account, trades: int
) -> None:
    world.at(START + 9 * HOUR)
    for _ in range(trades):
        close(account, "bitcoin", 1, 8)
    written = write_report(account_id=account.pk)
    content = json.loads(written.json.read_text())
    assert len(content["trades"]) == trades
    assert content["performance_metrics"]["sharpe_ratio"] is None
    html = written.html.read_text()
    assert ("No closed trade" in html) is (trades == 0)
    assert ("Nothing has been marked" in html) is (trades == 0)


def test_only_the_newest_trades_fill_the_page(
    world: World, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trading.reports.tables.MOST_TRADES", 2)
    world.at(START + 9 * HOUR)
    for hour in (1, 2, 3):
        close(account, "bitcoin", 0, hour, pnl=str(hour * 1000))
    written = write_report(account_id=account.pk)
    html = written.html.read_text()
    assert "The newest 2 of 3" in html
    table = html[html.index("The newest 2 of 3") :]
    assert re.findall(r">([0-9],?[0-9]*99\.00)<", table) == ["2,999.00", "1,999.00"]
    assert len(json.loads(written.json.read_text())["trades"]) == 3


def test_no_name_can_act(traded: Account) -> None:
    close(traded, "bitcoin", 4, 20, strategy=HOSTILE)
    Account.objects.filter(pk=traded.pk).update(name=HOSTILE)
    instrument = Position.objects.get().instrument
    instrument.sector, instrument.coin_id = HOSTILE[:32], "<b>x</b>"
    instrument.save()
    written = write_report(account_id=traded.pk)
    html = written.html.read_text()
    assert written.html.parent.name == "reports"
    for needle in ("<img", "onerror=alert(1)>", "<b>x", "<script>alert"):
        assert needle not in html, needle
    parsed = Elements(html)
    assert {tag for tag, _ in parsed.seen}.isdisjoint({"img", "b", "a", "iframe", "object", "form"})
    executable = [attrs for tag, attrs in parsed.seen if tag == "script" and "type" not in attrs]
    assert len(executable) == 2
    # Plotly reads tags in names, so there they are escaped once more.
    (heat,) = re.findall(r'data-chart="heat-instrument">(.*?)</script>', html)
    assert "\\u0026lt;b\\u0026gt;x" in heat


def test_the_policy_names_the_two_scripts_of_the_page(
    traded: Account, api_client: APIClient
) -> None:
    api_client.force_authenticate(make_user())
    answer = api_client.get(f"/api/v1/accounts/{traded.pk}/report/?format=html")
    assert answer.status_code == 200
    assert answer["Content-Type"] == "text/html; charset=utf-8"
    assert answer["X-Content-Type-Options"] == "nosniff"
    html = answer.content.decode()
    policy = answer["Content-Security-Policy"]
    directives = dict(part.strip().partition(" ")[::2] for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["sandbox"] == "allow-scripts"
    assert directives["frame-ancestors"] == "'none'"
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"
        for source in sources(html)
        if not source.startswith("{")
    ]
    assert directives["script-src"].split() == hashes
    assert len(hashes) == 2
    # A file has no header, so the page itself says it, but for what only a header can.
    (within,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', html)
    assert policy.startswith(within.replace("&#x27;", "'"))


def test_over_http_it_is_json_unless_a_page_is_asked_for(
    traded: Account, api_client: APIClient
) -> None:
    address = f"/api/v1/accounts/{traded.pk}/report/"
    assert api_client.get(address).status_code == 401
    api_client.force_authenticate(make_user())
    content = api_client.get(address).json()
    assert set(content) == {"execution_summary", "performance_metrics", "trades"}
    part = api_client.get(address, {"start": (START + 20 * HOUR).isoformat()}).json()
    assert len(part["trades"]) == 1
    for query in ({"start": "soon"}, {"start": "2021-05-14", "end": "2021-05-13"}):
        for wanted in ("json", "html"):
            refused = api_client.get(address, {**query, "format": wanted})
            assert refused.status_code == 400
            assert refused["Content-Type"].startswith("application/json")
            assert json.loads(refused.content)["error"]["code"] == "invalid"
    assert api_client.get("/api/v1/accounts/999/report/?format=html").status_code == 404


def test_the_admin_has_a_button(traded: Account, client: Client) -> None:
    client.force_login(make_user(is_staff=True, is_superuser=True))
    page = client.get(f"/admin/trading/account/{traded.pk}/change/").content.decode()
    (address,) = set(re.findall(r'href="([^"]*/report[^"]*)"', page))
    answer = client.get(address)
    assert "sandbox allow-scripts" in answer["Content-Security-Policy"]
    assert b"data-chart" in answer.content
    client.force_login(make_user("bob", is_staff=True))
    assert client.get(address).status_code == 403


def test_the_command_prints_what_it_wrote(traded: Account, folder: Path) -> None:
    out = StringIO()
    call_command("report", "--account", "paper", "--json", stdout=out)
    answer = json.loads(out.getvalue())
    assert Path(answer["files"]["html"]).parent == folder
    assert answer["performance_metrics"]["trade_count"] == 2
    out = StringIO()
    call_command("report", "--account", str(traded.pk), "--end", "2021-05-14", stdout=out)
    json_file, html_file = (Path(line) for line in out.getvalue().split()[-2:])
    assert json_file.stem == html_file.stem
    assert json_file.name.startswith(f"report_{traded.pk}_paper_20210514_000000")
    for wrong in (["--account", "nobody"], ["--account", "paper", "--start", "2099-01-01"]):
        with pytest.raises(CommandError) as error:
            call_command("report", *wrong)
        assert error.value.returncode == 2


def test_no_report_replaces_another(account: Account, folder: Path) -> None:
    names = {write_report(account_id=account.pk, stem="same").html.name for _ in range(3)}
    assert names == {"same.html", "same_2.html", "same_3.html"}
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_every_day_is_reported_once(traded: Account, world: World, folder: Path) -> None:
    world.at(START + 48 * HOUR + timedelta(minutes=15))
    idle = create_account(name="new", initial_capital=Decimal(100))  # has no whole day yet
    first = write_daily_reports()
    assert [path.name for path in first] == [
        f"daily_{traded.pk}_20210514.json", f"daily_{traded.pk}_20210514.html",
    ]  # fmt: skip
    assert write_daily_reports() == []
    ours, other = folder / "report_1_paper_20210401_000000.html", folder / "daily_notes.html"
    ours.touch(), other.touch()
    world.at(START + timedelta(days=40))
    Account.objects.filter(pk=traded.pk).update(is_active=False)
    assert len(write_daily_reports()) == 2
    left = {path.name for path in folder.iterdir()}
    assert {ours.name, other.name, f"daily_{idle.pk}_20210621.html"} <= left
    assert not {path.name for path in first} & left
