"""The daily signal: what the personal bot decided for the next session, said so that one can judge.

A signal is the record of a decision that the bot made at the day's close and trades by itself, on
paper unless told otherwise; it decides nothing of its own, so the two can never disagree. Beside
the action, its size and the policy's own probability of it stand the owner's past decisions at the
bars that look most alike to the model, with what became of them.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
from django.conf import settings

from bots.decision import owner
from bots.decision.actions import HOLD, NAMES
from bots.decision.engine import Policy, align_to_features
from bots.decision.observation import WINDOW, windows
from bots.decision.owner import Owned
from bots.live.policies import Policies
from bots.models import Decision, Signal
from bots.services import own_trades
from markets import store
from markets.domain.bars import FloatArray
from markets.domain.calendar import Calendar, Session
from markets.domain.features import Features
from markets.domain.price_panel import PricePanel
from tradingsite import clock, notices
from tradingsite.clock import Epoch
from tradingsite.errors import Degraded
from tradingsite.format import percent
from tradingsite.models import JobRun
from tradingsite.registry import BOTS, SLOTS, Slot
from tradingsite.scheduling.jobs import Skipped

SLOT = "personal-1d"
NEIGHBOURS = 3


def make_for_job(run: JobRun) -> str:
    """Make the signal after a day's close; return it in a sentence. Raises Skipped and Degraded."""
    signal = make(clock.trading_date(run.scheduled_for))
    text = sentence(signal)
    notices.notify("trading", "info", f"signal:{signal.slot}:{signal.for_date}", text)
    return text


def make(day: dt.date) -> Signal:
    """Return the signal of the decision at a day's close, made where there is none yet.

    Raises Skipped where the bot had no model to decide with, Degraded where it made no decision.
    """
    slot = SLOTS[SLOT]
    calendar = store.load_calendar(slot.market)
    session = calendar.session_on(day)
    if session is None:
        raise Skipped(f"no session on {day:%d %b %Y}")
    closes_at = clock.from_seconds(session.closes_at)
    decision = Decision.on(slot.market).objects.filter(slot=SLOT, bar_closes_at=closes_at).first()
    if decision is None:
        raise Degraded(
            f"the personal bot made no decision at the close of {day:%d %b %Y}: see whether it "
            "runs (manage.py runbot personal) and whether that day's bar is stored"
        )
    found = Signal.on(slot.market).objects.filter(decision_id=decision.pk).first()
    return found or _make(slot, calendar, session, decision)


def _make(slot: Slot, calendar: Calendar, session: Session, decision: Decision) -> Signal:
    loaded = Policies(BOTS[slot.bot]).current(slot)
    if not decision.model or loaded is None:
        raise Skipped(f"no signal: {decision.reason or 'there is no personal model yet'}")
    if not decision.probabilities:
        raise Skipped(f"no signal: {decision.reason}")
    following = calendar.next_session(session.opens_at)
    if following is None:
        raise Degraded(f"the calendar knows no session after {session.date:%d %b %Y}")
    return Signal.on(slot.market).objects.create(
        slot=SLOT,
        for_date=following.date,
        decision_id=decision.pk,
        action=decision.action,
        lots=decision.lots_after,
        change=decision.lots_after - decision.lots_before,
        confidence=decision.probabilities[NAMES.index(decision.action)],
        neighbours=neighbours(slot, calendar, loaded.policy, session.closes_at),
        model=decision.model,
        made_at=clock.market(),
        mode=settings.MODE,
    )


def neighbours(
    slot: Slot, calendar: Calendar, policy: Policy, closes_at: Epoch
) -> list[dict[str, Any]]:
    """Return the owner's decisions at the bars whose codes are nearest to a bar's, nearest first.

    Only what had ended by then is told of: each entry has the date, what he did, what he held
    after it and until when, and what the market did to that.
    """
    features = store.load_features(slot.market, slot.timeframe, Epoch(0), closes_at)
    bars = store.load_bars(slot.market, slot.timeframe, Epoch(0), closes_at)
    panel = align_to_features(store.load_price_panel(slot, bars, calendar), features.opens_at)
    limit_lots = BOTS[slot.bot].limit_lots
    owned = owner.read(own_trades(slot.market), panel.closes_at, panel.lot_size, limit_lots)
    places = np.flatnonzero(owned.actions != HOLD)
    places = places[places >= max(owned.first, WINDOW - 1)]
    if not len(places):
        return []
    codes = _codes(policy, features, [*places.tolist(), len(features) - 1])
    spread = np.maximum(codes.std(axis=0), 1e-6)
    distance = np.linalg.norm((codes[:-1] - codes[-1]) / spread, axis=1)
    nearest = places[np.argsort(distance, kind="stable")[:NEIGHBOURS]]
    return [_told(owned, panel, int(place)) for place in nearest]


def sentence(signal: Signal) -> str:
    """Return a signal as a person reads it."""
    held = f"{abs(signal.lots)} lots {'long' if signal.lots > 0 else 'short'}"
    what = f"hold {held}" if signal.lots else "be flat"
    trade = f"{signal.change:+d} lots at the open" if signal.change else "no order"
    said = (
        f"Personal signal for {signal.for_date:%a %d %b %Y}: {signal.action}, {what} ({trade}); "
        f"the policy gives it {signal.confidence:.0%}. {signal.model}, {signal.mode}."
    )
    if signal.neighbours:
        said += " Most like it: " + "; ".join(_in_words(each) for each in signal.neighbours) + "."
    return said


def _in_words(neighbour: dict[str, Any]) -> str:
    return (
        f"{dt.date.fromisoformat(neighbour['date']):%d %b %Y} you did a {neighbour['action']}, "
        f"{neighbour['ended']}"
    )


def _codes(policy: Policy, features: Features, places: list[int]) -> FloatArray:
    rows = np.array(places) - (WINDOW - 1)
    seen = np.ascontiguousarray(windows(features.values)[rows], dtype=np.float32)
    codes: FloatArray = policy.encode(seen).astype(np.float64)
    return codes


def _told(owned: Owned, panel: PricePanel, place: int) -> dict[str, Any]:
    later = np.flatnonzero(owned.actions[place + 1 :] != HOLD)
    end = place + 1 + int(later[0]) if len(later) else len(panel) - 1
    lots = int(owned.lots[place + 1])
    moved = float(panel.close[end] / panel.open[place + 1] - 1.0) if end > place else 0.0
    days = end - place
    if lots:
        earned = moved * (1.0 if lots > 0 else -1.0)
        ended = (
            f"{abs(lots)} lots {'long' if lots > 0 else 'short'}, {percent(earned, signed=True)}"
        )
    else:
        ended = f"flat, and the market went {percent(moved, signed=True)}"
    return {
        "date": clock.trading_date(Epoch(panel.closes_at[place + 1])).isoformat(),
        "action": NAMES[int(owned.actions[place])],
        "lots": lots,
        "days": days,
        "moved": round(moved, 5),
        "ended": f"{ended} in {days} session{'s' if days != 1 else ''}",
    }
