#!/usr/bin/env python3
"""Start MTS from nothing but Python 3.11: make the environment once, then hand over to it.

    python3 run.py demo [options]   the whole product on a simulated market (--help lists options)
    python3 run.py up [options]     the same processes on the real providers; --only WHAT for a part
    python3 run.py check            test configuration, keys and reachability; changes nothing
    python3 run.py test [options]   the test suite on a real PostgreSQL and Redis-protocol server

Standard library only. The packages go into `.venv` beside this file, with the versions and hashes
of the requirements*.txt files, from the package index that pip is configured for. A stamp file in
`.venv` says what is complete; it is written last, so that an interrupted installation is never
mistaken for a whole one, and a start that finds its stamp installs nothing.

The file must stay readable for older Pythons, which then say what they lack.
"""

import ast
import contextlib
import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

PROJECT = os.path.dirname(os.path.abspath(__file__))
ENVIRONMENT = os.path.join(PROJECT, ".venv")
PYTHON = os.path.join(ENVIRONMENT, "bin", "python")
STAMP = os.path.join(ENVIRONMENT, "mts-stamp.json")
INSTALLER_LOCK = "requirements-uv.txt"
PRODUCT_LOCK = "requirements.txt"
TEST_LOCK = "requirements-test.txt"
MANAGE = os.path.join(PROJECT, "manage.py")
# Many tests wait for clocks and for programs to start, so there is one process more than cores;
# each has a PostgreSQL server of its own, so there are not any number of them.
TEST_PROCESSES = min((os.cpu_count() or 1) + 1, 8)
COMMANDS = {
    "demo": [MANAGE, "up", "--demo"],
    "up": [MANAGE, "up"],
    "check": [MANAGE, "diagnose"],
    "test": ["-m", "slipcover", "-m", "pytest", f"-n{TEST_PROCESSES}", "--dist=worksteal"],
}
# uv does not read pip's configuration, so it is told what pip would use, unless it has its own.
UV_NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "proxy": "ALL_PROXY",
    "cert": "SSL_CERT_FILE",
}
UV_CONFIGURED = {"UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_CONFIG_FILE"}
COMPLAINT = re.compile(r"error|warning|failed|caused by", re.IGNORECASE)
NETWORK_TROUBLE = re.compile(
    r"connect|resolution|resolve host|dns|timed out|unreachable|proxy|certificate|sending request",
    re.IGNORECASE,
)


class SetupError(Exception):
    """The environment cannot be made; the text is one line that says what to do about it."""


class InstallerError(Exception):
    """A program that was to make or fill the environment failed; the text is its output."""


def main(arguments: "list[str]") -> int:
    """Run one command. Returns an exit code only when it does not become another program."""
    complaint = unsupported(sys.version_info[:3], sys.platform)
    if complaint:
        return fail(complaint)
    if not arguments or arguments[0] in ("-h", "--help"):
        print((__doc__ or "").split("\n\nStandard library")[0])
        return 0
    command, rest = arguments[0], arguments[1:]
    if command not in COMMANDS:
        return fail(f"no command {command!r}: use one of {', '.join(COMMANDS)}")
    # A terminated setup tidies up like an interrupted one.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with only_setup():
            prepare(TEST_LOCK if command == "test" else PRODUCT_LOCK)
    except SetupError as error:
        return fail(str(error))
    except OSError as error:
        return fail(f"cannot prepare {ENVIRONMENT}: {error.strerror} ({error.filename})")
    except KeyboardInterrupt:
        return fail("interrupted while preparing .venv", status=130)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if command == "test":
        os.chdir(PROJECT)
    sys.stdout.flush()
    # The program takes our place: signals, exit code and terminal are its own.
    os.execv(PYTHON, [PYTHON] + COMMANDS[command] + rest)


def unsupported(version: "tuple[int, ...]", platform: str) -> "str | None":
    """Why a Python of this version and platform cannot run MTS, in one line; None when it can."""
    if platform == "win32":
        return "MTS runs on Linux and macOS: on Windows use WSL or the Docker image"
    if tuple(version[:2]) != (3, 11):
        found = ".".join(str(part) for part in version[:3])
        return f"MTS needs Python 3.11, and this is {found}: start it with python3.11 run.py"
    return None


