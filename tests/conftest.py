"""Fixtures that tests of several apps use."""

import pytest
from rest_framework.test import APIClient


@pytest.fixture
def api_client() -> APIClient:
    """A client of the HTTP API that nobody has logged in."""
    return APIClient()
