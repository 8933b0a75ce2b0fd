"""What is signed at Hyperliquid, and how an order is made to be impossible later on.

Left alone, ccxt 4.5.90 signs an approval for its own builder address, and a referral, before the
first order, and then names that builder in each order; none of that is an order, so none of it is
signed here. It also drops `expiresAfter` from orders without a word: it is put back, signed, so
that an order held up on its way is refused by the chain.

A nonce is used once. The order's is the real time at which the ledger committed it, so that it is
known after any crash; a `noop` signed with the same nonce then makes the order impossible, for
good, or is told that the nonce has been used.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CHAIN = "hyperliquid"
"""The one exchange of ours that takes signed actions instead of keys."""
EXPIRES_AFTER = dt.timedelta(seconds=30)
"""After the commit, by the exchange's clock: more than ours may be behind it."""
NONCE_REACH = dt.timedelta(days=2)
"""An older nonce is refused: its documentation, nonces."""
USED, TOO_LOW = "duplicate nonce", "nonce too low"


def without_approvals(client: Any) -> None:
    """Keep a client of ccxt's from signing anything that was not asked for."""
    client.initialize_client = lambda *arguments: True
    client.options |= {"builderFee": False, "approvedBuilderFee": False, "refSet": True}


def nonce_of(sent_at: dt.datetime) -> int:
    """Return the nonce of an order that was committed at an instant."""
    return int(sent_at.timestamp() * 1_000)


@contextmanager
def signed_at(client: Any, sent_at: dt.datetime) -> Iterator[None]:
    """Let the one action signed inside have the nonce and the expiry of an instant."""
    expires = nonce_of(sent_at + EXPIRES_AFTER)
    sign, post = client.sign_l1_action, client.privatePostExchange

    def sign_with_expiry(action: Any, nonce: Any, vault: Any = None, _: Any = None) -> Any:
        return sign(action, nonce, vault, expires)

    def post_with_expiry(request: dict[str, Any], *more: Any) -> Any:
        return post({**request, "expiresAfter": expires}, *more)

    client.incrementing_nonce = lambda: nonce_of(sent_at)
    client.sign_l1_action, client.privatePostExchange = sign_with_expiry, post_with_expiry
    try:
        yield
    finally:
        for name in ("incrementing_nonce", "sign_l1_action", "privatePostExchange"):
            vars(client).pop(name, None)
        if not hasattr(client, "privatePostExchange"):
            client.privatePostExchange = post


def use_up_nonce(client: Any, sent_at: dt.datetime) -> Any:
    """Sign and send a `noop` with an order's nonce; raise what ccxt raises for its refusal."""
    action, nonce = {"type": "noop"}, nonce_of(sent_at)
    request = {
        "action": action,
        "nonce": nonce,
        "signature": client.sign_l1_action(action, nonce),
    }
    return client.privatePostExchange(request)
