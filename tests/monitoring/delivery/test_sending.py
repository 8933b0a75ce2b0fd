"""Sent in order, each once, whatever Telegram answers: by the real library and a simulated one."""

import datetime as dt
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connections
from django.test import override_settings

from markets.simulator.telegram import GROUP_CHAT
from monitoring.delivery import planning, sending
from monitoring.delivery.models import Delivery, Lane
from monitoring.delivery.posting import post
from monitoring.delivery.transport import Flooded, Outgoing, Uncertain
from tests.monitoring.delivery.phone import Phone, phone
from tradingsite import clock, notices

pytestmark = [
    pytest.mark.django_db(transaction=True),
    # The library warns of its own message about a flood.
    pytest.mark.filterwarnings("ignore:Deprecated since version v22.2"),
]
State = Delivery.State


@pytest.fixture(autouse=True)
def fresh_limits(tmp_path: Path) -> Iterator[None]:
    """Have limits that no test before has used up."""
    with override_settings(DATA_DIR=tmp_path):
        yield


@pytest.fixture
def owner() -> Iterator[Phone]:
    with phone() as found:
        planning.plan()
        yield found


def tell(number: int, severity: str = "warning", text: str = "") -> None:
    notices.notify(
        "infrastructure", severity, f"matter:{number}", text or f"Matter {number}. Do x."
    )


def state() -> list[str]:
    return list(Delivery.objects.order_by("pk").values_list("state", flat=True))


def open_lanes() -> None:
    """Have the pauses over that an answer of Telegram's asked for."""
    Lane.objects.update(closed_until=None)


def test_messages_come_in_order_with_and_without_a_sound(owner: Phone) -> None:
    for number, severity in enumerate(("info", "warning", "critical")):
        tell(number, severity)
    assert owner.drain() == 3
    shown = owner.shown("infrastructure")
    assert [each["text"].split("\n")[0] for each in shown] == [
        "Matter 0.",
        "🟠 Matter 1.",
        "🔴 Matter 2.",
    ]
    assert [each["disable_notification"] for each in shown] == [True, False, False]
    assert all(each["text"].endswith("Simulated") for each in shown)
    rows = Delivery.objects.order_by("pk")
    assert [row.message_id for row in rows] == [each["message_id"] for each in shown]


def test_foreign_words_cannot_break_a_message(owner: Phone) -> None:
    tell(1, text="Refused: <b>RMS & margin </i> of \U0001f4a9 \x07. Do <script>.")
    owner.drain()
    assert "Refused: <b>RMS & margin </i>" in owner.texts()[0]


def test_broken_html_goes_out_as_plain_text(owner: Phone) -> None:
    post("trading", "half <b>bold")
    assert owner.drain() == 1
    assert owner.texts() == ["half bold"]
    assert owner.shown()[0]["entities"] == []


def test_a_long_message_comes_in_parts_and_only_the_first_sounds(owner: Phone) -> None:
    html = "<b>" + "\n".join(f"line {number}" for number in range(1_500)) + "</b>"
    post("trading", html, is_silent=False)
    owner.drain()
    shown = owner.shown()
    assert len(shown) > 3
    assert "".join("".join(owner.texts()).split()) == "".join(html[3:-4].split())
    assert [each["disable_notification"] for each in shown] == [False] + [True] * (len(shown) - 1)


