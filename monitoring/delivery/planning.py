"""From notices to deliveries: which are told, when, and which another message speaks for.

A notice has one delivery that tells it and one at most that says it is over. Whoever plans locks
the channel's cursor, so two planners at once do the work of one. Real time throughout.
"""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

from django.db import transaction
from django.db.models import Exists, Max, OuterRef, QuerySet

from monitoring.delivery import causes, quiet, wording
from monitoring.delivery.channels import Channel, configured
from monitoring.delivery.models import Cursor, Delivery, Lane
from monitoring.endings import EVENTS
from tradingsite import clock
from tradingsite.models import Notice

# Ids are given before commits: a notice may become visible after a later one was planned.
LOOK_BACK = 1_000
MOST_AT_ONCE = 500
EFFECT_WAITS = dt.timedelta(seconds=20)
"""A cause is often noticed a moment after its first effect."""
CRITICAL_FOLDED_FOR = dt.timedelta(minutes=10)
FLAPPING_WITHIN = dt.timedelta(minutes=30)
FLAPPING_FROM = 3
OVER_WITHIN = dt.timedelta(days=2)
SAME_MOMENT = dt.timedelta(seconds=1)

State, Kind = Delivery.State, Delivery.Kind
IN_THE_NIGHT = "quiet hours"
FLAPS = "comes and goes; told again if it stays for 10 minutes"
THIRD_TIME = "The third time within half an hour. From now on only if it stays for 10 minutes."


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a notice: a delivery's state, why, and from when on."""

    state: str
    reason: str = ""
    not_before: dt.datetime | None = None
    remark: str = ""


def plan(now: dt.datetime | None = None) -> int:
    """Make the deliveries that are due; return how many were made or let go."""
    now = now or clock.real()
    return sum(_plan(channel, now) for channel in configured().values())


def lane_of(channel: Channel) -> Lane:
    """Return the lane of a channel's chat."""
    lane, _ = Lane.objects.get_or_create(channel=channel.name, chat=channel.chat)
    return lane


def _plan(channel: Channel, now: dt.datetime) -> int:
    with transaction.atomic():
        cursor = _cursor(channel.name)
        if cursor is None:
            return 0
        lane = lane_of(channel)
        made = _tell(cursor, lane, now)
        return made + _release(lane, now) + _end(lane, now)


def _cursor(channel: str) -> Cursor | None:
    """Return the channel's cursor, locked; None while another planner has it."""
    if not Cursor.objects.filter(pk=channel).exists():
        newest = Notice.objects.aggregate(newest=Max("pk"))["newest"] or 0
        Cursor.objects.get_or_create(
            pk=channel, defaults={"begins_after": newest, "planned_to": newest}
        )
    return Cursor.objects.select_for_update(skip_locked=True).filter(pk=channel).first()


# --- What is new ---------------------------------------------------------------------------------


def _tell(cursor: Cursor, lane: Lane, now: dt.datetime) -> int:
    since = max(cursor.begins_after, cursor.planned_to - LOOK_BACK)
    news = Notice.objects.filter(channel=lane.channel, pk__gt=since)
    news = news.exclude(Exists(_deliveries(Kind.TOLD))).order_by("pk")[:MOST_AT_ONCE]
    open_keys = set(Notice.objects.filter(resolved_at=None).values_list("key", flat=True))
    made = 0
    for notice in news:
        fate = _fate(notice, now, open_keys)
        if fate is None:
            continue
        made += 1
        _make(Kind.TOLD, lane, notice, fate, wording.told(notice, fate.remark), now)
        cursor.planned_to = max(cursor.planned_to, notice.pk)
    cursor.save()
    return made


def _fate(notice: Notice, now: dt.datetime, open_keys: set[str]) -> Fate | None:
    """Return what becomes of a new notice, None while it is too early to say."""
    is_critical = notice.severity == Notice.Severity.CRITICAL
    until = notice.created_at + CRITICAL_FOLDED_FOR
    cause = causes.cause_of(notice.key, open_keys)
    if cause is not None:
        why = f"told under its cause, {cause}"
        return Fate(State.HELD, why, until) if is_critical else Fate(State.FOLDED, why)
    is_fresh = now - notice.created_at < EFFECT_WAITS
    if is_fresh and notice.resolved_at is None and causes.may_be_an_effect(notice.key):
        return None
    times = 1 + _told_lately(notice)
    if times > FLAPPING_FROM:
        return Fate(State.HELD, FLAPS, until)
    remark = THIRD_TIME if times == FLAPPING_FROM else ""
    return _undisturbed(notice, now, remark)


