"""What the broker refuses before an order is in its book: form, prices, lots, protection."""

from __future__ import annotations

from markets.simulator.kite import refusals
from markets.simulator.kite.envelope import bad_input
from markets.simulator.kite.orders import Ask
from markets.simulator.listing import INDEX, SHARE, Listed

# The exchange's band for limits of options that would trade at once: so far beyond the reference
# price, in rupees up to a premium of 50 and as a ratio above it (tradingqna.com 193460, 2026). The
# reference, the mean of 30 seconds' trades, is the last price here.
BAND_PREMIUM, BAND_RUPEES, BAND_RATIO = 50.0, 20.0, 0.4
# How far is "far away" is not published; ours, for premiums of ten rupees and more.
FAR_FACTOR, FAR_PREMIUM = 3.0, 10.0
MOST_PROTECTION_PCT = 100.0


def check(ask: Ask, row: Listed, last: float, circuit: tuple[float, float], held: int) -> None:
    """Raise KiteError where the exchange's rules forbid the order; `held` is the net quantity."""
    if row.kind == INDEX:
        raise bad_input("Indices cannot be traded.")
    # A holding that a revision of the lot made odd is kept to its expiry (NSE on lot revisions).
    closes_odd_lot = held * ask.side < 0 and held % row.lot_size
    if ask.quantity % row.lot_size or closes_odd_lot:
        raise refusals.odd_lot(row.lot_size)
    check_product(ask.product, row)
    for name, price in (("price", ask.price), ("trigger_price", ask.trigger_price)):
        steps = price / row.tick_size
        if price and abs(steps - round(steps)) > 1e-6:
            raise bad_input(f"The {name} should be a multiple of the tick size {row.tick_size}.")
    _check_price(ask, row, last, circuit)
    _check_trigger(ask, last)


def check_product(product: str, row: Listed) -> None:
    """Raise KiteError where an instrument cannot be held as a product."""
    if product == "CNC" and row.kind != SHARE:
        raise bad_input("CNC is not allowed for derivatives; use NRML or MIS.")
    if product == "NRML" and row.kind == SHARE:
        raise bad_input("NRML is not allowed for equity; use CNC or MIS.")


def check_protection(ask: Ask) -> None:
    """Raise KiteError where a market order has no protection."""
    if ask.order_type not in ("MARKET", "SL-M"):
        return
    if ask.market_protection == -1.0 or 0.0 < ask.market_protection <= MOST_PROTECTION_PCT:
        return
    raise refusals.unprotected()


def _check_price(ask: Ask, row: Listed, last: float, circuit: tuple[float, float]) -> None:
    low, high = circuit
    if not ask.price:
        return
    if not low <= ask.price <= high:
        raise refusals.beyond_circuit()
    if not row.is_option:
        return
    reach = BAND_RATIO * last if last > BAND_PREMIUM else BAND_RUPEES
    if ask.side * (ask.price - last) > reach:
        raise refusals.beyond_circuit()
    is_far = ask.price * FAR_FACTOR < last if ask.side > 0 else ask.price > last * FAR_FACTOR
    if ask.order_type == "LIMIT" and last >= FAR_PREMIUM and is_far:
        raise refusals.far_from_last()


def _check_trigger(ask: Ask, last: float) -> None:
    if ask.variety == "co":
        if ask.side * (last - ask.trigger_price) <= 0:
            raise bad_input("The stop of a cover order must lie on the losing side of its price.")
        return
    if ask.order_type == "SL" and ask.side * (ask.price - ask.trigger_price) < 0:
        raise bad_input("The limit price of an SL order must lie beyond its trigger price.")
    if ask.order_type in ("SL", "SL-M") and ask.side * (ask.trigger_price - last) < 0:
        side = "lower" if ask.side > 0 else "higher"
        raise bad_input(f"Trigger price cannot be {side} than the last traded price of {last}.")
