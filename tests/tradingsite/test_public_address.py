"""What the settings make of a public address, and that Django finds nothing to warn of."""

import json
import os
import subprocess
import sys

import pytest
from django.conf import settings as configured

SAID = (
    "import json, tradingsite.settings as s; print(json.dumps({name: getattr(s, name) for name in "
    "('SECURE_PROXY_SSL_HEADER', 'CSRF_TRUSTED_ORIGINS', 'SECURE_HSTS_SECONDS', 'ALLOWED_HOSTS', "
    "'SESSION_COOKIE_SECURE', 'SECURE_SSL_REDIRECT', 'TRUSTED_PROXIES', 'PUBLIC_HOSTS')}))"
)


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    names = ("PUBLIC_URL", "TRUSTED_PROXIES", "ALLOWED_HOSTS", "DJANGO_SETTINGS_MODULE")
    # Empty where it is not said, so that the owner's own .env is not read.
    kept = {name: value for name, value in os.environ.items() if name not in names}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=configured.BASE_DIR,
        env=kept | {"PUBLIC_URL": "", "SECRET_KEY": "a-secret-of-fifty-signs-" * 3} | env,
        capture_output=True,
        text=True,
        check=False,
    )


def settings_with(**env: str) -> dict[str, object]:
    done = run("-c", SAID, **env)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_on_loopback_nothing_speaks_of_tls_even_live() -> None:
    found = settings_with(MODE="live")
    assert found["SECURE_PROXY_SSL_HEADER"] is None
    assert (found["SECURE_HSTS_SECONDS"], found["SECURE_SSL_REDIRECT"]) == (0, False)
    assert found["SESSION_COOKIE_SECURE"] is False  # by http some browsers would never send it
    assert found["TRUSTED_PROXIES"] == found["PUBLIC_HOSTS"] == []


def test_a_public_address_turns_all_of_it_on() -> None:
    found = settings_with(PUBLIC_URL="https://desk.example.in:8443/")
    assert found["SECURE_PROXY_SSL_HEADER"] == ["HTTP_X_FORWARDED_PROTO", "https"]
    assert found["CSRF_TRUSTED_ORIGINS"] == ["https://desk.example.in:8443"]
    assert found["SECURE_HSTS_SECONDS"] == 365 * 86_400
    assert found["SESSION_COOKIE_SECURE"] is found["SECURE_SSL_REDIRECT"] is True
    assert found["PUBLIC_HOSTS"] == ["desk.example.in"]
    assert found["ALLOWED_HOSTS"] == ["127.0.0.1", "localhost", "[::1]", "desk.example.in"]
    assert found["TRUSTED_PROXIES"] == ["127.0.0.1", "::1"]


@pytest.mark.parametrize(
    "address", ["http://desk.example.in", "desk.example.in", "https://desk.example.in/trading"]
)
def test_an_address_that_is_not_https_is_refused_by_name(address: str) -> None:
    done = run("-c", "import tradingsite.settings", PUBLIC_URL=address)
    assert done.returncode != 0
    assert "PUBLIC_URL is" in done.stderr and "the https address that nginx" in done.stderr


@pytest.mark.parametrize("address", ["", "https://desk.example.in"])
def test_a_live_desk_passes_the_check_of_a_deployment(address: str) -> None:
    check = ("manage.py", "check", "--deploy", "--fail-level=WARNING")
    done = run(*check, MODE="live", PUBLIC_URL=address)
    assert done.returncode == 0, done.stderr
