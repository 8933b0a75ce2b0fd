"""Whole changes of a market's bars: an import, a removal, an undo, and what was made of the bars.

Each is one transaction of the market's database, which holds its features as well, and of the
control database, which holds the models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.db import connections, transaction
from django.db.models import Q, QuerySet

from markets import store
from markets.domain import bar_rule, plausibility, timeframes
from markets.domain.bars import Bars, IntArray
from markets.domain.plausibility import Doubt
from markets.models import (
    Bar,
    BarImport,
    Feature,
    Quote,
    Reading,
    ReplacedBar,
    Source,
    VenueOrder,
)
from tradingsite import clock
from tradingsite.clock import Epoch
from tradingsite.registry import MARKETS
from tradingsite.signals import bars_removed, market_replaced

_COLUMNS = "timeframe, opens_at, closes_at, open, high, low, close, volume, source"


class Doubtful(ValueError):
    """Bars that can hardly be true; `doubts` names each, and the message the first."""

    def __init__(self, doubts: Sequence[Doubt]) -> None:
        """Take what is doubted, in order."""
        self.doubts = doubts
        more = f", and {len(doubts) - 1:,} more" if len(doubts) > 1 else ""
        super().__init__(f"{doubts[0]}{more}")


class CannotUndo(ValueError):
    """An import that cannot be taken back now; the message says what stands in the way."""


@dataclass(frozen=True, slots=True)
class Imported:
    """Count what an import changed."""

    number: int | None
    """By which it can be undone; None where it changed nothing."""
    new: int
    changed: int
    rows: dict[str, int]
    """Feature rows written, by timeframe."""


@dataclass(slots=True)
class Removed:
    """Count what a removal takes away, or would."""

    bars: int = 0
    restored: int = 0
    """Bars that are again what they were before the import."""
    first: Epoch | None = None
    last: Epoch | None = None
    rows: dict[str, int] = field(default_factory=dict)
    """Feature rows there are now, by timeframe that depends on the bars."""
    withdrawn: list[str] = field(default_factory=list)
    """What had been learned of the bars, in words."""


def import_bars(
    market: str,
    found: Mapping[str, Bars],
    *,
    file: str = "",
    replace: bool = False,
    reason: str = "",
) -> Imported:
    """Store imported bars of some timeframes and recompute the features they touch.

    Raises Doubtful where they can hardly be true, unless there is a reason to take them, which is
    kept. Over generated bars it raises WrongSource, unless `replace`, which removes them and all
    that came of them; over stored bars that break the rule of bars it raises OffCalendarTable. With
    `replace` bars of the same source go too, where the new ones are of their timeframe.
    """
    # The control database, of the models, commits just before the market's own: whatever breaks
    # the import leaves both as they were.
    with transaction.atomic(using=market), transaction.atomic():
        make_room(market, Source.IMPORTED, replace=replace)
        record = BarImport.on(market).objects.create(
            at=clock.real(), file=file[:200], spans={}, new=0, changed=0, reason=reason[:200]
        )
        for timeframe in found if replace else ():
            opens = store.load_bars(market, timeframe).opens_at
            _save_replaced(record, market, timeframe, opens)
            _remove(market, timeframe, Bar.on(market).objects.filter(timeframe=timeframe))
        if not reason and (doubted := find_doubts(market, found)):
            raise Doubtful(doubted)
        touched = _store(record, market, found)
        rows_of = {each: _features(market, each, is_changed=touched[each]) for each in touched}
        if record.new or record.changed:
            record.save()
            return Imported(record.pk, record.new, record.changed, rows_of)
        record.delete()
        return Imported(None, 0, 0, rows_of)


def _store(record: BarImport, market: str, found: Mapping[str, Bars]) -> dict[str, bool]:
    """Store the bars, the longest timeframe first, and count them in the import's record.

    Returns the timeframes whose features depend on them, and whether a bar of theirs changed.
    """
    touched: dict[str, bool] = {}
    for timeframe in sorted(found, key=timeframes.seconds, reverse=True):
        bars = found[timeframe]
        is_new, differs = bars.compared(store.load_bars(market, timeframe))
        _save_replaced(record, market, timeframe, bars.opens_at[differs])
        store.save_bars(market, timeframe, bars.where(is_new | differs), Source.IMPORTED)
        calendar = store.load_calendar(market)
        stored = store.load_bars(market, timeframe)
        store.require_on_calendar(market, timeframe, stored, calendar)
        runs = bar_rule.spans(stored.opens_at, bars.opens_at[is_new])
        record.spans[timeframe] = [[run.first, run.last] for run in runs]
        record.new += int(is_new.sum())
        record.changed += int(differs.sum())
        for each in store.dependent_timeframes(market, timeframe):
            touched[each] = touched.get(each, False) or bool((is_new | differs).any())
    return touched


def find_doubts(market: str, found: Mapping[str, Bars]) -> list[Doubt]:
    """Return what can hardly be true of new bars, beside each other and what is stored."""
    stored = {name: store.load_bars(market, name) for name in MARKETS[market].timeframes}
    calendar = store.load_calendar(market)
    doubted: list[Doubt] = []
    for timeframe, bars in found.items():
        others = {
            name: found.get(name) or each for name, each in stored.items() if name != timeframe
        }
        doubted += plausibility.doubts(market, timeframe, bars, stored[timeframe], others, calendar)
    return doubted


def make_room(market: str, source: str, *, replace: bool) -> None:
    """Let a market take bars of a source: where others are, remove them and all that came of them.

    Raises WrongSource unless `replace`. Call it within transactions of both databases.
    """
    try:
        store.require_source(market, source)
    except store.WrongSource:
        if not replace:
            raise
        remove_market_data(market)
        market_replaced.send(sender=None, market=market)


def remove_market_data(alias: str) -> None:
    """Delete a market's bars, features, generated readings, last prices and paper orders."""
    for model in (Feature, Bar, Quote, VenueOrder, BarImport):
        model.on(alias).objects.all().delete()
    # What was imported beside the bars, or came from a venue, is of the real market.
    Reading.on(alias).objects.filter(source=Source.GENERATED).delete()


