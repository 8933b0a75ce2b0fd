"""The pages behind a real nginx with TLS: signing in, halting, and what is in no log."""

import http.client
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlencode

import pytest
from axes.models import AccessAttempt
from django.conf import settings as configured
from django.contrib.auth.models import User

from bots.models import RiskState
from tests.markets.venues.kite.test_ticker_tls import certificate
from tests.monitoring import desks
from tests.monitoring.dashboard.pages import PASSWORD
from tests.tools import missing
from tests.waiting import wait_for
from tradingsite.access import codes

NAME = "desk.example.in"
SITE = configured.BASE_DIR / "templates" / "nginx" / "nightdesk.conf"
STARTS_WITHIN_SECONDS = 30.0

pytestmark = pytest.mark.django_db(transaction=True, databases=desks.ALIASES)


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Browser:
    """Keep cookies and send what a browser sends with a form."""

    def __init__(self, port: int, certificate: Path) -> None:
        self.port = port
        self.cookies: dict[str, str] = {}
        self.flags: list[str] = []
        self._trust = ssl.create_default_context(cafile=str(certificate))

    def ask(
        self, method: str, path: str, fields: dict[str, str] | None = None, **headers: str
    ) -> tuple[int, dict[str, str], str]:
        """Return the status, the headers and the text of an answer."""
        connection = http.client.HTTPConnection(NAME, self.port, timeout=20)
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        connection.sock = self._trust.wrap_socket(raw, server_hostname=NAME)
        sent = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        body = None
        if fields is not None:
            origin = f"https://{NAME}:{self.port}"
            fields = {"csrfmiddlewaretoken": self.cookies["csrftoken"], **fields}
            sent |= {
                "Content-Type": "application/x-www-form-urlencoded",
                "Origin": origin,
                "Referer": f"{origin}{path}",
            }
            body = urlencode(fields)
        with closing(connection):
            connection.request(method, path, body, sent | headers)
            answer = connection.getresponse()
            text = answer.read().decode()
            for cookie in answer.headers.get_all("Set-Cookie", []):
                name, value = cookie.split(";")[0].split("=", 1)
                self.cookies[name] = value
                self.flags.append(cookie)
            return answer.status, dict(answer.headers), text


class Front:
    """A gunicorn and the nginx before it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.plain, self.inside = free_port(), free_port(), free_port()
        self.certificate = certificate(NAME, folder)  # and its key, in one file

    def site(self) -> str:
        """Return the example, with the places of this test in place of the example's."""
        text = SITE.read_text()
        live = f"/etc/letsencrypt/live/{NAME}"
        for theirs, ours in (
            (f"{live}/fullchain.pem", str(self.certificate)),
            (f"{live}/privkey.pem", str(self.certificate)),
            ("/var/log/nginx", str(self.folder)),
            ("listen 443 ssl", f"listen 127.0.0.1:{self.port} ssl"),
            ("listen 80", f"listen 127.0.0.1:{self.plain}"),
            ("127.0.0.1:8000", f"127.0.0.1:{self.inside}"),
        ):
            assert theirs in text
            text = text.replace(theirs, ours)
        return text

    def nginx_arguments(self) -> list[str]:
        """Write the configuration and return nginx's arguments."""
        (self.folder / "site.conf").write_text(self.site())
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        paths = "\n".join(f"{kind}_temp_path {self.folder}/{kind};" for kind in kinds)
        user = "user root;" if os.geteuid() == 0 else ""
        (self.folder / "nginx.conf").write_text(
            f"{user} daemon off; pid {self.folder}/pid; error_log {self.folder}/main.log;\n"
            f"events {{}}\nhttp {{ {paths}\ninclude {self.folder}/site.conf; }}\n"
        )
        return ["-p", str(self.folder), "-c", str(self.folder / "nginx.conf")]

    def logs(self) -> str:
        """Return all that was written to a log."""
        return "".join(path.read_text() for path in self.folder.glob("*.log"))

    def browser(self) -> Browser:
        """Return a browser that nobody has signed in with."""
        return Browser(self.port, self.certificate)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if nginx is None:
        missing("nginx")
    made = Front(tmp_path_factory.mktemp("front"))
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "WEB_PORT": str(made.inside),
        "PUBLIC_URL": f"https://{NAME}:{made.port}",
    }
    env.pop("TRUSTED_PROXIES", None)  # as a desk whose owner set nothing but the address
    desk = [sys.executable, "-m", "gunicorn", "tradingsite.wsgi"]
    with (made.folder / "gunicorn.log").open("w") as log:
        programs = [
            subprocess.Popen(
                [*desk, "-c", "python:tradingsite.web.gunicorn_config"],
                cwd=configured.BASE_DIR,
                env=env,
                stderr=log,
            ),
            subprocess.Popen([nginx, *made.nginx_arguments()], stderr=log),
        ]
        try:
            _wait(made, programs)
            yield made
        finally:
            for program in programs:
                program.terminate()
            for program in programs:
                program.wait(20)


