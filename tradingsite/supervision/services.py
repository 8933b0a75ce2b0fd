"""The eight services, and apart from them the plumbing they stand on.

`up` starts them on one machine; systemd units, the dashboard and the checks derive from the same
table.
"""

from dataclasses import dataclass

from tradingsite.registry import BOTS

WEB_ADDRESS = "127.0.0.1"
# What the supervisor tells a process by its environment: which service it is, and which services
# run at all where not every one was asked for.
SERVICE_VARIABLE = "NIGHTDESK_SERVICE"
ONLY_VARIABLE = "NIGHTDESK_ONLY"


@dataclass(frozen=True, slots=True)
class Service:
    """One long-running process: how it is started and where it belongs."""

    name: str
    title: str
    command: tuple[str, ...]
    """Arguments of manage.py, or of `python -m` when the first one is "-m"."""
    machine: str = "prod"
    modes: tuple[str, ...] = ("simulated", "paper", "live")
    memory_mb: int = 300
    environment: tuple[tuple[str, str], ...] = ()
    """What its process is told besides."""
    does: str = ""


def _worker(queues: str, pool: str, concurrency: int) -> tuple[str, ...]:
    return (
        *("-m", "celery", "-A", "tradingsite", "-q", "worker"),
        *("-Q", queues, "-n", f"{queues.split(',')[0]}@%h", "-P", pool, "-c", str(concurrency)),
        *("-l", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"),
    )


SERVICES: tuple[Service, ...] = (
    *(
        Service(f"{bot.slug}-bot", f"{bot.title} bot", ("runbot", bot.slug), does="decides, orders")
        for bot in BOTS.values()
    ),
    Service("nifty-notifier", "NIFTY notifier", ("runnotifier", "nifty"), does="reads the ledger"),
    Service("btc-notifier", "BTC notifier", ("runnotifier", "btc"), does="reads the ledger"),
    Service("straddle-tracker", "Straddle tracker", ("runstraddle",), does="keeps a ticker"),
    Service(
        "dashboard",
        "Dashboard",
        ("-m", "gunicorn", "tradingsite.wsgi", "-c", "python:tradingsite.web.gunicorn_config"),
        does="these pages",
    ),
    Service("server-monitor", "Server monitor", ("runmonitor",), does="watches host and leases"),
)

PLUMBING: tuple[Service, ...] = (
    Service("simulator", "Market simulator", ("runsim",), modes=("simulated",)),
    Service("worker", "Worker", _worker("prod,collect", "threads", 4)),
    Service(
        "beat",
        "Beat",
        (
            *("-m", "celery", "-A", "tradingsite", "-q", "beat", "-l", "WARNING", "--pidfile="),
            *("-S", "tradingsite.scheduling.beat.Scheduler"),
        ),
    ),
    Service("telegram", "Telegram", ("runtelegram",), does="tells the owner"),
    Service(
        "gpu-worker",
        "GPU worker",
        _worker("gpu", "prefork", 1),
        machine="pc",
        memory_mb=4000,
        # A training takes hours: it is cut off, and goes on from its checkpoint after the start.
        environment=(("REMAP_SIGTERM", "SIGQUIT"),),
    ),
    Service("pc-worker", "PC worker", _worker("pc", "prefork", 1), machine="pc"),
)


def consumer_of(queue: str) -> Service:
    """Return the worker that takes the messages of a queue."""
    for service in PLUMBING:
        words = service.command
        if "-Q" in words and queue in words[words.index("-Q") + 1].split(","):
            return service
    raise LookupError(f"no worker takes the queue {queue!r}")


def wanted(mode: str, machine: str) -> tuple[Service, ...]:
    """Return what runs on a machine in a mode: plumbing first, because services lean on it."""
    return tuple(
        service
        for service in PLUMBING + SERVICES
        if mode in service.modes and machine in {"single", service.machine}
    )
