"""When each market is open: sessions as data, with their source, for NSE and for crypto."""

from __future__ import annotations

import csv
import datetime
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from markets.domain.bars import IntArray
from markets.domain.hours import NSE_HOURS, NSE_INDEX_HOURS, NSE_PAUSES
from markets.domain.timeframes import seconds
from tradingsite.clock import Epoch

DAY_SECONDS = 86_400
IST_OFFSET_SECONDS = 19_800
NSE_CALENDAR_FILE = Path(__file__).parent / "data" / "nse_calendar.csv"
NSE_FIRST_DATE = datetime.date(2007, 1, 1)
NSE_LAST_DATE = datetime.date(2026, 12, 31)
# Before the first daily bar we hold, nothing confirms that a listed session took place.
NSE_FIRST_EVIDENCE = datetime.date(2007, 9, 17)
SESSION_KINDS = ("normal", "special", "muhurat")

_EPOCH_ORDINAL = datetime.date(1970, 1, 1).toordinal()
_INDEX_HOURS_FROM = NSE_INDEX_HOURS.effective.toordinal() - _EPOCH_ORDINAL
_SATURDAY = 5


class BadCalendar(ValueError):
    """A calendar that contradicts itself or does not parse; the message names the entry."""


@dataclass(frozen=True, slots=True)
class Session:
    """Hold one trading session; its times are epoch seconds UTC, its date the market's own."""

    date: datetime.date
    opens_at: Epoch
    closes_at: Epoch
    kind: str
    verified: bool
    source: str


@dataclass(frozen=True, slots=True)
class Day:
    """Hold what a calendar knows of one date; a holiday has no times."""

    date: datetime.date
    kind: str
    opens_at: Epoch | None
    closes_at: Epoch | None
    name: str
    source: str
    verified: bool


def epoch_day(date: datetime.date) -> int:
    """Return the number of days from 1970-01-01 to a date."""
    return date.toordinal() - _EPOCH_ORDINAL


def date_of_epoch_day(day: int) -> datetime.date:
    """Return the date a number of days after 1970-01-01."""
    return datetime.date.fromordinal(day + _EPOCH_ORDINAL)


def ist_days(at: IntArray) -> IntArray:
    """Return the IST date of each instant, as days since 1970-01-01."""
    return (at + IST_OFFSET_SECONDS) // DAY_SECONDS


