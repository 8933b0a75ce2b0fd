"""A hostile PC with its real password of the queue, on a Valkey of its own, and the honest one."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
import redis
from celery import Celery

from tradingsite.celery import WrongMachine, app
from tradingsite.embedded import launcher
from training.pc_access import queue as pc_queue

PASSWORD = "of PC's queue"


@pytest.fixture(scope="module")
def servers() -> Iterator[launcher.Addresses]:
    """Run servers of a desk of their own, as PROD has them."""
    folder = Path(tempfile.mkdtemp(prefix="nightdesk-test-"))
    folder.chmod(0o755)
    try:
        yield launcher.ensure(folder / "var")
    finally:
        for process in psutil.process_iter(["cmdline"]):
            if any(str(folder) in word for word in process.info["cmdline"] or ()):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
                    process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def prod(servers: launcher.Addresses, settings: Any) -> redis.Redis:
    """Return PROD's own connection, once PC's user is there."""
    settings.REDIS_URL = servers.redis
    assert pc_queue.apply(PASSWORD), "the embedded server keeps its users"
    queue = redis.Redis.from_url(servers.redis, decode_responses=True)
    queue.flushall()
    queue.execute_command("ACL LOG RESET")
    return queue


@pytest.fixture
def pc(prod: redis.Redis, servers: launcher.Addresses) -> redis.Redis:
    """Sign in as PC."""
    return redis.Redis(
        port=urlsplit(servers.redis).port or 0,
        username=pc_queue.USER,
        password=PASSWORD,
        protocol=2,
    )


def denied(call: Any, *words: Any) -> None:
    """Hold that the server refuses a call for want of a right."""
    with pytest.raises(redis.exceptions.NoPermissionError):
        call(*words)


# --- A2: one secret for two servers --------------------------------------------------------------


@pytest.mark.parametrize("user", ["nightdesk", "nightdesk_pc", "postgres"])
def test_the_queues_passwords_open_no_database(servers: launcher.Addresses, user: str) -> None:
    for password in (PASSWORD, urlsplit(servers.redis).password):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(
                host="127.0.0.1",
                port=urlsplit(servers.postgres).port,
                user=user,
                password=password,
                dbname="postgres",
            )


# --- A7: the queue's password gives control of PROD's workers ------------------------------------


def test_pc_reaches_its_own_queues_and_nothing_else(pc: redis.Redis, prod: redis.Redis) -> None:
    for queue in ("prod", "collect"):
        prod.lpush(queue, "a message")
        denied(pc.lpush, queue, "x")
        denied(pc.brpop, queue, 1)
        denied(pc.llen, queue)
        denied(pc.delete, queue)
        denied(pc.lpush, f"{queue}\x06\x163", "x")
    for key in ("unacked", "unacked_index", "_kombu.binding.prod", "_kombu.binding.celery.pidbox"):
        denied(pc.get, key)
        denied(pc.hget, key, "x")
        denied(pc.sadd, key, "x")
    assert prod.lrange("prod", 0, -1) == ["a message"]
    pc.lpush("gpu", "x")
    pc.lpush("pc\x06\x169", "x")


def test_pc_runs_no_command_of_an_administrator(pc: redis.Redis) -> None:
    for words in (
        ("CONFIG", "SET", "maxmemory", "1"),
        ("CONFIG", "GET", "*"),
        ("FLUSHALL",),
        ("SHUTDOWN",),
        ("KEYS", "*"),
        ("SCAN", "0"),
        ("ACL", "LIST"),
        ("ACL", "SETUSER", "nightdesk_pc", "allkeys"),
        ("MONITOR",),
        ("CLIENT", "KILL", "TYPE", "normal"),
        ("PUBLISH", "/0.celeryev/worker.heartbeat", "x"),
        ("SUBSCRIBE", "x"),
        ("EVAL", "return redis.call('GET', 'prod')", "0"),
        ("RENAME", "gpu", "prod"),
        ("COPY", "gpu", "prod"),
        ("REPLICAOF", "127.0.0.1", "1"),
    ):
        denied(pc.execute_command, *words)


def test_a_script_gives_pc_no_more(pc: redis.Redis, prod: redis.Redis) -> None:
    prod.set("secret", "x")
    digest = pc.script_load("return redis.call('GET', 'secret')")
    with pytest.raises(redis.exceptions.ResponseError, match=r"(?i)permission|can't access"):
        pc.evalsha(digest, 0)


def test_pc_controls_no_worker(prod: redis.Redis, servers: launcher.Addresses) -> None:
    of_pc = servers.redis.replace(
        f":{urlsplit(servers.redis).password}@", f"{pc_queue.USER}:of%20PC%27s%20queue@"
    )
    attacker = Celery("attacker", broker=of_pc, set_as_current=False)
    acts: tuple[Callable[[], object], ...] = (
        lambda: attacker.control.shutdown(),
        lambda: attacker.control.cancel_consumer("collect"),
        lambda: attacker.send_task("markets.tasks.refresh_token", queue="prod", retry=False),
    )
    for act in acts:
        with pytest.raises(Exception, match=r"(?i)permission|NOPERM"):
            act()
    assert prod.llen("prod") == 0
    assert app.conf.worker_enable_remote_control is False


def test_a_task_refuses_to_run_on_the_wrong_machine(settings: Any) -> None:
    app.loader.import_default_modules()
    settings.MACHINE = "prod"
    for name in ("training.tasks.train_on_pc", "training.tasks.archive_on_pc"):
        with pytest.raises(WrongMachine, match="is a task of pc, and this is prod"):
            app.tasks[name].apply(args=[1], throw=True)
    settings.MACHINE = "pc"
    for name in ("markets.tasks.refresh_token", "training.tasks.verify_and_activate"):
        with pytest.raises(WrongMachine, match="is a task of prod, and this is pc"):
            app.tasks[name].apply(args=["x"], throw=True)


HONEST = (
    "from celery import Celery\n"
    "import os\n"
    "app = Celery('honest', broker=os.environ['BROKER'])\n"
    "names = ('', '_index', '_mutex')\n"
    "unacked = {f'unacked{each}_key': f'pc.unacked{each}' for each in names}\n"
    "app.conf.update(worker_enable_remote_control=False, task_ignore_result=True,\n"
    "    broker_transport_options=unacked if os.environ.get('PC') else {})\n"
    "@app.task(name='touch', acks_late=True)\n"
    "def touch(path):\n"
    "    open(path, 'w').close()\n"
)
"""A worker's app that touches files, as PC's workers are set up."""


def test_an_honest_worker_takes_its_messages_by_these_rights(
    prod: redis.Redis, servers: launcher.Addresses, tmp_path: Path
) -> None:
    (tmp_path / "honest.py").write_text(HONEST)
    of_pc = servers.redis.replace(
        f":{urlsplit(servers.redis).password}@", f"{pc_queue.USER}:of%20PC%27s%20queue@"
    )
    worker = subprocess.Popen(
        [
            *(sys.executable, "-W", "ignore", "-m", "celery", "-A", "honest", "worker", "-Q"),
            *("gpu,pc", "-P", "solo", "--without-gossip", "--without-mingle"),
            "--without-heartbeat",
        ],
        cwd=tmp_path,
        env={**os.environ, "BROKER": of_pc, "PC": "1", "DJANGO_SETTINGS_MODULE": ""},
        stdout=subprocess.DEVNULL,
        stderr=(tmp_path / "log").open("w"),
    )
    sender = Celery("prod", broker=servers.redis, set_as_current=False)
    done = [tmp_path / name for name in ("gpu", "pc")]
    try:
        for path in done:
            sender.send_task("touch", args=[str(path)], queue=path.name)
        until = time.monotonic() + 60
        while not all(path.exists() for path in done):
            assert time.monotonic() < until and worker.poll() is None, (
                tmp_path / "log"
            ).read_text()
            time.sleep(0.2)
    finally:
        worker.terminate()
        worker.wait(30)
    assert prod.execute_command("ACL LOG") == [], "the server refused it nothing"
