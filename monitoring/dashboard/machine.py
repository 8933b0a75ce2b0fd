"""The machine room for the overview: services, model slots, training runs, notices."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Case, Q, Value, When

from bots.modelstore.models import Activation, ModelVersion
from monitoring import checks
from tradingsite.errors import cause_in
from tradingsite.models import Notice, Said
from tradingsite.registry import BOTS, SLOTS, Slot
from tradingsite.supervision import heartbeat
from tradingsite.supervision.services import PLUMBING, SERVICES, Service
from training.models import TrainingRun, TrainingStep

# A desk that has just been started is not a desk whose services have died.
STARTING_FOR_SECONDS = 90.0
IDLE_STATES = frozenset({"idle", "waiting", "paused"})
FAILED_STATES = frozenset({"stopped", "ended", "failing", "failed", "refused"})
STEP_NAMES = ("export", "ship", "train", "hash", "verify", "archive", "clean")
RUNS_SHOWN = 7
NOTICES_SHOWN = 8
NOTICES_MATTER_FOR = dt.timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class ServiceRow:
    """One service: its level is ok, idle, late, ended or unseen."""

    service: Service
    level: str
    words: str
    detail: str
    beat_at: dt.datetime | None
    started_at: dt.datetime | None
    is_plumbing: bool

    @property
    def mark(self) -> str:
        """Return the mark that is drawn for the level."""
        return {"ok": "ok", "idle": "idle", "unseen": "none"}.get(self.level, "fail")


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One slot's model: what trades, how it did on bars it was never trained on, what came last."""

    slot: Slot
    title: str
    active: ModelVersion | None
    newest: ModelVersion | None
    since: dt.datetime | None
    net_return: float | None
    buy_and_hold: float | None
    held_out: Mapping[str, Any]
    is_owners: bool

    @property
    def is_refused(self) -> bool:
        """Return whether a later version than the trading one was kept from trading."""
        return bool(self.newest and self.newest.state == ModelVersion.State.QUARANTINED)


@dataclass(frozen=True, slots=True)
class StepMark:
    """One of the seven steps of a run: done, running, failed or waiting."""

    number: int
    name: str
    state: str
    seconds: float | None
    detail: str


@dataclass(frozen=True, slots=True)
class RunRow:
    """One training run with its steps and, while it trains, how far it is."""

    run: TrainingRun
    title: str
    steps: list[StepMark]
    steps_done: int
    done_ratio: float
    steps_per_second: float | None
    reward: float | None
    eta_seconds: float | None
    seconds: float | None

    @property
    def is_open(self) -> bool:
        """Return whether the run is queued or running."""
        return self.run.state in {TrainingRun.State.QUEUED, TrainingRun.State.RUNNING}

    @property
    def mark(self) -> str:
        """Return the mark that is drawn for the run's state."""
        marks = {"done": "ok", "refused": "warn", "failed": "fail", "running": "run"}
        return marks.get(self.run.state, "next")

    @property
    def running_step(self) -> StepMark | None:
        """Return the step that is under way."""
        return next((step for step in self.steps if step.state == "running"), None)

    @property
    def now_doing(self) -> str:
        """Return where the run is, in words."""
        step = self.running_step
        if step:
            return f"step {step.number} of {len(self.steps)}, {step.name}"
        done = sum(1 for each in self.steps if each.state == "done")
        return f"step {min(done + 1, len(self.steps))} of {len(self.steps)}, waits for a worker"

    @property
    def is_learning(self) -> bool:
        """Return whether the network is being trained now, so that the progress is live."""
        step = self.running_step
        return bool(step and step.name == "train" and self.steps_per_second)

    @property
    def steps_words(self) -> str:
        """Return the steps' times, for who points at them."""
        return ", ".join(
            f"{step.name} {step.seconds:.1f} s"
            if step.seconds is not None
            else f"{step.name} {step.state}"
            for step in self.steps
        )

    @property
    def cause(self) -> str:
        """Return the run's record in a line: of a traceback the error itself."""
        return cause_in(self.run.detail)


def slot_title(slug: str) -> str:
    """Return a slot's name for people: NIFTY 15m."""
    slot = SLOTS.get(slug)
    return f"{BOTS[slot.bot].title} {slot.timeframe}" if slot else slug


def services(mode: str, now: dt.datetime) -> list[ServiceRow]:
    """Return one line per service and per part of the plumbing that belongs to a mode."""
    beats = heartbeat.last_words()
    starting = bool(beats) and all(
        (now - beat.started_at).total_seconds() < STARTING_FOR_SECONDS for beat in beats.values()
    )
    return [
        _service(service, beats.get(service.name), now, starting, service in PLUMBING)
        for service in SERVICES + PLUMBING
        if mode in service.modes
    ]


