import datetime as dt

import pytest
from django.test import Client, override_settings

from monitoring.delivery import planning, said
from monitoring.delivery.models import Delivery
from tradingsite import notices
from tradingsite.models import Notice

State = Delivery.State
AT = dt.datetime(2026, 6, 1, 8, 30, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("state", "reason", "words"),
    [
        (State.QUEUED, "", "waits to be sent"),
        (
            State.QUEUED,
            "Telegram cannot be reached",
            "waits to be sent: Telegram cannot be reached",
        ),
        (State.HELD, "quiet hours", "held until 14:00: quiet hours"),
        (State.SENT, "", "sent 14:00"),
        (State.FAILED, "message is too long", "could not be sent: message is too long"),
        (State.FOLDED, "told under its cause, disk", "not sent: told under its cause, disk"),
        (State.MUTED, "the channel is muted", "muted: the channel is muted"),
        (State.SENDING, "", "sending"),
    ],
)
def test_each_state_has_its_words(state: str, reason: str, words: str) -> None:
    row = Delivery(state=state, reason=reason, sent_at=AT, not_before=AT)
    assert said.words(row) == words


@pytest.mark.django_db(databases="__all__")
def test_the_page_says_how_a_notice_stands(client: Client) -> None:
    planning.plan()
    notices.notify("infrastructure", "warning", "disk", "The disk is nearly full.")
    with override_settings(TELEGRAM_TOKENS={}):
        assert said.delivered(Notice.objects.get()) == ""
    planning.plan()
    assert said.delivered(Notice.objects.get()) == "waits to be sent"
    assert "waits to be sent" in client.get("/").content.decode()
