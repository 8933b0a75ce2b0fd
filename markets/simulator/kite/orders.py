"""An order at the simulated broker: what a request asks for, and the states it goes through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from markets.simulator.kite.envelope import bad_input

VARIETIES = ("regular", "amo", "co", "iceberg", "auction")
ORDER_TYPES = ("MARKET", "LIMIT", "SL", "SL-M")
VALIDITIES = ("DAY", "IOC", "TTL")
PRODUCTS = ("CNC", "NRML", "MIS", "MTF")
# What the broker squares off before the close; CO is what it makes of a cover order's MIS.
INTRADAY = ("MIS", "CO")
TAG_CHARACTERS = 20
MOST_SLICES = 10

RECEIVED = "PUT ORDER REQ RECEIVED"
AMO_RECEIVED = "AMO REQ RECEIVED"
OPEN_PENDING = "OPEN PENDING"
OPEN = "OPEN"
TRIGGER_PENDING = "TRIGGER PENDING"
COMPLETE = "COMPLETE"
CANCELLED = "CANCELLED"
REJECTED = "REJECTED"
TERMINAL = (COMPLETE, CANCELLED, REJECTED)


@dataclass(slots=True)
class Ask:
    """Hold what an order request asks for, checked in itself."""

    variety: str
    exchange: str
    symbol: str
    side: int
    """1 buys, -1 sells."""
    quantity: int
    product: str
    order_type: str
    validity: str
    price: float
    trigger_price: float
    disclosed_quantity: int
    market_protection: float
    tag: str
    ttl_minutes: int = 0


@dataclass(slots=True)
class Order:
    """Hold an order of the book; prices in rupees, times in epoch seconds of the market."""

    order_id: str
    ask: Ask
    token: int
    placed_by: str
    received_at: float
    status: str = RECEIVED
    message: str | None = None
    exchange_order_id: str | None = None
    exchange_at: float | None = None
    filled: int = 0
    value: float = 0.0
    """Of what is filled: quantity times price."""
    cancelled: int = 0
    modified: bool = False
    parent_id: str | None = None
    extra_tags: list[str] = field(default_factory=list)
    history: list[tuple[str, float, int, str | None]] = field(default_factory=list)
    """Each state, when, the quantity filled then, and what was said."""
    visible_at: float = 0.0
    """Epoch seconds of the real clock before which the book does not show it."""
    is_cut_off: bool = False
    """Whether the exchange has it and the broker hears nothing of it until the evening."""
    withheld: list[tuple[int, float, float]] = field(default_factory=list)
    """What the exchange made of it meanwhile: each quantity, price and true time."""

    @property
    def at_exchange(self) -> int:
        """Return the quantity the exchange may still fill, whatever the broker knows."""
        return self.pending - sum(quantity for quantity, _, _ in self.withheld)

    @property
    def pending(self) -> int:
        """Return the quantity still to be filled."""
        return self.ask.quantity - self.filled - self.cancelled

    @property
    def average_price(self) -> float:
        """Return the average price of what is filled."""
        return round(self.value / self.filled, 4) if self.filled else 0.0

    @property
    def is_over(self) -> bool:
        """Return whether nothing more can happen to it."""
        return self.status in TERMINAL

    def become(self, status: str, at: float, message: str | None = None) -> None:
        """Enter a state."""
        self.status, self.message = status, message
        self.history.append((status, at, self.filled, message))

    def dump(self) -> dict[str, Any]:
        """Return the order as JSON can hold it."""
        return asdict(self)

    @classmethod
    def load(cls, body: dict[str, Any]) -> Order:
        """Return an order from its dump."""
        history = [(status, at, filled, said) for status, at, filled, said in body["history"]]
        withheld = [(quantity, price, at) for quantity, price, at in body.get("withheld", ())]
        whole = {"ask": Ask(**body["ask"]), "history": history, "withheld": withheld}
        return cls(**{**body, **whole})


@dataclass(frozen=True, slots=True)
class Trade:
    """Hold one execution."""

    trade_id: str
    order_id: str
    exchange_order_id: str
    exchange: str
    symbol: str
    token: int
    product: str
    side: int
    quantity: int
    price: float
    at: float
    ordered_at: float


def parse(variety: str, form: Mapping[str, str]) -> Ask:
    """Return what an order request asks for; raise KiteError naming what is wrong with it."""
    if variety not in VARIETIES:
        raise bad_input(f"Invalid `variety`: {variety}.")
    order_type = _choice(form, "order_type", ORDER_TYPES)
    ask = Ask(
        variety=variety,
        exchange=_text(form, "exchange"),
        symbol=_text(form, "tradingsymbol"),
        side=1 if _choice(form, "transaction_type", ("BUY", "SELL")) == "BUY" else -1,
        quantity=whole(form, "quantity"),
        product=_product(variety, form),
        order_type=order_type,
        validity=_choice(form, "validity", VALIDITIES, "DAY"),
        price=number(form, "price"),
        trigger_price=number(form, "trigger_price"),
        disclosed_quantity=whole(form, "disclosed_quantity", 0),
        market_protection=number(form, "market_protection"),
        tag=form.get("tag", ""),
        ttl_minutes=whole(form, "validity_ttl", 0),
    )
    if ask.quantity <= 0:
        raise bad_input("Quantity should be a positive number.")
    # A cover order without its price gets a number and dies in the book, as the public tests of
    # the broker's own client have it.
    if order_type in ("LIMIT", "SL") and ask.price <= 0.0 and variety != "co":
        raise bad_input("Price is required for LIMIT and SL orders.")
    needs_trigger = order_type in ("SL", "SL-M") or variety == "co"
    if needs_trigger and ask.trigger_price <= 0.0:
        raise bad_input("Trigger price is required for SL and SL-M orders.")
    if len(ask.tag) > TAG_CHARACTERS:
        raise bad_input(f"Invalid `tag`: at most {TAG_CHARACTERS} characters are allowed.")
    return ask


def number(form: Mapping[str, str], name: str, default: float = 0.0) -> float:
    """Return a number of a form; raise KiteError for anything else."""
    text = form.get(name, "")
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        raise bad_input(f"Invalid `{name}`: {text}.") from None
    if value != value or value in (float("inf"), float("-inf")):
        raise bad_input(f"Invalid `{name}`: {text}.")
    return value


def whole(form: Mapping[str, str], name: str, default: int | None = None) -> int:
    """Return a whole number of a form; raise KiteError for anything else."""
    if not form.get(name) and default is None:
        raise bad_input(f"Missing or empty field `{name}`.")
    value = number(form, name, float(default or 0))
    if value != int(value):
        raise bad_input(f"Invalid `{name}`: {form[name]}.")
    return int(value)


def _product(variety: str, form: Mapping[str, str]) -> str:
    product = _choice(form, "product", PRODUCTS)
    return "CO" if variety == "co" else product


def _text(form: Mapping[str, str], name: str) -> str:
    if not form.get(name):
        raise bad_input(f"Missing or empty field `{name}`.")
    return form[name]


def _choice(
    form: Mapping[str, str], name: str, choices: tuple[str, ...], default: str | None = None
) -> str:
    text = form.get(name) or default
    if text is None:
        raise bad_input(f"Missing or empty field `{name}`.")
    if text not in choices:
        raise bad_input(f"Invalid `{name}`: {text}.")
    return text
