"""Two requests with one key at the same moment, and a process that dies between deed and answer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.db import connection, connections
from rest_framework.test import APIClient

from collectors.models import AnsweredWrite
from tests.factories import make_user
from trading.models import Account

PROJECT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.django_db(transaction=True)

OPEN = {"name": "second", "initial_capital": "500"}

# Opens an account by the product's own door, and never gets to answer: it is killed in the step
# that follows the commit.
KILLED = """
import os, signal, sys
import django
django.setup()
from django.contrib.auth import get_user_model
from rest_framework.test import APIClient
from trading.api import accounts
from collectors import once

def dies(request, work):
    once.answer_once(request, work)
    os.kill(os.getpid(), signal.SIGKILL)

accounts.answer_once = dies
client = APIClient(SERVER_NAME="127.0.0.1")
client.force_authenticate(get_user_model().objects.get(username="trader"))
client.post("/api/v1/accounts/", {"name": "second", "initial_capital": "500"}, format="json",
            headers={"Idempotency-Key": "k"})
"""


@pytest.fixture
def trader() -> Any:
    return make_user("trader", role="trader")


def database_url() -> str:
    """That of the test run's database."""
    address = urlsplit(os.environ["DATABASE_URL"])
    return address._replace(path=f"/{connection.settings_dict['NAME']}").geturl()


def post(user: Any) -> Any:
    client = APIClient()
    client.force_authenticate(user)
    return client.post("/api/v1/accounts/", OPEN, format="json", headers={"Idempotency-Key": "k"})


def test_of_two_at_once_one_works_and_both_get_its_answer(trader: Any) -> None:
    answers: list[Any] = []
    barrier = threading.Barrier(4)

    def ask() -> None:
        try:
            barrier.wait()
            answers.append(post(trader))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [answer.status_code for answer in answers] == [201] * 4
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("Idempotent-Replay" in answer.headers for answer in answers) == 3
    assert Account.objects.count() == 1


def test_what_a_killed_process_committed_is_answered_to_the_next_try(trader: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED],
        env={**os.environ, "DATABASE_URL": database_url()},
        cwd=PROJECT,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert Account.objects.count() == 1
    answer = post(trader)
    assert (answer.status_code, answer.headers["Idempotent-Replay"]) == (201, "true")
    assert answer.json()["id"] == Account.objects.get().pk
    assert AnsweredWrite.objects.count() == 1
