"""The newest model that may not trade yet decides too, on every bar, and sends nothing.

What it would have done on bars that nobody had when it was trained is the only fresh evidence of
it there is. It has an account of its own, which trades as the replay does: at the next bar's open,
with slippage, charges and funding.
"""

import datetime as dt
import logging
from collections.abc import Mapping
from dataclasses import asdict
from decimal import Decimal
from typing import Literal

from django.db import transaction

from bots.decision import accounting
from bots.decision.actions import NAMES
from bots.decision.engine import decide, probabilities
from bots.decision.observation import limit_notional
from bots.decision.sleeve import Sleeve, SleeveState
from bots.execution import ledger
from bots.live.bar_schedule import DueBars
from bots.live.decisions import ClosedBar
from bots.live.policies import Loaded, Policies
from bots.models import Position, ShadowAccount, ShadowDecision
from bots.modelstore import services as modelstore
from bots.modelstore.models import ModelVersion
from markets.domain.charges import itemise
from markets.domain.exogenous import FUNDING
from markets.domain.instruments import Instrument, Instruments
from markets.models import Reading
from tradingsite import clock
from tradingsite.clock import Epoch
from tradingsite.errors import Degraded
from tradingsite.registry import Bot, Slot

BASIS_POINTS = 10_000.0

log = logging.getLogger(__name__)


class Challengers(Policies):
    """Keep the policies of the newest models that wait, one a slot; a bad one is only logged."""

    def _version(self, slot: Slot) -> ModelVersion | None:
        return modelstore.challenger(slot.slug)

    def _say_refused(
        self, version: ModelVersion, kept: Loaded | None, error: Exception, pause: float
    ) -> None:
        log.warning("%s cannot be followed in the shadow: %s", version, error)


class Shadows:
    """Follow the waiting models of one bot's slots."""

    def __init__(
        self, bot: Bot, instruments: Instruments, policies: Policies | None = None
    ) -> None:
        self._bot = bot
        self._instruments = instruments
        self._policies = policies or Challengers(bot)

    def decide(self, due: DueBars, inputs: Mapping[str, ClosedBar | None]) -> int:
        """Let them decide on the bars that were just decided on; return how many did.

        Called after the orders are out. Whatever fails here is logged and costs a bar of evidence,
        never an order.
        """
        made = 0
        for slot, closes_at in due.closes.items():
            found = inputs[slot.slug]
            if found is None or found.window is None:
                continue
            try:
                loaded = self._policies.current(slot)
                if loaded is not None:
                    self._decide(slot, Epoch(closes_at), found, loaded)
                    made += 1
            except Degraded as error:
                log.warning("%s: the shadow skips a bar: %s", slot.slug, error)
            except Exception:
                log.exception("%s: the shadow failed at a bar; trading is not touched", slot.slug)
        return made

    def _decide(self, slot: Slot, closes_at: Epoch, found: ClosedBar, loaded: Loaded) -> None:
        assert found.window is not None  # noqa: S101 - `decide` has looked
        front = self._instruments.front(found.opens_at)
        at = clock.from_seconds(closes_at)
        with transaction.atomic(using=slot.market):
            row = self._account(slot, loaded, front, found, at)
            if row.decided_at is not None and row.decided_at >= at:
                return
            sleeve = Sleeve.from_state(SleeveState(**row.sleeve))
            price = self._price(front, found.underlying, found)
            if row.decided_at is not None:
                self._fund(row, sleeve, price, row.decided_at)
            self._trade(row, sleeve, front, found)
            self._fund(row, sleeve, price, at)
            account = sleeve.observe(price, float(front.lot_size))
            code = loaded.policy.encode(found.window)
            decision = decide(sleeve, loaded.policy.act(code, account))
            row.wanted_lots = decision.lots_after
            row.sleeve = asdict(sleeve.state())
            row.bars += 1
            row.decided_at = at
            row.save()
            ShadowDecision.on(slot.market).objects.create(
                slot=slot.slug,
                model=loaded.name,
                model_sha256=loaded.sha256,
                bar_closes_at=at,
                decided_at=clock.market(),
                action=NAMES[decision.action],
                probabilities=probabilities(decision.logits),
                lots_before=decision.lots_before,
                lots_after=decision.lots_after,
                price=ledger.money(price),
                equity=ledger.money(sleeve.equity),
            )

    def _account(
        self, slot: Slot, loaded: Loaded, front: Instrument, found: ClosedBar, at: dt.datetime
    ) -> ShadowAccount:
        price = self._price(front, found.underlying, found)
        lot_size = float(front.lot_size)
        champion = Position.on(slot.market).objects.filter(slot=slot.slug).first()
        row, _ = ShadowAccount.on(slot.market).objects.get_or_create(
            slot=slot.slug,
            model=loaded.name,
            defaults={
                "instrument": front.name,
                "sleeve": asdict(Sleeve(self._bot.limit_lots, 0.0, lot_size).state()),
                "notional": ledger.money(limit_notional(self._bot.limit_lots, lot_size, price)),
                "champion_equity": champion.equity if champion else Decimal(0),
                "since": at,
            },
        )
        return row

    def _price(self, instrument: Instrument, underlying: float, found: ClosedBar) -> float:
        """Return what a contract was worth in a bar, as the bots' own marks say it."""
        price = self._instruments.price(instrument, underlying, found.opens_at)
        return underlying if price is None else price

    def _fund(self, row: ShadowAccount, sleeve: Sleeve, price: float, at: dt.datetime) -> None:
        """Pay the funding up to an instant on what it holds; a rate is known a little after its."""
        rates = Reading.on(self._bot.market).objects.filter(
            series=FUNDING, at__gt=row.funded_at or row.since, at__lte=at
        )
        before = sleeve.cash
        for paid_at, rate in rates.order_by("at").values_list("at", "value"):
            sleeve.pay_funding(accounting.funding_per_unit(price, float(rate)))
            row.funded_at = paid_at
        row.funding += ledger.money(before - sleeve.cash)

    def _trade(
        self, row: ShadowAccount, sleeve: Sleeve, front: Instrument, found: ClosedBar
    ) -> None:
        """Fill what it wanted at its last bar, at the open of this one, as the replay does."""
        wanted = row.wanted_lots * float(front.lot_size)
        held = self._instruments.parse(row.instrument) if sleeve.quantity else front
        if wanted == sleeve.quantity and held == front:
            return
        if held != front:
            sleeve.roll(float(front.lot_size))
        closing, opening = accounting.split(sleeve.quantity, wanted, 1 if held == front else 0)
        for quantity, instrument in ((closing, held), (opening, front)):
            if quantity:
                reference = self._price(instrument, found.underlying_open, found)
                self._fill(row, sleeve, quantity, reference, found.opens_at)
        row.instrument = front.name

    def _fill(
        self, row: ShadowAccount, sleeve: Sleeve, quantity: float, reference: float, opens_at: Epoch
    ) -> None:
        side = 1 if quantity > 0 else -1
        slippage = self._bot.slippage_bps / BASIS_POINTS
        price = accounting.fill_price(reference, side, slippage)
        name: Literal["buy", "sell"] = "buy" if side > 0 else "sell"
        turnover = ledger.money(abs(quantity) * price)
        date = clock.trading_date(opens_at)
        charges = itemise(self._bot.market, date, name, turnover).total
        sleeve.fill(quantity, price, float(charges))
        row.trades += 1
        row.charges += charges
        row.slippage += ledger.money(accounting.slippage_cost(quantity, price, reference))
