"""The replay command: what it refuses, what it marks, and what its table adds up to."""

import datetime as dt
import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from bots.modelstore import services as modelstore
from bots.modelstore.bundle import ENCODER
from bots.replay import replay_bot
from markets import store
from markets.models import Reading, Source
from tests import histories
from tests.bots.slotmodels import activate_model
from tradingsite import clock
from tradingsite.format import MINUS
from tradingsite.registry import BOTS, SLOTS

pytestmark = pytest.mark.django_db(databases=["default", "nifty", "btc"])

BTC_1H, BTC_4H = SLOTS["btc-1h"], SLOTS["btc-4h"]
FIRST = dt.datetime(2024, 11, 20, tzinfo=clock.IST)
UNTIL = dt.datetime(2025, 3, 1, tzinfo=clock.IST)
SPAN = ("--from", "2025-03-03", "--to", "2025-03-07")
COLUMNS = (
    "Slot",
    "Model",
    "Decisions",
    "Orders",
    "Turnover",
    "Charges",
    "Slippage",
    "Funding",
    "Net PnL",
    "Drawdown",
    "Flat",
    "Buy and hold",
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, settings: Any) -> Path:
    """Have a model store of our own."""
    settings.PROD_DIR = tmp_path / "prod"
    return tmp_path


@pytest.fixture
def market() -> None:
    """Have four months of BTC with features."""
    own = histories.hours(24 * 134)
    store.save_bars("btc", "1h", own, Source.IMPORTED)
    store.save_bars("btc", "4h", histories.joined(own), Source.IMPORTED)
    histories.put_funding(own)
    for timeframe in ("4h", "1h"):
        store.rebuild_features("btc", timeframe)


@pytest.fixture
def models(market: None, folder: Path) -> None:
    """Have models of both BTC slots that were trained before the replayed week."""
    for slot in (BTC_1H, BTC_4H):
        activate_model(slot, folder, FIRST, UNTIL)


def replay(*arguments: str) -> tuple[str, str]:
    """Run the command and return what it says, and what it says of errors."""
    said, aside = StringIO(), StringIO()
    call_command("replay", *arguments, stdout=said, stderr=aside)
    return said.getvalue(), aside.getvalue()


def table(said: str) -> list[dict[str, str]]:
    """Return the rows of the table by column."""
    lines = [line for line in said.splitlines() if line.startswith(("┃", "│"))]
    rows = [[cell.strip() for cell in re.split("[┃│]", line)[1:-1]] for line in lines]
    assert tuple(rows[0]) == COLUMNS
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows[1:]]


def money(text: str) -> float:
    """Return the amount of a cell."""
    return float(text.replace(MINUS, "-").translate(str.maketrans("", "", "$₹,")))


@pytest.mark.usefixtures("models")
def test_the_table_has_a_row_for_each_slot_with_a_model() -> None:
    said, aside = replay(*SPAN)
    rows = table(said)
    assert [(row["Slot"], row["Model"]) for row in rows] == [("btc-1h", "v1"), ("btc-4h", "v1")]
    # Five days of IST: a decision at each close in them but the last, which has no next open.
    assert [row["Decisions"] for row in rows] == ["119", "29"]
    assert "Replay Mon 03 Mar 2025 to Fri 07 Mar 2025, simulated fills" in said
    assert "pays or receives funding on what it holds at each bar's close" in said
    assert "is assumed" not in said
    Reading.on("btc").objects.all().delete()
    assert "where none is stored, 0.01% for eight hours is assumed" in replay(*SPAN)[0]
    assert "148 bars decided in" in said
    assert "IN SAMPLE" not in said
    left_out = [line.partition(" ")[0] for line in aside.splitlines()]
    assert left_out == ["nifty-15m", "nifty-1h", "nifty-1d", "personal-1d"]


@pytest.mark.usefixtures("models")
def test_the_columns_are_what_the_replay_found() -> None:
    (row,) = table(replay("btc", "4h", *SPAN)[0])
    start = dt.datetime(2025, 3, 3, tzinfo=clock.IST)
    (found,) = replay_bot([BTC_4H], start, dt.datetime(2025, 3, 7, 23, 59, 59, tzinfo=clock.IST))
    path = found.result.path
    assert money(row["Orders"]) == len(path.trades) > 0
    assert money(row["Turnover"]) == round(path.turnover, 2)
    assert money(row["Charges"]) == round(path.charges, 2)
    assert money(row["Slippage"]) == round(path.slippage, 2)
    assert money(row["Funding"]) == round(path.funding, 2) != 0.0
    assert money(row["Net PnL"]) == round(path.net_pnl, 2)
    assert row["Drawdown"] == f"{path.max_drawdown:.2%}"
    assert money(row["Flat"]) == 0
    assert money(row["Buy and hold"]) == round(found.result.buy_and_hold.net_pnl, 2)
    assert row["Turnover"].startswith("$")


