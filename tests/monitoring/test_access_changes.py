"""The admin changes nothing unless one says so once more, and nobody rises by it."""

import datetime as dt
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from monitoring.dashboard import person
from tests.monitoring import desks
from tests.monitoring.dashboard.pages import PASSWORD, act, words
from tradingsite import clock
from tradingsite.access import users
from tradingsite.models import Notice

pytestmark = pytest.mark.django_db(databases=desks.ALIASES)

OWN = "/admin/password_change/"


@pytest.fixture
def owner(client: Client) -> User:
    user = User.objects.create_superuser("owner", password=PASSWORD)
    client.force_login(user)
    return user


def confirm(client: Client, path: str, **changes: str) -> Any:
    asked = {"password": PASSWORD, "reason": "a new hand"}
    return client.post(f"/you/confirm/?for={path}", asked | changes)


def new_password(user: User) -> str:
    return reverse("admin:auth_user_password_change", args=[user.pk])


def test_an_open_session_sets_no_password_without_the_one_of_before(
    client: Client, owner: User
) -> None:
    path = new_password(owner)
    fields = {"password1": "trapdoor-trapdoor", "password2": "trapdoor-trapdoor"}
    fields["usable_password"] = "true"
    sent = client.post(path, fields)
    assert (sent.status_code, sent["Location"].split("?")[0]) == (302, "/you/confirm/")
    owner.refresh_from_db()
    assert owner.check_password(PASSWORD)
    assert act(client, "btc/halt", password="trapdoor-trapdoor").status_code == 400
    assert confirm(client, path, password="a guess").status_code == 400
    assert client.post(path, fields)["Location"].startswith("/you/confirm/")
    assert confirm(client, path)["Location"] == path
    assert client.post(path, fields).status_code == 302
    owner.refresh_from_db()
    assert owner.check_password("trapdoor-trapdoor")
    told = Notice.objects.get(key__startswith="access:changed")
    assert path in told.text and "a new hand" in told.text
    assert "/you/confirm/" in client.get(path)["Location"]  # one change, once


def test_ones_own_password_page_is_no_oracle(client: Client, owner: User) -> None:
    tried = {"old_password": "a guess", "new_password1": "x" * 20, "new_password2": "x" * 20}
    for _ in range(3):
        assert client.post(OWN, tried)["Location"].startswith("/you/confirm/")
    for _ in range(4):
        assert confirm(client, OWN, password="a guess").status_code == 400
    # Whichever page asks, the tries are one person's.
    assert act(client, "btc/halt", password="a guess").status_code == 302
    client.force_login(owner)
    answer = confirm(client, OWN)
    assert answer.status_code == 302 and answer["Location"] == "/login/"
    assert "Too many wrong answers" in words(client.get("/login/"))


def test_what_is_let_through_is_one_page_for_minutes(
    client: Client, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = User.objects.create_user("guest")
    confirm(client, new_password(owner))
    assert "/you/confirm/" in client.get(new_password(guest))["Location"]
    assert client.get(new_password(owner)).status_code == 200
    now = clock.real()
    for later in (person.CONFIRMED_SECONDS + 1, -2 * person.CONFIRMED_SECONDS):
        then = now + dt.timedelta(seconds=later)
        monkeypatch.setattr(clock, "real", lambda then=then: then)
        assert "/you/confirm/" in client.get(new_password(owner))["Location"]


@pytest.mark.parametrize(
    "path",
    [
        *(OWN, "/admin/auth/user/add/", "/admin/auth/group/add/"),
        *("/admin/auth/user/{}/change/", "/admin/auth/user/{}/delete/"),
    ],
)
def test_every_page_that_decides_who_acts_asks(client: Client, owner: User, path: str) -> None:
    address = path.format(owner.pk)
    for answer in (client.get(address), client.post(address, {"username": "mallory"})):
        assert answer.status_code == 302 and "/you/confirm/" in answer["Location"]
    assert client.get("/admin/auth/user/").status_code == 200  # a list is only looked at
    chosen = {"action": "delete_selected", "_selected_action": [owner.pk], "post": "yes"}
    assert "/you/confirm/" in client.post("/admin/auth/user/", chosen)["Location"]
    assert User.objects.count() == 1


def test_the_question_leads_nowhere_else(client: Client, owner: User) -> None:
    for path in ("https://elsewhere.example/", "//elsewhere.example", "/trading/", ""):
        assert confirm(client, path)["Location"] == "/admin/"
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(owner)
    assert confirm(strict, OWN).status_code == 403


def test_nobody_gives_themselves_rights(client: Client, owner: User) -> None:
    clerk = User.objects.create_user("clerk", password=PASSWORD, is_staff=True)
    kinds = Permission.objects.filter(content_type__app_label="auth")
    clerk.user_permissions.set(kinds)
    client.force_login(clerk)
    own = reverse("admin:auth_user_change", args=[clerk.pk])
    confirm(client, own)
    page = client.get(own).content.decode()
    assert 'name="email"' in page
    for field in ("is_superuser", "groups", "user_permissions", "is_staff"):
        assert f'name="{field}"' not in page
    client.post(own, {"username": "clerk", "is_superuser": "on", "is_staff": "on"})
    clerk.refresh_from_db()
    assert not clerk.is_superuser
    confirm(client, new_password(owner))
    fields = {"password1": "trapdoor-trapdoor", "password2": "trapdoor-trapdoor"}
    assert client.post(new_password(owner), fields).status_code == 403
    group = users.owner_group()
    confirm(client, f"/admin/auth/group/{group.pk}/change/")
    assert client.post(f"/admin/auth/group/{group.pk}/change/", {"name": "x"}).status_code == 403


def test_who_only_sees_notices_ends_none(client: Client) -> None:
    viewer = User.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_notice"))
    client.force_login(viewer)
    notice = Notice.objects.create(
        **dict.fromkeys(("created_at", "last_at", "market_at"), desks.NOW),
        **{"channel": "trading", "severity": "critical", "key": "k", "text": "t"},
    )
    form = {"action": "mark_as_over", "_selected_action": notice.pk}
    client.post("/admin/tradingsite/notice/", form)
    notice.refresh_from_db()
    assert notice.resolved_at is None
    viewer.user_permissions.add(Permission.objects.get(codename="resolve_notice"))
    client.post("/admin/tradingsite/notice/", form)
    notice.refresh_from_db()
    assert notice.resolved_at is not None
