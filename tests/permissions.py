"""File permissions bind a program that a test starts, also where the tests run as root."""

import ctypes
import os
import sys

PR_CAPBSET_DROP = 24
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2

_libc = ctypes.CDLL(None)


def bound_by_permissions() -> None:
    """For `preexec_fn`: take from root what lets it pass over permissions."""
    if os.geteuid() == 0 and sys.platform.startswith("linux"):
        for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
