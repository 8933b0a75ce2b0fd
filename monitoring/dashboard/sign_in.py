"""Signing in: the password, then a code of the phone where one is asked, or the words of a lock."""

from __future__ import annotations

from typing import Any

import django_otp
from django.conf import settings
from django.contrib.auth import REDIRECT_FIELD_NAME, logout
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render, resolve_url
from django.utils.http import url_has_allowed_host_and_scheme
from django_otp.models import Device

from monitoring.dashboard import confirm
from tradingsite.access import attempts, codes
from tradingsite.access.attempts import Answer

WRONG_CODE = "That is not the code. A code serves once: wait for the phone's next one."


class SignIn(LoginView):
    """Ask for a name and a password; django-axes holds who guesses."""

    template_name = "dashboard/sign_in.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Return the form with the desk's mode."""
        return super().get_context_data(mode=settings.MODE, **kwargs)


def locked(request: HttpRequest, response: HttpResponse, credentials: object) -> HttpResponse:
    """Return the page for an address that has used up its tries."""
    seconds = settings.AXES_COOLOFF_TIME.total_seconds()
    context = {
        "mode": settings.MODE,
        "minutes": attempts.minutes(settings.AXES_COOLOFF_TIME),
        "allowed": settings.AXES_FAILURE_LIMIT,
    }
    page = render(request, "dashboard/locked.html", context, status=429)
    page["Retry-After"] = f"{seconds:.0f}"
    page["Cache-Control"] = "no-store"
    return page


@confirm.own_words
def second_factor(request: HttpRequest) -> HttpResponse:
    """Ask a signed-in person for a code; by POST, take it."""
    user = request.user
    if not isinstance(user, User):
        return redirect("sign-in")
    onward = _onward(request)
    if not codes.is_missing(user):
        return redirect(onward)
    has_phone = codes.has_phone(user)
    problem = ""
    if request.method == "POST":
        found: list[Device] = []

        def is_right() -> bool:
            device = codes.match(user, request.POST.get("code", ""))
            found.extend([device] if device else [])
            return device is not None

        answer = attempts.prove(user, is_right, "code")
        if answer is Answer.RIGHT:
            django_otp.login(request, found[0])
            return redirect(onward if has_phone else "phone")
        if answer is Answer.LOCKED or attempts.is_locked(user):
            logout(request)
            return locked(request, HttpResponse(), None)
        problem = WRONG_CODE
    context = {
        "mode": settings.MODE,
        "has_phone": has_phone,
        "problem": problem,
        "next": onward,
        "digits": codes.PHONE_DIGITS,
        "console_minutes": codes.CONSOLE_CODE_SECONDS // 60,
    }
    status = 400 if problem else 200
    return render(request, "dashboard/second_factor.html", context, status=status)


def _onward(request: HttpRequest) -> str:
    """Return where the person was going, and nowhere outside this desk."""
    wanted = request.POST.get(REDIRECT_FIELD_NAME, request.GET.get(REDIRECT_FIELD_NAME, ""))
    is_ours = url_has_allowed_host_and_scheme(
        wanted, {request.get_host()}, require_https=request.is_secure()
    )
    return wanted if wanted and is_ours else resolve_url(settings.LOGIN_REDIRECT_URL)
