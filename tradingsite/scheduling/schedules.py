"""The thirteen scheduled jobs and the shorter table of housekeeping, in IST.

Code is the truth: `syncschedules` writes these rows for beat and removes what left the tables; an
operator may only pause a row. A crontab cannot know the exchange's holidays or closing time, so a
job that follows the session says so and its body asks the calendar first.
"""

from dataclasses import dataclass

from tradingsite.scheduling.windows import Part, Window, crontab_words


@dataclass(frozen=True, slots=True)
class Job:
    """One scheduled job: when it fires (crontab in IST), what it calls, how long it may wait."""

    name: str
    title: str
    task: str
    lane: str
    minute: str = "0"
    hour: str = "*"
    day_of_month: str = "*"
    queue: str = "prod"
    window: Window | None = None
    """The part of the exchange's session that it belongs to; none where the crontab says all."""
    says: str = ""
    """When it fires, in words, where neither crontab nor window tell all of it."""
    expires_seconds: int = 3600
    """Market seconds after which an unstarted message is worth nothing."""
    wanted: str = ""
    """What says whether a firing is wanted, by its dotted name; empty where each one is."""
    not_built: str = ""
    """What is still missing, while the body belongs to a later release; empty once it works."""

    @property
    def when(self) -> str:
        """Return when it fires, in words for people."""
        return self.says or str(self.window or crontab_words(self.minute, self.hour))


JOBS: tuple[Job, ...] = (
    Job(
        "morning-brief",
        "Morning brief",
        "monitoring.tasks.morning_brief",
        "Safety",
        hour="7",
        not_built="the brief's PDF and its Telegram channel",
    ),
    Job(
        "token-refresh",
        "Broker token refresh",
        "markets.tasks.refresh_token",
        "Trading",
        hour="9",
        expires_seconds=840,
        wanted="markets.capture.session_windows.on_trading_days",
    ),
    Job(
        "options-collector",
        "Options collector",
        "markets.tasks.collect_options",
        "Data",
        minute="*",
        hour="9-19",
        queue="collect",
        expires_seconds=50,
        wanted="markets.capture.session_windows.collecting",
        window=Window(before_open_minutes=5),
    ),
    Job(
        "straddle-start",
        "Straddle tracker start",
        "markets.tasks.start_straddle",
        "Data",
        minute="*/5",
        hour="9-20",
        wanted="markets.capture.session_windows.opening",
        window=Window(Part.OPEN),
    ),
    Job(
        "trade-fetcher",
        "Trade fetcher",
        "markets.tasks.fetch_trades",
        "Data",
        minute="*",
        hour="9-19",
        queue="collect",
        expires_seconds=50,
        wanted="markets.capture.session_windows.trading",
        window=Window(),
    ),
    Job(
        "straddle-stop",
        "Straddle tracker stop",
        "markets.tasks.stop_straddle",
        "Data",
        minute="*/5",
        hour="9-20",
        wanted="markets.capture.session_windows.closing",
        window=Window(Part.CLOSE),
    ),
    Job(
        "personal-signals",
        "Personal signals",
        "bots.tasks.personal_signals",
        "Trading",
        hour="16",
        wanted="markets.capture.session_windows.on_trading_days",
    ),
    Job(
        "pnl-chart",
        "PnL chart",
        "monitoring.tasks.pnl_chart",
        "Trading",
        minute="5",
        hour="16",
        not_built="the chart picture and its Telegram channel",
    ),
    Job(
        "nifty-training",
        "NIFTY training",
        "training.tasks.train_nifty",
        "Learning",
        minute="15",
        hour="16",
        expires_seconds=15 * 3600,
    ),
    Job(
        "btc-training",
        "BTC training",
        "training.tasks.train_btc",
        "Learning",
        hour="*/2",
        expires_seconds=5400,
    ),
    Job(
        "backups",
        "Backups",
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
        "monitoring.tasks.security_summary",
        "Safety",
        hour="21",
        not_built="the security checks",
    ),
    Job(
        "security-check",
        "Security check",
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
        "markets.tasks.collect_bars",
        "Data",
        minute="*",
        queue="collect",
        expires_seconds=50,
        wanted="markets.capture.bars.job.wanted",
        says="each minute in which a bar is due",
    ),
    Job(
        "instruments",
        "List of instruments",
        "markets.tasks.fetch_instruments",
        "Data",
        minute="5-59/5",
        hour="9-15",
        queue="collect",
        expires_seconds=240,
        wanted="markets.capture.instruments.daily.wanted",
        says="09:05, and every five minutes until it is here",
    ),
    Job(
        "options-partitions",
        "Option partitions, archive and retention",
        "markets.tasks.keep_options",
        "Data",
        minute="30",
        hour="5",
    ),
    Job(
        "straddle-retention",
        "Straddle ticks past their time",
        "markets.tasks.prune_straddle",
        "Data",
        minute="40",
        hour="5",
    ),
    Job(
        "calendar-warning",
        "Calendar warning",
        "markets.tasks.warn_of_calendar_end",
        "Safety",
        hour="8",
    ),
    Job(
        "allocator",
        "Monthly allocation",
        "markets.tasks.allocate",
        "Data",
        hour="6",
        expires_seconds=12 * 3600,
        wanted="markets.allocator.monthly.wanted",
        says="06:00 on the 1st, or on the first day after it that the desk runs",
    ),
    Job(
        "demotion",
        "Models that do badly go back",
        "training.tasks.demote",
        "Learning",
        minute="40",
        expires_seconds=3000,
        wanted="training.selection.demotion.require_participants",
    ),
    Job(
        "trade-review",
        "Charges and slippage of the day",
        "bots.tasks.review_trades",
        "Trading",
        minute="20",
        hour="0",
        expires_seconds=1200,
        says="00:20, of the day before",
    ),
    Job(
        "prune-records",
        "Prune old records",
        "monitoring.tasks.prune_records",
        "Safety",
        minute="30",
        hour="3",
    ),
)

ALL: dict[str, Job] = {job.name: job for job in JOBS + HOUSEKEEPING}

RECORDS_KEPT_DAYS = 90
