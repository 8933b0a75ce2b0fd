"""The seven steps from PROD's bars to a model that trades, across two machines.

    1 export    PROD   bars and features of the slot, one snapshot, with hashes
    2 ship      PROD   the export to PC
    3 train     PC     into PC's own database, then PPO; exported as two ONNX graphs
    4 hash      PC     sha256 of every file, the manifest signed
    5 verify    PROD   shipped back, checked, loaded in a process of its own, activated
    6 archive   PC     the bundle by its time; pushed to the owner's git remote, where there is one
    7 clean     both   what is no longer needed; PROD keeps the active and the previous model

Each stage runs where its files are, in a task of its own, under the run's lease; a message carries
only the run's id. PC, where it is another machine, has no right to PROD's queue: its monitor sees
that PC is done and asks for the next stage itself. A stage repeated by a second message finds its
steps done, or the lease held, and does nothing. A worker that dies leaves a lapsed lease, which
`recover_lapsed` takes up.
"""

import datetime as dt
import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from celery import current_app
from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from bots.modelstore import services as modelstore
from bots.services import own_trades
from markets.domain.features import schema_for
from markets.models import Feature
from tradingsite import clock, notices
from tradingsite.errors import Degraded, cause_in
from tradingsite.registry import BOTS, SLOTS, Slot
from tradingsite.scheduling import leases
from tradingsite.supervision import heartbeat
from tradingsite.supervision.services import consumer_of
from training.evaluation.splits import TooFewBars
from training.models import TrainingRun, TrainingStep
from training.pipeline import pc_copy, pc_steps, prod_steps
from training.pipeline.dataset import StaleCopy

STEPS = ("export", "ship", "train", "hash", "verify", "archive", "clean")
MAX_ATTEMPTS = 3
# A message may be lost with its queue; a stage that has not begun by then is asked for again.
RESEND_AFTER = dt.timedelta(minutes=3)
# While a worker is busy the asking again adds up, so messages do not wait for longer than this.
MESSAGE_EXPIRES_SECONDS = 2 * RESEND_AFTER.total_seconds()
OPEN = (TrainingRun.State.QUEUED, TrainingRun.State.RUNNING)

# The advisory lock of whoever creates a run.
ENQUEUING = 7_303

log = logging.getLogger(__name__)

# By run: the lease for which this process has asked for its stage again, and when.
_resent: dict[int, tuple[int, dt.datetime]] = {}

# The first steps of PROD's stages, and what this process has asked for of them.
PROD_STAGES = (1, 5, 7)
_sent_to_prod: dict[int, tuple[int, int]] = {}

# The first step of each stage, the task that runs it and the steps it does.
STAGES: dict[int, tuple[str, tuple[Callable[[TrainingRun], str], ...]]] = {
    1: ("training.tasks.export_and_ship", (prod_steps.export, prod_steps.ship)),
    3: ("training.tasks.train_on_pc", (pc_steps.train, pc_steps.seal)),
    5: ("training.tasks.verify_and_activate", (prod_steps.verify_and_activate,)),
    6: ("training.tasks.archive_on_pc", (pc_steps.archive_bundle,)),
    7: ("training.tasks.clean_up", (prod_steps.clean_up,)),
}


def enqueue(
    slot: Slot,
    trigger: str,
    scheduled_for: dt.datetime,
    *,
    timesteps: int,
    until: dt.datetime | None = None,
    seed: int = 0,
    send: bool = True,
) -> TrainingRun | None:
    """Create a run and ask for its first stage; None when this firing or another run is there."""
    # A job that is fired twice, and a person beside a job: one run of a slot at a time.
    same_firing = Q(trigger=trigger, scheduled_for=scheduled_for)
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [ENQUEUING])
        runs = TrainingRun.objects.filter(slot=slot.slug)
        if runs.filter(same_firing | Q(state__in=OPEN)).exists():
            return None
        run = TrainingRun.objects.create(
            slot=slot.slug,
            trigger=trigger,
            scheduled_for=scheduled_for,
            until=until or scheduled_for,
            timesteps=timesteps,
            seed=seed,
            created_at=clock.real(),
        )
    if send:
        send_next(run)
    return run


def untrainable_reason(slot: Slot) -> str | None:
    """Return why a slot cannot be trained, or None when it can."""
    if BOTS[slot.bot].learns_from_owner and not own_trades(slot.market):
        return "the owner traded nothing by hand yet: import his book (manage.py importtrades)"
    schema = schema_for(slot.market, slot.timeframe).hash
    stored = Feature.on(slot.market).objects.filter(timeframe=slot.timeframe, schema=schema)
    if not stored.exists():
        return f"{slot.market} has no {slot.timeframe} bars: import or generate some first"
    return None


