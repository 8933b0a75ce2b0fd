"""Queue a report: what is sent because its time has come, and not because something happened."""

from pathlib import Path

from monitoring.delivery.channels import configured
from monitoring.delivery.models import Delivery
from monitoring.delivery.planning import lane_of
from tradingsite import clock


def post(
    channel: str,
    html: str,
    *,
    file: Path | None = None,
    edits: str = "",
    is_silent: bool = True,
) -> Delivery:
    """Queue a message of HTML in which every foreign text is escaped (`markup.safe`).

    With `edits` the last message of that name is edited in place of a new one. Where the channel
    has no bot the report is kept as a row that says so.
    """
    bot = configured().get(channel)
    lane = lane_of(bot) if bot else None
    return Delivery.objects.create(
        kind=Delivery.Kind.REPORT,
        channel=channel,
        lane=lane,
        html=html,
        file=str(file or ""),
        edits=edits,
        is_silent=is_silent,
        state=Delivery.State.QUEUED if lane else Delivery.State.FAILED,
        reason="" if lane else f"the channel {channel} has no bot (TELEGRAM_TOKEN_...)",
        created_at=clock.real(),
    )
