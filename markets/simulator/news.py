"""A news feed (RSS 2.0) that follows the simulated market's time, plainly marked as simulated.

Every half hour of market time has one item, up to five minutes early or late, so that 20 to 40
minutes lie between two. Which it is follows from the time alone: asking twice, or after a restart,
finds the same news. No headline claims a price, because this service knows none.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import random
from collections.abc import Callable, Iterator
from email.utils import format_datetime
from itertools import count, islice
from typing import NamedTuple
from xml.etree import ElementTree

from aiohttp import web

from markets.simulator.faults import Faults
from tradingsite.clock import Epoch

TITLE = "Nightdesk simulated news"
DISCLAIMER = "Simulated by Nightdesk: invented, about no real event."
ITEMS = 30
SLOT_SECONDS = 1_800
JITTER_SECONDS = 300
OVERLONG_CHARACTERS = 200_000
FAULTS = {
    "malformed": "sends the first half of the XML",
    "empty": "sends a feed without items",
    "hostile": "puts an item first whose title is markup and script, its description overlong",
    "bomb": "puts a DOCTYPE first whose entities expand to gigabytes",
}
HEADLINES = {
    "markets": (
        "NIFTY {mood} as traders wait for {event}",
        "BANKNIFTY {mood} before the weekly expiry",
        "Index futures: {side} add to positions ahead of {event}",
        "FIIs turn {flow} in cash market, domestic funds take the other side",
        "Option writers shift NIFTY strikes after {event}",
    ),
    "economy": (
        "RBI keeps an eye on {topic}, says official",
        "Crude {mood} & rupee steadies as importers hedge",
        "Economists split on {topic} before {event}",
        "The 10-year yield {mood} after the RBI's auction",
        "GST collections put {topic} back in focus",
    ),
    "crypto": (
        "BTC {mood} as funding stays {flow}",
        "Bitcoin: {side} square up ahead of {event}",
        "Crypto volumes thin out; BTC perpetuals {move}",
        "Exchanges see BTC outflows while {side} wait for {event}",
    ),
}
WORDS = {
    "mood": (
        "holds its range",
        "drifts without direction",
        "swings both ways",
        "trades calmly",
    ),
    "event": ("the US Fed's minutes", "the CPI print", "the RBI's policy day", "quarterly results"),
    "side": ("longs", "shorts", "hedgers", "short-term traders"),
    "flow": ("positive", "negative", "flat"),
    "topic": ("food inflation", "liquidity", "the rupee", "credit growth"),
    "move": ("go sideways", "track equities", "ignore equities"),
}
HOSTILE_TITLE = (
    "<script>alert('news')</script><img src=x onerror=alert(1)> NIFTY & \"friends\" </a>\u202e"
)
BOMB = (
    '<!DOCTYPE rss [<!ENTITY e0 "simulated ">'
    + "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    + "]>"
)


class Item(NamedTuple):
    """One piece of news."""

    slot: int
    at: Epoch
    section: str
    title: str
    description: str


class News:
    """Serve the news up to the market's present, at /rss and /rss/<section>."""

    def __init__(self, now: Callable[[], float]) -> None:
        """Take the market's clock, in epoch seconds."""
        self.faults = Faults(FAULTS)
        self._now = now

    def app(self) -> web.Application:
        """Return the application that serves the feed."""
        app = web.Application(middlewares=[self.faults.middleware()])
        app.add_routes(
            [
                web.get("/rss", self._on_feed),
                web.get("/rss/{section}", self._on_feed),
                web.get("/item/{slot:[0-9]{1,9}}", self._on_item),
                *self.faults.routes(),
            ]
        )
        return app

    async def _on_feed(self, request: web.Request) -> web.Response:
        section = request.match_info.get("section")
        if section is not None and section not in HEADLINES:
            raise web.HTTPNotFound(text=f"no section {section!r}; there are {', '.join(HEADLINES)}")
        items = list(islice(items_before(self._now(), section), ITEMS))
        body = self._body(request, items, section)
        response = web.Response(body=body, content_type="application/rss+xml", charset="utf-8")
        response.etag = hashlib.sha256(body).hexdigest()[:32]
        response.last_modified = items[0].at
        if _is_known(request, response):
            response.body = None
            response.set_status(304)
        return response

    def _body(self, request: web.Request, items: list[Item], section: str | None) -> bytes:
        what = f"{request.method} {request.path}"
        origin = str(request.url.origin())
        if self.faults.take("empty", what):
            return feed([], origin, section)
        if self.faults.take("hostile", what):
            overlong = "Overlong. " * (OVERLONG_CHARACTERS // 10)
            hostile = items[0]._replace(title=HOSTILE_TITLE, description=overlong)
            return feed([hostile, *items[1:]], origin, section)
        body = feed(items, origin, section)
        if self.faults.take("malformed", what):
            return body[: len(body) // 2]
        if self.faults.take("bomb", what):
            declaration, _, rest = body.partition(b"\n")
            rest = rest.replace(b"</title>", b"&e9;</title>", 1)
            return b"\n".join([declaration, BOMB.encode(), rest])
        return body

    async def _on_item(self, request: web.Request) -> web.Response:
        item = item_of(int(request.match_info["slot"]))
        if item.at > self._now():
            raise web.HTTPNotFound(text="not yet published")
        return web.Response(text=f"{item.title}\n\n{item.description}\n")


def items_before(now: float, section: str | None = None) -> Iterator[Item]:
    """Return what was published by an instant, newest first and without end."""
    for slot in count(int(now) // SLOT_SECONDS + 1, -1):
        item = item_of(slot)
        if item.at <= now and section in (None, item.section):
            yield item


def item_of(slot: int) -> Item:
    """Return the item of a half hour, the same whenever asked."""
    dice = random.Random(f"nightdesk news {slot}")  # noqa: S311  # news, not a secret
    at = slot * SLOT_SECONDS + dice.randint(-JITTER_SECONDS, JITTER_SECONDS)
    section = dice.choice(list(HEADLINES))
    words = {name: dice.choice(choices) for name, choices in WORDS.items()}
    title = dice.choice(HEADLINES[section]).format(**words)
    return Item(slot, Epoch(at), section, title, f"{title}. {DISCLAIMER}")


def feed(items: list[Item], origin: str, section: str | None) -> bytes:
    """Return items as an RSS 2.0 document."""
    rss = ElementTree.Element("rss", version="2.0")
    channel = ElementTree.SubElement(rss, "channel")
    _add(channel, "title", f"{TITLE}: {section}" if section else TITLE)
    _add(channel, "link", f"{origin}/rss/{section}" if section else f"{origin}/rss")
    _add(channel, "description", DISCLAIMER)
    _add(channel, "language", "en-in")
    if items:
        _add(channel, "lastBuildDate", _rfc822(items[0].at))
    for item in items:
        element = ElementTree.SubElement(channel, "item")
        _add(element, "title", item.title)
        _add(element, "link", f"{origin}/item/{item.slot}")
        _add(element, "description", item.description)
        _add(element, "category", item.section)
        _add(element, "guid", f"nightdesk-simulated-{item.slot}").set("isPermaLink", "false")
        _add(element, "pubDate", _rfc822(item.at))
    ElementTree.indent(rss)
    return bytes(ElementTree.tostring(rss, encoding="utf-8", xml_declaration=True))


def _is_known(request: web.Request, response: web.Response) -> bool:
    """Return whether the client has this very feed; its date only counts where it sent no tag."""
    if (tags := request.if_none_match) is not None:
        return any(tag.value in ("*", response.etag and response.etag.value) for tag in tags)
    since, modified = request.if_modified_since, response.last_modified
    return since is not None and modified is not None and modified <= since


def _add(parent: ElementTree.Element, name: str, text: str) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, name)
    element.text = text
    return element


def _rfc822(at: Epoch) -> str:
    return format_datetime(dt.datetime.fromtimestamp(at, dt.UTC), usegmt=True)
