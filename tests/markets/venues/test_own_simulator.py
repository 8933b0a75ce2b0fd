"""Two desks on one machine: neither speaks to the other's simulator, whatever port it met it on."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from markets.simulator.kite.app import Kite
from markets.simulator.servers import Ports, Servers, services_of
from markets.venues.ccxt import client as exchange_client
from markets.venues.ccxt.client import Wire, from_settings
from markets.venues.configured import kite_config
from markets.venues.kite import login as kite_login
from markets.venues.own_simulator import ForeignSimulator, ensure
from tests.markets.simulator.broker import shared_world
from tradingsite import clock, simulator_ports
from tradingsite.errors import Retry
from tradingsite.models import Notice

pytestmark = pytest.mark.django_db

OURS, THEIRS = "our desk", "their desk"


@pytest.fixture
def theirs(set_market: Callable[..., None]) -> Iterator[Servers]:
    """Run another desk's simulator."""
    world, hand = shared_world()
    set_market(clock.from_seconds(hand.at))
    servers = Servers(services_of(world, None), Ports(0, 0, 0, 0), THEIRS)
    servers.start()
    yield servers
    servers.stop()


def requests_of(servers: Servers) -> list[str]:
    """Return what the simulated broker was asked."""
    kite = servers.services["kite"]
    assert isinstance(kite, Kite)
    return kite.requests


def test_a_foreign_simulator_is_refused_before_anything_is_asked(theirs: Servers) -> None:
    root = theirs.addresses["kite"]
    config = replace(kite_config(), root=root, login_root=root, desk=OURS)
    for use in (kite_login.client, kite_login.login_headless):
        with pytest.raises(ForeignSimulator, match="is not this desk's simulator"):
            use(config)
    assert requests_of(theirs) == []
    notice = Notice.objects.get(key=f"foreign-simulator:{root}")
    assert notice.severity == "critical" and "set SIM_PORT" in notice.text
    exchange = replace(from_settings(), url=theirs.addresses["exchange"], desk=OURS)
    with pytest.raises(ForeignSimulator):
        Wire(exchange, with_keys=True).client()


def test_our_own_is_used_as_ever(theirs: Servers) -> None:
    root = theirs.addresses["kite"]
    config = replace(kite_config(), root=root, login_root=root, desk=THEIRS)
    token, _ = kite_login.login_headless(config)
    assert kite_login.client(config, token).profile()["user_id"] == config.user_id
    exchange = replace(from_settings(), url=theirs.addresses["exchange"], desk=THEIRS)
    assert Wire(exchange, with_keys=True).client().markets


def test_what_takes_our_simulators_port_later_is_refused_too(
    theirs: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = theirs.addresses["kite"]
    config = replace(kite_config(), root=root, desk=THEIRS)
    client = kite_login.client(config, "token")
    monkeypatch.setattr(theirs, "_desk", "a third")
    with pytest.raises(ForeignSimulator):
        client.profile()
    assert requests_of(theirs) == []


def test_every_service_refuses_what_was_meant_for_another(theirs: Servers) -> None:
    for name, root in theirs.addresses.items():
        for method in ("get", "post"):
            answer = requests.request(
                method, f"{root}/anything", headers={simulator_ports.HEADER: OURS}, timeout=5
            )
            assert answer.status_code == 421, name
        nobody = requests.get(f"{root}/_sim/desk", timeout=5)
        assert nobody.json() == {"desk": THEIRS}
        assert nobody.headers[simulator_ports.HEADER] == THEIRS


def test_a_program_that_is_no_simulator_is_none_of_ours(
    set_market: Callable[..., None],
) -> None:
    world, _ = shared_world()
    anybodys = Servers(services_of(world, None), Ports(0, 0, 0, 0))
    anybodys.start()
    with pytest.raises(ForeignSimulator):
        ensure(anybodys.addresses["news"], OURS)
    anybodys.stop()
    with pytest.raises(Retry, match="does not answer"):
        ensure(anybodys.addresses["news"], OURS)


def test_a_second_desk_finds_other_ports_and_its_commands_find_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row that is wished for holds one taken port; other programs' ports play no part."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    really_free = simulator_ports.is_free
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        assert not really_free(taken)
        monkeypatch.setattr(simulator_ports, "is_free", lambda port: port != taken)
        first = simulator_ports.choose(ours, taken - 2)
        assert first == taken + 2
    assert simulator_ports.first_port(ours, taken - 2) == first
    assert simulator_ports.first_port(ours, 9_000) == 9_000  # another wish, so not yet chosen for
    assert simulator_ports.first_port(theirs, taken - 2) == taken - 2
    assert simulator_ports.desk_id(ours) == simulator_ports.desk_id(ours)
    (theirs / "desk_id").parent.mkdir(exist_ok=True)
    (theirs / "desk_id").write_text((ours / "desk_id").read_text())  # a copied folder
    assert simulator_ports.desk_id(ours) != simulator_ports.desk_id(theirs)


def test_no_row_of_free_ports_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulator_ports, "is_free", lambda *_: False)
    with pytest.raises(simulator_ports.NoPorts, match="8801 to 9000"):
        simulator_ports.choose(tmp_path, 8801)


def test_who_holds_a_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert f"process {os.getpid()} (" in simulator_ports.holder(other.getsockname()[1])
    assert exchange_client.from_settings().desk == ""  # tests' simulators are nobody's


def test_the_ticker_names_its_desk(theirs: Servers) -> None:
    from markets.venues.kite.ticker import KiteStream

    where: Any = theirs.addresses["kite"].replace("http", "ws")
    header = {simulator_ports.HEADER: OURS}
    stream = KiteStream("key", lambda: "token", {1: "x"}, print, where, headers=header)
    stream.start()
    try:
        time.sleep(1.0)
        assert stream.state != "connected"
        assert requests_of(theirs) == []
    finally:
        stream.close()
