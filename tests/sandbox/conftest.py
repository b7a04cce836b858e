"""Real worlds for the tests: each is a `python -m sandbox` of its own on a free port."""

import http.client
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class RunningWorld:
    """A started world and its port."""

    process: subprocess.Popen[str]
    port: int

    def call(self, path: str, method: str = "GET", body: object = None) -> tuple[int, Any, Any]:
        """Status, decoded JSON (text where it is none) and headers of one call."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        payload = json.dumps(body) if body is not None else None
        connection.request(method, path, payload)
        response = connection.getresponse()
        raw, headers = response.read(), response.headers
        connection.close()
        try:
            return response.status, json.loads(raw), headers
        except ValueError:
            return response.status, raw.decode(), headers

    def get(self, path: str) -> Any:
        """The JSON of a call that must succeed."""
        status, value, _ = self.call(path)
        assert status == 200, (path, value)
        return value

    def faults(self, wanted: object) -> None:
        """Change the world's faults."""
        assert self.call("/control/faults", "POST", wanted)[0] == 200


def start_world(*arguments: str) -> RunningWorld:
    """Start a world and wait for its line."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sandbox", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("sandbox ready on http://127.0.0.1:"), line
    return RunningWorld(process, int(line.split()[3].rpartition(":")[2]))


@pytest.fixture(scope="session")
def start() -> Iterator[Callable[..., RunningWorld]]:
    """Starts worlds with the given arguments; those still running at the end are stopped."""
    worlds: list[RunningWorld] = []

    def start_one(*arguments: str) -> RunningWorld:
        worlds.append(start_world(*arguments))
        return worlds[-1]

    yield start_one
    for world in worlds:
        world.process.terminate()
        world.process.wait(10)
        if world.process.stdout:
            world.process.stdout.close()


@pytest.fixture(scope="session")
def calm_world(start: Callable[..., RunningWorld]) -> RunningWorld:
    """A seeded world at the speed of the wall clock."""
    return start("--seed", "5", "--start", "2024-06-05T12:30:00")


@pytest.fixture(scope="session")
def fast_world(start: Callable[..., RunningWorld]) -> RunningWorld:
    """A seeded world in which an hour passes in a second."""
    return start("--seed", "5", "--start", "2024-06-05T12:30:00", "--speed", "3600")


@pytest.fixture
def faults(calm_world: RunningWorld) -> Iterator[Callable[[object], None]]:
    """Changes the faults of the calm world, and clears them at the end."""
    yield calm_world.faults
    calm_world.faults({"clear": True})
