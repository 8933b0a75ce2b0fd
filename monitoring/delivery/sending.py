"""Send what waits, the oldest of each chat first, each once as far as anybody can know.

A delivery is claimed in one transaction, sent, and written down in another. Who dies in between
leaves a claim that lapses: it is sent again and says "(perhaps again)", for nothing is ever lost
for fear of saying it twice. A lane's row is the lock of its chat, so two senders take turns.
"""

import datetime as dt
import logging
from pathlib import Path

from django.db import transaction
from django.db.models import F, QuerySet

from markets.venues.base import RateLimited
from monitoring.delivery import wording
from monitoring.delivery.channels import Channel, configured, limiters
from monitoring.delivery.markup import CAPTION_UNITS, TEXT_UNITS, plain, split, units
from monitoring.delivery.models import Delivery, Lane
from monitoring.delivery.planning import waiting
from monitoring.delivery.transport import (
    BadMarkup,
    Closed,
    EditLost,
    Flooded,
    Moved,
    Outgoing,
    Refused,
    Transport,
    Uncertain,
    Unsent,
)
from tradingsite import clock

CLAIM = dt.timedelta(seconds=90)
"""Longer than the slowest request may take, so that a claim lapses only with its holder."""
LIMIT_WAIT_SECONDS = 2.0
LONGEST_PAUSE = dt.timedelta(minutes=5)
CLOSED_PAUSE = dt.timedelta(minutes=10)
TOGETHER_FROM = 5
TOGETHER_MOST = 20
TOGETHER_AFTER = dt.timedelta(minutes=2)
State = Delivery.State

log = logging.getLogger(__name__)


def send_due(transport: Transport) -> int:
    """Send one message of every chat that is open; return how many went out."""
    channels, sent = configured(), 0
    for lane in waiting():
        channel = channels.get(lane.channel)
        if channel is not None and channel.chat == lane.chat:
            sent += send_next(lane, channel, transport)
    return sent


def send_next(lane: Lane, channel: Channel, transport: Transport) -> int:
    """Send the oldest message of a lane; return 1, or 0 where nothing went out."""
    delivery = _claim(lane.pk, clock.real())
    if delivery is None:
        return 0
    lane.refresh_from_db()
    try:
        for limiter in limiters(channel, lane.address):
            limiter.acquire("message", LIMIT_WAIT_SECONDS)
        message_id = _send(delivery, lane, channel, transport)
    except (RateLimited, Flooded, Moved, Closed, Unsent, Uncertain) as error:
        _wait(delivery, lane, error)
    except Refused as error:
        _finish(delivery, lane, State.FAILED, reason=str(error))
    else:
        _finish(delivery, lane, State.SENT, message_id=message_id)
        return 1
    return 0


def _wait(delivery: Delivery, lane: Lane, error: Exception) -> None:
    """Close a lane for as long as an error asks for; its message stays at the head."""
    match error:
        case RateLimited():
            _put_back(delivery, lane, str(error), dt.timedelta(seconds=LIMIT_WAIT_SECONDS))
        case Flooded():
            # To the second: earlier is refused again, and counts against the bot.
            _put_back(delivery, lane, str(error), dt.timedelta(seconds=error.seconds))
        case Moved():
            Lane.objects.filter(pk=lane.pk).update(moved_to=error.chat)
            log.warning("%s: %s", lane, error)
            _put_back(delivery, lane, "", dt.timedelta())
        case Closed():
            _put_back(delivery, lane, str(error), CLOSED_PAUSE)
        case _:
            delivery.may_be_again |= isinstance(error, Uncertain)
            _put_back(delivery, lane, str(error), _pause(lane.failures), failed=True)


# --- Claiming ------------------------------------------------------------------------------------


def _claim(lane_id: int, now: dt.datetime) -> Delivery | None:
    """Return the lane's oldest delivery, marked as being sent; None where it is not its turn."""
    with transaction.atomic():
        lane = Lane.objects.select_for_update(skip_locked=True).filter(pk=lane_id).first()
        if lane is None or (lane.closed_until and lane.closed_until > now):
            return None
        rows = lane.delivery_set.filter(state__in=(State.QUEUED, State.SENDING)).order_by("pk")
        head = rows.first()
        if head is None or (head.not_before and head.not_before > now):
            return None
        if head.state == State.SENDING:
            if head.claimed_until and head.claimed_until > now:
                return None
            head.may_be_again = True  # whoever claimed it died, before the request or after
        elif not head.tries:
            _gather(head, list(rows[:TOGETHER_MOST]), now)
        head.state, head.claimed_until = State.SENDING, now + CLAIM
        head.tries += 1
        head.save()
        return head


