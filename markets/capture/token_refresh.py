"""The 09:00 job: have a token that the broker takes before the session opens, or say so in time.

A token that still works is left alone. Without one the job signs in itself, where the owner chose
the headless login, or sends the link and waits for a person. At 09:14 it gives up for the day: the
store says `is_refused_on(date)`, a critical notice says that there is no trading, and whoever signs
in later takes both back. A login that the broker refused is not tried again, since accounts lock.

In the middle of the day the broker may end a token, as when the owner signs in elsewhere. The trade
fetcher, which asks each minute, sees it first and calls `after_refusal`: one login, then an alert.
"""

import datetime as dt
import logging
import time
from collections.abc import Callable
from typing import TypeVar

from django.conf import settings
from requests import RequestException

from markets.venues import lean_import
from markets.venues.base import RateLimited
from markets.venues.configured import kite_config, kite_limiter, kite_token
from markets.venues.kite import login as kite_login
from markets.venues.kite.login import LoginRefused, LoginUnavailable
from tradingsite import clock, notices
from tradingsite.access.models import PinnedAccount
from tradingsite.errors import StopTrading
from tradingsite.models import JobRun

MARKET = "nifty"
BROKER = "kite"
JOB_KEY, SIGN_IN_KEY, MID_DAY_KEY = "job:token-refresh", "kite:sign-in", "kite:refused"
OTHER_ACCOUNT_KEY = "kite:other-account"
DEADLINE = dt.time(9, 14)
TRIES = 3
# Market time after the first try and after the second, so that the third still comes before 09:14.
WAITS = (dt.timedelta(minutes=3), dt.timedelta(minutes=6))
LOOK_SECONDS = 0.5

BY_THE_DESK = "the desk"

Result = TypeVar("Result")
log = logging.getLogger(__name__)
pause = time.sleep


class NoToken(StopTrading):
    """There is no token that the broker takes, so nothing can be ordered."""


def ensure_token(run: JobRun) -> str:
    """Return a sentence about the token of the day; raise NoToken where there is none by 09:14."""
    day = clock.trading_date(run.scheduled_for)
    deadline = dt.datetime.combine(day, DEADLINE, clock.IST)
    try:
        return _ensured(deadline)
    except NoToken as error:
        kite_token().refuse(day)
        raise NoToken(f"{error}. No trading today unless somebody signs in at /kite/") from None


def renew() -> str:
    """Return a sentence about the token after one try, which signs in only where it must.

    Raises LoginUnavailable or LoginRefused.
    """
    if is_taken():
        return "the token still works"
    token, user = kite_login.login_headless(kite_config())
    save_token(token, user)
    return f"signed in as {user}"


def after_refusal(date: dt.date) -> str:
    """Return a sentence about what was done when the broker refused a token in the middle of a day.

    The headless login is tried once a day; where it is not wanted or does not work, a person is
    asked for. Until there is a token nothing is read and no order is sent; positions stay.
    """
    problem = "the desk does not sign in by itself (KITE_LOGIN)"
    if settings.KITE_LOGIN == "headless":
        problem = "it had signed in again today before"
        if kite_token().may_renew_on(date):
            try:
                done = renew()
            except (LoginUnavailable, LoginRefused) as error:
                problem = f"signing in again failed: {error}"
            else:
                notices.resolve(MID_DAY_KEY)
                text = f"The broker refused the token in the middle of the day; {done}."
                notices.notify("infrastructure", "warning", "kite:renewed", text)
                return done
    notices.notify(
        "infrastructure",
        "critical",
        MID_DAY_KEY,
        f"The broker refuses the token, and {problem}. Nothing is read from it and no order is "
        f"sent; positions stay as they are. Sign in: {kite_login.login_url(kite_config())} or "
        f"/kite/.",
    )
    return problem


def exchange_request_token(pasted: str, by: str = BY_THE_DESK) -> str:
    """Change what a person brought back from the login page into the day's token; return the user.

    Raises LoginUnavailable or LoginRefused.
    """
    config = kite_config()
    token, user = kite_login.exchange_request_token(config, kite_login.request_token_in(pasted))
    save_token(token, user, by)
    return user


