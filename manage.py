#!/usr/bin/env python3
"""Django's command line for this project."""

import os
import sys


def main() -> None:
    """Run a management command; a wrong setting or a database without its tables ends in one line
    and exit code 2, Ctrl-C in 130."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mts_project.settings")
    from django.core.management import execute_from_command_line
    from django.db import OperationalError, ProgrammingError

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
    except (OperationalError, ProgrammingError) as error:
        if "--traceback" in sys.argv or not is_about_tables(error):
            raise
        print(
            "the database's tables are missing or old: run manage.py migrate and manage.py seed",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def is_about_tables(error: Exception) -> bool:
    """Whether a table or column that the code knows is not in the database."""
    code = getattr(error.__cause__, "sqlstate", None)
    return code in {"42P01", "42703"} or str(error).startswith(("no such table", "no such column"))


if __name__ == "__main__":
    main()
