"""Pytest plugin: what thousands of tests in one process need not do again and again.

- A password is hashed by Django's own rule, but in few rounds: the many are there to be slow.
- What importing has made stays to the end; the garbage collector need not look at it again.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

ROUNDS = 100


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
