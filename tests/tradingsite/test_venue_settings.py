"""What the settings accept of venues in each mode."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from markets.simulator import credentials
from tests.test_architecture import ROOT
from tradingsite.venue_settings import BadVenueSetting, Reader, is_loopback


def reader(mode: str, **environment: str) -> Reader:
    return Reader(mode, environment, vars(credentials))


def test_a_simulated_desk_never_uses_an_owners_keys() -> None:
    found = reader("simulated", KITE_API_KEY="mine", KITE_PASSWORD="mine", KITE_TOTP_SECRET="mine")
    assert found.text("KITE_API_KEY") == credentials.KITE_API_KEY
    assert found.secret("KITE_PASSWORD") == credentials.KITE_PASSWORD
    assert found.secret("KITE_TOTP_SECRET") == credentials.KITE_TOTP_SECRET
    assert found.text("EXCHANGE_ID", "hyperliquid") == "hyperliquid"
    assert found.secret("EXCHANGE_API_KEY") == ""


def test_addresses_follow_from_the_mode() -> None:
    assert reader("simulated").address("KITE_ROOT") == "http://127.0.0.1:8801"
    assert reader("simulated", KITE_ROOT="http://[::1]:9").address("KITE_ROOT") == "http://[::1]:9"
    assert reader("paper").address("KITE_LOGIN_ROOT") == "https://kite.zerodha.com"
    assert reader("live").address("KITE_WS_ROOT") == "wss://ws.kite.trade"
    assert reader("live").address("EXCHANGE_URL") == ""


@pytest.mark.parametrize("mode", ["paper", "live"])
@pytest.mark.parametrize("host", ["127.0.0.1:8801", "localhost", "[::1]:8801", "127.9.9.9"])
def test_paper_and_live_refuse_this_machine(mode: str, host: str) -> None:
    with pytest.raises(BadVenueSetting, match=f"MODE={mode} needs the real venue, but KITE_ROOT"):
        reader(mode, KITE_ROOT=f"http://{host}").address("KITE_ROOT")


def test_simulated_refuses_any_other_machine() -> None:
    with pytest.raises(BadVenueSetting, match="speaks to the simulator on this machine only"):
        reader("simulated", KITE_ROOT="https://api.kite.trade").address("KITE_ROOT")
    with pytest.raises(BadVenueSetting, match="is no address"):
        is_loopback("api.kite.trade")


def test_the_headless_login_is_opt_in() -> None:
    assert reader("simulated").login() == "headless"
    assert reader("simulated", KITE_LOGIN="interactive").login() == "interactive"
    assert reader("live").login() == "interactive"
    assert reader("live", KITE_LOGIN="headless").login() == "headless"
    with pytest.raises(BadVenueSetting, match="must be interactive or headless, was 'auto'"):
        reader("live", KITE_LOGIN="auto").login()


def test_a_secret_is_in_its_variable_or_in_a_file_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("from a file\n")
    file.chmod(0o600)
    assert reader("live", KITE_PASSWORD="direct").secret("KITE_PASSWORD") == "direct"
    in_file = reader("live", KITE_PASSWORD_FILE=str(file))
    assert in_file.secret("KITE_PASSWORD") == "from a file"
    assert reader("live").secret("KITE_PASSWORD") == ""
    with pytest.raises(BadVenueSetting, match="both set"):
        reader("live", KITE_PASSWORD="x", KITE_PASSWORD_FILE=str(file)).secret("KITE_PASSWORD")
    file.chmod(0o644)
    with pytest.raises(BadVenueSetting, match="chmod 600"):
        in_file.secret("KITE_PASSWORD")
    file.unlink()
    with pytest.raises(BadVenueSetting, match="cannot be read: No such file"):
        in_file.secret("KITE_PASSWORD")


def test_the_settings_refuse_a_live_desk_on_the_simulator() -> None:
    environment = {**os.environ, "MODE": "live", "KITE_ROOT": "http://127.0.0.1:8801"}
    run = subprocess.run(
        [sys.executable, "-c", "import tradingsite.settings"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode and "MODE=live needs the real venue, but KITE_ROOT" in run.stderr


def test_the_tests_have_the_simulators_credentials() -> None:
    assert settings.KITE_API_KEY == credentials.KITE_API_KEY
    assert settings.KITE_LOGIN == "headless"
    assert settings.EXCHANGE_WALLET == credentials.EXCHANGE_WALLET
