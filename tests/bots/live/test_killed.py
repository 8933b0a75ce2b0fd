"""The bot as a process, killed at every failpoint, at the simulated broker by its real client."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import call_command

from bots.execution import kill_switch
from bots.execution.protocol import FAILPOINTS
from bots.models import Discrepancy, Fill, Order, Position
from markets.simulator import credentials, history
from markets.simulator.market import Feed
from markets.simulator.price_path import PricePath as PricePath
from markets.venues.kite.token import TokenStore
from tests.desk import calendar_of, ist
from tests.histories import seed_days
from tests.markets.simulator.broker import Broker, broker
from tests.markets.straddle.processes import Market
from tests.test_architecture import ROOT
from tests.waiting import wait_for
from tradingsite import clock
from tradingsite.clock import Epoch
from tradingsite.models import Heartbeat
from tradingsite.registry import BOTS

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "nifty"])
PATIENCE_SECONDS = 30.0
BOT = BOTS["nifty"]


class Life:
    """A bot's processes, one after another, in a market that the test moves from bar to bar."""

    def __init__(self, served: Broker, home: Path) -> None:
        self.broker = served
        self.market = Market(served, home / "clock.json")
        self._env = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.desk_settings",
            "DESK_TEST_HOME": str(home),
            "DESK_TEST_KITE": served.url,
        }
        tokens = TokenStore(home / "secrets" / "kite_token.json")
        token = served.kite.sessions.issue()  # of the day, and the one before it is none any more
        served.client.set_access_token(token)
        tokens.save(token, credentials.KITE_USER_ID)
        path = PricePath.build("nifty", calendar_of("nifty"))
        start = ist("2026-06-01 10:00")
        history.make_history("nifty", until=clock.epoch(start), path=path)
        self._feed = Feed.of("nifty", calendar_of("nifty"), path)
        self._feed.is_ours()
        self._minute = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.next_bar()

    def next_bar(self) -> None:
        """Let a quarter of an hour pass, and its bar be stored."""
        self._minute += 15
        at = ist("2026-06-01 10:00").timestamp() + 60 * self._minute
        self._feed.close_bars(Epoch(at))
        self.market.go(at + 1.0)

    def start(self, failpoint: str = "") -> None:
        """Start the bot, to be killed at a failpoint."""
        Heartbeat.objects.all().delete()
        command = [sys.executable, "-m", "tests.bots.live.botprocess", BOT.slug]
        env = {**self._env, "NIGHTDESK_FAILPOINT": failpoint}
        self.process = subprocess.Popen(command, cwd=ROOT, env=env)

    def dies(self) -> None:
        """Wait until it has been killed."""
        assert self.process is not None
        assert self.process.wait(PATIENCE_SECONDS) == -signal.SIGKILL

    def stops(self) -> None:
        """End it as systemd does."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE_SECONDS)

    def settled(self, state: str) -> Order:
        """Wait until the running bot has brought its newest order to a state."""
        assert wait_for(lambda: newest().state == state, PATIENCE_SECONDS), newest()
        self.agrees()
        return newest()

    def agrees(self) -> None:
        """Hold the ledger and what was posted against the broker's own book."""
        tags = [row["tag"] for row in self.broker.client.orders() if row["tag"]]
        assert len(tags) == len(set(tags)), "a tag was sent twice"
        assert set(tags) <= set(Order.on("nifty").objects.values_list("tag", flat=True))
        there = sum(row["quantity"] for row in self.broker.client.positions()["net"])
        held = sum(Position.on("nifty").objects.values_list("quantity", flat=True))
        booked = sum(Fill.on("nifty").objects.values_list("quantity", flat=True))
        assert there == held == booked
        assert not Discrepancy.on("nifty").objects.exists()


def newest() -> Order:
    """Return the newest order."""
    row = Order.on("nifty").objects.order_by("-pk").first()
    assert row is not None
    return row


@pytest.fixture
def life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Life]:
    from tradingsite import clock

    seed_days("nifty")
    monkeypatch.setattr(history, "YEARS", {"15m": 0.4, "1h": 0.5, "4h": 0.5, "1d": 1.5})
    with broker(at="2026-06-01 10:00") as served:
        clock.simulate(tmp_path / "clock.json")
        life = Life(served, tmp_path)
        try:
            yield life
        finally:
            if life.process is not None and life.process.poll() is None:
                life.process.kill()
                life.process.wait()
            clock.simulate(None)


def test_killed_at_every_failpoint_the_bot_is_never_wrong_about_its_orders(life: Life) -> None:
    # One test, because each start of a real process costs seconds: what finds a mess is started to
    # make the next one.
    orders = Order.on("nifty").objects
    died: list[str] = []

    def kill(failpoint: str, fault: str = "") -> Order | None:
        died.append(failpoint)
        if fault:
            life.broker.fault(fault)
        life.start(failpoint)
        life.dies()
        return orders.order_by("-pk").first()

    # F01: nothing was committed, so nothing happened, and the bar is decided anew.
    assert kill("before_intent") is None
    # F02: an intent was committed, and is never sent.
    found = kill("after_intent")
    assert found and found.state == "intent"
    life.next_bar()
    # F03: it may have been sent, for all that anybody knows.
    lost = kill("after_submitting")
    assert lost and lost.state == "submitting" and lost.pk != found.pk
    assert life.broker.kite.trading.placements == 0
    found.refresh_from_db()
    assert found.state == "not_placed"
    life.start()
    life.settled("unknown")
    life.next_bar()
    assert wait_for(lambda: beat() == "blocked", PATIENCE_SECONDS)
    assert newest().pk == lost.pk, "nothing new goes out while it is unknown"
    life.stops()
    call_command("giveup", "nifty", lost.tag, "--yes")
    # F04: the broker has it, and its number was never stored.
    life.next_bar()
    sent = kill("after_send")
    assert sent and sent.state == "submitting"
    life.start()
    life.settled("filled")
    life.stops()
    life.next_bar()
    # F05: accepted and stored.
    sent = kill("after_ack")
    assert sent and sent.state == "acked"
    life.start()
    life.settled("filled")
    life.stops()
    life.next_bar()
    # F05: while a fill was taken in.
    kill("during_fills")
    life.start()
    life.settled("filled")
    life.stops()
    life.next_bar()
    # F11: a refusal that nobody had time to write down.
    sent = kill("after_refusal", "no_funds")
    assert sent and sent.state == "submitting"
    life.start()
    life.settled("unknown")
    life.stops()
    call_command("giveup", "nifty", sent.tag, "--yes")
    life.next_bar()
    # F06: no answer, and then no bot.
    sent = kill("after_unknown", "reset_after_acceptance")
    assert sent and sent.state == "unknown"
    life.start()
    life.settled("filled")
    life.stops()
    life.next_bar()
    # F21: halted while an order rests, killed while it is taken back.
    life.broker.fault("partial_fill", quantity=65, seconds=600)
    life.start()
    assert wait_for(lambda: newest().state == "partial", PATIENCE_SECONDS)
    life.stops()
    kill_switch.halt(BOT, "a test", "a person")
    kill("after_cancel")
    life.start()
    life.settled("cancelled")
    assert wait_for(lambda: beat() == "halted", PATIENCE_SECONDS)
    life.stops()
    assert set(died) == set(FAILPOINTS)


def beat() -> str:
    """Return what the bot last said of itself."""
    row = Heartbeat.objects.filter(service="nifty-bot").first()
    return row.state if row else ""