def models() -> list[ModelRow]:
    """Return one line per slot."""
    newest = ModelVersion.objects.order_by("slot", "-number").distinct("slot")
    versions = ModelVersion.objects.filter(
        Q(state=ModelVersion.State.ACTIVE) | Q(pk__in=newest.values("pk"))
    )
    active: dict[str, ModelVersion] = {}
    last: dict[str, ModelVersion] = {}
    for version in versions:
        if version.state == ModelVersion.State.ACTIVE:
            active[version.slot] = version
        if version.slot not in last or version.number > last[version.slot].number:
            last[version.slot] = version
    since = dict(
        Activation.objects.filter(model__in=[version.pk for version in active.values()])
        .order_by("slot", "-at")
        .distinct("slot")
        .values_list("slot", "market_at")
    )
    return [
        _model(slot, active.get(slot.slug), last.get(slot.slug), since.get(slot.slug))
        for slot in SLOTS.values()
    ]


def training_runs(now: dt.datetime) -> list[RunRow]:
    """Return the open runs, oldest first, and then the latest finished ones."""
    runs = list(TrainingRun.objects.prefetch_related("steps").order_by("-created_at")[:RUNS_SHOWN])
    rows = [_run(run, list(run.steps.all()), now) for run in runs]
    open_rows = [row for row in reversed(rows) if row.is_open]
    open_rows.sort(key=lambda row: row.run.state != TrainingRun.State.RUNNING)
    return open_rows + [row for row in rows if not row.is_open]


def notices(now: dt.datetime) -> list[Notice]:
    """Return the open warnings of the last day, and then whatever is newest.

    Every fill makes a notice, so that by time alone a warning would soon be out of sight.
    """
    matters = Q(severity__in=[Notice.Severity.WARNING, Notice.Severity.CRITICAL])
    matters &= Q(resolved_at__isnull=True, last_at__gt=now - NOTICES_MATTER_FOR)
    rank = Case(When(matters, then=Value(0)), default=Value(1))
    rows = Notice.objects.order_by(rank, "-last_at").prefetch_related("delivery_set")
    return list(rows[:NOTICES_SHOWN])


def _service(
    service: Service, beat: Said | None, now: dt.datetime, starting: bool, is_plumbing: bool
) -> ServiceRow:
    if beat is None:
        words = "starting" if starting else "no sign of life yet"
        return ServiceRow(service, "unseen", words, service.does, None, None, is_plumbing)
    age = (now - beat.beat_at).total_seconds()
    if beat.state in FAILED_STATES:
        level, words = "ended", beat.state
    elif checks.is_silent(age):
        level, words = "late", "silent"
    elif beat.state in IDLE_STATES:
        level, words = "idle", beat.state
    else:
        level, words = "ok", beat.state
    detail = beat.detail or service.does
    return ServiceRow(service, level, words, detail, beat.beat_at, beat.started_at, is_plumbing)


def _model(
    slot: Slot,
    active: ModelVersion | None,
    newest: ModelVersion | None,
    since: dt.datetime | None,
) -> ModelRow:
    metrics = active.metrics if active else {}
    held_out = metrics.get("holdout", {})
    baselines = metrics.get("baselines", {})
    return ModelRow(
        slot=slot,
        title=slot_title(slot.slug),
        active=active,
        newest=newest,
        since=since,
        net_return=held_out.get("net_return"),
        buy_and_hold=baselines.get("buy_and_hold", {}).get("net_return"),
        held_out=held_out,
        is_owners=BOTS[slot.bot].learns_from_owner,
    )


def _run(run: TrainingRun, steps: Sequence[TrainingStep], now: dt.datetime) -> RunRow:
    by_number = {step.number: step for step in steps}
    ended = run.finished_at or (now if run.state == TrainingRun.State.RUNNING else None)
    progress = run.figures if run.state == TrainingRun.State.RUNNING else {}
    total = progress.get("total_timesteps") or run.timesteps or 1
    return RunRow(
        run=run,
        title=slot_title(run.slot),
        steps=[
            _step(number, name, by_number.get(number), run)
            for number, name in enumerate(STEP_NAMES, start=1)
        ],
        steps_done=int(progress.get("timesteps", 0)),
        done_ratio=min(progress.get("timesteps", 0) / total, 1.0),
        steps_per_second=progress.get("steps_per_second"),
        reward=progress.get("mean_reward"),
        eta_seconds=progress.get("eta_seconds"),
        seconds=(ended - run.started_at).total_seconds() if ended and run.started_at else None,
    )


def _step(number: int, name: str, step: TrainingStep | None, run: TrainingRun) -> StepMark:
    if step is None:
        return StepMark(number, name, "waiting", None, "")
    if step.finished_at:
        seconds = (step.finished_at - step.started_at).total_seconds()
        return StepMark(number, name, "done", seconds, step.detail)
    open_states = {TrainingRun.State.QUEUED, TrainingRun.State.RUNNING}
    state = "running" if run.state in open_states else "failed"
    return StepMark(number, name, state, None, step.detail)
