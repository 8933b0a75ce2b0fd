"""What the broker says of a request it does not take: the status, the type and the text.

The texts are those that others have seen. KF is a thread of kite.trade/forum, PK an issue of
github.com/zerodha/pykiteconnect; where neither is named the words are our own, as the broker's are
not known to us.
"""

from __future__ import annotations

import datetime as dt

from markets.simulator.kite.envelope import KiteError, bad_input

_BAD_REQUEST, _FORBIDDEN, _NOT_FOUND, _TOO_MANY = 400, 403, 404, 429
# The same link in every capture of this text.
_READ_MORE = (
    "[Read more.](https://support.zerodha.com/category/trading-and-markets/gtt/articles/"
    "what-is-the-good-till-triggered-gtt-feature)"
)


def market_closed() -> KiteError:
    """Return the answer to an ordinary order outside the session (KF)."""
    return bad_input(
        "Markets are closed right now. Use GTT for placing long standing orders instead. "
        f"{_READ_MORE}"
    )


def beyond_circuit() -> KiteError:
    """Return the answer to a price outside the day's range or the exchange's band (KF)."""
    return bad_input(
        "Price exceeds circuit limits for the instrument. Place an order within the daily range."
    )


def far_from_last() -> KiteError:
    """Return the answer to a limit that has little hope of ever trading (KF; its end is ours)."""
    return bad_input(
        "LIMIT orders that are far away from the LTP are restricted as per exchange guidelines. "
        "Place the order nearer to the last price."
    )


def unprotected() -> KiteError:
    """Return the answer to a market order without protection, since 1 April 2026 (PK 242)."""
    return bad_input(
        "Market orders without market protection are not allowed via API. Please set market "
        "protection or use a Limit order."
    )


def over_freeze(most: int, symbol: str) -> KiteError:
    """Return the answer to more than the exchange takes in one order."""
    return bad_input(f"Quantity exceeds the freeze limit of {most} of {symbol}.")


def odd_lot(lot_size: int) -> KiteError:
    """Return the answer to a quantity, or to a held one, that is no whole number of lots."""
    return bad_input(f"Quantity should be a multiple of the lot size {lot_size}.")


def no_funds(required: float, available: float, *, says_more: bool = False) -> KiteError:
    """Return the answer to an order beyond the funds (PK 226).

    The broker's own published example of an order goes on with a second sentence.
    """
    text = (
        f"Insufficient funds. Required margin is {required:.2f} but available margin is "
        f"{max(available, 0.0):.2f}."
    )
    more = " Check the orderbook for open orders." if says_more else ""
    return KiteError(_BAD_REQUEST, "MarginException", text + more)


def no_holding(held: int, symbol: str) -> KiteError:
    """Return the answer to a sale of shares that are not there."""
    text = f"Insufficient stock holding. {held} of {symbol} can be sold."
    return KiteError(_BAD_REQUEST, "HoldingException", text)


def intraday_is_over(until: dt.time) -> KiteError:
    """Return the answer to an intraday order, an exit too, from the square-off on (public logs)."""
    when = f"{until.hour % 12 or 12}.{until.minute:02d} {'PM' if until.hour >= 12 else 'AM'}"
    return bad_input(
        f"Intraday orders (MIS) are allowed only till {when}. Try placing a CNC order."
    )


def unknown_order(*, is_read: bool = False) -> KiteError:
    """Return the answer to a number that today's book does not have (KF 49314: 400 and 404)."""
    status = _NOT_FOUND if is_read else _BAD_REQUEST
    return KiteError(status, "OrderException", "Couldn't find that `order_id`.")


def in_process(what: str) -> KiteError:
    """Return the answer to changing an order that is on its way (public logs)."""
    return bad_input(f"Order cannot be {what} as it is being processed. Try later.")


def is_over(status: str) -> KiteError:
    """Return the answer to changing an order to which nothing more can happen."""
    text = f"Order cannot be changed as it is {status.lower()}."
    return KiteError(_BAD_REQUEST, "OrderException", text)


def no_such_position() -> KiteError:
    """Return the answer to converting more than is held."""
    text = "There is no such position to convert."
    return KiteError(_BAD_REQUEST, "OrderException", text)


def too_many_requests() -> KiteError:
    """Return the answer to the request too many of a second (KF 48463)."""
    return KiteError(_TOO_MANY, "NetworkException", "Too many requests")


def too_many_orders() -> KiteError:
    """Return the answer to the order too many of a minute or a day (KF 51959)."""
    text = "Maximum allowed order requests exceeded."
    return KiteError(_BAD_REQUEST, "NetworkException", text)


def too_many_modifications() -> KiteError:
    """Return the answer to the modification too many of an order (KF)."""
    text = "Maximum allowed order modifications exceeded."
    return KiteError(_BAD_REQUEST, "NetworkException", text)


def wrong_address(address: str) -> KiteError:
    """Return the answer to an order from an address that is not registered (KF)."""
    text = (
        f"IP ({address}) is not allowed to place orders for this app. Update allowed IPs on the "
        "Kite developer console."
    )
    return KiteError(_FORBIDDEN, "PermissionException", text)


def no_addresses() -> KiteError:
    """Return the answer to an order where no address is registered at all (KF)."""
    text = "No IPs configured for this app. Add allowed IPs on the Kite developer console."
    return KiteError(_FORBIDDEN, "PermissionException", text)


def unheard_of() -> KiteError:
    """Return a refusal in words that nobody has seen before: a new rule of the morning's."""
    text = "This contract is under additional surveillance, stage 9. The order was not accepted."
    return KiteError(_BAD_REQUEST, "OrderException", text)


def lost_sight() -> KiteError:
    """Return the answer to an order of which the broker itself knows no more (KF 27820)."""
    text = "Order request timed out. Please check the order book and confirm before placing again."
    return KiteError(_BAD_REQUEST, "OrderException", text)


def slow_oms() -> KiteError:
    """Return the answer where the order management did not answer in time (KF 21259)."""
    return KiteError(503, "NetworkException", "Request failed (kitetrade-oms).")


def bad_gateway() -> KiteError:
    """Return the answer that readings of positions get now and then (KF 41213)."""
    return KiteError(502, "NetworkException", "Gateway timed out.")


def went_wrong() -> KiteError:
    """Return the broker's general error."""
    return KiteError(500, "GeneralException", "Something went wrong")
