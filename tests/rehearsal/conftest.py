"""A board, set up once as a user would set one up; see emulated.py."""

import subprocess
import tarfile
from pathlib import Path

import librknnrt as stand_in
import pytest
from conftest import DATA, ROOT
from emulated import Emulated, make_board, offline, packages, python, tree, unpack

from convert.board.package import write_package
from convert.progress import Steps
from runtime.model import open_model
from runtime.pictures import read_picture

PICTURES = sorted((DATA / "demo" / "val" / "images").iterdir())[:6]
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
def package(bundle, tmp_path_factory) -> Path:
    """The board's package, unpacked."""
    folder = tmp_path_factory.mktemp("package")
    with Steps(quiet=True) as steps:
        archive = write_package(bundle, folder, "3.11", steps)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="session")
def root(tmp_path_factory) -> Path:
    """A board's root before rkyolo."""
    path = tmp_path_factory.mktemp("board") / "root"
    unpack(packages(ROOT / "build" / "rehearsal"), path)
    make_board(path)
    return path


@pytest.fixture(scope="session")
def before(root) -> dict[str, str]:
    """The root's tree then."""
    return tree(root)


@pytest.fixture(scope="session")
def install(root, package):
    """Runs the package's install.sh on the root, with no network."""

    def run(*options: object, where: Path = root) -> subprocess.CompletedProcess:
        command = [package / "install.sh", "--root", where, "--python", " ".join(python(root))]
        return subprocess.run(
            [*offline(), *map(str, (*command, *options))],
            capture_output=True,
            text=True,
            timeout=600,
        )

    return run


@pytest.fixture(scope="session")
def installed(before, root, install) -> subprocess.CompletedProcess:
    """What install.sh said the first time. Then its user is made, as it says how to."""
    done = install()
    with (root / "etc" / "passwd").open("a") as users:
        users.write("rkyolo:x:990:990::/var/lib/rkyolo:/usr/sbin/nologin\n")
    return done


@pytest.fixture(scope="session")
def simulated(bundle, tmp_path_factory):
    """What to record of the pictures, and what the simulator finds in them."""
    folder = tmp_path_factory.mktemp("simulated")
    pictures = [read_picture(path) for path in PICTURES]
    return stand_in.simulated(open_model(bundle), pictures, stand_in.build(folder), folder)


@pytest.fixture(scope="session")
def bytecode(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("bytecode")


@pytest.fixture
def board(root, installed, simulated, bytecode, tmp_path) -> Emulated:
    """The board with rkyolo, whose NPU knows the pictures and does what it should."""
    assert installed.returncode == 0, installed.stderr
    folder = tmp_path / "npu"
    folder.mkdir()
    npu = stand_in.StandIn(root / "usr" / "lib" / "librknnrt.so", folder)
    npu.record(simulated[0])
    return Emulated(root, npu, bytecode)
