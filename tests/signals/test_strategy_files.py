"""Which files may be run: the user's own, that nobody else can write."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from signals.hosting.files import (
    SIZE_LIMIT,
    FileRefused,
    is_settled,
    read_strategy_file,
    strategy_file_names,
)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "strategies"
    made.mkdir(mode=0o700)
    return made


def written(path, content=b"x = 1\n", mode=0o600):
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_the_bytes_and_their_hash(folder):
    written(folder / "drop.py")
    file = read_strategy_file(folder, "drop")
    assert (file.name, file.source) == ("drop", b"x = 1\n")
    assert file.sha256 == hashlib.sha256(b"x = 1\n").hexdigest()


def test_what_is_listed(folder):
    for name in ("drop.py", "Bad-Name.py", "_private.py", ".drop.py", "notes.txt", "drop.pyc"):
        written(folder / name)
    assert strategy_file_names(folder) == ["Bad-Name", "drop"]


@pytest.mark.parametrize("name", ["Drop", "2drop", "dr-op", "../drop", "drop.x", "a" * 64, ""])
def test_a_name_that_is_none_is_refused(folder, name):
    with pytest.raises(FileRefused, match="a name of a to z"):
        read_strategy_file(folder, name)


def test_a_file_that_is_gone(folder):
    with pytest.raises(FileNotFoundError):
        read_strategy_file(folder, "drop")


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_is_refused(folder, mode):
    written(folder / "drop.py", mode=mode)
    with pytest.raises(FileRefused, match=r"drop\.py can be written by others: chmod go-w"):
        read_strategy_file(folder, "drop")


def test_a_folder_that_others_can_write_is_refused(folder):
    written(folder / "drop.py")
    folder.chmod(0o770)
    for look in (lambda: read_strategy_file(folder, "drop"), lambda: strategy_file_names(folder)):
        with pytest.raises(FileRefused, match=r"MTS_STRATEGY_DIR .* can be written by others"):
            look()


def test_what_belongs_to_somebody_else_is_refused(folder):
    theirs = Path("/")  # root's, unless we are root
    if os.geteuid() == 0:  # who alone can give files away
        os.chown(written(folder / "drop.py"), 12345, 12345)
        with pytest.raises(FileRefused, match=r"drop\.py belongs to another user"):
            read_strategy_file(folder, "drop")
        os.chown(folder, 12345, 12345)
        theirs = folder
    with pytest.raises(FileRefused, match=r"MTS_STRATEGY_DIR .* belongs to another user"):
        read_strategy_file(theirs, "drop")


def test_links_pipes_and_folders_are_refused(folder, tmp_path):
    target = written(tmp_path / "elsewhere.py")
    (folder / "linked.py").symlink_to(target)
    os.mkfifo(folder / "pipe.py", 0o600)
    (folder / "folder.py").mkdir(mode=0o700)
    for name in ("linked", "pipe", "folder"):
        with pytest.raises(FileRefused, match=f"{name}.py (cannot be read|is not a regular file)"):
            read_strategy_file(folder, name)
    with pytest.raises(FileRefused, match="it is a link"):
        read_strategy_file(folder, "linked")
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(FileRefused, match="cannot be read"):
        strategy_file_names(tmp_path / "link")


def test_a_file_of_any_size_is_refused(folder):
    written(folder / "drop.py", b"#" * (SIZE_LIMIT + 1))
    with pytest.raises(FileRefused, match="larger than 256 KiB"):
        read_strategy_file(folder, "drop")


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(FileRefused, match="cannot be read: No such file"):
        strategy_file_names(tmp_path / "nowhere")


def test_what_has_just_changed_is_not_settled(folder):
    path = written(folder / "drop.py")
    assert not is_settled(folder, "drop", seconds=5.0)
    old = time.time() - 60
    os.utime(path, (old, old))
    assert not is_settled(folder, "drop", seconds=5.0)
    os.utime(folder, (old, old))
    assert is_settled(folder, "drop", seconds=5.0)
    path.unlink()  # as an editor does that puts a new file in its place
    assert not is_settled(folder, "drop", seconds=5.0)
