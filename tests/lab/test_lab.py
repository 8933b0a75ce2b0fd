"""The whole pipeline between two machines, with the real tools, and what may go wrong between them.

After each fault the model that traded goes on trading, nothing that was not verified is in the
store, and the next run succeeds. The quick ones run with every test; `make lab` runs all.
"""

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.machines import Lab, laboratory, may_make_networks, missing_tools, wait
from tests.tools import missing

whole = pytest.mark.whole

MARKET = """
from markets import store
from markets.models import Source
from tests import histories
store.save_bars("btc", "4h", histories.four_hours(1_100), Source.IMPORTED)
store.rebuild_features("btc", "4h")
print("null")
"""
BEGIN = """
import datetime as dt, sys
from tradingsite import clock
from tradingsite.registry import SLOTS
from training.pipeline import runs as pipeline
run = pipeline.enqueue(SLOTS["btc-4h"], "the lab", clock.real(), timesteps=int(sys.argv[1]),
                       until=dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
print(run.pk)
"""
LOOK = """
import sys
from bots.modelstore import services as modelstore
from bots.modelstore.models import ModelVersion
from training.models import TrainingRun
run = TrainingRun.objects.get(pk=int(sys.argv[1]))
active = modelstore.active("btc-4h")
print(json.dumps({
    "state": run.state, "detail": run.detail, "timesteps": run.progress.get("timesteps", 0),
    "steps": {step.name: step.detail for step in run.steps.filter(finished_at__isnull=False)},
    "active": active and active.number, "active_run": active and active.run_id,
    "versions": ModelVersion.objects.count(),
}))
"""
RECOVER = """
import datetime as dt
from tradingsite import clock
from training.pipeline import runs as pipeline
from training.models import TrainingRun, TrainingStep
# As if the time had passed after which a message is taken for lost.
ago = clock.real() - dt.timedelta(minutes=10)
TrainingRun.objects.update(created_at=ago)
TrainingStep.objects.filter(finished_at__isnull=False).update(finished_at=ago)
print(pipeline.recover_lapsed())
"""
LAPSE = """
import datetime as dt
from tradingsite import clock
from training.models import TrainingRun
ago = clock.real() - dt.timedelta(seconds=1)
held = TrainingRun.objects.filter(state="running", lease_until__isnull=False)
print(held.update(lease_until=ago))
"""
QUICK, LONG, ENDLESS = "16384", "400000", "100000000"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    if lacks := missing_tools():
        missing(", ".join(lacks))
    if not may_make_networks():
        pytest.skip("this machine may not make network namespaces")
    folder = tmp_path_factory.mktemp("lab")
    for parent in (folder, *folder.parents[:2]):
        parent.chmod(0o755)  # the embedded servers run as nobody
    with laboratory(folder) as made:
        made.prod.python(MARKET)
        yield made


def begin(lab: Lab, timesteps: str = QUICK) -> str:
    """Ask for a training and return its number."""
    return str(lab.prod.python(BEGIN, timesteps))


def look(lab: Lab, run: str) -> dict[str, Any]:
    """Return how a run stands, as PROD has it."""
    found: dict[str, Any] = lab.prod.python(LOOK, run)
    return found


def ended(lab: Lab, run: str, seconds: float = 90.0) -> dict[str, Any]:
    """Wait for a run's end and return how it stands."""
    found: dict[str, Any] = {}

    def is_over() -> bool:
        found.update(look(lab, run))
        return found["state"] not in ("queued", "running")

    try:
        wait(is_over, seconds, f"the end of run {run}")
    except AssertionError as error:
        logs = [
            f"--- {name} on {machine.name}\n{machine.log(name)[-2_000:]}"
            for machine in (lab.prod, lab.pc)
            for name in machine.processes
        ]
        raise AssertionError(f"{error}: {found}\n" + "\n".join(logs)) from error
    return found


def begin_done(lab: Lab) -> str:
    """Run a training to its end and return its number."""
    run = begin(lab)
    found = ended(lab, run)
    assert found["state"] == "done", found["detail"]
    return run


def at(lab: Lab, run: str, step: str, seconds: float = 60.0) -> None:
    """Wait until a step of a run is done."""
    wait(lambda: step in look(lab, run)["steps"], seconds, f"{step} of run {run}")


def trains(lab: Lab, run: str) -> None:
    """Wait until a run is in the midst of its training."""

    def is_training() -> bool:
        found = look(lab, run)
        assert found["state"] in ("queued", "running"), found
        return bool(found["timesteps"] > 0)

    wait(is_training, 90.0, f"progress of run {run}")


def leftovers(lab: Lab) -> list[str]:
    """Return what lies in the folders of work under way, on both machines."""
    places = [
        *(lab.prod.folder / "var" / "prod" / name for name in ("exports", "incoming")),
        *(lab.pc.folder / "var" / "pc" / name for name in ("link/inbox", "link/outbox", "work")),
    ]
    return [str(path) for place in places if place.is_dir() for path in place.iterdir()]


def kilobytes(found: dict[str, Any]) -> int:
    """Return what shipping moved."""
    return int(found["steps"]["ship"].split()[0].replace(",", ""))


