"""How fast the simulated market runs, and the keeping of its clock file."""

import datetime as dt
import time

from django.conf import settings

from markets.domain.calendar import Calendar, ist_instant, trading_date
from tradingsite import clock
from tradingsite.clock import FROZEN_AFTER_SECONDS, Anchor, Epoch, SimulatedClock

DAY_STARTS = dt.time(9, 0)
DAY_ENDS = dt.time(21, 0)
REWRITE_SECONDS = 1.0
# No two sessions of the exchange are further apart.
_NEXT_DAY_REACH = dt.timedelta(days=20)


class Pace:
    """Give the speed of each instant: a session day's slowly, nights and holidays quickly.

    Towards a day's start the market brakes, so that however late a loop may come (the clock
    stands still without it), night speed never carries the market into a session.
    """

    def __init__(self, calendar: Calendar, day_speed: float, night_speed: float) -> None:
        self._calendar = calendar
        self._day_speed = day_speed
        self._night_speed = night_speed
        self._next_start = 0

    def speed_at(self, at: float) -> float:
        """Return market seconds per real second."""
        date = trading_date(Epoch(at))
        starts_at = ist_instant(date, DAY_STARTS)
        is_session_day = self._calendar.session_on(date) is not None
        if is_session_day and starts_at <= at < ist_instant(date, DAY_ENDS):
            return self._day_speed
        if at >= self._next_start:
            self._next_start = self._start_after(at)
        braked = max((self._next_start - at) / FROZEN_AFTER_SECONDS, self._day_speed)
        return min(braked, self._night_speed)

    def _start_after(self, at: float) -> int:
        date = trading_date(Epoch(at))
        for session in self._calendar.sessions(date, date + _NEXT_DAY_REACH):
            starts_at = ist_instant(session.date, DAY_STARTS)
            if starts_at > at:
                return starts_at
        # The calendar ends: whoever runs the market stops it there.
        return int(at) + 86_400


class ClockKeeper:
    """Keep the market's clock going: nobody else writes its file."""

    def __init__(self, simulated: SimulatedClock, pace: Pace) -> None:
        self._clock = simulated
        self._pace = pace

    def now(self) -> float:
        """Return the market's time just as every reader computes it."""
        return self._anchor().at(time.time())

    @property
    def speed(self) -> float:
        """Return the speed last written."""
        return self._anchor().speed

    def advance(self) -> None:
        """Write the anchor again when it is due: time goes on from where readers see it."""
        anchor, real = self._anchor(), time.time()
        now = anchor.at(real)
        speed = self._pace.speed_at(now)
        # A real clock set back leaves the anchor in the future, and the market standing.
        if not 0.0 <= real - anchor.real < REWRITE_SECONDS or speed < anchor.speed:
            self._clock.write(Anchor(now, real, speed))

    def freeze(self) -> None:
        """Stop market time here and now, for every reader and for as long as nobody goes on."""
        anchor, real = self._anchor(), time.time()
        ran = FROZEN_AFTER_SECONDS * anchor.speed
        frozen = Anchor(anchor.at(real) - ran, real - FROZEN_AFTER_SECONDS, anchor.speed)
        self._clock.write(frozen)

    def _anchor(self) -> Anchor:
        anchor = self._clock.anchor()
        if anchor is None:
            raise RuntimeError(f"the market's clock {self._clock.path} went away while it ran")
        return anchor


def start_clock(newest_bar_closes_at: Epoch | None = None) -> SimulatedClock:
    """Return the simulated clock, set to its first morning unless it has run before.

    Where bars later than that are stored already, market time starts from them: it never goes
    back. Raises RuntimeError outside simulated mode.
    """
    simulated = clock.simulated()
    if simulated is None:
        raise RuntimeError("only MODE=simulated has a market clock of its own")
    if simulated.anchor() is None:
        first = max(first_instant(), newest_bar_closes_at or 0)
        simulated.write(Anchor(float(first), time.time(), settings.SIM_SPEED))
    return simulated


def first_instant() -> Epoch:
    """Return when the simulated market starts for the first time: 09:00 IST of SIM_START."""
    return ist_instant(dt.date.fromisoformat(settings.SIM_START), DAY_STARTS)
