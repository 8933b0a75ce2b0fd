"""The simulated broker, served, with the broker's own client and a hand on the market's clock."""

import datetime as dt
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from kiteconnect import KiteConnect

from markets.simulator import credentials
from markets.simulator.faults import Fault
from markets.simulator.kite.app import Kite
from markets.simulator.world import World
from tests.markets.simulator.served import served
from tradingsite.clock import IST

FUTURE = "NIFTY26JUNFUT"
PATIENCE_SECONDS = 5.0


def ist(text: str) -> float:
    """Return an instant written in Indian time as epoch seconds."""
    return dt.datetime.fromisoformat(text).replace(tzinfo=IST).timestamp()


class Hand:
    """A market clock that a test moves."""

    def __init__(self, at: str = "2026-06-01 10:00") -> None:
        self.at = ist(at)

    def __call__(self) -> float:
        return self.at


@cache
def shared_world() -> tuple[World, Hand]:
    """Return one market for all tests of a process: building it costs a second."""
    hand = Hand()
    return World.build(hand), hand


class Broker:
    """Hold a served broker, its client and its clock."""

    def __init__(self, kite: Kite, hand: Hand, url: str) -> None:
        self.kite = kite
        self.hand = hand
        self.url = url
        self.client = self.sign_in()

    def sign_in(self, **options: Any) -> KiteConnect:
        """Return a client with a fresh token."""
        client = KiteConnect(credentials.KITE_API_KEY, root=self.url, **options)
        client.set_access_token(self.kite.sessions.issue())
        return client

    def go(self, at: str) -> None:
        """Move the market's clock, and sign in again where the night has passed."""
        day = self.hand.at // 86_400
        self.hand.at = ist(at)
        self.kite.world._board = None  # what was quoted before the jump is not of now
        if self.hand.at // 86_400 != day:
            self.client = self.sign_in()

    def fault(self, kind: str, **how: Any) -> Fault:
        """Put a fault."""
        return self.kite.faults.put(kind, **how)

    def last(self, symbol: str = FUTURE) -> float:
        """Return a future's last price."""
        key = f"NFO:{symbol}"
        return float(self.client.ltp([key])[key]["last_price"])

    def buy(self, quantity: int = 65, **changes: Any) -> str:
        """Place an order, a market order for one lot of the near future unless told otherwise."""
        order = {
            "variety": "regular",
            "exchange": "NFO",
            "tradingsymbol": FUTURE,
            "transaction_type": "BUY",
            "quantity": quantity,
            "product": "NRML",
            "order_type": "MARKET",
            "market_protection": -1,
            **changes,
        }
        return str(self.client.place_order(**order))

    def sell(self, quantity: int = 65, **changes: Any) -> str:
        """Place a sale."""
        return self.buy(quantity, transaction_type="SELL", **changes)

    def order(self, order_id: str) -> dict[str, Any]:
        """Return an order of the book."""
        found = [each for each in self.client.orders() if each["order_id"] == order_id]
        assert found, f"{order_id} is not in the book"
        return dict(found[0])

    def until(self, order_id: str, status: str) -> dict[str, Any]:
        """Wait until an order is in a state, and return it."""
        self.wait(lambda: self.order(order_id)["status"] == status)
        return self.order(order_id)

    def states(self, order_id: str) -> list[str]:
        """Return the states an order went through."""
        return [each["status"] for each in self.client.order_history(order_id)]

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so."""
        ends_at = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < ends_at, "it never came to be"
            time.sleep(0.02)


@contextmanager
def broker(home: Path | None = None, at: str = "2026-06-01 10:00", **how: Any) -> Iterator[Broker]:
    """Serve a broker with a new account, at a time of the market."""
    world, hand = shared_world()
    hand.at = ist(at)
    world._board = None
    how = {"has_limits": False, "owner_trades": False, **how}
    kite = Kite(world, home, **how)
    with served(kite.app()) as url:
        yield Broker(kite, hand, url)