def _undisturbed(notice: Notice, now: dt.datetime, remark: str = "") -> Fate:
    """Return when what is told for itself goes out: by the owner's wish, unless it is critical."""
    if notice.severity == Notice.Severity.CRITICAL:
        return Fate(State.QUEUED, remark=remark)
    if quiet.muted_until(notice.channel, now):
        return Fate(State.MUTED, "the channel is muted")
    morning = quiet.quiet_until(now)
    if morning:
        return Fate(State.HELD, IN_THE_NIGHT, morning, remark)
    return Fate(State.QUEUED, remark=remark)


def _told_lately(notice: Notice) -> int:
    """Return how often a notice of the same key was told within the half hour before it."""
    since = notice.created_at - FLAPPING_WITHIN
    rows = Delivery.objects.filter(
        kind=Kind.TOLD, notice__key=notice.key, notice__created_at__gt=since
    )
    return rows.exclude(notice=notice).count()


# --- What was held -------------------------------------------------------------------------------


def _release(lane: Lane, now: dt.datetime) -> int:
    """Let go what was held for long enough, and what ended before it was told."""
    held = lane.delivery_set.filter(state=State.HELD).select_related("notice").order_by("pk")
    let_go = 0
    for each in held:
        is_over = each.notice is not None and each.notice.resolved_at is not None
        is_due = each.not_before is not None and each.not_before <= now
        if is_over and each.reason != IN_THE_NIGHT:
            each.state, each.reason = State.FOLDED, f"over before it was told: {each.reason}"[:300]
        elif is_due:
            each.state, each.reason, each.not_before = State.QUEUED, "", None
        else:
            continue
        each.save()
        let_go += 1
    return let_go


# --- What is over --------------------------------------------------------------------------------


def _end(lane: Lane, now: dt.datetime) -> int:
    """Say that what was told is over; a matter that went on under a new notice is not."""
    told = Notice.objects.filter(
        Exists(_deliveries(Kind.TOLD, State.QUEUED, State.SENDING, State.SENT)),
        channel=lane.channel,
        resolved_at__gt=now - OVER_WITHIN,
        severity__in=(Notice.Severity.WARNING, Notice.Severity.CRITICAL),
    ).exclude(Exists(_deliveries(Kind.OVER)))
    made = 0
    for notice in told.order_by("resolved_at"):
        if notice.key.startswith(tuple(EVENTS)) or _goes_on(notice):
            fate = Fate(State.FOLDED, "it goes on, or was an event that has no end")
        else:
            fate = _undisturbed(notice, now)
        _make(Kind.OVER, lane, notice, fate, wording.over(notice), now)
        made += 1
    return made


def _goes_on(notice: Notice) -> bool:
    """Return whether the same matter was told anew in the moment in which this notice ended."""
    assert notice.resolved_at is not None  # noqa: S101 - asked of what has ended
    near = (notice.resolved_at - SAME_MOMENT, notice.resolved_at + SAME_MOMENT)
    return Notice.objects.filter(key=notice.key, pk__gt=notice.pk, created_at__range=near).exists()


def _deliveries(kind: str, *states: str) -> QuerySet[Delivery]:
    rows = Delivery.objects.filter(notice=OuterRef("pk"), kind=kind)
    return rows.filter(state__in=states) if states else rows


def _make(kind: str, lane: Lane, notice: Notice, fate: Fate, html: str, now: dt.datetime) -> None:
    is_loud = kind == Kind.TOLD and notice.severity != Notice.Severity.INFO
    row = Delivery(
        kind=kind,
        channel=lane.channel,
        lane=lane,
        notice=notice,
        html=html,
        is_silent=not is_loud,
        state=fate.state,
        reason=fate.reason[:300],
        created_at=now,
        not_before=fate.not_before,
    )
    Delivery.objects.bulk_create([row], ignore_conflicts=True)


def waiting() -> Iterable[Lane]:
    """Return the lanes in which something waits to be sent."""
    rows = Delivery.objects.filter(lane=OuterRef("pk"), state__in=(State.QUEUED, State.SENDING))
    return Lane.objects.filter(Exists(rows)).order_by("channel")
