"""The desk's venue on the simulated broker, in a market that a test moves by hand."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

from markets.domain.calendar import NseCalendar, nse_sessions
from markets.simulator import credentials as held
from markets.venues.base import BookOrder
from markets.venues.kite.rows import Directory
from markets.venues.kite.token import KiteConfig, TokenStore
from markets.venues.kite.venue import KiteVenue
from markets.venues.limiter import KINDS, KITE_RULES, RateLimiter, Rule
from tests.markets.simulator.broker import Broker, broker, ist
from tradingsite import clock

FUTURE = "NIFTY 2026-06-30 FUT"
CALL = "NIFTY 2026-06-30 25000 CE"
TAG = "T1ABCDEFGHIJKLMNOP"
ANY_PACE = (Rule("all", 10_000, 1.0, KINDS),)


class KiteDesk:
    """A broker, and the desk's venue on it."""

    def __init__(self, served: Broker, folder: Path, set_market: Callable[..., None]) -> None:
        self.broker = served
        self.tokens = TokenStore(folder / "token.json")
        self._folder = folder
        self._set_market = set_market
        self.go("2026-06-01 10:00")
        self.sign_in()
        self.venue = self.make(ANY_PACE)

    def make(self, rules: tuple[Rule, ...] = KITE_RULES, **changes: str) -> KiteVenue:
        """Return a venue of the desk's."""
        places = {"root": self.broker.url, "ws_root": self.broker.url.replace("http", "ws")}
        config = KiteConfig(held.KITE_API_KEY, held.KITE_API_SECRET, **(places | changes))
        limiter = RateLimiter(self._folder / f"limits-{len(rules)}", rules)
        return KiteVenue(config, self.tokens, limiter, NseCalendar(nse_sessions()))

    def go(self, at: str) -> None:
        """Set both sides' market time."""
        self.broker.go(at)
        self._set_market(clock.from_seconds(ist(at)))

    def sign_in(self) -> None:
        """Store a fresh token."""
        token = self.broker.kite.sessions.issue()
        self.tokens.save(token, held.KITE_USER_ID)
        self.broker.client.set_access_token(token)

    def fault(self, kind: str, **how: object) -> None:
        """Put a fault."""
        self.broker.fault(kind, **how)

    def place(self, lots: int = 1, tag: str = TAG, name: str = FUTURE) -> str:
        """Place an order of whole lots."""
        return self.venue.place(tag, name, Decimal(65 * lots), 1.0)

    def filled(self, tag: str = TAG) -> BookOrder:
        """Return an order once it is filled."""
        return self.seen(tag, "filled")

    def seen(self, tag: str, state: str) -> BookOrder:
        """Return an order once the book has it in a state."""
        self.broker.wait(lambda: [each.state for each in self.venue.orders([tag])] == [state])
        return self.venue.orders([tag])[0]


# The list of the day in which the tests begin: fetching it for each would be most of their time.
KNOWN: list[tuple[object, Directory]] = []


@contextmanager
def kite_desk(folder: Path, set_market: Callable[..., None]) -> Iterator[KiteDesk]:
    """Serve a broker with a new account and give the desk's venue on it."""
    with broker() as served:
        made = KiteDesk(served, folder, set_market)
        if not KNOWN:
            made.venue.instruments()
            assert made.venue._listed
            KNOWN.append(made.venue._listed)
        made.venue._listed = KNOWN[0]
        yield made
