"""Ten real processes on one budget, while Redis is lost and lost again."""

import os
from urllib.parse import urlsplit

import pytest
from django.db import connection

from benchmarks.budget import run


@pytest.mark.long(30)
@pytest.mark.timeout(400)
@pytest.mark.django_db(transaction=True)
def test_no_limit_is_broken_and_no_call_forgotten() -> None:
    database = urlsplit(os.environ["DATABASE_URL"])._replace(
        path=f"/{connection.settings_dict['NAME']}"
    )
    result = run(
        calls="tickers,markets",
        processes=10,
        seconds=14.0,
        speed=30.0,
        losses=2,
        database=database.geturl(),
    )
    assert set(result["providers"]) == {"binance", "coingecko"}
    for entry in result["providers"].values():
        assert entry["limit_violations"] == entry["answers_429"] == 0, result
        assert entry["counted"] == entry["in_table"], result
        # Limits were used up: more came than two minutes have room for.
        assert entry["counted"] > 2 * entry["room_per_minute"], result
    assert result["is_kept"]
