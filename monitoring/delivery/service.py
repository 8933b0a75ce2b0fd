"""The loop of the Telegram service: plan what is new, send what waits, say how it goes."""

from monitoring.delivery import planning, sending
from monitoring.delivery.channels import configured
from monitoring.delivery.models import Delivery, Lane
from monitoring.delivery.transport import Transport
from tradingsite import format as fmt
from tradingsite.supervision.heartbeat import Beat

MOST_IN_A_ROW = 50
"""Messages sent before the heartbeat is due again."""


class Service:
    """Do one round of the work at a time; `close` ends the connections."""

    def __init__(self, beat: Beat, root: str) -> None:
        self._beat = beat
        self._transport = Transport(root)

    def step(self) -> None:
        """Plan, send what may go out now, and report."""
        if not configured():
            self._beat.beat("waiting", "no channel has a bot: set TELEGRAM_TOKEN_... (README)")
            return
        planning.plan()
        for _ in range(MOST_IN_A_ROW):
            if not sending.send_due(self._transport):
                break
        self._beat.beat(*self._word())

    def close(self) -> None:
        """End the connections."""
        self._transport.close()

    def _word(self) -> tuple[str, str]:
        waiting = Delivery.objects.filter(state=Delivery.State.QUEUED).count()
        stuck = Lane.objects.exclude(reason="").first()
        if stuck is not None:
            return "blocked", f"{stuck}: {stuck.reason} ({fmt.plural(waiting, 'message')} waiting)"
        channels = ", ".join(configured())
        return "running", f"{channels}; {fmt.plural(waiting, 'message')} waiting"
