"""What the settings say about venues: where they are, who we are there, and with which secrets.

A secret is in its variable, or in the file that `NAME_FILE` names, and nowhere else. The simulator
has credentials of its own, and a simulated desk uses those whatever the environment holds: an
owner's keys have no business there. Which addresses are allowed follows from the mode, so that no
desk trades real money by a forgotten line, nor believes that it does.
"""

from __future__ import annotations

import ipaddress
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tradingsite import simulator_ports
from tradingsite.errors import BadSetting

SIMULATED = "simulated"
LOGINS = ("interactive", "headless")
# Where the services of the simulator listen; the real ones' own addresses otherwise.
SIMULATED_ADDRESSES = {
    "KITE_ROOT": ("http", "kite"),
    "KITE_LOGIN_ROOT": ("http", "kite"),
    "KITE_WS_ROOT": ("ws", "kite"),
    "EXCHANGE_URL": ("http", "exchange"),
    "TELEGRAM_ROOT": ("http", "telegram"),
}
REAL_ADDRESSES = {
    "KITE_ROOT": "https://api.kite.trade",
    "KITE_LOGIN_ROOT": "https://kite.zerodha.com",
    "KITE_WS_ROOT": "wss://ws.kite.trade",
    "EXCHANGE_URL": "",  # the library knows each exchange's own
    "TELEGRAM_ROOT": "https://api.telegram.org",
}


class BadVenueSetting(BadSetting):
    """A setting of a venue that does not fit the mode, or a secret's file that is not fit."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Read the settings of venues from an environment."""

    mode: str
    environment: Mapping[str, str]
    simulated: Mapping[str, object]
    """The simulator's own credentials by name."""
    sim_port: int = simulator_ports.FIRST
    """The first of the simulator's ports."""

    def text(self, name: str, default: str = "") -> str:
        """Return what says who we are: the simulator's in simulated mode."""
        if self.mode == SIMULATED:
            return str(self.simulated.get(name, default))
        return self.environment.get(name, "") or default

    def secret(self, name: str) -> str:
        """Return a secret from its variable or the file named for it; "" where there is none."""
        if self.mode == SIMULATED:
            return self.text(name)
        value, file = self.environment.get(name, ""), self.environment.get(f"{name}_FILE", "")
        if value and file:
            raise BadVenueSetting(f"{name} and {name}_FILE are both set; keep one of them")
        return _read(f"{name}_FILE", Path(file)) if file else value

    def address(self, name: str) -> str:
        """Return a venue's address; raise BadVenueSetting for one that does not fit the mode."""
        address = self.environment.get(name, "") or self._default(name)
        if not address:
            return ""
        if self.mode == SIMULATED and not is_loopback(address):
            raise BadVenueSetting(
                f"MODE=simulated speaks to the simulator on this machine only, but {name} is "
                f"{address}; remove {name}, or choose MODE=paper or MODE=live"
            )
        if self.mode != SIMULATED and is_loopback(address):
            raise BadVenueSetting(
                f"MODE={self.mode} needs the real venue, but {name} is {address}, which is this "
                f"machine; remove {name}, or choose MODE=simulated"
            )
        return address

    def _default(self, name: str) -> str:
        if self.mode != SIMULATED:
            return REAL_ADDRESSES[name]
        scheme, service = SIMULATED_ADDRESSES[name]
        port = self.sim_port + simulator_ports.SERVICES.index(service)
        return f"{scheme}://{simulator_ports.LOOPBACK}:{port}"

    def login(self) -> str:
        """Return how the day's token is fetched: by a person unless the owner opted otherwise."""
        default = "headless" if self.mode == SIMULATED else "interactive"
        login = self.environment.get("KITE_LOGIN", "") or default
        if login not in LOGINS:
            raise BadVenueSetting(f"KITE_LOGIN must be {' or '.join(LOGINS)}, was {login!r}")
        return login


def is_loopback(address: str) -> bool:
    """Return whether an address is of this machine; raise BadVenueSetting for one without host."""
    host = urlsplit(address).hostname
    if not host:
        raise BadVenueSetting(f"{address!r} is no address; it needs a scheme and a host")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return False
    return ip.is_loopback or ip.is_unspecified


def _read(name: str, path: Path) -> str:
    try:
        mode = path.stat().st_mode
        if mode & stat.S_IROTH:
            raise BadVenueSetting(f"{name} {path} can be read by everybody: chmod 600 {path}")
        return path.read_text().strip()
    except OSError as error:
        raise BadVenueSetting(f"{name} {path} cannot be read: {error.strerror}") from error
