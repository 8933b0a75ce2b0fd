"""The day's schedule: every firing of the thirteen jobs, what came of it and what is next.

Few firings a day are drawn one by one; those of every few minutes are one band with a count.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from markets.domain.calendar import Session
from tradingsite import clock
from tradingsite.models import JobRun
from tradingsite.scheduling.schedules import JOBS, Job

LANES = ("Trading", "Data", "Learning", "Safety")
MOST_TICKS = 24
# Ticks nearer than this share of the day would cover each other.
TICK_WIDTH_PCT = 1.35
DAY_MINUTES = 24 * 60
LISTED_BEFORE, LISTED_AFTER = 2, 3

# The drawing: hours above four lanes of equal height, in pixels.
LANES_TOP = 24
LANE_HEIGHT = 34
NOW_WIDTH_PCT = 4.5

# What came of a run: the mark that is drawn (a shape of its own besides its colour) and the words.
OUTCOMES = {
    JobRun.State.DONE: ("ok", "done"),
    JobRun.State.FAILED: ("fail", "failed"),
    JobRun.State.RUNNING: ("run", "runs now"),
    JobRun.State.PENDING: ("run", "waits for a worker"),
    JobRun.State.SKIPPED: ("skipped", "skipped"),
    JobRun.State.MISSED: ("warn", "missed"),
    JobRun.State.NOT_BUILT: ("unbuilt", "not built yet"),
}
NO_RECORD = ("none", "no record: the desk did not run then")
LEGEND = (
    ("ok", "done"),
    ("fail", "failed"),
    ("next", "to come"),
    ("unbuilt", "not built yet"),
    ("none", "no record"),
)


@dataclass(slots=True)
class Tick:
    """One firing: where on the day it lies (0 to 100) and what came of it."""

    job: Job
    at: dt.datetime
    left_pct: float
    mark: str
    words: str


@dataclass(frozen=True, slots=True)
class Band:
    """A job that fires every few minutes, or a session; from and width in per cent of the day.

    kind is session, unbuilt, failed, done or next.
    """

    title: str
    left_pct: float
    width_pct: float
    kind: str
    words: str
    top: int = 7
    height: int = 20

    @property
    def baseline(self) -> int:
        """Return the height of the title's baseline in its lane."""
        return self.top + self.height // 2 + 4


@dataclass(slots=True)
class Lane:
    """One row of the rail."""

    title: str
    top: int
    bands: list[Band] = field(default_factory=list)
    ticks: list[Tick] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Hour:
    """An hour's label over the lanes; anchor is SVG's, so that the outer ones stay inside."""

    words: str
    left_pct: float
    anchor: str


@dataclass(frozen=True, slots=True)
class Rail:
    """The whole day."""

    lanes: list[Lane]
    hours: list[Hour]
    now_pct: float
    listed: list[Tick]
    """The last firings and the next ones, for narrow screens."""
    upcoming: Tick | None
    failed: int
    unbuilt: int


def firing_minutes(job: Job) -> list[int]:
    """Return the minutes of the day at which a job fires, from its crontab fields."""
    minutes, hours = _expanded(job.minute, 60), _expanded(job.hour, 24)
    return [hour * 60 + minute for hour in hours for minute in minutes]


def is_band(job: Job) -> bool:
    """Return whether a job fires too often to be drawn firing by firing."""
    is_once = job.window is not None and job.window.is_once
    return not is_once and len(firing_minutes(job)) > MOST_TICKS


def build(
    now: dt.datetime,
    session: Session | None,
    runs: Sequence[JobRun],
    counts: Mapping[str, Mapping[str, int]],
) -> Rail:
    """Return the rail of the IST date of `now`.

    `runs` are that date's runs of the jobs drawn one by one, `counts` how many runs of each of the
    others are in each state.
    """
    midnight = now.astimezone(clock.IST).replace(hour=0, minute=0, second=0, microsecond=0)
    lanes = _lanes(now, midnight, session, runs, counts)
    ticks = sorted((tick for lane in lanes for tick in lane.ticks), key=lambda t: t.at)
    for lane in lanes:
        _spread(lane.ticks)
        lane.bands = _stacked(lane.bands)
    later = [tick for tick in ticks if tick.at > now]
    earlier = [tick for tick in ticks if tick.at <= now]
    now_pct = _share((now - midnight).total_seconds() / 60)
    return Rail(
        lanes=lanes,
        hours=[hour for hour in _hours() if abs(hour.left_pct - now_pct) > NOW_WIDTH_PCT],
        now_pct=now_pct,
        listed=earlier[-LISTED_BEFORE:] + later[:LISTED_AFTER],
        upcoming=next((tick for tick in later if not tick.job.not_built), None),
        failed=sum(1 for run in newest_of_each(runs) if run.state == JobRun.State.FAILED),
        unbuilt=sum(1 for job in JOBS if job.not_built),
    )


