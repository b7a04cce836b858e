"""The transports: where a message goes, and what happens when it cannot."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis

from alerts import transports
from alerts.transport import Message, TransportError
from alerts.transports import TRANSPORTS, file, redis_channel

AT = datetime(2021, 5, 13, 1, 2, 3, tzinfo=UTC)


def message(identity: int = 1, *, asset: str = "bitcoin", attempt: int = 1) -> Message:
    body = {"id": identity, "asset": asset}
    return Message(kind="signal", asset=asset, at=AT, body=body, attempt=attempt)


@pytest.fixture
def folder(tmp_path, settings) -> Path:
    settings.DATA_DIR = tmp_path
    return tmp_path / "alerts"


def test_every_transport_file_is_registered():
    files = {path.stem for path in Path(transports.__file__).parent.glob("*.py")} - {"__init__"}
    assert {each.__module__.rpartition(".")[2] for each in TRANSPORTS.values()} == files


def test_a_file_is_named_by_kind_asset_and_market_time(folder):
    assert file.deliver(message()) == "signal_alert_bitcoin_20210513_010203.json"
    (written,) = folder.iterdir()
    assert json.loads(written.read_text()) == {"id": 1, "asset": "bitcoin"}


def test_a_taken_name_is_numbered_and_never_overwritten(folder):
    names = [file.deliver(message(number)) for number in (1, 2, 3)]
    stem = "signal_alert_bitcoin_20210513_010203"
    assert names == [f"{stem}.json", f"{stem}_2.json", f"{stem}_3.json"]
    assert [json.loads((folder / name).read_text())["id"] for name in names] == [1, 2, 3]


def test_a_repeated_delivery_finds_its_own_file(folder):
    file.deliver(message(1))
    second = file.deliver(message(2))
    assert file.deliver(message(2, attempt=2)) == second
    assert len(list(folder.iterdir())) == 2


def test_a_name_that_strangers_have_taken_is_numbered_whatever_they_wrote(folder):
    stem = "signal_alert_bitcoin_20210513_010203"
    folder.mkdir()
    (folder / f"{stem}.json").write_bytes(b'{"asset": "\xff')
    (folder / f"{stem}_2.json").mkdir()
    os.mkfifo(folder / f"{stem}_3.json")
    assert file.deliver(message()) == f"{stem}_4.json"


def test_an_asset_cannot_leave_the_folder(folder):
    name = file.deliver(message(asset="../../etc/passwd"))
    assert name == "signal_alert_-etc-passwd_20210513_010203.json"
    assert [path.name for path in folder.iterdir()] == [name]


def test_a_folder_that_cannot_be_made_is_worth_another_try(tmp_path, settings):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be")
    settings.DATA_DIR = blocked
    with pytest.raises(TransportError) as error:
        file.deliver(message())
    assert not error.value.permanent


def test_redis_subscribers_hear_it_and_a_repetition_is_marked(redis_client: redis.Redis):
    listener = redis_client.pubsub(ignore_subscribe_messages=True)
    listener.subscribe("alerts")
    listener.get_message(timeout=5)
    assert redis_channel.deliver(message()) == "1 listening"
    redis_channel.deliver(message(attempt=2))
    bodies = [json.loads(listener.get_message(timeout=5)["data"]) for _ in range(2)]
    listener.close()
    assert bodies == [
        {"id": 1, "asset": "bitcoin"},
        {"id": 1, "asset": "bitcoin", "is_repeat": True},
    ]