def test_from_prods_bars_by_pcs_training_to_a_model_that_trades(lab: Lab) -> None:
    first = ended(lab, run := begin(lab))
    assert first["state"] == "done", first["detail"]
    assert (first["active"], first["active_run"]) == (1, int(run))
    assert first["steps"]["ship"].endswith("kB over ssh")
    assert "work folders removed" in first["steps"]["archive"]
    assert leftovers(lab) == []
    assert [path.name for path in (lab.prod.folder / "var").glob("pc/*")] == []
    assert len(list((lab.pc.folder / "var" / "pc" / "archive" / "btc-4h").iterdir())) == 1

    # The second run moves only what is new: nothing, but for what the protocol says.
    second = ended(lab, begin(lab))
    assert second["state"] == "done", second["detail"]
    assert second["active"] == 2
    assert kilobytes(second) * 5 < kilobytes(first)


def test_a_model_that_only_pc_has_is_fetched_verified_and_trades(lab: Lab) -> None:
    before = ended(lab, begin(lab))
    assert before["active"] and before["state"] == "done"
    subprocess.run(["rm", "-r", str(lab.prod.folder / "var/prod/models/btc-4h/v1")], check=False)
    said = lab.prod.manage("models", "rollback", "btc-4h", "1", "--yes")
    assert "v1" in said
    assert (lab.prod.folder / "var" / "prod" / "models" / "btc-4h" / "v1").is_dir()
    # From here on new models wait behind the rollback, until somebody says otherwise.
    lab.prod.manage("models", "activate", "btc-4h", str(before["active"]), "--yes")


def test_pcs_services_report_and_do_nothing_that_the_queue_refuses(lab: Lab) -> None:
    begin_done(lab)
    script = """
import redis
from django.conf import settings
from tradingsite.supervision import heartbeat
queue = redis.Redis.from_url(settings.REDIS_URL, decode_responses=True)
print(json.dumps([
    sorted(name for name in ("gpu-worker", "pc-worker") if heartbeat.is_alive(name)),
    [[each["reason"], each["object"]] for each in queue.acl_log()],
]))
"""
    assert lab.prod.python(script) == [["gpu-worker", "pc-worker"], []]


def test_pc_may_not_see_who_may_sign_in(lab: Lab) -> None:
    script = """
from django.contrib.auth.models import User
from django.db import ProgrammingError
from training.models import TrainingRun
try:
    print(json.dumps(["users", User.objects.count()]))
except ProgrammingError as error:
    print(json.dumps([str(error).splitlines()[0], TrainingRun.objects.count() >= 0]))
"""
    assert lab.pc.python(script) == ["permission denied for table auth_user", True]


def test_a_machine_that_shows_another_key_is_given_nothing(lab: Lab) -> None:
    begin_done(lab)
    known = Path(lab.prod.environment["PC_KNOWN_HOSTS"])
    pinned = known.read_text()
    another = Path(lab.prod.environment["PC_SSH_KEY"] + ".pub").read_text()
    known.write_text(f"{pinned.split(' ')[0]} {another}")
    try:
        found = ended(lab, begin(lab))
    finally:
        known.write_text(pinned)
    assert found["state"] == "refused" and "does not show the host key" in found["detail"]
    assert found["active"] and "ship" not in found["steps"]


def test_a_machine_that_does_not_take_our_key_is_told(lab: Lab) -> None:
    taken = lab.pc.folder / "ssh" / "authorized_keys"
    ours = taken.read_text()
    taken.write_text("")
    try:
        found = ended(lab, begin(lab))
    finally:
        taken.write_text(ours)
    assert found["state"] == "refused" and "does not take the key" in found["detail"]


def test_pc_that_lost_its_database_is_sent_everything_again(lab: Lab) -> None:
    lab.pc.python("""
from markets.models import Bar
print(Bar.on("pc_btc").objects.all().delete()[0])
""")
    found = ended(lab, begin(lab))
    assert found["state"] == "done", found["detail"]
    assert kilobytes(found) > 50


def test_a_full_disk_on_pc_refuses_the_run_and_the_next_succeeds(lab: Lab) -> None:
    before = ended(lab, begin(lab))
    lab.prod.python("from training.models import Copy; Copy.objects.all().delete(); print(0)")
    with lab.full_disk(lab.pc, "sshd", lab.pc.folder / "var" / "pc" / "link" / "inbox"):
        found = ended(lab, begin(lab))
    assert found["state"] == "refused" and "no disk space" in found["detail"]
    assert found["active"] == before["active"]
    assert ended(lab, begin(lab))["state"] == "done"


@whole
def test_a_full_disk_on_prod_refuses_the_run_and_the_next_succeeds(lab: Lab) -> None:
    before = ended(lab, begin(lab))
    incoming = lab.prod.folder / "var" / "prod" / "incoming"
    with lab.full_disk(lab.prod, "prod,collect", incoming):
        found = ended(lab, begin(lab))
    assert found["state"] == "refused" and "no disk space" in found["detail"]
    assert (found["active"], found["versions"]) == (before["active"], before["versions"])
    assert ended(lab, begin(lab))["state"] == "done"


