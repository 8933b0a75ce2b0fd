"""What an evaluation showed, as tables for a terminal and as one JSON object."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from bots.decision.engine import ReplayResult
from tradingsite import clock
from tradingsite.format import money
from training.evaluation import metrics
from training.models import Evaluation, Recipe


def evaluation_report(row: Evaluation) -> Group:
    """Return the tables of a finished evaluation, and its verdict check by check."""
    return Group(_folds(row), _comparison(row), *_verdict(row))


def _folds(row: Evaluation) -> Table:
    first, last = (
        clock.from_seconds(row.by_fold[place][name]) for place, name in ((0, "from"), (-1, "to"))
    )
    title = (
        f"{row.recipe}: {row.folds} folds x {row.seeds} seeds, {first:%d %b %Y} to "
        f"{last:%d %b %Y}, {row.evidence['bars']:,.0f} unseen bars, after charges, slippage and "
        "funding"
    )
    table = Table(title=title, title_style="bold", title_justify="left")
    for name in ("Fold", "Tested on", "Bars"):
        table.add_column(name, no_wrap=True)
    for name in ("Trained", "Net", "Seeds", "Drawdown", "Orders", "Hold", "EMA"):
        table.add_column(name, justify="right", no_wrap=True)
    for number, fold in enumerate(row.by_fold, start=1):
        start, end = (clock.from_seconds(fold[name]) for name in ("from", "to"))
        table.add_row(
            str(number),
            f"{start:%d %b %y} to {end:%d %b %y}",
            f"{fold['bars']:,}",
            f"{fold['trained_bars']:,}",
            f"{fold['net_return']:+.1%}",
            f"{min(fold['seed_returns']):+.0%} to {max(fold['seed_returns']):+.0%}",
            f"{fold['max_drawdown']:.1%}",
            f"{fold['orders']:,}",
            f"{fold['hold_return']:+.1%}",
            f"{fold['ema_return']:+.1%}",
        )
    return table


def _comparison(row: Evaluation) -> Table:
    evidence = row.evidence
    table = Table(title="All folds (median seed)", title_style="bold", title_justify="left")
    table.add_column("")
    for name in ("Net", "Sharpe a year", "Drawdown", "Turnover a bar"):
        table.add_column(name, justify="right")
    table.add_row(
        row.recipe.slot,
        f"{evidence['net_return']:+.2%}",
        f"{evidence['sharpe']:+.2f}",
        f"{evidence['max_drawdown']:.1%}",
        f"{evidence['turnover_per_bar']:.3f}",
    )
    table.add_row("Flat", "+0.00%", "+0.00", "0.0%", "0.000")
    for name, key in (("Buy and hold", "hold"), ("EMA cross", "ema")):
        table.add_row(
            name,
            f"{evidence[f'{key}_return']:+.2%}",
            f"{evidence[f'{key}_sharpe']:+.2f}",
            f"{evidence[f'{key}_drawdown']:.1%}",
            "",
        )
    # The same positions at other times: what is left is what its timing is worth.
    random = f"{evidence['random_return']:+.2%}"
    table.add_row("Same positions, other times", random, "", "", "the same")
    return table


def _verdict(row: Evaluation) -> list[Text]:
    word, colour = ("Approved", "green") if row.approved else ("Refused", "red")
    lines = [Text(word, style=f"bold {colour}")]
    for check in row.checks:
        mark = ("✓ ", "green") if check["passed"] else ("✗ ", "red")
        lines.append(Text.assemble(mark, (f"{check['name']:<16}", "bold"), check["said"]))
    return lines


def evaluation_json(row: Evaluation) -> dict[str, Any]:
    """Return a finished evaluation as one JSON object."""
    return {
        "slot": row.recipe.slot,
        "recipe": row.recipe.hash,
        "approved": row.approved,
        "verdict": row.detail,
        "checks": row.checks,
        "evidence": row.evidence,
        "folds": row.by_fold,
        "refit_range": row.refit_range,
    }


def recipe_table(slot: str, rows: Iterable[Recipe]) -> Table:
    """Return a slot's recipes with the newest trial of each."""
    table = Table(title=f"{slot}: recipes and trials", title_style="bold")
    for name in ("Recipe", "Network", "State", "Decided by", "Trials", "Net Sharpe", "Verdict"):
        table.add_column(name)
    for row in rows:
        done = [each for each in row.evaluations.all() if each.state == Evaluation.State.DONE]
        newest = done[0] if done else None
        table.add_row(
            row.hash[:8],
            row.settings["hyperparameters"]["network"],
            row.state,
            row.decided_by or "—",
            str(len(done)),
            f"{newest.evidence['sharpe']:+.2f}" if newest else "—",
            newest.detail if newest else "—",
        )
    return table


def replay_table(title: str, result: ReplayResult, currency: str, notes: tuple[str, ...]) -> Table:
    """Return how a stored model traded a span, beside flat and buy-and-hold."""
    table = Table(title=title, title_style="bold", caption="\n".join(notes), caption_justify="left")
    table.add_column("")
    for name in ("Net", "PnL", "Sharpe a year", "Drawdown", "Orders", "Charges", "Slippage"):
        table.add_column(name, justify="right")
    year = metrics.bars_per_year(result.closes_at)
    for name, path in (
        ("Model", result.path),
        ("Flat", result.flat),
        ("Buy and hold", result.buy_and_hold),
    ):
        table.add_row(
            name,
            f"{metrics.net_return(path.equity):+.2%}",
            money(path.net_pnl, currency, signed=True),
            f"{metrics.annual_sharpe(metrics.returns(path.equity), year):+.2f}",
            f"{path.max_drawdown:.1%}",
            f"{len(path.trades):,}",
            money(path.charges, currency),
            money(path.slippage, currency),
        )
    if collapsed := metrics.summarise(result).collapsed:
        table.add_row(f"Collapsed: {collapsed}")
    return table
