"""The simulated news, read as any reader of RSS does."""

import datetime as dt
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from email.utils import parsedate_to_datetime
from itertools import islice, pairwise
from xml.etree import ElementTree

import pytest

from markets.simulator.news import HEADLINES, ITEMS, OVERLONG_CHARACTERS, News, items_before
from tests.markets.simulator.served import served

NOON = dt.datetime(2026, 6, 15, 6, 30, tzinfo=dt.UTC).timestamp()


class Feed:
    """A simulated feed whose market time a test sets."""

    def __init__(self) -> None:
        self.now = NOON
        self.news = News(lambda: self.now)
        self.url = ""

    def get(self, path: str = "/rss", **headers: str) -> tuple[int, Message, bytes]:
        """Return status, headers and body."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, headers=named)  # noqa: S310  # ours
        try:
            with urllib.request.urlopen(request) as answer:  # noqa: S310
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    def channel(self, path: str = "/rss") -> ElementTree.Element:
        """Return the channel of a feed, parsed."""
        channel = ElementTree.fromstring(self.get(path)[2]).find("channel")  # noqa: S314  # ours
        assert channel is not None
        return channel


@pytest.fixture(scope="module")
def shared() -> Iterator[Feed]:
    """Serve one feed."""
    feed = Feed()
    with served(feed.news.app()) as feed.url:
        yield feed


@pytest.fixture
def feed(shared: Feed) -> Feed:
    """Return the shared feed at noon, without faults."""
    shared.now = NOON
    shared.news.faults.clear()
    return shared


def published(channel: ElementTree.Element) -> list[float]:
    """Return when the items of a channel were published, newest first."""
    dates = [item.findtext("pubDate", "") for item in channel.iter("item")]
    return [parsedate_to_datetime(each).timestamp() for each in dates]


def test_the_feed_is_marked_as_simulated(feed: Feed) -> None:
    _, headers, body = feed.get()
    assert headers.get_content_type() == "application/rss+xml"
    assert body.startswith(b"<?xml")
    channel = feed.channel()
    assert channel.findtext("title") == "Nightdesk simulated news"
    assert "invented" in channel.findtext("description", "")
    for item in channel.iter("item"):
        assert "Simulated" in item.findtext("description", "")
        assert "{" not in item.findtext("title", "{")


def test_the_last_items_are_served_20_to_40_minutes_apart(feed: Feed) -> None:
    times = published(feed.channel())
    assert len(times) == ITEMS
    assert NOON - 2_400 <= times[0] <= NOON
    long = [item.at for item in islice(items_before(NOON), 1_000)]
    gaps = [(later - earlier) / 60 for later, earlier in pairwise(long)]
    assert 20 <= min(gaps) < 21
    assert 39 < max(gaps) <= 40


def test_news_follows_from_the_market_s_time_alone(feed: Feed) -> None:
    first = feed.get()[2]
    feed.now = NOON + 6 * 3_600
    later = feed.channel()
    assert len({item.findtext("guid") for item in later.iter("item")}) == ITEMS
    assert 9 <= sum(at > NOON for at in published(later)) <= 15
    feed.now = NOON
    assert feed.get()[2] == first
    with served(News(lambda: NOON).app()) as url:
        again = urllib.request.urlopen(f"{url}/rss").read()  # noqa: S310
    assert again.replace(url.encode(), feed.url.encode()) == first


@pytest.mark.parametrize("section", HEADLINES)
def test_a_section_has_its_own_items(feed: Feed, section: str) -> None:
    channel = feed.channel(f"/rss/{section}")
    assert channel.findtext("title") == f"Nightdesk simulated news: {section}"
    assert [item.findtext("category") for item in channel.iter("item")] == [section] * ITEMS


def test_an_unknown_section_is_not_found(feed: Feed) -> None:
    status, _, body = feed.get("/rss/sports")
    assert status == 404
    assert b"markets, economy, crypto" in body


def test_links_lead_to_the_items_and_not_into_the_future(feed: Feed) -> None:
    item = next(feed.channel().iter("item"))
    path = item.findtext("link", "").removeprefix(feed.url)
    assert item.findtext("title", "?") in feed.get(path)[2].decode()
    feed.now -= 3_600
    assert feed.get(path)[0] == 404


def test_what_did_not_change_is_not_sent_again(feed: Feed) -> None:
    _, headers, _ = feed.get()
    tag, date = headers["ETag"], headers["Last-Modified"]
    assert parsedate_to_datetime(date).timestamp() == published(feed.channel())[0]
    for known in ({"If_None_Match": tag}, {"If_Modified_Since": date}):
        status, again, body = feed.get(**known)
        assert (status, again["ETag"], body) == (304, tag, b"")
    feed.now += 3_600
    for known in ({"If_None_Match": tag}, {"If_Modified_Since": date}):
        assert feed.get(**known)[0] == 200


def test_a_malformed_feed_does_not_parse(feed: Feed) -> None:
    feed.news.faults.put("malformed")
    with pytest.raises(ElementTree.ParseError):
        feed.channel()
    assert list(feed.channel().iter("item"))


def test_an_empty_feed_parses(feed: Feed) -> None:
    feed.news.faults.put("empty", match="/rss/crypto")
    assert list(feed.channel().iter("item"))
    assert list(feed.channel("/rss/crypto").iter("item")) == []


def test_a_hostile_item_parses_and_is_markup(feed: Feed) -> None:
    feed.news.faults.put("hostile")
    item = next(feed.channel().iter("item"))
    assert item.findtext("title", "").startswith("<script>")
    assert len(item.findtext("description", "")) == OVERLONG_CHARACTERS


def test_a_bomb_is_refused_by_a_careful_parser(feed: Feed) -> None:
    feed.news.faults.put("bomb")
    assert b"<!ENTITY e9" in feed.get()[2]
    feed.news.faults.put("bomb")
    with pytest.raises(ElementTree.ParseError, match="amplification"):
        feed.channel()