def remove_bars(
    market: str,
    timeframe: str,
    *,
    first: Epoch | None = None,
    last: Epoch | None = None,
    source: str = "",
    off_calendar: bool = False,
    dry_run: bool = False,
) -> Removed:
    """Remove stored bars that open in [first, last], and what was made of them.

    Features that knew of them are computed again, and models that learned from them trade no more.
    Only those of a source, or those that the calendar does not give, if asked.
    """
    rows = Bar.on(market).objects.filter(timeframe=timeframe)
    if first is not None:
        rows = rows.filter(opens_at__gte=clock.from_seconds(first))
    if last is not None:
        rows = rows.filter(opens_at__lte=clock.from_seconds(last))
    if source:
        rows = rows.filter(source=source)
    if off_calendar:
        bars = store.load_bars(market, timeframe)
        calendar = store.load_calendar(market)
        lawful = bar_rule.is_on_calendar(bars.opens_at, timeframe, calendar)
        lawful &= bars.closes_at == calendar.closes_at(timeframe, bars.opens_at)
        wrong = [clock.from_seconds(at) for at in bars.opens_at[~lawful].tolist()]
        rows = rows.filter(opens_at__in=wrong)
    with _both(market, dry_run=dry_run):
        return _remove(market, timeframe, rows)


def undo_import(market: str, number: int | None = None, *, dry_run: bool = False) -> Removed:
    """Take back the newest import that was not undone: remove its bars, restore what it changed.

    Raises CannotUndo where there is none, or the one of that number is not the newest.
    """
    with _both(market, dry_run=dry_run):
        record = BarImport.on(market).objects.select_for_update().filter(undone_at=None).first()
        if record is None:
            raise CannotUndo(f"{market} has no import that could be undone")
        if number is not None and number != record.pk:
            raise CannotUndo(
                f"the newest import of {market} is {record.pk} ({record.file}): undo that first"
            )
        removed = Removed()
        for timeframe, runs in record.spans.items():
            spans = Q(pk__in=())
            for first, last in runs:
                at = (clock.from_seconds(first), clock.from_seconds(last))
                spans |= Q(opens_at__range=at)
            rows = Bar.on(market).objects.filter(spans, timeframe=timeframe)
            done = _remove(market, timeframe, rows, record)
            removed.bars += done.bars
            removed.restored += done.restored
            removed.rows |= done.rows
            removed.withdrawn += done.withdrawn
            ends = [at for at in (removed.first, removed.last, done.first, done.last) if at]
            removed.first, removed.last = (min(ends), max(ends)) if ends else (None, None)
        record.undone_at = clock.real()
        record.save(update_fields=["undone_at"])
        return removed