def trading_date(at: Epoch) -> datetime.date:
    """Return the IST date of an instant."""
    return date_of_epoch_day((at + IST_OFFSET_SECONDS) // DAY_SECONDS)


def ist_instant(date: datetime.date, time: datetime.time) -> Epoch:
    """Return the epoch seconds of a wall clock time in India, which keeps one offset all year."""
    second_of_day = time.hour * 3_600 + time.minute * 60 + time.second
    return Epoch(epoch_day(date) * DAY_SECONDS + second_of_day - IST_OFFSET_SECONDS)


class Calendar(ABC):
    """Answer when a market is open; every instant is epoch seconds UTC."""

    name: str

    @abstractmethod
    def session_on(self, date: datetime.date) -> Session | None:
        """Return the session of a date, or None where the market is closed or unknown."""

    @abstractmethod
    def session_at(self, at: Epoch) -> Session | None:
        """Return the session open at an instant: opens_at <= at < closes_at."""

    @abstractmethod
    def next_session(self, at: Epoch) -> Session | None:
        """Return the first session that opens after an instant, None where the calendar ends."""

    @abstractmethod
    def previous_session(self, at: Epoch) -> Session | None:
        """Return the last session that has closed by an instant, None before the first."""

    @abstractmethod
    def covers(self, date: datetime.date) -> bool:
        """Return whether the calendar reaches a date at all; outside it nothing is known."""

    @abstractmethod
    def is_verified(self, date: datetime.date) -> bool:
        """Return whether what is said of a date is confirmed; no order goes out where it is not."""

    @abstractmethod
    def closes_at(self, timeframe: str, opens_at: IntArray) -> IntArray:
        """Return the first instant at which each bar may be used.

        That is its nominal end, cut off at the close of its session, with which the last bar of a
        session ends in any case. A daily bar belongs to the
        session of its date; any other bar outside every session keeps its nominal end.
        """

    @abstractmethod
    def sessions(self, start: datetime.date, end: datetime.date) -> list[Session]:
        """Return the sessions from start to end, both included."""

    def edges(self) -> tuple[IntArray, IntArray]:
        """Return when all sessions open and close, in order; a market without an end has none."""
        none = np.array([], dtype=np.int64)
        return none, none

    def pause_on(self, date: datetime.date) -> tuple[int, int] | None:
        """Return when the session of a date stops and resumes, None where it goes through."""
        return None

    def is_open(self, at: Epoch) -> bool:
        """Return whether a session is open at an instant, and not paused."""
        session = self.session_at(at)
        if session is None:
            return False
        pause = self.pause_on(session.date)
        return pause is None or not pause[0] <= at < pause[1]

    def silences_on(self, date: datetime.date) -> list[tuple[int, int]]:
        """Return when in the session of a date its underlying has no price: trading goes on."""
        return []

    def bar_opens(self, timeframe: str, date: datetime.date) -> list[int]:
        """Return the opens of the bars of a date's session; a daily bar opens with it.

        A bar that lies in a pause, or in which the underlying has no price, is not among them.
        """
        session = self.session_on(date)
        if session is None:
            return []
        length = seconds(timeframe)
        opens = range(session.opens_at, session.closes_at, length)
        pause = self.pause_on(date)
        without = self.silences_on(date) + ([pause] if pause else [])
        if not without:
            return list(opens)
        return [
            at
            for at in opens
            if not any(
                first <= at and min(at + length, session.closes_at) <= end for first, end in without
            )
        ]


class NseCalendar(Calendar):
    """Answer from a list of sessions; dates outside the list are unknown, not open."""

    name = "NSE"

    def __init__(
        self,
        sessions: Sequence[Session],
        holidays: Mapping[datetime.date, bool] | None = None,
    ) -> None:
        """Take the sessions and, where known, the closed dates and whether each is verified.

        Without `holidays` every weekday between the first and the last session that has none
        counts as a verified holiday; with it such a weekday is not verified. Raise BadCalendar
        for sessions that overlap or end before they open.
        """
        self._sessions = sorted(sessions, key=lambda session: session.opens_at)
        self._holidays = holidays
        self._on = {session.date: session for session in self._sessions}
        self._opens = np.array([each.opens_at for each in self._sessions], dtype=np.int64)
        self._closes = np.array([each.closes_at for each in self._sessions], dtype=np.int64)
        self._days = np.array([epoch_day(each.date) for each in self._sessions], dtype=np.int64)
        self._check()
        # Python integers keep bisection over single instants fast.
        self._open_list: list[int] = self._opens.tolist()
        self._close_list: list[int] = self._closes.tolist()
        known = [*self._on, *(holidays or ())]
        self.first_date = min(known, default=None)
        self.last_date = max(known, default=None)

    @classmethod
    def from_days(cls, days: Iterable[Day]) -> NseCalendar:
        """Return the calendar of day rows; raise BadCalendar naming a row without its times."""
        sessions: list[Session] = []
        holidays: dict[datetime.date, bool] = {}
        for day in days:
            if day.kind == "holiday":
                holidays[day.date] = day.verified
            else:
                sessions.append(_session_of(day))
        return cls(sessions, holidays)

    def session_on(self, date: datetime.date) -> Session | None:
        return self._on.get(date)

    def session_at(self, at: Epoch) -> Session | None:
        index = bisect_right(self._open_list, at) - 1
        if index < 0 or at >= self._close_list[index]:
            return None
        return self._sessions[index]

    def next_session(self, at: Epoch) -> Session | None:
        index = bisect_right(self._open_list, at)
        return self._sessions[index] if index < len(self._sessions) else None

    def previous_session(self, at: Epoch) -> Session | None:
        index = bisect_right(self._close_list, at) - 1
        return self._sessions[index] if index >= 0 else None

    def pause_on(self, date: datetime.date) -> tuple[int, int] | None:
        pause = NSE_PAUSES.get(date)
        if pause is None or date not in self._on:
            return None
        return ist_instant(date, pause.stops), ist_instant(date, pause.resumes)

    def silences_on(self, date: datetime.date) -> list[tuple[int, int]]:
        session = self._on.get(date)
        if session is None or session.kind != "normal" or date < NSE_INDEX_HOURS.effective:
            return []
        stops, prints, ends = (
            ist_instant(date, at)
            for at in (NSE_INDEX_HOURS.stops, NSE_INDEX_HOURS.prints_from, NSE_INDEX_HOURS.ends)
        )
        return [(stops, prints), (ends, session.closes_at)]

    def covers(self, date: datetime.date) -> bool:
        if self.first_date is None or self.last_date is None:
            return False
        return bool(self.first_date <= date <= self.last_date)

    def is_verified(self, date: datetime.date) -> bool:
        session = self._on.get(date)
        if session is not None:
            return session.verified
        if not self.covers(date):
            return False
        if self._holidays is None:
            return True
        return self._holidays.get(date, date.weekday() >= _SATURDAY)

    def closes_at(self, timeframe: str, opens_at: IntArray) -> IntArray:
        closes = opens_at + seconds(timeframe)
        if not self._sessions:
            return closes
        if timeframe == "1d":
            days = ist_days(opens_at)
            index = np.maximum(np.searchsorted(self._days, days, side="right") - 1, 0)
            inside = self._days[index] == days
        else:
            index = np.maximum(np.searchsorted(self._opens, opens_at, side="right") - 1, 0)
            inside = (self._opens[index] <= opens_at) & (opens_at < self._closes[index])
        # A daily bar named after its session's close is named wrongly: leave it its nominal end.
        inside &= self._closes[index] > opens_at
        closes = np.where(inside, np.minimum(closes, self._closes[index]), closes)
        # The last bar before the underlying falls silent lasts until its session ends, as every
        # last bar does: what is decided at it waits for the next one.
        for place in np.unique(index[inside & (self._days[index] >= _INDEX_HOURS_FROM)]):
            session = self._sessions[place]
            if opens := self.bar_opens(timeframe, session.date):
                closes[(opens_at == opens[-1]) & inside] = session.closes_at
        return closes

    def edges(self) -> tuple[IntArray, IntArray]:
        return self._opens, self._closes

    def sessions(self, start: datetime.date, end: datetime.date) -> list[Session]:
        days = self._days
        first = bisect_left(days, epoch_day(start))
        return self._sessions[first : bisect_right(days, epoch_day(end))]

    def _check(self) -> None:
        for earlier, later in zip(self._sessions, self._sessions[1:], strict=False):
            if later.date <= earlier.date or later.opens_at < earlier.closes_at:
                raise BadCalendar(f"the sessions of {earlier.date} and {later.date} overlap")
        for session in self._sessions:
            if session.closes_at <= session.opens_at:
                raise BadCalendar(f"the session of {session.date} closes before it opens")
            if session.kind not in SESSION_KINDS:
                raise BadCalendar(f"the session of {session.date} has the kind {session.kind!r}")


class CryptoCalendar(Calendar):
    """Answer for a market that never closes: a session is a UTC day."""

    name = "CRYPTO"

    def session_on(self, date: datetime.date) -> Session:
        opens_at = epoch_day(date) * DAY_SECONDS
        return Session(
            date, Epoch(opens_at), Epoch(opens_at + DAY_SECONDS), "normal", True, "always open"
        )

    def session_at(self, at: Epoch) -> Session:
        return self.session_on(date_of_epoch_day(at // DAY_SECONDS))

    def next_session(self, at: Epoch) -> Session:
        return self.session_on(date_of_epoch_day(at // DAY_SECONDS + 1))

    def previous_session(self, at: Epoch) -> Session:
        return self.session_on(date_of_epoch_day(at // DAY_SECONDS - 1))

    def covers(self, date: datetime.date) -> bool:
        return True

    def is_verified(self, date: datetime.date) -> bool:
        return True

    def closes_at(self, timeframe: str, opens_at: IntArray) -> IntArray:
        return opens_at + seconds(timeframe)

    def sessions(self, start: datetime.date, end: datetime.date) -> list[Session]:
        days = range(epoch_day(start), epoch_day(end) + 1)
        return [self.session_on(date_of_epoch_day(day)) for day in days]


def nse_days() -> list[Day]:
    """Return every weekday from 2007 to 2026 and every weekend session, in order.

    A weekend without a session has no row. Raise BadCalendar naming the line of the data file.
    """
    listed = _listed_days()
    days: list[Day] = []
    for ordinal in range(NSE_FIRST_DATE.toordinal(), NSE_LAST_DATE.toordinal() + 1):
        date = datetime.date.fromordinal(ordinal)
        if date in listed:
            days.append(listed[date])
        elif date.weekday() < _SATURDAY:
            days.append(_normal_day(date))
    return days


def nse_sessions() -> list[Session]:
    """Return every NSE session from 2007 to 2026, in order."""
    return [_session_of(day) for day in nse_days() if day.kind != "holiday"]


def _listed_days() -> dict[datetime.date, Day]:
    days: dict[datetime.date, Day] = {}
    with NSE_CALENDAR_FILE.open(encoding="utf-8", newline="") as file:
        for line, row in enumerate(csv.DictReader(file), start=2):
            try:
                day = _parse(row)
            except (KeyError, ValueError) as error:
                raise BadCalendar(f"{NSE_CALENDAR_FILE.name}, line {line}: {error}") from error
            if day.date in days:
                raise BadCalendar(f"{NSE_CALENDAR_FILE.name}, line {line}: {day.date} comes twice")
            days[day.date] = day
    return days


def _parse(row: Mapping[str, str]) -> Day:
    date = datetime.date.fromisoformat(row["date"])
    verified = {"true": True, "false": False}[row["verified"]]
    if row["kind"] == "holiday":
        return Day(date, "holiday", None, None, row["name"], row["source"], verified)
    if row["kind"] not in SESSION_KINDS:
        raise ValueError(f"unknown kind {row['kind']!r}")
    opens_at = ist_instant(date, datetime.time.fromisoformat(row["opens"]))
    closes_at = ist_instant(date, datetime.time.fromisoformat(row["closes"]))
    return Day(
        date, row["kind"], Epoch(opens_at), Epoch(closes_at), row["name"], row["source"], verified
    )


def _normal_day(date: datetime.date) -> Day:
    hours = [each for each in NSE_HOURS if each.effective <= date][-1]
    opens_at = ist_instant(date, hours.opens)
    closes_at = ist_instant(date, hours.closes)
    verified = date >= NSE_FIRST_EVIDENCE
    return Day(date, "normal", Epoch(opens_at), Epoch(closes_at), "", hours.source, verified)


def _session_of(day: Day) -> Session:
    if day.opens_at is None or day.closes_at is None:
        raise BadCalendar(f"{day.date} is a {day.kind} day without opening or closing time")
    return Session(day.date, day.opens_at, day.closes_at, day.kind, day.verified, day.source)