def nothing_new(slot: Slot, at: dt.datetime) -> str | None:
    """Return why a scheduled training would learn nothing new, or None where it would.

    BTC is trained every two hours, and a bar of four hours closes half as often.
    """
    last = TrainingRun.objects.filter(slot=slot.slug, state=TrainingRun.State.DONE)
    learned_until = last.order_by("-until").values_list("until", flat=True).first()
    if learned_until is None:
        return None
    newest = Feature.on(slot.market).objects.filter(
        timeframe=slot.timeframe, closes_at__gt=learned_until, closes_at__lte=at
    )
    return None if newest.exists() else "no new bar since its last training"


def enqueue_missing(timesteps: int) -> int:
    """Ask for a first model of every slot that has data and no model; return how many."""
    missing = [slot for slot in SLOTS.values() if not modelstore.active(slot.slug)]
    runs = [
        enqueue(slot, "first start", clock.market(), timesteps=timesteps)
        for slot in missing
        if untrainable_reason(slot) is None
    ]
    return len([run for run in runs if run])


def advance(run_id: int, first_step: int) -> TrainingRun | None:
    """Run one stage of a run under its lease; None when it is not this stage's turn.

    A `Degraded` error refuses the run with its sentence; any other fails it with its traceback and
    is raised. Either way the model in use keeps trading.
    """
    run = TrainingRun.objects.get(pk=run_id)
    if run.slot not in SLOTS:  # every path is made of it
        raise Degraded(f"{run} is of no slot of the registry")
    # Before the claim, so that a message that came twice costs no fencing number.
    if _next_step(run) != first_step:
        return None
    claimed = leases.claim(run, state__in=OPEN)
    if claimed is None:
        return None
    try:
        if _next_step(claimed) != first_step:  # another message's worker did it meanwhile
            leases.release(claimed)
            return None
        leases.write(
            claimed,
            state=TrainingRun.State.RUNNING,
            attempts=claimed.attempts + 1,
            started_at=claimed.started_at or clock.real(),
        )
        _perform(claimed, first_step)
    except leases.LeaseLost:
        log.warning("%s was taken over in step %d; its work is dropped", claimed, first_step)
        return None
    return claimed


def advance_and_send(run_id: int, first_step: int) -> None:
    """Run one stage and ask for the next: the body of every stage's task."""
    run = advance(run_id, first_step)
    if run is not None and run.state == TrainingRun.State.RUNNING and settings.MACHINE != "pc":
        send_next(run)


def send_stages_after_pc() -> int:
    """On PROD: ask for the stages that wait for it; return how many were asked for.

    PC gave such a run back, done with its own part or to begin again. Each is asked for once: a
    message that is lost is `recover_lapsed`'s to notice.
    """
    asked = 0
    for run in TrainingRun.objects.filter(state=TrainingRun.State.RUNNING, lease_until=None):
        wants = (_next_step(run), run.fence)
        if wants[0] in PROD_STAGES and _sent_to_prod.get(run.pk) != wants:
            _sent_to_prod[run.pk] = wants
            send_next(run)
            asked += 1
    return asked


def run_in_place(run: TrainingRun) -> TrainingRun:
    """Run every remaining stage in this process, where no worker serves the queues."""
    for first_step in (*STAGES, *STAGES):  # twice, for a run that had to begin again
        advance(run.pk, first_step)
    run.refresh_from_db()
    return run


def send_next(run: TrainingRun) -> None:
    """Put the message of a run's next stage on its queue."""
    task = STAGES[_next_step(run)][0]
    current_app.send_task(task, args=[run.pk], expires=MESSAGE_EXPIRES_SECONDS)


def recover_lapsed() -> int:
    """Take up runs whose worker died or whose message was lost; return how many.

    The stage is asked for again; a run that keeps dying is failed, with a notice, and the model in
    use keeps trading.
    """
    now = clock.real()
    lapsed = TrainingRun.objects.filter(lease_until__lt=Now(), state__in=OPEN)
    unasked = TrainingRun.objects.filter(lease_until__isnull=True, state__in=OPEN)
    waiting = [run for run in unasked if _last_activity(run) < now - RESEND_AFTER]
    return sum(_recover(run, now) for run in (*lapsed, *waiting))


def _recover(run: TrainingRun, now: dt.datetime) -> bool:
    """Ask for a run's stage again unless that was done lately, or fail it; say whether it was."""
    if run.attempts >= MAX_ATTEMPTS:
        died = f"its worker died {run.attempts} times in step {STEPS[_next_step(run) - 1]}"
        return fail_unleased(run, died)
    fence, at = _resent.get(run.pk, (-1, now))
    if fence == run.fence and now - at < RESEND_AFTER:
        return False
    if fence != run.fence:  # said once: a worker may be busy with another slot for hours
        worker = consumer_of(_queue_of(run))
        if run.lease_until is not None:
            log.warning("%s lost its worker; its stage is asked for again", run)
        elif not heartbeat.is_alive(worker.name):
            log.warning("%s has no worker: no %s is running; it waits for one", run, worker.title)
    _resent[run.pk] = (run.fence, now)
    send_next(run)
    return True


