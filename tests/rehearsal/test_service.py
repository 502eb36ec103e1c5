"""install.sh and the service: what is started, put back, and left alone. The service is a program
that says it is ready, and then lives or ends."""

import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
from board_service import LINK, Service, service_of
from conftest import ROOT
from servers import program, wait_for

READY = "from runtime.systemd import notify; import time; notify('READY=1'); "
LIVES, ENDS = "time.sleep(600)", "time.sleep(0.2)"


@pytest.fixture
def service(root, installed, tmp_path) -> Iterator[Service]:
    assert installed.returncode == 0, installed.stderr
    with service_of(root, tmp_path) as board:
        program_is(board, LIVES)
        yield board


@pytest.fixture
def other(bundle, tmp_path):
    """Another bundle than the one that is there."""
    copy = shutil.copytree(bundle, tmp_path / "other")
    with (copy / "manifest.yaml").open("a") as manifest:
        manifest.write("# changed\n")
    return copy


def program_is(service: Service, rest: str) -> None:
    service.be([sys.executable, "-c", READY + rest], {"PYTHONPATH": str(ROOT)})


def test_what_runs_is_started_anew_and_what_does_not_is_left(service, package, other):
    assert service.install(package, "--bundle", other).returncode == 0
    assert service.calls("restart") == 0 and service.link.startswith("bundles/other-")
    assert service.install(package, "--start").returncode == 0
    pid = service.running
    assert pid and service.calls("enable") == 1
    assert service.install(package).returncode == 0
    assert service.running not in (None, pid)


def test_one_that_ends_after_it_was_ready_is_put_back(service, package, other):
    assert service.install(package, "--start").returncode == 0
    link = service.link
    program_is(service, ENDS)
    done = service.install(package, "--bundle", other)
    assert done.returncode == 1
    assert done.stderr.endswith("is put back, and does not come up either\n")
    assert service.link == link
    # systemd counts starts, and would refuse the one that is to bring the old one back
    assert service.calls("reset-failed") == service.calls("restart") == 3


def test_without_cameras_it_is_not_started(service, package):
    (service.root / "etc" / "rkyolo" / "rkyolo.yaml").unlink()
    done = service.install(package, "--start")
    assert done.returncode == 1
    assert done.stderr.startswith("error: it is not started yet: name your cameras")
    assert service.calls("restart") == service.calls("enable") == 0


def test_below_a_root_alone_it_is_only_told(service, package, install):
    done = install("--start", where=service.root)
    assert done.returncode == 0, done.stderr
    assert "on the board: systemctl restart rkyolo\n" in done.stdout


def test_a_command_that_fails_changes_nothing(service, package, other):
    link = service.link
    done = service.install(package, "--bundle", other, systemctl="false")
    assert done.returncode == 2
    assert service.link == link


def test_a_folder_in_the_place_of_the_link_is_not_touched(service, package, bundle):
    place = service.root / LINK
    place.unlink()
    shutil.copytree(bundle, place)
    done = service.install(package, "--bundle", bundle)
    assert done.returncode == 2 and "is not a link of this installation" in done.stderr
    assert service.install(package).returncode == 0
    assert (place / "manifest.yaml").is_file()


def test_one_installation_at_a_time(service, package):
    place = service.root / "opt" / "rkyolo"
    probe = [program("flock"), "-n", place, "true"]
    with subprocess.Popen([program("flock"), "--no-fork", place, "sleep", "300"]) as holder:
        try:
            wait_for(lambda: subprocess.run(probe, timeout=60).returncode == 1, "the lock")
            done = service.install(package)
        finally:
            holder.kill()
    assert done.returncode == 2
    assert done.stderr.startswith("error: another installation is at work here")
