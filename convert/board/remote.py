"""A board over ssh: what it is, files to it, and a command there."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import UserError

_PLACE = ".cache/rkyolo"
"""Below the user's home on the board. What lies there makes the next deployment short."""

_SURE = ("BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=15")
"""Options of ssh: it never asks, and never waits for ever."""

# A Python in somebody's home is none for the service, hence the path. Lines without the mark come
# from the user's own shell.
_QUESTIONS = r"""
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
echo "rkyolo: machine $(uname -m)"
if command -v rsync >/dev/null; then echo "rkyolo: rsync yes"; fi
if [ "$(id -u)" = 0 ]; then
  echo "rkyolo: root yes"
elif sudo -n true </dev/null >/dev/null 2>&1; then
  echo "rkyolo: sudo yes"
fi
show='import sys; print("%d.%d" % sys.version_info[:2])'
for python; do
  if version=$($python -c "$show" </dev/null 2>/dev/null); then
    echo "rkyolo: python $version $python"
  fi
done
"""


@dataclass(frozen=True)
class Asked:
    """What a board says of itself. pythons: (version, command) of each, the one to take first."""

    machine: str
    rsync: bool
    root: bool
    sudo: bool
    pythons: tuple[tuple[str, str], ...]


class Board:
    """A machine that is reached over ssh. Raises UserError for a name that is none, and where ssh
    or rsync is not installed here."""

    def __init__(self, name: str, ssh: str):
        # rsync reads what has a colon or a slash as paths
        if not re.fullmatch(r"[^-\s:/][^\s:/]*", name):
            raise UserError(f"{name!r} is no board: say user@host, or a name of ~/.ssh/config")
        try:
            program, *options = shlex.split(ssh)
        except ValueError as error:
            raise UserError(f"--ssh {ssh!r} is no command: say such as 'ssh -p 2222'") from error
        for needed in (program, "rsync"):
            if shutil.which(needed) is None:
                raise UserError(f"there is no {needed} here: apt install openssh-client rsync")
        self.name = name
        self._said = ssh
        self._ssh = [program, *options, *(part for option in _SURE for part in ("-o", option))]

    def ask(self, commands: Sequence[str]) -> Asked:
        """What this machine is. commands: those that may be its Python. Raises UserError where it
        is not reached."""
        done = subprocess.run(
            [*self._ssh, self.name, shlex.join(["sh", "-s", "--", *commands])],
            input=_QUESTIONS,
            capture_output=True,
            text=True,
            errors="replace",
        )
        if done.returncode != 0:
            why = _last(done.stderr) or f"ssh ended with code {done.returncode}"
            raise UserError(
                f"cannot reach {self.name}: {why}; first make this work without a question:"
                f" {self._said} {self.name} true"
            )
        said = re.findall(r"^rkyolo: (\w+) (.*?)\r?$", done.stdout, re.MULTILINE)
        facts = dict(said)
        pythons = [tuple(rest.split(" ", 1)) for word, rest in said if word == "python"]
        return Asked(
            facts.get("machine", ""),
            "rsync" in facts,
            "root" in facts,
            "sudo" in facts,
            (*pythons,),
        )

    def send(self, folder: Path) -> str:
        """Make the machine's copy of a folder equal to it; gives its place there. By content: all
        files of a package have the same date. Raises UserError."""
        place = f"{_PLACE}/{folder.name}"
        rsync = ["rsync", "-rlpt", "--checksum", "--delete"]
        there = ["--rsync-path", f"mkdir -p {shlex.quote(place)} && rsync"]
        to = [f"{folder}/", f"{self.name}:{place}/"]
        done = subprocess.run(
            [*rsync, *there, "-e", shlex.join(self._ssh), "--", *to],
            capture_output=True,
            text=True,
            errors="replace",
        )
        if done.returncode != 0:
            # rsync's own last line only counts up what came before
            said = [line for line in done.stderr.splitlines() if not line.startswith("rsync error")]
            why = _last("\n".join(said)) or f"rsync ended with code {done.returncode}"
            raise UserError(f"cannot write ~/{place} on {self.name}: {why}")
        return place

    def run(self, command: str) -> tuple[int, str]:
        """(exit code, error) of a command there. What it says is said here as it comes, but for the
        line that begins with "error: "."""
        error = ""
        with subprocess.Popen(
            [*self._ssh, self.name, command],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        ) as process:
            for line in process.stderr:
                if line.startswith("error: "):
                    error = line.removeprefix("error: ").strip()
                else:
                    print(line, end="", file=sys.stderr, flush=True)
        return process.returncode, error


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else ""
