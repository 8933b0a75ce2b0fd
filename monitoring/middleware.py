"""Who may see the desk, what is asked once more, and which scripts its pages may run."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import urlencode

from csp.constants import UNSAFE_EVAL, UNSAFE_INLINE
from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django_htmx.http import HttpResponseClientRedirect

from monitoring.dashboard import broker, person
from tradingsite.access import address, codes
from tradingsite.postgresql import timeouts

Answer = Callable[[HttpRequest], HttpResponse]

# django-unfold's pages run inline scripts and evaluate Alpine's expressions.
ADMIN_POLICY = {
    "script-src": [UNSAFE_INLINE, UNSAFE_EVAL],
    "style-src": [UNSAFE_INLINE],
}
OPEN_TO_ALL = frozenset({"healthz", "sign-in", "sign-out", "second-factor"})
CAME_BACK = "broker-came-back"
NOT_FOR_STRANGERS = frozenset({"broker", CAME_BACK})
READS = frozenset({"GET", "HEAD", "OPTIONS"})


class AnswerInTime:
    """Let a page wait for the databases for some seconds in all, however many it asks.

    What acts is not cut short, and the admin's long lists take what the server allows.
    """

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Pass the request on within its time."""
        if request.method not in READS or request.path.startswith(reverse("admin:index")):
            with timeouts.during(timeouts.SERVICE):
                return self.get_response(request)
        with timeouts.within(timeouts.PAGE_SECONDS):
            return self.get_response(request)


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

    A simulated desk moves no money and listens on loopback, so whoever is on the machine may look;
    not so where it is reached by a public name, since a proxy on this machine speaks for anybody.
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
        if match and match.url_name in OPEN_TO_ALL:
            return None
        if request.user.is_authenticated:
            if codes.is_missing(request.user):
                return _sent(request, "second-factor")
            return None
        # The admin sends strangers to the sign-in page by itself.
        if (match and match.app_name == "admin") or self._may_look(request):
            return None
        return _sent(request, "sign-in")

    def _may_look(self, request: HttpRequest) -> bool:
        if settings.MODE != "simulated" or settings.PUBLIC_HOSTS or request.method not in READS:
            return False
        match = request.resolver_match
        return address.is_loopback(request) and not (match and match.url_name in NOT_FOR_STRANGERS)


class ConfirmChanges:
    """Ask once more before the admin changes anything: people, rights, days, jobs."""

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Pass the request on; a change that was made uses up what let it through."""
        response = self.get_response(request)
        is_done = response.status_code == HTTPStatus.FOUND and request.method not in READS
        if is_done and getattr(request, "let_through", False):
            person.use_up(request)
        return response

    def process_view(
        self, request: HttpRequest, view: Answer, args: object, kwargs: object
    ) -> HttpResponse | None:
        """Return the way to the question, None where there is none to ask."""
        changes = request.method not in READS
        if not person.must_confirm(request, changes):
            return None
        if person.is_confirmed(request):
            request.let_through = changes  # type: ignore[attr-defined]  # ours alone
            return None
        return redirect(f"{reverse('confirm-change')}?{urlencode({'for': request.path})}")


def _sent(request: HttpRequest, name: str) -> HttpResponse:
    """Return the way to a page of signing in and back, without what the address asks.

    What a broker gave us to bring back waits in the session: it must stand in no address.
    """
    login = reverse(name)
    match = request.resolver_match
    if match and match.url_name == CAME_BACK and request.method in READS:
        broker.keep_for_later(request)
    if getattr(request, "htmx", False):
        # A card that asks for itself cannot show a page; its whole page has to go there.
        return HttpResponseClientRedirect(redirect_to_login(reverse("overview"), login).url)
    return redirect_to_login(request.path, login)
