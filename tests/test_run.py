"""What `run.py` does before Django: it runs in a copy of the project with one tiny package."""

import ast
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from tests.permissions import bound_by_permissions

PROJECT = Path(__file__).resolve().parent.parent
NOBODY_LISTENS = "http://127.0.0.1:9/"
PREPARING = "preparing .venv"

# Stands where Django would start, and shows what it was given.
MANAGE = "import sys\nprint(sys.prefix, sys.argv[1:])\nsys.exit(7)\n"


class Copy:
    """A copy of the project's first files in `folder`, with a lock of one package."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = folder / ".venv"
        self.stamp = self.environment / "mts-stamp.json"
        folder.mkdir()
        shutil.copy(PROJECT / "run.py", folder)
        (folder / "manage.py").write_text(MANAGE)
        self.wheels = folder / "wheels"
        self.wheels.mkdir()
        self.hash = write_wheel(self.wheels)
        self.lock("1.0", self.hash)
        shutil.copy(PROJECT / "requirements-uv.txt", folder)

    def lock(self, version: str, digest: str) -> None:
        text = f"tiny=={version} --hash=sha256:{digest}\n"
        (self.folder / "requirements.txt").write_text(text)
        (self.folder / "requirements-test.txt").write_text(text)

    def start(self, *arguments: str, **environ: str) -> "subprocess.Popen[str]":
        """Start run.py with no package source but the folder of wheels, unless `environ` says."""
        keep = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PIP_", "UV_", "PYTHON", "COV_"))
        }
        source = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels)}
        return subprocess.Popen(
            [sys.executable, str(self.folder / "run.py"), *arguments],
            cwd="/",
            env={**keep, "PATH": "/usr/bin:/bin", "PIP_CONFIG_FILE": os.devnull}
            | (environ or source),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=as_from_a_terminal,
        )

    def run(self, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        child = self.start(*arguments, **environ)
        out, err = child.communicate(timeout=180)
        return subprocess.CompletedProcess(child.args, child.returncode, out, err)


def write_wheel(folder: Path) -> str:
    """Make the wheel of a package `tiny`; returns its SHA-256."""
    path = folder / "tiny-1.0-py3-none-any.whl"
    info = "tiny-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tiny.py", "")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", f"tiny.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def as_from_a_terminal() -> None:
    """For `preexec_fn`: interruptible also where the tests run behind an `&`, and bound."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    bound_by_permissions()


def wait_for(path: Path, child: "subprocess.Popen[str]") -> None:
    while not path.exists():
        assert child.poll() is None
        time.sleep(0.01)


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path / "project")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """A copy whose setup was killed once; then two starts at the same moment completed it."""
    copy = Copy(tmp_path_factory.mktemp("prepared") / "project")
    killed = copy.start("up")
    wait_for(copy.environment / "pyvenv.cfg", killed)
    killed.kill()
    remnant = copy.environment / "remnant"
    remnant.touch()

    children = [copy.start("up", "--port", "1"), copy.start("demo", "--for", "3")]
    (up_out, up_err), (demo_out, demo_err) = (child.communicate(timeout=180) for child in children)
    killed.communicate(timeout=30)
    assert [child.returncode for child in children] == [7, 7], up_err + demo_err
    assert (up_out + demo_out).count("is ready after") == 1
    assert "waiting for another start" in up_out + demo_out
    assert up_out.endswith(f"{copy.environment} ['up', '--port', '1']\n")
    assert demo_out.endswith(f"{copy.environment} ['up', '--demo', '--for', '3']\n")
    assert not remnant.exists()
    return copy


@pytest.fixture(scope="module")
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_under_test", PROJECT / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_usage_names_every_command(copy: Copy, arguments: tuple[str, ...]) -> None:
    done = copy.run(*arguments)
    assert done.returncode == 0
    for command in ("demo", "up", "check", "test"):
        assert f"run.py {command}" in done.stdout
    assert not copy.environment.exists()


def test_an_unknown_command_is_one_line(copy: Copy) -> None:
    done = copy.run("dmeo")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "run.py: no command 'dmeo': use one of demo, up, check, test\n"


def test_an_older_python_can_read_the_file() -> None:
    ast.parse((PROJECT / "run.py").read_text(), feature_version=(3, 6))


