"""Wrong settings: one line that names the variable and what it may be, before anything starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tradingsite.environment import Environment
from tradingsite.errors import BadSetting

ROOT = Path(__file__).resolve().parents[2]
WRONG = {
    "MODE=liv": "MODE is 'liv': it may be simulated, paper or live.",
    "MACHINE=pi": "MACHINE is 'pi': it may be single, prod, pc or laptop.",
    "WEB_PORT=abc": "WEB_PORT is 'abc': it may be a whole number from 1 to 65535.",
    "WEB_PORT=0": "WEB_PORT is '0': it may be a whole number from 1 to 65535.",
    "SIM_SPEED=0": "SIM_SPEED is '0': it may be a number above 0, up to 3600.",
    "SIM_SPEED=nan": "SIM_SPEED is 'nan': it may be a number above 0, up to 3600.",
    "SIM_NIGHT_SPEED=fast": "SIM_NIGHT_SPEED is 'fast': it may be a number above 0, up to 3600.",
    "SIM_START=1 June": "SIM_START is '1 June': it may be a date like 2026-06-01.",
    "MODEL_POLICY=foo": "MODEL_POLICY is 'foo': it may be gated or newest",
    "MODEL_POLICY=btc-9h=newest": "MODEL_POLICY is 'btc-9h=newest': it may be gated or newest",
    "DEMOTE_SLOTS=btc-9h": "DEMOTE_SLOTS is 'btc-9h': it may name nifty-15m",
    "TRAIN_TIMESTEPS=0": "TRAIN_TIMESTEPS is '0': it may be a whole number of at least 1.",
    "DEBUG=maybe": "DEBUG is 'maybe': it may be true or false.",
    "LOG_LEVEL=loud": "LOG_LEVEL is 'loud': it may be DEBUG, INFO",
    "KITE_PRODUCT=CNC": "KITE_PRODUCT is 'CNC': it may be NRML or MIS.",
    "KITE_ROOT=https://api.kite.trade": "MODE=simulated speaks to the simulator",
    "DATABASE_URL=mysql://x": "DATABASE_URL must start with postgresql://",
    "DATABASE_URL=postgresql://x:p@h:port": "DATABASE_URL has a port that is none",
    "PUBLIC_URL=http://x": "PUBLIC_URL is 'http://x'",
}


def run(setting: str, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run manage.py with one setting in a folder of its own."""
    name, _, value = setting.partition("=")
    keep = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
    return subprocess.run(
        [sys.executable, "manage.py", *command],
        cwd=ROOT,
        env={**keep, "DATA_DIR": str(folder), name: value},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("setting", WRONG)
def test_a_wrong_setting_is_one_line_and_starts_nothing(setting: str, tmp_path: Path) -> None:
    ended = run(setting, tmp_path, "up")
    assert ended.returncode == 78
    assert ended.stdout == ""
    assert WRONG[setting] in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not (tmp_path / "embedded").exists()


@pytest.mark.parametrize("command", ["doctor", "halt", "--help", "limits", "runbot", "embedded"])
def test_every_command_says_so(command: str, tmp_path: Path) -> None:
    ended = run("SIM_SPEED=abc", tmp_path, command)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (78, 1)


def test_what_is_set_to_nothing_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X", " ")
    read = Environment()
    assert read.whole("X", 7, 0) == 7
    assert read.positive("X", 48.0, 100.0) == 48.0
    assert read.choice("X", "a", ("a", "b")) == "a"
    monkeypatch.setenv("X", "c")
    with pytest.raises(BadSetting, match="X is 'c': it may be a or b"):
        read.choice("X", "a", ("a", "b"))
