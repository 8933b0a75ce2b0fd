"""PC's role in PROD's control database: what it may see and write, and how that is looked after.

PC is not trusted. It may see the tables of training and write some columns of its own rows there;
row-level security says which rows. It has no right to a whole table, since that is a right to lock
it, and no function by which it could stop others (advisory locks) or fill the disk (large objects).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from django.conf import settings
from django.db import connection, models
from psycopg import sql

from bots.modelstore.models import Activation, ModelVersion
from tradingsite.models import PcHeartbeat, PcNotice
from tradingsite.postgresql.migrate import open_server
from training.models import Copy, Evaluation, Recipe, TrainingRun, TrainingStep

CONNECTIONS = 20
"""Most connections of PC at once; two workers use fewer than ten."""
LONGEST_SECONDS = 120
"""How long PC may keep a transaction open before PROD ends its connection."""
# Of the role: they help an honest PC to fail early. A hostile one may set the first three anew,
# for which there is `end_overlong`; not the last.
SETTINGS = {
    "statement_timeout": "60s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "60s",
    "temp_file_limit": "256MB",
}
_LEASE = ("lease_owner", "lease_until", "fence")
_OPEN = "state IN ('queued', 'running')"
# A lease of PC's ends by itself, and a state is one that PC can bring about.
_LEASED = "(lease_until IS NULL OR lease_until < now() + interval '2 minutes')"
_OF_OPEN_RUN = f"run_id IN (SELECT id FROM training_trainingrun WHERE {_OPEN})"  # noqa: S608 - constants
_PCS_STEP = "number IN (3, 4, 6)"


@dataclass(frozen=True, slots=True)
class TableRights:
    """What PC may do with one table: see all of it, write these columns of those rows."""

    table: type[models.Model]
    insert: tuple[str, ...] = ()
    update: tuple[str, ...] = ()
    using: str = "true"
    """Which rows it may change, as SQL."""
    with_check: str = "true"
    """What they may become."""


_BEAT = tuple(field.attname for field in PcHeartbeat._meta.fields)
_NOTICE = ("key", "severity", "text", "is_over", "at")
RIGHTS = (
    TableRights(
        TrainingRun,
        update=(
            *_LEASE,
            *("state", "attempts", "progress", "metrics", "charts", "detail"),
            *("started_at", "finished_at"),
        ),
        using=_OPEN,
        with_check=f"state IN ('queued', 'running', 'refused', 'failed') AND {_LEASED}",
    ),
    TableRights(
        TrainingStep,
        insert=("run_id", "number", "name", "started_at", "finished_at", "detail"),
        update=("name", "started_at", "finished_at", "detail"),
        using=f"number IN (1, 2, 3, 4, 6) AND {_OF_OPEN_RUN}",
        # A step of PROD's it may undo, when it lost its copy, and never call done.
        with_check=f"({_PCS_STEP} OR finished_at IS NULL) AND {_OF_OPEN_RUN}",
    ),
    TableRights(
        Evaluation,
        update=(
            *_LEASE,
            *("state", "progress", "evidence", "by_fold", "checks", "refit_range", "approved"),
            *("sharpe_per_bar", "tested", "returns", "detail", "started_at", "finished_at"),
        ),
        using=_OPEN,
        with_check=f"state IN ('queued', 'running', 'done', 'failed') AND {_LEASED}",
    ),
    TableRights(
        Copy,
        insert=("slot", "holding", "archived", "at"),
        update=("holding", "archived", "at"),
    ),
    TableRights(PcHeartbeat, insert=_BEAT, update=_BEAT[1:]),
    TableRights(PcNotice, insert=_NOTICE, update=_NOTICE[1:]),
    TableRights(Recipe),
    TableRights(ModelVersion),
    TableRights(Activation),
)
EXTRA_TABLES = ("django_migrations",)
"""Tables without a model of ours that PC may see: doctor there asks for it."""
REVOKED_FUNCTIONS = r"^(pg_(try_)?advisory|lo_|lowrite$|loread$)"
"""Functions that nobody but PROD may call in the control database."""


def statements() -> list[sql.Composable]:
    """Return what gives an existing role its rights in the control database, and no others."""
    role, ours = (
        sql.Identifier(settings.PC_ROLE),
        sql.Identifier(settings.DATABASES["default"]["NAME"]),
    )
    made: list[sql.Composable] = [
        sql.SQL(
            "ALTER ROLE {} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS "
            "CONNECTION LIMIT {}"
        ).format(role, sql.SQL(str(CONNECTIONS)))
    ]
    for name, value in SETTINGS.items():
        made.append(
            sql.SQL("ALTER ROLE {} SET {} = {}").format(role, sql.SQL(name), sql.Literal(value))
        )
    made += [
        sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(ours, role),
        sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(role),
        # What an earlier release gave, whole tables among it; this takes columns' rights too.
        sql.SQL("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {}").format(role),
        sql.SQL("REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM {}").format(role),
    ]
    for name in EXTRA_TABLES:
        made.append(sql.SQL("GRANT SELECT ON {} TO {}").format(sql.Identifier(name), role))
    for right in RIGHTS:
        made += _table_statements(right)
    return made


def _table_statements(right: TableRights) -> Iterator[sql.Composable]:
    table, role = sql.Identifier(right.table._meta.db_table), sql.Identifier(settings.PC_ROLE)
    yield sql.SQL("GRANT SELECT ON {} TO {}").format(table, role)
    for verb, columns in (("INSERT", right.insert), ("UPDATE", right.update)):
        if columns:
            names = sql.SQL(", ").join(sql.Identifier(name) for name in columns)
            yield sql.SQL("GRANT {} ({}) ON {} TO {}").format(sql.SQL(verb), names, table, role)
    if not (right.insert or right.update):
        return
    yield sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(table)
    rules = {
        "pc_sees": "FOR SELECT TO {role} USING (true)",
        "pc_adds": f"FOR INSERT TO {{role}} WITH CHECK ({right.with_check})",
        "pc_changes": (
            f"FOR UPDATE TO {{role}} USING ({right.using}) WITH CHECK ({right.with_check})"
        ),
    }
    for name, rule in rules.items():
        yield sql.SQL("DROP POLICY IF EXISTS {} ON {}").format(sql.Identifier(name), table)
        head = sql.SQL("CREATE POLICY {} ON {} ").format(sql.Identifier(name), table)
        yield head + sql.SQL(rule).format(role=role)


def revoke_public_connect() -> list[str]:
    """Take CONNECT and TEMPORARY on every database of the server from PUBLIC; return their names.

    Its owner and superusers keep both, and PC's role is given what it needs by name.
    """
    with open_server() as server:
        names = [row[0] for row in server.execute("SELECT datname FROM pg_database ORDER BY 1")]
        for name in names:
            server.execute(
                sql.SQL("REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC").format(
                    sql.Identifier(name)
                )
            )
    return names


def revoke_public_functions() -> None:
    """Take the functions by which PC could lock or fill from PUBLIC; PROD's own role keeps them."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT oid::regprocedure::text FROM pg_proc "
            "WHERE pronamespace = 'pg_catalog'::regnamespace AND proname ~ %s",
            [REVOKED_FUNCTIONS],
        )
        for (name,) in cursor.fetchall():
            # The catalogue's own word for it, with its arguments.
            cursor.execute(f"GRANT EXECUTE ON FUNCTION {name} TO CURRENT_USER")
            cursor.execute(f"REVOKE EXECUTE ON FUNCTION {name} FROM PUBLIC")


def end_overlong() -> int:
    """End PC's connections whose transaction has been open for too long; return how many.

    No time-out binds a role that may set its own, and what it keeps open it may keep locked.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE usename = %s AND xact_start < now() - make_interval(secs => %s)",
            [settings.PC_ROLE, LONGEST_SECONDS],
        )
        return len(cursor.fetchall())