def test_a_part_that_fails_is_sent_again_without_those_before_it(
    owner: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    post("trading", "\n".join(f"line {number}" for number in range(800)))
    real, calls = owner.transport.send, []

    def send(message: Outgoing) -> int:
        calls.append(message)
        if len(calls) == 2:
            raise Flooded(1.0)
        return real(message)

    monkeypatch.setattr(owner.transport, "send", send)
    assert owner.drain() == 0
    open_lanes()
    assert owner.drain() == 1
    texts = owner.texts()
    assert len(texts) == len(set(texts)) == 2
    assert len(calls) == 3


def test_a_part_in_doubt_is_sent_again_and_no_word_is_lost_at_its_edges(
    owner: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The remark takes room; the cuts must not move under a message that is half sent."""
    html = "".join(f"{number:05d}" for number in range(1_500))
    post("trading", html)
    real, calls = owner.transport.send, []

    def send(message: Outgoing) -> int:
        calls.append(message)
        if len(calls) == 2:
            raise Uncertain("no answer")
        return real(message)

    monkeypatch.setattr(owner.transport, "send", send)
    assert owner.drain() == 0
    open_lanes()
    assert owner.drain() == 1
    texts = owner.texts()
    assert texts[1].startswith("(perhaps again)\n") and not texts[0].startswith("(perhaps")
    assert texts[0] + texts[1].removeprefix("(perhaps again)\n") == html


def test_a_flood_is_waited_for_to_the_second(owner: Phone) -> None:
    tell(1)
    owner.fault("flood", seconds=30)
    before = clock.real()
    assert owner.drain() == 0
    lane = Lane.objects.exclude(closed_until=None).get()
    assert lane.closed_until is not None
    assert 29 <= (lane.closed_until - before).total_seconds() <= 32
    assert state() == [State.QUEUED]
    assert owner.drain() == 0
    open_lanes()
    assert owner.drain() == 1
    assert Delivery.objects.get().may_be_again is False


@pytest.mark.parametrize("kind", ["server_error", "unavailable", "not_json", "reset"])
def test_an_answer_that_is_none_makes_the_next_try_perhaps_a_second_one(
    owner: Phone, kind: str
) -> None:
    tell(1)
    owner.fault(kind)
    assert owner.drain() == 0
    open_lanes()
    assert owner.drain() == 1
    assert owner.texts()[0].startswith("(perhaps again)")


def test_what_was_sent_and_not_answered_comes_twice_and_says_so(
    owner: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitoring.delivery.transport.ANSWER_SECONDS", 1.0)
    tell(1)
    owner.fault("silence", seconds=2)
    assert owner.drain() == 0
    open_lanes()
    assert owner.drain() == 1, list(Lane.objects.values("reason", "closed_until"))
    texts = owner.texts()
    assert len(texts) == 2
    assert not texts[0].startswith("(perhaps") and texts[1].startswith("(perhaps again)")


def test_without_a_connection_nothing_is_doubted_and_nothing_lost() -> None:
    with phone() as first:
        planning.plan()
        tell(1)
    # The port is closed: every try is refused before it leaves.
    with phone() as owner, override_settings(TELEGRAM_ROOT=first.url):
        transport = sending.Transport(first.url)
        planning.plan()
        for _ in range(3):
            open_lanes()
            assert sending.send_due(transport) == 0
        transport.close()
        row = Delivery.objects.get()
        assert (row.state, row.may_be_again, row.tries) == (State.QUEUED, False, 3)
        assert "cannot be reached" in row.reason
        open_lanes()
        assert owner.drain() == 1
        assert owner.texts()[0].startswith("🟠 Matter 1.")


def test_an_hour_away_ends_in_one_message_that_holds_all(owner: Phone) -> None:
    for number in range(12):
        tell(number, "critical" if number == 7 else "info")
    planning.plan()
    Delivery.objects.update(created_at=clock.real() - dt.timedelta(hours=1))
    assert owner.drain() == 1
    text = owner.texts()[0]
    assert all(f"Matter {number}." in text for number in range(12))
    assert owner.shown()[0]["disable_notification"] is False
    assert state() == [State.SENT] + [State.FOLDED] * 11


def test_a_person_who_blocked_the_bot_gets_it_once_he_lets_it(owner: Phone) -> None:
    tell(1)
    owner.fault("blocked")
    assert owner.drain() == 0
    lane = Lane.objects.exclude(reason="").get()
    assert "blocked by the user" in lane.reason
    assert lane.closed_until and lane.closed_until > clock.real() + dt.timedelta(minutes=9)
    open_lanes()
    assert owner.drain() == 1
    lane.refresh_from_db()
    assert lane.reason == ""


def test_a_group_that_became_a_supergroup_is_followed(owner: Phone) -> None:
    chats = {"infrastructure": str(GROUP_CHAT)}
    with override_settings(TELEGRAM_CHATS=chats):
        tell(1)
        owner.fault("upgraded")
        planning.plan()
        assert sending.send_due(owner.transport) == 0
        assert sending.send_due(owner.transport) == 1
        tell(2)
        owner.drain()
    assert {each["chat"]["id"] for each in owner.shown()} == {-1_001_000_000_001}
    assert len(owner.shown()) == 2


def test_a_token_nobody_knows_is_said_and_not_shown(
    owner: Phone, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with override_settings(TELEGRAM_TOKENS={"infrastructure": "700009:canary-secret-of-a-bot"}):
        tell(1)
        assert owner.drain() == 0
    assert "does not know the bot's token" in Lane.objects.exclude(reason="").get().reason
    everything = caplog.text + str(list(Delivery.objects.values()) + list(Lane.objects.values()))
    assert "canary-secret" not in everything


def test_a_report_is_edited_and_sent_anew_when_it_is_gone(owner: Phone) -> None:
    for text in ("one", "two", "two"):
        post("trading", text, edits="pnl:2026-06-01")
        assert owner.drain() == 1
    assert [each["text"] for each in owner.shown()] == ["two"]
    assert [each["text"] for each in owner.shown()[0]["edits"]] == ["one"]
    Delivery.objects.update(message_id=999)
    post("trading", "three", edits="pnl:2026-06-01")
    owner.drain()
    assert owner.texts() == ["two", "three"]


def test_a_picture_comes_with_its_caption_and_without_when_it_is_gone(
    owner: Phone, tmp_path: Path
) -> None:
    picture = tmp_path / "day.png"
    size = (640).to_bytes(4, "big") + (360).to_bytes(4, "big")
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + size)
    post("trading", "<b>The day</b>", file=picture)
    post("trading", "The next", file=tmp_path / "none.png")
    owner.drain()
    first, second = owner.shown()
    assert first["file"]["name"] == "day.png" and first["caption"] == "The day"
    assert second["file"] is None and "none.png is gone" in second["text"]


def test_two_senders_at_once_send_each_message_once_and_in_order(owner: Phone) -> None:
    for number in range(8):
        tell(number, "info")
    planning.plan()

    def work() -> None:
        transport = sending.Transport(owner.url)
        try:
            for _ in range(30):
                sending.send_due(transport)
        finally:
            transport.close()
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    owner.drain()
    assert [text.split(".")[0] for text in owner.texts()] == [f"Matter {n}" for n in range(8)]


KILLED = """
import os, signal, sys, django
django.setup()
from monitoring.delivery import planning, sending
from monitoring.delivery.transport import Transport
planning.plan()
transport = Transport(sys.argv[1])
where = sys.argv[2]
real = Transport.send
def send(self, message):
    if where == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    found = real(self, message)
    os.kill(os.getpid(), signal.SIGKILL)
    return found
Transport.send = send
sending.send_due(transport)
"""


@pytest.mark.parametrize(("where", "times"), [("before", 1), ("after", 2)])
def test_killed_in_the_middle_nothing_is_lost_and_a_repeat_is_marked(
    owner: Phone, where: str, times: int
) -> None:
    tell(1)
    done = subprocess.run([sys.executable, "-c", KILLED, owner.url, where], check=False)
    assert done.returncode == -9
    assert state() == [State.SENDING]
    assert owner.drain() == 0  # its claim stands: for all we know it is still at work
    Delivery.objects.update(claimed_until=clock.real() - dt.timedelta(seconds=1))
    assert owner.drain() == 1, list(Lane.objects.values("reason", "closed_until"))
    texts = owner.texts()
    assert len(texts) == times
    assert texts[-1].startswith("(perhaps again)")


def test_a_group_s_limit_is_kept_across_senders(owner: Phone) -> None:
    with override_settings(TELEGRAM_CHATS={"infrastructure": str(GROUP_CHAT)}):
        for number in range(22):
            tell(number, "info")
        began = time.monotonic()
        sent = owner.drain(30)
        assert sent == 18 and time.monotonic() - began < 20
        assert "leave no room" in Lane.objects.exclude(reason="").get().reason
    assert len(owner.shown()) == 18
