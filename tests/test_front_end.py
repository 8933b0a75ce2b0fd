"""What the pages are made of: pinned packages, our own files, and nothing from elsewhere."""

import gzip
import html
import json
import mimetypes
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from django.conf import settings as configured
from django.contrib.staticfiles import finders
from django.core.cache import cache
from django.http import HttpResponse, HttpResponseBase
from django.test import Client, override_settings

from tests.monitoring import desks
from tests.tools import missing

DESK = configured.BASE_DIR / "templates" / "static" / "desk"
TEMPLATES = configured.BASE_DIR / "templates" / "dashboard"
PACKAGES = {"lightweight-charts": "5.2.1", "@fontsource-variable/inter": "5.3.0"}
ADDRESS = re.compile(r"https?://[\w.]+")
# The attribution the chart library's licence asks for is a link; nothing is loaded from it.
LINKS = {"https://www.tradingview.com"}
WEIGHT_LIMIT_BYTES = 200_000
REQUESTS_LIMIT = 10


def test_packages_are_pinned_and_their_lock_names_no_registry() -> None:
    package = json.loads((configured.BASE_DIR / "package.json").read_text())
    lock_text = (configured.BASE_DIR / "package-lock.json").read_text()
    lock = json.loads(lock_text)["packages"]
    assert package["dependencies"] == PACKAGES
    assert {name: lock[f"node_modules/{name}"]["version"] for name in PACKAGES} == PACKAGES
    assert all("integrity" in entry for name, entry in lock.items() if name)
    assert not ADDRESS.search(lock_text)


def test_nothing_is_loaded_from_another_place() -> None:
    for path in [*DESK.glob("*.css"), *DESK.glob("*.js"), *TEMPLATES.rglob("*.html")]:
        assert set(ADDRESS.findall(path.read_text())) <= LINKS, path


def test_both_ways_into_the_dark_theme_use_the_same_tokens() -> None:
    css = (DESK / "base.css").read_text()

    def tokens(selector: str) -> dict[str, str]:
        block = css.split(selector, 1)[1].split("}", 1)[0]
        return dict(re.findall(r"--([\w-]+):\s*([^;]+);", block))

    chosen, followed = tokens(':root[data-theme="dark"] {'), tokens('not([data-theme="light"]) {')
    assert chosen == followed
    assert set(chosen) < set(tokens(":root {"))


@pytest.mark.parametrize("theme", [":root {", ':root[data-theme="dark"] {'])
def test_text_can_be_read_on_every_surface(theme: str) -> None:
    block = (DESK / "base.css").read_text().split(theme, 1)[1].split("}", 1)[0]
    colours = dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{3,6});", block))
    inks = ("ink", "ink-2", "ink-3", "accent", "profit", "loss", "long", "short", "warn", "fail")
    pairs = [(ink, ground) for ink in inks for ground in ("bg", "surface", "sunk")]
    pairs += [(name, f"{name}-soft") for name in ("profit", "warn", "fail", "accent")]
    pairs += [("ink-2", "fail-soft"), ("ink-2", "warn-soft"), ("accent-ink", "accent")]
    pairs += [("danger-ink", "danger")]
    for ink, ground in pairs:
        assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)