@whole
@pytest.mark.parametrize("step", ["export", "train"])
def test_a_link_cut_before_a_transfer_costs_only_time(lab: Lab, step: str) -> None:
    run = begin(lab, LONG if step == "train" else QUICK)
    if step == "train":
        trains(lab, run)
    lab.cut()
    time.sleep(25)
    lab.mend()
    found = ended(lab, run, 240)
    assert found["state"] == "done", found["detail"]
    assert found["active_run"] == int(run)


@whole
def test_a_killed_rsync_is_begun_again(lab: Lab) -> None:
    lab.prod.python("from training.models import Copy; Copy.objects.all().delete(); print(0)")
    lab.prod.kill("prod,collect", signal.SIGTERM)
    lab.prod.environment["LINK_KBPS"] = "20"
    lab.prod.start_worker("prod,collect")
    run = begin(lab)
    at(lab, run, "export")
    wait(lambda: subprocess.run(["pkill", "-KILL", "rsync"]).returncode == 0, 20, "an rsync")
    found = ended(lab, run, 180)
    lab.prod.kill("prod,collect", signal.SIGTERM)
    del lab.prod.environment["LINK_KBPS"]
    lab.prod.start_worker("prod,collect")
    assert found["state"] == "done", found["detail"]


@whole
@pytest.mark.parametrize("after", ["export", "hash"])
def test_prods_worker_killed_between_the_steps_is_replaced(lab: Lab, after: str) -> None:
    before = look(lab, begin_done(lab))
    run = begin(lab)
    at(lab, run, after)
    lab.prod.kill("prod,collect")
    found = look(lab, run)
    assert found["active"] in (before["active"], before["active"] + 1)
    lab.prod.start_worker("prod,collect")
    lab.prod.python(LAPSE)
    lab.prod.python(RECOVER)
    found = ended(lab, run, 120)
    assert found["state"] == "done", found["detail"]
    assert found["active_run"] == int(run)


@whole
def test_the_same_message_five_times_trains_once(lab: Lab) -> None:
    run = begin(lab)
    lab.prod.python(
        """
import sys
from celery import current_app
for _ in range(5):
    current_app.send_task("training.tasks.export_and_ship", args=[int(sys.argv[1])])
    current_app.send_task("training.tasks.train_on_pc", args=[int(sys.argv[1])])
print(0)
""",
        run,
    )
    found = ended(lab, run)
    assert found["state"] == "done", found["detail"]
    after = look(lab, run)
    assert after["versions"] == found["versions"]


@whole
def test_a_worker_killed_in_its_training_is_taken_over(lab: Lab) -> None:
    run = begin(lab, LONG)
    trains(lab, run)
    lab.pc.kill("gpu")
    lab.pc.start_worker("gpu")
    assert lab.prod.python(LAPSE) == 1
    assert lab.prod.python(RECOVER) == 1
    found = ended(lab, run, 240)
    assert found["state"] == "done", found["detail"]


@whole
def test_a_flushed_queue_costs_a_message_which_is_sent_again(lab: Lab) -> None:
    lab.pc.kill("gpu", signal.SIGTERM)
    run = begin(lab)
    at(lab, run, "ship")
    lab.prod.python("""
import redis
from django.conf import settings
print(int(redis.Redis.from_url(settings.REDIS_URL).flushall()))
""")
    lab.pc.start_worker("gpu")
    assert lab.prod.python(RECOVER) == 1
    found = ended(lab, run)
    assert found["state"] == "done", found["detail"]


@whole
def test_two_slots_train_side_by_side_on_two_workers(lab: Lab) -> None:
    lab.prod.python("""
from markets import store
from markets.models import Source
from tests import histories
store.save_bars("btc", "1h", histories.hours(3_000), Source.IMPORTED)
store.rebuild_features("btc", "1h")
print(0)
""")
    lab.pc.start("gpu2", *gpu_worker())
    other = BEGIN.replace('SLOTS["btc-4h"]', 'SLOTS["btc-1h"]')
    # No machine is so fast that the first is over before the second begins: neither ends by itself.
    runs = [begin(lab, ENDLESS), str(lab.prod.python(other, ENDLESS))]
    for run in runs:
        trains(lab, run)
    assert [look(lab, run)["state"] for run in runs] == ["running", "running"]
    for run in runs:
        lab.prod.manage("trainbot", "--cancel", run)
    assert [ended(lab, run)["state"] for run in runs] == ["cancelled", "cancelled"]
    runs = [begin(lab), str(lab.prod.python(other, QUICK))]
    assert [ended(lab, run, 400)["state"] for run in runs] == ["done", "done"]


def gpu_worker() -> tuple[str, ...]:
    """Return the command of a second GPU worker."""
    import sys

    return (
        *(sys.executable, "-W", "ignore", "-m", "celery", "-A", "tradingsite", "-q", "worker"),
        *("-Q", "gpu", "-n", "gpu2@pc", "-P", "prefork", "-c", "1", "-l", "WARNING"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    )
