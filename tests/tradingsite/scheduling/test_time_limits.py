"""Time limits in a pool of threads, by a real worker."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from celery import Celery
from django.conf import settings

from tradingsite.scheduling import time_limits

WORKER = """
import os, socket, threading, time
import django
django.setup()
from celery import Celery
from celery.signals import worker_init
from django.conf import settings
from tradingsite.scheduling import time_limits

app = Celery("limited", broker=settings.REDIS_URL)
app.conf.update(worker_enable_remote_control=False, task_ignore_result=True,
                broker_transport_options={"global_keyprefix": os.environ["KEYS"]})
settings.TASK_LIMITS = {"loops": 1, "hangs": 1}
time_limits.GRACE_SECONDS = 2.0

@worker_init.connect
def keep(**kwargs):
    time_limits.keep()

@app.task(name="loops")
def loops(path):
    try:
        while True:
            time.sleep(0.05)
    finally:
        open(path, "w").write("ended")

@app.task(name="hangs")
def hangs(path):
    ours, theirs = socket.socketpair()
    ours.recv(1)  # a call that nothing interrupts

@app.task(name="quick")
def quick(path):
    open(path, "w").write("done")
"""


@pytest.fixture
def prefix() -> str:
    return f"{settings.CELERY_BROKER_TRANSPORT_OPTIONS['global_keyprefix']}limits_"


def wait(path: Path, worker: "subprocess.Popen[bytes]", seconds: float = 40.0) -> str:
    """Return what a task wrote."""
    until = time.monotonic() + seconds
    while not path.exists() or not path.read_text():
        assert time.monotonic() < until and worker.poll() is None
        time.sleep(0.1)
    return path.read_text()


def test_a_task_over_its_limit_ends_and_one_that_hangs_ends_the_worker(
    tmp_path: Path, prefix: str
) -> None:
    (tmp_path / "limited.py").write_text(WORKER)
    environment = {
        **os.environ,
        "KEYS": prefix,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "PYTHONPATH": os.pathsep.join([str(settings.BASE_DIR), str(tmp_path)]),
    }
    worker = subprocess.Popen(
        [
            *(sys.executable, "-W", "ignore", "-m", "celery", "-A", "limited", "worker"),
            *("-P", "threads", "-c", "2", "--without-gossip", "--without-mingle"),
            "--without-heartbeat",
        ],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=(tmp_path / "log").open("w"),
    )
    sender = Celery("sender", broker=settings.REDIS_URL, set_as_current=False)
    sender.conf.broker_transport_options = {"global_keyprefix": prefix}
    try:
        sender.send_task("loops", args=[str(tmp_path / "loops")])
        assert wait(tmp_path / "loops", worker) == "ended"
        sender.send_task("quick", args=[str(tmp_path / "quick")])
        assert wait(tmp_path / "quick", worker) == "done", "its thread works on"
        sender.send_task("hangs", args=[str(tmp_path / "hangs")])
        assert worker.wait(40) == time_limits.EXIT_STATUS
    finally:
        worker.kill()
        worker.wait()
    assert "hangs does not end: the worker does" in (tmp_path / "log").read_text()


def test_what_has_no_limit_of_its_own_has_the_one_for_all() -> None:
    assert time_limits.limit_of("markets.tasks.collect_options") == 120
    assert time_limits.limit_of("of.no.table") == settings.CELERY_TASK_SOFT_TIME_LIMIT
