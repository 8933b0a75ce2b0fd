"""The broker's page: how the day's token stands, and the login by a person.

Nothing changes by GET: the address to which the broker sends a person back only shows a button, so
that no link on another page can put a stranger's login into the desk.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods, require_safe

from markets.capture import token_refresh
from markets.venues.configured import kite_config, kite_token
from markets.venues.kite import login as kite_login
from markets.venues.kite.login import LoginRefused, LoginUnavailable
from markets.venues.kite.token import TokenStore
from monitoring.dashboard import confirm
from tradingsite import clock
from tradingsite.access.acts import may
from tradingsite.format import ago, ist_near

# Messages take the looks of the overview's verdicts.
CALM, WARN, FAIL = "calm", "warn", "fail"
CAME_BACK_WITH = "broker_came_back_with"


@dataclass(frozen=True, slots=True)
class Standing:
    """Say how the token stands, in the words of the page's first line."""

    level: str
    headline: str
    detail: str


@sensitive_post_parameters("pasted")
@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
def page(request: HttpRequest) -> HttpResponse:
    """Show the page; by POST, take a login or ask the broker about the token."""
    if request.method != "POST":
        return _page(request)
    confirm.require(request, "sign_in_broker")
    if request.POST.get("act") == "ask":
        _ask(request)
    else:
        _take(request, request.POST.get("pasted", ""))
    return redirect("broker")


@sensitive_variables("asked")
@require_safe
@never_cache
def came_back(request: HttpRequest) -> HttpResponse:
    """Show a person who came back from the broker the button that takes the login.

    Who was not signed in here yet comes by way of the sign-in page, and the address waited in the
    session for them.
    """
    confirm.require(request, "sign_in_broker")
    kept = request.session.pop(CAME_BACK_WITH, "")
    try:
        asked = kite_login.request_token_in(
            request.get_full_path() if request.GET else kept or request.path
        )
    except LoginRefused as error:
        messages.add_message(request, messages.ERROR, _sentence(error), FAIL)
        return redirect("broker")
    return _page(request, asked)


@sensitive_variables("asked")
def keep_for_later(request: HttpRequest) -> None:
    """Keep what the broker gave a person to bring back until they have signed in here."""
    try:
        asked = kite_login.request_token_in(request.get_full_path())
    except LoginRefused:
        return  # the page itself says what is wrong with it
    request.session[CAME_BACK_WITH] = asked


@sensitive_variables("pasted")
def _take(request: HttpRequest, pasted: str) -> None:
    try:
        user = token_refresh.exchange_request_token(pasted, request.user.get_username())
    except (LoginRefused, LoginUnavailable) as error:
        messages.add_message(request, messages.ERROR, _sentence(error), FAIL)
    else:
        text = f"Signed in as {user}. Running services use the new token from their next call on."
        messages.add_message(request, messages.SUCCESS, text, CALM)


def _ask(request: HttpRequest) -> None:
    try:
        is_taken = token_refresh.is_taken()
    except LoginUnavailable as error:
        messages.add_message(request, messages.WARNING, _sentence(error), WARN)
    else:
        text = "The broker takes the token." if is_taken else "The broker does not take the token."
        level = messages.SUCCESS if is_taken else messages.ERROR
        messages.add_message(request, level, text, CALM if is_taken else FAIL)


def _page(request: HttpRequest, asked: str = "") -> HttpResponse:
    config, kept = kite_config(), kite_token()
    age = kept.age
    context = {
        "mode": settings.MODE,
        "here": "broker",
        "login": settings.KITE_LOGIN,
        "host": urlsplit(config.root).netloc,
        "login_url": kite_login.login_url(config) if config.api_key else "",
        "state": kept.state(),
        "age": None if age is None else ago(age.total_seconds()),
        "now": clock.market(),
        "standing": _standing(kept),
        "asked": asked,
        "may_sign_in": may(request.user, "sign_in_broker"),
        "may_pin": may(request.user, "pin_account"),
        "account": token_refresh.pinned_account(),
    }
    return render(request, "dashboard/broker.html", context)


def _standing(kept: TokenStore) -> Standing:
    now, state = clock.market(), kept.state()
    if kept.is_refused_on(clock.trading_date(now)):
        return Standing(
            FAIL,
            "No trading today.",
            "Nobody had signed in by 09:14 IST. Signing in takes it back.",
        )
    if state.dies_at is None:
        return Standing(WARN, "There is no token.", "Nothing can be read or ordered without one.")
    when = ist_near(state.dies_at, now)
    if now >= state.dies_at:
        return Standing(WARN, "The token is over.", f"It was good until {when} IST.")
    return Standing(CALM, "The token of the day is here.", f"It is good until {when} IST.")


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."
