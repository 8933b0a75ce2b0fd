"""Rows of a small desk, as its services would have written them."""

import datetime as dt
from decimal import Decimal

from bots.models import Fill, Order, PnlSnapshot, Position
from bots.modelstore.models import ModelVersion
from markets.models import Bar, Quote
from tests.histories import seed_days
from tradingsite import clock
from tradingsite.databases import TRADING
from tradingsite.models import Heartbeat
from tradingsite.registry import MARKETS
from tradingsite.supervision.services import PLUMBING, SERVICES

NOW = dt.datetime(2026, 6, 2, 13, 42, tzinfo=clock.IST)
ALIASES = ["default", *TRADING]


def at(text: str, day: int = 2) -> dt.datetime:
    """Return a time of day of June 2026 in India, like "13:30"."""
    return dt.datetime.fromisoformat(f"2026-06-{day:02}T{text}").replace(tzinfo=clock.IST)


def snapshot(slot: str, when: dt.datetime, equity: str, charges: str = "0") -> None:
    """Write a slot's mark."""
    alias = "btc" if slot.startswith("btc") else "nifty"
    PnlSnapshot.on(alias).objects.create(
        slot=slot,
        at=when,
        equity=Decimal(equity),
        unrealised=0,
        charges=Decimal(charges),
        lots=0,
        mark=1,
    )


def position(slot: str, quantity: str, entry: str, cash: str, lots: int, charges: str) -> None:
    """Write what a slot holds."""
    bot = slot.partition("-")[0]
    alias = "btc" if bot == "btc" else "nifty"
    Position.on(alias).objects.create(
        slot=slot,
        bot=bot,
        instrument=MARKETS[alias].instrument,
        lots=lots,
        quantity=Decimal(quantity),
        average_price=Decimal(entry),
        cash=Decimal(cash),
        charges=Decimal(charges),
        model=f"{slot} v1",
        updated_at=NOW,
    )


def quote(alias: str, price: str) -> None:
    """Write a market's last price."""
    Quote.on(alias).objects.create(
        instrument=MARKETS[alias].instrument, price=Decimal(price), at=NOW
    )


def fill(alias: str, when: dt.datetime, quantity: str, trade_id: str) -> None:
    """Write a filled order."""
    order = Order.on(alias).objects.create(
        bot=alias,
        tag=f"tag{trade_id}",
        instrument=MARKETS[alias].instrument,
        quantity=Decimal(quantity),
        state=Order.State.FILLED,
        bar_closes_at=when,
        leg="open",
        reference_price=1,
        created_at=when,
        updated_at=when,
        mode="simulated",
    )
    Fill.on(alias).objects.create(
        order=order,
        trade_id=trade_id,
        bot=alias,
        instrument=order.instrument,
        quantity=order.quantity,
        price=Decimal("24861.40"),
        charges=1,
        slippage=1,
        at=when,
        mode="simulated",
    )


def bar(alias: str, timeframe: str, opens_at: dt.datetime, closes_at: dt.datetime) -> None:
    """Write a generated bar."""
    prices = dict.fromkeys(("open", "high", "low", "close"), 100)
    Bar.on(alias).objects.create(
        timeframe=timeframe, opens_at=opens_at, closes_at=closes_at, source="generated", **prices
    )


def fresh_bars() -> None:
    """Write the newest bar of every timeframe, none of them late."""
    bar("nifty", "15m", at("13:15"), at("13:30"))
    bar("nifty", "1h", at("12:15"), at("13:15"))
    bar("nifty", "1d", at("09:15", 1), at("15:30", 1))
    bar("btc", "1h", at("12:30"), at("13:30"))
    bar("btc", "4h", at("09:30"), at("13:30"))


def services_up() -> None:
    """Write a fresh heartbeat of every service."""
    now = clock.real()
    Heartbeat.objects.bulk_create(
        Heartbeat(
            service=service.name,
            pid=1,
            started_at=now - dt.timedelta(minutes=10),
            beat_at=now,
            state="running",
        )
        for service in SERVICES + PLUMBING
    )


def model(slot: str, number: int, state: str, net_return: float = 0.05) -> ModelVersion:
    """Write a model version with its held-out result."""
    return ModelVersion.objects.create(
        slot=slot,
        number=number,
        run_id=number,
        state=state,
        path=f"{slot}/v{number}",
        manifest_sha256="ab" * 32,
        trained_from=NOW - dt.timedelta(days=1400),
        trained_until=NOW - dt.timedelta(days=60),
        metrics={
            "holdout": {"net_return": net_return},
            "baselines": {"buy_and_hold": {"net_return": -0.018}},
        },
        reason="its files do not match" if state == "quarantined" else "",
        created_at=clock.real(),
    )


def whole_desk() -> None:
    """Write a desk where everything runs: 1,000 rupees up in NIFTY today, 10 USDC down in BTC."""
    seed_days("nifty")
    services_up()
    fresh_bars()
    quote("nifty", "24905")
    quote("btc", "97800")
    snapshot("nifty-15m", at("15:30", 1), "4000", "300")
    snapshot("nifty-15m", at("13:30"), "4500", "350")
    snapshot("btc-1h", at("23:30", 1), "50", "2")
    position("nifty-15m", "130", "24861", str(5000 - 130 * 24905), 2, "400")
    position("btc-1h", "-0.03", "97000", str(40 + 0.03 * 97800), -3, "3")
    fill("nifty", at("09:30"), "130", "n1")
    fill("nifty", at("13:30", 1), "65", "n0")
    fill("btc", at("12:30"), "-0.03", "b1")
    model("nifty-15m", 1, "active")
