#!/usr/bin/env python3
"""Django's command line for this project."""

import os
import sys


def main() -> None:
    """Run a management command; a wrong setting ends in one line and exit code 2."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mts_project.settings")
    from django.core.management import execute_from_command_line

    from mts_project import launch
    from mts_project.environment import ConfigurationError

    if sys.argv[1:2] == ["up"]:
        # Its arguments decide the environment that the settings read.
        launch.prepare(sys.argv[2:])
    elif sys.argv[1:2] == ["diagnose"]:
        # It changes nothing: the settings must not make a key on its account.
        os.environ.setdefault("SECRET_KEY", "not-a-key-diagnose-signs-nothing")
    try:
        execute_from_command_line(sys.argv)
    except ConfigurationError as error:
        print(f"configuration error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
