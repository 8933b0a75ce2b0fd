"""The databases: their aliases, which app lives in which, and the router that enforces it.

Five trading databases (nifty, btc, straddle, options, allocator) restore each on its own; `default`
is the control database for everything that is Django's or the desk's own. The PC trains from its
own copies, `pc_nifty` and `pc_btc`, so that one machine can play both roles.
"""

from typing import Any
from urllib.parse import unquote, urlsplit

from tradingsite.errors import BadSetting

TRADING = ("nifty", "btc", "straddle", "options", "allocator")
TRAINING = {"nifty": "pc_nifty", "btc": "pc_btc"}

# App label -> the aliases its tables live in. Whatever is not named here lives in `default`.
HOMES: dict[str, tuple[str, ...]] = {
    "markets": ("nifty", "btc", "pc_nifty", "pc_btc"),
    "bots": ("nifty", "btc"),
    "straddle": ("straddle",),
    "options": ("options",),
    "allocator": ("allocator",),
}


def aliases(machine: str) -> tuple[str, ...]:
    """Return the aliases a machine uses: PC has only the control and its training databases."""
    if machine == "pc":
        return ("default", *TRAINING.values())
    if machine == "prod":
        return ("default", *TRADING)
    return ("default", *TRADING, *TRAINING.values())


def settings_for(
    url: str, machine: str, prefix: str = "nightdesk_", control_url: str = ""
) -> dict[str, dict[str, Any]]:
    """Return Django's DATABASES for one PostgreSQL server, given as postgresql://user:pw@host:port.

    On PC `control_url` is PROD's server, where the control database is.
    """
    found = {alias: _database(url, f"{prefix}{alias}") for alias in aliases(machine)}
    if machine == "pc":
        if not control_url:
            raise BadSetting("MACHINE=pc needs CONTROL_DATABASE_URL: PROD's control database")
        found["default"] = _database(control_url, f"{prefix}default")
    return found


def is_ours(alias: str, machine: str) -> bool:
    """Return whether a machine creates and migrates a database: PC's control one is PROD's."""
    return machine != "pc" or alias != "default"


def _database(url: str, name: str) -> dict[str, Any]:
    parts = urlsplit(url)
    if parts.scheme not in {"postgres", "postgresql"}:
        raise BadSetting(f"DATABASE_URL must start with postgresql://, was {parts.scheme}://")
    try:
        port = parts.port or 5432
    except ValueError:
        raise BadSetting(
            "DATABASE_URL has a port that is none; like postgresql://user:password@host:5432"
        ) from None
    return {
        "NAME": name,
        "ENGINE": "tradingsite.postgresql",
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "127.0.0.1",
        "PORT": str(port),
        "CONN_MAX_AGE": 300,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {
            # A server that is gone without a word, as behind a cut link, is noticed in half a
            # minute and not in hours.
            **{"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 4},
            "tcp_user_timeout": 30_000,
        },
    }


class Router:
    """Send each model to its home, and refuse to guess for a model that has several."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        """Return the alias to use; raise LookupError where the caller must say which."""
        bound = getattr(model, "database", None)
        if bound:
            return str(bound)
        homes = HOMES.get(model._meta.app_label, ("default",))
        if len(homes) == 1:
            return homes[0]
        instance = hints.get("instance")
        if instance is not None and instance._state.db in homes:
            return str(instance._state.db)
        raise LookupError(
            f"{model._meta.label} lives in {', '.join(homes)}: say which, "
            f'as in {model.__name__}.on("{homes[0]}")'
        )

    db_for_write = db_for_read

    def allow_relation(self, first: Any, second: Any, **hints: Any) -> bool:
        """Allow a relation only inside one database."""
        return bool(first._state.db == second._state.db)

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        """Migrate an app only in its homes."""
        return db in HOMES.get(app_label, ("default",))
