"""Training runs for tests, and the messages between their stages."""

import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from django.conf import settings

from bots.modelstore import services as modelstore
from bots.modelstore.keys import generate_keys, load_private_key
from bots.modelstore.models import Activation, ModelVersion
from markets.domain.features import schema_for
from tests.bots.modelstore.bundles import make_bundle
from tradingsite import clock
from tradingsite.celery import QUEUES, app
from tradingsite.models import Notice
from tradingsite.registry import SLOTS
from training import tasks
from training.models import TrainingRun
from training.pipeline import folders, prod_steps
from training.pipeline import runs as pipeline_runs

SLOT = SLOTS["btc-4h"]
UNTIL = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
TIMESTEPS = 2 * 64 * 128
"""Two rollouts, the least that a training shows its progress in."""


def make_run(timesteps: int = TIMESTEPS, **changes: Any) -> TrainingRun:
    """Create a run without sending a message."""
    run = pipeline_runs.enqueue(
        SLOT, "a test", clock.real(), timesteps=timesteps, until=UNTIL, send=False
    )
    assert run is not None
    for name, value in changes.items():
        setattr(run, name, value)
    run.save()
    return run


def fresh(run: TrainingRun) -> TrainingRun:
    """Return the run as it is stored now."""
    return TrainingRun.objects.get(pk=run.pk)


def finished(run: TrainingRun) -> list[int]:
    """Return the numbers of the steps that are done."""
    return list(run.steps.filter(finished_at__isnull=False).values_list("number", flat=True))


def champion(number: int = 1) -> ModelVersion:
    """Have a model that trades already, once: its row, without files."""
    version, _ = ModelVersion.objects.get_or_create(
        slot=SLOT.slug,
        number=number,
        defaults={
            "run_id": 0,
            "state": ModelVersion.State.ACTIVE,
            "path": f"{SLOT.slug}/v{number}",
            "manifest_sha256": "0" * 64,
            "trained_from": UNTIL,
            "trained_until": UNTIL,
            "created_at": UNTIL,
        },
    )
    Activation.objects.create(slot=SLOT.slug, model=version, at=UNTIL, market_at=UNTIL, by="test")
    return version


def the_notice() -> Notice:
    """Return the one notice about the slot's training."""
    return Notice.objects.get(key=f"training:{SLOT.slug}")


def messages() -> Iterator[tuple[str, list[Any], dict[str, Any]]]:
    """Take every message off the queues, as the workers would: task, arguments, headers."""
    with app.connection_for_write() as connection:
        found = True
        while found:
            found = False
            for name in QUEUES:
                box = connection.SimpleQueue(name)
                try:
                    message = box.get(block=False)
                except box.Empty:
                    continue
                message.ack()
                found = True
                headers = {**message.headers, "queue": name}
                yield headers["task"], message.payload[0], headers


def work_off() -> list[str]:
    """Do what the messages ask for, and what these ask for, in this process."""
    done = []
    for task, arguments, _ in messages():
        done.append(task.rpartition(".")[2])
        getattr(tasks, done[-1])(*arguments)
    return done


def sealed_run(steps: Callable[..., list[int]]) -> TrainingRun:
    """Return a run whose first four steps are done: a signed bundle lies in PC's outbox."""
    private = Path(settings.PC_DIR) / "keys" / "signing.pem"
    generate_keys(private, modelstore.keys_folder())

    def seal(run: TrainingRun) -> str:
        manifest = {"slot": SLOT.slug, "bot": "btc", "market": "btc", "timeframe": "4h"}
        manifest |= {"run_id": str(run.pk), "schema_hash": schema_for("btc", "4h").hash}
        make_bundle(folders.outbox(run), load_private_key(private), **manifest)
        return "signed"

    steps(hash=seal, verify=prod_steps.verify_and_activate)
    run = make_run()
    pipeline_runs.advance(run.pk, 1)
    pipeline_runs.advance(run.pk, 3)
    return run
