"""From ticks to the series' rows, for one underlying: pure, so that a test can replay a day.

A series is one pair of options while its strikes are the wanted ones. What happens comes out as
events in their order: a series begins, a message moved its premium, a series ends.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from markets.straddle.premium import Price, Refusal
from markets.straddle.strikes import Legs, centre_of, wanted
from markets.straddle.underlyings import Underlying
from markets.venues.base import Tick, VenueInstrument
from tradingsite.errors import Degraded

RECENTRED, STOPPED, CUT_SHORT = "re-centred", "stopped", "cut short"
_INSTANT = dt.timedelta(microseconds=1)
# A leg's silence is a gap as soon as its price is too old to be used; people hear of it later, in
# so many times that span, and its row grows so often.
ALARM_FACTOR, REPEAT_FACTOR = 4, 2


@dataclass(frozen=True, slots=True)
class SeriesKey:
    """Name a series; prices are whole paise."""

    underlying: str
    expiry: dt.date
    width: int
    strike: int
    """The money as the series began."""
    call_strike: int
    put_strike: int
    since: dt.datetime


@dataclass(frozen=True, slots=True)
class Row:
    """Hold the premium as one message left it; prices are whole paise."""

    series: SeriesKey
    ts: dt.datetime
    """The exchange's time."""
    number: int
    """Counts the messages of one second, from 0."""
    call: int
    put: int
    spot: int


@dataclass(frozen=True, slots=True)
class Began:
    """Say that a series begins."""

    series: SeriesKey


@dataclass(frozen=True, slots=True)
class Ended:
    """Say that a series ends, when and why."""

    series: SeriesKey
    until: dt.datetime
    end: str


@dataclass(frozen=True, slots=True)
class Missed:
    """Say that ticks are missing, and how many where that is known."""

    began_at: dt.datetime
    ended_at: dt.datetime
    rows: int | None
    reason: str


Event = Row | Began | Ended | Missed


@dataclass(frozen=True, slots=True)
class Chain:
    """Hold an underlying's options of one expiry: the desk's names by strike, tokens by name."""

    expiry: dt.date
    strikes: tuple[int, ...]
    calls: Mapping[int, str]
    puts: Mapping[int, str]
    tokens: Mapping[str, int]
    """The index's too, whose name is the underlying's."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """Hold an open series of a tracker before this one, and its last row's place."""

    series: SeriesKey
    ts: dt.datetime
    number: int


def chain_of(name: str, listed: Iterable[VenueInstrument], date: dt.date) -> Chain:
    """Return the chain of the nearest expiry from a date on; raise Degraded where none is listed.

    A strike without both its call and its put is left out.
    """
    rows = [row for row in listed if row.underlying == name]
    index = next((row for row in rows if row.kind == "INDEX"), None)
    options = [row for row in rows if row.kind in ("CE", "PE") and row.expiry]
    expiries = [row.expiry for row in options if row.expiry and row.expiry >= date]
    if index is None or not expiries:
        what = "options that expire later" if index else "index"
        raise Degraded(f"the broker's list has no {what} of {name} on {date}")
    expiry = min(expiries)
    sides: dict[str, dict[int, str]] = {"CE": {}, "PE": {}}
    tokens = {index.name: index.token}
    for row in options:
        if row.expiry == expiry:
            sides[row.kind][int(row.strike * 100)] = row.name
            tokens[row.name] = row.token
    strikes = tuple(sorted(sides["CE"].keys() & sides["PE"].keys()))
    if not strikes:
        raise Degraded(f"the broker's list has no strike of {name} {expiry} with call and put")
    return Chain(expiry, strikes, sides["CE"], sides["PE"], tokens)


@dataclass(slots=True)
class Silence:
    """A leg of which nothing comes while its siblings tick, in the exchange's epoch seconds."""

    since: float
    until: float
    told_at: float