def _wait(front: Front, programs: list[subprocess.Popen[bytes]]) -> None:
    until = time.monotonic() + STARTS_WITHIN_SECONDS
    while time.monotonic() < until:
        assert all(program.poll() is None for program in programs), front.logs()
        try:
            if front.browser().ask("GET", "/healthz")[0] == 200:
                return
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.2)
    raise AssertionError(f"nothing answers:\n{front.logs()}")


def sign_in(browser: Browser, password: str = PASSWORD, **headers: str) -> tuple[int, str]:
    browser.ask("GET", "/login/")
    fields = {"username": "owner", "password": password, "next": "/trading/"}
    status, answered, _ = browser.ask("POST", "/login/", fields, **headers)
    return status, answered.get("Location", "")


def test_signing_in_and_halting_go_through_nginx_and_tls(front: Front) -> None:
    owner = User.objects.create_superuser("owner", password=PASSWORD)
    browser = front.browser()
    # The address is not loopback, so a stranger sees nothing, and a password alone is not enough.
    assert browser.ask("GET", "/")[0] == 302
    assert sign_in(browser) == (302, "/trading/")
    status, headers, _ = browser.ask("GET", "/trading/")
    assert (status, headers["Location"]) == (302, "/login/code/?next=/trading/")
    browser.ask("GET", "/login/code/")
    code = {"code": codes.print_code(owner), "next": "/trading/"}
    assert browser.ask("POST", "/login/code/", code)[0] == 302
    status, headers, text = browser.ask("GET", "/trading/")
    assert status == 200 and "Trading" in text
    assert re.fullmatch(r"max-age=31536000.*", headers["Strict-Transport-Security"])
    assert all("Secure" in flag for flag in browser.flags)
    asked = {"password": PASSWORD, "reason": "a spike"}
    status, headers, text = browser.ask("POST", "/trading/btc/halt/", asked)
    assert (status, headers.get("Location")) == (302, "/trading/"), text[:2000]
    assert RiskState.on("btc").objects.get(bot="btc").halted
    # The same form from another site's page is refused.
    elsewhere = {"Origin": "https://elsewhere.example", "Referer": "https://elsewhere.example/"}
    assert browser.ask("POST", "/trading/btc/resume/", asked, **elsewhere)[0] == 403
    assert RiskState.on("btc").objects.get(bot="btc").halted


def test_what_a_client_says_of_itself_counts_for_nothing(front: Front) -> None:
    User.objects.create_superuser("owner", password=PASSWORD)
    browser = front.browser()
    for number in range(5):
        pretended = {"X-Forwarded-For": f"10.0.0.{number}", "X-Forwarded-Proto": "http"}
        status, _ = sign_in(browser, "a guess", **pretended)
    assert status == 429
    assert {row.ip_address for row in AccessAttempt.objects.all()} == {"127.0.0.1"}


def test_plain_http_leads_to_tls_and_past_nginx_too(front: Front) -> None:
    for port, name in ((front.plain, NAME), (front.inside, "127.0.0.1")):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        with closing(connection):
            connection.request("GET", "/trading/", headers={"Host": name})
            answer = connection.getresponse()
            assert answer.status == 301
            assert str(answer.headers["Location"]).startswith("https://")


def test_a_request_token_is_in_no_log_and_no_address(front: Front) -> None:
    token = "Zx81Zx81Zx81"
    address = f"/kite/redirect?status=success&request_token={token}"
    status, headers, _ = front.browser().ask("GET", address, Referer=f"https://{NAME}{address}")
    assert (status, headers["Location"]) == (302, "/login/?next=/kite/redirect")
    # nginx writes its log after it answered.
    assert wait_for(lambda: "GET /kite/redirect" in front.logs())
    assert token not in front.logs()


def test_large_and_slow_requests_end_at_nginx(front: Front) -> None:
    browser = front.browser()
    browser.ask("GET", "/login/")
    large = {"username": "x" * 70_000, "password": "y"}
    assert browser.ask("POST", "/login/", large)[0] == 413
    held = []
    for _ in range(8):  # twice gunicorn's threads: each sends its body one letter at a time
        raw = socket.create_connection(("127.0.0.1", front.port), timeout=20)
        slow = browser._trust.wrap_socket(raw, server_hostname=NAME)
        head = f"POST /login/ HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 500\r\n\r\n"
        slow.sendall(f"{head}a".encode())
        held.append(slow)
    began = time.monotonic()
    assert browser.ask("GET", "/healthz")[0] == 200
    assert time.monotonic() - began < 3.0
    held[0].settimeout(10)  # one that nginx let wait for longer raises here
    assert held[0].recv(64)[:12] in {b"", b"HTTP/1.1 408"}
    for slow in held:
        slow.close()
