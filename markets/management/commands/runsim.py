"""Run the simulated market and the services that speak for it."""

import argparse
import datetime as dt
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from markets.simulator import credentials
from markets.simulator.market import LOOP_SECONDS, Simulator
from markets.simulator.servers import Leniency, Ports, PortTaken, Servers, Service, services_of
from markets.simulator.telegram import TOKENS
from markets.simulator.world import World
from tradingsite import clock, notices, simulator_ports
from tradingsite.supervision.heartbeat import Beat
from tradingsite.supervision.serving import serve, stopping
from tradingsite.supervision.supervisor import REFUSED

PORT_KEY = "simulator:port"
PORT_PAUSE_SECONDS = 5.0
log = logging.getLogger(__name__)

STANDALONE_START = "2026-06-01 10:00"
CREDENTIALS = f"""
fixed test credentials, good for nothing else:
  Kite       api key {credentials.KITE_API_KEY}, secret {credentials.KITE_API_SECRET}
             user {credentials.KITE_USER_ID}, password {credentials.KITE_PASSWORD}
             TOTP secret {credentials.KITE_TOTP_SECRET}
             redirect address {credentials.KITE_REDIRECT_URL}
  exchange   wallet {credentials.EXCHANGE_WALLET}
             private key {credentials.EXCHANGE_PRIVATE_KEY}
  Telegram   {(chr(10) + " " * 13).join(f"{name} {token}" for name, token in TOKENS.items())}

faults, on the port of each service:
  GET /_sim/fault lists them; POST /_sim/fault {{"kind": "timeout", "times": 1, "seconds": 5}}
  puts one; DELETE /_sim/fault ends all. GET /_sim/kite, /_sim/exchange and /_sim/telegram show
  what really happened, GET /_sim/tradebook the owner's trades by hand as CSV, and
  POST /_sim/token signs in at the broker without its pages.
"""


class Command(BaseCommand):
    """Move the market's clock, make bars and quotes, fill orders, and serve it all, until stopped.

    The settings SIM_START, SIM_SPEED, SIM_NIGHT_SPEED and SIM_SEED say how.
    """

    help = (
        "Run the simulated market (MODE=simulated only): its clock, bars, quotes and fills, and on "
        "loopback a broker that speaks Kite's protocols, an exchange that speaks Hyperliquid's, "
        "a Telegram and a news feed."
    )
    requires_system_checks: list[str] = []

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        """Return the parser, whose help ends with the credentials as they are laid out here."""
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        kwargs.setdefault("epilog", CREDENTIALS)
        return super().create_parser(prog_name, subcommand, **kwargs)

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take the ports, and how lenient to be with other clients."""
        for name, default in vars_of(default_ports()).items():
            parser.add_argument(
                f"--{name}-port",
                type=int,
                default=default,
                metavar="PORT",
                help=f"where the {name} service listens, 0 for a free port (default {default})",
            )
        parser.add_argument(
            "--standalone",
            action="store_true",
            help="only the services, on a clock of their own, without databases; nothing is kept",
        )
        parser.add_argument(
            "--at",
            default=STANDALONE_START,
            metavar="TIME",
            help=f"with --standalone, where the clock starts, IST (default {STANDALONE_START!r})",
        )
        parser.add_argument(
            "--speed",
            type=float,
            default=1.0,
            help="with --standalone, market seconds a real second (default 1)",
        )
        for name, text in {
            "no-protection-rule": "take market orders without market_protection",
            "older-history-spans": "allow history requests only the spans of earlier years",
            "no-rate-limits": "count no requests",
            "no-owner": "no trades by hand",
        }.items():
            parser.add_argument(f"--{name}", action="store_true", help=text)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until SIGTERM or SIGINT; wait while another process keeps the market's clock."""
        if options["standalone"]:
            self._stand_alone(options)
            return
        if clock.simulated() is None:
            raise CommandError("only MODE=simulated has a market to simulate")
        stop = stopping()
        beat = Beat("simulator")
        simulator: Simulator | None = None
        services: dict[str, Service] | None = None
        servers: Servers | None = None

        def step() -> None:
            nonlocal simulator, services, servers
            simulator = simulator or Simulator.start(beat)
            if servers is None:
                home = settings.DATA_DIR / "simulator"
                world = simulator.world
                services = services or _services(world(), home, options, clock.market_seconds)
                try:
                    servers = self._serve(services, options, settings.SIM_DESK)
                except PortTaken as error:
                    _wait_for_port(error, beat, stop)
                    return
                notices.resolve(PORT_KEY)
            simulator.step()

        serve(beat, step, LOOP_SECONDS, stop)
        if servers is not None:
            servers.stop()
        if simulator is not None:
            simulator.stop()

    def _stand_alone(self, options: dict[str, Any]) -> None:
        now = running_clock(options["at"], options["speed"])
        stop = stopping()
        world = World.build(now, settings.SIM_SEED)
        try:
            servers = self._serve(_services(world, None, options), options)
        except PortTaken as error:
            raise CommandError(str(error), returncode=REFUSED) from error
        self.stdout.write(f"The market's clock starts at {options['at']} IST. Ctrl-C ends it.")
        wait_for(stop)
        servers.stop()

    def _serve(
        self, services: dict[str, Service], options: dict[str, Any], desk: str = ""
    ) -> Servers:
        ports = Ports(**{name: options[f"{name}_port"] for name in vars_of(Ports())})
        servers = Servers(services, ports, desk)
        servers.start()
        for name, address in servers.addresses.items():
            self.stdout.write(f"simulated {name:<9} {address}")
        return servers


