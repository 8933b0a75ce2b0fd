"""Which nonces the exchange takes: of each signer the hundred highest are kept, none twice.

Source: the exchange's documentation, "Nonces and API wallets".
"""

from __future__ import annotations

DAY_MS = 86_400_000
OLDEST_MS, NEWEST_MS = 2 * DAY_MS, DAY_MS
KEPT = 100


class BadNonce(ValueError):
    """A nonce that is not taken, in the exchange's words.

    Only "duplicate" says that it was used: maybe by the very request that seemed lost.
    """


def used(kept: list[int], nonce: int, now_ms: int) -> list[int]:
    """Return a signer's nonces with one more; raise BadNonce."""
    if nonce in kept:
        raise BadNonce(f"Invalid nonce: duplicate nonce {nonce}")
    lowest = now_ms - OLDEST_MS
    if len(kept) >= KEPT:
        lowest = max(lowest, kept[0])
    if nonce <= lowest:
        raise BadNonce(f"Invalid nonce: nonce too low {nonce} < {lowest}")
    if nonce >= now_ms + NEWEST_MS:
        raise BadNonce(f"Invalid nonce: nonce too high {nonce} > {now_ms + NEWEST_MS}")
    return sorted([*kept, nonce])[-KEPT:]