def prepare(lock: str) -> None:
    """Make `.venv` hold what the file `lock` lists, or leave it alone when it already does.

    Raises SetupError when that fails; then an environment begun here is gone again.
    """
    wanted = {lock: digest(lock)}
    if lock == TEST_LOCK:
        wanted[PRODUCT_LOCK] = digest(PRODUCT_LOCK)  # the test lock holds all of its pins
    complete = read_stamp()
    if wanted.items() <= complete.items():
        return
    started = time.monotonic()
    claim_folder()
    say("preparing .venv; the first time takes a minute or two ...")
    try:
        if complete:
            os.unlink(STAMP)
        else:
            make_environment()
        install(lock)
        compile_project()
        write_stamp(wanted)
    except InstallerError as error:
        discard(unless=complete)
        raise SetupError(diagnosis([str(error)])) from None
    except BaseException:
        discard(unless=complete)
        raise
    say(f".venv is ready after {time.monotonic() - started:.0f} s")


def make_environment() -> None:
    """Make an empty environment by whatever this machine has for it."""
    if importlib.util.find_spec("venv"):
        run([sys.executable, "-m", "venv", "--clear", "--without-pip", ENVIRONMENT])
    elif importlib.util.find_spec("virtualenv"):
        run([sys.executable, "-m", "virtualenv", "--clear", ENVIRONMENT])
    elif shutil.which("uv"):
        run(["uv", "venv", "--clear", "--python", sys.executable, ENVIRONMENT])
    else:
        raise SetupError("this Python lacks its venv module: install python3-venv, or uv")


def install(lock: str) -> None:
    """Install what `lock` lists: with uv when there is one or pip can fetch it, else with pip."""
    path = os.path.join(PROJECT, lock)
    failures: list[str] = []
    uv = shutil.which("uv") or shutil.which(os.path.join(ENVIRONMENT, "bin", "uv"))
    pip = None if uv else find_pip()
    if pip and not uv:
        uv = fetch_uv(pip, failures)
    if uv:
        command = [uv, "pip", "install", "--python", PYTHON, "--require-hashes"]
        try:
            # Compiled now, or every process of the first start would do it at the same time.
            run([*command, "--compile-bytecode", "-r", path], {**uv_settings(pip), **os.environ})
            return
        except InstallerError as error:
            failures.append(str(error))
            pip = pip or find_pip()
    if pip:
        try:
            run([*pip, "install", "--require-hashes", "--retries", "1", "-r", path])
            return
        except InstallerError as error:
            failures.append(str(error))
    if not failures:
        raise SetupError("there is no pip for this Python: install python3-venv, or uv")
    raise SetupError(diagnosis(failures))


def compile_project() -> None:
    """Compile our own modules, too; where that cannot be written, it is done at every start."""
    packages = [
        entry.path
        for entry in os.scandir(PROJECT)
        if os.path.isfile(os.path.join(entry.path, "__init__.py"))
    ]
    with contextlib.suppress(InstallerError):
        run([PYTHON, "-m", "compileall", "-q", *sorted(packages)])


def find_pip() -> "list[str] | None":
    """The command of a pip that installs into `.venv`; Debian's Python lacks the usual one."""
    inside = [PYTHON, "-m", "pip"]
    with contextlib.suppress(InstallerError):
        run([*inside, "--version"])
        return inside
    if importlib.util.find_spec("ensurepip"):
        with contextlib.suppress(InstallerError):
            run([PYTHON, "-m", "ensurepip"])
            return inside
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip", "--python", PYTHON]
    if importlib.util.find_spec("virtualenv"):
        run([sys.executable, "-m", "virtualenv", ENVIRONMENT])
        return inside
    return None


def fetch_uv(pip: "list[str]", failures: "list[str]") -> "str | None":
    """Install the locked uv into `.venv` and return its path; None, and why, when that fails."""
    path = os.path.join(PROJECT, INSTALLER_LOCK)
    try:
        run([*pip, "install", "--require-hashes", "--retries", "1", "-r", path])
    except InstallerError as error:
        failures.append(str(error))
        return None
    return os.path.join(ENVIRONMENT, "bin", "uv")


