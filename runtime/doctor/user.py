"""Whose permissions are looked at: this process's own, or those of the user a service runs as."""

import os
import stat
from dataclasses import dataclass

from runtime.doctor.disk import Absent, Disk
from runtime.errors import UserError


@dataclass(frozen=True)
class User:
    """A user and the groups it has. current: it is the one this process runs as."""

    name: str
    uid: int
    gids: frozenset[int]
    current: bool = False

    def may_use(self, disk: Disk, path: str) -> bool:
        """Whether the user may read and write a file. For another user by its mode alone: an access
        list that a desktop session adds does not reach a service."""
        if self.current:
            return os.access(disk.at(path), os.R_OK | os.W_OK)
        facts = disk.stat(path)
        if isinstance(facts, Absent):
            return False
        if self.uid == 0:
            return True
        if facts.st_uid == self.uid:
            wanted = stat.S_IRUSR | stat.S_IWUSR
        elif facts.st_gid in self.gids:
            wanted = stat.S_IRGRP | stat.S_IWGRP
        else:
            wanted = stat.S_IROTH | stat.S_IWOTH
        return facts.st_mode & wanted == wanted


def current_user(disk: Disk) -> User:
    """The user this process runs as, under the name the root's /etc/passwd has for it."""
    uid = os.geteuid()
    names = (fields[0] for fields in _lines(disk, "/etc/passwd", 3) if fields[2] == str(uid))
    gids = frozenset([os.getegid(), *os.getgroups()])
    return User(next(names, "$USER"), uid, gids, current=True)


def named_user(disk: Disk, name: str) -> User:
    """A user of the root's /etc/passwd, with its groups there. Raises UserError."""
    for fields in _lines(disk, "/etc/passwd", 4):
        if fields[0] == name and fields[2].isdigit() and fields[3].isdigit():
            gids = {int(fields[3])} | groups_of(disk, name)
            return User(name, int(fields[2]), frozenset(gids))
    raise UserError(
        f"{disk.at('/etc/passwd')} has no user {name}: give one that it has with --user"
    )


def groups_of(disk: Disk, name: str) -> frozenset[int]:
    """The groups that /etc/group puts a user in; a session from before has not got them yet."""
    return frozenset(
        int(fields[2])
        for fields in _lines(disk, "/etc/group", 4)
        if name in fields[3].split(",") and fields[2].isdigit()
    )


def group_name(disk: Disk, gid: int) -> str | None:
    """A group's name, None where the root's /etc/group has none for it."""
    found = (fields[0] for fields in _lines(disk, "/etc/group", 3) if fields[2] == str(gid))
    return next(found, None)


def _lines(disk: Disk, path: str, least: int) -> list[list[str]]:
    """The fields of each line that has enough of them."""
    text = disk.text(path)
    lines = [] if isinstance(text, Absent) else [line.split(":") for line in text.splitlines()]
    return [fields for fields in lines if len(fields) >= least]