def _queue_of(run: TrainingRun) -> str:
    route = settings.CELERY_TASK_ROUTES.get(STAGES[_next_step(run)][0], {})
    return str(route.get("queue", settings.CELERY_TASK_DEFAULT_QUEUE))


def fail_unleased(run: TrainingRun, reason: str) -> bool:
    """Fail an open run that no worker holds; return False where one does."""
    claimed = leases.claim(run, state__in=OPEN)
    if claimed is None:
        return False
    _end(claimed, TrainingRun.State.FAILED, reason)
    return True


def cancel(run_id: int, by: str) -> TrainingRun:
    """End an open run, whoever works on it; raise Degraded where it is not open.

    Its worker is fenced out: it stops at its next word about the training, within seconds, and can
    publish nothing.
    """
    ended = TrainingRun.objects.filter(pk=run_id, state__in=OPEN).update(
        state=TrainingRun.State.CANCELLED,
        detail=f"cancelled by {by}",
        finished_at=clock.real(),
        lease_until=None,
        fence=F("fence") + 1,
    )
    run = TrainingRun.objects.filter(pk=run_id).first()
    if run is None:
        raise Degraded(f"there is no training run {run_id}")
    if not ended:
        raise Degraded(f"{run} is {run.state} already")
    return run


def abandon(market: str) -> int:
    """End a market's open runs, whoever works on them: what they learn from is no more."""
    slots = [slot.slug for slot in SLOTS.values() if slot.market == market]
    return TrainingRun.objects.filter(slot__in=slots, state__in=OPEN).update(
        state=TrainingRun.State.REFUSED,
        detail="the market's generated bars gave way to imported ones while it ran",
        finished_at=clock.real(),
        lease_until=None,
        fence=F("fence") + 1,  # its worker may write no more
    )


def _perform(run: TrainingRun, first_step: int) -> None:
    """Do a stage's steps and give the lease back with the outcome."""
    try:
        with leases.kept(run):
            for number, step in enumerate(STAGES[first_step][1], start=first_step):
                with _record_step(run, number) as record:
                    record.detail = step(run)
    except leases.LeaseLost:
        raise
    except StaleCopy as error:
        # PC lost rows that it had: the run begins again, and everything is sent, once.
        if pc_copy.forget_holding(run):
            log.warning("%s: %s; it is exported anew, whole", run, error)
            leases.release(run)
        else:
            _end(run, TrainingRun.State.REFUSED, str(error))
    except (Degraded, TooFewBars) as error:
        _end(run, TrainingRun.State.REFUSED, str(error))
    except Exception:
        _end(run, TrainingRun.State.FAILED, traceback.format_exc(limit=-4))
        raise
    else:
        if first_step < max(STAGES):
            leases.patiently(lambda: leases.release(run, attempts=0))
            return
        leases.release(run, state=TrainingRun.State.DONE, finished_at=clock.real())
        notices.resolve(f"training:{run.slot}")


def _last_activity(run: TrainingRun) -> dt.datetime:
    last = run.steps.order_by("number").last()
    return (last.finished_at or last.started_at) if last else run.created_at


def _next_step(run: TrainingRun) -> int:
    done = set(run.steps.filter(finished_at__isnull=False).values_list("number", flat=True))
    # The first that is missing, not how many are there: no later step stands for an earlier one.
    missing = next((step for step in range(1, len(STEPS)) if step not in done), len(STEPS))
    # A stage of two steps is begun from its first, whatever of it was done.
    return max(step for step in STAGES if step <= missing)


@contextmanager
def _record_step(run: TrainingRun, number: int) -> Iterator[TrainingStep]:
    record, _ = TrainingStep.objects.update_or_create(
        run=run,
        number=number,
        defaults={
            "name": STEPS[number - 1],
            "started_at": clock.real(),
            "finished_at": None,
            "detail": "",
        },
    )
    yield record

    def finish() -> None:
        with transaction.atomic():
            leases.write(run, progress=run.progress)  # raises when another worker took it over
            record.finished_at = clock.real()
            record.save(update_fields=["finished_at", "detail"])

    leases.patiently(finish)


def _end(run: TrainingRun, state: str, detail: str) -> None:
    leases.release(run, state=state, detail=detail, finished_at=clock.real())
    notices.notify(
        "infrastructure",
        "critical",
        f"training:{run.slot}",
        f"{run.slot} training run {run.pk} {'was refused' if state == 'refused' else 'failed'}: "
        f"{cause_in(detail).removesuffix('.')}. {_describe_active_model(run)}",
    )


def _describe_active_model(run: TrainingRun) -> str:
    current = modelstore.active(run.slot)
    if current is None:
        return "Nothing was activated; the slot has no model and holds flat."
    if current.run_id == run.pk:
        return f"Its model is whole and was activated before: v{current.number} trades."
    return f"Nothing was activated; v{current.number} keeps trading."
