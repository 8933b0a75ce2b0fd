"""The overview, its live cards, and the answer to whoever asks whether the desk is alive."""

from __future__ import annotations

import sys
from typing import Any

from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.views import defaults
from django.views.decorators.cache import never_cache
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_safe

from monitoring.dashboard import timeline
from monitoring.dashboard.books import DOES_NOT_ANSWER
from monitoring.dashboard.overview import gather
from tradingsite.scheduling.schedules import JOBS

# Every card is a file of the same name in dashboard/cards/ and an element of the same id.
LIVE_CARDS = (
    *("state", "verdict", "money", "bots", "schedule", "positions", "account", "training"),
    *("services", "models", "data", "notices"),
)
PLACES = (
    ("schedule", "Schedule"),
    ("positions", "Positions"),
    ("account", "Accounts"),
    ("training", "Training"),
    ("services", "Services"),
    ("models", "Models"),
    ("data", "Data"),
    ("notices", "Notices"),
)


@require_safe
@never_cache
@gzip_page  # safe here: the page holds no secret and repeats nothing of the request
def overview(request: HttpRequest) -> HttpResponse:
    """Show the overview."""
    return _page(request, "dashboard/overview.html")


@require_safe
@never_cache
@gzip_page
def live(request: HttpRequest) -> HttpResponse:
    """Return the cards alone, for the page to swap in."""
    return _page(request, "dashboard/live.html")


@require_safe
@never_cache
def healthz(request: HttpRequest) -> HttpResponse:
    """Answer 200 while the control database answers, else 503."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DOES_NOT_ANSWER:
        return HttpResponse("the control database does not answer", "text/plain", status=503)
    return HttpResponse("ok", "text/plain")


def failed(request: HttpRequest) -> HttpResponse:
    """Answer a request that failed; where a database kept it waiting the page says so."""
    if isinstance(sys.exc_info()[1], DOES_NOT_ANSWER):
        return HttpResponse(render_to_string("dashboard/unavailable.html"), status=503)
    return defaults.server_error(request)


def _page(request: HttpRequest, template: str) -> HttpResponse:
    try:
        seen = gather()
    except DOES_NOT_ANSWER:
        # The markets' databases are caught one by one; this is the control database.
        return render(request, "dashboard/unavailable.html", status=503)
    context: dict[str, Any] = {
        "overview": seen,
        "cards": LIVE_CARDS,
        "places": PLACES,
        "legend": timeline.LEGEND,
        "jobs_count": len(JOBS),
        "services_up": sum(1 for row in seen.services if row.level in {"ok", "idle"}),
        "curve": seen.money.curve.as_json(),
    }
    return render(request, template, context)
