"""Which code and which settings a process runs, as it was started."""

import hashlib
import subprocess
from functools import cache
from pathlib import Path

from django.conf import settings

from tradingsite import owner_limits

CHECKOUT = Path(__file__).resolve().parents[1]
UNKNOWN = "unknown"
# What decides how a service behaves; no secrets, for the hash is shown.
TOLD = (
    *("MODE", "MACHINE", "MODEL_POLICY", "DEMOTE_SLOTS", "KITE_PRODUCT", "EXCHANGE_ID"),
    *("KITE_ROOT", "EXCHANGE_URL", "DATA_DIR", "PROD_DIR"),
)


@cache
def commit() -> str:
    """Return the commit of the checkout, marked where files differ from it."""
    answer = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.stdout.strip() or UNKNOWN


def config() -> str:
    """Return a hash of the settings and limits that services must agree on."""
    told = "\n".join(f"{name}={getattr(settings, name, '')}" for name in TOLD)
    return hashlib.sha256(f"{told}\n{owner_limits.told()}".encode()).hexdigest()[:12]