def contrast(first: str, second: str) -> float:
    """Return the WCAG contrast of two colours."""
    lighter, darker = sorted((luminance(first), luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    """Return the WCAG relative luminance of #rgb or #rrggbb."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = (int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4))
    red, green, blue = (
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


class Page(HTMLParser):
    """Collect what a page loads, names and points at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.anchors: list[str] = []
        self.inline: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take one element."""
        found = {name: value or "" for name, value in attrs}
        if "style" in found or any(name.startswith("on") for name in found):
            self.inline.append(tag)
        if tag == "style" or (tag == "script" and "src" not in found):
            self.inline.append(tag)
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "script" or (tag == "link" and found.get("rel") != "preload"):
            self.loads.append(found.get("src") or found.get("href", ""))
        address = found.get("href", "")
        if tag in {"a", "use"} and address.startswith("#"):
            self.anchors.append(address[1:])


@pytest.fixture
def page(client: Client, set_market: Callable[..., None]) -> str:
    cache.clear()
    set_market(desks.NOW, 48.0)
    desks.whole_desk()
    return client.get("/").content.decode()


@pytest.mark.django_db(databases=desks.ALIASES)
def test_the_page_has_no_inline_code_no_dead_anchor_and_no_id_twice(page: str) -> None:
    found = Page(page)
    assert found.inline == []
    assert sorted(set(found.ids)) == sorted(found.ids)
    assert set(found.anchors) <= set(found.ids)


@pytest.mark.django_db(databases=desks.ALIASES)
def test_the_page_keeps_its_budget(page: str, client: Client) -> None:
    if not configured.CHARTS_INSTALLED:
        missing("the front end (npm ci)")
    folder = configured.NODE_MODULES
    font = folder / "@fontsource-variable/inter/files/inter-latin-wght-normal.woff2"
    weights = [packed(path) for path in map(source_of, Page(page).loads)]
    weights += [font.stat().st_size, (DESK / "inter-rupee.woff2").stat().st_size]
    answer = client.get("/", HTTP_ACCEPT_ENCODING="gzip")
    assert answer["Content-Encoding"] == "gzip"
    assert len(weights) + 1 <= REQUESTS_LIMIT
    assert sum(weights) + len(answer.content) <= WEIGHT_LIMIT_BYTES


def source_of(address: str) -> Path:
    """Return the file behind a static address."""
    return Path(str(finders.find(address.removeprefix("/static/"))))


def packed(path: Path) -> int:
    """Return a file's size as gzip sends it."""
    return len(gzip.compress(path.read_bytes(), 9))


@pytest.mark.django_db(databases=desks.ALIASES)
def test_without_the_packages_the_page_says_so_and_shows_the_rest(
    page: str, client: Client
) -> None:
    with override_settings(CHARTS_INSTALLED=False):
        text = html.unescape(client.get("/").content.decode())
    assert "The charts are not installed on this machine" in text
    assert "vendor/" not in text
    assert "Everything is running." in text, verdict_of(text)


def verdict_of(text: str) -> str:
    """Return a page's verdict without its markup: what a failure should show."""
    card = text.split('class="what"', 1)[-1].split("</section>", 1)[0]
    return " ".join(re.sub(r"<[^>]*>", " ", card).split())[:300]


def browser() -> str:
    """Return a Chromium, or skip; where tools are required its absence is a failure."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        missing("chromium")
    return found


@contextmanager
def served(answers: Mapping[str, HttpResponseBase]) -> Iterator[str]:
    """Serve finished answers, and the static files they ask for; return the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers.get(self.path)
            if isinstance(answer, HttpResponse):
                body = answer.content
            else:
                body = source_of(self.path).read_bytes()
            kind = mimetypes.guess_type(self.path)[0] or "text/html; charset=utf-8"
            self.send_response(200)
            self.send_header("Content-Type", kind)
            if answer:
                policy = "Content-Security-Policy"
                self.send_header(policy, answer[policy])
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.django_db(databases=desks.ALIASES)
def test_a_browser_draws_the_page_without_a_word_on_its_console(
    page: str, client: Client, tmp_path: Path
) -> None:
    if not configured.CHARTS_INSTALLED:
        missing("the front end (npm ci)")
    program = browser()
    with served({path: client.get(path) for path in ("/", "/live")}) as address:
        run = subprocess.run(
            [
                *(program, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
                *("--disable-background-networking", "--enable-logging=stderr", "--v=0"),
                *(f"--user-data-dir={tmp_path}", "--virtual-time-budget=6000", "--dump-dom"),
                address,
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    assert [line for line in run.stderr.splitlines() if "CONSOLE" in line] == []
    plot = run.stdout.split('id="plot"', 1)[1].split("plot-empty", 1)[0]
    assert plot.count("<canvas") >= 4
    # The first poll came back, and what it said was read out to who cannot see the page.
    assert '<p class="unseen" id="spoken" role="status">Everything is running.</p>' in run.stdout, (
        verdict_of(run.stdout)
    )
