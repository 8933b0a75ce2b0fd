"""The page of who is signed in: what they may do, their phone, and the way out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import django_otp
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import Resolver404, resolve, reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from monitoring.dashboard import acts, confirm
from monitoring.dashboard.acts import Act, Said
from monitoring.dashboard.broker import CALM
from tradingsite import clock, notices
from tradingsite.access import address, codes
from tradingsite.access.acts import ACTS, may

KEY = "phone_key"
CONFIRMED = "confirmed_change"
CONFIRMED_SECONDS = 300
LOOKING = ("_changelist", "_history")
WRONG_CODE = (
    "The phone's code does not fit the key. Scan it again, and look whether the phone's clock is "
    "right. Nothing was changed."
)


@require_safe
@never_cache
def page(request: HttpRequest) -> HttpResponse:
    """Show who is signed in and what they may do."""
    user = request.user
    if not isinstance(user, User):
        return redirect_to_login(request.path, reverse("sign-in"))
    context = {
        **_frame(),
        "rights": [(words, may(user, act)) for act, words in ACTS.items()],
        "has_phone": codes.has_phone(user),
        "is_required": codes.is_required(),
        "address": address.of(request),
    }
    return render(request, "dashboard/person.html", context)


@confirm.own_words
def phone(request: HttpRequest) -> HttpResponse:
    """Show a key for an authenticator; by POST, take the phone that holds it.

    The key waits in the session, so that looking at the page changes nothing.
    """
    user = request.user
    if not isinstance(user, User):
        return redirect_to_login(request.path, reverse("sign-in"))
    key = request.session.setdefault(KEY, codes.new_key())
    problem = ""
    if request.method == "POST":
        problem = confirm.problem(request)
        if not request.user.is_authenticated:
            return acts.signed_out(request, problem)
        device = None if problem else codes.set_phone(user, key, request.POST.get("code", ""))
        if device is not None:
            del request.session[KEY]
            django_otp.login(request, device)
            _tell(request, "set up a phone for their second factor")
            text = "Your phone is the second factor from now on."
            messages.add_message(request, messages.SUCCESS, text, CALM)
            return redirect("person")
        problem = problem or WRONG_CODE
    context = {
        **_frame(),
        "problem": problem,
        "reason": request.POST.get("reason", ""),
        "reason_characters": confirm.REASON_CHARACTERS,
        "squares": codes.squares(codes.key_address(user, key)),
        "typed_key": codes.typed_key(key),
        "has_phone": codes.has_phone(user),
    }
    return render(request, "dashboard/phone.html", context, status=400 if problem else 200)


@confirm.own_words
def confirm_change(request: HttpRequest) -> HttpResponse:
    """Ask once more before one change in the admin; by POST, let that one through."""
    if not isinstance(request.user, User):
        return redirect_to_login(request.path, reverse("sign-in"))
    path = request.GET.get("for", "")
    if not is_in_admin(path):
        return redirect("admin:index")
    act = Act(
        "Change something in the admin?",
        "What is changed there decides who may act, when markets are open and which jobs run. One "
        f"change of this page is let through, within {CONFIRMED_SECONDS // 60} minutes, and told "
        f"in a notice.",
        "Go on",
        (("Page", path),),
        is_danger=False,
        here="",
        back=reverse("admin:index"),
        onward=path,
    )

    def carry_out() -> Sequence[Said]:
        request.session[CONFIRMED] = {
            "path": path,
            "until": clock.real().timestamp() + CONFIRMED_SECONDS,
            "reason": confirm.reason(request),
        }
        return ()

    return acts.confirmed(request, act, carry_out)


def is_in_admin(path: str) -> bool:
    """Return whether an address is one of the admin's."""
    try:
        return resolve(path).app_name == "admin"
    except Resolver404:
        return False


def must_confirm(request: HttpRequest, changes: bool) -> bool:
    """Return whether a request to the admin changes something, or opens a form that would.

    Records that nobody edits are only looked at, and what is done to them is a right of its own.
    """
    match = request.resolver_match
    if match is None or match.app_name != "admin" or not request.user.is_authenticated:
        return False
    name = match.url_name or ""
    if name == "password_change":
        return True
    if name.endswith(LOOKING) and not changes:
        return False
    for model, edits in admin.site._registry.items():
        if name.startswith(f"{model._meta.app_label}_{model._meta.model_name}_"):
            may = (edits.has_add_permission, edits.has_change_permission)
            return any(each(request) for each in (*may, edits.has_delete_permission))
    return False


def is_confirmed(request: HttpRequest) -> bool:
    """Return whether a person has said once more that they want this page's change."""
    said = request.session.get(CONFIRMED) or {}
    # Neither side of it: a clock that is put back must not keep it open.
    left = said.get("until", 0) - clock.real().timestamp()
    return said.get("path") == request.path and 0 < left <= CONFIRMED_SECONDS


def use_up(request: HttpRequest) -> None:
    """End the one change that was let through, and tell of it."""
    said = request.session.pop(CONFIRMED, {})
    _tell(request, f"changed {request.path}: {said.get('reason', '')}")


def _tell(request: HttpRequest, what: str) -> None:
    notices.notify(
        "infrastructure",
        "warning",
        f"access:changed:{request.path}"[:120],
        f"{request.user.get_username()} {what}, from {address.of(request) or 'no address'}. If it "
        f"was not you: `manage.py firstuser --reset`.",
    )


def _frame() -> dict[str, Any]:
    return {"mode": settings.MODE, "here": "person"}