def _lanes(
    now: dt.datetime,
    midnight: dt.datetime,
    session: Session | None,
    runs: Sequence[JobRun],
    counts: Mapping[str, Mapping[str, int]],
) -> list[Lane]:
    """Return the lanes from top to bottom with what each job does in its own."""
    by_job: defaultdict[str, list[JobRun]] = defaultdict(list)
    for run in runs:
        by_job[run.job].append(run)
    lanes = {
        title: Lane(title, LANES_TOP + LANE_HEIGHT * place) for place, title in enumerate(LANES)
    }
    for job in JOBS:
        minutes = _planned_minutes(job, session)
        lane = lanes[job.lane]
        if not is_band(job):
            lane.ticks += _ticks(job, midnight, minutes, by_job[job.name], now)
        elif minutes:
            lane.bands.append(_band(job, minutes, counts.get(job.name, {})))
    return list(lanes.values())


def newest_of_each(runs: Iterable[JobRun]) -> list[JobRun]:
    """Return the latest run of each job."""
    newest: dict[str, JobRun] = {}
    for run in sorted(runs, key=lambda run: run.scheduled_for):
        newest[run.job] = run
    return list(newest.values())


def session_band(session: Session, title: str) -> Band:
    """Return a session of the market as a band."""
    opens, closes = clock.from_seconds(session.opens_at), clock.from_seconds(session.closes_at)
    left, right = _share(_minute_of_day(opens)), _share(_minute_of_day(closes))
    words = f"{opens.astimezone(clock.IST):%H:%M} to {closes.astimezone(clock.IST):%H:%M}"
    return Band(title, left, right - left, "session", words)


def _hours() -> list[Hour]:
    anchors = {0: "start", 24: "end"}
    return [
        Hour(f"{hour:02}:00", _share(60 * hour), anchors.get(hour, "middle"))
        for hour in range(0, 25, 3)
    ]


def _planned_minutes(job: Job, session: Session | None) -> list[int]:
    minutes = firing_minutes(job)
    if job.window is None:
        return minutes
    if session is None:
        return []
    first, last = (
        _minute_of_day(clock.from_seconds(at))
        for at in job.window.bounds(session.opens_at, session.closes_at)
    )
    if job.window.is_once:
        return [first]
    return [minute for minute in minutes if first <= minute <= last]


def _ticks(
    job: Job, midnight: dt.datetime, minutes: list[int], runs: list[JobRun], now: dt.datetime
) -> list[Tick]:
    ran: Mapping[dt.datetime, JobRun] = {run.scheduled_for: run for run in runs}
    ticks = []
    for minute in minutes:
        at = midnight + dt.timedelta(minutes=minute)
        run = ran.get(at)
        if run:
            mark, words = OUTCOMES[JobRun.State(run.state)]
        elif at <= now:
            mark, words = NO_RECORD
        elif job.not_built:
            mark, words = OUTCOMES[JobRun.State.NOT_BUILT]
        else:
            mark, words = "next", ""
        ticks.append(Tick(job, at, _share(minute), mark, words))
    return ticks


def _band(job: Job, minutes: list[int], counts: Mapping[str, int]) -> Band:
    left, right = _share(minutes[0]), _share(minutes[-1])
    total, failed = sum(counts.values()), counts.get(JobRun.State.FAILED, 0)
    if job.not_built:
        kind, words = "unbuilt", "not built yet"
    elif failed:
        kind, words = "failed", f"{failed} of {total} failed"
    else:
        kind, words = "done" if total else "next", f"{total} runs so far"
    return Band(job.title, left, right - left, kind, f"{job.when}: {words}")


def _stacked(bands: list[Band]) -> list[Band]:
    if len(bands) < 2:
        return bands
    height = (LANE_HEIGHT - 4) // len(bands)
    return [
        replace(band, top=3 + place * height, height=height - 3) for place, band in enumerate(bands)
    ]


def _spread(ticks: list[Tick]) -> None:
    ticks.sort(key=lambda tick: tick.at)
    for before, tick in pairwise(ticks):
        tick.left_pct = max(tick.left_pct, before.left_pct + TICK_WIDTH_PCT)


def _expanded(field_: str, size: int) -> list[int]:
    span, _, step = field_.partition("/")
    first, _, last = span.partition("-")
    values = range(size) if span == "*" else range(int(first), int(last or first) + 1)
    return list(values)[:: int(step or 1)]


def _minute_of_day(at: dt.datetime) -> int:
    local = at.astimezone(clock.IST)
    return local.hour * 60 + local.minute


def _share(minutes: float) -> float:
    return round(100 * minutes / DAY_MINUTES, 2)
