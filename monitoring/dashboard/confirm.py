"""What a person must say again before anything that moves money or models: the password, and why.

A session that somebody left open moves nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.contrib.admin.views.decorators import staff_member_required
from django.contrib.auth import logout
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

WRONG_PASSWORDS_ALLOWED = 5
REASON_CHARACTERS = 160
_WRONG = "wrong_passwords"


def guarded(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Let only the staff see a page that asks, and keep the password out of reports of errors."""
    asks = staff_member_required(view, login_url=settings.LOGIN_URL)
    methods = require_http_methods(["GET", "HEAD", "POST"])
    return sensitive_post_parameters("password")(methods(never_cache(asks)))


def problem(request: HttpRequest) -> str:
    """Return why a POST is not carried out, in words, or nothing; too many tries sign out."""
    user = request.user
    if not isinstance(user, User) or not user.check_password(request.POST.get("password", "")):
        request.session[_WRONG] = request.session.get(_WRONG, 0) + 1
        if request.session[_WRONG] >= WRONG_PASSWORDS_ALLOWED:
            logout(request)
        return "That is not your password. Nothing was changed."
    request.session[_WRONG] = 0
    if not reason(request):
        return "Say why, in a few words: it is kept with what is done. Nothing was changed."
    return ""


def reason(request: HttpRequest) -> str:
    """Return what the person wrote as the reason."""
    return request.POST.get("reason", "").strip()[:REASON_CHARACTERS]
