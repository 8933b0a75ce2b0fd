"""One cause, one message: which notices only say what another one's cause brings with it.

By how keys begin. What is under an open cause is not told for itself; the cause's message speaks
for it, and so does the word that the cause is over.
"""

from collections.abc import Collection

_OF_CLOCK = ("service:", "beat:", "undecided:", "job:", "stale:", "restart:")
_OF_QUEUE = ("beat:", "job:", "service:worker", "service:beat", "service:gpu-worker")
_OF_BROKER = (
    *("job:token-refresh", "job:options-collector", "job:trade-fetcher", "job:bars-collector"),
    *("job:instruments", "instruments", "undecided:nifty-", "undecided:personal-"),
    *("options-lost:", "options:gap", "stale:nifty", "stale:options", "stale:straddle"),
)

CAUSES: dict[str, tuple[str, ...]] = {
    "planned:": (*_OF_CLOCK, *_OF_QUEUE, *_OF_BROKER, "queue:", "simulator:"),
    "clock:jumped": _OF_CLOCK,
    "time:behind": _OF_CLOCK,
    "queue:away": (*_OF_QUEUE, "stale:"),
    "service:simulator": (*_OF_BROKER, "undecided:", "simulator:", "stale:", "service:straddle"),
    "service:beat": ("beat:", "job:", "stale:"),
    "service:worker": ("beat:", "job:", "stale:"),
    "instruments": ("job:instruments",),
    "kite:sign-in": _OF_BROKER,
    "kite:refused": _OF_BROKER,
    "service:nifty-bot": ("undecided:nifty-", "stale:decision:nifty"),
    "service:btc-bot": ("undecided:btc-", "stale:decision:btc"),
    "service:personal-bot": ("undecided:personal-", "stale:decision:personal"),
    "held:nifty-bot": ("service:nifty-bot", "undecided:nifty-"),
    "held:btc-bot": ("service:btc-bot", "undecided:btc-"),
    "held:personal-bot": ("service:personal-bot", "undecided:personal-"),
}


def cause_of(key: str, open_keys: Collection[str]) -> str | None:
    """Return the open key that a notice of this key only follows from, None where there is none.

    A cause that is itself an effect of another open one gives the farther one.
    """
    found = _nearest(key, open_keys)
    seen = {key}
    while found is not None and found not in seen:
        seen.add(found)
        farther = _nearest(found, [each for each in open_keys if each not in seen])
        if farther is None:
            return found
        found = farther
    return found


def may_be_an_effect(key: str) -> bool:
    """Return whether some cause could bring such a notice: then it is worth a moment's wait."""
    return any(key.startswith(effect) for effects in CAUSES.values() for effect in effects)


def _nearest(key: str, open_keys: Collection[str]) -> str | None:
    for cause, effects in CAUSES.items():
        if key.startswith(cause) or not key.startswith(effects):
            continue
        for each in open_keys:
            if each.startswith(cause) and each != key:
                return each
    return None