@pytest.mark.usefixtures("models")
def test_the_pnl_is_what_the_orders_and_the_last_close_leave() -> None:
    start = dt.datetime(2025, 3, 3, tzinfo=clock.IST)
    for found in replay_bot([BTC_1H, BTC_4H], start, start + dt.timedelta(days=5)):
        bars = store.load_bars("btc", found.slot.timeframe)
        last = float(bars.close[bars.closes_at == found.result.closes_at[-1]][0])
        for path in (found.result.path, found.result.flat, found.result.buy_and_hold):
            cash = -sum(trade.quantity * trade.price + trade.charges for trade in path.trades)
            held = sum(trade.quantity for trade in path.trades)
            assert path.net_pnl == pytest.approx(cash + held * last - path.funding, abs=1e-6)
            # The prices carry the slippage: at the opens themselves it would have come back.
            ideal = cash + held * last + path.slippage + path.charges
            assert ideal == pytest.approx(
                sum(
                    trade.quantity * (last - open_at(bars, trade.opens_at)) for trade in path.trades
                ),
                abs=1e-6,
            )


def open_at(bars: Any, opens_at: int) -> float:
    """Return the open of a bar."""
    return float(bars.open[bars.opens_at == opens_at][0])


@pytest.mark.usefixtures("models")
def test_a_replay_gives_the_same_again() -> None:
    assert table(replay(*SPAN)[0]) == table(replay(*SPAN)[0])


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(
    "span",
    [
        ("--from", "2025-02-10", "--to", "2025-02-14"),
        ("--from", "2025-02-28", "--to", "2025-03-04"),
        ("--from", "2025-02-28", "--to", "2025-02-28"),
    ],
)
def test_a_model_that_saw_the_span_is_refused_or_marked(span: tuple[str, ...]) -> None:
    with pytest.raises(CommandError) as refused:
        replay("btc", "4h", *span)
    assert str(refused.value).startswith(
        "btc-4h v1 was trained on 19 Nov 2024 to 28 Feb 2025, which touches the replayed span"
    )
    yesterday = dt.date.fromisoformat(span[1]) - dt.timedelta(days=1)
    assert f"--until {yesterday}, or give --in-sample" in str(refused.value)
    said, _ = replay("btc", "4h", *span, "--in-sample")
    assert [row["Slot"] for row in table(said)] == ["btc-4h IN SAMPLE"]
    assert "IN SAMPLE: these models saw this span" in said


@pytest.mark.usefixtures("market")
def test_in_sample_marks_only_the_models_that_saw_the_span(folder: Path) -> None:
    activate_model(BTC_1H, folder, FIRST, UNTIL)
    activate_model(BTC_4H, folder, FIRST, dt.datetime(2025, 3, 5, tzinfo=clock.IST))
    rows = table(replay("btc", *SPAN, "--in-sample")[0])
    assert [row["Slot"] for row in rows] == ["btc-1h", "btc-4h IN SAMPLE"]


def test_without_a_model_it_says_what_to_do() -> None:
    with pytest.raises(CommandError, match="no slot has a model: train some with `manage"):
        replay(*SPAN)
    with pytest.raises(CommandError, match=r"trainbot btc 4h --until 2025-03-02`"):
        replay("btc", "4h", *SPAN)


@pytest.mark.usefixtures("models")
def test_a_span_without_bars_is_refused() -> None:
    with pytest.raises(CommandError, match="btc-4h has 0 stored rows from 05 Jan 2026 to 09 Jan"):
        replay("btc", "4h", "--from", "2026-01-05", "--to", "2026-01-09")


@pytest.mark.usefixtures("models")
def test_a_model_whose_files_changed_is_refused() -> None:
    version = modelstore.active("btc-4h")
    assert version is not None
    graph = modelstore.folder(version) / ENCODER
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    with pytest.raises(CommandError, match=r"encoder.onnx: its sha256 is not the one"):
        replay("btc", "4h", *SPAN)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--from", "2025-03-03"), "the following arguments are required: --to"),
        (("--from", "3 March", "--to", "2025-03-07"), "'3 March' is not a day like 2024-06-03"),
        (("--from", "2025-03-07", "--to", "2025-03-03"), "--to 2025-03-03 is before --from 2025-"),
        (("gold", *SPAN), "invalid choice: 'gold'"),
        (("btc", "15m", *SPAN), "there is no slot btc 15m; the slots are: nifty 15m, nifty 1h"),
    ],
)
def test_what_it_cannot_read_is_said(arguments: tuple[str, ...], reason: str) -> None:
    with pytest.raises(CommandError) as refused:
        replay(*arguments)
    assert reason in str(refused.value)


def test_the_help_names_what_it_shows(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        call_command("replay", "--help")
    assert ended.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "beside flat and buy-and-hold" in said
    for option in ("--from DAY", "--to DAY", "--in-sample", "{btc,nifty,personal}"):
        assert option in said
    assert set(BOTS) == {"btc", "nifty", "personal"}
