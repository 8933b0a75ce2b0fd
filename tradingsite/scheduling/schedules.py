"""The thirteen scheduled jobs and the shorter table of housekeeping, in IST.

Code is the truth: `syncschedules` writes these rows for beat and removes what left the tables; an
operator may only pause a row. A crontab cannot know the exchange's holidays or closing time, so a
job that follows the session says so and its body asks the calendar first.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Job:
    """One scheduled job: when it fires (crontab in IST), what it calls, how long it may wait."""

    name: str
    title: str
    when: str
    task: str
    lane: str
    minute: str = "0"
    hour: str = "*"
    day_of_month: str = "*"
    queue: str = "prod"
    expires_seconds: int = 3600
    """Market seconds after which an unstarted message is worth nothing."""
    wanted: str = ""
    """What says whether a firing is wanted, by its dotted name; empty where each one is."""
    not_built: str = ""
    """What is still missing, while the body belongs to a later release; empty once it works."""


JOBS: tuple[Job, ...] = (
    Job(
        "morning-brief",
        "Morning brief",
        "07:00",
        "monitoring.tasks.morning_brief",
        "Safety",
        hour="7",
        not_built="the brief's PDF and its Telegram channel",
    ),
    Job(
        "token-refresh",
        "Broker token refresh",
        "09:00",
        "markets.tasks.refresh_token",
        "Trading",
        hour="9",
        expires_seconds=840,
        wanted="markets.capture.session_windows.on_trading_days",
    ),
    Job(
        "options-collector",
        "Options collector",
        "each minute, 09:10 to the close",
        "markets.tasks.collect_options",
        "Data",
        minute="*",
        hour="9-19",
        queue="collect",
        expires_seconds=50,
        wanted="markets.capture.session_windows.collecting",
    ),
    Job(
        "straddle-start",
        "Straddle tracker start",
        "at the open",
        "markets.tasks.start_straddle",
        "Data",
        minute="*/5",
        hour="9-20",
        wanted="markets.capture.session_windows.opening",
    ),
    Job(
        "trade-fetcher",
        "Trade fetcher",
        "each minute, 09:15 to the close",
        "markets.tasks.fetch_trades",
        "Data",
        minute="*",
        hour="9-19",
        queue="collect",
        expires_seconds=50,
        wanted="markets.capture.session_windows.trading",
    ),
    Job(
        "straddle-stop",
        "Straddle tracker stop",
        "at the close",
        "markets.tasks.stop_straddle",
        "Data",
        minute="*/5",
        hour="9-20",
        wanted="markets.capture.session_windows.closing",
    ),
    Job(
        "personal-signals",
        "Personal signals",
        "16:00",
        "bots.tasks.personal_signals",
        "Trading",
        hour="16",
        wanted="markets.capture.session_windows.on_trading_days",
    ),
    Job(
        "pnl-chart",
        "PnL chart",
        "16:05",
        "monitoring.tasks.pnl_chart",
        "Trading",
        minute="5",
        hour="16",
        not_built="the chart picture and its Telegram channel",
    ),
    Job(
        "nifty-training",
        "NIFTY training",
        "16:15",
        "training.tasks.train_nifty",
        "Learning",
        minute="15",
        hour="16",
        expires_seconds=15 * 3600,
    ),
    Job(
        "btc-training",
        "BTC training",
        "every 2 h",
        "training.tasks.train_btc",
        "Learning",
        hour="*/2",
        expires_seconds=5400,
    ),
    Job(
        "backups",
        "Backups",
        "20:30",
        "backups.tasks.back_up",
        "Safety",
        minute="30",
        hour="20",
        expires_seconds=6 * 3600,
        not_built="dumps, their transfer and the restore drill",
    ),
    Job(
        "security-summary",
        "Security summary",
        "21:00",
        "monitoring.tasks.security_summary",
        "Safety",
        hour="21",
        not_built="the security checks",
    ),
    Job(
        "security-check",
        "Security check",
        "every 15 min",
        "monitoring.tasks.security_check",
        "Safety",
        minute="*/15",
        expires_seconds=800,
        not_built="the security checks",
    ),
)

HOUSEKEEPING: tuple[Job, ...] = (
    Job(
        "bars-collector",
        "Bars collector",
        "each minute in which a bar is due",
        "markets.tasks.collect_bars",
        "Data",
        minute="*",
        queue="collect",
        expires_seconds=50,
        wanted="markets.capture.bars.job.wanted",
    ),
    Job(
        "instruments",
        "List of instruments",
        "09:05, and every five minutes until it is here",
        "markets.tasks.fetch_instruments",
        "Data",
        minute="5-59/5",
        hour="9-15",
        queue="collect",
        expires_seconds=240,
        wanted="markets.capture.instruments.daily.wanted",
    ),
    Job(
        "options-partitions",
        "Option partitions, archive and retention",
        "05:30",
        "markets.tasks.keep_options",
        "Data",
        minute="30",
        hour="5",
    ),
    Job(
        "straddle-retention",
        "Straddle ticks past their time",
        "05:40",
        "markets.tasks.prune_straddle",
        "Data",
        minute="40",
        hour="5",
    ),
    Job(
        "calendar-warning",
        "Calendar warning",
        "08:00",
        "markets.tasks.warn_of_calendar_end",
        "Safety",
        hour="8",
    ),
    Job(
        "allocator",
        "Monthly allocation",
        "06:00 on the 1st, or on the first day after it that the desk runs",
        "markets.tasks.allocate",
        "Data",
        hour="6",
        expires_seconds=12 * 3600,
        wanted="markets.allocator.monthly.wanted",
    ),
    Job(
        "demotion",
        "Models that do badly go back",
        "every hour at :40",
        "training.tasks.demote",
        "Learning",
        minute="40",
        expires_seconds=3000,
        wanted="training.selection.demotion.require_participants",
    ),
    Job(
        "trade-review",
        "Charges and slippage of the day",
        "00:20, of the day before",
        "bots.tasks.review_trades",
        "Trading",
        minute="20",
        hour="0",
        expires_seconds=1200,
    ),
    Job(
        "prune-records",
        "Prune old records",
        "03:30",
        "monitoring.tasks.prune_records",
        "Safety",
        minute="30",
        hour="3",
    ),
)

ALL: dict[str, Job] = {job.name: job for job in JOBS + HOUSEKEEPING}

RECORDS_KEPT_DAYS = 90
