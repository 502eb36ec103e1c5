import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.errors import UserError
from runtime.files import whole_file, whole_folder


class StoppedError(BaseException):
    """As a signal or Ctrl-C would end a block."""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("before", [None, "old"])
def test_a_file_appears_when_the_block_ends(tmp_path, before):
    target = tmp_path / "a.txt"
    if before:
        target.write_text(before)
    with whole_file(target) as partial:
        partial.write_text("new")
        assert partial.parent == target.parent  # of the same disk, so that it can be renamed
        assert partial.suffix == ".txt"
        assert (target.read_text() if before else target.exists()) == (before or False)
    assert target.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("before", [None, "old"])
@pytest.mark.parametrize("error", [ValueError, StoppedError, KeyboardInterrupt, UserError])
def test_a_file_does_not_appear_when_the_block_fails(tmp_path, before, error):
    target = tmp_path / "a.txt"
    if before:
        target.write_text(before)
    with pytest.raises(error), whole_file(target) as partial:
        partial.write_text("half")
        raise error
    assert names(tmp_path) == (["a.txt"] if before else [])
    assert not before or target.read_text() == before


@pytest.mark.parametrize("before", [None, "old"])
def test_a_folder_appears_when_the_block_ends(tmp_path, before):
    target = tmp_path / "bundle"
    if before:
        target.mkdir()
        (target / before).write_text("x")
    with whole_folder(target) as partial:
        (partial / "new").write_text("y")
        assert target.exists() == bool(before)
    assert names(target) == ["new"]
    assert names(tmp_path) == ["bundle"]


@pytest.mark.parametrize("before", [None, "old"])
@pytest.mark.parametrize("error", [ValueError, StoppedError, KeyboardInterrupt, UserError])
def test_a_folder_does_not_appear_when_the_block_fails(tmp_path, before, error):
    target = tmp_path / "bundle"
    if before:
        target.mkdir()
        (target / before).write_text("x")
    with pytest.raises(error), whole_folder(target) as partial:
        (partial / "new").write_text("y")
        raise error
    assert names(tmp_path) == (["bundle"] if before else [])
    assert not before or names(target) == [before]


def test_a_folder_that_cannot_be_renamed_leaves_the_old_one(tmp_path):
    target = tmp_path / "bundle"
    target.mkdir()
    (target / "old").write_text("x")
    with pytest.raises(UserError, match="cannot write"), whole_folder(target) as partial:
        partial.rmdir()  # the rename will find nothing
    assert names(target) == ["old"]
    assert names(tmp_path) == ["bundle"]


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_folders_above_are_made(tmp_path, whole):
    with whole(tmp_path / "a" / "b" / "c") as partial:
        if whole is whole_file:
            partial.write_text("x")
    assert (tmp_path / "a" / "b" / "c").exists()


@pytest.mark.parametrize(
    ("umask", "file", "folder"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700)]
)
def test_permissions_are_the_usual_ones(tmp_path, umask, file, folder):
    before = os.umask(umask)
    try:
        with whole_file(tmp_path / "file") as partial:
            partial.write_text("x")
        with whole_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == file
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == folder


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT])
def test_a_disk_that_does_not_take_it(tmp_path, whole, number):
    target = tmp_path / "out"
    reason = os.strerror(number).lower()
    with (
        pytest.raises(UserError, match=f"cannot write {target}: {reason}; make room"),
        whole(target),
    ):
        raise OSError(number, os.strerror(number))
    assert names(tmp_path) == []


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
@pytest.mark.parametrize("where", ["file/out", "file/deeper/out"])
def test_a_file_where_a_folder_should_be(tmp_path, whole, where):
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(UserError, match=f"cannot write {tmp_path / where}: "),
        whole(tmp_path / where),
    ):
        pass


@pytest.mark.parametrize("relative", [True, False])
def test_a_folder_where_the_file_should_be(tmp_path, monkeypatch, relative):
    monkeypatch.chdir(tmp_path)
    target = Path("out") if relative else tmp_path / "out"
    target.mkdir()
    with pytest.raises(UserError, match="is a directory"), whole_file(target):
        pass
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_errors_of_other_files_stay_what_they_are(tmp_path, whole):
    out = tmp_path / "out" / "file"
    with pytest.raises(FileNotFoundError), whole(out):
        (tmp_path / "elsewhere" / "missing").read_bytes()
    assert names(out.parent) == []


FULL_DISK = """
import resource, sys
from pathlib import Path
from runtime.errors import UserError
from runtime.files import whole_file
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with whole_file(Path(sys.argv[1])) as partial:
        partial.write_bytes(bytes(2000))
except UserError as error:
    print(error)
"""


def test_a_file_that_the_system_does_not_let_grow(tmp_path):
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    command = [sys.executable, "-c", FULL_DISK, str(target)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith(f"cannot write {target}: file too large")
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]
