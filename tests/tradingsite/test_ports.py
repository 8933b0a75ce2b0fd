"""Ports are filled once everything is ready, and an empty one is an error."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bots.execution import doctor_port
from bots.modelstore import archive_port
from markets.capture import own_executions
from tradingsite.ports import NotProvided, Port

ROOT = Path(__file__).resolve().parents[2]


def test_every_port_is_filled_by_the_app_to_the_right() -> None:
    filled = {
        type(port.get()).__module__.partition(".")[0]
        for port in (archive_port, doctor_port, own_executions)
    }
    assert filled == {"training", "monitoring", "bots"}


def test_an_empty_port_is_no_answer() -> None:
    port: Port[str] = Port("a thing")
    with pytest.raises(NotProvided, match="nobody provides a thing"):
        port.get()
    assert port.provide("one") is None
    assert port.provide("two") == "one"
    assert port.get() == "two"


@pytest.mark.parametrize(
    ("mode", "loads"), [("simulated", True), ("paper", False), ("live", False)]
)
def test_only_a_simulated_desk_knows_the_simulators_credentials(
    mode: str, loads: bool, tmp_path: Path
) -> None:
    code = (
        "import sys; import tradingsite.settings; "
        "print(any(name.startswith('markets.simulator') for name in sys.modules))"
    )
    kept = {name: os.environ[name] for name in ("PATH", "DATABASE_URL", "REDIS_URL")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**kept, "MODE": mode, "DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(loads)
