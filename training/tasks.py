"""Training as Celery tasks: two scheduled jobs and the five stages of a run."""

from celery import shared_task
from django.conf import settings

from markets import store
from tradingsite import clock
from tradingsite.models import JobRun
from tradingsite.registry import BOTS
from tradingsite.scheduling import jobs
from training.pipeline import runs as pipeline_runs
from training.selection import demotion, evaluations


@shared_task(name="training.tasks.train_nifty")
def train_nifty(scheduled_for: str) -> None:
    """Train the NIFTY bot's slots, then the personal one, after a session."""
    jobs.perform("nifty-training", scheduled_for, lambda run: _train(run, "nifty", "personal"))


@shared_task(name="training.tasks.train_btc")
def train_btc(scheduled_for: str) -> None:
    """Train the BTC bot's slots."""
    jobs.perform("btc-training", scheduled_for, lambda run: _train(run, "btc"))


@shared_task(name="training.tasks.export_and_ship")
def export_and_ship(run_id: int) -> None:
    """Steps 1 and 2, on PROD."""
    pipeline_runs.advance_and_send(run_id, 1)


@shared_task(name="training.tasks.train_on_pc", acks_late=True, reject_on_worker_lost=True)
def train_on_pc(run_id: int) -> None:
    """Steps 3 and 4, on PC's GPU worker."""
    pipeline_runs.advance_and_send(run_id, 3)


@shared_task(name="training.tasks.verify_and_activate")
def verify_and_activate(run_id: int) -> None:
    """Step 5, on PROD."""
    pipeline_runs.advance_and_send(run_id, 5)


@shared_task(name="training.tasks.archive_on_pc")
def archive_on_pc(run_id: int) -> None:
    """Step 6, on PC."""
    pipeline_runs.advance_and_send(run_id, 6)


@shared_task(name="training.tasks.clean_up")
def clean_up(run_id: int) -> None:
    """Step 7."""
    pipeline_runs.advance_and_send(run_id, 7)


@shared_task(name="training.tasks.evaluate", acks_late=True, reject_on_worker_lost=True)
def evaluate(evaluation_id: int) -> None:
    """Walk a recipe forward, on PC's GPU worker."""
    evaluations.perform(evaluation_id)


@shared_task(name="training.tasks.demote")
def demote(scheduled_for: str) -> None:
    """Send models back that do worse live than their recipe ever did, where that is asked for."""
    jobs.perform("demotion", scheduled_for, demotion.run_for_job)


def _train(run: JobRun, *bots: str) -> str:
    calendar = store.load_calendar(BOTS[bots[0]].market)
    day = clock.trading_date(run.scheduled_for)
    if calendar.session_on(day) is None:
        raise jobs.Skipped(f"no session on {day:%d %b %Y}, so there is nothing new to learn")
    queued: list[str] = []
    left: list[str] = []
    for slot in (slot for bot in bots for slot in BOTS[bot].slots):
        reason = pipeline_runs.untrainable_reason(slot) or pipeline_runs.nothing_new(
            slot, run.scheduled_for
        )
        if reason is None and not pipeline_runs.enqueue(
            slot, run.job, run.scheduled_for, timesteps=settings.TRAIN_TIMESTEPS
        ):
            reason = "a run of it is still going"
        (left if reason else queued).append(f"{slot.slug} ({reason})" if reason else slot.slug)
    done = f"queued {', '.join(queued)}" if queued else "nothing queued"
    return f"{done}; left out {', '.join(left)}" if left else done
