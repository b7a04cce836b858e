"""The container files: valid by the compose specification, and true to the rest of the project."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import get_commands
from dotenv import dotenv_values

from mts_project.environment import load_environment
from mts_project.processes import QUEUES, SERVICES, parse_only

PROJECT = Path(__file__).resolve().parent.parent
TEXT = (PROJECT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICE_ITEMS = sorted(COMPOSE["services"].items())
OURS = [(name, service) for name, service in SERVICE_ITEMS if "build" in service]
EXAMPLE = dotenv_values(PROJECT / ".env.example")
DOCKERFILE = (PROJECT / "Dockerfile").read_text()
COPIED = [
    source.rstrip("/")
    for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE)
    for source in line.split()[:-1]
]

every_service = pytest.mark.parametrize(("name", "service"), SERVICE_ITEMS)
each_of_ours = pytest.mark.parametrize(("name", "service"), OURS)


def check_by_specification(text: str) -> None:
    """Raise ValueError where the text is no compose file, or refers to what it does not define."""
    # Here, because every process of a run reads this file, and the import takes a second.
    from compose_spec import PyOptions

    compose = PyOptions(apply_merge=True).from_yaml(text)
    compose.validate()
    compose.to_spec()


def test_the_file_follows_the_compose_specification() -> None:
    check_by_specification(TEXT)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("restart: unless-stopped", "restart: sometimes"),
        ("stop_grace_period: 15s", "stop_grace_periods: 15s"),
        ("- data:/data", "- unknown:/data"),
        ("test: [", "tests: ["),
    ],
)
def test_the_check_finds_mistakes(right: str, wrong: str) -> None:
    assert right in TEXT
    with pytest.raises(ValueError):
        check_by_specification(TEXT.replace(right, wrong, 1))


@every_service
def test_a_service_waits_for_services_that_say_when_they_are_ready(
    name: str, service: dict[str, Any]
) -> None:
    for other, rule in service.get("depends_on", {}).items():
        awaited = COMPOSE["services"][other]
        if rule["condition"] == "service_healthy":
            assert "healthcheck" in awaited
        else:
            assert rule["condition"] == "service_completed_successfully"
            assert awaited["restart"] == "no"


@every_service
def test_ports_are_published_on_loopback_only(name: str, service: dict[str, Any]) -> None:
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")


def test_named_volumes_are_used() -> None:
    used = {
        volume.split(":")[0]
        for _, service in SERVICE_ITEMS
        for volume in service.get("volumes", [])
    }
    assert used == set(COMPOSE["volumes"])


@each_of_ours
def test_folders_are_mounted_where_the_image_has_made_them_for_its_user(
    name: str, service: dict[str, Any]
) -> None:
    [line] = re.findall(r"install --directory --owner=mts (.+)$", DOCKERFILE, re.MULTILINE)
    mounted = {volume.split(":")[1] for volume in service["volumes"]}
    assert mounted == set(line.split()[2:])
    assert {
        service["environment"][each] for each in ("MTS_DATA_DIR", "MTS_STRATEGY_DIR")
    } <= mounted


def test_every_process_runs_in_exactly_one_service() -> None:
    commands = {name: service["command"] for name, service in OURS}
    assert commands.pop("migrate") == ["python", "manage.py", "migrate", "--no-input"]
    started: list[str] = []
    for command in commands.values():
        assert command[:4] == ["python", "manage.py", "up", "--only"]
        started += parse_only(command[4])
    assert sorted(started) == sorted([*SERVICES, *(f"worker:{queue}" for queue in QUEUES)])


@each_of_ours
def test_commands_exist(name: str, service: dict[str, Any]) -> None:
    assert service["command"][2] in get_commands()


@each_of_ours
def test_variables_are_documented_in_the_example(name: str, service: dict[str, Any]) -> None:
    assert set(service["environment"]) <= set(EXAMPLE)


def test_substituted_variables_are_documented_in_the_example() -> None:
    assert set(re.findall(r"\$\{([A-Z_]+)", TEXT)) <= set(EXAMPLE)


@each_of_ours
def test_the_settings_accept_the_environment_of_a_container(
    name: str, service: dict[str, Any], tmp_path: Path
) -> None:
    given = {
        key: re.sub(r"\$\{[^}]*\}", "letters", value)  # compose puts the .env's values in
        for key, value in service["environment"].items()
    }
    values = {key: value or "" for key, value in EXAMPLE.items()} | given
    environment = load_environment(base_dir=tmp_path, environ=values)
    assert environment.database_url.startswith("postgres://")
    assert environment.bind == "0.0.0.0"


def test_the_example_states_the_defaults(tmp_path: Path) -> None:
    values = {key: value or "" for key, value in EXAMPLE.items()}
    stated = load_environment(base_dir=tmp_path, environ=values)
    assert stated == load_environment(base_dir=tmp_path, environ={})


def test_the_example_lists_every_variable_that_is_read() -> None:
    source = (PROJECT / "mts_project" / "environment.py").read_text()
    assert set(re.findall(r'"([A-Z]+(?:_[A-Z]+)+)"', source)) <= set(EXAMPLE)


def test_the_image_copies_what_exists_and_may_be_sent() -> None:
    sent = {
        line[1:].rstrip("/")
        for line in (PROJECT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    assert [source for source in COPIED if not (PROJECT / source).exists()] == []
    assert set(COPIED) == sent


def test_the_image_holds_every_package_and_no_root() -> None:
    packages = {
        folder.name
        for folder in PROJECT.iterdir()
        if (folder / "__init__.py").exists() and folder.name not in {"benchmarks", "examples"}
    }
    assert packages <= set(COPIED)
    assert "--require-hashes" in DOCKERFILE
    assert DOCKERFILE.rindex("USER mts") > DOCKERFILE.rindex("RUN ")
