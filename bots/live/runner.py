"""The loop of one bot. Everything it must remember is in the ledger, so it may die at any line.

Each step: hold the lock; reconcile where that is due; take in fills; then decide the bars that
have closed, or, with none due, roll and snapshot. A bar is decided once: its row is unique, and a
bar that is no longer the newest is left undecided.
"""

import gc
import logging
import time

from django.conf import settings
from django.db.models import Max

from bots.execution import exit_sizing, funding, kill_switch, ledger, protocol
from bots.execution.account import AccountView
from bots.execution.breaks import stopped
from bots.execution.netting import ROLL_CLOSE
from bots.execution.orders import submit_all
from bots.execution.postgres_ledger import DatabaseLedger
from bots.execution.reconcile import reconcile
from bots.execution.states import DOUBTFUL, State
from bots.live import marks
from bots.live.bar_schedule import BarSchedule, DueBars
from bots.live.decisions import Decider, load_closed_bar
from bots.live.policies import Policies
from bots.live.shadow import Shadows
from bots.models import Decision, Order, Position, RiskState
from markets import store
from markets.domain.calendar import Calendar
from markets.domain.instruments import Instruments
from markets.models import Bar
from markets.venues.base import TokenRefused, Venue
from tradingsite import clock
from tradingsite.clock import Epoch
from tradingsite.errors import Degraded, Retry, StopTrading
from tradingsite.locks import ProcessLock
from tradingsite.registry import MARKETS, Bot
from tradingsite.supervision.heartbeat import EVERY_SECONDS, Beat
from tradingsite.supervision.serving import DATABASE_ERRORS

LOOP_SECONDS = 0.2
RECONCILE_SECONDS = 60.0
IN_FLIGHT_SECONDS = 5.0
"""Real time between looks at the book while an accepted order has not ended."""
OPENED_SECONDS = 2.0
"""Market time after a session's open, until a venue that is closed at night surely takes orders."""
FILLS_AT_ONCE_SECONDS = 5.0
FILLS_SECONDS = 2.0
"""Real time between looks at the executions, once an order has been waiting for that long."""
VENUE_PAUSE_SECONDS = 5.0
"""Real time between tries where the venue cannot be read; nothing is decided in between."""
LATE_SECONDS = 5.0
"""Real time to wait for a bar's rows after its close; then the slot holds."""
SNAPSHOT_SECONDS = 900
"""Market time between snapshots."""
FUNDING_SECONDS = 300
"""Market time between looks for payments of funding."""
WARM_SECONDS = 600
"""Market time before a session at which a bot makes itself ready for its first bar."""
NO_FEED_SECONDS = 10 * 86_400
"""A market whose newest bar is older than this has no feed: its bots wait, and do not hold."""

log = logging.getLogger(__name__)


