"""Which simulator is this desk's own, and where it listens; several desks may share a machine.

The simulator's four services have ports in a row. `up` takes the first four that are free and
writes down which, so that every command of this desk finds them, and a second desk others. Each
request to the simulator names the desk, and each answer does: what was meant for another desk is
refused on both sides.
"""

import contextlib
import hashlib
import json
import os
import socket
from pathlib import Path

import psutil

from tradingsite import keys

SERVICES = ("kite", "exchange", "telegram", "news")
FIRST = 8801
ROWS_TRIED = 50
HEADER = "X-Sim-Desk"
LOOPBACK = "127.0.0.1"


class NoPorts(Exception):
    """No row of ports is free; the message says where was looked."""


def desk_id(folder: Path) -> str:
    """Return what names the desk of a data folder; a copy of the folder is another desk."""
    return hashlib.sha256(f"{keys.secret(folder / 'desk_id')} {folder}".encode()).hexdigest()[:16]


def first_port(folder: Path, wanted: int) -> int:
    """Return the first port of the desk's simulator: as `up` found it, else as it is wanted."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        record = json.loads(_record(folder).read_text())
        if record["wanted"] == wanted:
            return int(record["found"])
    return wanted


def choose(folder: Path, wanted: int, used: tuple[str, ...] = SERVICES) -> int:
    """Return the first port of a row whose ports are free, and write it down; raise NoPorts.

    Only the used services count: the others were put elsewhere by settings.
    """
    places = [SERVICES.index(name) for name in used]
    for row in range(ROWS_TRIED):
        first = wanted + row * len(SERVICES)
        if all(is_free(first + place) for place in places):
            record = _record(folder)
            record.parent.mkdir(parents=True, exist_ok=True)
            scratch = record.with_suffix(f".{os.getpid()}")
            scratch.write_text(json.dumps({"wanted": wanted, "found": first}))
            scratch.replace(record)
            return first
    last = wanted + ROWS_TRIED * len(SERVICES) - 1
    raise NoPorts(f"ports {wanted} to {last} of {LOOPBACK} are in use: set SIM_PORT")


def is_free(port: int, address: str = LOOPBACK) -> bool:
    """Return whether a server could have a port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except (OSError, OverflowError):
            return False
    return True


def holder(port: int) -> str:
    """Return who listens on a port, as far as this user may know."""
    with contextlib.suppress(psutil.Error, OSError):
        for each in psutil.net_connections(kind="tcp"):
            if each.status != psutil.CONN_LISTEN or each.laddr.port != port or not each.pid:
                continue
            process = psutil.Process(each.pid)
            command = " ".join(process.cmdline()[:4])
            return f"process {each.pid} ({command}, in {process.cwd()})"
    return "another user's process"


def _record(folder: Path) -> Path:
    return folder / "simulator" / "ports.json"
