"""Whether Valkey answers, and whether it is the one that answered before.

It is back within a second where somebody starts what ends, so asking alone would never notice: a
server names its own life in `run_id`.
"""

import datetime as dt

import redis
from django.conf import settings

from monitoring.alarms import Alarms
from tradingsite import clock, notices

AWAY = "away"
RESTARTED_KEY = "queue:restarted"
ANSWERS_WITHIN_SECONDS = 2.0


class QueueWatch:
    """Notice that Valkey is away, that it is back, and that it was started anew in between."""

    def __init__(self, unwatched_since: dt.datetime | None = None) -> None:
        """Take since when nobody watched, where a monitor died: Valkey may have died with it."""
        self._unwatched_since = unwatched_since
        self._alarms = Alarms("queue")
        self._run_id = ""
        self._away_since = clock.real()
        # A connection of its own for each look: a server that is gone is noticed, not waited for.
        self._options = {
            "socket_timeout": ANSWERS_WITHIN_SECONDS,
            "socket_connect_timeout": ANSWERS_WITHIN_SECONDS,
        }

    def look(self) -> bool:
        """Ask the server who it is; return whether it answers."""
        was_away, why = AWAY in self._alarms, ""
        try:
            with redis.Redis.from_url(settings.REDIS_URL, **self._options) as server:
                found = server.info("server")
        except (redis.RedisError, OSError) as error:
            why = str(error).partition("\n")[0] or type(error).__name__
        if why:
            if not was_away:
                self._away_since = clock.real()
            self._alarms.update({AWAY}, lambda name, key: self._tell_away(key, why))
            return False
        self._alarms.update((), self._tell_away)
        run_id, up = str(found["run_id"]), dt.timedelta(seconds=int(found["uptime_in_seconds"]))
        since, self._unwatched_since = self._unwatched_since, None
        began_unwatched = since is not None and clock.real() - up > since
        if was_away or began_unwatched or self._run_id not in {"", run_id}:
            self._tell_back(was_away)
        self._run_id = run_id
        return True

    def _tell_away(self, key: str, why: str) -> None:
        notices.notify(
            "infrastructure",
            "critical",
            key,
            f"Valkey, the queue, does not answer: {why}. No scheduled job runs and no model is "
            f"trained until it does; the bots trade on without it. `up` and systemd start what "
            f"ends; if it stays away, look at its log and at the disk.",
        )

    def _tell_back(self, was_away: bool) -> None:
        seconds = (clock.real() - self._away_since).total_seconds()
        how = f"answers again after {seconds:.0f} s" if was_away else "had ended and runs again"
        notices.notify(
            "infrastructure",
            "warning",
            RESTARTED_KEY,
            f"Valkey, the queue, {how}. Messages may have been lost with it: what is due and has "
            f"no record is asked for again by itself.",
        )
