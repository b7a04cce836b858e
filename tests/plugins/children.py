"""How the test run starts a server process that cannot outlive it."""

import ctypes
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1
TAIL_LINES = 15


class ServerError(Exception):
    """A test server did not start; the text ends with the last lines of its log."""


def unprivileged_user() -> str | None:
    """The account servers run as that refuse to run as root; None when this is no root."""
    return "nobody" if os.geteuid() == 0 else None


def give_to(path: Path, user: str | None) -> None:
    """Make `user` the owner of `path` (None: leave it)."""
    if user is not None:
        account = pwd.getpwnam(user)
        os.chown(path, account.pw_uid, account.pw_gid)


def start_child(
    command: Sequence[str | Path],
    *,
    log: Path,
    user: str | None,
    death_signal: signal.Signals,
    folder: Path = Path("/"),
    environment: Mapping[str, str] | None = None,
) -> "subprocess.Popen[bytes]":
    """Start `command` in a session of its own, output to `log`, as `user` (None: as we are), in
    `folder` and with `environment` (None: ours).

    Call it from the main thread: on Linux the kernel sends `death_signal` when that thread ends,
    so that even `kill -9` of the test run leaves nothing behind.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
            user=user,
            group=None if user is None else pwd.getpwnam(user).pw_gid,
            extra_groups=None if user is None else [],
            start_new_session=True,
            preexec_fn=_tie_to_parent(death_signal),
        )


def stop_child(child: "subprocess.Popen[bytes]", stop_signal: signal.Signals) -> None:
    """Ask the child to stop, kill it after five seconds, and collect it."""
    if child.poll() is None:
        child.send_signal(stop_signal)
        try:
            child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def log_tail(log: Path) -> str:
    """The last lines of a server's log, for an error message."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(lines[-TAIL_LINES:])


def _tie_to_parent(death_signal: signal.Signals) -> Callable[[], None] | None:
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def tie() -> None:
        # Runs after the change of user, which would have cleared the death signal.
        prctl(PR_SET_PDEATHSIG, int(death_signal))
        if os.getppid() != parent:
            os._exit(1)

    return tie
