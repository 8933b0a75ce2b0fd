"""The markets, the bots and their model slots: one table each, standard library only.

Slots, pages and tests derive from this file. Entries are by keyword: two limits of one type, side
by side, must not be told apart by their place. What the owner allows may be narrowed outside the
repository, so that no upgrade touches it: see `tradingsite.owner_limits`.
"""

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """Name a market; its slug is also the alias of its database."""

    slug: str
    title: str
    currency: str
    instrument: str
    timeframes: tuple[str, ...]
    calendar: str
    daily_loss_limit: Decimal
    """Loss of one trading date, all bots of the account together, after which they only reduce."""
    carry_per_year: float = 0.0
    """Annual cost of carry used to price the near future from the index, a stated assumption."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Name one model slot: a bot trades one model per timeframe."""

    bot: str
    market: str
    timeframe: str

    @property
    def slug(self) -> str:
        """Return the name used in paths, pages and commands, like "nifty-15m"."""
        return f"{self.bot}-{self.timeframe}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bot:
    """Describe a bot: what it trades, how much it may hold, what its fills are assumed to cost."""

    slug: str
    title: str
    market: str
    timeframes: tuple[str, ...]
    limit_lots: int
    """Largest position of each slot, in whole lots, long or short."""
    slippage_bps: float
    """Half spread plus impact against us on every fill; an assumption until our own fills say."""
    daily_loss_limit: Decimal
    """Loss of one trading date, in the market's currency, after which the bot only reduces."""
    notional_limit: Decimal
    """Most that the bot's whole position may be worth, in the market's currency."""
    network: str = "tft"
    """Market encoder of its policies: tft, mlp or lstm (training.nets)."""
    drawdown_weight: float = 0.1
    """What a deepening of the drawdown costs in the reward, in shares of the same loss."""
    sharpe_weight: float = 0.0
    """Weight of the differential Sharpe ratio in the reward; it has shown no gain yet."""
    on_paper: bool = False
    """Trades a book of our own in every mode: the owner follows its signals by hand, or not."""
    learns_from_owner: bool = False
    """Trained on the owner's own trades, so without them it has nothing to learn from."""
    style_weight: float = 0.0
    """How much such a bot is held to the owner's style, on a log scale: 0.01 leaves it free, 1
    keeps the clone."""

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Return the bot's model slots in the order of its timeframes."""
        return tuple(Slot(self.slug, self.market, timeframe) for timeframe in self.timeframes)


MARKETS: dict[str, Market] = {
    market.slug: market
    for market in (
        Market(
            slug="nifty",
            title="NIFTY",
            currency="INR",
            instrument="NIFTY-FUT",
            timeframes=("15m", "1h", "1d"),
            calendar="NSE",
            daily_loss_limit=Decimal("300000"),
            carry_per_year=0.065,
        ),
        Market(
            slug="btc",
            title="BTC",
            currency="USDC",
            instrument="BTC-PERP",
            timeframes=("1h", "4h"),
            calendar="CRYPTO",
            daily_loss_limit=Decimal("400"),
        ),
    )
}

BOTS: dict[str, Bot] = {
    bot.slug: bot
    for bot in (
        Bot(
            slug="nifty",
            title="NIFTY",
            market="nifty",
            timeframes=("15m", "1h", "1d"),
            limit_lots=4,
            slippage_bps=1.0,
            daily_loss_limit=Decimal("250000"),
            notional_limit=Decimal("40000000"),
        ),
        Bot(
            slug="btc",
            title="BTC",
            market="btc",
            timeframes=("1h", "4h"),
            limit_lots=4,
            slippage_bps=1.5,
            daily_loss_limit=Decimal("400"),
            notional_limit=Decimal("20000"),
        ),
        Bot(
            slug="personal",
            title="Personal",
            market="nifty",
            timeframes=("1d",),
            limit_lots=4,
            slippage_bps=1.0,
            daily_loss_limit=Decimal("100000"),
            notional_limit=Decimal("15000000"),
            on_paper=True,
            learns_from_owner=True,
            style_weight=0.1,
        ),
    )
}

SLOTS: dict[str, Slot] = {slot.slug: slot for bot in BOTS.values() for slot in bot.slots}

# The higher timeframes whose last closed row is joined to each row of a timeframe.
CONTEXTS: dict[tuple[str, str], tuple[str, ...]] = {
    ("nifty", "15m"): ("1h", "1d"),
    ("nifty", "1h"): ("1d",),
    ("nifty", "1d"): (),
    ("btc", "1h"): ("4h",),
    ("btc", "4h"): (),
}


def find_slot(bot: str, timeframe: str) -> Slot:
    """Return the slot of a bot and a timeframe; raise ValueError naming the known ones."""
    slot = SLOTS.get(f"{bot}-{timeframe}")
    if slot is None:
        known = ", ".join(f"{each.bot} {each.timeframe}" for each in SLOTS.values())
        raise ValueError(f"there is no slot {bot} {timeframe}; the slots are: {known}")
    return slot
