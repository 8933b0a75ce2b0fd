"""What a long-running process keeps of the memory that it once used."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# A large block that is freed has the C library keep the next ones, and a small one pins them.
SCRIPT = """
import threading
import {setup}
from pathlib import Path

def rss():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4 // 1024

kept = []
def work():
    large = bytearray(8 << 20)
    del large
    blocks = [bytearray(1 << 20) for _ in range(20)]
    kept.append([bytes(1000) for _ in range(20)])
before = rss()
threads = [threading.Thread(target=work) for _ in range(4)]
[each.start() for each in threads]
[each.join() for each in threads]
print(rss() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks glibc and /proc")
def test_what_threads_freed_goes_back_to_the_machine() -> None:
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(setup="tradingsite.memory as m; m.give_back()")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(run.stdout) < 20


def test_a_beat_loads_no_tasks_and_still_sends_them() -> None:
    script = (
        "import django; django.setup()\n"
        "import sys; from tradingsite.celery import app; app.loader.import_default_modules()\n"
        "print([each for each in sys.modules if each.endswith('.tasks') and each[:7] != 'asyncio'])"
    )
    found = {}
    for service in ("beat", "worker"):
        environment = {**os.environ, "NIGHTDESK_SERVICE": service}
        run = subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        found[service] = run.stdout.strip()
    assert found["beat"] == "[]"
    assert "training.tasks" in found["worker"]
