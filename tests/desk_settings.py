"""The settings of processes that a test starts: a broker, a folder and a clock of the test's."""

import os
from pathlib import Path

from tests.settings import *  # noqa: F403
from tradingsite import clock

DATA_DIR = Path(os.environ["DESK_TEST_HOME"])
KITE_ROOT = os.environ["DESK_TEST_KITE"]
KITE_WS_ROOT = KITE_ROOT.replace("http", "ws")
clock.simulate(DATA_DIR / "clock.json")
