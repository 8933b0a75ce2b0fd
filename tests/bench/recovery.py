"""What a desk needs and how soon it is itself again, beside the desk of the build before.

Two whole desks, one after the other, each in a folder and on ports of its own: the build before
(a worktree of its commit) and this one. Each lives through a market day, morning to morning, with
its first models trained and all jobs, four times as fast as a simulated desk usually does; then
its memory is added up: PSS of PROD's services with PostgreSQL and Valkey, without the simulator,
PC's workers and `up`. On this one every service is then killed: until its next heartbeat, and
until the page says so. Wall time, on whatever else the machine does: the load is among the figures.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.chaos.desk import CHECKOUT, Desk, TooLate
from tests.chaos.outcome import SERVICES, now
from tradingsite.supervision.services import PLUMBING
from tradingsite.supervision.services import SERVICES as PROD

BEFORE = os.environ.get("NIGHTDESK_BENCH_BEFORE", "1d9ecf4")
DAY_SPEED, NIGHT_SPEED = 192.0, 960.0
DAY_SECONDS = 12 * 3600 / DAY_SPEED + 12 * 3600 / NIGHT_SPEED
PATIENCE_SECONDS = 60.0
SAMPLE_SECONDS = 5.0
LOOKS = 5
OF_PROD = frozenset(
    {service.name for service in PROD}
    | {service.name for service in PLUMBING if service.machine == "prod"} - {"simulator"}
)
BEFORE_PORT = 9_501
MEGABYTE = 1 << 20


def run() -> dict[str, float]:
    """Return the figures; the first desk is gone before the second begins."""
    before = _of_before()
    figures = _of_this()
    figures["before_worker_pss_mb"] = before["worker"]
    figures["before_worker_peak_pss_mb"] = before["worker_peak"]
    figures["before_prod_pss_mb"] = before["prod"]
    figures["prod_pss_ratio_to_before"] = figures["prod_pss_mb"] / before["prod"]
    figures["load"] = os.getloadavg()[1]
    return figures


def _of_this() -> dict[str, float]:
    with _desk() as desk:
        start_s = desk.start()
        memory = _live_a_day(desk)
        desk.connect()
        restarts, said, page_s = [], [], []
        for name in SERVICES:
            back, told = _killed(desk, name)
            restarts.append(back)
            said.append(told)
        for _ in range(3):
            restarts_at, answered = _killed_dashboard(desk)
            restarts.append(restarts_at)
            page_s.append(answered)
        stop_s = desk.stop()
    return {
        "restart_p95_s": _p95(restarts),
        "restart_worst_s": max(restarts),
        "page_says_p95_s": _p95(said),
        "page_s": max(page_s),
        "start_s": start_s,
        "stop_s": stop_s,
        "worker_pss_mb": memory["worker"],
        "worker_peak_pss_mb": memory["worker_peak"],
        "prod_pss_mb": memory["prod"],
    }


def _of_before() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder, _worktree(Path(folder) / "before") as checkout:
        root = f"127.0.0.1:{BEFORE_PORT}"
        with _desk(
            checkout,
            KITE_ROOT=f"http://{root}",
            KITE_LOGIN_ROOT=f"http://{root}",
            KITE_WS_ROOT=f"ws://{root}",
            EXCHANGE_URL=f"http://127.0.0.1:{BEFORE_PORT + 1}",
        ) as desk:
            # That build's `up` cannot put the simulator's other two ports elsewhere.
            script = (
                "from markets.simulator.history import make_history\n"
                "for market in ('nifty', 'btc'): make_history(market)"
            )
            if desk.manage("shell", "-c", script, log=desk.log).wait(300):
                raise TooLate(f"no history: {desk.log.read_text()[-500:]}")
            ports = ("--telegram-port", str(BEFORE_PORT + 2), "--news-port", str(BEFORE_PORT + 3))
            simulator = desk.manage("runsim", *ports, log=desk.folder / "runsim.log")
            try:
                names = [each.name for each in (*PLUMBING, *PROD) if each.name != "simulator"]
                desk.start("--only", ",".join(names))
                return _live_a_day(desk)
            finally:
                desk.stop()
                simulator.terminate()
                simulator.wait(30)


@contextlib.contextmanager
def _desk(checkout: Path = CHECKOUT, **settings: str) -> Iterator[Desk]:
    desk = Desk(checkout, SIM_SPEED=str(DAY_SPEED), SIM_NIGHT_SPEED=str(NIGHT_SPEED), **settings)
    try:
        yield desk
    finally:
        desk.remove()


@contextlib.contextmanager
def _worktree(folder: Path) -> Iterator[Path]:
    git = ("git", "-C", str(CHECKOUT), "worktree")
    subprocess.run(
        [*git, "add", "--detach", "-f", str(folder), BEFORE], check=True, capture_output=True
    )
    try:
        for name in (".venv", "node_modules"):
            if (CHECKOUT / name).exists():
                (folder / name).symlink_to((CHECKOUT / name).resolve())
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=False, capture_output=True)


def _live_a_day(desk: Desk) -> dict[str, float]:
    """Let a market day pass and return PSS in MB: of all, of the worker, and the worker's most."""
    peak = 0.0
    until = time.monotonic() + DAY_SECONDS
    while time.monotonic() < until:
        time.sleep(SAMPLE_SECONDS)
        worker = desk.service("worker")
        with contextlib.suppress(psutil.Error):
            peak = max(peak, _pss(worker) if worker else 0.0)
    # Of five looks the middle one: a job's own process may just be at work in one of them.
    looks = []
    for _ in range(LOOKS):
        looks.append(_look(desk))
        time.sleep(SAMPLE_SECONDS)
    middle = sorted(looks, key=lambda look: sum(look.values()))[LOOKS // 2]
    for name, size in sorted(middle.items(), key=lambda item: -item[1]):
        print(f"  {name:<18} {size:6.1f} MB", file=sys.stderr)
    return {"prod": sum(middle.values()), "worker": middle["worker"], "worker_peak": peak}


def _look(desk: Desk) -> dict[str, float]:
    """Return the PSS of each of PROD's services, and of both servers together, in MB."""
    each = {name: _family(desk.service(name)) for name in OF_PROD}
    servers = sum(_family(psutil.Process(pid)) for pid in _servers(desk))
    return {**each, "PostgreSQL, Valkey": servers}


def _servers(desk: Desk) -> list[int]:
    home = (desk.data / "embedded").resolve()
    files = (home / "postgres" / "postmaster.pid", *home.glob("valkey/*.pid"))
    return [int(file.read_text().split()[0]) for file in files]


def _family(process: psutil.Process | None) -> float:
    """Return the PSS of a process with all that it started."""
    if process is None:
        return 0.0
    total = 0.0
    for each in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += _pss(each)
    return total


def _pss(process: psutil.Process) -> float:
    return float(process.memory_full_info().pss) / MEGABYTE


def _killed(desk: Desk, name: str) -> tuple[float, float]:
    """Return the seconds until a killed service reports again, and until the page says it died."""
    process, since, told = desk.service(name), now(), [PATIENCE_SECONDS]
    assert process is not None, name
    began = time.monotonic()
    process.kill()

    def ask_page() -> None:
        with contextlib.suppress(TooLate):
            words = f"{name} ended"
            desk.until(lambda: words in desk.get("live", 5.0)[1], PATIENCE_SECONDS)
            told[0] = time.monotonic() - began

    thread = threading.Thread(target=ask_page)
    thread.start()
    desk.until(lambda: desk.began(name, since), PATIENCE_SECONDS)
    back = time.monotonic() - began
    thread.join()
    return back, told[0]


def _killed_dashboard(desk: Desk) -> tuple[float, float]:
    """Return the seconds until its next heartbeat, and from its start to its first answer."""
    process, since = desk.service("dashboard"), now()
    assert process is not None
    began = time.monotonic()
    for each in (*process.children(recursive=True), process):
        each.kill()
    desk.until(lambda: desk.get("healthz", 1.0)[0] == 200, PATIENCE_SECONDS)
    answered = time.time()
    again = desk.service("dashboard")
    assert again is not None
    desk.until(lambda: desk.began("dashboard", since), PATIENCE_SECONDS)
    back = time.monotonic() - began
    time.sleep(2.0)
    return back, answered - again.create_time()


def _p95(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.95))]
