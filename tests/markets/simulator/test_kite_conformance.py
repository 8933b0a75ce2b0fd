"""Every answer of the simulated broker has the keys and types of the real one's.

`kite_schemas.json` holds the keys and types of the broker's published examples, as facts. A whole
number there may be any number here, and what was null may be a text and the other way round.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.markets.simulator.broker import FUTURE, Broker, broker

SCHEMAS = json.loads((Path(__file__).parent / "kite_schemas.json").read_text())
# Keys that only some rows of the real answers have.
SOMETIMES = {"tags", "validity_ttl", "exchange_update_timestamp", "status_message_raw", "guid"}
SOMETIMES |= {"market_protection", "meta"}
ALIKE = ({"int", "float"}, {"str", "NoneType"})
FUTURE_ORDER = {
    "exchange": "NFO",
    "tradingsymbol": FUTURE,
    "transaction_type": "BUY",
    "variety": "regular",
    "product": "NRML",
    "order_type": "MARKET",
    "quantity": 65,
}


@pytest.fixture(scope="module")
def desk() -> Iterator[Broker]:
    with broker() as found:
        share = {"exchange": "NSE", "tradingsymbol": "INFY", "product": "CNC"}
        found.until(found.buy(10, **share), "COMPLETE")
        found.go("2026-06-02 10:00")
        found.wait(lambda: bool(found.client.holdings()))
        found.until(found.buy(tag="T1CONFORM"), "COMPLETE")
        yield found


def call(desk: Broker, method: str, path: str, **how: Any) -> Any:
    """Return an answer as it is on the wire, envelope and all."""
    token = f"token {desk.client.api_key}:{desk.client.access_token}"
    headers = {"Authorization": token, "X-Kite-Version": "3"}
    answer = requests.request(method, desk.url + path, headers=headers, timeout=5, **how)
    assert answer.headers["Content-Type"] == "application/json"
    body = answer.json()
    assert body["status"] == "success", body
    return body


def differences(found: Any, schema: Any, where: str = "") -> Iterator[str]:
    """Yield what of an answer is not as the schema has it."""
    if isinstance(schema, dict) and isinstance(found, dict):
        yield from _differences_of_keys(found, schema, where)
    elif isinstance(schema, list) and isinstance(found, list):
        for number, each in enumerate(found if schema else ()):
            yield from differences(each, schema[0], f"{where}[{number}]")
    elif isinstance(schema, str):
        kinds = {type(found).__name__, schema}
        if len(kinds) > 1 and not any(kinds <= alike for alike in ALIKE):
            yield f"{where}: {type(found).__name__}, theirs is {schema}"
    elif found is not None:
        yield f"{where}: {type(found).__name__}, theirs is {type(schema).__name__}"


def _differences_of_keys(
    found: dict[str, Any], schema: dict[str, Any], where: str
) -> Iterator[str]:
    if any(":" in key for key in schema):  # quotes, by instrument
        schema = dict.fromkeys(found, next(iter(schema.values())))
    for key in (schema.keys() ^ found.keys()) - SOMETIMES:
        yield f"{where}: {key} is {'missing' if key in schema else 'not theirs'}"
    for key in schema.keys() & found.keys():
        yield from differences(found[key], schema[key], f"{where}.{key}")


CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "profile": ("GET", "/user/profile", {}),
    "margins": ("GET", "/user/margins", {}),
    "margins_equity": ("GET", "/user/margins/equity", {}),
    "margin_commodity": ("GET", "/user/margins/commodity", {}),
    "orders": ("GET", "/orders", {}),
    "trades": ("GET", "/trades", {}),
    "positions": ("GET", "/portfolio/positions", {}),
    "holdings": ("GET", "/portfolio/holdings", {}),
    "holdings_summary": ("GET", "/portfolio/holdings/summary", {}),
    "holdings_compact": ("GET", "/portfolio/holdings/compact", {}),
    "auctions_list": ("GET", "/portfolio/holdings/auctions", {}),
    "quote": ("GET", f"/quote?i=NSE:INFY&i=NFO:{FUTURE}&i=NSE:NIFTY+50", {}),
    "ohlc": ("GET", "/quote/ohlc?i=NSE:INFY&i=BSE:SENSEX", {}),
    "ltp": ("GET", "/quote/ltp?i=NSE:INFY", {}),
    "trigger_range": ("GET", "/instruments/trigger_range/BUY?i=NSE:INFY&i=NSE:RELIANCE", {}),
    "order_margins": ("POST", "/margins/orders", {"json": [FUTURE_ORDER]}),
    "basket_margins": ("POST", "/margins/basket", {"json": [FUTURE_ORDER, FUTURE_ORDER]}),
    "virtual_contract_note": (
        "POST",
        "/charges/orders",
        {"json": [{**FUTURE_ORDER, "order_id": "1", "average_price": 24_000.0}]},
    ),
    "historical_minute": (
        "GET",
        "/instruments/historical/256265/minute?from=2026-06-01&to=2026-06-01",
        {},
    ),
    "mf_orders": ("GET", "/mf/orders", {}),
    "mf_sips": ("GET", "/mf/sips", {}),
    "mf_holdings": ("GET", "/mf/holdings", {}),
}


@pytest.mark.parametrize("name", CASES)
def test_an_answer_has_the_real_ones_keys_and_types(desk: Broker, name: str) -> None:
    method, path, how = CASES[name]
    found = call(desk, method, path, **how)
    if name == "historical_minute":
        rows = found["data"]["candles"]
        assert len(rows) == 375
        assert {len(row) for row in rows} == {6}
        assert rows[0][0] == "2026-06-01T09:15:00+0530"
        return
    assert list(differences(found["data"], SCHEMAS[name]["data"])) == []


def test_order_answers_too(desk: Broker) -> None:
    placed = call(desk, "POST", "/orders/regular", data={**FUTURE_ORDER, "market_protection": "-1"})
    assert list(differences(placed, SCHEMAS["order_response"])) == []
    order_id = placed["data"]["order_id"]
    desk.until(order_id, "COMPLETE")
    for name, path in (
        ("order_info", f"/orders/{order_id}"),
        ("order_trades", f"/orders/{order_id}/trades"),
    ):
        found = call(desk, "GET", path)["data"]
        theirs = SCHEMAS["orders" if name == "order_info" else name]["data"]
        assert list(differences(found, theirs)) == []
    limit = {**FUTURE_ORDER, "order_type": "LIMIT", "price": round(desk.last() - 300.0, 1)}
    resting = call(desk, "POST", "/orders/regular", data=limit)["data"]["order_id"]
    changed = call(desk, "PUT", f"/orders/regular/{resting}", data={"quantity": 130})
    assert list(differences(changed, SCHEMAS["order_modify"])) == []
    ended = call(desk, "DELETE", f"/orders/regular/{resting}")
    assert list(differences(ended, SCHEMAS["order_cancel"])) == []
    sliced = {**FUTURE_ORDER, "quantity": 1_950, "autoslice": "true", "market_protection": "-1"}
    sliced |= {"tradingsymbol": "NIFTY2660924000CE"}
    found = call(desk, "POST", "/orders/regular", data=sliced)
    assert list(differences(found, SCHEMAS["autoslice_response"])) == []


def test_trigger_answers_too(desk: Broker) -> None:
    order = {"transaction_type": "BUY", "quantity": 10, "order_type": "LIMIT", "product": "CNC"}
    last = desk.client.ltp(["NSE:INFY"])["NSE:INFY"]["last_price"]
    form = {
        "type": "single",
        "condition": json.dumps(
            {
                "exchange": "NSE",
                "tradingsymbol": "INFY",
                "trigger_values": [900.0],
                "last_price": last,
            }
        ),
        "orders": json.dumps([{**order, "price": 900.0}]),
    }
    placed = call(desk, "POST", "/gtt/triggers", data=form)
    assert list(differences(placed, SCHEMAS["gtt_place_order"])) == []
    path = f"/gtt/triggers/{placed['data']['trigger_id']}"
    one, all_ = call(desk, "GET", path), call(desk, "GET", "/gtt/triggers")
    assert list(differences(one["data"], SCHEMAS["gtt_get_order"]["data"])) == []
    assert list(differences(all_["data"], SCHEMAS["gtt_get_orders"]["data"])) == []
    assert list(differences(call(desk, "PUT", path, data=form), SCHEMAS["gtt_modify_order"])) == []
    assert list(differences(call(desk, "DELETE", path), SCHEMAS["gtt_delete_order"])) == []


def test_a_trigger_that_is_reached_places_its_order(desk: Broker) -> None:
    last = desk.client.ltp(["NSE:INFY"])["NSE:INFY"]["last_price"]
    order = {"transaction_type": "BUY", "quantity": 10, "order_type": "LIMIT", "product": "CNC"}
    price = round(last + 5.0, 1)
    answer = desk.client.place_gtt(
        "single", "INFY", "NSE", [last], last + 1.0, [{**order, "price": price}]
    )
    desk.wait(lambda: desk.client.get_gtt(answer["trigger_id"])["status"] == "triggered")
    result = desk.client.get_gtt(answer["trigger_id"])["orders"][0]["result"]
    assert desk.order(result["order_result"]["order_id"])["quantity"] == 10


def test_the_check_itself_sees_what_is_wrong() -> None:
    schema = {"a": "int", "b": [{"c": "str"}], "d": "NoneType"}
    assert list(differences({"a": 1.5, "b": [{"c": None}], "d": "x"}, schema)) == []
    found = differences({"a": "1", "b": [{"e": 1}], "d": 1}, schema)
    assert sorted(found) == [
        ".a: str, theirs is int",
        ".b[0]: c is missing",
        ".b[0]: e is not theirs",
        ".d: int, theirs is NoneType",
    ]


def test_wrong_routes_methods_and_tokens_are_answered_in_the_envelope(desk: Broker) -> None:
    for path, status, kind in (
        ("/nonsense/x", 404, "GeneralException"),
        ("/orders/1/2/3", 404, "GeneralException"),
        ("/user/profile", 403, "TokenException"),
    ):
        answer = requests.get(desk.url + path, timeout=5)
        assert (answer.status_code, answer.json()["error_type"]) == (status, kind)
    answer = requests.put(desk.url + "/user/profile", timeout=5)
    assert (answer.status_code, answer.json()["status"]) == (405, "error")