class Runner:
    """Run one bot on one venue."""

    def __init__(
        self,
        bot: Bot,
        venue: Venue,
        calendar: Calendar,
        beat: Beat,
        policies: Policies | None = None,
        challengers: Policies | None = None,
    ) -> None:
        self._bot = bot
        self._venue = venue
        self._calendar = calendar
        self._instruments = Instruments(bot.market, calendar)
        self._decider = Decider(bot, venue, self._instruments, policies or Policies(bot))
        self._shadows = Shadows(bot, self._instruments, challengers)
        self._ledger = DatabaseLedger(bot, venue, self._instruments)
        self._lock = ProcessLock(f"{bot.slug} bot", bot.market)
        self._beat = beat
        self._agenda = BarSchedule(bot.slots, calendar, {})
        self._rows: dict[str, Position] = {}
        self._unsettled: set[str] = set()
        self._is_ready = False
        self._reconciled_at = float("-inf")
        self._venue_asked_at = float("-inf")
        self._doubt_since: float | None = None
        self._doubt_reads = 0
        self._sent_at = self._filled_at = float("-inf")
        self._waits_since: dict[int, float] = {}
        self._snapshot_at = 0
        self._rolled_at = 0
        self._funded_at = 0
        self._closed_at = 0
        self._warmed_for = 0
        self._view: AccountView | None = None
        self._said_at = float("-inf")
        self._idle = ""

    def step(self) -> None:
        """Do what has become due; raise LockHeld while another process is this bot."""
        simulated = clock.simulated()
        if simulated is not None and simulated.anchor() is None:
            self._beat.beat("waiting", "the market's clock has not started yet")
            return
        try:
            self._step()
        except StopTrading as error:
            kill_switch.halt(self._bot, str(error), "the bot")
        except TokenRefused as error:
            # The day's token ends in the early morning; at night nobody needs to hear of it.
            self._is_ready = False
            is_open = self._calendar.is_open(clock.market_epoch())
            self._beat.beat("blocked" if is_open else "waiting", f"{error}")
        except (Retry, Degraded) as error:
            # What cannot be read proves nothing: no decision before the account is known again.
            self._is_ready = False
            log.warning("%s: %s does not answer: %s", self._bot.slug, self._venue.name, error)
            self._beat.beat("blocked", f"{self._venue.name} does not answer: {error}")
        except DATABASE_ERRORS:
            # A step that was cut may have decided, or sent, what this process does not know of.
            self._is_ready = False
            raise

    def close(self) -> None:
        """Give the lock back."""
        self._lock.release()

    def _step(self) -> None:
        if self._lock.ensure():
            self._is_ready = False
            self._venue_asked_at = float("-inf")
        if not self._is_ready:
            if time.monotonic() - self._venue_asked_at < VENUE_PAUSE_SECONDS:
                return
            self._venue_asked_at = time.monotonic()
            self._begin()
        now = clock.market_epoch()
        takes_orders = self._takes_orders(now)
        due = self._agenda.due(now) if takes_orders else None
        # A bar that is due comes before the minute's look at the book, unless something is open.
        if (due is None or self._unsettled) and self._must_reconcile():
            self._reconcile()
        self._take_fills()
        self._fund(now)
        if due is not None:
            self._decide(due)
        elif takes_orders:
            self._close_all(now)
            self._roll(now)
        if due is None:
            self._warm_up(now)
            self._snapshot(now)
        self._say(now)

    def _takes_orders(self, now: Epoch) -> bool:
        """Return whether the venue would take an order now; where not, the bars wait until then."""
        if self._venue.takes_orders_when_closed:
            return True
        session = self._calendar.session_at(now)
        has_opened = session is not None and now >= session.opens_at + OPENED_SECONDS
        return has_opened and self._calendar.is_open(now)

    def _take_fills(self) -> None:
        """Take in what the orders in flight have traded: at once, then at the venue's ease."""
        if not self._unsettled:
            return
        now = time.monotonic()
        if now - self._sent_at > FILLS_AT_ONCE_SECONDS and now - self._filled_at < FILLS_SECONDS:
            return
        self._filled_at = now
        protocol.take_trades(self._ledger, self._venue)
        self._look()  # a person may have ended one, too

    def _begin(self) -> None:
        """Start from the ledger: after a restart, and after the database was away."""
        at = self._instruments.tradable_at(clock.market_epoch())
        front = self._instruments.front(Epoch(at or clock.market_epoch()))
        ledger.open_rows(self._bot, front.name, self._venue.name)
        self._reconcile()
        newest = Decision.on(self._bot.market).objects.order_by().values_list("slot")
        handled = {
            slot: clock.epoch(closes_at)
            for slot, closes_at in newest.annotate(newest=Max("bar_closes_at"))
        }
        self._agenda = BarSchedule(self._bot.slots, self._calendar, handled)
        self._waits_since.clear()
        self._is_ready = True
        # What lives as long as the process is not to be searched for garbage in the middle of a
        # decision: that took a tenth of a second.
        gc.collect()
        gc.freeze()

    def _reconcile(self) -> None:
        outcome = reconcile(self._bot, self._venue, self._instruments, clock.market())
        self._reconciled_at = time.monotonic()
        if outcome.not_placed or outcome.settled or outcome.unknown:
            log.warning("%s: reconciled: %s", self._bot.slug, outcome)
        if settings.MODE != "simulated":
            self._keep_quote()
        self._look()

    def _keep_quote(self) -> None:
        """Keep the front contract's price for the pages, as the simulator does of its market."""
        now = clock.market_epoch()
        front = self._instruments.front(Epoch(self._instruments.tradable_at(now) or now)).name
        price = self._venue.quote(front)
        if price is not None:
            names = {front: price, MARKETS[self._bot.market].instrument: price}
            store.save_quotes(self._bot.market, names, clock.market())

    def _must_reconcile(self) -> bool:
        """Return whether the book is to be read: each minute, and sooner after a doubt began."""
        now = time.monotonic()
        if not self._unsettled & set(DOUBTFUL):
            self._doubt_since = None
            pause = IN_FLIGHT_SECONDS if self._unsettled else RECONCILE_SECONDS
            return now - self._reconciled_at >= pause
        if self._doubt_since is None:
            self._doubt_since, self._doubt_reads = now, 0
        if now - self._doubt_since < protocol.next_doubt_read(self._doubt_reads):
            return False
        self._doubt_reads += 1
        return True

    def _decide(self, due: DueBars) -> None:
        if due.newest not in self._waits_since:
            self._look_at_account()
        inputs = {slot.slug: load_closed_bar(slot, Epoch(at)) for slot, at in due.closes.items()}
        if not all(inputs.values()) and self._has_no_feed(due):
            self._agenda.done(due)
            return
        if not all(each and each.window is not None for each in inputs.values()):
            since = self._waits_since.setdefault(due.newest, time.monotonic())
            if time.monotonic() - since < LATE_SECONDS:
                return
            self._look_at_account()
        self._idle = ""
        self._waits_since.clear()
        self._send(self._decider.decide(due, inputs))
        self._agenda.done(due)
        self._shadows.decide(due, inputs)

    def _look_at_account(self) -> None:
        """Begin to ask the venue what an order will need to know, while the decision is made."""
        self._view = None
        if not self._venue.is_remote:
            return
        now = clock.market_epoch()
        front = self._instruments.front(Epoch(self._instruments.tradable_at(now) or now))
        held = {row.instrument for row in self._rows.values() if row.quantity}
        self._view = AccountView(self._venue, {front.name, *held}, front.lot_size)

    def _warm_up(self, now: Epoch) -> None:
        """Look at the account shortly before a session, so that its first order finds all at hand.

        The venue's list of the day, which takes a second, and connections that the night has cut.
        """
        session = self._calendar.next_session(now)
        if session is None or session.opens_at - now > WARM_SECONDS:
            return
        if session.opens_at != self._warmed_for:
            self._warmed_for = session.opens_at
            self._look_at_account()
            if self._view is not None:
                self._view.holdings()
            self._view = None

    def _send(self, intended: list[Order]) -> None:
        view, self._view = self._view, None
        submit_all(self._bot, intended, self._venue, self._instruments, view)
        self._sent_at = time.monotonic()
        self._look()

    def _has_no_feed(self, due: DueBars) -> bool:
        rows = Bar.on(self._bot.market).objects.filter(timeframe=self._bot.timeframes[0])
        newest = rows.order_by("-opens_at").values_list("closes_at", flat=True).first()
        if newest and due.newest - newest.timestamp() < NO_FEED_SECONDS:
            return False
        until = f"end on {clock.trading_date(newest)}" if newest else "have not begun"
        self._idle = f"no feed: the bars of {self._bot.market} {until}"
        return True

    def _roll(self, now: Epoch) -> None:
        """Move what is held of an old contract, where no decision has done so on its way."""
        if not any(row.lots for row in self._rows.values()) or self._unsettled:
            return
        fills_at = self._instruments.tradable_at(now)
        newest = self._agenda.newest(now)
        if fills_at is None or newest is None or newest == self._rolled_at:
            return
        front = self._instruments.front(Epoch(fills_at)).name
        if all(row.instrument == front for row in self._rows.values() if row.lots):
            return
        self._rolled_at = newest
        risk = RiskState.on(self._bot.market).objects.get(bot=self._bot.slug)
        bar = self._newest_bar()
        if self._decider.obstacle(risk, now) or bar is None or self._has_rolled(Epoch(newest)):
            return
        self._send(self._decider.roll(Epoch(newest), bar))

    def _close_all(self, now: Epoch) -> None:
        """Close what is held, where a person asked that of a halted bot, or the venue is about to.

        Once for each minute, until it is gone.
        """
        minute = now - now % 60
        if minute == self._closed_at or self._unsettled or not self._holds():
            return
        risk = RiskState.on(self._bot.market).objects.get(bot=self._bot.slug)
        if risk.halted and risk.flatten:
            close = self._decider.flatten
        elif not risk.halted and self._decider.is_last_call(now, self._rows.values()):
            close = self._decider.leave
        else:
            return
        self._closed_at = minute
        intended = close(minute)
        self._send(intended)
        for order in intended:
            if order.state in (State.DENIED, State.REJECTED, State.NOT_PLACED):
                exit_sizing.tell_left(self._bot, order)

    def _holds(self) -> bool:
        """Return whether a slot holds anything, less than a lot too."""
        return any(row.quantity for row in self._rows.values())

    def _has_rolled(self, newest: Epoch) -> bool:
        rows = Order.on(self._bot.market).objects.filter(
            bot=self._bot.slug, bar_closes_at=clock.from_seconds(newest), leg=ROLL_CLOSE
        )
        return rows.exists()

    def _newest_bar(self) -> float | None:
        market, timeframe = self._bot.market, self._bot.timeframes[0]
        rows = Bar.on(market).objects.filter(timeframe=timeframe).order_by("-opens_at")
        newest = rows.values_list("close", flat=True).first()
        return float(newest) if newest is not None else None

    def _snapshot(self, now: Epoch) -> None:
        boundary = now - now % SNAPSHOT_SECONDS
        if boundary == self._snapshot_at or not self._calendar.is_open(boundary - 1):
            return
        quote = store.last_quote(self._bot.market)
        if quote is None or quote.at.timestamp() < boundary - SNAPSHOT_SECONDS:
            return
        self._snapshot_at = boundary
        rows = list(self._rows.values())
        marks.snapshot(self._bot, rows, self._venue, self._instruments, boundary)

    def _fund(self, now: Epoch) -> None:
        """Book what holding has cost, soon after it is known and once more after a start."""
        boundary = now - now % FUNDING_SECONDS
        if boundary != self._funded_at:
            reach = funding.REACH if self._funded_at else funding.REACH_AT_START
            self._funded_at = boundary
            if funding.book(self._bot, clock.from_seconds(now), reach):
                self._look()

    def _look(self) -> None:
        self._rows = ledger.positions(self._bot)
        was_unsettled, self._unsettled = (
            self._unsettled,
            {order.state for order in ledger.in_flight(self._bot)},
        )
        if was_unsettled and not self._unsettled:
            # What the order has changed is held against the account, and shown, without a wait.
            self._reconciled_at = float("-inf")

    def _say(self, now: Epoch) -> None:
        if time.monotonic() - self._said_at < EVERY_SECONDS:
            return
        self._said_at = time.monotonic()
        risk = RiskState.on(self._bot.market).objects.get(bot=self._bot.slug)
        lots = ", ".join(
            f"{slot.timeframe} {self._rows[slot.slug].lots:+d}" for slot in self._bot.slots
        )
        if risk.halted:
            self._beat.beat("halted", risk.halt_reason)
        elif self._unsettled & set(DOUBTFUL):
            self._beat.beat("blocked", f"an order is unknown: no new ones until it is; {lots}")
        elif why := stopped(self._bot.market, self._venue.name):
            name, words = next(iter(why.items()))
            self._beat.beat("blocked", f"{name} is stopped: {words}; {lots}")
        elif self._idle:
            self._beat.beat("idle", self._idle)
        else:
            self._beat.beat("running", f"lots {lots}")
