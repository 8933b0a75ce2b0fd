"""What a collector that starts learns of the day so far, to go on as if it had not stopped."""

import datetime as dt

from markets.options import chain, partitions
from markets.options.models import CollectedMinute, Instrument, Quote
from tradingsite import clock
from tradingsite.clock import Epoch

# An option's price of longer ago says little of the one of now.
RECENT_SECONDS = 600
LOOKED_BACK = dt.timedelta(days=7)


def wanted_on(day: dt.date) -> set[str]:
    """Return what was asked for on a day already, by whichever collector."""
    start, end = partitions.bounds(day)
    ids = Quote.objects.filter(ts__gte=start, ts__lt=end).values("instrument_id").distinct()
    options = Instrument.objects.filter(id__in=ids, kind__in=chain.OPTION_KINDS)
    return set(options.values_list("name", flat=True))


def last_prices(minute: Epoch) -> dict[str, float]:
    """Return the prices of the last minute that was stored in the week before, in rupees.

    Where that is not recent only those of the indices.
    """
    end = clock.from_seconds(minute)
    last = CollectedMinute.objects.filter(ts__gte=end - LOOKED_BACK, ts__lt=end).first()
    if last is None:
        return {}
    rows = Quote.objects.filter(ts=last.ts)
    if end - last.ts > dt.timedelta(seconds=RECENT_SECONDS):
        rows = rows.filter(instrument__kind="INDEX")
    return {name: paise / 100.0 for name, paise in rows.values_list("instrument__name", "ltp")}
