"""Settings of the tests: the real settings on databases, a data folder and a queue of their own.

The servers are the configured ones, else the embedded ones of this checkout, shared with the desk;
the databases are copies of a migrated template, named after the process that runs the tests, so
that several runs do not meet. What a test starts as a process of its own inherits all of it.
"""

import os
import tempfile
from pathlib import Path

from tradingsite import clock, databases
from tradingsite.embedded import launcher

CHECKOUT = Path(__file__).resolve().parent.parent
TEST_FOLDER_IS_OURS = "NIGHTDESK_TEST_FOLDER" not in os.environ
if TEST_FOLDER_IS_OURS:
    os.environ["NIGHTDESK_TEST_FOLDER"] = tempfile.mkdtemp(prefix=f"nightdesk-tests-{os.getpid()}-")
    os.environ["NIGHTDESK_TEST_RUN"] = str(os.getpid())
TEST_FOLDER = Path(os.environ["NIGHTDESK_TEST_FOLDER"])
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "main")
PREFIX = f"test_nightdesk_{os.environ['NIGHTDESK_TEST_RUN']}_{WORKER}_"

if not (os.environ.get("DATABASE_URL") and os.environ.get("REDIS_URL")):
    _addresses = launcher.ensure(CHECKOUT / "var")
    os.environ["DATABASE_URL"] = os.environ.get("DATABASE_URL") or _addresses.postgres
    os.environ["REDIS_URL"] = os.environ.get("REDIS_URL") or _addresses.redis
# Said here, so that an owner's .env never reaches the tests.
os.environ |= {
    "MODE": "simulated",
    "MACHINE": "single",
    "DATA_DIR": str(TEST_FOLDER / WORKER),
    "SECRET_KEY": "only for tests",
    "DEBUG": "false",
    "SIM_SEED": "7",
    "SIM_START": "2026-06-01",
    "SIM_SPEED": "48",
    "SIM_NIGHT_SPEED": "480",
    "TRAIN_TIMESTEPS": "2000",
    "WEB_PORT": "8000",
    "SIM_PORT": "8801",
    **dict.fromkeys(("KITE_LOGIN", "KITE_ROOT", "KITE_LOGIN_ROOT", "KITE_WS_ROOT"), ""),
    **dict.fromkeys(("EXCHANGE_URL", "LIMITS_FILE", "TELEGRAM_ROOT"), ""),
    "QUIET_HOURS": "none",
    "ALLOCATOR_CURRENT": "",
    "PUBLIC_URL": "",
    "TRUSTED_PROXIES": "",
}

from tradingsite.settings import *  # noqa: E402, F403 - the lines above decide what it reads
from tradingsite.settings import (  # noqa: E402
    CELERY_BROKER_TRANSPORT_OPTIONS,
    STATIC_ROOT,
    STORAGES,
)

(TEST_FOLDER / WORKER / "static").mkdir(parents=True, exist_ok=True)  # whitenoise wants it there
STATIC_ROOT.mkdir(parents=True, exist_ok=True)  # whitenoise warns of a missing one
JOBS_APART = False  # a test sees what its own transaction wrote
SIM_DESK = ""  # simulators of tests are nobody's
clock.simulate(None)  # a test that wants a market time makes one
# Templates are made by this very file under another prefix.
DATABASES = databases.settings_for(
    os.environ["DATABASE_URL"], "single", os.environ.get("NIGHTDESK_TEST_PREFIX", PREFIX)
)
PC_ROLE = f"{PREFIX}pc"  # a role is of the whole server, which several runs share
STORAGES = {
    **STORAGES,
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# Tasks run where they are called, unless a test asks for the `queue` fixture.
CELERY_TASK_ALWAYS_EAGER = True
CELERY_TASK_EAGER_PROPAGATES = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    **CELERY_BROKER_TRANSPORT_OPTIONS,
    "global_keyprefix": PREFIX,
}
