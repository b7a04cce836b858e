"""The page of the live books, and the ways to it."""

import re
from datetime import datetime

import pytest
import redis
from django.contrib.auth.models import Permission
from django.test import Client, override_settings

from collectors.models import Instrument
from tests.collectors.livebooks import book_value, store, withheld_value
from tests.factories import make_user

ADDRESS = "/admin/collectors/booksample/live/"


@pytest.fixture
def operator(bitcoin: Instrument, market_now: datetime) -> Client:
    """Somebody who may see books and instruments, and nothing else."""
    user = make_user("operator", is_staff=True)
    seen = ["view_booksample", "view_instrument"]
    user.user_permissions.set(Permission.objects.filter(codename__in=seen))
    client = Client()
    client.force_login(user)
    return client


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_the_page_shows_how_all_books_stand(operator: Client, redis_client: redis.Redis) -> None:
    store(redis_client, book_value(), withheld_value("bybit", "ETHUSDT"))
    page = operator.get(ADDRESS).content.decode()
    text = text_of(page)
    assert "1 of 24 synchronised" in text
    assert re.search(r"binance BTCUSDT synchronised 0\.02 9\.5 12 \d+\.\d 1\.5 2 1 bybit", text)
    assert "bybit ETHUSDT withheld gap in sequence" in text
    assert "bybit BTCUSDT withheld not streamed" in text
    assert 'data-symbol="bitcoin"' in page


def test_an_instrument_is_chosen_among_those_that_are_streamed(operator: Client) -> None:
    page = operator.get(ADDRESS, {"instrument": "ethereum"}).content.decode()
    assert 'data-symbol="ethereum"' in page
    page = operator.get(ADDRESS, {"instrument": "<script>"}).content.decode()
    assert "&lt;script&gt; is not streamed" in page
    assert 'data-symbol="<script>"' not in page
    Instrument.objects.update(is_enabled=False)
    page = operator.get(ADDRESS, {"instrument": "bitcoin"}).content.decode()
    assert "No instrument is streamed" in page


def test_the_page_is_reached_from_the_menu_and_from_its_neighbours(
    operator: Client, bitcoin: Instrument
) -> None:
    menu = operator.get("/admin/collectors/instrument/").content.decode()
    assert f'href="{ADDRESS}"' in menu
    listed = operator.get("/admin/collectors/booksample/").content.decode()
    way = re.search(r'href="(/admin/collectors/booksample/[^"]*to-live[^"]*)"', listed)
    assert way is not None
    assert operator.get(way[1]).headers["Location"] == ADDRESS
    one = operator.get(f"/admin/collectors/instrument/{bitcoin.pk}/change/").content.decode()
    way = re.search(r'href="(/admin/collectors/instrument/[^"]*live-books[^"]*)"', one)
    assert way is not None
    assert operator.get(way[1]).headers["Location"] == f"{ADDRESS}?instrument=bitcoin"


def test_the_page_needs_the_permission_to_see_books(operator: Client) -> None:
    assert Client().get(ADDRESS).status_code == 302
    other = Client()
    other.force_login(make_user("other", is_staff=True))
    assert other.get(ADDRESS).status_code == 403
    assert ADDRESS not in other.get("/admin/").content.decode()


@override_settings(ALLOWED_HOSTS=["testserver"])
def test_its_files_are_served_and_it_has_no_script_of_its_own(operator: Client) -> None:
    page = operator.get(ADDRESS).content.decode()
    content = page[page.index('class="live-books') :]
    assert "onclick" not in content and "onchange" not in content
    for name in ("live.css", "live.js"):
        assert f"/static/collectors/{name}" in page
        answer = operator.get(f"/static/collectors/{name}")
        assert answer.status_code == 200
        assert b"".join(answer.streaming_content)
        answer.close()
