"""What became of a notice on its way to the owner, in a few words for the pages."""

from monitoring.delivery.models import Delivery
from tradingsite import format as fmt
from tradingsite.models import Notice

State = Delivery.State


def delivered(notice: Notice) -> str:
    """Return how the telling of a notice stands; nothing where no channel has a bot."""
    told = next((row for row in notice.delivery_set.all() if row.kind == Delivery.Kind.TOLD), None)
    return "" if told is None else words(told)


def words(delivery: Delivery) -> str:
    """Return a delivery's state as a person says it."""
    why = f": {delivery.reason}" if delivery.reason else ""
    match delivery.state:
        case State.SENT:
            at = f" {fmt.ist_time(delivery.sent_at)}" if delivery.sent_at else ""
            return f"sent{at}"
        case State.HELD if delivery.not_before:
            return f"held until {fmt.ist_time(delivery.not_before)}{why}"
        case State.QUEUED:
            return f"waits to be sent{why}"
        case State.FAILED:
            return f"could not be sent{why}"
        case State.FOLDED:
            return f"not sent{why}"
    return f"{delivery.state}{why}"
