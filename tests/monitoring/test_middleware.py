"""Who may look, and what the pages may run."""

import pytest
from django.contrib.auth.models import User
from django.test import Client, override_settings

from tests.monitoring import desks

pytestmark = pytest.mark.django_db(databases=desks.ALIASES)


def test_only_a_simulated_desk_may_be_looked_at_without_signing_in(client: Client) -> None:
    assert client.get("/").status_code == 200
    with override_settings(MODE="paper"):
        sent = client.get("/")
        assert (sent.status_code, sent["Location"]) == (302, "/login/?next=/")
        card = client.get("/live", headers={"HX-Request": "true"})
        assert card["HX-Redirect"] == "/login/?next=/"
        client.force_login(User.objects.create_user("owner"))
        assert client.get("/").status_code == 200


def test_a_simulated_desk_is_open_to_its_own_machine_and_for_reading(client: Client) -> None:
    assert client.get("/", REMOTE_ADDR="192.0.2.7").status_code == 302
    assert client.get("/", REMOTE_ADDR="::1").status_code == 200
    assert client.post("/").status_code == 302
    # A proxy that nobody told us of, and one that serves a public name from this machine.
    assert client.get("/", headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 302
    with override_settings(PUBLIC_HOSTS=["desk.example.in"]):
        assert client.get("/").status_code == 302


def test_health_is_told_to_anybody(client: Client) -> None:
    with override_settings(MODE="live"):
        answer = client.get("/healthz", REMOTE_ADDR="192.0.2.7")
    assert (answer.status_code, answer.content) == (200, b"ok")


def test_scripts_and_styles_are_ours_alone_outside_the_admin(client: Client) -> None:
    strict = client.get("/")["Content-Security-Policy"]
    assert "script-src 'self';" in strict + ";"
    assert "unsafe" not in strict
    relaxed = client.get("/admin/")["Content-Security-Policy"]
    assert "script-src 'self' 'unsafe-inline' 'unsafe-eval'" in relaxed
    assert "object-src 'none'" in relaxed
    assert "unsafe" not in client.get("/nothing-here")["Content-Security-Policy"]
