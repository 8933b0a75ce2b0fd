"""A job's work in a process of its own, for what a worker should not hold for the rest of its life.

What was imported never leaves a process, and what a library's own allocator took seldom does: once
a day Parquet, once a month the allocator's statistics, once a day a network. A worker that had done
all three held 100 MB more until its next start.
"""

import json
import subprocess
import sys
from collections.abc import Callable

from django.conf import settings
from django.utils.module_loading import import_string

from tradingsite.errors import Degraded, cause_in
from tradingsite.models import JobRun
from tradingsite.scheduling.jobs import Fulfilled, NotWanted, Skipped

# By name, for they cross as text. The derived one first: it is the other as well.
_CHILD = (
    "import sys, django; django.setup(); "
    "from tradingsite.scheduling import child_process; child_process.main(*sys.argv[1:])"
)
PASSED_ON = {each.__name__: each for each in (Fulfilled, NotWanted, Skipped, Degraded)}


def apart(work: str) -> Callable[[JobRun], str]:
    """Return a job's work, named like "app.module.function", as it runs in its own process."""
    if not settings.JOBS_APART:
        found: Callable[[JobRun], str] = import_string(work)
        return found

    def body(run: JobRun) -> str:
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, work, str(run.pk)],
            cwd=settings.BASE_DIR,
            capture_output=True,
            text=True,
            timeout=settings.CELERY_TASK_TIME_LIMIT,
            check=False,
        )
        sys.stderr.write(done.stderr)
        if done.returncode:
            why = cause_in(done.stderr) or f"it ended with exit code {done.returncode}"
            raise Degraded(why)
        answer = json.loads(done.stdout.splitlines()[-1])
        if kind := answer.get("raised"):
            raise PASSED_ON[kind](answer["says"])
        return str(answer["says"])

    return body


def main(work: str, run_id: str) -> None:
    """Do the work here, and print what came of it as a line of JSON."""
    try:
        answer = {"says": import_string(work)(JobRun.objects.get(pk=run_id))}
    except tuple(PASSED_ON.values()) as error:
        kind = next(name for name, each in PASSED_ON.items() if isinstance(error, each))
        answer = {"raised": kind, "says": str(error)}
    sys.stdout.write(json.dumps(answer) + "\n")