@contextmanager
def _both(market: str, *, dry_run: bool) -> Iterator[None]:
    """Hold a transaction of a market's database and of the control database; undo a dry run's."""
    with transaction.atomic(using=market), transaction.atomic():
        store.lock_bars(market)
        yield
        if dry_run:
            transaction.set_rollback(True, using=market)
            transaction.set_rollback(True)


def _remove(
    market: str,
    timeframe: str,
    rows: QuerySet[Any],
    record: BarImport | None = None,
) -> Removed:
    """Delete rows, put back what an import replaced, and see to what was made of either."""
    opens = list(rows.values_list("opens_at", flat=True))
    gone = len(opens)
    rows.delete()
    restored = 0
    if record is not None:
        before = record.replaced.filter(timeframe=timeframe)
        opens += before.values_list("opens_at", flat=True)
        restored = _put_back(record, market, timeframe)
    if not opens:
        return Removed()
    touched = sorted(clock.epoch(at) for at in opens)
    removed = Removed(gone, restored, touched[0], touched[-1])
    for each_timeframe in store.dependent_timeframes(market, timeframe):
        removed.rows[each_timeframe] = store.rebuild_features(market, each_timeframe)
    sent = bars_removed.send(
        sender=None, market=market, timeframe=timeframe, first=touched[0], last=touched[-1]
    )
    removed.withdrawn = [words for _, told in sent for words in told or ()]
    return removed


def _features(market: str, timeframe: str, *, is_changed: bool) -> int:
    # The same file again changes no bar, and then no feature either.
    if is_changed:
        return store.rebuild_features(market, timeframe)
    return store.append_features(market, timeframe)


def _save_replaced(record: BarImport, market: str, timeframe: str, opens: IntArray) -> None:
    if not len(opens):
        return
    with connections[market].cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {ReplacedBar._meta.db_table} (imported_id, {_COLUMNS}) "  # noqa: S608
            f"SELECT %s, {_COLUMNS} FROM {Bar._meta.db_table} WHERE timeframe = %s "
            f"AND extract(epoch FROM opens_at)::bigint = ANY(%s)",
            [record.pk, timeframe, opens.tolist()],
        )


def _put_back(record: BarImport, market: str, timeframe: str) -> int:
    with connections[market].cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {Bar._meta.db_table} ({_COLUMNS}) "  # noqa: S608
            f"SELECT {_COLUMNS} FROM {ReplacedBar._meta.db_table} "
            f"WHERE imported_id = %s AND timeframe = %s "
            f"ON CONFLICT (timeframe, opens_at) DO UPDATE SET closes_at = excluded.closes_at, "
            f"open = excluded.open, high = excluded.high, low = excluded.low, "
            f"close = excluded.close, volume = excluded.volume, source = excluded.source",
            [record.pk, timeframe],
        )
        return int(cursor.rowcount)