def uv_settings(pip: "list[str] | None") -> "dict[str, str]":
    """Environment variables that make uv use the indexes which pip is configured for."""
    if pip is None and importlib.util.find_spec("pip"):
        pip = [sys.executable, "-m", "pip"]
    if pip is None or UV_CONFIGURED & set(os.environ):
        return {}
    # option -> (rank of its section, value): pip's sections outrank one another
    found: dict[str, tuple[int, str]] = {}
    for line in run([*pip, "config", "list"]).splitlines():
        match = re.match(r"(global|install|:env:)\.([a-z-]+)=('.*')$", line)
        if match and match.group(2) in UV_NAMES:
            rank = ("global", "install", ":env:").index(match.group(1))
            value = " ".join(ast.literal_eval(match.group(3)).split())
            found[match.group(2)] = max(found.get(match.group(2), (-1, "")), (rank, value))
    settings = {UV_NAMES[option]: value for option, (_, value) in found.items()}
    if "UV_FIND_LINKS" in settings:
        settings["UV_FIND_LINKS"] = settings["UV_FIND_LINKS"].replace(" ", ",")
    if "UV_INDEX" in settings:
        # As pip does: every index counts the same, and the hashes decide what is right.
        settings["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return settings


def diagnosis(failures: "list[str]") -> str:
    """One line for what the installers said, the last one first."""
    complaints = [line.strip() for text in failures for line in text.splitlines()]
    complaints = [line for line in complaints if COMPLAINT.search(line)]
    if any(NETWORK_TROUBLE.search(line) for line in complaints):
        return "the package index cannot be reached: check the network, or pip's configuration"
    return "the packages cannot be installed: " + (complaints or ["no reason was given"])[-1]


def run(command: "list[str]", environment: "dict[str, str] | None" = None) -> str:
    """Run a program in silence and return its output, which is the InstallerError when it fails."""
    quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "UV_NO_PROGRESS": "1"}
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**(environment or os.environ), **quiet},
        # An own session, to end it with all its children; and it shares the lock of only_setup,
        # so that the next start waits for what a `kill -9` of this one has left running.
        start_new_session=True,
        close_fds=False,
    )
    try:
        output = child.communicate()[0].decode(errors="replace")
    except BaseException:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        raise
    if child.returncode != 0:
        raise InstallerError(output)
    return output


def claim_folder() -> None:
    """Make sure that `.venv` may be written and is not something else of the person's."""
    if os.path.islink(ENVIRONMENT):
        # To make it complete would empty a folder elsewhere, on which others may rely.
        place = os.path.realpath(ENVIRONMENT)
        raise SetupError(
            f"{ENVIRONMENT} is a link to {place}, which is incomplete: remove the link"
        )
    if not os.path.lexists(ENVIRONMENT):
        os.mkdir(ENVIRONMENT)
    # What a killed setup may leave behind before it has written the marker of an environment.
    begun = {"bin", "include", "lib", "lib64", os.path.basename(STAMP) + ".new"}
    content = set(os.listdir(ENVIRONMENT)) if os.path.isdir(ENVIRONMENT) else {"a file"}
    if "pyvenv.cfg" not in content and not content <= begun:
        raise SetupError(f"{ENVIRONMENT} is no virtual environment: move it away")
    os.close(os.open(STAMP + ".new", os.O_WRONLY | os.O_CREAT, 0o644))  # fails where read-only


def discard(unless: "dict[str, str]") -> None:
    """Remove a half-made environment, unless it is an older one that was being brought up."""
    if not unless:
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)


def digest(lock: str) -> str:
    """The SHA-256 of a lock file."""
    with open(os.path.join(PROJECT, lock), "rb") as stream:
        return hashlib.sha256(stream.read()).hexdigest()


def identity() -> "dict[str, str]":
    """What an environment is bound to: it works for one Python and in one place."""
    return {"python": sys.version, "base": sys.base_prefix, "place": os.path.realpath(ENVIRONMENT)}


def read_stamp() -> "dict[str, str]":
    """The digests of the locks that `.venv` holds completely; empty when none is sure."""
    try:
        with open(STAMP, encoding="utf-8") as stream:
            stamp = json.load(stream)
        usable = stamp["identity"] == identity() and os.access(PYTHON, os.X_OK)
        return dict(stamp["locks"]) if usable else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def write_stamp(locks: "dict[str, str]") -> None:
    """Say that `.venv` is complete: the last step, and all or nothing."""
    with open(STAMP + ".new", "w", encoding="utf-8") as stream:
        json.dump({"identity": identity(), "locks": locks}, stream, indent=1)
    os.replace(STAMP + ".new", STAMP)


@contextlib.contextmanager
def only_setup() -> "Iterator[None]":
    """Hold the right to prepare `.venv`; a second start waits until the first one is done."""
    import fcntl  # absent on Windows, which has been refused by now

    with open(os.path.abspath(__file__), "rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another start that is preparing .venv ...")
            fcntl.flock(stream, fcntl.LOCK_EX)
        os.set_inheritable(stream.fileno(), True)
        yield


def say(text: str) -> None:
    """Tell the person what happens. Stderr is for the one line of a failure, unless a program
    reads what the command prints."""
    print(text, file=sys.stderr if "--json" in sys.argv else sys.stdout, flush=True)


def fail(text: str, status: int = 2) -> int:
    """Print one line and return the exit code."""
    print(f"run.py: {text}", file=sys.stderr, flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
