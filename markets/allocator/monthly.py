"""The month's run: measure the assets, weigh them, and keep both with what they were made of.

A run is as of the first day of its month and knows only days before it, so that the same month run
again makes the same run, which is then kept as it was. Returns are in each asset's own currency:
what the rupee itself did is in none of them.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations

from django.db import transaction

from markets.allocator import assets, metrics, weights
from markets.allocator.assets import Current
from markets.allocator.metrics import Series
from markets.allocator.models import AssetMetric, Correlation, MonthlyRun, Weight
from markets.allocator.weights import Choice, Targets
from tradingsite import clock
from tradingsite.models import JobRun
from tradingsite.scheduling.jobs import Fulfilled


def wanted(at: dt.datetime) -> None:
    """Want a firing while its month has no run: a machine that was off on the 1st makes it up."""
    if MonthlyRun.objects.filter(month=clock.trading_date(at).replace(day=1)).exists():
        raise Fulfilled


def run_for_job(run: JobRun) -> str:
    """Make the run of the month of a firing; return a sentence about it."""
    made, is_new = make(clock.trading_date(run.scheduled_for))
    return f"{'made' if is_new else 'as it was'}: {sentence(made)}"


def make(today: dt.date) -> tuple[MonthlyRun, bool]:
    """Return the run of a date's month, and whether it is new; raise BadAsset or CannotWeigh."""
    month = today.replace(day=1)
    known = [series.before(month) for series in assets.all_series()]
    current = assets.current_weights({series.name for series in known})
    fingerprint = _fingerprint(known, current)
    found = MonthlyRun.objects.filter(month=month, fingerprint=fingerprint).first()
    if found is not None:
        return found, False
    choice = weights.choose(known, month)
    targets = weights.weigh(choice)
    with transaction.atomic(using="allocator"):
        run, is_new = MonthlyRun.objects.get_or_create(
            month=month,
            fingerprint=fingerprint,
            defaults={
                "made_at": clock.market(),
                "current_from": current.comes_from,
                "notes": targets.note,
            },
        )
        if is_new:
            _write(run, known, current, choice, targets)
    return run, is_new


def latest() -> MonthlyRun | None:
    """Return the newest run."""
    return MonthlyRun.objects.order_by("-month", "-id").first()


def sentence(run: MonthlyRun) -> str:
    """Return a run in one sentence."""
    parts = [
        f"{row.asset} {row.target:.0%}"
        for row in run.weights.order_by("id")
        if row.target is not None
    ]
    return f"{run.month:%B %Y}, {', '.join(parts) or run.notes}"


def _write(
    run: MonthlyRun,
    known: Sequence[Series],
    current: Current,
    choice: Choice,
    targets: Targets,
) -> None:
    for series in known:
        AssetMetric.objects.create(
            run=run,
            asset=series.name,
            asset_class=series.asset_class,
            currency=series.currency,
            first_on=series.first_on,
            last_on=series.last_on,
            closes=len(series.days),
            **asdict(metrics.measure(series, run.month)),
        )
        Weight.objects.create(
            run=run,
            asset=series.name,
            current=current.weights.get(series.name),
            target=targets.weights.get(series.name),
            method=targets.method if series.name in targets.weights else "",
            reason=choice.reasons.get(series.name, targets.note),
        )
    for first, second in combinations(known, 2):
        returns = metrics.weekly([first, second], run.month).returns
        is_enough = len(returns) >= metrics.FEWEST_WEEKS
        Correlation.objects.create(
            run=run,
            first=first.name,
            second=second.name,
            value=metrics.correlation(returns[:, 0], returns[:, 1]) if is_enough else None,
            weeks=len(returns),
        )


def _fingerprint(known: Sequence[Series], current: Current) -> str:
    digest = hashlib.sha256(weights.METHOD.encode())
    for series in known:
        digest.update(f"{series.name} {series.asset_class} {series.currency} ".encode())
        digest.update(series.days.tobytes())
        digest.update(series.closes.tobytes())
    digest.update(repr(sorted(current.weights.items())).encode())
    return digest.hexdigest()
