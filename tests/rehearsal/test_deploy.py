"""rkyolo deploy over a real sshd on loopback, to the emulated board's root; the service is the
emulated daemon."""

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from board_service import LINK, Service, service_of
from conftest import ROOT
from daemons import RKYOLO
from emulated import Emulated
from servers import free_port, wait_for
from sshd import Reached, keypair

from convert.board.deploy import Options, choose_python, installing
from convert.board.remote import Asked, Board
from runtime.errors import UserError
from runtime.manifest import sha256_of

SLOW_S = 300
NOT_READY = "the service did not get ready and stay up"


@pytest.fixture(scope="module")
def reached(tmp_path_factory) -> Iterator[Reached]:
    if os.geteuid() == 0:  # which sshd insists on then, and Debian makes at boot
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    machine = Reached(tmp_path_factory.mktemp("sshd"))
    machine.server.start()
    yield machine
    machine.server.kill()


@pytest.fixture
def service(root, installed, tmp_path) -> Iterator[Service]:
    assert installed.returncode == 0, installed.stderr
    with service_of(root, tmp_path) as board:
        yield board


@pytest.fixture
def command(service, reached):
    """What deploys to the service's board."""
    options = service.options
    there = ["--root", options["root"], "--systemctl", options["systemctl"], "--watch", "2"]
    there += ["--board-python", options["python"]]

    def deploying(*arguments: object) -> list[str]:
        plain = map(str, (reached.name, *arguments))
        return [*RKYOLO, "deploy", "--ssh", reached.ssh(), *there, *plain]

    return deploying


def run(command: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, timeout=SLOW_S)


def renamed(bundle: Path, folder: Path) -> Path:
    """A whole bundle of equal sizes and dates, whose first class has another name."""
    shutil.copytree(bundle, folder)
    compiled = (folder / "model.rknn").read_bytes()
    other = compiled.replace(b'"circle"', b'"sphere"')
    assert other != compiled
    (folder / "model.rknn").write_bytes(other)
    manifest = (folder / "manifest.yaml").read_text().replace("- circle\n", "- sphere\n")
    manifest = manifest.replace(sha256_of(compiled), sha256_of(other))
    (folder / "manifest.yaml").write_text(manifest)
    return folder


def test_deployed_it_runs_and_a_bundle_that_does_not_come_up_is_put_back(
    service, command, reached, board, bundle, bytecode, tmp_path
):
    emulated = Emulated(service.root, board.npu, bytecode)
    service.serve(emulated.rkyolo, emulated.environment, {"backend": "rknnrt", "deadline_s": 60})
    first = service.link
    good = shutil.copytree(bundle, tmp_path / "good")
    with (good / "manifest.yaml").open("a") as manifest:
        manifest.write("# another\n")
    done = run(command(good))
    assert done.returncode == 0, done.stderr
    assert "is there already" in done.stdout  # the package is the same, byte for byte
    link, pid = service.link, service.running
    assert link != first and (service.root / LINK / "model.rknn").is_file()
    assert (service.root / "var/lib/rkyolo" / first).is_dir()
    assert pid and (service.folder / "enabled").exists()
    wait_for(lambda: service.results, "results", SLOW_S)

    done = run(command(renamed(bundle, tmp_path / "bad")))
    assert done.returncode == 1, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"{reached.name}: {NOT_READY}")
    assert last.endswith("what ran before runs again")
    assert "circle" in (service.folder / "journal").read_text()
    assert service.link == link and service.running not in (None, pid)
    before = service.results
    wait_for(lambda: service.results > before, "more results", SLOW_S)


