"""A real sshd on this machine, as PC's: on a port of its own, for keys that a test makes."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.tools import missing
from tradingsite.machines.ssh import Link

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
RRSYNC = "/usr/bin/rrsync"


@dataclass
class Pc:
    """An sshd, the folder with its keys, and what PROD needs to reach it."""

    port: int
    folder: Path
    authorized: Path
    known_hosts: Path

    def link(self, key: Path, limit_kbps: int = 0) -> Link:
        """Return the link by a key."""
        user = getpass.getuser()
        return Link(f"{user}@127.0.0.1", self.port, key, self.known_hosts, limit_kbps)

    def key(self, name: str, command: str) -> Path:
        """Make a key that may do one thing."""
        path = self.folder / name
        _make_key(path)
        public = path.with_name(f"{name}.pub").read_text()
        with self.authorized.open("a") as file:
            file.write(f'command="{command}",restrict {public}')
        return path


@contextmanager
def sshd(folder: Path) -> Iterator[Pc]:
    """Run an sshd in a folder, whose name may have a space in it."""
    program = shutil.which("sshd", path=_PATH)
    for tool in ("ssh", "ssh-keygen", "rsync"):
        if shutil.which(tool) is None:
            missing(tool)
    if program is None:
        missing("sshd")
    if not Path(RRSYNC).exists():
        missing("rrsync")
    folder.mkdir(parents=True, exist_ok=True)
    # sshd wants the directory of its privilege separation, which a package's start script makes.
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    place = folder / "sshd"  # its own configuration knows no quotes
    place.mkdir()
    _make_key(place / "host_key")
    port = _free_port()
    config = place / "config"
    authorized = place / "authorized_keys"
    authorized.touch()
    tokens = str(authorized).replace("%", "%%")
    config.write_text(
        f'Port {port}\nListenAddress 127.0.0.1\nHostKey "{place / "host_key"}"\n'
        f'AuthorizedKeysFile "{tokens}"\nPidFile none\nStrictModes no\nUsePAM no\n'
        "PasswordAuthentication no\nPermitRootLogin prohibit-password\nLogLevel ERROR\n"
    )
    known = folder / "known hosts"
    known.write_text(f"[127.0.0.1]:{port} {(place / 'host_key.pub').read_text()}")
    process = subprocess.Popen([program, "-D", "-e", "-f", str(config)], stderr=subprocess.DEVNULL)
    try:
        _wait_for(port)
        yield Pc(port, folder, authorized, known)
    finally:
        process.terminate()
        process.wait()


def _make_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int) -> None:
    until = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
