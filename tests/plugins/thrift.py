"""Pytest plugin: what thousands of tests in one process need not do again and again.

- A password is hashed by Django's own rule, but in few rounds: its many are there to be slow.
- What importing has made stays to the end; the garbage collector need not look at it again.
- A test that commits is followed by emptied tables, whereupon Django makes its 300 rows of content
  types and permissions anew, model by model. They are put back as they were instead.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

ROUNDS = 100
# What Django's signal after a migration writes; in the order of their foreign keys.
MADE_BY_DJANGO = ("django_content_type", "auth_permission")


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Take everything that there is by now out of the garbage collector's sight."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _quick_password_hashes() -> Iterator[None]:
    from django.contrib.auth.hashers import PBKDF2PasswordHasher

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PBKDF2PasswordHasher, "iterations", ROUNDS)
        yield


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """The test database, which is given back what Django has made when its tables were emptied."""
    from django.core.management.commands import flush
    from django.db import connection

    def put_back(*_: Any, **__: Any) -> None:
        with connection.cursor() as cursor:
            for table in MADE_BY_DJANGO:
                cursor.execute(f"INSERT INTO {table} SELECT * FROM kept.{table}")

    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA kept")
        for table in MADE_BY_DJANGO:
            cursor.execute(f"CREATE TABLE kept.{table} AS TABLE {table}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flush, "emit_post_migrate_signal", put_back)
        yield
