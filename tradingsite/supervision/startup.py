"""What must be true before a command runs: servers up, databases there, migrations applied.

On a machine with configured servers only the deploy runs `migratedbs`; with embedded servers every
command makes sure, so that the first command on a fresh machine works.
"""

import fcntl
import hashlib
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

MIGRATES_ITSELF = {"migratedbs", "up", "test"}
STARTED_VARIABLE = "NIGHTDESK_STARTED_SERVERS"
"""Set in the environment of the command that had to start the embedded servers."""


def prepare(command: str) -> None:
    """Start the embedded servers if none are configured, and bring their databases up to date."""
    import environ

    from tradingsite import private
    from tradingsite.embedded import launcher

    base = Path(__file__).resolve().parents[2]
    environ.Env.read_env(base / ".env")
    root = Path(os.environ.get("DATA_DIR", base / "var")).resolve()
    private.shut(root)
    if os.environ.get("DATABASE_URL"):
        return
    if launcher.running(root) is None:
        os.environ[STARTED_VARIABLE] = "1"
        sys.stderr.write(f"Starting the embedded PostgreSQL and Valkey in {root} ...\n")
    try:
        launcher.ensure(root)
    except launcher.EmbeddedError as error:
        sys.exit(f"The embedded database servers did not start.\n{error}")
    import django

    django.setup()
    if command not in MIGRATES_ITSELF:
        migrate_if_changed(root)


def migrate_if_changed(root: Path, report: Callable[[str], None] = lambda alias: None) -> bool:
    """Create and migrate the databases unless this very set of migrations was applied already.

    `report` is called with each alias when it is done; two commands at once take turns.
    """
    from django.conf import settings

    from tradingsite.postgresql.migrate import create_missing, migrate_all

    marker = root / "migrated"
    print_ = fingerprint(settings.INSTALLED_APPS)
    root.mkdir(parents=True, exist_ok=True)
    with (root / "migrate.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        created = create_missing()
        if not created and marker.exists() and marker.read_text() == print_:
            return False
        marker.unlink(missing_ok=True)  # of other servers' data, or of another state
        migrate_all(report)
        marker.write_text(print_)
    return True


def fingerprint(apps: list[str]) -> str:
    """Return a hash over the names and contents of the installed apps' migrations."""
    digest = hashlib.sha256()
    for app in apps:
        package = import_module(app.split(".apps.")[0])
        folder = Path(str(package.__file__)).parent / "migrations"
        for path in sorted(folder.glob("*.py")):
            digest.update(f"{app}/{path.name}".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
