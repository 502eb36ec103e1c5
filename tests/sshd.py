"""A real sshd on a free loopback port, which runs as whoever runs the tests."""

import getpass
import shlex
import shutil
import subprocess
from pathlib import Path

from servers import Server, free_port, program


def keypair(path: Path) -> Path:
    options = ["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path]
    subprocess.run([program("ssh-keygen"), *options], check=True, timeout=60)
    return path


class Reached:
    """A machine behind sshd, as its user's ssh sees it. home: of the user there."""

    def __init__(self, folder: Path):
        self.home = folder / "home"
        self.home.mkdir()
        self._folder = folder
        self._key, host_key = keypair(folder / "key"), keypair(folder / "host_key")
        self._known = folder / "known_hosts"
        self.name = f"{getpass.getuser()}@127.0.0.1"
        shutil.copy(folder / "key.pub", folder / "authorized_keys")
        # whose home it really is, nothing is left in
        at_home = folder / "at_home.sh"
        at_home.write_text(
            f'cd {self.home} && HOME={self.home} exec sh -c "$SSH_ORIGINAL_COMMAND"\n'
        )
        self.port = free_port()
        settings = folder / "sshd_config"
        settings.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {host_key}\nPidFile none\n"
            f"AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nUsePAM no\n"
            f"PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            f"PermitRootLogin prohibit-password\nForceCommand sh {at_home}\n"
        )
        command = [program("sshd"), "-D", "-e", "-f", str(settings)]
        self.server = Server(command, self.port, folder / "sshd.log")
        public = (folder / "host_key.pub").read_text()
        self._known.write_text(f"[127.0.0.1]:{self.port} {public}")

    def ssh(self, key: Path | None = None, port: int | None = None) -> str:
        """The command that reaches it."""
        options = ["-F", "none", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"]
        options += ["-o", f"UserKnownHostsFile={self._known}", "-o", "LogLevel=ERROR"]
        return shlex.join(
            ["ssh", *options, "-i", str(key or self._key), "-p", str(port or self.port)]
        )
