"""Is this machine fit to trade: one finding for each thing that must be so, and what to do.

A failed finding keeps a live bot from starting. What this release cannot prove yet (that a backup
was restored, that orders leave from the registered address) fails in live mode, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psutil
import redis
from django.conf import settings
from django.db import DatabaseError, connections
from django.db.migrations.executor import MigrationExecutor

from bots.decision.actions import dead_actions
from bots.models import Discrepancy, Order, RiskState
from bots.modelstore import services as modelstore
from bots.modelstore.models import ModelVersion
from markets.capture import calendar_watch
from markets.capture.instruments import daily as daily_instruments
from markets.store import load_calendar
from markets.venues.configured import kite_token
from monitoring import checks
from monitoring.doctor import running_desk
from monitoring.findings import FAIL, OK, WARN, Finding
from tradingsite import clock, owner_limits
from tradingsite.databases import is_ours
from tradingsite.errors import Degraded
from tradingsite.models import Heartbeat
from tradingsite.registry import BOTS, MARKETS, SLOTS
from tradingsite.supervision import heartbeat
from tradingsite.version import config
from training import recipes
from training.pc_access import audit as pc_audit
from training.pc_access import queue as pc_queue

__all__ = ["FAIL", "OK", "WARN", "Finding", "examine", "refusals"]

QUEUE_SECONDS = 3.0
OF_THE_EXCHANGE = frozenset({"exchange calendar", "broker's token", "registered address"})


def examine() -> list[Finding]:
    """Return every finding, in the order in which things lean on each other."""
    found = list(_databases())
    needed = {f"database {alias}" for alias in ("default", *MARKETS)}
    if any(each.level == FAIL and each.name in needed for each in found):
        return found  # nothing else can be asked
    examinations: list[Callable[[], Iterator[Finding]]] = [_queue, _disk, running_desk.examine]
    if settings.MACHINE in ("single", "prod"):
        examinations += [_calendar, _token, _lists, _accounts, _models, _limits, _running]
        examinations += [_pc, _proofs]
    elif settings.MACHINE == "pc":
        examinations.append(_limits)  # it trains for the lots that they allow
    return found + [finding for look in examinations for finding in look()]


def refusals(bot: str = "") -> list[str]:
    """Return in words what keeps a live bot from new risk; without its name, any of them."""
    failed = [each for each in examine() if each.level == FAIL]
    return [f"{each.name}: {each.says}" for each in failed if not bot or concerns(each.name, bot)]


def concerns(name: str, bot: str) -> bool:
    """Return whether a finding is about what a bot leans on: its own market's, or everybody's."""
    market = BOTS[bot].market
    if name.startswith("database "):
        return name.removeprefix("database ") in ("default", market)
    if name in OF_THE_EXCHANGE:
        return market == calendar_watch.MARKET
    others = [each for each in MARKETS.values() if each.slug != market]
    return not any(name.startswith(f"{each.title} ") for each in others)


def _databases() -> Iterator[Finding]:
    for alias in settings.DATABASES:
        try:
            executor = MigrationExecutor(connections[alias])
            nodes = executor.loader.graph.leaf_nodes()
            missing = executor.migration_plan(nodes) if is_ours(alias, settings.MACHINE) else []
        except DatabaseError as error:
            says = str(error).strip().splitlines()[0]
            yield Finding(f"database {alias}", FAIL, says, "start PostgreSQL, or see DATABASE_URL")
            continue
        if missing:
            do = "manage.py migratedbs"
            yield Finding(f"database {alias}", FAIL, f"{len(missing)} migrations are missing", do)
        else:
            yield Finding(f"database {alias}", OK, "answers, and is migrated")


def _queue() -> Iterator[Finding]:
    try:
        redis.Redis.from_url(
            settings.REDIS_URL, socket_timeout=QUEUE_SECONDS, socket_connect_timeout=QUEUE_SECONDS
        ).ping()
    except redis.RedisError as error:
        says = f"{error}; bots trade without it, jobs do not run"
        yield Finding("queue", WARN, says, "start Valkey, or see REDIS_URL")
    else:
        yield Finding("queue", OK, "answers")


def _disk() -> Iterator[Finding]:
    used_pct = psutil.disk_usage(str(settings.DATA_DIR)).percent
    level = {"critical": FAIL, "warning": WARN, "": OK}[checks.disk_level(used_pct)]
    do = "make room" if level != OK else ""
    yield Finding("disk", level, f"{used_pct:.0f} % full", do)


def _calendar() -> Iterator[Finding]:
    today = clock.trading_date(clock.market())
    do = "enter the exchange's list under Trading days in /admin/"
    left = calendar_watch.verified_days_left(today)
    if not load_calendar(calendar_watch.MARKET).is_verified(today):
        yield Finding("exchange calendar", FAIL, "today is not confirmed", do)
    elif left < calendar_watch.DAYS_LEFT_WANTED:
        yield Finding("exchange calendar", WARN, f"is confirmed for {left} more days", do)
    else:
        yield Finding("exchange calendar", OK, f"is confirmed for at least {left} days")


def _token() -> Iterator[Finding]:
    state = kite_token().state()
    if state.dies_at is not None and clock.market() < state.dies_at:
        yield Finding("broker's token", OK, "is of today")
    else:
        level = WARN if settings.MODE == "simulated" else FAIL
        yield Finding("broker's token", level, "is missing or over", "sign in at /kite/")


def _lists() -> Iterator[Finding]:
    for market in MARKETS.values():
        refusal = daily_instruments.trading_allowed(market.slug, clock.market())
        level = OK if not refusal else WARN if settings.MODE == "simulated" else FAIL
        do = "manage.py instruments" if refusal else ""
        yield Finding(f"{market.title} instruments", level, refusal or "are of today", do)


def _accounts() -> Iterator[Finding]:
    for market in MARKETS.values():
        stopped = Discrepancy.on(market.slug).objects.filter(closed_at=None)
        unknown = Order.on(market.slug).objects.filter(state=Order.State.UNKNOWN).count()
        halted = [row.bot for row in RiskState.on(market.slug).objects.filter(halted=True)]
        said = [f"{row.instrument} is stopped: {row}" for row in stopped]
        said += [f"{unknown} orders are unknown"] if unknown else []
        said += [f"{', '.join(halted)} halted"] if halted else []
        level = WARN if said else OK
        do = "look at /trading/" if said else ""
        says = "; ".join(said) or "is explained, and nobody is halted"
        yield Finding(f"{market.title} account", level, says, do)


def _models() -> Iterator[Finding]:
    for slot in SLOTS:
        version, policy = modelstore.active(slot), recipes.policy_of(slot)
        if version is None:
            do = f"manage.py trainbot {slot.replace('-', ' ')}"
            yield Finding(f"model of {slot}", WARN, "none: it holds flat", do)
        elif why := _unfit(version):
            do = f"manage.py trainbot {slot.replace('-', ' ')}, or see manage.py models"
            yield Finding(f"model of {slot}", WARN, f"{version} does not trade: {why}", do)
        elif policy == recipes.GATED and recipes.approved(slot) is None:
            do = f"manage.py evaluate {slot}"
            says = f"{version} trades, and no recipe is approved: no new model will"
            yield Finding(f"model of {slot}", WARN, says, do)
        else:
            yield Finding(f"model of {slot}", OK, f"{version} trades ({policy})")


def _unfit(version: ModelVersion) -> str:
    """Return why a bot that starts now would not let a model trade, or nothing."""
    try:
        manifest = modelstore.verify_version(version)
    except (Degraded, OSError) as error:
        return str(error)
    limit = BOTS[SLOTS[version.slot].bot].limit_lots
    if manifest.limit_lots == limit:
        return ""
    return f"it was trained to hold up to {manifest.limit_lots} lots, and the limit is {limit}"


def _limits() -> Iterator[Finding]:
    """Show every limit in force and where it comes from; a broken file of the owner's is red."""
    limits = owner_limits.in_force
    if limits.error:
        says = f"the owner's limits cannot be read: {limits.error}"
        yield Finding("limits file", FAIL, says, "until then every bot only reduces")
    elif limits.changed_at is None:
        yield Finding("limits file", OK, f"none at {limits.path}: the repository's limits hold")
    else:
        count = len(limits.set_by_owner)
        says = f"{limits.path} sets {count}, of {limits.changed_at:%d %b %Y %H:%M}Z"
        yield Finding("limits file", OK, says)
    for market in MARKETS.values():
        source = limits.source("markets", market.slug, "daily_loss_limit")
        says = (
            f"all its bots may lose {market.currency} {market.daily_loss_limit:,} a day ({source})"
        )
        yield Finding(f"{market.title} account limit", OK, says)
    for bot in BOTS.values():
        dead = dead_actions(bot.limit_lots)
        currency = MARKETS[bot.market].currency
        values = (
            f"{bot.limit_lots} lots a slot",
            f"{currency} {bot.daily_loss_limit:,} a day",
            f"{currency} {bot.notional_limit:,} in all",
        )
        says = ", ".join(
            f"{value} ({limits.source('bots', bot.slug, key)})"
            for value, key in zip(values, owner_limits.BOT_KEYS, strict=True)
        )
        says = says.replace(f" ({owner_limits.REPOSITORY})", "") + (
            f"; {', '.join(dead)} do nothing" if dead else ""
        )
        yield Finding(f"{bot.title} limit", WARN if dead else OK, says)