@pytest.mark.parametrize("version", [(3, 6, 9), (3, 10, 14), (3, 12, 1), (4, 11, 0)])
def test_another_python_is_told_which_one_is_needed(
    module: ModuleType, version: tuple[int, ...]
) -> None:
    line = module.unsupported((*version, "final", 0), "linux")
    assert "needs Python 3.11" in line
    assert ".".join(str(part) for part in version) in line


def test_another_python_ends_the_start_in_one_line(copy: Copy) -> None:
    (copy.folder / "older").mkdir()
    (copy.folder / "older" / "sitecustomize.py").write_text(
        "import sys\nsys.version_info = (3, 10, 14, 'final', 0)\n"
    )
    done = copy.run("demo", PYTHONPATH=str(copy.folder / "older"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "run.py: MTS needs Python 3.11, and this is 3.10.14: start it with python3.11 run.py\n"
    )
    assert not copy.environment.exists()


def test_python_3_11_is_supported_but_not_on_windows(module: ModuleType) -> None:
    assert module.unsupported((3, 11, 0, "final", 0), "linux") is None
    assert module.unsupported((3, 11, 9, "final", 0), "darwin") is None
    assert "WSL" in module.unsupported((3, 11, 9, "final", 0), "win32")


def test_a_read_only_folder_is_one_line(copy: Copy) -> None:
    copy.folder.chmod(0o555)
    try:
        done = copy.run("up")
    finally:
        copy.folder.chmod(0o755)
    assert done.returncode == 2
    assert done.stderr == (
        f"run.py: cannot prepare {copy.environment}: Permission denied ({copy.environment})\n"
    )


@pytest.mark.parametrize("folder", [False, True])
def test_something_else_in_place_of_the_environment_is_kept(copy: Copy, folder: bool) -> None:
    mine = copy.environment / "mine.txt" if folder else copy.environment
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    done = copy.run("up")
    assert done.returncode == 2
    assert done.stderr == f"run.py: {copy.environment} is no virtual environment: move it away\n"
    assert mine.read_text() == "mine"


def test_an_environment_elsewhere_is_not_emptied_through_a_link(copy: Copy, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "pyvenv.cfg").write_text("home = /usr/bin\n")
    copy.environment.symlink_to(theirs)
    done = copy.run("up")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"is a link to {theirs}" in line
    assert [path.name for path in theirs.iterdir()] == ["pyvenv.cfg"]


def test_a_linked_environment_that_is_complete_is_used(prepared: Copy, tmp_path: Path) -> None:
    linked = Copy(tmp_path / "linked")
    linked.lock("1.0", prepared.hash)
    linked.environment.symlink_to(prepared.environment)
    before = prepared.stamp.read_text()
    done = linked.run("check")
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout.endswith(" ['diagnose']\n")
    assert prepared.stamp.read_text() == before


@pytest.mark.long(20)
def test_without_network_nothing_stays_behind(copy: Copy) -> None:
    done = copy.run("up", PIP_INDEX_URL=NOBODY_LISTENS)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "run.py: the package index cannot be reached: check the network, or pip's configuration"
    ]
    assert not copy.environment.exists()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_setup_leaves_nothing_behind(copy: Copy, sent: signal.Signals) -> None:
    child = copy.start("up")
    wait_for(copy.environment / "pyvenv.cfg", child)
    child.send_signal(sent)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert err.splitlines()[-1] == "run.py: interrupted while preparing .venv"
    assert "Traceback" not in err
    assert not copy.environment.exists()


def test_a_second_start_is_quick_and_installs_nothing(prepared: Copy) -> None:
    before = prepared.stamp.stat().st_mtime_ns
    began = time.monotonic()
    done = prepared.run("check")
    assert time.monotonic() - began < 3
    assert done.returncode == 7
    assert done.stdout == f"{prepared.environment} ['diagnose']\n"
    assert done.stderr == ""
    assert prepared.stamp.stat().st_mtime_ns == before


def test_a_failed_upgrade_is_not_taken_for_a_whole_environment(prepared: Copy) -> None:
    whole = prepared.stamp.read_text()
    prepared.lock("2.0", prepared.hash)
    try:
        done = prepared.run("up")
        assert done.returncode == 2
        assert done.stderr.splitlines() == [
            "run.py: the packages cannot be installed: "
            "ERROR: No matching distribution found for tiny==2.0"
        ]
        assert not prepared.stamp.exists()
    finally:
        prepared.lock("1.0", prepared.hash)
        prepared.stamp.write_text(whole)


def test_continuous_integration_runs_the_documented_command() -> None:
    script = PROJECT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().endswith("\nexec python3 run.py test\n")
