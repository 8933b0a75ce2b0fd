"""The broker's day token: one small file that every process of this machine reads.

It is kept outside the database, so that no dump carries it to another machine, and it is replaced
whole, so that running services have the new one at their next call without a restart.
"""

from __future__ import annotations

import datetime as dt
import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from tradingsite import clock

FOLDER_MODE, FILE_MODE = 0o700, 0o600
# https://kite.trade/docs/connect/v3/user/: tokens end in the early morning of the next day.
DIES_AT = dt.time(6)


@dataclass(frozen=True, slots=True)
class KiteConfig:
    """Say where the broker is and who we are there; secrets are not shown by `repr`."""

    api_key: str
    api_secret: str = field(repr=False)
    user_id: str = ""
    password: str = field(default="", repr=False)
    totp_secret: str = field(default="", repr=False)
    root: str = "https://api.kite.trade"
    login_root: str = "https://kite.zerodha.com"
    ws_root: str = "wss://ws.kite.trade"
    desk: str = ""
    """What names this desk to its own simulator; "" where the broker is the real one."""

    @property
    def login_page(self) -> str:
        """Return the address of the page where a person signs in, without its query."""
        return f"{self.login_root.rstrip('/')}/connect/login"


@dataclass(frozen=True, slots=True)
class TokenState:
    """What the file holds."""

    token: str = field(default="", repr=False)
    user: str = ""
    obtained_at: str = ""
    """Real time in ISO form, with its offset."""
    market_at: str = ""
    """The market's time of the same moment, by which it dies."""
    refused_on: str = ""
    """The market's date (ISO) on which nobody signed in by the deadline."""
    renewed_on: str = ""
    """The market's date (ISO) on which the desk signed in again in the middle of the day."""

    @property
    def dies_at(self) -> dt.datetime | None:
        """Return the market's time from which the broker takes the token no more."""
        if not self.token:
            return None
        at = dt.datetime.fromisoformat(self.market_at).astimezone(clock.IST)
        dies = dt.datetime.combine(at.date(), DIES_AT, clock.IST)
        return dies if at < dies else dies + dt.timedelta(days=1)


class TokenStore:
    """Keep the day token in a file that only its owner can read.

    Whoever is about to take new risk reads two things: `current()`, "" while there is no token, and
    `is_refused_on(date)`: the morning's job gave up, and there is no trading that day. Saving a
    token takes the refusal back, because then somebody signed in after all.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state = TokenState()
        self._read_at = (0, 0)

    def current(self) -> str:
        """Return the token as it is now, "" where there is none; costs one `stat` call."""
        return self.state().token

    def state(self) -> TokenState:
        """Return all that is known; a file that cannot be read counts as none."""
        try:
            found = self.path.stat()
            # The inode too: two replacements can fall into one tick of the file system's clock.
            read_at = (found.st_mtime_ns, found.st_ino)
            if read_at != self._read_at:
                self._state = TokenState(**json.loads(self.path.read_text()))
                self._read_at = read_at
        except (OSError, ValueError, TypeError):
            self._state, self._read_at = TokenState(), (0, 0)
        return self._state

    @property
    def age(self) -> dt.timedelta | None:
        """Return how long ago (real time) the token was obtained, None where there is none."""
        state = self.state()
        if not state.token:
            return None
        return clock.real() - dt.datetime.fromisoformat(state.obtained_at)

    def is_refused_on(self, date: dt.date) -> bool:
        """Return whether there is no trading on a market date for want of a token."""
        return self.state().refused_on == date.isoformat()

    def save(self, token: str, user: str) -> None:
        """Keep a new token; every process has it at its next look."""
        at, market_at = clock.real().isoformat(), clock.market().isoformat()
        self._write(TokenState(token, user, at, market_at, renewed_on=self.state().renewed_on))

    def refuse(self, date: dt.date) -> None:
        """Say that there is no trading on a market date."""
        self._write(replace(self.state(), refused_on=date.isoformat()))

    def may_renew_on(self, date: dt.date) -> bool:
        """Return True once a market date: accounts lock when somebody signs in over and over."""
        state = self.state()
        if state.renewed_on == date.isoformat():
            return False
        self._write(replace(state, renewed_on=date.isoformat()))
        return True

    def forget(self) -> None:
        """Drop the token."""
        self.path.unlink(missing_ok=True)

    def _write(self, state: TokenState) -> None:
        folder = self.path.parent
        folder.mkdir(parents=True, exist_ok=True, mode=FOLDER_MODE)
        folder.chmod(FOLDER_MODE)
        scratch = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        scratch.unlink(missing_ok=True)
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(state), file)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(self.path)
