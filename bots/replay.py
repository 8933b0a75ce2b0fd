"""Replay stored bars through the live decision path, with the models that trade now.

A model is refused where its training span touches the replayed one, because what it then shows is
memory. The window before the first decision and the fill after the last come from stored rows too.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bots.decision.engine import ReplayResult, SlotInputs, align_to_features, replay
from bots.decision.observation import WINDOW
from bots.decision.risk import RiskGate
from bots.modelstore import bundle
from bots.modelstore import services as modelstore
from bots.modelstore.models import ModelVersion
from markets import store
from markets.domain import charges, contracts
from markets.domain.calendar import trading_date
from markets.domain.exogenous import ASSUMED_RATE, FUNDING, RECENT_SECONDS, SERIES_OF
from markets.domain.price_panel import PricePanel
from tradingsite import clock
from tradingsite.clock import Epoch
from tradingsite.errors import Degraded
from tradingsite.registry import BOTS, MARKETS, Slot

# Enough calendar days before the span for a window of daily bars and its holidays.
LOOK_BACK = dt.timedelta(days=75)


class CannotReplay(Degraded):
    """A slot that cannot be replayed over the span asked for; the message says why."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """One slot's replay, the model that decided, and whether it had seen the span in training."""

    slot: Slot
    version: ModelVersion
    in_sample: bool
    result: ReplayResult
    notes: tuple[str, ...]


def replay_bot(
    slots: Sequence[Slot], start: dt.datetime, end: dt.datetime, *, in_sample: bool = False
) -> list[Replayed]:
    """Return how the slots of one bot would have traded the bars that close in (start, end]."""
    bot = BOTS[slots[0].bot]
    prepared = [_prepare(slot, start, end, in_sample) for slot in slots]
    # The same gate as live: the position limit, and the daily loss that latches for the date.
    gate = RiskGate(float(bot.daily_loss_limit))
    results = replay([panel for panel, _, _ in prepared], gate)
    return [
        Replayed(slot, version, seen, result, _notes(slot, result))
        for slot, (_, version, seen), result in zip(slots, prepared, results, strict=True)
    ]


def replay_version(
    slot: Slot, version: ModelVersion, start: dt.datetime, end: dt.datetime
) -> Replayed:
    """Return how a stored version alone would have traded the bars that close in (start, end].

    No gate is in its way but the position limit: the model is judged, not the account's day.
    """
    panel, _, seen = _prepare(slot, start, end, False, version)
    [result] = replay([panel])
    return Replayed(slot, version, seen, result, _notes(slot, result))


def _prepare(
    slot: Slot,
    start: dt.datetime,
    end: dt.datetime,
    in_sample: bool,
    version: ModelVersion | None = None,
) -> tuple[SlotInputs, ModelVersion, bool]:
    version, seen = _model(slot, start, end, in_sample, version)
    panel, values, first = _rows(slot, start, end)
    folder = modelstore.folder(version)
    if not folder.is_dir():
        raise CannotReplay(f"{version} is no longer on this machine; it is in PC's archive")
    policy = bundle.load(folder, modelstore.verify_version(version))
    limit_lots = BOTS[slot.bot].limit_lots
    return SlotInputs(slot.slug, panel, values, policy, limit_lots, first), version, seen


def _model(
    slot: Slot,
    start: dt.datetime,
    end: dt.datetime,
    in_sample: bool,
    version: ModelVersion | None,
) -> tuple[ModelVersion, bool]:
    """Return the model to replay, and whether it has learned from the span."""
    version = version or modelstore.active(slot.slug)
    if version is None:
        raise CannotReplay(
            f"{slot.slug} has no model: train one with `manage.py trainbot {slot.bot} "
            f"{slot.timeframe} --until {start.date() - dt.timedelta(days=1)}`"
        )
    seen = version.trained_from < end and version.trained_until > start
    if seen and not in_sample:
        raise CannotReplay(
            f"{version} was trained on {version.trained_from:%d %b %Y} to "
            f"{version.trained_until:%d %b %Y}, which touches the replayed span, so its result "
            f"would be memory. Train one with --until {start.date() - dt.timedelta(days=1)}, "
            f"or give --in-sample, which marks every line"
        )
    return version, seen


def _rows(
    slot: Slot, start: dt.datetime, end: dt.datetime
) -> tuple[PricePanel, npt.NDArray[np.float32], int]:
    """Return a span's prices and rows of features, and the first row inside it."""
    bounds = clock.epoch(start - LOOK_BACK), clock.epoch(end)
    features = store.load_features(slot.market, slot.timeframe, *bounds)
    first = int(np.searchsorted(features.closes_at, clock.epoch(start), side="right"))
    if len(features) - first < 2 or first < WINDOW:
        raise CannotReplay(
            f"{slot.slug} has {max(len(features) - first, 0)} stored rows from {start:%d %b %Y} to "
            f"{end:%d %b %Y} and {first} before; it needs 2 and {WINDOW}"
        )
    calendar = store.load_calendar(slot.market)
    bars = store.load_bars(slot.market, slot.timeframe, *bounds)
    try:
        store.require_on_calendar(slot.market, slot.timeframe, bars, calendar)
    except store.OffCalendarTable as error:
        raise CannotReplay(str(error)) from error
    panel = align_to_features(store.load_price_panel(slot, bars, calendar), features.opens_at)
    return panel, features.values, first


def _notes(slot: Slot, result: ReplayResult) -> tuple[str, ...]:
    """Return what the reader must know of how the prices and charges were made."""
    date = trading_date(Epoch(result.opens_at[0]))
    notes = []
    if MARKETS[slot.market].carry_per_year:
        notes.append(
            f"{slot.market} trades the near future, priced as index x (1 + "
            f"{MARKETS[slot.market].carry_per_year:.1%} a year to expiry), rolled by date"
        )
    if FUNDING in SERIES_OF[slot.market]:
        notes.append(_funding_note(slot, result))
    if charges.is_extrapolated(slot.market, date) or contracts.is_extrapolated(slot.market, date):
        notes.append(f"{slot.market} charges or lots before their first dated row use that row")
    return tuple(notes)


def _funding_note(slot: Slot, result: ReplayResult) -> str:
    first, last = int(result.closes_at[0]), int(result.closes_at[-1])
    at = store.load_readings(slot.market, FUNDING, Epoch(first)).at
    pauses = np.diff(np.concatenate(([first], at[at <= last], [last])))
    said = f"{slot.market} pays or receives funding on what it holds at each bar's close"
    if pauses.max() > RECENT_SECONDS:
        said += f"; where none is stored, {ASSUMED_RATE:.2%} for eight hours is assumed"
    return said
