"""PROD's way to PC: rsync over ssh, with a pinned host key, time-outs and a limit to its speed.

What a cut link left half sent is gone on with. Only PROD dials, so only PC has an sshd, which
listens in the tunnel between the two and lets PROD's key do nothing but rsync in PC's data folder.
"""

import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from tradingsite.errors import Degraded, Retry

CONNECT_SECONDS = 10
SILENCE_SECONDS = 30
TRIES = 4
PAUSE_SECONDS = 3.0
"""Before the second try, and longer before each one after it."""
PARTIAL = ".rsync-partial"
# rsync's exit codes: of the protocol's stream, of a socket, of a time-out; 255 is ssh's own.
_BROKEN = {10, 12, 30, 35, 255}
_FILE_ERROR = 11


class NoSpace(Degraded):
    """The target disk is full; nothing of the source was touched."""


class LinkDown(Retry):
    """PC does not answer, or fell silent; what was sent so far is kept for the next try."""


class LinkRefused(Degraded):
    """PC answers and refuses: it is not the machine it was, or does not take our key."""


@dataclass(frozen=True, slots=True)
class Link:
    """Where PC is and how it is known."""

    host: str
    port: int
    key: Path
    known_hosts: Path
    limit_kbps: int = 0

    def push(self, source: Path, destination: str) -> int:
        """Make a folder on PC equal to one here; return the bytes that were sent."""
        return self._rsync(f"{source}/", f"{self.host}:{destination}/")

    def pull(self, source: str, destination: Path) -> int:
        """Make a folder here equal to one on PC; return the bytes that were received."""
        return self._rsync(f"{self.host}:{source}/", f"{destination}/")

    def _rsync(self, source: str, destination: str) -> int:
        for number in range(1, TRIES + 1):
            try:
                return self._once(source, destination)
            except LinkDown:
                if number == TRIES:
                    raise
                time.sleep(PAUSE_SECONDS * number)
        raise AssertionError("unreachable")

    def _once(self, source: str, destination: str) -> int:
        command = [
            *("rsync", "--recursive", "--times", "--delete", "--mkpath", "--stats"),
            *(f"--partial-dir={PARTIAL}", f"--timeout={SILENCE_SECONDS}", "--no-motd"),
            *(f"--bwlimit={self.limit_kbps}", "-e", " ".join(self._ssh())),
            *(source, destination),
        ]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            raise LinkRefused("rsync is not installed on this machine") from error
        if answer.returncode:
            # What the other end says of its disk comes by stdout.
            raise self._reaction(answer.returncode, answer.stdout + answer.stderr)
        figures = re.findall(r"Total bytes (?:sent|received): ([\d,.]+)", answer.stdout)
        return max(int(re.sub(r"\D", "", figure)) for figure in figures)

    def _ssh(self) -> list[str]:
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": str(self.known_hosts),
            "GlobalKnownHostsFile": "/dev/null",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "PasswordAuthentication": "no",
            "ConnectTimeout": str(CONNECT_SECONDS),
            "ServerAliveInterval": "5",
            "ServerAliveCountMax": "3",
        }
        told = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        return ["ssh", "-F", "/dev/null", "-p", str(self.port), "-i", str(self.key), *told]

    def _reaction(self, code: int, said: str) -> Exception:
        """Return the error that says what happened and what to do."""
        last = said.strip().splitlines()[-1] if said.strip() else f"rsync ended with {code}"
        if "Host key verification failed" in said or "IDENTIFICATION HAS CHANGED" in said:
            return LinkRefused(
                f"{self.host} does not show the host key that {self.known_hosts} pins: if PC was "
                f"set up anew, pin its new key there; if not, somebody stands in between"
            )
        if "Permission denied" in said and code == 255:
            return LinkRefused(
                f"{self.host} does not take the key {self.key}: add its public half to PC's "
                f"authorized_keys"
            )
        if "No space left on device" in said or "Disk quota exceeded" in said:
            return NoSpace(f"no disk space at the other end: {last}. Make room and run it again")
        if code == _FILE_ERROR and not said.strip():
            # A receiver that cannot write may be gone before its reason has arrived.
            return NoSpace(
                f"{self.host} could not write what it was sent: no disk space, most likely. Look "
                f"there and run it again"
            )
        if code in _BROKEN or code < 0:  # killed, here
            return LinkDown(f"{self.host} does not answer: {last}")
        return LinkRefused(f"{self.host}: {last}")


def to_pc() -> Link:
    """Return the link as the settings describe it; raise LinkRefused saying what is missing."""
    if not settings.PC_SSH:
        raise LinkRefused("PC_SSH is not set: PROD does not know where PC is")
    host, _, port = settings.PC_SSH.partition(":")
    for path in (settings.PC_SSH_KEY, settings.PC_KNOWN_HOSTS):
        if not Path(path).is_file():
            raise LinkRefused(f"{path} is missing: PROD cannot reach PC without it")
    return Link(
        host,
        int(port or 22),
        Path(settings.PC_SSH_KEY),
        Path(settings.PC_KNOWN_HOSTS),
        settings.LINK_KBPS,
    )
