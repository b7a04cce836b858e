"""Run as a program: become COMMAND, and be killed by the kernel when the supervisor dies.

    python -I -S leash.py SUPERVISOR_PID COMMAND [ARGUMENT ...]

The death signal (Linux only) survives exec but not fork, so it is set here, after the fork of
the supervisor and before the program starts. Standard library only: it runs before everything.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Set the death signal, then exec; exit 127 when the command cannot be executed."""
    supervisor, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != supervisor:
        # It died before the signal was set, and would never be noticed any more.
        raise SystemExit(1)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"{command[0]} cannot be executed: {error}", file=sys.stderr)
        raise SystemExit(127) from None


if __name__ == "__main__":
    main()