def save_token(token: str, user: str, by: str = BY_THE_DESK) -> None:
    """Store a token of the pinned account and call off what was said about the want of one.

    The first account is pinned by its first token; raises LoginRefused for another one's.
    """
    expected = pinned_account() or user
    row, _ = PinnedAccount.objects.get_or_create(
        broker=BROKER, defaults={"account": expected, "by": by, "pinned_at": clock.real()}
    )
    if row.account != user:
        text = f"that login is of account {user}, and this desk trades in {row.account}"
        notices.notify(
            "infrastructure",
            "critical",
            OTHER_ACCOUNT_KEY,
            f"A broker's token was not used ({by}): {text}. Where the desk is to trade in the "
            f"other account from now on, say so at /kite/account/.",
        )
        raise LoginRefused(f"{text}. It was not used, and the token of before stays")
    kite_token().save(token, user)
    for key in (SIGN_IN_KEY, JOB_KEY, MID_DAY_KEY, OTHER_ACCOUNT_KEY):
        notices.resolve(key)


def pinned_account() -> str:
    """Return the account at the broker that this desk trades in, "" while none is known."""
    row = PinnedAccount.objects.filter(broker=BROKER).first()
    # A desk of before the pin has the user of its last token.
    return row.account if row else settings.KITE_USER_ID or kite_token().state().user


def pin_account(account: str, by: str) -> None:
    """Let the desk trade in another account from its next token on; the one of before ends.

    Raises ValueError where it is the pinned one.
    """
    before = pinned_account()
    if account == before:
        raise ValueError(f"the desk trades in {account} already; nothing was changed")
    PinnedAccount.objects.update_or_create(
        broker=BROKER, defaults={"account": account, "by": by[:150], "pinned_at": clock.real()}
    )
    kite_token().forget()
    notices.resolve(OTHER_ACCOUNT_KEY)
    notices.notify(
        "infrastructure",
        "critical",
        "kite:pinned",
        f"The desk trades in the broker's account {account} from its next login on, before it was "
        f"{before or 'none'} ({by}). Nothing is ordered until somebody signs in to it.",
    )


def is_taken() -> bool:
    """Return whether the broker takes our token; raise LoginUnavailable where it does not say."""
    known = lean_import.module("kiteconnect.exceptions")

    token = kite_token().current()
    if not token:
        return False
    try:
        kite_limiter().acquire("other")
        kite_login.client(kite_config(), token).profile()
    except known.TokenException:
        return False
    except (RequestException, known.KiteException, KeyError, RateLimited) as error:
        raise LoginUnavailable(f"the broker did not answer: {type(error).__name__}") from None
    return True


def _ensured(deadline: dt.datetime) -> str:
    config = kite_config()
    if not config.api_key or not config.api_secret:
        raise NoToken("KITE_API_KEY and KITE_API_SECRET are not set")
    try:
        if settings.KITE_LOGIN == "headless":
            return _with_tries(renew, deadline)
        if _with_tries(is_taken, deadline):
            return "the token still works"
    except LoginRefused as error:
        raise NoToken(str(error)) from None
    return _from_a_person(deadline)


def _with_tries(attempt: Callable[[], Result], deadline: dt.datetime) -> Result:
    """Return what an attempt returns, trying again a few times before the deadline."""
    waits = iter(WAITS)
    for number in range(1, TRIES + 1):
        try:
            return attempt()
        except LoginUnavailable as error:
            left = deadline - clock.market()
            wait = next(waits, None)
            if wait is None or left <= dt.timedelta(0):
                raise NoToken(f"after {number} tries: {error}") from None
            log.warning("try %d of %d for the broker's token: %s", number, TRIES, error)
            notices.notify(
                "infrastructure",
                "warning",
                SIGN_IN_KEY,
                f"No broker token yet (try {number} of {TRIES}): {error}. It is tried again until "
                f"{DEADLINE:%H:%M} IST.",
            )
            pause(min(wait, left).total_seconds() / clock.speed())
    raise AssertionError("the last try returns or raises")


def _from_a_person(deadline: dt.datetime) -> str:
    """Send the link, and wait until somebody signed in; the page stores the token itself."""
    kept = kite_token()
    before = kept.current()
    notices.notify(
        "infrastructure",
        "warning",
        SIGN_IN_KEY,
        f"The broker wants its daily login before {DEADLINE:%H:%M} IST: "
        f"{kite_login.login_url(kite_config())} . The desk asks for a confirmation when you come "
        f"back; else paste the address you end at into /kite/.",
    )
    # A market that stands still must not hold this worker for ever.
    left = (deadline - clock.market()).total_seconds() / clock.speed()
    gives_up_at = time.monotonic() + max(left, 0.0)
    while kept.current() in ("", before):
        if time.monotonic() >= gives_up_at:
            raise NoToken(f"nobody signed in at the broker by {DEADLINE:%H:%M} IST")
        pause(LOOK_SECONDS)
    return f"{kept.state().user} signed in"
