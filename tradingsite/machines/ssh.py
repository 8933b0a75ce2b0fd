"""PROD's way to PC: rsync over ssh, with a pinned host key, bounds and a limit to its speed.

What a cut link left half sent is gone on with. Only PROD dials, so only PC has an sshd, which
listens in the tunnel between the two and lets PROD's keys do nothing but rsync: one writes and
reads in the folder that both use, the other only reads in PC's archive. PC is not trusted: what it
sends is watched, and ended where it is too much or takes too long.
"""

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from django.conf import settings

from tradingsite.errors import Degraded, Retry

CONNECT_SECONDS = 10
SILENCE_SECONDS = 30
TRIES = 4
PAUSE_SECONDS = 3.0
"""Before the second try, and longer before each one after it."""
LONGEST_SECONDS = 1_800.0
"""How long one transfer may take, all in all."""
LOOK_SECONDS = 0.1
SAID_BYTES = 1 << 20
"""How much the other end may say beside what it sends."""
# rsync's exit codes: of the protocol's stream, of a socket, of a time-out; 255 is ssh's own.
_BROKEN = {10, 12, 30, 35, 255}
_FILE_ERROR = 11
# Of rsync's own memory, which a long enough list of files would fill.
_MEMORY = "64m"


class NoSpace(Degraded):
    """The target disk is full; nothing of the source was touched."""


class LinkDown(Retry):
    """PC does not answer, or fell silent; what was sent so far is kept for the next try."""


class LinkRefused(Degraded):
    """PC answers and refuses: it is not the machine it was, or does not take our key."""


class TooMuch(LinkRefused):
    """PC sends more than it should, or takes too long; what it sent is not used."""


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

    def pull(self, source: str, destination: Path, limit_bytes: int) -> int:
        """Make a folder here equal to one on PC; return the bytes that were received.

        Raises TooMuch, with the folder as it is then, where there are more than `limit_bytes`.
        """
        return self._rsync(f"{self.host}:{source}/", f"{destination}/", destination, limit_bytes)

    def _rsync(
        self, source: str, destination: str, watched: Path | None = None, limit_bytes: int = 0
    ) -> int:
        for number in range(1, TRIES + 1):
            try:
                return self._once(source, destination, watched, limit_bytes)
            except LinkDown:
                if number == TRIES:
                    raise
                time.sleep(PAUSE_SECONDS * number)
        raise AssertionError("unreachable")

    def _once(self, source: str, destination: str, watched: Path | None, limit_bytes: int) -> int:
        command = [
            *("rsync", "--recursive", "--times", "--delete", "--mkpath", "--stats", "--partial"),
            *(f"--timeout={SILENCE_SECONDS}", "--no-motd", f"--max-alloc={_MEMORY}"),
            *([f"--max-size={limit_bytes}"] if watched else []),
            *(f"--bwlimit={self.limit_kbps}", "-e", " ".join(map(_quoted, self._ssh()))),
            *(source, destination),
        ]
        with tempfile.TemporaryFile("w+", errors="replace") as said:
            try:
                process = subprocess.Popen(
                    command, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
                )
            except FileNotFoundError as error:
                raise LinkRefused("rsync is not installed on this machine") from error
            self._watch(process, said, watched, limit_bytes)
            said.seek(0)
            told = said.read(SAID_BYTES)
        if process.returncode:
            # What the other end says of its disk comes by stdout.
            raise self._reaction(process.returncode, told)
        figures = re.findall(r"Total bytes (?:sent|received): ([\d,.]+)", told)
        return max(int(re.sub(r"\D", "", figure)) for figure in figures)

    def _watch(
        self,
        process: subprocess.Popen[bytes],
        said: IO[str],
        watched: Path | None,
        limit_bytes: int,
    ) -> None:
        """Wait for a transfer, and end it where it goes beyond its bounds."""
        until = time.monotonic() + LONGEST_SECONDS
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(LOOK_SECONDS)
                if watched and (here := _bytes_in(watched)) > limit_bytes:
                    raise TooMuch(
                        f"{self.host} sent {here:,} bytes where {limit_bytes:,} are allowed: it "
                        f"was ended. Look at what runs there"
                    )
                if os.fstat(said.fileno()).st_size > SAID_BYTES:
                    raise TooMuch(f"{self.host} talks without an end: it was ended")
                if process.returncode is not None:
                    return
                if time.monotonic() > until:
                    raise TooMuch(
                        f"{self.host} took more than {LONGEST_SECONDS:.0f} s: it was ended"
                    )
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _ssh(self) -> list[str]:
        options = {
            "IdentityFile": _for_ssh(self.key),
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": _for_ssh(self.known_hosts),
            "GlobalKnownHostsFile": "/dev/null",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "PasswordAuthentication": "no",
            "ConnectTimeout": str(CONNECT_SECONDS),
            "ServerAliveInterval": "5",
            "ServerAliveCountMax": "3",
        }
        told = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        return ["ssh", "-F", "/dev/null", "-p", str(self.port), *told]

    def _reaction(self, code: int, said: str) -> Exception:
        """Return the error that says what happened and what to do."""
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        last = lines[-1] if lines else f"rsync ended with {code}"
        refusal = next((line for line in lines if "rrsync error:" in line), "")
        if refusal:
            # It ends the connection, so that rsync's own last line is about a broken stream.
            return LinkRefused(
                f"{self.host} refuses what PROD asks of it: {refusal[:300]}. See the lines for "
                f"PC's authorized_keys in the README"
            )
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


def to_pc(*, reads: bool = False) -> Link:
    """Return the link by the key that writes, or by the one that reads PC's archive.

    Raises LinkRefused saying what is missing.
    """
    if not settings.PC_SSH:
        raise LinkRefused("PC_SSH is not set: PROD does not know where PC is")
    host, _, port = settings.PC_SSH.partition(":")
    key = Path(settings.PC_SSH_READ_KEY if reads else settings.PC_SSH_KEY)
    for path in (key, Path(settings.PC_KNOWN_HOSTS)):
        if not path.is_file():
            raise LinkRefused(f"{path} is missing: PROD cannot reach PC without it")
    return Link(host, int(port or 22), key, Path(settings.PC_KNOWN_HOSTS), settings.LINK_KBPS)


def _bytes_in(folder: Path) -> int:
    """Return the bytes of the files below a folder, which may change meanwhile."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118
            except FileNotFoundError:
                continue  # renamed into place
    return total


def _quoted(word: str) -> str:
    """Return a word of rsync's -e: within quotes, in which a quote is written twice."""
    return word if re.fullmatch(r"[\w./=@:%+-]+", word) else '"' + word.replace('"', '""') + '"'


def _for_ssh(path: Path) -> str:
    """Return a path as a value of ssh's options, of which each word would be a file."""
    return '"' + str(path).replace("%", "%%") + '"'