def test_a_lost_connection_leaves_nothing_half_done(service, command, package, bundle, tmp_path):
    """With the host's own daemon, which starts sooner."""
    service.serve([*RKYOLO], {"PYTHONPATH": str(ROOT)}, {"backend": "onnxruntime"})
    assert service.install(package, "--start").returncode == 0
    link, pid = service.link, service.running
    bad = command(renamed(bundle, tmp_path / "bad"))
    with subprocess.Popen(bad, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        wait_for(lambda: service.calls("restart") == 2, "the restart", SLOW_S)
        os.killpg(process.pid, signal.SIGKILL)
    wait_for(lambda: service.calls("restart") == 3, "the old one's start", SLOW_S)
    before = service.results
    wait_for(lambda: service.results > before, "its results", SLOW_S)
    assert service.link == link and service.running not in (None, pid)


def test_what_is_sent_is_equal_by_content(reached, tmp_path):
    """Files of a package have one date, and those of two bundles may have one size."""
    board = Board(reached.name, reached.ssh())
    folder = tmp_path / "package"
    folder.mkdir()
    for name, content in (("same", "a"), ("gone", "b")):
        (folder / name).write_text(content)
        os.utime(folder / name, (0, 0))
    there = reached.home / board.send(folder)
    (there.parent / "else").touch()
    (folder / "gone").unlink()
    (folder / "same").write_text("c")
    os.utime(folder / "same", (0, 0))
    assert reached.home / board.send(folder) == there
    assert {path.name: path.read_text() for path in there.iterdir()} == {"same": "c"}
    assert (there.parent / "else").exists()


def test_a_home_that_is_full_or_closed_is_told(reached, tmp_path):
    shutil.rmtree(reached.home / ".cache", ignore_errors=True)
    (reached.home / ".cache").touch()
    (tmp_path / "package").mkdir()
    with pytest.raises(UserError, match=r"cannot write ~/\.cache/rkyolo/package on .*: .+"):
        Board(reached.name, reached.ssh()).send(tmp_path / "package")
    (reached.home / ".cache").unlink()


# what is refused before anything is sent


def refused(command: list[str], home: Path, said: str) -> None:
    shutil.rmtree(home / ".cache", ignore_errors=True)
    done = run(command)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2, done.stderr
    assert errors == done.stderr.splitlines()[-1:] and said in errors[0]
    assert list(home.iterdir()) == []


def test_what_is_no_bundle(command, reached, tmp_path):
    refused(command(tmp_path), reached.home, "is no bundle")


def test_another_machine(reached, bundle):
    command = [*RKYOLO, "deploy", "--ssh", reached.ssh(), reached.name, str(bundle)]
    refused(command, reached.home, f"is {os.uname().machine}, and packages are for 64-bit ARM")


def test_no_python(command, reached, bundle):
    wrong = [*command(bundle), "--board-python", "python9"]
    refused(wrong, reached.home, "has no Python 3.10 or 3.11 or 3.12, but none")
    wrong = [*command(bundle), "--python", "3.12"]
    refused(wrong, reached.home, "has no Python 3.12, but 3.11")


def test_nothing_that_answers(command, reached, bundle):
    wrong = [*command(bundle), "--ssh", reached.ssh(port=free_port())]
    refused(wrong, reached.home, "Connection refused")


def test_a_key_that_is_not_let_in(command, reached, bundle, tmp_path):
    wrong = [*command(bundle), "--ssh", reached.ssh(key=keypair(tmp_path / "other"))]
    refused(wrong, reached.home, "Permission denied")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("", "is no board", id="none"),
        pytest.param("-oProxyCommand=touch me", "is no board", id="option"),
        pytest.param("user@host:22", "is no board", id="port"),
        pytest.param("../host", "is no board", id="path"),
        pytest.param("user@host x", "is no board", id="space"),
    ],
)
def test_names_of_no_board(reached, name, said):
    refused([*RKYOLO, "deploy", "--ssh", reached.ssh(), "--", name], reached.home, said)


@pytest.mark.parametrize(
    ("ssh", "said"),
    [
        pytest.param("ssh '", "is no command", id="quote"),
        pytest.param("no-such-ssh -p 1", "there is no no-such-ssh here", id="program"),
        pytest.param("", "is no command", id="empty"),
    ],
)
def test_an_ssh_that_is_none(reached, ssh, said):
    refused([*RKYOLO, "deploy", "--ssh", ssh, reached.name], reached.home, said)


# what a board says, and what follows

FOUND = (("3.11", "python3"), ("3.11", "python3.11"), ("3.10", "python3.10"))
GOOD = Asked(machine="aarch64", rsync=True, root=False, sudo=True, pythons=FOUND)


@pytest.mark.parametrize(
    ("changes", "options", "expected"),
    [
        pytest.param({}, {}, ("3.11", "python3"), id="the-first"),
        pytest.param({}, {"python": "3.10"}, ("3.10", "python3.10"), id="the-wanted"),
        pytest.param({"sudo": False, "root": True}, {}, FOUND[0], id="root"),
        pytest.param({"machine": "x86_64", "sudo": False}, {"root": "/r"}, FOUND[0], id="image"),
        pytest.param({"pythons": (("3.9", "python3"), *FOUND)}, {}, FOUND[0], id="old-default"),
        pytest.param({"machine": "armv7l"}, {}, "is armv7l, and packages", id="32-bit"),
        pytest.param({"rsync": False}, {}, "there is no rsync on b", id="rsync"),
        pytest.param({"sudo": False}, {}, "sudo on b asks for a password", id="sudo"),
        pytest.param({"pythons": (("3.9", "python3"),)}, {}, "3.12, but 3.9", id="old"),
        pytest.param({"pythons": ()}, {}, "3.12, but none", id="no-python"),
    ],
)
def test_the_python_of_a_board(changes, options, expected):
    asked = replace(GOOD, **changes)
    if isinstance(expected, tuple):
        assert choose_python("b", asked, Options(**options)) == expected
    else:
        with pytest.raises(UserError, match=expected):
            choose_python("b", asked, Options(**options))


def test_the_command_is_one_whatever_is_in_it():
    options = Options(root="/a b; touch 'c'", systemctl="s $(d)")
    shell = shlex.split(installing("p", True, "python3 -B", GOOD, options))
    assert shell[:5] == ["cd", "p", "&&", "exec", "./install.sh"]
    assert shell[shell.index("--root") + 1] == options.root
    assert shell[shell.index("--systemctl") + 1] == options.systemctl
    assert shell[shell.index("--python") + 1] == "python3 -B"
    assert shell[shell.index("--bundle") + 1] == "bundle"
    plain = shlex.split(installing("p", False, "python3", GOOD, Options()))
    assert plain[4:7] == ["sudo", "-n", "./install.sh"] and "--bundle" not in plain
    assert "sudo" not in installing("p", False, "python3", replace(GOOD, root=True), Options())
