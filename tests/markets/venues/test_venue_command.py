"""`manage.py venue check`: what it shows of a venue that works, and what it says of one not fit."""

import datetime as dt
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from markets.simulator import credentials as held
from markets.simulator.hyperliquid.app import Hyperliquid
from markets.venues.configured import kite_token
from tests.markets.simulator.broker import Broker, broker, shared_world
from tests.markets.simulator.served import served
from tradingsite import clock


@pytest.fixture
def kite(settings: Settings, tmp_path: Path, set_market: Callable[..., None]) -> Iterator[Broker]:
    set_market(dt.datetime(2026, 6, 1, 10, 0, tzinfo=clock.IST))
    settings.DATA_DIR = tmp_path
    with broker() as opened:
        settings.KITE_ROOT = opened.url
        kite_token().save(opened.kite.sessions.issue(), held.KITE_USER_ID)
        yield opened


def check(venue: str) -> str:
    """Return what the command prints of a venue in order."""
    out = io.StringIO()
    call_command("venue", "check", venue, stdout=out)
    return out.getvalue()


def refused(venue: str) -> str:
    """Return the remedies of a venue that is not in order."""
    with pytest.raises(CommandError) as caught:
        call_command("venue", "check", venue, stdout=io.StringIO())
    assert caught.value.returncode == 1
    return str(caught.value)


def test_a_broker_in_order(kite: Broker) -> None:
    text = check("kite")
    for word in (
        f"{held.KITE_USER_ID}, ",
        "answers",
        "available",
        " ms",
        "obtained just now, good until Tue 06:00 IST",
        "theirs is 0.",
        "left: orders a day",
        "5000",
    ):
        assert word in text.replace("\N{NO-BREAK SPACE}", " "), word
    assert kite_token().current() not in text and held.KITE_API_SECRET not in text


def test_without_a_key(kite: Broker, settings: Settings) -> None:
    settings.KITE_API_KEY = ""
    assert "set KITE_API_KEY and KITE_API_SECRET" in refused("kite")


def test_without_a_token_and_with_a_refused_one(kite: Broker) -> None:
    kite.kite.sessions.expire()
    assert "account: the broker refuses the token" in refused("kite")
    kite_token().refuse(dt.date(2026, 6, 1))
    assert "no trading today" in refused("kite")
    kite_token().forget()
    assert "token: none. sign in at /kite/" in refused("kite")


def test_a_host_that_is_not_reached(kite: Broker, settings: Settings) -> None:
    settings.KITE_ROOT = "http://127.0.0.1:1"
    text = refused("kite")
    assert "host: 127.0.0.1:1 is not reached: ConnectionError" in text
    assert "make run" in text


def test_a_clock_that_is_off(kite: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    real = clock.real
    monkeypatch.setattr(clock, "real", lambda: real() + dt.timedelta(seconds=5))
    text = refused("kite")
    assert "clock: theirs is " in text and "behind. set this machine's clock" in text


def test_a_broker_in_trouble(kite: Broker) -> None:
    kite.fault("reset", match="/user/margins")
    text = refused("kite")
    assert "margins: the broker did not answer" in text and "try again in a minute" in text


def test_an_exchange(settings: Settings, set_market: Callable[..., None]) -> None:
    world, hand = shared_world()
    set_market(clock.from_seconds(hand.at))
    with served(Hyperliquid(world).app()) as url:
        settings.EXCHANGE_URL = url
        text = check("exchange")
    for word in ("hyperliquid", "0x2c75…5c23", "currency USDC", "taker", "allowed"):
        assert word in text, word
    settings.EXCHANGE_URL = "http://127.0.0.1:1"
    assert "was not reached" in refused("exchange")
    settings.EXCHANGE_PRIVATE_KEY = ""
    assert "set EXCHANGE_WALLET and EXCHANGE_PRIVATE_KEY" in refused("exchange")
