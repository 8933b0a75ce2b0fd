"""Whose address counts: the peer's, or the one our own proxy wrote last."""

import pytest
from django.test import RequestFactory
from pytest_django import Settings

from tradingsite.access import address


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("192.0.2.7", None, "192.0.2.7"),
        ("127.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "127.0.0.1, 203.0.113.9", "203.0.113.9"),  # the client wrote the first
        ("::ffff:127.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "203.0.113.9, nonsense", None),
        ("127.0.0.1", "", None),
        ("192.0.2.7", "127.0.0.1", None),  # no proxy of ours
        ("", None, None),
    ],
)
def test_the_last_entry_counts_and_only_from_a_proxy_of_ours(
    settings: Settings, peer: str, forwarded: str | None, expected: str | None
) -> None:
    settings.TRUSTED_PROXIES = ["127.0.0.1"]
    headers = {} if forwarded is None else {"HTTP_X_FORWARDED_FOR": forwarded}
    found = address.of(RequestFactory().get("/", REMOTE_ADDR=peer, **headers))  # type: ignore[arg-type]  # a header each
    assert (str(found) if found else None) == expected


def test_without_a_proxy_of_ours_nobody_speaks_for_another(settings: Settings) -> None:
    assert settings.TRUSTED_PROXIES == []
    request = RequestFactory().get("/", REMOTE_ADDR="127.0.0.1", HTTP_X_FORWARDED_FOR="127.0.0.1")
    assert not address.is_loopback(request)  # a proxy nobody told us of stands before the desk
    assert address.counted(request) == "127.0.0.1"


def test_a_network_of_ipv6_is_counted_as_one() -> None:
    requests = [RequestFactory().get("/", REMOTE_ADDR=f"2001:db8:1:2::{end}") for end in (1, 9)]
    assert {address.counted(each) for each in requests} == {"2001:db8:1:2::"}
    assert address.counted(RequestFactory().get("/", REMOTE_ADDR="")) is None
