"""Run as a program: kill the process groups named on stdin once the supervisor is gone.

    python -I -S reaper.py

The kernel kills the supervisor's children with it (see `leash`), but not their children. The
supervisor writes `+GROUP` and `-GROUP` lines here; the end of the pipe means that it is dead,
however it died. Standard library only.
"""

import os
import signal
import sys


def main() -> None:
    """Keep the list until the pipe ends, then kill every group that is still on it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        change = groups.add if line[0] == "+" else groups.discard
        change(int(line[1:]))
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    main()
