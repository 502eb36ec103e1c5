"""install.sh below an unpacked Debian 12 for arm64, with no network."""

import json
import re
import shutil

import pytest
from emulated import tree

PLACES = ("opt/rkyolo", "etc/rkyolo", "etc/systemd/system/rkyolo.service", "usr/local/bin/rkyolo")
PLACES += ("var/lib/rkyolo", "etc/systemd", "usr/local", "etc/systemd/system", "usr/local/bin")
PLACES += ("opt", "var/lib")


def test_it_installs_and_says_what_is_left_to_do(installed, root):
    assert installed.returncode == 0, installed.stderr
    assert installed.stderr == ""
    said = re.findall(r"^on the board: (\S+)", installed.stdout, re.MULTILINE)
    assert said[:3] == ["useradd", "groupadd", "groupadd"] and "systemctl" in said
    assert re.search(r"librknnrt\.so is not touched.*\n.*\(2\.5\.0\)", installed.stdout)
    assert "name your cameras in /etc/rkyolo/rkyolo.yaml" in installed.stdout
    unit = (root / "etc/systemd/system/rkyolo.service").read_text()
    program = re.search(r"ExecStart=(\S+)", unit)[1]
    first, *_ = (root / program.lstrip("/")).read_text().splitlines()
    assert first.startswith("#!/opt/rkyolo/releases/") and str(root) not in first
    assert (root / "var/lib/rkyolo/bundle/model.rknn").is_file()
    assert (root / "usr/local/bin/rkyolo").readlink().is_absolute()


def test_it_touches_nothing_else(installed, before, root):
    after = tree(root)
    changed = {path for path in before if path not in after or before[path] != after[path]}
    assert changed == {"etc/passwd"}  # as the fixture did for useradd
    added = after.keys() - before.keys()
    assert [path for path in added if not path.startswith(PLACES)] == []
    assert not [path for path in added if path.startswith("opt/rkyolo/current/lib/convert")]


def test_what_is_installed_is_for_the_board(installed, root):
    site = root / "opt/rkyolo/current/lib/python3.11/site-packages"
    libraries = [*site.rglob("*.so"), *site.rglob("*.so.*")]
    assert len(libraries) > 20
    assert {path.read_bytes()[18:20] for path in libraries} == {b"\xb7\0"}
    assert not (site / "convert").exists() and (site / "rknnlite").is_dir()


def test_again_it_changes_nothing_but_what_is_new(installed, root, install):
    settings = root / "etc/rkyolo/rkyolo.yaml"
    settings.write_text(settings.read_text() + "# mine\n")
    earlier = tree(root)
    done = install()
    assert done.returncode == 0, done.stderr
    assert "is there already" in done.stdout and "name your cameras" not in done.stdout
    assert tree(root) == earlier


def test_a_bundle_is_swapped_and_the_old_one_kept(installed, root, install, bundle, tmp_path):
    copy = tmp_path / "board"
    shutil.copytree(root, copy, symlinks=True)
    link = copy / "var/lib/rkyolo/bundle"
    old = link.readlink()
    other = shutil.copytree(bundle, tmp_path / "other")
    (other / "manifest.yaml").write_text((other / "manifest.yaml").read_text() + "# changed\n")
    assert install("--bundle", other, where=copy).returncode == 0
    assert link.readlink() != old and (link / "model.rknn").is_file()
    assert (link.parent / old / "model.rknn").is_file()
    assert install(where=copy).returncode == 0  # which keeps it
    assert str(link.readlink()).startswith("bundles/other-")


def test_removed_it_leaves_nothing(installed, before, root, install, tmp_path):
    copy = tmp_path / "board"
    shutil.copytree(root, copy, symlinks=True)
    done = install("--uninstall", where=copy)
    assert done.returncode == 0, done.stderr
    assert "on the board: userdel rkyolo" in done.stdout
    after = tree(copy)
    for users in (before, after):
        del users["etc/passwd"]
    assert after == before
    again = install("--uninstall", where=copy)
    assert again.returncode == 2 and "there is no rkyolo" in again.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param(["--bundle", "/nowhere"], "is no bundle", id="bundle"),
        pytest.param(["--bundle"], "needs a value", id="no-value"),
        pytest.param(["--what"], "there is no option --what", id="option"),
        pytest.param(["--watch", "long"], "is no number of seconds", id="seconds"),
        pytest.param(["--python", "python9"], "there is no python9 here", id="python"),
        pytest.param(["--python", "echo 3.9 #"], "is Python 3.9", id="another-python"),
        pytest.param(["--root", "/nowhere"], "is no folder", id="root"),
    ],
)
def test_bad_input(install, installed, root, options, said):
    earlier = tree(root)
    done = install(*options)
    assert done.returncode == 2
    assert said in done.stderr and done.stderr.count("\n") == 1
    assert tree(root) == earlier


def test_doctor_is_green(board, installed):
    """The command that install.sh prints, on the board."""
    printed = installed.stdout.splitlines()[-1].split()
    assert printed[3:5] == ["/opt/rkyolo/current/bin/rkyolo", "doctor"]
    assert printed[-1] == "/var/lib/rkyolo/bundle"
    done = board.run(*printed[4:-1], board.bundle, "--json")
    findings = json.loads(done.stdout)["findings"]
    assert done.returncode == 0, done.stdout
    assert {finding["state"] for finding in findings} == {"ok"}
    assert {"soc", "node", "library", "package", "driver", "model"} <= {
        f["check"] for f in findings
    }
