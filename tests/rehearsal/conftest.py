"""A board, set up once as a user would set one up; see emulated.py."""

import shutil
import subprocess
import tarfile
from pathlib import Path

import librknnrt as stand_in
import pytest
from conftest import ROOT, once
from emulated import PICTURES, Emulated, make_board, offline, packages, python, tree, unpack

from convert.board.package import write_package
from convert.progress import Steps
from runtime.model import open_model
from runtime.pictures import read_picture

HOST = ("/opt", "/usr/local", "/usr/lib/python3", "/usr/lib/python3.11", "/etc/systemd/system")
"""Where rkyolo, its unit, and an emulated Python's bytecode would land."""
HOST_PATHS = (
    "/etc/passwd",
    "/etc/group",
    "/etc/rkyolo",
    "/var/lib/rkyolo",
    "/usr/lib/librknnrt.so",
)


def host() -> dict[str, object]:
    paths = map(Path, HOST_PATHS)
    there = {str(path): path.exists() and path.stat().st_mtime_ns for path in paths}
    return there | {folder: tree(Path(folder)) for folder in HOST}


@pytest.fixture(scope="session", autouse=True)
def host_is_left_alone():
    earlier = host()
    yield
    assert host() == earlier


@pytest.fixture(scope="session")
def bundle() -> Path:
    """The demo's, which make rehearse converts before."""
    path = ROOT / "models" / "shapes"
    assert path.is_dir(), "models/shapes is missing: make convert"
    return path


@pytest.fixture(scope="session")
def package(bundle, common) -> Path:
    """The board's package, unpacked."""
    return once(common, "package", lambda: _package(bundle, common))


def _package(bundle: Path, folder: Path) -> Path:
    with Steps(quiet=True) as steps:
        archive = write_package(bundle, folder, "3.11", steps)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="session")
def prepared(package, common):
    """A board's root in which rkyolo was installed, what install.sh said, and the root's tree
    before."""
    return once(common, "prepared", lambda: _prepared(package, common / "root"))


def _prepared(
    package: Path, root: Path
) -> tuple[Path, subprocess.CompletedProcess, dict[str, str]]:
    unpack(packages(ROOT / "build" / "rehearsal"), root)
    make_board(root)
    before = tree(root)
    done = run_install(package, root)
    with (root / "etc" / "passwd").open("a") as users:  # as it says how to
        users.write("rkyolo:x:990:990::/var/lib/rkyolo:/usr/sbin/nologin\n")
    return root, done, before


def run_install(package: Path, root: Path, *options: object) -> subprocess.CompletedProcess:
    """The package's install.sh on a root, with no network."""
    command = [package / "install.sh", "--root", root, "--python", " ".join(python(root))]
    command = [*offline(), *map(str, (*command, *options))]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="session")
def root(prepared, tmp_path_factory) -> Path:
    """A board's root with rkyolo, for this process alone."""
    path = tmp_path_factory.mktemp("board") / "root"
    return shutil.copytree(prepared[0], path, symlinks=True)


@pytest.fixture(scope="session")
def before(prepared) -> dict[str, str]:
    """The root's tree before rkyolo came."""
    return prepared[2]


@pytest.fixture(scope="session")
def installed(prepared) -> subprocess.CompletedProcess:
    """What install.sh said the first time."""
    return prepared[1]


@pytest.fixture(scope="session")
def install(root, package):
    """Runs the package's install.sh again."""

    def run(*options: object, where: Path = root) -> subprocess.CompletedProcess:
        return run_install(package, where, *options)

    return run


@pytest.fixture(scope="session")
def simulated(bundle, common):
    """What to record of the pictures, and what the simulator finds in them."""
    return once(common, "simulated", lambda: _simulated(bundle, common / "simulated"))


def _simulated(bundle: Path, folder: Path):
    folder.mkdir()
    pictures = [read_picture(path) for path in PICTURES]
    return stand_in.simulated(open_model(bundle), pictures, stand_in.build(folder), folder)


@pytest.fixture(scope="session")
def bytecode(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("bytecode")


@pytest.fixture
def board(simulated, root, installed, bytecode, tmp_path) -> Emulated:
    """The board with rkyolo, whose NPU knows the pictures and does what it should."""
    assert installed.returncode == 0, installed.stderr
    folder = tmp_path / "npu"
    folder.mkdir()
    npu = stand_in.StandIn(root / "usr" / "lib" / "librknnrt.so", folder)
    npu.record(simulated[0])
    return Emulated(root, npu, bytecode)
