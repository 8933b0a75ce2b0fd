#!/usr/bin/env bash
# ccxt 4.5.90, hyperliquid: `expiresAfter` of an order is lost without a word.
#
# Hyperliquid refuses an action that arrives after its `expiresAfter`, a field beside the action that
# is part of what is signed. ccxt documents the parameter and has a signing function that takes it, so
# a good guess is that createOrder and createOrders hand it on. Seen instead, with the time given to
# the call, to each order and to both:
#   * createOrder, createOrders: the request has no expiresAfter and the signature does not cover one,
#     so an order that was held up on its way is taken whenever it arrives;
#   * createTwapOrder: the request has it and the signature does not cover it, so the signer that the
#     exchange recovers is another address.
# Output seen: "createOrder: not sent, not signed", "createOrders: not sent, not signed",
#              "createTwapOrder: sent, not signed".
# What to do: sign the action with an expiry oneself and put the field into the request.
# Nothing is sent: the one call that speaks to the network is replaced. Needs PyPI. Exit 0: as seen.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ccxt==4.5.90
cat > "$folder/seen.py" <<'PYTHON'
import json

import ccxt

SYMBOL, EXPIRES = "BTC/USDC:USDC", 1_900_000_000_000
exchange = ccxt.hyperliquid({"walletAddress": "0x" + "11" * 20, "privateKey": "0x" + "22" * 32})
exchange.initialize_client = lambda *arguments: True
exchange.set_markets([exchange.safe_market_structure({
    "id": "0", "baseId": "0", "symbol": SYMBOL, "base": "BTC", "quote": "USDC", "settle": "USDC",
    "type": "swap", "spot": False, "swap": True, "contract": True, "linear": True,
    "contractSize": 1, "precision": {"amount": 1e-5, "price": 1.0}, "active": True,
})])
sent = []


def fetch(url, method="GET", headers=None, body=None):
    sent.append(json.loads(body))
    status = {"resting": {"oid": 1}}
    data = {"statuses": [status], "status": {"running": {"twapId": 1}}}
    return {"status": "ok", "response": {"type": "order", "data": data}}


exchange.fetch = fetch


def seen(name, call):
    call()
    request = sent[-1]
    without = exchange.sign_l1_action(request["action"], request["nonce"])
    covering = exchange.sign_l1_action(request["action"], request["nonce"], None, EXPIRES)
    assert without != covering, "an expiry does not change the signature at all"
    assert request["signature"] in (without, covering)
    was_sent = "sent" if request.get("expiresAfter") == EXPIRES else "not sent"
    was_signed = "signed" if request["signature"] == covering else "not signed"
    return f"{name}: {was_sent}, {was_signed}"


how = {"expiresAfter": EXPIRES}
one = {"symbol": SYMBOL, "type": "limit", "side": "buy", "amount": 0.01, "price": 60_000}
found = [
    seen("createOrder", lambda: exchange.create_order(*one.values(), dict(how))),
    seen("createOrders", lambda: exchange.create_orders([{**one, "params": dict(how)}], dict(how))),
    seen("createTwapOrder", lambda: exchange.create_twap_order(SYMBOL, "buy", 0.01, 600_000, dict(how))),
]
print("\n".join(found))
assert found == [
    "createOrder: not sent, not signed",
    "createOrders: not sent, not signed",
    "createTwapOrder: sent, not signed",
], found
PYTHON
"$folder/venv/bin/python" "$folder/seen.py"