def _gather(head: Delivery, rows: list[Delivery], now: dt.datetime) -> None:
    """Make one message of many old ones, as after an hour without Telegram."""
    old = [
        each
        for each in rows
        if each.created_at < now - TOGETHER_AFTER
        and not (each.file or each.edits or each.tries)
        and each.state == State.QUEUED
    ]
    if len(old) < TOGETHER_FROM or old[0].pk != head.pk:
        return
    head.html = wording.together([each.html for each in old])
    head.is_silent = all(each.is_silent for each in old)
    for each in old[1:]:
        each.state, each.under, each.reason = State.FOLDED, head, "in one message with others"
        each.save()


# --- Sending -------------------------------------------------------------------------------------


def _send(delivery: Delivery, lane: Lane, channel: Channel, transport: Transport) -> int:
    """Send a delivery in as many parts as it needs, from the first that is not there yet."""
    html = delivery.html
    file = Path(delivery.file) if delivery.file else None
    if file is not None and not file.is_file():
        html, file = f"{html}\n<i>(its file {file.name} is gone)</i>", None
    # A caption is short: what does not fit one follows as a message of its own.
    # Room for the remark is left in each, so that with and without it the cuts are the same.
    room = units(plain(wording.AGAIN)) + 1
    parts = split(html, (CAPTION_UNITS if file else TEXT_UNITS) - room) or ["(empty)"]
    if delivery.may_be_again:
        unsure = delivery.parts_sent
        parts[unsure] = f"{wording.AGAIN}\n{parts[unsure]}"
    message_id = delivery.message_id or 0
    for number in range(delivery.parts_sent, len(parts)):
        message_id = _send_part(
            Outgoing(
                channel.token,
                lane.address,
                parts[number],
                delivery.is_silent or number > 0,
                file=file if number == 0 else None,
                message_id=_edited(delivery) if number == 0 else None,
            ),
            transport,
        )
        if number + 1 < len(parts):
            Delivery.objects.filter(pk=delivery.pk).update(parts_sent=number + 1)
            delivery.parts_sent = number + 1
    return message_id


def _send_part(message: Outgoing, transport: Transport) -> int:
    try:
        return transport.send(message)
    except BadMarkup as error:
        log.warning("sent as plain text, for Telegram cannot read its HTML: %s", error)
        return transport.send(_changed(message, is_plain=True))
    except EditLost:
        return transport.send(_changed(message, message_id=None))


def _changed(message: Outgoing, **changes: object) -> Outgoing:
    values = {name: getattr(message, name) for name in Outgoing.__slots__}
    return Outgoing(**{**values, **changes})


def _edited(delivery: Delivery) -> int | None:
    """Return the id of the message that this one is to be edited into, None for a new one."""
    if not delivery.edits:
        return None
    rows = Delivery.objects.filter(
        lane=delivery.lane, edits=delivery.edits, state=State.SENT, message_id__isnull=False
    )
    return rows.order_by("-pk").values_list("message_id", flat=True).first()


# --- Writing down --------------------------------------------------------------------------------


def _finish(
    delivery: Delivery, lane: Lane, state: str, reason: str = "", message_id: int | None = None
) -> None:
    """Write down how a delivery ended, unless its claim lapsed and another took it over."""
    now = clock.real()
    with transaction.atomic():
        _ours(delivery).update(
            state=state,
            reason=reason[:300],
            message_id=message_id,
            sent_at=now if state == State.SENT else None,
            claimed_until=None,
            may_be_again=delivery.may_be_again,
        )
        Lane.objects.filter(pk=lane.pk).update(failures=0, reason="", closed_until=None)
    if state == State.FAILED:
        log.error("%s: Telegram refused “%s”: %s", lane, plain(delivery.html)[:80], reason)


def _put_back(
    delivery: Delivery, lane: Lane, reason: str, pause: dt.timedelta, *, failed: bool = False
) -> None:
    """Let a delivery wait at the head of its lane, which is closed for a while."""
    with transaction.atomic():
        _ours(delivery).update(
            state=State.QUEUED,
            reason=reason[:300],
            claimed_until=None,
            may_be_again=delivery.may_be_again,
        )
        Lane.objects.filter(pk=lane.pk).update(
            closed_until=clock.real() + pause,
            reason=reason[:300],
            failures=F("failures") + 1 if failed else F("failures"),
        )


def _ours(delivery: Delivery) -> QuerySet[Delivery]:
    return Delivery.objects.filter(pk=delivery.pk, claimed_until=delivery.claimed_until)


def _pause(failures: int) -> dt.timedelta:
    """Return how long to wait after so many tries without an answer: from 2 s, doubled."""
    return min(dt.timedelta(seconds=2.0 ** min(failures + 1, 12)), LONGEST_PAUSE)
