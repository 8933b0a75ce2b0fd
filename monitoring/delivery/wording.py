"""A notice as a message: its first sentence stands out, for that is what a phone shows."""

import re

from django.conf import settings

from monitoring.delivery.markup import safe
from tradingsite import format as fmt
from tradingsite.models import Notice

MARKS = {Notice.Severity.CRITICAL: "🔴 ", Notice.Severity.WARNING: "🟠 ", Notice.Severity.INFO: ""}
OVER = "🟢 "
AGAIN = "<i>(perhaps again)</i>"
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z“\"(])")


def told(notice: Notice, remark: str = "") -> str:
    """Return the message that something happened, what was done and what to do."""
    first, rest = _parts(notice.text)
    mark = MARKS[Notice.Severity(notice.severity)]
    lines = [f"{mark}<b>{safe(first)}</b>"]
    if rest:
        lines.append(safe(rest))
    if remark:
        lines.append(f"<i>{safe(remark)}</i>")
    return "\n".join([*lines, *_mode()])


def over(notice: Notice) -> str:
    """Return the message that a matter has ended: for how long it lasted, how often it was said."""
    first, _ = _parts(notice.text)
    assert notice.resolved_at is not None  # noqa: S101 - only what is over is told so
    lasted = fmt.duration((notice.resolved_at - notice.created_at).total_seconds())
    often = f", seen {notice.count} times" if notice.count > 1 else ""
    return "\n".join([f"{OVER}<b>Over after {safe(lasted)}</b>{often}: {safe(first)}", *_mode()])


def together(messages: list[str]) -> str:
    """Return several messages as one, oldest first."""
    count = fmt.plural(len(messages), "message")
    return "\n\n".join([f"<i>{count} that could not be sent before:</i>", *messages])


def _parts(text: str) -> tuple[str, str]:
    """Return a text's first sentence, and what follows it."""
    found = _SENTENCE.search(text)
    if found is None:
        return text.strip(), ""
    return text[: found.start()].strip(), text[found.end() :].strip()


def _mode() -> list[str]:
    # Nobody may take a rehearsal for the real thing, on whatever screen.
    return [] if settings.MODE == "live" else [f"<i>{settings.MODE.capitalize()}</i>"]
