import os

import pytest

from runtime.doctor.disk import Absent, Disk
from runtime.doctor.user import User, current_user, named_user
from runtime.errors import UserError


def test_missing_and_unreadable_are_told_apart(tmp_path):
    disk = Disk(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "file").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    assert disk.read("/nothing") is Absent.MISSING
    assert disk.read("/file/nothing") is Absent.MISSING
    assert disk.read("/folder") is Absent.UNREADABLE
    assert disk.read("/round") is Absent.UNREADABLE
    assert disk.read("/pipe") is Absent.UNREADABLE  # and is not waited for
    assert disk.read("/a\0b") is Absent.UNREADABLE
    assert disk.read("/file") == b"x"


def test_no_more_is_read_than_wanted(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 100)
    assert Disk(tmp_path).read("/file", 10) == b"x" * 10


def test_text_of_the_device_tree_loses_its_end(tmp_path):
    (tmp_path / "model").write_bytes(b"Orange Pi 5\0")
    (tmp_path / "odd").write_bytes(b"\xff\n")
    assert Disk(tmp_path).text("/model") == "Orange Pi 5"
    assert Disk(tmp_path).text("/odd") == "\ufffd"


def test_names_of_what_is_no_folder(tmp_path):
    (tmp_path / "b").touch()
    (tmp_path / "a").touch()
    assert Disk(tmp_path).names("/") == ["a", "b"]
    assert Disk(tmp_path).names("/a") == []
    assert Disk(tmp_path).names("/none") == []


@pytest.mark.parametrize(
    ("mode", "uid", "gids", "may"),
    [
        (0o600, 0, (), True),
        (0o600, 1, (), False),
        (0o606, 1, (), True),
        (0o604, 1, (), False),
        (0o602, 1, (), False),
        (0o660, 1, (0,), True),
        (0o640, 1, (0,), False),
        (0o606, 1, (0,), False),  # the group's rights count, not everybody's
        (0o066, -1, (0,), False),  # and the owner's before those
        (0o600, -1, (), True),
    ],
)
def test_rights_by_mode(tmp_path, mode, uid, gids, may):
    path = tmp_path / "node"
    path.touch()
    path.chmod(mode)
    facts = path.stat()
    owner = facts.st_uid or 7  # as root owns it, look at it as if another did
    user = User("u", owner if uid == -1 else uid, frozenset(facts.st_gid for _ in gids))

    class Owned(Disk):
        def stat(self, path):
            return os.stat_result((facts.st_mode, 0, 0, 1, owner, facts.st_gid, 0, 0, 0, 0))

    assert user.may_use(Owned(tmp_path), "/node") is may


def test_this_process_by_what_the_kernel_says(tmp_path):
    disk = Disk(tmp_path)
    (tmp_path / "file").touch()
    user = current_user(disk)
    assert (user.uid, user.name) == (os.geteuid(), "$USER")
    assert user.may_use(disk, "/file")
    assert not user.may_use(disk, "/none")


def test_users_of_a_board(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("broken\nann:x:1000:100:::\nodd:x:-:-:::\n")
    (tmp_path / "etc/group").write_text("video:x:44:bob,ann\nrender:x:107:anna\nodd:x:z:ann\n")
    assert named_user(Disk(tmp_path), "ann") == User("ann", 1000, frozenset({44, 100}))
    with pytest.raises(UserError, match="has no user odd: give one that it has with --user"):
        named_user(Disk(tmp_path), "odd")
