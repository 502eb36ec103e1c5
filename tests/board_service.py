"""A board's root in which rkyolo is installed, with its service; see systemctl.py."""

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import systemctl
import yaml
from emulated import PICTURES, python

LINK = "var/lib/rkyolo/bundle"


class Service:
    """folder: the stand-in's. out: where detections come."""

    def __init__(self, root: Path, folder: Path):
        self.root = root
        self.folder = folder
        self.out = folder / "out.jsonl"

    @property
    def link(self) -> str:
        return str((self.root / LINK).readlink())

    @property
    def running(self) -> int | None:
        return systemctl.running(self.folder)

    def calls(self, verb: str) -> int:
        """How often systemctl was called with it."""
        log = self.folder / "log"
        return log.read_text().split("\n").count(f"{verb} rkyolo") if log.exists() else 0

    @property
    def results(self) -> int:
        return self.out.read_text().count("\n") if self.out.exists() else 0

    def serve(self, command: list[str], environment: dict[str, str], engine: dict) -> None:
        """The service is rkyolo, by this command, with a configuration that names a class."""
        paths = [str(path) for path in PICTURES]
        pictures = {"name": "pictures", "type": "files", "paths": paths, "repeat": True, "rate": 5}
        settings = self.root / "etc" / "rkyolo" / "rkyolo.yaml"
        config = {
            "model": str(self.root / LINK),
            "thresholds": {"class_score": {"circle": 0.4}},
            "engine": engine,
            "sources": [pictures],
            "sinks": [{"type": "jsonl", "path": str(self.out)}],
        }
        settings.write_text(yaml.safe_dump(config))
        self.be([*command, "run", str(settings)], environment)

    def be(self, command: list[str], environment: dict[str, str]) -> None:
        """The service is this program."""
        service = {"command": command, "environment": environment}
        (self.folder / "service.json").write_text(json.dumps(service))

    @property
    def options(self) -> dict[str, str]:
        """What install.sh has to be told of this board: its --root, --systemctl and --python."""
        stand_in = [sys.executable, systemctl.__file__, str(self.folder)]
        told = {"root": str(self.root), "systemctl": shlex.join(stand_in)}
        return told | {"python": " ".join(python(self.root))}

    def install(
        self, package: Path, *arguments: object, **options: str
    ) -> subprocess.CompletedProcess:
        """Run a package's install.sh, with its own Python and short watching."""
        told = [part for name, to in (self.options | options).items() for part in (f"--{name}", to)]
        command = [package / "install.sh", *told, "--watch", "1", *arguments]
        return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300)


@contextmanager
def service_of(root: Path, folder: Path) -> Iterator[Service]:
    """Of a copy of a root, both in a folder; ended at the end."""
    copy, place = folder / "board", folder / "service"
    shutil.copytree(root, copy, symlinks=True)
    place.mkdir()
    yield Service(copy, place)
    systemctl.stop(place)
