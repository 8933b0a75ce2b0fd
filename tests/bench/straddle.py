"""What the straddle tracker takes with its default configuration: memory, core share, disk.

Parent and child run as they do on a desk; the simulated broker is in this process, at two messages
a second. The figures are of half a minute in the middle of a session.
"""

from __future__ import annotations

import os

import django


def run() -> dict[str, float]:
    """Return what both processes take, and what a stored tick does."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    django.setup()
    from tests.markets.straddle import measuring

    return measuring.measure()
