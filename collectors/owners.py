"""Which process holds a lease, and whether that process is certainly dead.

An owner is written as `host/boot/namespace/pid/start/token`. Only a process of the same boot of the
same kernel and of the same pid namespace can look whether another one still runs: two containers of
one machine may have equal pids, and equal host names too. Where the system does not tell these
things nobody is ever certain, and a lease is waited for.
"""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
LONGEST = 200
_LONGEST_HOST = 64


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A process, told from every other one by where and when it was started, and a random token.

    `boot` is the identity of the kernel's boot, `namespace` that of the pid and time namespaces
    and `start` when the process began, in ticks since the boot (proc(5)); each is empty where it
    is unknown.
    """

    host: str
    boot: str
    namespace: str
    pid: int
    start: str
    token: str

    def __str__(self) -> str:
        parts = (self.host, self.boot, self.namespace, str(self.pid), self.start, self.token)
        return "/".join(parts)

    @classmethod
    def parse(cls, text: str) -> Owner | None:
        """The owner that was written as `text`; None when it is not one."""
        parts = text.split("/")
        if len(parts) != 6 or not parts[3].isascii() or not parts[3].isdecimal():
            return None
        host, boot, namespace, pid, start, token = parts
        return cls(
            host=host, boot=boot, namespace=namespace, pid=int(pid), start=start, token=token
        )

    @classmethod
    def of_this_process(cls) -> Owner:
        """This process, with a new token."""
        pid = os.getpid()
        return cls(
            host=socket.gethostname().replace("/", "-")[:_LONGEST_HOST],
            boot=_text(PROC / "sys/kernel/random/boot_id"),
            namespace=_namespaces(),
            pid=pid,
            start=_started(pid),
            token=secrets.token_hex(4),
        )

    def is_certainly_dead(self, *, seen_by: Owner) -> bool:
        """Whether `seen_by`, which must be this process, can be sure that the owner is gone."""
        place = (self.host, self.boot, self.namespace)
        if not all(place) or place != (seen_by.host, seen_by.boot, seen_by.namespace):
            return False
        if not self.start or not seen_by.start or self.pid <= 0:
            return False
        try:
            # Answers for processes of every user, also where /proc shows only one's own.
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (PermissionError, OverflowError):
            return False
        began = _started(self.pid)
        return (bool(began) and began != self.start) or _is_zombie(self.pid)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; empty when it cannot be read."""
    # The name before it is in brackets, and may hold brackets and blanks itself.
    return _text(PROC / str(pid) / "stat").rpartition(")")[2].split()


def _started(pid: int) -> str:
    fields = _stat(pid)
    return fields[19] if len(fields) > 19 else ""


def _is_zombie(pid: int) -> bool:
    """Whether it has ended and only waits for its parent to notice; no thread of it runs."""
    fields = _stat(pid)
    return len(fields) > 17 and fields[0] in {"Z", "X"} and int(fields[17]) <= 1


def _namespaces() -> str:
    """Which pids and which times since the boot this process sees; empty when it is unknown."""
    try:
        kinds = [os.readlink(PROC / "self/ns" / kind) for kind in ("pid", "time")]
    except OSError:
        return ""
    return "+".join(kind.strip("pidtme:[]") for kind in kinds)


def _text(path: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text().strip()
    return ""
