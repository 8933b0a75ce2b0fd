"""Which notices end by themselves, and when: each tells of an event, or of a matter with an end.

Most alarms are ended by whoever told them. What nobody ends is here: an event stays open for as
long as it is news; a matter until the records say that it is over.
"""

import datetime as dt
import logging
from collections.abc import Callable, Iterable

from bots.models import Order, OrderEvent, Position, RiskState
from bots.modelstore.models import ModelVersion
from monitoring.dashboard.books import DOES_NOT_ANSWER
from monitoring.watch import watched
from tradingsite import clock, notices
from tradingsite.models import Heartbeat, Notice
from tradingsite.registry import BOTS, SLOTS
from tradingsite.scheduling.schedules import ALL

HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)

log = logging.getLogger(__name__)

# By how a key begins: how long the event is news, from when it was last said.
EVENTS: dict[str, dt.timedelta] = {
    "resume:": HOUR,
    "rests:": HOUR,
    "not-sent:": HOUR,
    "denied:": HOUR,
    "limits:": HOUR,
    "order:": DAY,
    "adopted:": DAY,
    "closed:": DAY,
    "converted:": DAY,
    "demotion:": DAY,
    "signal:": DAY,
    "kite:renewed": DAY,
    "kite:pinned": DAY,
    "access:": DAY,
    "queue:restarted": HOUR,
    "clock:": HOUR,
    "options:partition:": DAY,
}
NEWS_FOR = DAY
"""How long what is only worth knowing, of severity info, stays open."""


def end_what_is_over() -> list[str]:
    """End the open notices whose news is old or whose matter is over; return their keys."""
    now, ended = clock.real(), []
    for notice in Notice.objects.filter(resolved_at__isnull=True):
        try:
            over = is_over(notice, now)
        except (*DOES_NOT_ANSWER, LookupError, ValueError) as error:  # nobody knows: it stays
            log.warning("whether %s is over cannot be told: %s", notice.key, error)
            continue
        if over:
            notices.resolve(notice.key)
            ended.append(notice.key)
    return ended


def is_over(notice: Notice, now: dt.datetime) -> bool:
    """Return whether nothing of an open notice stands any more."""
    for begins, matter in MATTERS.items():
        if notice.key.startswith(begins):
            over = matter(notice.key.removeprefix(begins))
            if over is not None:
                return over
    news_for = next(
        (time for begins, time in EVENTS.items() if notice.key.startswith(begins)), None
    )
    if news_for is None and notice.severity == Notice.Severity.INFO:
        news_for = NEWS_FOR
    return news_for is not None and now - notice.last_at > news_for


# --- Matters: True where one is over, False where it lasts, None where it is but an event --------


def _order(name: str) -> bool | None:
    """An order is over as an alarm once its fate is known."""
    market, _, number = name.partition(":")
    event = OrderEvent.on(market).objects.filter(pk=number).select_related("order").first()
    if event is None or event.state != Order.State.UNKNOWN:
        return None
    return event.order.state != Order.State.UNKNOWN


def _daily_loss(bot: str) -> bool:
    risk = RiskState.on(BOTS[bot].market).objects.filter(bot=bot).first()
    today = clock.trading_date(clock.market())
    return risk is None or not risk.loss_latched or risk.trading_date != today


def _held(name: str) -> bool:
    """What could not be closed is over once the bot holds none of it."""
    bot, _, instrument = name.partition(":")
    rows = Position.on(BOTS[bot].market).objects.filter(bot=bot, instrument=instrument)
    return not any(rows.values_list("quantity", flat=True))


def _model(name: str) -> bool | None:
    """A model that cannot trade is no matter once another trades its slot."""
    slot, _, number = name.rpartition(" v")
    if slot not in SLOTS:
        return None
    versions = ModelVersion.objects.filter(slot=slot, number=number)
    return not versions.filter(state=ModelVersion.State.ACTIVE).exists()


def _waits(slot: str) -> bool:
    """A model waits no longer once the newest one trades, or is out of the question."""
    newest = ModelVersion.objects.filter(slot=slot).order_by("-number").first()
    return newest is None or newest.state != ModelVersion.State.VERIFIED


def _restart(service: str) -> bool | None:
    return None if service in _names() else True


def _job(name: str) -> bool:
    return name not in ALL


def _training(slot: str) -> bool:
    return slot not in SLOTS


def _simulator(what: str) -> bool | None:
    if what != "ended":
        return None
    beat = Heartbeat.objects.filter(service="simulator").first()
    return beat is None or beat.state != "ended"


def _names() -> Iterable[str]:
    return {service.name for service in watched()}


MATTERS: dict[str, Callable[[str], bool | None]] = {
    "order:": _order,
    "daily-loss:": _daily_loss,
    "exit:": _held,
    "left:": _held,
    "model:": _model,
    "waits:": _waits,
    "restart:": _restart,
    "job:": _job,
    "training:": _training,
    "simulator:": _simulator,
}