@dataclass(slots=True)
class Follower:
    """Follow one underlying from message to message."""

    config: Underlying
    chain: Chain
    refused: Counter[Refusal] = field(default_factory=Counter)
    """Ticks that were not believed, and premiums withheld because a leg was old."""
    centre: int | None = None
    series: dict[int, SeriesKey] = field(default_factory=dict)
    """What is followed now, by width."""
    silent: dict[str, Silence] = field(default_factory=dict)
    """The legs of which nothing comes, by the desk's names."""
    _prices: dict[str, Price] = field(default_factory=dict)
    _last: dict[SeriesKey, tuple[dt.datetime, int]] = field(default_factory=dict)
    _moved_at: dt.datetime | None = None
    _heard_at: float = float("-inf")
    _resumed_at: float = float("-inf")
    """When ticks of any came again after none, which is the stream's silence and no leg's."""

    @property
    def instruments(self) -> dict[int, str]:
        """Return what must be subscribed now: the desk's names by token."""
        names = [self.config.name]
        for key in self.series.values():
            names += self._legs(key)
        return {self.chain.tokens[name]: name for name in names}

    def resume(self, found: Collection[Resumed]) -> None:
        """Go on with the open series of a tracker before, where they are still the right ones."""
        ours = {each.series.width: each for each in found if self._is_ours(each.series)}
        centres = {each.series.strike for each in ours.values()}
        if len(centres) != 1 or ours.keys() != self._wanted(min(centres)).keys():
            return
        self.centre = centres.pop()
        self.series = {width: each.series for width, each in ours.items()}
        self._last = {each.series: (each.ts, each.number) for each in ours.values()}
        self._moved_at = max(key.since for key in self.series.values())

    def take(self, ticks: Iterable[Tick], expected: float, stale_seconds: float) -> list[Event]:
        """Take the ticks of one message that are this underlying's; return what comes of them."""
        heard: dict[str, Tick] = {}
        for tick in ticks:
            price = self._prices.setdefault(
                tick.instrument, Price(tick.instrument == self.config.name)
            )
            refusal = price.take(tick, expected, stale_seconds)
            if refusal is None:
                heard[tick.instrument] = tick
            else:
                self.refused[refusal] += 1
        events: list[Event] = list(self._rows(heard, expected, stale_seconds))
        if spot := heard.get(self.config.name):
            events += self._look_at(spot)
        events += self._silences(expected, stale_seconds)
        return events

    def alarming(self, stale_seconds: float) -> list[str]:
        """Return the legs that are silent for so long that people should know."""
        limit = ALARM_FACTOR * stale_seconds
        return [name for name, each in self.silent.items() if each.until - each.since >= limit]

    def end(self, at: dt.datetime) -> list[Event]:
        """Return the ends of all series, because the tracker stops."""
        ended: list[Event] = [self._ended(key, at, STOPPED) for key in self.series.values()]
        for name, silence in self.silent.items():
            ended.append(self._missed(name, max(at.timestamp(), silence.until)))
        self.series, self.centre, self.silent = {}, None, {}
        return ended

    def _silences(self, expected: float, stale_seconds: float) -> Iterable[Event]:
        """Return the gaps of legs that nothing comes of, as they begin, grow and end."""
        if expected - self._heard_at > stale_seconds:
            self._resumed_at = expected
        self._heard_at = expected
        last = {
            name: max(self._last_at(name), key.since.timestamp(), self._resumed_at)
            for key in self.series.values()
            for name in self._legs(key)
        }
        for name in [*self.silent]:
            if name not in last or expected - last[name] <= stale_seconds:
                yield self._missed(name, expected)
                del self.silent[name]
        for name, at in last.items():
            if expected - at <= stale_seconds:
                continue
            found = self.silent.setdefault(name, Silence(at, expected, float("-inf")))
            found.until = expected
            if expected - found.told_at > REPEAT_FACTOR * stale_seconds:
                found.told_at = expected
                yield self._missed(name, expected)

    def _last_at(self, name: str) -> float:
        price = self._prices.get(name)
        return price.at if price else float("-inf")

    def _missed(self, name: str, until: float) -> Missed:
        since = self.silent[name].since
        reason = f"no ticks of {name} came, while others did"
        began_at, ended_at = (dt.datetime.fromtimestamp(at, dt.UTC) for at in (since, until))
        return Missed(began_at, ended_at, None, reason)

    def _rows(
        self, heard: Mapping[str, Tick], expected: float, stale_seconds: float
    ) -> Iterable[Row]:
        spot = self._prices.get(self.config.name)
        for key in self.series.values():
            legs = self._legs(key)
            times = [heard[name].at for name in legs if name in heard]
            prices = [self._prices.get(name) for name in legs]
            call, put = prices
            if not times or spot is None or call is None or put is None:
                continue
            if not all(each.paise for each in (spot, call, put)):
                continue  # the other leg has not come yet
            if not all(each.is_fresh(expected, stale_seconds) for each in (spot, call, put)):
                self.refused[Refusal.STALE] += 1
                continue
            ts, number = self._place(key, max(times))
            yield Row(key, ts, number, call.paise, put.paise, spot.paise)

    def _place(self, key: SeriesKey, at: dt.datetime) -> tuple[dt.datetime, int]:
        """Return the time and the number of a series' next row: later than all before it."""
        last, number = self._last.get(key, (key.since, -1))
        place = (at, 0) if at > last else (last, number + 1)
        self._last[key] = place
        return place

    def _look_at(self, spot: Tick) -> Iterable[Event]:
        """Return what changes where spot has left the money."""
        now = self._prices[self.config.name].paise
        money = centre_of(self.chain.strikes, now, self.centre, self.config.hysteresis_ratio)
        if money == self.centre:
            return
        at = spot.at
        if self._moved_at is not None and at <= self._moved_at:
            # There and back within a second: no two series may have one name.
            at = self._moved_at + _INSTANT
        for key in self.series.values():
            yield self._ended(key, at, RECENTRED)
        self.centre, self._moved_at = money, at
        self.series = {
            width: SeriesKey(
                *(self.config.name, self.chain.expiry, width, money, legs.call, legs.put, at)
            )
            for width, legs in self._wanted(money).items()
        }
        for key in self.series.values():
            yield Began(key)

    def _ended(self, key: SeriesKey, at: dt.datetime, end: str) -> Ended:
        last, _ = self._last.pop(key, (key.since, -1))
        return Ended(key, max(at, last), end)

    def _wanted(self, money: int) -> dict[int, Legs]:
        return wanted(self.chain.strikes, money, self.config.widths)

    def _legs(self, key: SeriesKey) -> tuple[str, str]:
        return self.chain.calls[key.call_strike], self.chain.puts[key.put_strike]

    def _is_ours(self, key: SeriesKey) -> bool:
        mine = (key.underlying, key.expiry) == (self.config.name, self.chain.expiry)
        if not mine or key.strike not in self.chain.strikes:
            return False
        legs = self._wanted(key.strike).get(key.width)
        return legs == Legs(key.call_strike, key.put_strike)
