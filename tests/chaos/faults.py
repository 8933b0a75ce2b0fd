"""The faults, in the order in which they are done; each is a function of a desk.

What is promised stands with each as the most seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tests.chaos import held, killed
from tests.chaos.desk import Desk
from tests.chaos.outcome import SERVICES, Result


@dataclass(frozen=True)
class Fault:
    """One fault by name."""

    name: str
    do: Callable[[Desk], Result]
    needs_disk: bool = False


FAULTS: tuple[Fault, ...] = (
    *(Fault(f"SIGKILL {name}", partial(killed.kill_service, name)) for name in SERVICES),
    Fault("SIGKILL dashboard", killed.kill_dashboard),
    Fault("SIGKILL simulator", killed.kill_simulator),
    Fault("SIGKILL Valkey", killed.kill_valkey),
    Fault("SIGKILL one backend", killed.kill_backend),
    Fault("SIGKILL postmaster", killed.kill_postmaster),
    Fault("SIGSTOP PostgreSQL 15 s", killed.freeze_postgres),
    Fault("SIGSTOP btc-bot", partial(killed.freeze_service, "btc-bot", 60.0)),
    Fault("SIGSTOP simulator", partial(killed.freeze_service, "simulator", 15.0)),
    Fault("table lock 20 s + SIGKILL", held.table_lock_and_kill),
    Fault("a stranger holds the lock", held.lock_of_a_stranger),
    Fault("slow clients", held.slow_clients),
    Fault("second up, bot, monitor ...", held.seconds),
    Fault("partition dropped", held.lost_partition),
    Fault("heartbeat in the future", killed.forged_heartbeat),
    Fault("monitor restarted, alarms open", killed.monitor_restarted_with_alarms),
    Fault("disk full 25 s", held.disk_full, needs_disk=True),
)