def _services(
    world: World,
    home: Path | None,
    options: dict[str, Any],
    paced_by: Callable[[], float] = time.time,
) -> dict[str, Service]:
    leniency = Leniency(
        needs_protection=not options["no_protection_rule"],
        older_spans=options["older_history_spans"],
        has_limits=not options["no_rate_limits"],
        owner_trades=not options["no_owner"],
    )
    return services_of(world, home, leniency, paced_by)


def _wait_for_port(error: PortTaken, beat: Beat, stop: threading.Event) -> None:
    """Say that the market cannot start and why; the port may be free at the next try."""
    log.warning("%s. It is tried again every %.0f s", error, PORT_PAUSE_SECONDS)
    beat.beat("refused", f"refused to start: {error}")
    notices.notify(
        "infrastructure",
        "critical",
        PORT_KEY,
        f"Simulator refused to start: {error}. Until then the market stands still; it is tried "
        f"again every {PORT_PAUSE_SECONDS:.0f} s.",
    )
    stop.wait(PORT_PAUSE_SECONDS)


def vars_of(ports: Ports) -> dict[str, int]:
    """Return the ports by the services' names."""
    return {name: getattr(ports, name) for name in Ports.__dataclass_fields__}


def default_ports() -> Ports:
    """Return the ports at which this desk looks for its simulated services."""
    first = settings.SIM_PORT_FOUND
    usual = Ports(*range(first, first + len(simulator_ports.SERVICES)))
    found = {"kite": settings.KITE_ROOT, "exchange": settings.EXCHANGE_URL}
    if settings.MODE != "simulated":
        return usual
    at = {name: urlsplit(root).port for name, root in found.items()}
    return replace(usual, **{name: port for name, port in at.items() if port})


def running_clock(start: str, speed: float) -> Callable[[], float]:
    """Return a clock that runs from a time in India; raise CommandError for no time at all."""
    try:
        at = dt.datetime.fromisoformat(start).replace(tzinfo=clock.IST).timestamp()
    except ValueError as error:
        raise CommandError(f"--at takes a time like {STANDALONE_START!r}: {error}") from error
    if speed <= 0.0:
        raise CommandError("--speed must be positive")
    began = time.monotonic()
    return lambda: at + (time.monotonic() - began) * speed


def wait_for(stop: threading.Event) -> None:
    """Wait until the event says stop, awake often enough to see a signal."""
    while not stop.wait(0.5):
        pass
