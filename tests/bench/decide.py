"""Bar close to decision, in a process like a bot's: all slots of NIFTY, from PostgreSQL and back.

Timed is everything from the moment a bar is stored to the last slot's decision: its features,
computed and stored as live bars' are; the bot's inputs read back; the ledger's rows, encoder, head
and decision. `recorded_*` goes on to the end of the one durable transaction that writes decisions,
marks and intents, without which no order leaves. The policies are transformers as the slots have
them, of weights that never learned, which answer as quickly. Every bar of some sessions is decided,
so that one in twenty-six is a session's last, at which all slots decide at once. `wire_*` goes on
to the order itself, at the simulated broker: see `_wire`.

The deciding process has no torch and is bound to one core, together with its PostgreSQL backend.
`*_cpu_ms` is the processor time of both, which a busy machine changes little; `backend_share` is
the backend's part of it. The other shares are of the time to the decision.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tradingsite import clock
from tradingsite.clock import Epoch

if TYPE_CHECKING:
    from bots.live.policies import Loaded
    from tradingsite.registry import Slot

CHECKOUT = Path(__file__).resolve().parents[2]
BOT = "nifty"
BEFORE = "1d9ecf4"
"""The build that orders are compared with, or the commit that NIGHTDESK_BEFORE names."""
START = dt.datetime(2026, 6, 1, 15, 30, tzinfo=dt.timezone(dt.timedelta(hours=5.5)))
SESSIONS = 14
YEARS: dict[str, float] = {"15m": 0.6, "1h": 0.6, "4h": 0.6, "1d": 2.0}


def run() -> dict[str, float]:
    """Return the figures, measured in processes of their own."""
    with tempfile.TemporaryDirectory() as folder:
        graphs = Path(folder) / "graphs"
        graphs.mkdir()
        _export(graphs)
        decided = _measured("decide", shutil.copytree(graphs, Path(folder) / "decide"))
        before = _before(graphs, Path(folder))
        wired = _measured("_wire", shutil.copytree(graphs, Path(folder) / "wire"))
    if before:
        wired["wire_p99_ms_before"] = before["wire_p99_ms"]
        wired["wire_p50_ms_before"] = before["wire_p50_ms"]
        wired["wire_p99_ratio_to_before"] = wired["wire_p99_ms"] / before["wire_p99_ms"]
    return {**decided, **wired}


def _before(graphs: Path, folder: Path) -> dict[str, float]:
    """Return what the build of before takes to the wire, driven by the same bench.

    Nothing where this is no checkout of git, or the commit is not in it.
    """
    commit = os.environ.get("NIGHTDESK_BEFORE", BEFORE)
    tree = folder / "before"
    added = subprocess.run(
        ["git", "worktree", "add", "--detach", "--quiet", str(tree), commit],
        cwd=CHECKOUT,
        check=False,
        capture_output=True,
        text=True,
    )
    if added.returncode:
        print(f"no build of before: {added.stderr.strip()}", file=sys.stderr)
        return {}
    try:
        for name in ("_broker.py", "_wire.py"):
            shutil.copy(CHECKOUT / "tests" / "bench" / name, tree / "tests" / "bench")
        return _measured("_wire", shutil.copytree(graphs, folder / "wire-before"), tree)
    finally:
        # Its servers are its own, and would outlive it.
        stop = [sys.executable, "manage.py", "embedded", "stop"]
        subprocess.run(stop, cwd=tree, check=False, capture_output=True)
        remove = ["git", "worktree", "remove", "--force", str(tree)]
        subprocess.run(remove, cwd=CHECKOUT, check=True)


def _measured(module: str, folder: Path, checkout: Path = CHECKOUT) -> dict[str, float]:
    """Return what a module of this package measures in a process like a bot's."""
    said = f"from tests.bench import {module}; {module}.measure({str(folder)!r})"
    done = subprocess.run(
        [sys.executable, "-c", said],
        cwd=checkout,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the deciding process failed: {done.stderr[-2_000:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _export(folder: Path) -> None:
    """Write the graphs of each slot's network."""
    from markets.domain.features import schema_for
    from tests.panels import random_features, random_panel
    from tradingsite.registry import BOTS
    from training.rl.barppo import BarPPO
    from training.rl.env import BatchEnv, Episodes
    from training.rl.hyperparameters import Hyperparameters
    from training.rl.onnx_export import export_model

    bot = BOTS[BOT]
    settings = Hyperparameters.of(bot.network)
    panel = random_panel(2_000)
    for slot in bot.slots:
        values = random_features(2_000, len(schema_for(slot.market, slot.timeframe).names))
        env = BatchEnv(panel, values, Episodes(bot.limit_lots), settings.accounts, settings.group)
        export_model(BarPPO(env, values, settings), folder / slot.slug, values)


def measure(folder: str) -> None:
    """Decide every bar of some sessions and print the figures; the process is the bot's."""
    import django

    django.setup()
    import logging

    logging.disable(logging.INFO)
    from tests.cloning import cloned
    from tradingsite import clock

    with cloned():
        clock.simulate(Path(folder) / "clock.json")
        bot = _Bot(Path(folder))
        _bind_to_one_core()
        times = [bot.close_bar(closes_at) for closes_at in bot.closes()]
        print(json.dumps(bot.figures(times)))


class _Bot:
    """Hold a market with some history and a bot of all its slots, moved bar by bar."""

    def __init__(self, folder: Path) -> None:
        from django.db import connections

        from bots.execution import ledger
        from bots.live.decisions import Decider
        from bots.live.policies import Policies
        from bots.modelstore import services as modelstore
        from markets import store
        from markets.domain.instruments import Instruments
        from markets.simulator import history
        from markets.simulator.market import Feed
        from markets.simulator.price_path import PricePath as PricePath
        from markets.venues.paper import PaperVenue
        from tradingsite.registry import BOTS

        vars(history)["YEARS"] = YEARS
        self.bot = BOTS[BOT]
        self.calendar = store.load_calendar(self.bot.market)
        self.path = PricePath.build(self.bot.market, self.calendar)
        self._go(START.timestamp())
        history.make_history(self.bot.market, clock.epoch(START), path=self.path)
        self.feed = Feed.of(self.bot.market, self.calendar, self.path)
        self.feed.is_ours()
        self.venue = PaperVenue(self.bot.market, self.calendar)
        self.instruments = Instruments(self.bot.market, self.calendar)
        self.parts = dict.fromkeys(("features", "inputs", "onnx", "all"), 0.0)
        policies = Policies(self.bot)
        loaded = {slot.slug: self._load(folder, slot) for slot in self.bot.slots}

        def current(slot: Slot) -> Loaded:
            modelstore.active(slot.slug)  # as a bot asks for a newer one, at each decision
            return loaded[slot.slug]

        policies.current = current  # type: ignore[method-assign]
        self.decider = Decider(self.bot, self.venue, self.instruments, policies)
        # As the database's own housekeeping would within a minute.
        with connections[self.bot.market].cursor() as cursor:
            cursor.execute("ANALYZE")
        choose: Any = self.decider._choose

        def chosen(*arguments: Any, **how: Any) -> Any:
            answer = choose(*arguments, **how)
            self.decided = time.perf_counter(), time.process_time() + _backend_seconds()
            return answer

        setattr(self.decider, "_choose", chosen)  # noqa: B010 - a clock in its way
        ledger.open_rows(self.bot, self.instruments.front(clock.epoch(START)).name, self.venue.name)
        self.decisions = 0
        self.decided = 0.0, 0.0

    def closes(self) -> Iterator[int]:
        """Return when the bars of the sessions close."""
        session = self.calendar.next_session(clock.epoch(START))
        for _ in range(SESSIONS):
            assert session is not None
            opens = np.array(self.calendar.bar_opens("15m", session.date), dtype=np.int64)
            yield from self.calendar.closes_at("15m", opens).tolist()
            session = self.calendar.next_session(session.opens_at)

    def close_bar(self, closes_at: int) -> tuple[float, float, float, float, float]:
        """Store a bar and decide it.

        Returns wall and CPU time to the decision, both till it is recorded, and the backend's CPU.
        """
        from bots.execution import protocol
        from bots.execution.orders import submit_all
        from bots.execution.postgres_ledger import DatabaseLedger
        from bots.live.bar_schedule import DueBars
        from bots.live.decisions import load_closed_bar
        from markets import store
        from markets.models import Source

        self._go(closes_at)
        closed = []
        for slot in self.bot.slots:
            newest = self.feed.newest[slot.timeframe]
            bars = self.path.bars(slot.timeframe, Epoch(newest + 1), Epoch(closes_at))
            if len(bars):
                store.save_bars(self.bot.market, slot.timeframe, bars, Source.GENERATED)
                self.feed.newest[slot.timeframe] = int(bars.opens_at[-1])
                closed.append(slot)
        backend = _backend_seconds()
        cpu, began = time.process_time() + backend, time.perf_counter()
        store.append_all(self.bot.market, {slot.timeframe: None for slot in reversed(closed)})
        computed = time.perf_counter()
        inputs = {slot.slug: load_closed_bar(slot, Epoch(closes_at)) for slot in closed}
        loaded = time.perf_counter()
        orders = self.decider.decide(DueBars(dict.fromkeys(closed, closes_at)), inputs)
        ended = time.perf_counter()
        backend = _backend_seconds() - backend
        all_cpu = time.process_time() + _backend_seconds() - cpu
        self.parts["features"] += computed - began
        self.parts["inputs"] += loaded - computed
        self.parts["all"] += self.decided[0] - began
        self.decisions += len(closed)
        if any(each is None or each.window is None for each in inputs.values()):
            raise AssertionError(f"no inputs at {closes_at}")
        # Untimed: the order, and its fill as the market next opens.
        submit_all(self.bot, orders, self.venue, self.instruments)
        session = self.calendar.session_at(Epoch(closes_at)) or self.calendar.next_session(
            Epoch(closes_at)
        )
        assert session is not None
        self._go(max(closes_at, session.opens_at) + 0.001)
        self.feed.step(max(closes_at, session.opens_at) + 0.001)
        protocol.take_trades(DatabaseLedger(self.bot, self.venue, self.instruments), self.venue)
        wall, spent = self.decided[0] - began, self.decided[1] - cpu
        return wall, spent, ended - began, all_cpu, backend

    def figures(self, times: Sequence[tuple[float, ...]]) -> dict[str, float]:
        """Return the figures in milliseconds."""
        columns = [1_000.0 * np.array(column) for column in zip(*times, strict=True)]
        wall, cpu, recorded, recorded_cpu, backend = columns
        all_of_it = self.parts["all"]
        found: dict[str, float] = {
            "p50_ms": float(np.percentile(wall, 50)),
            "p99_ms": float(np.percentile(wall, 99)),
            "p50_cpu_ms": float(np.percentile(cpu, 50)),
            "p99_cpu_ms": float(np.percentile(cpu, 99)),
            "recorded_p50_ms": float(np.percentile(recorded, 50)),
            "recorded_p99_ms": float(np.percentile(recorded, 99)),
            "recorded_p99_cpu_ms": float(np.percentile(recorded_cpu, 99)),
            "backend_share": float(backend.sum() / recorded_cpu.sum()),
            "onnx_share": self.parts["onnx"] / all_of_it,
            "features_share": self.parts["features"] / all_of_it,
            "inputs_share": self.parts["inputs"] / all_of_it,
        }
        return found | {"bars": float(len(times)), "decisions": float(self.decisions)}

    def _load(self, folder: Path, slot: Slot) -> Loaded:
        from bots.live.policies import Loaded
        from bots.modelstore.bundle import ENCODER, HEAD, OnnxPolicy

        files = ((folder / slot.slug / name).read_bytes() for name in (ENCODER, HEAD))
        policy = OnnxPolicy(*files)
        encode, act = policy.encode, policy.act
        policy.encode = self._clocked(encode)  # type: ignore[method-assign]
        policy.act = self._clocked(act)  # type: ignore[method-assign]
        return Loaded(1, f"{slot.slug} v1", policy)

    def _clocked(self, call: Any) -> Any:
        def timed(*arguments: Any) -> Any:
            began = time.perf_counter()
            answer = call(*arguments)
            self.parts["onnx"] += time.perf_counter() - began
            return answer

        return timed

    def _go(self, at: float) -> None:
        from tradingsite import clock

        simulated = clock.simulated()
        assert simulated is not None
        frozen = clock.FROZEN_AFTER_SECONDS
        simulated.write(clock.Anchor(at - frozen * 48.0, time.time() - frozen, 48.0))


def _bind_to_one_core() -> None:
    """Keep this process and its database backend on one core, where the system lets us."""
    core = {min(os.sched_getaffinity(0))}
    for process in (0, _backend()):
        with contextlib.suppress(PermissionError):
            os.sched_setaffinity(process, core)


def _backend() -> int:
    from django.db import connections

    return int(connections[BOT].connection.info.backend_pid)


def _backend_seconds() -> float:
    """Return the backend's processor time, to the nanosecond."""
    return int(Path(f"/proc/{_backend()}/schedstat").read_text().split()[0]) / 1e9
