"""The first person's login, and the commands that show, reset and unlock it."""

import io
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import CommandError, call_command
from django.utils import timezone
from django_otp.oath import TOTP
from django_otp.plugins.otp_totp.models import TOTPDevice
from pytest_django import Settings

from tradingsite.access import attempts, codes, users
from tradingsite.access.acts import ACTS, may
from tradingsite.access.models import OneTimeCode

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def folder(settings: Settings, tmp_path: Path) -> Iterator[Path]:
    settings.DATA_DIR = tmp_path
    yield tmp_path


def said(*arguments: str) -> str:
    out = io.StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def shown(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(name)).split(None, 1)[1]


def test_the_first_person_is_made_once_with_a_password_only_they_read(folder: Path) -> None:
    text = said("firstuser")
    path = folder / "owner_password"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    owner = User.objects.get()
    assert (owner.username, owner.is_superuser, owner.is_staff) == ("owner", True, True)
    assert owner.check_password(path.read_text())
    assert shown(text, "Password") == path.read_text()
    assert shown(text, "Page") == "http://127.0.0.1:8000/"
    assert len(path.read_text()) == 24
    assert said("firstuser") == text


def test_a_deleted_file_resets_no_password_and_a_renamed_owner_stays_alone(folder: Path) -> None:
    users.ensure_first()
    owner = User.objects.get()
    owner.username = "choi"
    owner.set_password("one of my own")
    owner.save()
    (folder / "owner_password").unlink()
    assert users.ensure_first() == owner
    after = User.objects.get()  # still the only one
    assert after.username == "choi" and after.check_password("one of my own")
    assert not (folder / "owner_password").exists()
    assert shown(said("firstuser"), "Password") == "one of their own; --reset makes a new one"


def test_the_file_of_an_old_password_is_never_shown_as_the_login(folder: Path) -> None:
    users.ensure_first()
    owner = User.objects.get()
    owner.set_password("one of my own")
    owner.save()
    login = users.login()
    assert login is not None and (login.name, login.password) == ("owner", "")


def test_people_without_one_who_may_do_everything_are_left_alone() -> None:
    User.objects.create_user("guest")
    assert users.ensure_first() is None and users.login() is None
    with pytest.raises(CommandError, match="createsuperuser"):
        said("firstuser")
    with pytest.raises(CommandError, match="there is no 'x'; there is guest"):
        said("firstuser", "--user", "x")


@pytest.mark.parametrize("command", ["firstuser", "secondfactor"])
def test_pc_has_no_people(settings: Settings, command: str) -> None:
    settings.MACHINE = "pc"
    with pytest.raises(CommandError, match="say this there"):
        said(command)


def test_a_reset_ends_sessions_and_locks_and_leaves_no_file(folder: Path) -> None:
    owner = users.ensure_first()
    assert owner is not None
    before = owner.get_session_auth_hash()
    for _ in range(attempts.ALLOWED):
        attempts.prove(owner, lambda: False)
    password = shown(said("firstuser", "--reset"), "Password")
    owner = User.objects.get()
    assert owner.check_password(password)
    assert owner.get_session_auth_hash() != before
    assert not (folder / "owner_password").exists()
    assert not attempts.is_locked(owner)


def test_the_page_is_where_the_desk_runs_or_where_nginx_serves_it(
    folder: Path, settings: Settings
) -> None:
    (folder / "up.lock").write_text(json.dumps({"pid": 1, "address": "http://127.0.0.1:8007/"}))
    assert shown(said("firstuser"), "Page") == "http://127.0.0.1:8007/"
    settings.PUBLIC_URL = "https://desk.example.in"
    assert shown(said("firstuser"), "Page") == "https://desk.example.in/"


def test_the_consoles_code_serves_once_for_minutes_and_is_the_newest() -> None:
    owner = users.ensure_first()
    assert owner is not None
    old = shown(said("firstuser", "--code"), "Code")[:9]
    new = shown(said("firstuser", "--code"), "Code")[:9]
    assert old == new or codes.match(owner, old) is None
    assert codes.match(owner, new) is not None
    assert codes.match(owner, new) is None
    late = shown(said("firstuser", "--code"), "Code")[:9]
    OneTimeCode.objects.update(valid_until=timezone.now())
    assert codes.match(owner, late) is None
    other = User.objects.create_user("guest")
    assert codes.match(other, shown(said("firstuser", "--code"), "Code")[:9]) is None


def test_a_phone_is_set_up_and_removed_at_the_console(monkeypatch: pytest.MonkeyPatch) -> None:
    owner = users.ensure_first()
    assert owner is not None
    key = "31" * 20
    monkeypatch.setattr(codes, "new_key", lambda: key)
    monkeypatch.setattr("builtins.input", lambda asked: "000000")
    with pytest.raises(CommandError, match="does not fit"):
        said("secondfactor")
    assert not TOTPDevice.objects.exists()
    monkeypatch.setattr("builtins.input", lambda asked: f"{TOTP(bytes.fromhex(key)).token():06d}")
    text = said("secondfactor")
    assert "GEYT CMJR GEYT CMJR" in text and "█" in text
    assert codes.has_phone(owner)
    assert "asked for at each sign-in" in said("firstuser")
    said("secondfactor", "--remove")
    assert not codes.has_phone(owner)
    with pytest.raises(CommandError, match="has no phone"):
        said("secondfactor", "--remove")


def test_without_a_terminal_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    users.ensure_first()

    def closed(asked: str) -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", closed)
    with pytest.raises(CommandError, match="nobody typed"):
        said("secondfactor")
    assert not TOTPDevice.objects.exists()


def test_each_act_is_a_right_and_the_owners_group_has_them_all() -> None:
    guest = User.objects.create_user("guest", is_staff=True)
    assert not any(may(guest, act) for act in ACTS)
    guest.groups.add(users.owner_group())
    assert all(may(User.objects.get(username="guest"), act) for act in ACTS)
    owner = users.ensure_first()
    assert owner is None  # somebody is here, and nobody is made behind their back
    with pytest.raises(KeyError):
        may(guest, "hlat")
    # Whoever deletes the group takes no right for good from who owns the desk.
    Group.objects.all().delete()
    second = users.make("second", "correct horse battery")
    assert users.owner_group().permissions.count() == len(ACTS)
    assert second.groups.get() == users.owner_group()
