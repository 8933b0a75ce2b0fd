"""The table of services and the plumbing under them."""

from importlib.util import find_spec

from django.core.management import get_commands

from tradingsite.registry import BOTS
from tradingsite.supervision.services import PLUMBING, SERVICES, wanted


def test_there_are_eight_services() -> None:
    assert [service.name for service in SERVICES] == [
        "nifty-bot",
        "btc-bot",
        "personal-bot",
        "nifty-notifier",
        "btc-notifier",
        "straddle-tracker",
        "dashboard",
        "server-monitor",
    ]
    assert {f"{bot}-bot" for bot in BOTS} <= {service.name for service in SERVICES}


def test_names_are_unique_and_every_service_says_what_it_is() -> None:
    names = [service.name for service in SERVICES + PLUMBING]
    assert len(names) == len(set(names))
    assert all(service.title and service.memory_mb for service in SERVICES + PLUMBING)
    assert all(service.does for service in SERVICES)


def test_every_command_exists() -> None:
    known = get_commands()
    for service in SERVICES + PLUMBING:
        if service.command[0] == "-m":
            assert find_spec(service.command[1]) is not None
        else:
            assert service.command[0] in known, service.name


def test_each_machine_runs_its_own() -> None:
    prod = {service.name for service in wanted("live", "prod")}
    pc = {service.name for service in wanted("live", "pc")}
    single = [service.name for service in wanted("simulated", "single")]
    assert prod == {service.name for service in SERVICES} | {"worker", "beat", "telegram"}
    assert pc == {"gpu-worker", "pc-worker"}
    assert set(single) == prod | pc | {"simulator"}
    assert single[0] == "simulator"
    assert wanted("simulated", "laptop") == ()