def _running() -> Iterator[Finding]:
    """Say which bots were started with other settings or limits than a command has now."""
    names = [f"{bot.slug}-bot" for bot in BOTS.values()]
    rows = Heartbeat.objects.filter(service__in=names).exclude(config=config())
    behind = [row.service for row in rows if row.config and heartbeat.is_alive(row.service)]
    if behind:
        says = f"{', '.join(sorted(behind))}: started with other settings or limits than these"
        yield Finding("running bots", WARN, says, "restart them")


def _pc() -> Iterator[Finding]:
    """Say whether PC's role and its user of the queue can do no more than they must."""
    do = "manage.py pcrole --apply"
    for name, faults in (("PC's role", pc_audit.faults()), ("PC's queue", pc_queue.faults())):
        if faults:
            yield Finding(name, FAIL, "; ".join(faults), do)
        elif faults is not None:
            yield Finding(name, OK, "can do what PC needs, and no more")
        elif settings.MACHINE == "prod":
            yield Finding(name, WARN, "is not there: PC cannot train", do)


def _proofs() -> Iterator[Finding]:
    """Say what nobody can prove yet; only live mode must have it."""
    level = FAIL if settings.MODE == "live" else WARN
    yield Finding("backups", level, "none is made yet, so none was restored", "a later release")
    yield Finding(
        "registered address", level, "that orders leave from it is not checked", "a later release"
    )
