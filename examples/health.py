"""What an installation says of itself, over HTTP: its health, and what each provider costs.

.venv/bin/python -m examples.health http://127.0.0.1:8000 USER PASSWORD
"""

import sys
from typing import Any

import requests

TIMEOUT_S = 10


def main(address: str, user: str, password: str) -> bool:
    """Print the components and today's calls; true when all is well."""
    login = {"username": user, "password": password}
    token = ask("POST", f"{address}/api/v1/token/", json=login)["access"]
    headers = {"Authorization": f"Bearer {token}"}
    health = ask("GET", f"{address}/health/", headers=headers)
    print(f"status: {health['status']}")
    for name, component in health["components"].items():
        print(f"  {name:16} {component.get('status') or component.get('overall_status')}")
    for entry in ask("GET", f"{address}/api/v1/coverage/", headers=headers)["results"]:
        if entry["consecutive_failures"] or entry["holes"]:
            print(f"  {entry['instrument']} {entry['timeframe']}: {len(entry['holes'])} holes")
    return bool(health["healthy"])


def ask(method: str, url: str, **options: Any) -> Any:
    """The JSON of an answer; an unhealthy installation answers 503, with the reasons."""
    answer = requests.request(method, url, timeout=TIMEOUT_S, **options)
    if answer.status_code != 503:
        answer.raise_for_status()
    return answer.json()


if __name__ == "__main__":
    sys.exit(0 if main(*sys.argv[1:4]) else 1)
