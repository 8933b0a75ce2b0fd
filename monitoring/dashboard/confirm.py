"""What a person must say again before anything that moves money, models or rights.

The password, or a code of the phone, and why. A session that somebody left open moves nothing, and
who guesses is counted by person in the database (`tradingsite.access.attempts`).
"""

from __future__ import annotations

from collections.abc import Callable

from django.contrib.auth import logout
from django.contrib.auth.models import User
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from tradingsite.access import attempts, codes
from tradingsite.access.acts import ACTS, may
from tradingsite.access.attempts import Answer

REASON_CHARACTERS = 160
WRONG = "That is not your password, nor a code of your phone. Nothing was changed."
NO_REASON = "Say why, in a few words: it is kept with what is done. Nothing was changed."
LOCKED = (
    f"Too many wrong answers: nothing can be confirmed here for "
    f"{attempts.minutes(attempts.COOL_OFF)}. What cannot wait is said on the server: "
    f"`manage.py halt --all`, and `manage.py firstuser --unlock`."
)
View = Callable[..., HttpResponse]


def guarded(act: str) -> Callable[[View], View]:
    """Let only who may do an act of `ACTS` see a page that asks, and keep passwords out of errors.

    Raises KeyError for an act that there is not.
    """
    ACTS[act]

    def decorate(view: View) -> View:
        def asks(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
            if not request.user.is_authenticated:
                return redirect_to_login(request.path, reverse("sign-in"))
            require(request, act)
            return view(request, *args, **kwargs)

        return own_words(asks)

    return decorate


def own_words(view: View) -> View:
    """Take the methods of a page that asks, and keep it out of caches and reports of errors."""
    methods = require_http_methods(["GET", "HEAD", "POST"])
    return sensitive_post_parameters("password", "code")(methods(never_cache(view)))


def require(request: HttpRequest, act: str) -> None:
    """Raise PermissionDenied, in words, where a person may not do an act."""
    if not may(request.user, act):
        raise PermissionDenied(ACTS[act])


def problem(request: HttpRequest) -> str:
    """Return why a POST is not carried out, in words, or nothing; too many tries sign out."""
    user, given = request.user, request.POST.get("password", "")
    if not isinstance(user, User):  # who is not signed in has nothing to say again
        raise PermissionDenied
    answer = attempts.prove(
        user, lambda: codes.match(user, given) is not None or user.check_password(given)
    )
    if answer is not Answer.RIGHT:
        if answer is Answer.LOCKED or attempts.is_locked(user):
            logout(request)
            return LOCKED
        return WRONG
    if not reason(request):
        return NO_REASON
    return ""


def reason(request: HttpRequest) -> str:
    """Return what the person wrote as the reason."""
    return request.POST.get("reason", "").strip()[:REASON_CHARACTERS]
