"""Who may see the desk, and which scripts its pages may run."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from csp.constants import UNSAFE_EVAL, UNSAFE_INLINE
from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import resolve_url
from django.urls import reverse
from django_htmx.http import HttpResponseClientRedirect

Answer = Callable[[HttpRequest], HttpResponse]

# django-unfold's pages run inline scripts and evaluate Alpine's expressions.
ADMIN_POLICY = {
    "script-src": [UNSAFE_INLINE, UNSAFE_EVAL],
    "style-src": [UNSAFE_INLINE],
}
OPEN_TO_ALL = frozenset({"healthz"})
READS = frozenset({"GET", "HEAD", "OPTIONS"})


class AdminContentPolicy:
    """Relax the content security policy under /admin/ and nowhere else."""

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Pass the request on and mark the admin's answers for the policy's middleware."""
        response = self.get_response(request)
        if request.path.startswith(reverse("admin:index")):
            response._csp_update = ADMIN_POLICY  # type: ignore[attr-defined]  # django-csp's way
        return response


class SignInUnlessSimulated:
    """Ask for a signed-in person, except to look at a simulated desk from its own machine.

    A simulated desk moves no money and listens on loopback, so whoever is on the machine may look.
    Whatever writes asks for a signed-in person in every mode.
    """

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Let the request through, or send its sender to the sign-in page."""
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Answer, args: object, kwargs: object
    ) -> HttpResponse | None:
        """Return the way to the sign-in page for who may not see the view, else None."""
        match = request.resolver_match
        # The admin guards itself, and must be reachable to sign in at all.
        if match and (match.app_name == "admin" or match.url_name in OPEN_TO_ALL):
            return None
        if self._may_look(request) or request.user.is_authenticated:
            return None
        login = redirect_to_login(request.get_full_path(), resolve_url(settings.LOGIN_URL))
        if getattr(request, "htmx", False):
            # A card that asks for itself cannot show a page; its whole page has to go there.
            way = redirect_to_login(reverse("overview"), resolve_url(settings.LOGIN_URL))
            return HttpResponseClientRedirect(way.url)
        return login

    def _may_look(self, request: HttpRequest) -> bool:
        if settings.MODE != "simulated" or request.method not in READS:
            return False
        try:
            return ipaddress.ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
        except ValueError:  # a socket without an address is no way in
            return False
