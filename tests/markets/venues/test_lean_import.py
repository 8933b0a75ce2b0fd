"""One module of a package without the rest of it, and without anybody seeing a difference."""

import subprocess
import sys
from pathlib import Path

import pytest

from markets.venues import lean_import

ROOT = Path(__file__).resolve().parents[3]
CLIENTS = """
import sys
from markets.venues.ccxt import client as exchange_client
from markets.venues.kite import login as kite_login
from markets.venues.ccxt.client import ExchangeConfig
from markets.venues.kite.token import KiteConfig
kite_login.client(KiteConfig("key", "secret"))
exchange_client.connect(ExchangeConfig(wallet="0x" + "1" * 40), with_keys=False)
assert "twisted" not in sys.modules and "ccxt.binance" not in sys.modules
"""
LATER = """
import sys
from markets.venues import lean_import
kind = lean_import.module("ccxt.hyperliquid").hyperliquid
errors = lean_import.module("ccxt.base.errors")
import ccxt
assert "ccxt.binance" not in sys.modules
assert len(ccxt.exchanges) > 100 and "ccxt.binance" in sys.modules
assert ccxt.hyperliquid is kind and ccxt.NetworkError is errors.NetworkError
from kiteconnect import KiteConnect, KiteTicker
assert lean_import.module("kiteconnect.ticker").KiteTicker is KiteTicker
"""


@pytest.mark.parametrize("script", [CLIENTS, LATER])
def test_what_is_not_used_is_not_loaded_and_is_there_when_it_is(script: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


def test_what_there_is_not_is_said() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        lean_import.module("no_such_package.part")
    with pytest.raises(ImportError):
        lean_import.module("ccxt.no_such_exchange")
